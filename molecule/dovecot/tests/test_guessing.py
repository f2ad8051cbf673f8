# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Thirty connections from one address guess passwords: few are checked, and other users do not have to wait."""

import asyncio
import itertools
import ssl
import statistics
import time
import typing as t

import pytest
from test_dovecot import EVE, PASSWORD
from testinfra.host import Host

CONNECTIONS = 30
SECONDS = 15.0
#: dovecot_login_limit, and what was on its way when that was reached
MOST = 60 + CONNECTIONS


class Client:
    """Logs in over IMAP, again and again, if need be with a new connection."""

    def __init__(self, address: str, context: ssl.SSLContext, name: str) -> None:
        self.address, self.context, self.name = address, context, name
        self.reader: t.Any = None
        self.writer: t.Any = None

    async def log_in(self, password: str) -> bytes:
        """The answer; empty if the server hangs up instead."""
        if self.writer is None:
            self.reader, self.writer = await asyncio.open_connection(
                self.address, 993, ssl=self.context, server_hostname=self.name
            )
            await self.reader.readline()
        self.writer.write(f'a LOGIN {EVE} "{password}"\r\n'.encode())
        while True:
            line: bytes = await asyncio.wait_for(self.reader.readline(), 30)
            if not line:
                self.writer.close()
                self.writer = None
            if not line or line.startswith(b"a "):
                return line


@pytest.fixture
def connect(host: Host) -> t.Callable[[str], Client]:
    variables = host.ansible.get_variables()
    context = ssl.create_default_context(cadata=host.check_output("openssl x509 -in /etc/ssl/private/mail.pem"))
    return lambda which: Client(variables[which], context, variables["mail_hostname"])


async def guess(client: Client, numbers: t.Iterator[int], end: float, answers: t.List[bytes]) -> None:
    while time.monotonic() < end:
        answers.append(await client.log_in(f"guess {next(numbers)}"))


async def under_attack(connect: t.Callable[[str], Client], slowest: t.List[float]) -> t.List[bytes]:
    """What the guesses were answered; meanwhile others log in from elsewhere."""
    answers: t.List[bytes] = []
    end = time.monotonic() + SECONDS
    numbers = itertools.count()
    guessing = [asyncio.create_task(guess(connect("vps_ipv6"), numbers, end, answers)) for _ in range(CONNECTIONS)]
    while time.monotonic() < end:
        began = time.monotonic()
        assert (await connect("ansible_host").log_in(PASSWORD)).startswith(b"a OK")
        slowest.append(time.monotonic() - began)
        await asyncio.sleep(0.3)
    await asyncio.gather(*guessing)
    return answers


def test_guessing(host: Host, connect: t.Callable[[str], Client], record_property: t.Any) -> None:
    host.check_output("systemctl restart port587-login-limits; until ss -lnt | grep -q :8587; do sleep 0.1; done")
    # somebody is behind the same router
    assert asyncio.run(connect("vps_ipv6").log_in(PASSWORD)).startswith(b"a OK")
    took: t.List[float] = []
    answers = asyncio.run(under_attack(connect, took))
    looked_at = [answer for answer in answers if b"AUTHENTICATIONFAILED" in answer]
    put_off = [answer for answer in answers if b"Too many wrong logins" in answer]
    record_property("guesses", f"{len(looked_at)} looked at, {len(put_off)} not; logins took up to {max(took):.1f} s")
    assert 0 < len(looked_at) <= MOST
    assert put_off
    assert statistics.median(took) < 3
    # and still logs in
    assert asyncio.run(connect("vps_ipv6").log_in(PASSWORD)).startswith(b"a OK")
    assert b"Too many wrong logins" in asyncio.run(connect("vps_ipv6").log_in("another guess"))


def test_nobody_else_is_asked(host: Host) -> None:
    """Programs on the server could keep people out by false reports."""
    forged = 'urllib.request.urlopen("http://127.0.0.1:8587/?command=report", b"{}")'
    said = host.run("runuser -u nobody -- python3 -c %s", f"import urllib.request; {forged}")
    assert "403" in said.stderr


def test_logins_go_on_where_nobody_counts(host: Host, connect: t.Callable[[str], Client]) -> None:
    host.check_output("systemctl stop port587-login-limits")
    try:
        assert asyncio.run(connect("ansible_host").log_in(PASSWORD)).startswith(b"a OK")
    finally:
        host.check_output("systemctl start port587-login-limits")
