# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The server's own CA: when it signs, tested with the installed OpenSSL."""

import datetime
import typing as t

import pytest
from ansible_collections.port587.mail.plugins.module_utils._certificate import authority as own_ca
from ansible_collections.port587.mail.plugins.module_utils._certificate import certificate as certificates
from ansible_collections.port587.mail.plugins.module_utils._certificate.authority import Wanted
from ansible_collections.port587.mail.plugins.module_utils._certificate.certificate import Facts

NOW = datetime.datetime(2030, 6, 1, 12, 0, tzinfo=datetime.timezone.utc)
WANTED = Wanted(["mail.example.com", "imap.example.com"], "ecdsa", 397)


def days(number: float) -> datetime.timedelta:
    return datetime.timedelta(days=number)


def present(wanted: Wanted = WANTED, age: float = 100) -> t.Tuple[Facts, Facts]:
    """(CA, certificate), both made ``age`` days ago."""
    plan = own_ca.plan(wanted, NOW - days(age), None, None)
    return plan.authority, plan.certificate


def test_first_run_makes_both():
    plan = own_ca.plan(WANTED, NOW, None, None)
    assert plan.new_authority
    assert plan.new_certificate
    assert plan.certificate.names == WANTED.names
    assert plan.certificate.issuer == plan.authority.subject == "CN=mail.example.com CA 2030"
    assert plan.certificate.not_before < NOW
    assert plan.certificate.not_after == NOW + days(397)
    assert plan.authority.permitted == ["example.com"]


def test_second_run_keeps_both():
    authority, certificate = present()
    plan = own_ca.plan(WANTED, NOW, authority, certificate)
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
    plan = own_ca.plan(WANTED._replace(**change), NOW, authority, certificate)
    assert reason in plan.new_certificate
    assert plan.new_authority == ""
    assert plan.authority == authority


@pytest.mark.parametrize(("left", "renewed"), [(30.1, False), (30, False), (29.9, True), (0, True)])
def test_renewed_when_less_than_30_days_are_left(left, renewed):
    authority, certificate = present(age=397 - left)
    plan = own_ca.plan(WANTED, NOW, authority, certificate)
    assert bool(plan.new_certificate) == renewed
    assert plan.new_authority == ""


def test_order_of_further_names_does_not_matter():
    authority, certificate = present(WANTED._replace(names=["a.example.com", "b.example.com", "c.example.com"]))
    wanted = WANTED._replace(names=["a.example.com", "c.example.com", "b.example.com"])
    assert own_ca.plan(wanted, NOW, authority, certificate).new_certificate == ""


def test_ca_that_would_not_outlive_the_certificate_is_replaced_with_it():
    authority, certificate = present()
    authority = authority._replace(not_after=NOW + days(396))
    assert own_ca.plan(WANTED, NOW, authority, certificate).new_authority == ""
    plan = own_ca.plan(WANTED, NOW, authority, None)
    assert plan.new_authority == "the present one ends on 2031-07-02, before the new certificate would"
    assert plan.authority.not_after > plan.certificate.not_after


def test_ca_that_may_not_sign_for_a_name_is_replaced():
    authority, certificate = present()
    plan = own_ca.plan(WANTED._replace(names=["mail.example.org"]), NOW, authority, certificate)
    assert plan.new_authority == "the present one vouches for example.com, not for mail.example.org"
    assert plan.authority.permitted == ["example.org"]


def test_ca_that_clients_have_stays_and_names_elsewhere_are_left_out():
    authority, _certificate_of_it = present()
    names = [*WANTED.names, "autoconfig.example.org"]
    left, missing = own_ca.vouched_for(names, authority)
    assert left == WANTED.names
    assert list(missing) == ["autoconfig.example.org"]
    assert "vouches for example.com only" in missing["autoconfig.example.org"]
    # there is none yet, or there has to be another one anyway
    assert own_ca.vouched_for(names, None) == (names, {})
    assert own_ca.vouched_for(names[::-1], authority) == (names[::-1], {})


def test_ca_for_names_with_a_certificate_of_their_own():
    plan = own_ca.plan(WANTED._replace(others=["mail.example.org"]), NOW, None, None)
    assert plan.authority.permitted == ["example.com", "example.org"]
    # it has to outlive those, too
    authority, certificate = present()
    authority = authority._replace(not_after=NOW + days(396))
    assert own_ca.plan(WANTED, NOW, authority, certificate).new_authority == ""
    assert "ends on" in own_ca.plan(WANTED, NOW, authority, certificate, signs_others=True).new_authority


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
    assert own_ca.permitted_domains(names) == domains


@pytest.fixture(scope="module", params=["ecdsa", "rsa"])
def made(request):
    """(wanted, plan, CA, certificate, key), made by the OpenSSL at hand."""
    wanted = WANTED._replace(key_type=request.param)
    now = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0)
    plan = own_ca.plan(wanted, now, None, None)
    authority = own_ca.make_authority(wanted, plan.authority)
    return (wanted, plan, authority, *own_ca.make_certificate(wanted, plan.certificate, authority))


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
    again = own_ca.plan(wanted, now, certificates.facts(authority.certificate), certificates.facts(certificate))
    assert (again.new_authority, again.new_certificate) == ("", "")


def test_verifies_with_its_ca_only(made):
    wanted, plan, authority, certificate, key = made
    assert certificates.verifies(certificate, authority.certificate)
    assert certificates.usable(key + certificate)[:2] == ([certificate], key)
    other = own_ca.make_authority(wanted, plan.authority)
    assert not certificates.verifies(certificate, other.certificate)
    assert certificates.usable(other.key + certificate) is None


@pytest.mark.parametrize("name", ["mail.example.org", "example.org", "notexample.com"])
def test_ca_is_worth_nothing_for_other_domains(made, name):
    """Clients refuse what a stolen CA key would sign for other sites."""
    wanted, plan, authority, _certificate_pem, _key = made
    wanted = wanted._replace(names=[name])
    stolen, _ = own_ca.make_certificate(wanted, plan.certificate._replace(names=[name]), authority)
    assert not certificates.verifies(stolen, authority.certificate)


def test_name_too_long_for_a_subject():
    """A common name has 64 characters at most; subjectAltName alone names the host then."""
    name = f"{'a' * 60}.mail.example.com"
    wanted = WANTED._replace(names=[name])
    now = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0)
    plan = own_ca.plan(wanted, now, None, None)
    authority = own_ca.make_authority(wanted, plan.authority)
    certificate, _key = own_ca.make_certificate(wanted, plan.certificate, authority)
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
    authority = own_ca.make_authority(wanted, plan.authority)
    own_ca.make_certificate(wanted, plan.certificate, authority)
    assert len(seen) >= 6
    assert not [argv for argv in seen if "PRIVATE" in argv or "-----" in argv]
