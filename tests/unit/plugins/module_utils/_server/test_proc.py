# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Parsing of /proc: sockets, the units of processes, and locks."""

import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.port587.mail.plugins.module_utils._server import apt, proc

TCP = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:0019 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 172631 1 0 100 0 0 10 0
   1: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 167646 1 0 100 0 0 10 0
   4: 030011AC:0019 010011AC:BB46 01 00000000:00000000 02:000AEB43 00000000     0        0 170091 2 0 21 4 31 49 -1
"""
TCP6 = """\
  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when
   0: 00000000000000000000000000000000:03E1 00000000000000000000000000000000:0000 0A 0:0 00:0 0     0        0 175 1 0
"""


def test_listening_sockets_only() -> None:
    assert proc.parse_listening(TCP) == [("127.0.0.1", 25, "172631"), ("0.0.0.0", 22, "167646")]
    assert proc.parse_listening(TCP6) == [("::", 993, "175")]


@pytest.mark.parametrize(
    ("digits", "address"),
    [
        ("00000000", "0.0.0.0"),
        ("0100007F", "127.0.0.1"),
        ("0202000A", "10.0.2.2"),
        ("0" * 32, "::"),
        ("0" * 24 + "01000000", "::1"),
        ("000080FE00000000FF565002BD69B1FE", "fe80::250:56ff:feb1:69bd"),
    ],
)
def test_addresses(monkeypatch: pytest.MonkeyPatch, digits: str, address: str) -> None:
    monkeypatch.setattr(proc.sys, "byteorder", "little")
    assert proc.parse_address(digits) == address


@pytest.mark.parametrize(
    ("cgroup", "unit"),
    [
        ("0::/system.slice/exim4.service\n", "exim4.service"),
        ("0::/docker/a6a8/system.slice/system-postfix.slice/postfix@-.service\n", "postfix@-.service"),
        ("9:name=systemd:/\n4:memory:/x.service\n0::/docker/a6/system.slice/exim4.service\n", "exim4.service"),
        ("1:name=systemd:/system.slice/dovecot.service\n", "dovecot.service"),
        ("0::/user.slice/user-0.slice/session-3.scope\n", ""),
        ("", ""),
    ],
)
def test_unit(cgroup: str, unit: str) -> None:
    assert proc.parse_unit(cgroup) == unit


def test_a_program_with_parentheses_in_its_name() -> None:
    assert proc.parse_stat("56 (a) (b c) S 1 55 54 0 -1 4194560")[:4] == ["S", "1", "55", "54"]
    assert proc.parse_stat("") == []


def test_who_locks_apt(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    lock.touch()
    monkeypatch.setattr(apt, "LOCKS", (str(lock),))
    script = (
        "import fcntl, sys, time\n"
        "opened = open(sys.argv[1], 'w')\n"
        "fcntl.lockf(opened, fcntl.LOCK_EX)\n"
        "print(flush=True)\n"
        "time.sleep(60)\n"
    )
    with lock.open("w"), subprocess.Popen([sys.executable, "-c", script, str(lock)], stdout=subprocess.PIPE) as other:
        assert other.stdout
        other.stdout.readline()
        found = apt.users()
        other.kill()
        other.wait()
        # having the file open is no lock
        assert apt.users() == ()
    assert [process.pid for process in found] == [other.pid]
