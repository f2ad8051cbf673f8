# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""300 sessions of 30 users wait for mail (IDLE), and each is notified of new mail at once."""

import asyncio
import fcntl
import os
import pathlib
import ssl
import time
import typing as t

import pytest
from controller import play
from testinfra.host import Host

SCENARIO = pathlib.Path(os.environ["MOLECULE_SCENARIO_DIRECTORY"])
PEOPLE = 30
#: Of each, more than Dovecot's own limit lets one address have.
SESSIONS = 12
TOGETHER = 300
SECONDS = 2.0
LIMIT = "/proc/sys/fs/inotify/max_user_instances"
TREE = "/etc/sysctl.d/10-port587-dovecot.conf"


class Waiting:
    """A session of a mail client that waits for mail (IDLE)."""

    def __init__(self, user: str) -> None:
        self.user = user
        self.reader: t.Any = None
        self.writer: t.Any = None

    async def until(self, word: bytes, seconds: float = 60) -> bytes:
        while True:
            line = await asyncio.wait_for(self.reader.readline(), seconds)
            assert line, self.user
            assert not [no for no in (b" NO ", b" BAD ", b"* BYE") if no in line], (self.user, line)
            if word in line:
                return bytes(line)

    async def begin(self, address: str, context: ssl.SSLContext, name: str) -> None:
        self.reader, self.writer = await asyncio.open_connection(address, 993, ssl=context, server_hostname=name)
        await self.until(b"* OK")
        for command, answer in (
            (f"a LOGIN {self.user} secret", b"a OK"),
            ("b SELECT INBOX", b"b OK"),
            ("c IDLE", b"+ "),
        ):
            self.writer.write(command.encode() + b"\r\n")
            await self.until(answer)


@pytest.fixture
def kernel(host: Host) -> t.Iterator[None]:
    """As on a VPS, its limits may be set. All containers have one kernel: one at a time, and it is put back."""
    with open(SCENARIO / "molecule.yml", "rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        before = host.check_output(f"cat {LIMIT}")
        host.check_output("mount -o remount,bind,rw /proc/sys")
        yield
        # processes that wait for the next session keep what they have of the limit, which the next container needs
        host.check_output("systemctl restart dovecot")
        host.check_output(f"echo {before} > {LIMIT}; mount -o remount,bind,ro /proc/sys")


@pytest.fixture
def people(host: Host) -> t.Iterator[t.List[str]]:
    """They log in with passwords in clear, which cost nothing to check."""
    users = [f"person{number}@example.com" for number in range(PEOPLE)]
    accounts = "".join(f"{user}:{{PLAIN}}secret::::::\\n" for user in users)
    host.check_output(f"cp -p /etc/mail-accounts /root/mail-accounts; printf '{accounts}' >> /etc/mail-accounts")
    yield users
    host.check_output("cp -p /root/mail-accounts /etc/mail-accounts")


def test_new_mail_is_seen_at_once(host: Host, kernel: None, people: t.List[str], record_property: t.Any) -> None:
    variables = host.ansible.get_variables()
    # the file is new again, and so is the limit
    host.check_output(f"rm {TREE}")
    done = play(SCENARIO / "converge.yml", variables["inventory_hostname"])
    assert done.code == 0, done.output
    assert "may not raise it" not in done.output
    context = ssl.create_default_context(cadata=host.check_output("openssl x509 -in /etc/ssl/private/mail.pem"))

    async def together() -> t.Tuple[float, float]:
        # the first one has more than ten
        sessions = [Waiting(people[0]) for _ in range(SESSIONS)]
        sessions += [Waiting(people[number % PEOPLE]) for number in range(1, TOGETHER - SESSIONS + 1)]
        assert len(sessions) == TOGETHER
        began = time.monotonic()
        for some in range(0, TOGETHER, 20):
            beginning = sessions[some : some + 20]
            await asyncio.gather(
                *(one.begin(variables["ansible_host"], context, variables["mail_hostname"]) for one in beginning)
            )
        ready = time.monotonic() - began
        last = sessions[-1]
        began = time.monotonic()
        deliver = (
            "import smtplib, time; client = smtplib.LMTP('/run/dovecot/lmtp');"
            f"client.sendmail('me@example.net', '{last.user}', 'Subject: new\\r\\n\\r\\nHello\\r\\n');"
            "print(time.time())"
        )
        command = f'python3 -c "{deliver}"'
        delivered = float(await asyncio.get_running_loop().run_in_executor(None, host.check_output, command))
        await last.until(b"EXISTS")
        seen = time.time() - delivered
        for one in sessions:
            one.writer.close()
        return ready, seen

    ready, seen = asyncio.run(together())
    record_property("sessions", f"{TOGETHER} wait after {ready:.1f} s; new mail seen after {seen:.2f} s")
    assert seen < SECONDS
    log = host.check_output("journalctl --quiet --output=cat --since=-5min SYSLOG_FACILITY=2").splitlines()
    assert [line for line in log if "notify" in line or "_limit" in line or "Maximum number of" in line] == []
