# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The policy service for send limits: its decisions, their duration, and its messages."""

import socket
import sqlite3
import threading
import time

import pytest
from ansible_collections.port587.mail.plugins.module_utils._inspect import postfix as inspected
from repository import program

send_limits = program("postfix", "send-limits")
Ledger, Server, Settings, answer = send_limits.Ledger, send_limits.Server, send_limits.Settings, send_limits.answer

EVE = "eve@example.com"
NOW = 1800000000.0
HOUR = 3600


@pytest.fixture
def ledger(tmp_path):
    ledger = Ledger.begin(str(tmp_path / "sent.sqlite"))
    yield ledger
    ledger.close()


def settings(*logins, **limits):
    return Settings(limits, logins)


def ask(ledger, settings, recipients, now=NOW, login=EVE):
    return answer({"sasl_username": login, "recipient_count": str(recipients)}, settings, ledger, now)


def test_recipients_are_counted(ledger):
    limits = settings(hour=5, day=8)
    assert [ask(ledger, limits, n) for n in (3, 2)] == ["DUNNO", "DUNNO"]
    assert ask(ledger, limits, 1).startswith(
        "450 4.7.1 Sending limit: eve@example.com may send to 5 recipients within one hour;"
    )


def test_a_mail_counts_whole_or_not_at_all(ledger):
    limits = settings(hour=5)
    assert ask(ledger, limits, 3) == "DUNNO"
    assert ask(ledger, limits, 3).startswith("450 ")
    assert ask(ledger, limits, 2) == "DUNNO"


def test_others_send_on(ledger):
    limits = settings(hour=1)
    assert [ask(ledger, limits, 1, login=login) for login in ("a@b.c", "d@e.f")] == ["DUNNO", "DUNNO"]


def test_the_hour_passes(ledger):
    """Each mail is forgotten an hour after it was sent, and the answer says when there is room for this one."""
    limits = settings(hour=5)
    ask(ledger, limits, 2, NOW)
    ask(ledger, limits, 3, NOW + 600)
    assert ask(ledger, limits, 2, NOW + 1200).endswith("; try again in 41 min")
    assert ask(ledger, limits, 3, NOW + 1200).endswith("; try again in 51 min")
    assert ask(ledger, limits, 2, NOW + HOUR - 1).startswith("450 ")
    assert ask(ledger, limits, 2, NOW + HOUR) == "DUNNO"


def test_the_limit_that_lasts_longest_is_named(ledger):
    limits = settings(hour=5, day=5)
    ask(ledger, limits, 5)
    assert "5 recipients within one day; try again in 1441 min" in ask(ledger, limits, 1)
    assert "within one day; try again in" in ask(ledger, limits, 1, NOW + HOUR)
    assert ask(ledger, limits, 1, NOW + 24 * HOUR) == "DUNNO"


def test_more_recipients_than_ever_allowed(ledger):
    """No wait would help, so the person is told so instead of being put off for ever."""
    assert (
        ask(ledger, settings(hour=5), 6)
        == "550 5.5.3 This mail has 6 recipients, and eve@example.com may send to 5 within one hour"
    )
    assert ask(ledger, settings(hour=5), 5) == "DUNNO"


def test_limits_of_certain_logins(ledger):
    limits = settings({"login": "News@example.com", "day": "3"}, {"login": "free@example.com"}, hour=1)
    assert ask(ledger, limits, 3, login="news@example.com") == "DUNNO"
    assert "3 recipients within one day" in ask(ledger, limits, 1, login="news@example.com")
    assert ask(ledger, limits, 1000, login="free@example.com") == "DUNNO"
    assert ask(ledger, limits, 2).startswith("550 ")


def test_no_limit_is_0(ledger):
    assert ask(ledger, settings(hour=0, day=7), 7) == "DUNNO"


@pytest.mark.parametrize("request_", [{}, {"sasl_username": "", "recipient_count": "9"}, {"sasl_username": EVE}])
def test_what_is_not_counted(ledger, request_):
    assert answer(request_, settings(hour=1), ledger, NOW) == "DUNNO"


def test_counts_survive_a_restart(tmp_path):
    for first in (True, False):
        ledger = Ledger.begin(str(tmp_path / "sent.sqlite"))
        assert ask(ledger, settings(hour=1), 1).startswith("DUNNO" if first else "450 ")
        ledger.close()


