# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Runs on the server: Python 3.6 and the standard library only.

"""The mail host's certificate: what is there, what has to be there, and how the server's own small CA makes it.

All cryptography is left to the openssl command (1.1.1 and later). No private key is ever an argument of it, and none
is on disk outside of a directory that only root can enter.
"""

import datetime
import functools
import os
import re
import ssl
import typing as t

from ansible_collections.port587.mail.plugins.module_utils._daemons.daemons import key_pair_trouble
from ansible_collections.port587.mail.plugins.module_utils._transaction.change import (
    File,
    Problem,
    View,
    run_command,
    temporary_directory,
)

TLS = "/etc/port587/tls"
COMBINED = TLS + "/combined.pem"
FULLCHAIN = TLS + "/fullchain.pem"
AUTHORITY_DIRECTORY = "/etc/port587/ca"

#: What the second certificate with an RSA key goes by; no name of a host, which has a dot.
RSA = "rsa"

#: A new certificate is made when the present one has less time left.
RENEW_BEFORE = datetime.timedelta(days=30)

#: The CA outlives every certificate it signs: one that would not is replaced when the next certificate is due.
AUTHORITY_DAYS = 3650

#: Certificates are valid from an hour ago: the clock of the client that looks at a new one may be a little slow.
BACKDATED = datetime.timedelta(hours=1)

#: RFC 5280's limit for a common name.
COMMON_NAME_MAX = 64

#: Of new RSA keys. 2048 are on their way out (NCSC's guidelines of 2025).
RSA_BITS = 3072

_LABEL = {"ecdsa": "ECDSA 256 bit", "rsa": "RSA %d bit" % RSA_BITS}


class CertificateError(Exception):
    """A certificate can't be made or used; the message says why."""


class OpensslMissing(CertificateError):
    """The command is not installed (yet)."""


class Facts(t.NamedTuple):
    """What a certificate says. One that is still to be made has no ``serial``, ``fingerprint`` and ``public_key``."""

    subject: str
    names: t.Sequence[str]
    issuer: str
    key: str
    not_before: datetime.datetime
    not_after: datetime.datetime
    #: the domains that a CA may vouch for
    permitted: t.Sequence[str] = ()
    serial: str = ""
    fingerprint: str = ""
    public_key: str = ""


class Wanted(t.NamedTuple):
    names: t.List[str]  # the first is the mail host's
    key_type: str
    days: int
    #: what the same CA has to sign other certificates for
    others: t.Sequence[str] = ()
    #: the CA's own, which a client has to know as well
    authority_key_type: str = ""


class Authority(t.NamedTuple):
    certificate: str
    key: str


class Plan(t.NamedTuple):
    """What is to be made and why; empty strings where what is there stays. The facts are those there will be."""

    new_certificate: str
    new_authority: str
    certificate: Facts
    authority: Facts


# -- names --------------------------------------------------------------------------------------------------------


