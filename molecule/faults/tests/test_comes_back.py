# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each daemon's main process is killed ten times in a row, and the daemon is back within five seconds every time."""

import typing as t

import killing
import pytest
from conftest import Vps

ASKED: killing.Asked = {
    "postfix": (25, "", "220 "),
    "dovecot": (143, "", "* OK"),
    "nginx": (80, "GET / HTTP/1.0\r\n\r\n", "HTTP/"),
    "rspamd": ("/var/spool/postfix/rspamd/milter.sock", "", ""),
    "port587-login-limits": (8587, "GET / HTTP/1.0\r\n\r\n", "HTTP/"),
    "port587-local-senders": (
        "/var/spool/postfix/port587/local-senders",
        "request=smtpd_access_policy\n\n",
        "action=",
    ),
    "port587-send-limits": ("/var/spool/postfix/port587/send-limits", "request=smtpd_access_policy\n\n", "action="),
}


@pytest.fixture(scope="module")
def took(vps: Vps) -> t.Dict[str, t.List[t.Optional[float]]]:
    """Seconds until it served again, each time."""
    return killing.seconds_away(vps.container, ASKED)


@pytest.mark.parametrize("daemon", ASKED)
def test_comes_back(took: t.Dict[str, t.List[t.Optional[float]]], daemon: str, record_property: t.Any) -> None:
    record_property("back after seconds", f"{daemon} {took[daemon]}")
    assert killing.came_back(took[daemon]), took[daemon]


def test_serves_afterwards(vps: Vps) -> None:
    vps.serves()


def test_what_systemctl_stops_stays_down(vps: Vps) -> None:
    vps.run("systemctl", "stop", "dovecot")
    assert vps.run("sh", "-c", "sleep 2; systemctl is-active dovecot", check=False).strip() == "inactive"
    vps.run("systemctl", "start", "dovecot")
    vps.serves()
