# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Runs on the server: Python 3.6 and the standard library only.

"""Certificates from an authority that speaks ACME (RFC 8555): the wanted ones, and the existing ones.

certbot(1) gets them, into its own directory. The daemons serve copies (see renewal.py).
"""

import datetime
import os
import re
import typing as t

from ansible_collections.port587.mail.plugins.module_utils._certificate.certificate import Pair, trouble, usable
from ansible_collections.port587.mail.plugins.module_utils._certificate.served import RSA, read
from ansible_collections.port587.mail.plugins.module_utils._transaction.state import STATE_DIRECTORY

#: Short names of common directories.
DIRECTORIES = {
    "letsencrypt": "https://acme-v02.api.letsencrypt.org/directory",
    "letsencrypt-staging": "https://acme-staging-v02.api.letsencrypt.org/directory",
}

SETTINGS_DIRECTORY = "/etc/port587/acme"
SETTINGS = SETTINGS_DIRECTORY + "/settings.json"
AUTHORITY = SETTINGS_DIRECTORY + "/directory-ca.pem"
NSUPDATE = SETTINGS_DIRECTORY + "/nsupdate.ini"
HOOK = SETTINGS_DIRECTORY + "/hook"

#: certbot's directories, one for each ACME directory, which separates a test authority from the real one.
CERTBOT = STATE_DIRECTORY + "/acme"
#: The web root for challenges on port 80; the answers are below .well-known/acme-challenge.
WEBROOT = STATE_DIRECTORY + "/acme-challenge"
#: The result of the last order, for the inspection of the server.
STATE = STATE_DIRECTORY + "/acme.json"

#: Shorter lifetimes are renewed at half, all others when a third is left, as certbot does since 4.1.
SHORT_LIVED = datetime.timedelta(days=10)


class AcmeError(Exception):
    """The authority is not reachable or refuses; the message gives the reason."""


class Settings(t.NamedTuple):
    names: t.List[str]  # the first is the mail host's, and must be in the certificate
    key_type: str
    directory: str  # a URL
    email: str
    challenge: str  # http, nsupdate or hook
    own_ca: bool = False  # whether the directory needs a CA that the server does not trust by default
    wait: int = 0  # nsupdate: seconds until all name servers have a new record
    sni: t.List[str] = []  # names with their own certificates
    rsa_too: bool = False  # whether there is a second one for the same names, with an RSA key
    certificate: str = ""  # the certificate that this is about: a name, or RSA; empty: the mail host's


class Report(t.NamedTuple):
    """The result of an order. Without an error, the certificate has all names except ``missing`` (name: reason)."""

    error: str
    missing: t.Dict[str, str]


# -- certbot's files ----------------------------------------------------------------------------------------------


def lineage(settings: Settings) -> str:
    """certbot's directory for a certificate."""
    return os.path.join(configuration(settings), "live", lineage_name(settings))


def lineage_name(settings: Settings) -> str:
    """certbot's name for a certificate."""
    # the second certificate, with an RSA key, reuses the name from before, when RSA was the only key type
    return "-".join(filter(None, dict.fromkeys((settings.certificate, settings.key_type))))


def configuration(settings: Settings) -> str:
    """certbot's directory for this authority."""
    return os.path.join(CERTBOT, re.sub(r"[^A-Za-z0-9.-]+", "_", settings.directory.partition("://")[2]))


def obtained(settings: Settings) -> t.Optional[Pair]:
    """The certificate that certbot got, if it can be served."""
    pair = pair_in(lineage(settings))
    return None if pair is None or trouble(pair.facts, settings.names[:1], now()) else pair


def pair_in(directory: str) -> t.Optional[Pair]:
    """certbot's certificate and key in this directory, if they match."""
    return usable(read(os.path.join(directory, "fullchain.pem")) + read(os.path.join(directory, "privkey.pem")))


# -- wanted certificates ------------------------------------------------------------------------------------------


def others(settings: Settings) -> t.List[Settings]:
    """The other wanted certificates: the one with an RSA key, and those of names with their own."""
    one = bare(settings)
    second = [one._replace(key_type="rsa", certificate=RSA)] if settings.rsa_too else []
    return second + [one._replace(names=[name], certificate=name) for name in settings.sni]


def bare(settings: Settings) -> Settings:
    """The request for this certificate alone."""
    return settings._replace(sni=[], rsa_too=False)


def called(one: Settings) -> str:
    """The name of another certificate in messages."""
    return one.names[0] + (" (RSA)" if one.certificate == RSA else "")


def describe(settings: Settings, names: t.Iterable[str]) -> str:
    """Describe a future certificate, for a diff."""
    return "private key (hidden)\ncertificate from %s\n  names: %s\n" % (settings.directory, ", ".join(names))


def why_order(names: t.Sequence[str], present: t.Optional[Pair]) -> str:
    """The reason to order a new certificate; empty if the present one is good."""
    if present is None:
        return "there is no valid certificate of this authority"
    if set(names) != set(present.facts.names):
        return "for %s instead of %s" % (", ".join(names), ", ".join(present.facts.names))
    if is_due(present):
        return "the present one ends on %s" % present.facts.not_after.date()
    return ""


def is_due(present: Pair) -> bool:
    """Whether it is time to renew."""
    lifetime = present.facts.not_after - present.facts.not_before
    return present.facts.not_after - now() < lifetime / (2 if lifetime < SHORT_LIVED else 3)


def now() -> datetime.datetime:
    return datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0)
