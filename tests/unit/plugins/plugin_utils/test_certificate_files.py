# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The user's certificates and keys: good ones pass, and each bad one gets a clear error."""

from __future__ import annotations

import datetime
import typing as t

import pytest

# on the controller only: the servers' Python has neither
pytest.importorskip("cryptography")
pytest.importorskip("ansible.errors")

from ansible_collections.port587.mail.plugins.plugin_utils._certificate_files import (
    File,
    of_acme,
    of_other_names,
    of_pair,
)
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID, NameOID

NOW = datetime.datetime.now(datetime.timezone.utc)
YESTERDAY, TOMORROW = NOW - datetime.timedelta(days=1), NOW + datetime.timedelta(days=1)
RSA = rsa.generate_private_key(65537, 2048)


class Certificate(t.NamedTuple):
    certificate: x509.Certificate
    key: t.Any

    @property
    def pem(self) -> str:
        return self.certificate.public_bytes(serialization.Encoding.PEM).decode()

    @property
    def key_pem(self) -> str:
        return key_pem(self.key)


def key_pem(key: t.Any, form: str = "PKCS8", password: bytes | None = None) -> str:
    encryption = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return key.private_bytes(
        serialization.Encoding.PEM, getattr(serialization.PrivateFormat, form), encryption
    ).decode()


def make(
    subject: str,
    issuer: Certificate | None = None,
    names: t.Sequence[str] = (),
    ca: bool = False,
    key: t.Any = None,
    begins: datetime.datetime = YESTERDAY,
    ends: datetime.datetime = TOMORROW,
    extensions: t.Sequence[x509.ExtensionType] = (),
) -> Certificate:
    key = key or ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer.certificate.subject if issuer else name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(ends)
        .add_extension(x509.BasicConstraints(ca, None), critical=True)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(n) for n in names]), critical=False)
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    return Certificate(builder.sign(issuer.key if issuer else key, hashes.SHA256()), key)


ROOT = make("Root", ca=True)
MIDDLE = make("Middle", ROOT, ca=True)
LEAF = make("mail.example.com", MIDDLE, ["mail.example.com", "imap.example.com"])
ISSUER_URL = x509.AuthorityInformationAccess(
    [
        x509.AccessDescription(
            AuthorityInformationAccessOID.CA_ISSUERS, x509.UniformResourceIdentifier("http://ca.test/i")
        )
    ]
)


def problems(chain: str = LEAF.pem + MIDDLE.pem, key: str = LEAF.key_pem, names: t.Sequence[str] = ()) -> list[str]:
    chain_file = File("certificates_files_chain", "tls/chain.pem", chain)
    key_file = File("certificates_files_key", "tls/key.pem", key)
    return list(of_pair(chain_file, key_file, ["mail.example.com", *names]))


def pair(one: Certificate, *issuers: Certificate) -> tuple[str, str]:
    """(chain, key)"""
    return one.pem + "".join(issuer.pem for issuer in issuers), one.key_pem


def leaf(issuer: Certificate | None = MIDDLE, **change: t.Any) -> Certificate:
    return make(**{"subject": "mail.example.com", "names": ["mail.example.com"], **change}, issuer=issuer)


CHAIN, KEY = pair(LEAF, MIDDLE)
GOOD = {
    "chain of two": (CHAIN, KEY),
    "chain with its root": pair(LEAF, MIDDLE, ROOT),
    "of a private root, alone": pair(leaf(ROOT)),
    "self-signed": pair(leaf(None)),
    "wildcard": pair(leaf(names=["*.example.com"]), MIDDLE),
    "capitals": pair(leaf(names=["Mail.Example.COM"]), MIDDLE),
    "RSA": pair(leaf(key=RSA), MIDDLE),
    "P-384": pair(leaf(key=ec.generate_private_key(ec.SECP384R1())), MIDDLE),
    "for servers": pair(leaf(extensions=[x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])]), MIDDLE),
    "issuer's address, and the issuer": pair(leaf(extensions=[ISSUER_URL]), MIDDLE),
    "PKCS #1 key": (leaf(key=RSA).pem + MIDDLE.pem, key_pem(RSA, "TraditionalOpenSSL")),
    "line ends of Windows": (CHAIN.replace("\n", "\r\n"), KEY.replace("\n", "\r\n")),
    "comments": ("subject=CN = mail\nBag Attributes\n" + LEAF.pem + "\n\n" + MIDDLE.pem, "Bag Attributes\n" + KEY),
    "key and chain together, as key": (CHAIN, KEY + CHAIN),
}


