# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Hashing with the machine's real libraries; the scenario `accounts` tests that Dovecot accepts the hashes."""

import pathlib
import typing as t

import pytest
from ansible_collections.port587.mail.plugins.module_utils._accounts import passwords as account_passwords
from ansible_collections.port587.mail.plugins.module_utils._accounts import read as read_accounts

NOBODY = account_passwords.Recognised("/nonexistent", None)
PASSWORDS = ["a", " blanks ", '%d " : \\ $', "Grüße ☃", "x" * 72 + "A", "x" * 511]


@pytest.fixture(params=account_passwords.SCHEMES, ids=account_passwords.NAMES)
def scheme(request: pytest.FixtureRequest) -> account_passwords.Scheme:
    found = request.param()
    if not found.usable():
        pytest.skip("the library of %s is not on this machine" % found.name)
    return t.cast(account_passwords.Scheme, found)


@pytest.mark.parametrize("password", PASSWORDS)
def test_a_hash_verifies_its_password_and_no_other(scheme: account_passwords.Scheme, password: str) -> None:
    data = scheme.hash(password.encode())
    assert scheme.verify(password.encode(), data)
    for other in (password[:-1], password + "x", password[:-1] + "B", password.upper() + "!"):
        assert not scheme.verify(other.encode(), data)


def test_the_same_password_never_gets_the_same_hash(scheme: account_passwords.Scheme) -> None:
    assert scheme.hash(b"secret") != scheme.hash(b"secret")


def test_what_is_made_is_what_may_be_given(scheme: account_passwords.Scheme) -> None:
    made = "{%s}%s" % (scheme.name, scheme.hash(b"secret").decode())
    accounts = [{"address": "eve@example.com", "password_hash": made}]
    assert read_accounts.read(["example.com"], accounts, [], "", "")[1] == []


@pytest.mark.parametrize(
    "data", ["", "$6$", "$6$rounds=50000$", "*0", "nonsense", "$argon2id$", "$argon2id$" + "x" * 200]
)
def test_a_broken_hash_verifies_nothing(scheme: account_passwords.Scheme, data: str) -> None:
    assert not scheme.verify(b"", data.encode())
    assert not scheme.verify(b"secret", data.encode())


def test_unchanged_passwords_keep_their_hash(scheme: account_passwords.Scheme) -> None:
    passwords = {"eve": "secret", "bob": "other"}
    first = account_passwords.hashes(scheme, passwords, {}, NOBODY)
    assert account_passwords.hashes(scheme, passwords, first, NOBODY) == first
    second = account_passwords.hashes(scheme, dict(passwords, eve="changed", kim="new"), first, NOBODY)
    assert second["bob"] == first["bob"]
    assert second["eve"] != first["eve"]
    assert sorted(second) == ["bob", "eve", "kim"]


def test_a_hash_of_another_scheme_is_made_anew(scheme: account_passwords.Scheme) -> None:
    made = account_passwords.hashes(scheme, {"eve": "secret"}, {"eve": "{OTHER}secret"}, NOBODY)["eve"]
    assert made.startswith("{%s}$" % scheme.name)


class Counting(account_passwords.Scheme):
    """Takes note of what it is asked."""

    name = "COUNTING"

    def __init__(self) -> None:
        self.verified = []  # type: t.List[bytes]
        self.made = 0

    def hash(self, password: bytes) -> bytes:
        self.made += 1
        return b"%d/%s" % (self.made, password[::-1])

    def verify(self, password: bytes, data: bytes) -> bool:
        self.verified.append(password)
        return data.endswith(b"/" + password[::-1])


def test_a_recognised_password_is_not_asked_of_its_hash(tmp_path: pathlib.Path) -> None:
    file = tmp_path / "state" / "fingerprints"

    def run(passwords: t.Dict[str, str], existing: t.Dict[str, str], key: t.Optional[str]) -> t.Tuple[t.Any, Counting]:
        scheme, recognised = Counting(), account_passwords.Recognised(str(file), key)
        found = account_passwords.hashes(scheme, passwords, existing, recognised)
        recognised.save()
        return found, scheme

    people = {"eve": "secret", "bob": "other", "kim": "secret"}
    first, scheme = run(people, {}, "key")
    assert (len(scheme.verified), scheme.made) == (0, 3)
    second, scheme = run(people, first, "key")
    assert (second, scheme.verified, scheme.made) == (first, [], 0)
    # only those of whom something is new
    third, scheme = run(dict(people, eve="changed", new="new"), first, "key")
    assert (scheme.verified, scheme.made) == ([b"changed"], 2)
    # changed on the server, so what is remembered is of another hash
    _, scheme = run(dict(people, eve="changed", new="new"), dict(third, bob="{COUNTING}9/x"), "key")
    assert (scheme.verified, scheme.made) == ([b"other"], 1)

    # who has another key, or none, learns nothing and has to ask
    for key in ("another", None):
        found, scheme = run(people, first, key)
        assert (found, sorted(scheme.verified)) == (first, [b"other", b"secret", b"secret"])


def test_what_is_remembered_says_nothing(tmp_path: pathlib.Path) -> None:
    recognised = account_passwords.Recognised(str(tmp_path / "fingerprints"), "key")
    for stored in ("{X}1", "{X}2"):
        recognised.remember(b"secret", stored)
    recognised.save()
    lines = (tmp_path / "fingerprints").read_text().splitlines()
    # the same password twice is not to be seen
    assert len(set(lines)) == 2
    assert all(len(line) == 64 and "secret" not in line for line in lines)
    assert (tmp_path / "fingerprints").stat().st_mode & 0o777 == 0o600


def test_choice() -> None:
    def name(wanted: str, known: t.List[str]) -> t.Optional[str]:
        scheme = account_passwords.choose(wanted, known)
        return scheme.name if scheme else None

    everything = ["ARGON2ID", "SHA512-CRYPT", "BLF-CRYPT"]
    if account_passwords.Argon2id().usable():
        assert name("auto", everything) == "ARGON2ID"
    # Dovecot 2.2 as Ubuntu 18.04 has it
    assert name("auto", ["SHA512-CRYPT", "BLF-CRYPT"]) == "SHA512-CRYPT"
    assert name("SHA512-CRYPT", everything) == "SHA512-CRYPT"
    assert name("ARGON2ID", ["SHA512-CRYPT"]) is None
    assert name("auto", ["BLF-CRYPT"]) is None


def test_without_the_library_the_next_scheme_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(account_passwords.Argon2id, "usable", lambda self: False)
    scheme = account_passwords.choose("auto", ["ARGON2ID", "SHA512-CRYPT"])
    assert scheme is not None
    assert scheme.name == "SHA512-CRYPT"
