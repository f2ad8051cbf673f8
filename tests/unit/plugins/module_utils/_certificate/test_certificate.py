# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The server's own certificates: when they are made anew, and that real OpenSSL makes and accepts them."""

import datetime
import typing as t

import pytest
from ansible_collections.port587.mail.plugins.module_utils._certificate import certificate as certificates
from ansible_collections.port587.mail.plugins.module_utils._certificate.certificate import Facts, Wanted

NOW = datetime.datetime(2030, 6, 1, 12, 0, tzinfo=datetime.timezone.utc)
WANTED = Wanted(["mail.example.com", "imap.example.com"], "ecdsa", 397)


def days(number: float) -> datetime.timedelta:
    return datetime.timedelta(days=number)


def present(wanted: Wanted = WANTED, age: float = 100) -> t.Tuple[Facts, Facts]:
    """(CA, certificate), both made ``age`` days ago."""
    plan = certificates.plan(wanted, NOW - days(age), None, None)
    return plan.authority, plan.certificate


def test_first_run_makes_both():
    plan = certificates.plan(WANTED, NOW, None, None)
    assert plan.new_authority
    assert plan.new_certificate
    assert plan.certificate.names == WANTED.names
    assert plan.certificate.issuer == plan.authority.subject == "CN=mail.example.com CA 2030"
    assert plan.certificate.not_before < NOW
    assert plan.certificate.not_after == NOW + days(397)
    assert plan.authority.permitted == ["example.com"]


def test_second_run_keeps_both():
    authority, certificate = present()
    plan = certificates.plan(WANTED, NOW, authority, certificate)
    assert plan == ("", "", certificate, authority)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"names": ["mx.example.com"]}, "for mx.example.com instead of mail.example.com, imap.example.com"),
        (
            {"names": [*WANTED.names, "pop.example.com"]},
            "for mail.example.com, imap.example.com, pop.example.com instead of",
        ),
        ({"names": ["imap.example.com", "mail.example.com"]}, "for imap.example.com"),
        ({"key_type": "rsa"}, "RSA 3072 bit instead of ECDSA 256 bit"),
        ({"days": 90}, "valid for 90 days instead of 397"),
    ],
)
def test_changed_value_gets_a_certificate_of_the_same_ca(change, reason):
    authority, certificate = present()
    plan = certificates.plan(WANTED._replace(**change), NOW, authority, certificate)
    assert reason in plan.new_certificate
    assert plan.new_authority == ""
    assert plan.authority == authority


@pytest.mark.parametrize(("left", "renewed"), [(30.1, False), (30, False), (29.9, True), (0, True)])
def test_renewed_when_less_than_30_days_are_left(left, renewed):
    authority, certificate = present(age=397 - left)
    plan = certificates.plan(WANTED, NOW, authority, certificate)
    assert bool(plan.new_certificate) == renewed
    assert plan.new_authority == ""


def test_order_of_further_names_does_not_matter():
    authority, certificate = present(WANTED._replace(names=["a.example.com", "b.example.com", "c.example.com"]))
    wanted = WANTED._replace(names=["a.example.com", "c.example.com", "b.example.com"])
    assert certificates.plan(wanted, NOW, authority, certificate).new_certificate == ""


def test_ca_that_would_not_outlive_the_certificate_is_replaced_with_it():
    authority, certificate = present()
    authority = authority._replace(not_after=NOW + days(396))
    assert certificates.plan(WANTED, NOW, authority, certificate).new_authority == ""
    plan = certificates.plan(WANTED, NOW, authority, None)
    assert plan.new_authority == "the present one ends on 2031-07-02, before the new certificate would"
    assert plan.authority.not_after > plan.certificate.not_after


def test_ca_that_may_not_sign_for_a_name_is_replaced():
    authority, certificate = present()
    plan = certificates.plan(WANTED._replace(names=["mail.example.org"]), NOW, authority, certificate)
    assert plan.new_authority == "the present one vouches for example.com, not for mail.example.org"
    assert plan.authority.permitted == ["example.org"]


def test_ca_that_clients_have_stays_and_names_elsewhere_are_left_out():
    authority, _certificate_of_it = present()
    names = [*WANTED.names, "autoconfig.example.org"]
    left, missing = certificates.vouched_for(names, authority)
    assert left == WANTED.names
    assert list(missing) == ["autoconfig.example.org"]
    assert "vouches for example.com only" in missing["autoconfig.example.org"]
    # there is none yet, or there has to be another one anyway
    assert certificates.vouched_for(names, None) == (names, {})
    assert certificates.vouched_for(names[::-1], authority) == (names[::-1], {})


def test_ca_for_names_with_a_certificate_of_their_own():
    plan = certificates.plan(WANTED._replace(others=["mail.example.org"]), NOW, None, None)
    assert plan.authority.permitted == ["example.com", "example.org"]
    # it has to outlive those, too
    authority, certificate = present()
    authority = authority._replace(not_after=NOW + days(396))
    assert certificates.plan(WANTED, NOW, authority, certificate).new_authority == ""
    assert "ends on" in certificates.plan(WANTED, NOW, authority, certificate, signs_others=True).new_authority


@pytest.mark.parametrize(
    ("names", "domains"),
    [
        (["mail.example.com", "imap.example.com"], ["example.com"]),
        (["mail.example.com", "autoconfig.example.org"], ["example.com", "example.org"]),
        (["example.com"], ["example.com"]),
        (["mail.example.co.uk"], ["example.co.uk"]),
        (["mail.example.com", "*.example.com"], ["example.com"]),
        (["a.b.example.com"], ["b.example.com"]),
    ],
)
def test_permitted_domains(names, domains):
    assert certificates.permitted_domains(names) == domains


