# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# May run on any vantage host: Python 3.6 and the standard library only.

"""Run all walks in parallel."""

import secrets
import ssl
import time
import typing as t

from ansible_collections.port587.mail.plugins.module_utils._probe import mailbox, smtp
from ansible_collections.port587.mail.plugins.module_utils._probe.autoconfig import Autoconfig
from ansible_collections.port587.mail.plugins.module_utils._probe.dns import Addresses, Dns
from ansible_collections.port587.mail.plugins.module_utils._probe.message import compose
from ansible_collections.port587.mail.plugins.module_utils._probe.records import Record
from ansible_collections.port587.mail.plugins.module_utils._probe.walk import Settings, Shared, Walk, longest

#: The walks, in the order of the report.
WALKS: t.Dict[str, t.Type[Walk]] = {
    "submission": smtp.Submission,
    "submissions": smtp.Submissions,
    "smtp": smtp.Mta,
    "imaps": mailbox.Imaps,
    "pop3s": mailbox.Pop3s,
    "imap": mailbox.ImapStartTls,
    "pop3": mailbox.Pop3StartTls,
    "sieve": mailbox.ManageSieve,
    "wrong_settings": smtp.WrongSettings,
}

STANDARD_PORTS = {
    "submission": 587,
    "submissions": 465,
    "smtp": 25,
    "imaps": 993,
    "pop3s": 995,
    "imap": 143,
    "pop3": 110,
    "sieve": 4190,
    "autoconfig": 443,
}


def trust(ca_pem: t.Optional[str], ca_file: t.Optional[str]) -> ssl.SSLContext:
    """Verifies chain and name, against the CAs of the system and the one given, if any: as a mail client does that has
    imported one. The same for all connections, since to read the system's CAs takes longer than a handshake."""
    context = ssl.create_default_context()
    if ca_file or ca_pem:
        context.load_verify_locations(cafile=ca_file, cadata=ca_pem)
    return context


def names_of(ca_pem: t.Optional[str], ca_file: t.Optional[str]) -> t.List[t.Any]:
    """Those of the CAs given, as an issuer's."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if ca_file or ca_pem:
        context.load_verify_locations(cafile=ca_file, cadata=ca_pem)
    return [known["subject"] for known in context.get_ca_certs()]


class Found(t.NamedTuple):
    """All steps, and the issuers of the certificates."""

    records: t.List[Record]
    issuers: t.List[t.Any]


def probe(settings: Settings, services: t.Sequence[str], addresses: Addresses) -> Found:
    """Probe the server. ``addresses``: those of the server's name in DNS."""
    token = secrets.token_hex(16)
    shared = Shared(token, compose(settings.mailbox, token), time.monotonic() + longest(settings))
    walks: t.List[Walk] = [Dns(settings, shared, addresses)] if "dns" in services else []
    walks += [Autoconfig(settings, shared, addresses)] if "autoconfig" in services else []
    for name, kind in WALKS.items():
        walk = kind(settings, shared)
        if name in services:
            walks.append(walk)
        else:
            walk.finish()  # it has nothing to tell, and nobody must wait for it
    for walk in walks:
        walk.start()
    for walk in walks:
        walk.join()
        if walk.crash:
            raise walk.crash
    return Found([record for walk in walks for record in walk.records], [walk.issuer for walk in walks])
