# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The limit of wrong logins per address."""

import pytest
from repository import program

login_limits = program("dovecot", "login-limits")
Ledger, network_of, owner_of = login_limits.Ledger, login_limits.network_of, login_limits.owner_of

HERE, THERE = "192.0.2.1", "192.0.2.2"
ALICE = ("alice@example.com", "a1b")


@pytest.fixture
def ledger() -> Ledger:
    """Three wrong logins were tried from one address."""
    ledger = Ledger(3)
    for number in range(3):
        ledger.report(HERE, (ALICE[0], str(number)), False, 1000.0 + number)
    return ledger


def test_another_wrong_login_is_not_looked_at(ledger: Ledger) -> None:
    assert ledger.wait(HERE, ALICE, 1003.0) is None
    assert ledger.wait(THERE, ALICE, 1003.0) == 0
    # the first is forgotten by then
    assert ledger.wait(HERE, ALICE, 1001.0 + login_limits.WINDOW) == 0


def test_who_was_let_in_before_still_is() -> None:
    ledger = Ledger(3)
    ledger.report(HERE, ALICE, True, 999.0)
    for number in range(9):
        ledger.report(HERE, ("bob@example.com", str(number)), False, 1000.0)
    assert ledger.wait(HERE, ALICE, 1001.0) == 0
    assert ledger.wait(HERE, ("bob@example.com", "another"), 1001.0) is None
    # only some bits of the password are known: what failed may have been another one
    ledger.report(HERE, ALICE, False, 1002.0)
    assert ledger.wait(HERE, ALICE, 1003.0) == 0


def test_an_old_password_counts_once() -> None:
    ledger = Ledger(3)
    for number in range(login_limits.REPEATS):
        assert ledger.wait(HERE, ALICE, 1000.0 + number) == 0
        ledger.report(HERE, ALICE, False, 1000.0 + number)
    assert ledger.wait(HERE, ALICE, 1100.0) is None
    assert ledger.wait(HERE, ("bob@example.com", "right"), 1100.0) == 0


def test_many_at_once_wait_for_their_turn() -> None:
    ledger = Ledger(3)
    ledger.report(HERE, ALICE, True, 999.0)
    waits = [ledger.wait(HERE, ("bob@example.com", str(number)), 1000.0) for number in range(200)]
    assert waits[:11] == [0] * 5 + [1] * 5 + [2]
    assert waits[-1] is None
    assert max(seconds for seconds in waits if seconds is not None) in (
        login_limits.PATIENCE - 1,
        login_limits.PATIENCE,
    )
    # those that are known don't, and others are not concerned
    assert ledger.wait(HERE, ALICE, 1000.0) == 0
    assert ledger.wait(THERE, ("bob@example.com", "1"), 1000.0) == 0


def test_each_wrong_login_is_reported_once() -> None:
    ledger = Ledger(60)
    said = [ledger.report("2001:db8:1:2:3::4", (ALICE[0], str(number // 2)), False, 1000.0) for number in range(4)]
    assert said == [["wrong login from 2001:db8:1:2::"], [], ["wrong login from 2001:db8:1:2::"], []]


def test_wrong_logins_are_not_reported_where_somebody_is_let_in() -> None:
    ledger = Ledger(60)
    ledger.report(HERE, ("bob@example.com", "right"), True, 1000.0)
    assert ledger.report(HERE, (ALICE[0], "1"), False, 1001.0) == []
    later = 1001.0 + login_limits.LATELY
    assert ledger.report(HERE, (ALICE[0], "2"), False, later) == [f"wrong login from {HERE}"]
    assert ledger.report("127.0.0.1", (ALICE[0], "3"), False, later) == []


def test_an_account_that_many_addresses_guess_at() -> None:
    """A try a minute from each of 400 addresses, for two hours: the second has few guesses more."""
    ledger = Ledger(60)
    ledger.report(HERE, ALICE, True, 0.0)
    looked_at, lines = [], []
    for minute in range(120):
        for number in range(400):
            now, remote = 60.0 * minute + number / 10, f"198.51.{number // 200}.{number % 200}"
            login = (ALICE[0], f"{minute} {number}")
            if ledger.wait(remote, login, now) is not None:
                looked_at.append(now)
                lines += ledger.report(remote, login, False, now)
    in_the_second_hour = [when for when in looked_at if when >= 3600]
    assert len(in_the_second_hour) <= 3600 / login_limits.A_GUESS + 1
    assert lines.count('60 wrong logins of "alice@example.com" within an hour') == 1
    # the owner, where she has logged in before; and others anywhere
    assert ledger.wait(HERE, (ALICE[0], "mistyped"), 7200.0) == 0
    assert ledger.wait(THERE, ("bob@example.com", "right"), 7200.0) == 0


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(login_limits, "ADDRESSES", 10)
    monkeypatch.setattr(login_limits, "LOGINS", 10)
    monkeypatch.setattr(login_limits, "ACCOUNTS", 10)
    ledger = Ledger(3)
    for number in range(50):
        ledger.report(HERE, (f"{number}@example.com", "x"), True, 1000.0)
        ledger.report(HERE, ALICE, False, 1000.0)
        ledger.report(f"198.51.100.{number}", (f"{number}@example.com", "y"), False, 1000.0)
    assert len(ledger.addresses) == len(ledger.accounts) == 10
    assert all(len(known.right) <= 10 and len(known.wrong) <= 3 for known in ledger.addresses.values())


@pytest.mark.parametrize(
    ("remote", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        # this machine itself, and what is no address
        ("127.0.0.1", ""),
        ("::1", ""),
        ("", ""),
    ],
)
def test_who_counts_as_one(remote: str, network: str) -> None:
    assert network_of(remote) == network
    ledger = Ledger(0)
    ledger.report(remote, ALICE, False, 1000.0)
    assert (ledger.wait(remote, ("bob", "x"), 1000.0) is None) is bool(network)


def test_whose_socket_it_is() -> None:
    table = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:2193 00000000:0000 0A 00000000:00000000 00:00000000 00000000 61184        0 11
   1: 0100007F:C001 0100007F:2193 01 00000000:00000000 00:00000000 00000000   108        0 12
"""
    assert owner_of(0xC001, table) == 108
    assert owner_of(0xC002, table) is None
