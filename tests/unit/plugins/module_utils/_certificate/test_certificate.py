# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The server's own certificates: when they are replaced, and whether real OpenSSL makes and accepts them."""

import datetime

import pytest
from ansible_collections.port587.mail.plugins.module_utils._certificate import certificate as certificates
from ansible_collections.port587.mail.plugins.module_utils._certificate.certificate import Facts

NOW = datetime.datetime(2030, 6, 1, 12, 0, tzinfo=datetime.timezone.utc)
NAMES = ["mail.example.com", "imap.example.com"]
AUTHORITY = Facts(
    "CN=mail.example.com CA 2030", [], "CN=mail.example.com CA 2030", "ECDSA 256 bit", NOW, NOW, ["example.com"]
)


def days(number: float) -> datetime.timedelta:
    return datetime.timedelta(days=number)


PRESENT = Facts("CN=mail.example.com", NAMES, AUTHORITY.subject, "ECDSA 256 bit", NOW - days(100), NOW + days(297))


@pytest.mark.parametrize(
    ("name", "wildcard", "trouble"),
    [
        ("mail.example.com", False, None),
        ("MAIL.example.com", False, None),
        ("*.example.com", True, None),
        ("*.example.com", False, "not a host name"),
        ("mail", False, "not fully qualified"),
        ("localhost", False, "not fully qualified"),
        ("192.0.2.1", False, "an address"),
        ("2001:db8::1", False, "not a host name"),
        ("mail.exämple.com", False, "ASCII"),
        ("mail_1.example.com", False, "not a host name"),
        ("-mail.example.com", False, "not a host name"),
        ("mail..example.com", False, "not a host name"),
        ("mail.example.com.", False, "not a host name"),
        ("mail.example.com\nsubjectAltName=DNS:evil.com", False, "not a host name"),
        ("mail.example.com,DNS:evil.com", False, "not a host name"),
        ("mail.example.com/O=evil", False, "not a host name"),
        ("", False, "not a host name"),
        ("a" * 64 + ".example.com", False, "not a host name"),
        (".".join(["a" * 60] * 5), False, "not a host name"),
    ],
)
def test_names(name, wildcard, trouble):
    found = certificates.name_trouble(name, wildcard)
    assert found is None if trouble is None else trouble in (found or "")


@pytest.mark.parametrize(
    ("pattern", "name", "good"),
    [
        ("mail.example.com", "mail.example.com", True),
        ("Mail.Example.com", "mail.example.COM", True),
        ("*.example.com", "mail.example.com", True),
        ("*.example.com", "example.com", False),
        ("*.example.com", "a.mail.example.com", False),
        ("example.com", "mail.example.com", False),
    ],
)
def test_covers(pattern, name, good):
    assert certificates.covers(pattern, name) == good


def test_pem_blocks_without_what_tools_add():
    certificate = "-----BEGIN CERTIFICATE-----\r\nAAAA\r\n-----END CERTIFICATE-----"
    text = f"Bag Attributes\r\n friendlyName: x\r\n{certificate}\r\n\r\n{certificate}"
    assert certificates.certificates(text) == ["-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] * 2
    key = "-----BEGIN EC PRIVATE KEY-----\nBBBB\n-----END EC PRIVATE KEY-----\n"
    parameters = "-----BEGIN EC PARAMETERS-----\nCC==\n-----END EC PARAMETERS-----\n"
    assert certificates.private_key(parameters + key) == key
    assert certificates.private_key(text) is None


# What OpenSSL 1.1.1w (Debian 11) says; that of the OpenSSL at hand is read in the tests below.
OPENSSL_1_1_1 = """\
-----BEGIN PUBLIC KEY-----
AAAA
-----END PUBLIC KEY-----
subject=CN=mail.example.com
issuer=CN=mail.example.com CA 2026
serial=683F64C68110C1ABE68DD771DB1E014A4CBB89A2
notBefore=Nov 24 21:12:18 2026 GMT
notAfter=Dec  6 22:12:18 2027 GMT
SHA256 Fingerprint=F9:73:BD
Certificate:
    Data:
        Subject Public Key Info:
            Public Key Algorithm: rsaEncryption
                RSA Public-Key: (2048 bit)
        X509v3 extensions:
            X509v3 Subject Alternative Name: 
                DNS:mail.example.com, IP Address:192.0.2.1, DNS:imap.example.com
            X509v3 Name Constraints: critical
                Permitted:
                  DNS:example.com
                  DNS:example.org
                Excluded:
                  IP:0.0.0.0/0.0.0.0
"""  # fmt: skip  # noqa: W291


def test_facts_of_openssl_1_1_1():
    utc = datetime.timezone.utc
    assert certificates.parse(OPENSSL_1_1_1) == Facts(
        subject="CN=mail.example.com",
        names=["mail.example.com", "imap.example.com"],
        issuer="CN=mail.example.com CA 2026",
        key="RSA 2048 bit",
        not_before=datetime.datetime(2026, 11, 24, 21, 12, 18, tzinfo=utc),
        not_after=datetime.datetime(2027, 12, 6, 22, 12, 18, tzinfo=utc),
        permitted=["example.com", "example.org"],
        serial="683F64C68110C1ABE68DD771DB1E014A4CBB89A2",
        fingerprint="F9:73:BD",
        public_key="-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----",
    )


def test_encrypted_key_is_unusable_and_asks_nobody():
    body = "MIGrMFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3DQEFDDAcBAg="
    key = f"-----BEGIN ENCRYPTED PRIVATE KEY-----\n{body}\n-----END ENCRYPTED PRIVATE KEY-----\n"
    with pytest.raises(certificates.CertificateError):
        certificates.belongs_to(key, PRESENT)


def test_missing_openssl_is_named(monkeypatch):
    def run_command(argv, stdin=None):
        raise FileNotFoundError(argv[0])

    monkeypatch.setattr(certificates, "run_command", run_command)
    with pytest.raises(certificates.OpensslMissing, match="install the package openssl"):
        certificates.openssl(["version"])


@pytest.mark.parametrize(
    ("change", "names", "trouble"),
    [
        ({}, ["mail.example.com"], None),
        ({"not_after": NOW - days(1)}, ["mail.example.com"], "ended on 2030-05-31"),
        ({"not_before": NOW + days(1)}, ["mail.example.com"], "begins on 2030-06-02"),
        ({}, ["mx.example.com"], "is for mail.example.com, imap.example.com, not for mx.example.com"),
        ({"names": ["*.example.com"]}, ["mx.example.com"], None),
        ({"names": []}, ["mx.example.com"], "no name at all"),
    ],
)
def test_certificate_handed_in(change, names, trouble):
    found = certificates.trouble(PRESENT._replace(**change), names, NOW)
    assert found is None if trouble is None else trouble in (found or "")


def test_description_hides_the_key_and_is_the_same_in_check_mode():
    text = certificates.describe([PRESENT, AUTHORITY], with_key=True)
    assert text.startswith("private key (hidden)\ncertificate CN=mail.example.com\n")
    assert "names: mail.example.com, imap.example.com" in text
    assert "vouches only for: example.com" in text
    assert text.count("sha256: (new)") == 2
    assert "sha256: AA:BB" in certificates.describe([PRESENT._replace(fingerprint="AA:BB")])
