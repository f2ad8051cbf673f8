# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The script for Dovecot before 2.3: a mail to a person and to the person's alias is delivered once.

The Dovecot of the test hosts does so itself, except with details (dave+shop@): there it delivers the mail for each
address, as 2.2 does.
"""

import pathlib
import typing as t

import pytest
from testinfra.host import Host

SCRIPT = pathlib.Path(__file__).resolve().parents[3] / "roles/dovecot/files/etc/dovecot/once.sieve"
CONFIGURATION = "/etc/dovecot/dovecot.conf"
DAVE, DETAIL = "dave@example.com", "dave+shop@example.com"

BEFORE_24 = """
plugin {
  sieve_before2 = file:/etc/dovecot/once.sieve;bindir=/var/vmail/.sieve
}
"""
SINCE_24 = """
sieve_script once {
  type = before
  driver = file
  path = /etc/dovecot/once.sieve
  bin_path = /var/vmail/.sieve
}
"""


def append(host: Host, path: str, text: str) -> None:
    host.run_expect([0], f"cat >>{path} <<'END'\n{text}END")


@pytest.fixture(scope="module")
def account(host: Host) -> t.Iterator[None]:
    host.run_expect([0], "cp -p /etc/mail-accounts /root/")
    append(host, "/etc/mail-accounts", f"{DAVE}:{{PLAIN}}x::::::\n")
    yield
    host.run_expect([0], "cp -p /root/mail-accounts /etc/ && rm -r /var/vmail/example.com/dave")


@pytest.fixture
def script(host: Host) -> t.Iterator[None]:
    host.run_expect([0], f"cp -p {CONFIGURATION} /root/")
    append(host, "/etc/dovecot/once.sieve", SCRIPT.read_text(encoding="utf-8"))
    append(host, CONFIGURATION, SINCE_24 if host.check_output("dovecot --version").startswith("2.4") else BEFORE_24)
    host.run_expect([0], "doveadm reload")
    yield
    host.run_expect([0], f"cp -p /root/dovecot.conf {CONFIGURATION} && doveadm reload && rm /etc/dovecot/once.sieve")


def delivered(host: Host, *users: str) -> int:
    """The number of mails that one LMTP transaction for all of these delivers."""
    script = (
        "import smtplib; client = smtplib.LMTP('/run/dovecot/lmtp');"
        f"client.sendmail('me@example.net', {list(users)}, 'Message-ID: <same@example.net>\\r\\n\\r\\nHello\\r\\n')"
    )
    count = "find /var/vmail/example.com/dave -path '*/Maildir/*' -name '*,S=*' | wc -l"
    before = int(host.check_output(count))
    host.run_expect([0], f'runuser -u nobody -- python3 -c "{script}"')
    return int(host.check_output(count)) - before


def test_without_the_script_there_are_two(host: Host, account: None) -> None:
    """Otherwise the next test would prove nothing."""
    assert delivered(host, DAVE, DAVE) == 1
    assert delivered(host, DAVE, DETAIL) == 2


def test_with_the_script_there_is_one(host: Host, account: None, script: None) -> None:
    assert delivered(host, DAVE, DETAIL) == 1
    # the same mail, sent again, is another one: whoever resends it wants it to arrive
    assert delivered(host, DAVE, DETAIL) == 1
    assert delivered(host, DETAIL) == 1
    assert delivered(host, DAVE) == 1