@pytest.mark.parametrize(
    ("name", "wildcard", "trouble"),
    [
        ("mail.example.com", False, None),
        ("MAIL.example.com", False, None),
        ("*.example.com", True, None),
        ("*.example.com", False, "no host name"),
        ("mail", False, "not fully qualified"),
        ("localhost", False, "not fully qualified"),
        ("192.0.2.1", False, "an address"),
        ("2001:db8::1", False, "no host name"),
        ("mail.exämple.com", False, "ASCII"),
        ("mail_1.example.com", False, "no host name"),
        ("-mail.example.com", False, "no host name"),
        ("mail..example.com", False, "no host name"),
        ("mail.example.com.", False, "no host name"),
        ("mail.example.com\nsubjectAltName=DNS:evil.com", False, "no host name"),
        ("mail.example.com,DNS:evil.com", False, "no host name"),
        ("mail.example.com/O=evil", False, "no host name"),
        ("", False, "no host name"),
        ("a" * 64 + ".example.com", False, "no host name"),
        (".".join(["a" * 60] * 5), False, "no host name"),
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


@pytest.fixture(scope="module", params=["ecdsa", "rsa"])
def made(request):
    """(wanted, plan, CA, certificate, key), made by the OpenSSL at hand."""
    wanted = WANTED._replace(key_type=request.param)
    now = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0)
    plan = certificates.plan(wanted, now, None, None)
    authority = certificates.make_authority(wanted, plan.authority)
    return (wanted, plan, authority, *certificates.make_certificate(wanted, plan.certificate, authority))


def test_what_is_made_is_what_was_planned(made):
    """Otherwise check mode would predict one thing, and the next run find another and make it again."""
    wanted, plan, authority, certificate, _key = made
    for pem, planned in ((authority.certificate, plan.authority), (certificate, plan.certificate)):
        facts = certificates.facts(pem)
        assert facts._replace(serial="", fingerprint="", public_key="", permitted=tuple(facts.permitted)) == (
            planned._replace(permitted=tuple(planned.permitted))
        )
        assert len(facts.fingerprint) == 95
    now = plan.certificate.not_after - days(wanted.days)
    again = certificates.plan(wanted, now, certificates.facts(authority.certificate), certificates.facts(certificate))
    assert (again.new_authority, again.new_certificate) == ("", "")


def test_verifies_with_its_ca_only(made):
    wanted, plan, authority, certificate, key = made
    assert certificates.verifies(certificate, authority.certificate)
    assert certificates.usable(key + certificate)[:2] == (certificate, key)
    other = certificates.make_authority(wanted, plan.authority)
    assert not certificates.verifies(certificate, other.certificate)
    assert certificates.usable(other.key + certificate) is None


@pytest.mark.parametrize("name", ["mail.example.org", "example.org", "notexample.com"])
def test_ca_is_worth_nothing_for_other_domains(made, name):
    """Clients refuse what a stolen CA key would sign for other sites."""
    wanted, plan, authority, _certificate_pem, _key = made
    wanted = wanted._replace(names=[name])
    stolen, _ = certificates.make_certificate(wanted, plan.certificate._replace(names=[name]), authority)
    assert not certificates.verifies(stolen, authority.certificate)


def test_name_too_long_for_a_subject():
    """A common name has 64 characters at most; subjectAltName alone names the host then."""
    name = f"{'a' * 60}.mail.example.com"
    wanted = WANTED._replace(names=[name])
    now = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0)
    plan = certificates.plan(wanted, now, None, None)
    authority = certificates.make_authority(wanted, plan.authority)
    certificate, _key = certificates.make_certificate(wanted, plan.certificate, authority)
    facts = certificates.facts(certificate)
    assert (facts.subject, facts.names) == ("", [name])
    assert certificates.verifies(certificate, authority.certificate)


def test_no_key_in_arguments(made, monkeypatch):
    """What is in a process's arguments, every user of the server can read."""
    seen = []
    real = certificates.run_command

    def run_command(argv, stdin=None):
        seen.append(" ".join(argv))
        return real(argv, stdin)

    monkeypatch.setattr(certificates, "run_command", run_command)
    wanted, plan, _authority, _pem, _key = made
    authority = certificates.make_authority(wanted, plan.authority)
    certificates.make_certificate(wanted, plan.certificate, authority)
    assert len(seen) >= 6
    assert not [argv for argv in seen if "PRIVATE" in argv or "-----" in argv]


def test_encrypted_key_is_unusable_and_asks_nobody():
    body = "MIGrMFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3DQEFDDAcBAg="
    key = f"-----BEGIN ENCRYPTED PRIVATE KEY-----\n{body}\n-----END ENCRYPTED PRIVATE KEY-----\n"
    with pytest.raises(certificates.CertificateError):
        certificates.belongs_to(key, present()[1])


def test_missing_openssl_is_named(monkeypatch):
    def run_command(argv, stdin=None):
        raise FileNotFoundError(argv[0])

    monkeypatch.setattr(certificates, "run_command", run_command)
    with pytest.raises(certificates.OpensslMissing, match="install the package openssl"):
        certificates._openssl(["version"])


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
    found = certificates.trouble(present()[1]._replace(**change), names, NOW)
    assert found is None if trouble is None else trouble in (found or "")


def test_description_hides_the_key_and_is_the_same_in_check_mode():
    authority, certificate = present()
    text = certificates.describe([certificate, authority], with_key=True)
    assert text.startswith("private key (hidden)\ncertificate CN=mail.example.com\n")
    assert "names: mail.example.com, imap.example.com" in text
    assert "vouches only for: example.com" in text
    assert text.count("sha256: (new)") == 2
    assert "sha256: AA:BB" in certificates.describe([certificate._replace(fingerprint="AA:BB")])
