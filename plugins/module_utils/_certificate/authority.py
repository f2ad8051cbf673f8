# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Runs on the server: Python 3.6 and the standard library only.

"""The server's own small certificate authority (CA): decides when to sign a new certificate, and signs it."""

import datetime
import os
import typing as t

from ansible_collections.port587.mail.plugins.module_utils._certificate.certificate import (
    COMMON_NAME_MAX,
    RSA_BITS,
    Facts,
    certificates,
    openssl,
    write,
)
from ansible_collections.port587.mail.plugins.module_utils._transaction.files import temporary_directory

DIRECTORY = "/etc/port587/ca"

#: Remaining time below which a certificate is replaced.
RENEW_BEFORE = datetime.timedelta(days=30)

#: The CA must outlive every certificate it signs. Otherwise it is replaced when the next certificate is due.
AUTHORITY_DAYS = 3650

#: Certificates are valid from an hour ago, since a client's clock may be slow.
BACKDATED = datetime.timedelta(hours=1)

_LABEL = {"ecdsa": "ECDSA 256 bit", "rsa": "RSA %d bit" % RSA_BITS}


class Wanted(t.NamedTuple):
    names: t.List[str]  # the first is the mail host's
    key_type: str
    days: int
    #: names of the other certificates that the same CA must sign
    others: t.Sequence[str] = ()
    #: type of the CA's own key, which clients must support, too
    authority_key_type: str = ""


class Authority(t.NamedTuple):
    certificate: str
    key: str


class Plan(t.NamedTuple):
    """What to make and why; empty strings for files that are kept. The facts describe the result."""

    new_certificate: str
    new_authority: str
    certificate: Facts
    authority: Facts


# -- plan ---------------------------------------------------------------------------------------------------------


def vouched_for(names: t.Sequence[str], authority: t.Optional[Facts]) -> t.Tuple[t.List[str], t.Dict[str, str]]:
    """(names, those left out and why): a CA is replaced only for the mail host's own name, the first."""
    if authority is None or not _vouches(authority, names[0]):
        return list(names), {}
    why = (
        "the server's CA vouches for %s only. To have it, remove %s on the server: the next run makes another CA, "
        "which clients have to import" % (", ".join(authority.permitted), DIRECTORY)
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
        return "there is no valid certificate of this server's CA"
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
    # the year distinguishes two CAs in a client's list
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
    """Domains that the CA may sign for: those around the names, so that mail.example.com may become mx.example.com.

    A user who imports this CA trusts the server for its own domains only, and for no other site.
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


# -- sign ---------------------------------------------------------------------------------------------------------


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
    # names alone would allow all IP addresses: a type that is not mentioned is not constrained
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
    return openssl(["genpkey"] + options[key_type])


# Only "openssl ca" can set the start of validity in every release. It gets its own configuration, since the system's
# may contain anything.
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
        configuration = ["-batch", "-config", write(directory, "openssl.cnf", text)]
        write(directory, "index", "")
        key_file = write(directory, "key.pem", key)
        request = os.path.join(directory, "request.pem")
        openssl(["req", "-new", "-key", key_file, "-subj", "/" + to_be.subject, "-out", request] + configuration)
        if authority is None:
            signer = ["-selfsign", "-keyfile", key_file]
        else:
            signer = ["-cert", write(directory, "ca.pem", authority.certificate)]
            signer += ["-keyfile", write(directory, "ca.key", authority.key)]
        begin, end = (moment.strftime("%Y%m%d%H%M%SZ") for moment in (to_be.not_before, to_be.not_after))
        validity = ["-startdate", begin, "-enddate", end]
        argv = ["ca", "-in", request, "-notext", "-extensions", "extensions"]
        out = openssl(argv + validity + signer + configuration)
    return certificates(out)[0]
