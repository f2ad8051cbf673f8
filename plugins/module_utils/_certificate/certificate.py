# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Runs on the server: Python 3.6 and the standard library only.

"""Certificates and keys in PEM: read them, match them, and check whether clients accept them.

The openssl command (1.1.1 and later) does all cryptography. Private keys are never arguments of it, and are on disk
only in a directory that only root can enter.
"""

import datetime
import functools
import os
import re
import ssl
import typing as t

from ansible_collections.port587.mail.plugins.module_utils._transaction.commands import run_command
from ansible_collections.port587.mail.plugins.module_utils._transaction.files import temporary_directory

#: RFC 5280's limit for a common name.
COMMON_NAME_MAX = 64

#: The size of new RSA keys. 2048 bits are being phased out (NCSC's guidelines of 2025).
RSA_BITS = 3072


class CertificateError(Exception):
    """A certificate can't be made or used; the message gives the reason."""


class OpensslMissing(CertificateError):
    """The command is not installed (yet)."""


class Facts(t.NamedTuple):
    """The contents of a certificate. A future certificate has no ``serial``, ``fingerprint`` and ``public_key``."""

    subject: str
    names: t.Sequence[str]
    issuer: str
    key: str
    not_before: datetime.datetime
    not_after: datetime.datetime
    #: the domains that a CA may sign for
    permitted: t.Sequence[str] = ()
    serial: str = ""
    fingerprint: str = ""
    public_key: str = ""


class Pair(t.NamedTuple):
    """A certificate with its chain, PEM, and its private key."""

    chain: t.List[str]
    key: str
    facts: Facts


# -- names --------------------------------------------------------------------------------------------------------