@pytest.mark.parametrize(("chain", "key"), GOOD.values(), ids=GOOD.keys())
def test_good(chain, key):
    assert problems(chain, key) == []


def test_good_for_further_names():
    assert problems(names=["imap.example.com"]) == []


OLD_CA = make("Old", ROOT, ca=True, ends=YESTERDAY + datetime.timedelta(hours=1))
NOT_CA = make("No CA", ROOT)
ENDED = NOW - datetime.timedelta(hours=2)
DER = LEAF.certificate.public_bytes(serialization.Encoding.DER).decode("utf-8", "surrogateescape")
REQUEST = "-----BEGIN CERTIFICATE REQUEST-----\nAA==\n-----END CERTIFICATE REQUEST-----\n"

# name: (chain, key, what is said of which of the two)
BAD = {
    "key of another": (CHAIN, leaf().key_pem, "key", "does not belong to CN=mail.example.com in tls/chain.pem"),
    "expired": (
        *pair(leaf(ends=ENDED), MIDDLE),
        "chain",
        f"certificate 1, CN=mail.example.com, ended on {ENDED:%Y-%m-%d %H:%M} UTC, and now it is {NOW:%Y-%m-%d}",
    ),
    "not yet valid": (
        *pair(leaf(begins=NOW + datetime.timedelta(hours=2)), MIDDLE),
        "chain",
        f"certificate 1, CN=mail.example.com, begins on {NOW + datetime.timedelta(hours=2):%Y-%m-%d %H:%M} UTC",
    ),
    "issuer expired": (*pair(leaf(OLD_CA), OLD_CA), "chain", "certificate 2, CN=Old, ended on"),
    "other name": (
        *pair(leaf(names=["www.example.com"]), MIDDLE),
        "chain",
        "is for www.example.com, but not for mail.example.com. Change certificates_hostname",
    ),
    "wildcard of another level": (
        *pair(leaf(names=["*.mail.example.com"]), MIDDLE),
        "chain",
        "is for *.mail.example.com, but not for mail.example.com",
    ),
    "no alternative name": (*pair(leaf(names=[]), MIDDLE), "chain", "CN=mail.example.com, has no subjectAltName"),
    "only for clients": (
        *pair(leaf(extensions=[x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])]), MIDDLE),
        "chain",
        "lacks serverAuth",
    ),
    "swapped": (KEY, CHAIN, "chain", "holds the private key, and certificates_files_key: tls/key.pem the certificate"),
    "key twice": (KEY, KEY, "chain", "holds no certificate in PEM, but a PRIVATE KEY"),
    "certificate twice": (CHAIN, CHAIN, "key", "holds no private key in PEM, but a CERTIFICATE"),
    "key in the chain": (KEY + CHAIN, KEY, "chain", "holds a private key too"),
    "encrypted key": (CHAIN, key_pem(LEAF.key, password=b"secret"), "key", "the private key is encrypted"),
    "encrypted key, old form": (
        CHAIN,
        key_pem(LEAF.key, "TraditionalOpenSSL", b"secret"),
        "key",
        "the private key is encrypted",
    ),
    "SSH key": (CHAIN, key_pem(LEAF.key, "OpenSSH"), "key", "this is a key for SSH"),
    "damaged key": (CHAIN, KEY.replace("\n", "\nAAAA", 1), "key", "the private key can't be read"),
    "weak key": (
        *pair(leaf(key=rsa.generate_private_key(65537, 1024)), MIDDLE),
        "key",
        "RSA with 1024 bit is too weak for clients: at least 2048",
    ),
    "unusual curve": (
        *pair(leaf(key=ec.generate_private_key(ec.SECP256K1())), MIDDLE),
        "key",
        "clients don't know the curve secp256k1: take one of P-256",
    ),
    "Ed25519": (*pair(leaf(key=ed25519.Ed25519PrivateKey.generate()), MIDDLE), "key", "take ECDSA"),
    "issuer first": (MIDDLE.pem + LEAF.pem, KEY, "chain", "own certificate, CN=mail.example.com, is number 2"),
    "issuer missing": (
        *pair(leaf(extensions=[ISSUER_URL])),
        "chain",
        "only the server's own certificate, without that of its issuer, CN=Middle",
    ),
    "gap in the chain": (
        *pair(LEAF, ROOT),
        "chain",
        "certificate 2, CN=Root, did not issue certificate 1, CN=mail.example.com",
    ),
    "issuer of the same name": (
        *pair(LEAF, make("Middle", ROOT, ca=True)),
        "chain",
        "certificate 2, CN=Middle, did not issue certificate 1",
    ),
    "issuer that is none": (*pair(leaf(NOT_CA), NOT_CA), "chain", "certificate 2, CN=No CA, is no CA"),
    "damaged certificate": (CHAIN.replace("\n", "\nAAAA", 1), KEY, "chain", "certificate 1 can't be read"),
    "not a certificate": ("hello", KEY, "chain", "but something else"),
    "binary": (DER, KEY, "chain", "a binary file, perhaps DER"),
    "request": (REQUEST, KEY, "chain", "but a CERTIFICATE REQUEST"),
    "no chain file": ("", KEY, "chain", "there is no such file on the controller"),
    "no key file": (CHAIN, "", "key", "there is no such file on the controller"),
}