def test_what_is_old_is_removed(ledger):
    limits = settings(day=2)
    ask(ledger, limits, 1)
    ask(ledger, limits, 1, NOW + 24 * HOUR)
    assert len(ledger.sent(EVE, 0, NOW + 24 * HOUR)) == 1


def test_a_clock_that_was_wrong_once_locks_nobody_out(ledger):
    limits = settings(hour=2, day=3)
    assert ask(ledger, limits, 2, NOW + 365 * 24 * HOUR) == "DUNNO"
    assert ask(ledger, limits, 2) == "DUNNO"
    assert ask(ledger, limits, 1, NOW + 1).startswith("450 ")
    # what was from the future is gone
    assert ask(ledger, limits, 2, NOW + 365 * 24 * HOUR + 1) == "DUNNO"


#: What may have become of a file.
DAMAGES = {
    "zeros": lambda content: bytes(len(content)),
    "garbage": lambda content: b"no database" * 500,
    "half": lambda content: content[: len(content) // 2],
    "a page of zeros": lambda content: content[:4096] + bytes(4096) + content[8192:],
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_begun_anew(tmp_path, capsys, damage):
    path = tmp_path / "sent.sqlite"
    ledger = Ledger.begin(str(path))
    for number in range(500):
        ask(ledger, settings(hour=1), 1, login="login%d@example.com" % number)
    ledger.close()
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    ledger = Ledger.begin(str(path))
    assert ask(ledger, settings(hour=1), 1) == "DUNNO"
    assert ask(ledger, settings(hour=1), 1).startswith("450 ")
    assert str(path) in capsys.readouterr().err
    ledger.close()


def test_a_file_of_another_version_is_begun_anew(tmp_path, capsys):
    path = tmp_path / "sent.sqlite"
    other = sqlite3.connect(str(path))
    other.execute("CREATE TABLE sent (login TEXT, at REAL, messages INTEGER)")
    other.close()
    ledger = Ledger.begin(str(path))
    assert ask(ledger, settings(hour=1), 1) == "DUNNO"
    assert str(path) in capsys.readouterr().err
    ledger.close()


def test_who_is_at_the_limit(ledger):
    limits = settings({"login": "free@example.com"}, hour=2, day=9)
    for login in (EVE, "free@example.com"):
        ask(ledger, limits, 2, login=login)
    ask(ledger, limits, 1, login="a@example.com")
    assert send_limits.at_limit(limits, ledger, NOW) == ["eve@example.com: 2 recipients within one hour"]
    assert send_limits.at_limit(limits, ledger, NOW + HOUR) == []


@pytest.fixture
def server(tmp_path, ledger):
    server = Server(str(tmp_path / "socket"), settings(hour=1), ledger)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def talk(server, *requests):
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(5)
        connection.connect(server.server_address)
        with connection.makefile("rb") as answers:
            for request in requests:
                connection.sendall(request)
                yield answers.readline()
                assert answers.readline() == b"\n"


REQUEST = b"request=smtpd_access_policy\nsasl_username=eve@example.com\nrecipient_count=1\nccert_subject=a=b\n\n"


def test_as_postfix_asks(server):
    """Several requests over one connection, and several connections."""
    first, second = talk(server, REQUEST, REQUEST)
    assert first == b"action=DUNNO\n"
    assert second.startswith(b"action=450 4.7.1 Sending limit: eve@example.com may send to 1 ")
    assert list(talk(server, REQUEST)) == [second]


def test_verify_asks_who_is_at_the_limit(server, ledger, monkeypatch):
    assert inspected.SEND_LIMITS == send_limits.SOCKET
    monkeypatch.setattr(inspected, "SEND_LIMITS", server.server_address)
    assert inspected.at_limit() == []
    ledger.add(EVE, 1, time.time())
    assert inspected.at_limit() == ["eve@example.com: 1 recipients within one hour"]
    ledger.database.execute("DROP TABLE sent")
    assert inspected.at_limit() is None
    monkeypatch.setattr(inspected, "SEND_LIMITS", server.server_address + ".gone")
    assert inspected.at_limit() is None


def test_what_goes_wrong_stops_no_mail(server, ledger, capsys):
    ledger.database.execute("DROP TABLE sent")
    assert list(talk(server, REQUEST, REQUEST.replace(b"=1\n", b"=x\n"))) == [b"action=DUNNO\n"] * 2
    assert "not counted" in capsys.readouterr().err