def name_trouble(name: str, wildcard: bool = False) -> t.Optional[str]:
    """Why a certificate can't have this name."""
    if re.search(r"[^\x00-\x7f]", name):
        return "write it in ASCII, as DNS has it (xn--...)"
    labels = name[2:].split(".") if wildcard and name.startswith("*.") else name.split(".")
    if len(name) > 253 or not all(re.match(r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)\Z", label) for label in labels):
        return "it is not a host name"
    if labels[-1].isdigit():
        return "it is an address; clients reach a mail server by its name"
    if len(labels) < 2:
        return "it is not fully qualified, as mail.example.com is"
    return None


def covers(pattern: str, name: str) -> bool:
    """Whether a name in a certificate matches a host. It may begin with a wildcard for one label."""
    pattern, name = pattern.lower(), name.lower()
    return name == pattern or (pattern.startswith("*.") and name.partition(".")[2] == pattern[2:])


# -- PEM ----------------------------------------------------------------------------------------------------------


def certificates(pem: str) -> t.List[str]:
    """The certificates in a PEM file, in order, without the comments and line ends that tools put around them."""
    return _blocks(pem, "CERTIFICATE")


def private_key(pem: str) -> t.Optional[str]:
    """The private key in a PEM file."""
    return next(iter(_blocks(pem, "(?:[A-Z]+ )?PRIVATE KEY")), None)


def _blocks(pem: str, label: str) -> t.List[str]:
    found = re.finditer(r"-----BEGIN (%s)-----.*?-----END \1-----" % label, pem, re.DOTALL)
    return ["\n".join(match.group(0).split("\r\n")) + "\n" for match in found]


@functools.lru_cache(maxsize=None)
def facts(certificate: str) -> Facts:
    out = openssl(
        ["x509", "-noout", "-text", "-pubkey", "-nameopt", "RFC2253", "-fingerprint", "-sha256"]
        + ["-serial", "-subject", "-issuer", "-dates"],
        certificate,
    )
    return parse(out)


def parse(out: str) -> Facts:
    """Facts from the output of the command above."""

    def line(name: str) -> str:
        found = re.search(r"^%s=(.*)$" % name, out, re.MULTILINE)
        return found.group(1).strip() if found else ""

    def moment(name: str) -> datetime.datetime:
        # not strptime: names of months are English here, whatever the locale
        return datetime.datetime.fromtimestamp(ssl.cert_time_to_seconds(line(name)), datetime.timezone.utc)

    names = re.search(r"X509v3 Subject Alternative Name:.*\n\s*(.*)", out)
    permitted = re.search(r"X509v3 Name Constraints:.*\n\s*Permitted:\n((?:\s*DNS:\S+\n)+)", out)
    fingerprint = re.search(r"^SHA256 Fingerprint=(\S+)", out, re.MULTILINE | re.IGNORECASE)
    public_key = re.search(r"-----BEGIN PUBLIC KEY-----.*?-----END PUBLIC KEY-----", out, re.DOTALL)
    algorithm = re.search(r"Public Key Algorithm: (\S+)", out)
    size = re.search(r"Public-Key: \((\d+ bit)", out)
    kind = algorithm.group(1) if algorithm else "unknown"
    kind = {"id-ecPublicKey": "ECDSA", "rsaEncryption": "RSA"}.get(kind, kind)
    return Facts(
        subject=line("subject"),
        names=re.findall(r"DNS:([^\s,]+)", names.group(1)) if names else [],
        issuer=line("issuer"),
        key="%s %s" % (kind, size.group(1)) if size else kind,
        not_before=moment("notBefore"),
        not_after=moment("notAfter"),
        permitted=re.findall(r"DNS:(\S+)", permitted.group(1)) if permitted else [],
        serial=line("serial"),
        fingerprint=fingerprint.group(1) if fingerprint else "",
        public_key=public_key.group(0) if public_key else "",
    )


def belongs_to(key: str, certificate: Facts) -> bool:
    # an empty passphrase: without it, openssl would prompt for the one of an encrypted key
    return openssl(["pkey", "-pubout", "-passin", "pass:"], key).strip() == certificate.public_key


def verifies(certificate: str, authority: str) -> bool:
    """Whether a client that trusts only this CA accepts the certificate now."""
    with temporary_directory() as directory:
        trusted = write(directory, "ca.pem", authority)
        argv = ["openssl", "verify", "-x509_strict", "-purpose", "sslserver", "-no-CApath", "-CAfile", trusted]
        return run_command(argv + [write(directory, "certificate.pem", certificate)])[0] == 0


def usable(pem: str) -> t.Optional[Pair]:
    """Parse a PEM file with a certificate and its private key; None for any other file."""
    chain, key = certificates(pem), private_key(pem)
    if not chain or key is None:
        return None
    try:
        found = facts(chain[0])
        return Pair(chain, key, found) if belongs_to(key, found) else None
    except CertificateError:
        return None


# -- for clients --------------------------------------------------------------------------------------------------


def trouble(present: Facts, names: t.Iterable[str], now: datetime.datetime) -> t.Optional[str]:
    """Why a client would refuse the user's certificate."""
    if present.not_after <= now:
        return "it ended on %s" % present.not_after
    if present.not_before > now:
        return "it begins on %s; this server's clock says %s" % (present.not_before, now.replace(microsecond=0))
    missing = [name for name in names if not any(covers(pattern, name) for pattern in present.names)]
    if missing:
        return "it is for %s, not for %s" % (", ".join(present.names) or "no name at all", ", ".join(missing))
    return None


def describe(chain: t.Iterable[Facts], with_key: bool = False) -> str:
    """Summary of a PEM file, for a diff: names and end of validity; for a key, only that there is one."""
    lines = ["private key (hidden)"] if with_key else []
    for one in chain:
        lines.append("certificate %s" % (one.subject or "without a subject"))
        if one.names:
            lines.append("  names: %s" % ", ".join(one.names))
        if one.permitted:
            lines.append("  vouches only for: %s" % ", ".join(one.permitted))
        lines.append("  issuer: %s" % one.issuer)
        lines.append("  key: %s" % one.key)
        lines.append("  valid until: %s" % one.not_after.date())
        # those of a new one are unknown before it is made, and check mode must show the same
        lines.append("  sha256: %s" % (one.fingerprint or "(new)"))
    return "".join(line + "\n" for line in lines)


# -- openssl(1) -----------------------------------------------------------------------------------------------------


def openssl(arguments: t.List[str], stdin: t.Optional[str] = None) -> str:
    try:
        code, out, err = run_command(["openssl"] + arguments, None if stdin is None else stdin.encode())
    except FileNotFoundError:
        raise OpensslMissing("the command openssl is not there: install the package openssl first") from None
    if code:
        raise CertificateError("openssl %s: %s" % (arguments[0], err.strip()))
    return out


def write(directory: str, name: str, text: str) -> str:
    """A new file that only its owner may read."""
    path = os.path.join(directory, name)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as handle:
        handle.write(text)
    return path
