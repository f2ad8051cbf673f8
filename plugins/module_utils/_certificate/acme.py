# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Runs on the server: Python 3.6 and the standard library only.

"""Certificates from an authority that speaks ACME (RFC 8555): which are wanted, and which there are.

certbot(1) gets them, into a directory of its own. What is served is a copy (see renewal.py).
"""

import datetime
import os
import re
import typing as t

from ansible_collections.port587.mail.plugins.module_utils._certificate.certificate import Pair, trouble, usable
from ansible_collections.port587.mail.plugins.module_utils._certificate.served import RSA, read
from ansible_collections.port587.mail.plugins.module_utils._transaction.state import STATE_DIRECTORY

#: Names for the directories that most people want.
DIRECTORIES = {
    "letsencrypt": "https://acme-v02.api.letsencrypt.org/directory",
    "letsencrypt-staging": "https://acme-staging-v02.api.letsencrypt.org/directory",
}

SETTINGS_DIRECTORY = "/etc/port587/acme"
SETTINGS = SETTINGS_DIRECTORY + "/settings.json"
AUTHORITY = SETTINGS_DIRECTORY + "/directory-ca.pem"
NSUPDATE = SETTINGS_DIRECTORY + "/nsupdate.ini"
HOOK = SETTINGS_DIRECTORY + "/hook"

#: certbot's directories, one for each ACME directory: a test authority and the real one stay apart.
CERTBOT = STATE_DIRECTORY + "/acme"
#: Where a web server on port 80 looks for answers to a challenge, below .well-known/acme-challenge.
WEBROOT = STATE_DIRECTORY + "/acme-challenge"
#: The outcome of the last order, for those who inspect the server.
STATE = STATE_DIRECTORY + "/acme.json"

#: What is valid for less is renewed at half of its lifetime, all else when a third is left, as by certbot from 4.1 on.
SHORT_LIVED = datetime.timedelta(days=10)


class AcmeError(Exception):
    """The authority can't be asked; the message gives the reason."""


class Settings(t.NamedTuple):
    names: t.List[str]  # the first is the mail host's, which the certificate has to be for
    key_type: str
    directory: str  # a URL
    email: str
    challenge: str  # http, nsupdate or hook
    own_ca: bool = False  # whether something else vouches for the directory than what the server trusts anyway
    wait: int = 0  # nsupdate: seconds until all name servers know a new record
    sni: t.List[str] = []  # names with a certificate of their own
    rsa_too: bool = False  # whether there is a second one for the same names, with an RSA key
    certificate: str = ""  # which of those this is about: a name, or RSA; empty: the mail host's


class Report(t.NamedTuple):
    """The outcome of an order. Without an error there is a certificate for all names but those missing (name: why)."""

    error: str
    missing: t.Dict[str, str]


# -- where certbot keeps it ---------------------------------------------------------------------------------------


def lineage(settings: Settings) -> str:
    """Where certbot keeps the files of a certificate."""
    return os.path.join(configuration(settings), "live", lineage_name(settings))


def lineage_name(settings: Settings) -> str:
    """What certbot calls a certificate."""
    # the second one with an RSA key is the one that there was while RSA was all that was wanted
    return "-".join(filter(None, dict.fromkeys((settings.certificate, settings.key_type))))


def configuration(settings: Settings) -> str:
    """certbot's directory for this authority."""
    return os.path.join(CERTBOT, re.sub(r"[^A-Za-z0-9.-]+", "_", settings.directory.partition("://")[2]))


def obtained(settings: Settings) -> t.Optional[Pair]:
    """What certbot got, if it can be served."""
    pair = pair_in(lineage(settings))
    return None if pair is None or trouble(pair.facts, settings.names[:1], now()) else pair


def pair_in(directory: str) -> t.Optional[Pair]:
    """The certificate and key that certbot has put there, if they belong together."""
    return usable(read(os.path.join(directory, "fullchain.pem")) + read(os.path.join(directory, "privkey.pem")))


# -- which are wanted ---------------------------------------------------------------------------------------------


def others(settings: Settings) -> t.List[Settings]:
    """The other certificates that are wanted: the one with an RSA key, and those of names with one of their own."""
    one = bare(settings)
    second = [one._replace(key_type="rsa", certificate=RSA)] if settings.rsa_too else []
    return second + [one._replace(names=[name], certificate=name) for name in settings.sni]


def bare(settings: Settings) -> Settings:
    """What is wanted of this certificate alone."""
    return settings._replace(sni=[], rsa_too=False)


def called(one: Settings) -> str:
    """What messages call one of the others."""
    return one.names[0] + (" (RSA)" if one.certificate == RSA else "")


def describe(settings: Settings, names: t.Iterable[str]) -> str:
    """A certificate that is still to come, for a diff."""
    return "private key (hidden)\ncertificate from %s\n  names: %s\n" % (settings.directory, ", ".join(names))


def why_order(names: t.Sequence[str], present: t.Optional[Pair]) -> str:
    """Why a new certificate is ordered; empty if the present one is good."""
    if present is None:
        return "there is no valid certificate of this authority"
    if set(names) != set(present.facts.names):
        return "for %s instead of %s" % (", ".join(names), ", ".join(present.facts.names))
    if is_due(present):
        return "the present one ends on %s" % present.facts.not_after.date()
    return ""


def is_due(present: Pair) -> bool:
    """Whether it is time for a new one."""
    lifetime = present.facts.not_after - present.facts.not_before
    return present.facts.not_after - now() < lifetime / (2 if lifetime < SHORT_LIVED else 3)


def now() -> datetime.datetime:
    return datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0)
