# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Hashing with the machine's real libraries; that Dovecot takes the hashes is shown by the scenario `accounts`."""

import typing as t

import pytest
from ansible_collections.port587.mail.plugins.module_utils import _accounts, _passwords

PASSWORDS = ["a", " blanks ", '%d " : \\ $', "Grüße ☃", "x" * 72 + "A", "x" * 511]


@pytest.fixture(params=_passwords.SCHEMES, ids=_passwords.NAMES)
def scheme(request: pytest.FixtureRequest) -> _passwords.Scheme:
    found = request.param()
    if not found.usable():
        pytest.skip("the library of %s is not on this machine" % found.name)
    return t.cast(_passwords.Scheme, found)


@pytest.mark.parametrize("password", PASSWORDS)
def test_a_hash_verifies_its_password_and_no_other(scheme: _passwords.Scheme, password: str) -> None:
    data = scheme.hash(password.encode())
    assert scheme.verify(password.encode(), data)
    for other in (password[:-1], password + "x", password[:-1] + "B", password.upper() + "!"):
        assert not scheme.verify(other.encode(), data)


def test_the_same_password_never_gets_the_same_hash(scheme: _passwords.Scheme) -> None:
    assert scheme.hash(b"secret") != scheme.hash(b"secret")


def test_what_is_made_is_what_may_be_given(scheme: _passwords.Scheme) -> None:
    made = "{%s}%s" % (scheme.name, scheme.hash(b"secret").decode())
    accounts = [{"address": "eve@example.com", "password_hash": made}]
    assert _accounts.problems(["example.com"], accounts, [], "", "") == []


@pytest.mark.parametrize(
    "data", ["", "$6$", "$6$rounds=50000$", "*0", "nonsense", "$argon2id$", "$argon2id$" + "x" * 200]
)
def test_a_broken_hash_verifies_nothing(scheme: _passwords.Scheme, data: str) -> None:
    assert not scheme.verify(b"", data.encode())
    assert not scheme.verify(b"secret", data.encode())


def test_unchanged_passwords_keep_their_hash(scheme: _passwords.Scheme) -> None:
    passwords = {"eve": "secret", "bob": "other"}
    first = _passwords.hashes(scheme, passwords, {})
    assert _passwords.hashes(scheme, passwords, first) == first
    second = _passwords.hashes(scheme, dict(passwords, eve="changed", kim="new"), first)
    assert second["bob"] == first["bob"]
    assert second["eve"] != first["eve"]
    assert sorted(second) == ["bob", "eve", "kim"]


def test_a_hash_of_another_scheme_is_made_anew(scheme: _passwords.Scheme) -> None:
    made = _passwords.hashes(scheme, {"eve": "secret"}, {"eve": "{OTHER}secret"})["eve"]
    assert made.startswith("{%s}$" % scheme.name)


def test_choice() -> None:
    def name(wanted: str, known: t.List[str]) -> t.Optional[str]:
        scheme = _passwords.choose(wanted, known)
        return scheme.name if scheme else None

    everything = ["ARGON2ID", "SHA512-CRYPT", "BLF-CRYPT"]
    if _passwords.Argon2id().usable():
        assert name("auto", everything) == "ARGON2ID"
    # Dovecot 2.2 as Ubuntu 18.04 has it
    assert name("auto", ["SHA512-CRYPT", "BLF-CRYPT"]) == "SHA512-CRYPT"
    assert name("SHA512-CRYPT", everything) == "SHA512-CRYPT"
    assert name("ARGON2ID", ["SHA512-CRYPT"]) is None
    assert name("auto", ["BLF-CRYPT"]) is None


def test_without_the_library_the_next_scheme_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_passwords.Argon2id, "usable", lambda self: False)
    scheme = _passwords.choose("auto", ["ARGON2ID", "SHA512-CRYPT"])
    assert scheme is not None
    assert scheme.name == "SHA512-CRYPT"