def name_trouble(name: str, wildcard: bool = False) -> t.Optional[str]:
    """Why a certificate can't be for this name."""
    if re.search(r"[^\x00-\x7f]", name):
        return "write it in ASCII, as DNS has it (xn--...)"
    labels = name[2:].split(".") if wildcard and name.startswith("*.") else name.split(".")
    if len(name) > 253 or not all(re.match(r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)\Z", label) for label in labels):
        return "it is no host name"
    if labels[-1].isdigit():
        return "it is an address; clients reach a mail server by its name"
    if len(labels) < 2:
        return "it is not fully qualified, as mail.example.com is"
    return None


def covers(pattern: str, name: str) -> bool:
    """Whether a name in a certificate, which may begin with a wildcard for one label, is good for a host."""
    pattern, name = pattern.lower(), name.lower()
    return name == pattern or (pattern.startswith("*.") and name.partition(".")[2] == pattern[2:])


# -- what is there ------------------------------------------------------------------------------------------------


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
    out = _openssl(
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
    # the empty password: without it, an encrypted key would ask for one on the terminal
    return _openssl(["pkey", "-pubout", "-passin", "pass:"], key).strip() == certificate.public_key


def verifies(certificate: str, authority: str) -> bool:
    """Whether a client that trusts only this CA accepts the certificate now."""
    with temporary_directory() as directory:
        trusted = _write(directory, "ca.pem", authority)
        argv = ["openssl", "verify", "-x509_strict", "-purpose", "sslserver", "-no-CApath", "-CAfile", trusted]
        return run_command(argv + [_write(directory, "certificate.pem", certificate)])[0] == 0


def usable(pem: str) -> t.Optional[t.Tuple[str, str, Facts]]:
    """(certificate, key, facts) of a PEM file in which the two belong together; None of any other file."""
    chain, key = certificates(pem), private_key(pem)
    if not chain or key is None:
        return None
    try:
        found = facts(chain[0])
        return (chain[0], key, found) if belongs_to(key, found) else None
    except CertificateError:
        return None


# -- what is served -----------------------------------------------------------------------------------------------


def served_files(key: str, chain: t.Iterable[str]) -> t.List[File]:
    """What the daemons read: key and chain in one file, so that the two can never be of different certificates."""
    pem = "".join(chain)
    return [File(COMBINED, (key + pem).encode(), mode=0o600, secret=True), File(FULLCHAIN, pem.encode())]


def other_path(label: str) -> str:
    """Where another certificate than that of all is: of a name with one of its own (SNI), or with an RSA key."""
    return "%s/%s.pem" % (TLS, label)


def other_file(label: str, key: str, chain: t.Iterable[str]) -> File:
    """What the daemons read for it."""
    return File(other_path(label), (key + "".join(chain)).encode(), mode=0o600, secret=True)


def can_be_served(view: View) -> t.List[Problem]:
    """This server's OpenSSL may refuse what another takes: a signature or a key that its policy calls too weak."""
    paths = [path for path in view.files if os.path.dirname(path) == TLS and path != FULLCHAIN]
    troubles = [(path, key_pair_trouble([path], view)) for path in paths]
    return [Problem(path, found) for path, found in troubles if found]


# -- what has to be there -----------------------------------------------------------------------------------------


def vouched_for(names: t.Sequence[str], authority: t.Optional[Facts]) -> t.Tuple[t.List[str], t.Dict[str, str]]:
    """(names, those left out and why): only for the mail host's own, the first, is a CA replaced."""
    if authority is None or not _vouches(authority, names[0]):
        return list(names), {}
    why = (
        "the server's CA vouches for %s only. To have it, remove %s on the server: the next run makes another CA, "
        "which clients have to import" % (", ".join(authority.permitted), AUTHORITY_DIRECTORY)
    )
    missing = {name: why for name in names if not _vouches(authority, name)}
    return [name for name in names if name not in missing], missing


def plan(
    wanted: Wanted,
    now: datetime.datetime,
    authority: t.Optional[Facts],
    certificate: t.Optional[Facts],
    signs_others: bool = False,
) -> Plan:
    """``certificate``: the present one, if this CA has signed it and it is valid.

    ``signs_others``: whether the CA is about to sign another one besides.
    """
    new_certificate = why_new_certificate(wanted, now, certificate)
    new_authority = _why_new_authority(wanted, now, authority, bool(new_certificate) or signs_others)
    if new_authority or authority is None:
        authority = _authority_to_be(wanted, now)
        new_certificate = new_certificate or "signed by the new CA"
    if new_certificate or certificate is None:
        certificate = certificate_to_be(wanted, now, authority)
    return Plan(new_certificate, new_authority, certificate, authority)


def certificate_to_be(wanted: Wanted, now: datetime.datetime, authority: Facts) -> Facts:
    return Facts(
        subject=_subject(wanted.names[0]),
        names=wanted.names,
        issuer=authority.subject,
        key=_LABEL[wanted.key_type],
        not_before=now - BACKDATED,
        not_after=now + datetime.timedelta(days=wanted.days),
    )


def why_new_certificate(wanted: Wanted, now: datetime.datetime, present: t.Optional[Facts]) -> str:
    if present is None:
        return "there is no valid one of this server's CA"
    if present.subject != _subject(wanted.names[0]) or sorted(present.names) != sorted(wanted.names):
        return "for %s instead of %s" % (", ".join(wanted.names), ", ".join(present.names))
    if present.key != _LABEL[wanted.key_type]:
        return "%s instead of %s" % (_LABEL[wanted.key_type], present.key)
    days = (present.not_after - present.not_before - BACKDATED).days
    if days != wanted.days:
        return "valid for %d days instead of %d" % (wanted.days, days)
    if present.not_after - now < RENEW_BEFORE:
        return "the present one ends on %s" % present.not_after.date()
    return ""


def _why_new_authority(wanted: Wanted, now: datetime.datetime, present: t.Optional[Facts], about_to_sign: bool) -> str:
    if present is None:
        return "there is none"
    outside = [name for name in wanted.names if not _vouches(present, name)]
    if outside:
        return "the present one vouches for %s, not for %s" % (
            ", ".join(present.permitted) or "all",
            ", ".join(outside),
        )
    if about_to_sign and present.not_after < now + datetime.timedelta(days=wanted.days):
        return "the present one ends on %s, before the new certificate would" % present.not_after.date()
    return ""


def _authority_to_be(wanted: Wanted, now: datetime.datetime) -> Facts:
    # the year tells two of them apart in a client's list
    subject = "CN=%s CA %d" % (wanted.names[0][: COMMON_NAME_MAX - len(" CA 2000")], now.year)
    return Facts(
        subject=subject,
        names=[],
        issuer=subject,
        key=_LABEL[wanted.authority_key_type or wanted.key_type],
        not_before=now - BACKDATED,
        not_after=now + datetime.timedelta(days=AUTHORITY_DAYS),
        permitted=permitted_domains([*wanted.names, *wanted.others]),
    )


def permitted_domains(names: t.Iterable[str]) -> t.List[str]:
    """What the CA may vouch for: the domains around the names, so that mail.example.com may become mx.example.com.

    Nothing else: a person who imports this CA trusts the server for its own domain, and for no other site.
    """
    domains = []  # type: t.List[str]
    for name in names:
        labels = [label for label in name.split(".") if label != "*"]
        domain = ".".join(labels[1:] if len(labels) > 2 else labels)
        if domain not in domains:
            domains.append(domain)
    return domains


def _vouches(authority: Facts, name: str) -> bool:
    return any(name == domain or name.endswith("." + domain) for domain in authority.permitted)


def trouble(present: Facts, names: t.Iterable[str], now: datetime.datetime) -> t.Optional[str]:
    """Why a client would refuse a certificate that was handed in."""
    if present.not_after <= now:
        return "it ended on %s" % present.not_after
    if present.not_before > now:
        return "it begins on %s; this server's clock says %s" % (present.not_before, now.replace(microsecond=0))
    missing = [name for name in names if not any(covers(pattern, name) for pattern in present.names)]
    if missing:
        return "it is for %s, not for %s" % (", ".join(present.names) or "no name at all", ", ".join(missing))
    return None


# -- making it ----------------------------------------------------------------------------------------------------


def make_authority(wanted: Wanted, to_be: Facts) -> Authority:
    key = _new_key(wanted.authority_key_type or wanted.key_type)
    extensions = [
        "basicConstraints = critical,CA:TRUE,pathlen:0",
        "keyUsage = critical,keyCertSign,cRLSign",
        "extendedKeyUsage = serverAuth",
        "subjectKeyIdentifier = hash",
        "nameConstraints = critical,@constraints",
        "[constraints]",
    ]
    extensions += ["permitted;DNS.%d = %s" % pair for pair in enumerate(to_be.permitted)]
    # names alone leave addresses open: a type that is not mentioned is not constrained
    extensions += ["excluded;IP.0 = 0.0.0.0/0.0.0.0", "excluded;IP.1 = ::/::"]
    return Authority(_sign(key, to_be, extensions, None), key)


def make_certificate(wanted: Wanted, to_be: Facts, authority: Authority) -> t.Tuple[str, str]:
    """(certificate, key)"""
    key = _new_key(wanted.key_type)
    # RFC 5280: critical where there is no subject
    critical = "" if to_be.subject else "critical,"
    extensions = [
        "basicConstraints = critical,CA:FALSE",
        "keyUsage = critical,digitalSignature" + (",keyEncipherment" if wanted.key_type == "rsa" else ""),
        "extendedKeyUsage = serverAuth",
        "subjectKeyIdentifier = hash",
        "authorityKeyIdentifier = keyid",
        "subjectAltName = %s%s" % (critical, ",".join("DNS:" + name for name in to_be.names)),
    ]
    return _sign(key, to_be, extensions, authority), key


def _subject(name: str) -> str:
    return "CN=" + name if len(name) <= COMMON_NAME_MAX else ""


def _new_key(key_type: str) -> str:
    options = {
        "ecdsa": ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"],
        "rsa": ["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:%d" % RSA_BITS],
    }
    return _openssl(["genpkey"] + options[key_type])


# "openssl ca" is the one command that can set the beginning of validity in every release. A configuration of our own:
# the system's may hold anything.
_CONFIGURATION = """\
[ca]
default_ca = site
[site]
database = {directory}/index
new_certs_dir = {directory}
rand_serial = yes
default_md = sha256
policy = any
[any]
commonName = optional
[req]
distinguished_name = from_command_line
[from_command_line]
[extensions]
{extensions}
"""


def _sign(key: str, to_be: Facts, extensions: t.List[str], authority: t.Optional[Authority]) -> str:
    with temporary_directory() as directory:
        text = _CONFIGURATION.format(directory=directory, extensions="\n".join(extensions))
        configuration = ["-batch", "-config", _write(directory, "openssl.cnf", text)]
        _write(directory, "index", "")
        key_file = _write(directory, "key.pem", key)
        request = os.path.join(directory, "request.pem")
        _openssl(["req", "-new", "-key", key_file, "-subj", "/" + to_be.subject, "-out", request] + configuration)
        if authority is None:
            signer = ["-selfsign", "-keyfile", key_file]
        else:
            signer = ["-cert", _write(directory, "ca.pem", authority.certificate)]
            signer += ["-keyfile", _write(directory, "ca.key", authority.key)]
        begin, end = (moment.strftime("%Y%m%d%H%M%SZ") for moment in (to_be.not_before, to_be.not_after))
        validity = ["-startdate", begin, "-enddate", end]
        argv = ["ca", "-in", request, "-notext", "-extensions", "extensions"]
        out = _openssl(argv + validity + signer + configuration)
    return certificates(out)[0]


def _openssl(arguments: t.List[str], stdin: t.Optional[str] = None) -> str:
    try:
        code, out, err = run_command(["openssl"] + arguments, None if stdin is None else stdin.encode())
    except FileNotFoundError:
        raise OpensslMissing("the command openssl is not there: install the package openssl first") from None
    if code:
        raise CertificateError("openssl %s: %s" % (arguments[0], err.strip()))
    return out


def _write(directory: str, name: str, text: str) -> str:
    path = os.path.join(directory, name)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as handle:
        handle.write(text)
    return path


# -- what is shown ------------------------------------------------------------------------------------------------


def describe(chain: t.Iterable[Facts], with_key: bool = False) -> str:
    """A PEM file in words, for a diff: what it is for and until when; the key is only said to be there."""
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
        # those of a new one are not known before it is made, and check mode has to show the same
        lines.append("  sha256: %s" % (one.fingerprint or "(new)"))
    return "".join(line + "\n" for line in lines)