@pytest.mark.parametrize(("chain", "key", "which", "message"), BAD.values(), ids=BAD.keys())
def test_bad(chain, key, which, message):
    (found,) = problems(chain, key)
    assert found.startswith(f"certificates_files_{which}: tls/{which}.pem")
    assert message in found
    assert not [line for line in key.splitlines() if len(line) > 10 and line in found]


def test_further_name_not_covered():
    (found,) = problems(names=["imap.example.com", "pop.example.com"])
    assert "is for mail.example.com, imap.example.com, but not for pop.example.com" in found


def test_no_path() -> None:
    chain, key = (File(f"certificates_files_{name}", "", "") for name in ("chain", "key"))
    assert list(of_pair(chain, key, ["mail.example.com"])) == [
        "certificates_files_chain: is empty; write the path of the certificate with its chain on the controller",
        "certificates_files_key: is empty; write the path of the private key on the controller",
    ]


OTHER = leaf(names=["mail.example.org"])


@pytest.mark.parametrize(
    ("given", "texts", "message"),
    [
        ({"mail.example.org": {"chain": "c", "key": "k"}}, {}, None),
        ({"Mail.Example.org": {"chain": "c", "key": "k"}}, {}, None),
        ({}, {}, "certificates_files_sni: lacks mail.example.org, which is in mail_sni"),
        ({"mail.example.org": {"chain": "c"}}, {}, "certificates_files_sni: lacks mail.example.org"),
        ({"mail.example.org": "c"}, {}, "certificates_files_sni: lacks mail.example.org"),
        (
            {"mail.example.org": {"chain": "c", "key": "k"}},
            {"c": ""},
            "certificates_files_sni.mail.example.org.chain: c: there is no such file",
        ),
        (
            {"mail.example.org": {"chain": "c", "key": "k"}},
            {"k": KEY},
            "certificates_files_sni.mail.example.org.key: k: does not belong",
        ),
        ({"mail.example.org": {"chain": "c", "key": "k"}}, {"c": CHAIN, "k": KEY}, "not for mail.example.org"),
    ],
)
def test_names_with_a_certificate_of_their_own(given, texts, message):
    there = {"c": OTHER.pem + MIDDLE.pem, "k": OTHER.key_pem, **texts}
    found = list(of_other_names(["Mail.example.org"], given, lambda variable, path: File(variable, path, there[path])))
    assert found == [] if message is None else (len(found) == 1 and message in found[0])


@pytest.mark.parametrize(
    ("authority", "hook", "message"),
    [
        (("", ""), ("", ""), None),
        (("ca.pem", LEAF.pem), ("dns", "#!/bin/sh\n"), None),
        (("ca.pem", ""), ("", ""), "certificates_acme_ca: ca.pem: there is no such file on the controller"),
        (("ca.pem", "what?"), ("", ""), "certificates_acme_ca: ca.pem: holds no certificate in PEM"),
        (("", ""), ("dns", ""), "certificates_acme_hook: dns: there is no such file"),
        (("", ""), ("dns", "x"), "certificates_acme_hook: dns: holds no program"),
    ],
)
def test_files_for_acme(authority, hook, message):
    found = list(of_acme(File("certificates_acme_ca", *authority), File("certificates_acme_hook", *hook)))
    assert found == [] if message is None else (len(found) == 1 and message in found[0])
