# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Runs on the server: Python 3.6 and the standard library only.

"""Readers of /proc: listening sockets, processes, and their open files and locks."""

import os
import re
import socket
import sys
import typing as t


class Socket(t.NamedTuple):
    """A TCP socket that listens, or a UDP socket that receives from anywhere."""

    address: str  # 0.0.0.0 or ::, if it listens on all
    port: int
    inode: str

    @property
    def target(self) -> str:
        """Where the links in /proc/PID/fd lead to."""
        return f"socket:[{self.inode}]"


class Process(t.NamedTuple):
    pid: int
    name: str
    unit: str  # "" if systemd knows of none
    program: str  # the path of what it runs, "" if that can't be seen

    def __str__(self) -> str:
        return f"{self.name} (pid {self.pid}{', ' + self.unit if self.unit else ''})"


#: The process that holds something; if that is not visible, all candidates.
Holders = t.Tuple[Process, ...]


def read_text(path: str) -> str:
    """Empty if it is not there, or must not be read."""
    try:
        with open(path, encoding="utf-8", errors="replace") as handle:
            return handle.read()
    except OSError:
        return ""


# -- sockets ------------------------------------------------------------------------------------------------------


def parse_listening(text: str, state: str = "0A") -> t.List[Socket]:
    """The listening sockets of /proc/net/tcp or tcp6; with 07 the unconnected ones of udp or udp6."""
    found = []
    for field in _fields(text, state):
        address, _colon, port = field[1].rpartition(":")
        found.append(Socket(parse_address(address), int(port, 16), field[9]))
    return found


def _fields(text: str, state: str) -> t.Iterator[t.List[str]]:
    """The rows of /proc/net/tcp, udp and so on with the sockets in this state: 01 connected, 0A listening."""
    for line in text.splitlines()[1:]:
        field = line.split()
        if len(field) > 9 and field[3] == state:
            yield field


def _tables(root: str) -> t.Iterator[str]:
    """IPv4 first."""
    return (read_text(f"{root}proc/net/{name}") for name in ("tcp", "tcp6"))


def peers(root: str = "/") -> t.List[str]:
    """The addresses to which there are TCP connections."""
    fields = [field for table in _tables(root) for field in _fields(table, "01")]
    return sorted({parse_address(field[2].partition(":")[0]) for field in fields})


def parse_address(digits: str) -> str:
    """An address of /proc/net/tcp: words of 32 bits in this machine's byte order."""
    words = (bytes.fromhex(digits[start : start + 8]) for start in range(0, len(digits), 8))
    packed = b"".join(word[::-1] if sys.byteorder == "little" else word for word in words)
    return socket.inet_ntop(socket.AF_INET if len(packed) == 4 else socket.AF_INET6, packed)


def listening(root: str = "/") -> t.List[Socket]:
    """All TCP sockets that listen, those of IPv4 first."""
    return [found for table in _tables(root) for found in parse_listening(table)]


def receiving(root: str = "/") -> t.List[Socket]:
    """All UDP sockets that receive from anywhere, those of IPv4 first."""
    tables = (read_text(f"{root}proc/net/{name}") for name in ("udp", "udp6"))
    return [found for table in tables for found in parse_listening(table, "07") if found.port]


# -- processes ----------------------------------------------------------------------------------------------------


def parse_unit(cgroup: str) -> str:
    """The innermost systemd service of /proc/PID/cgroup, in cgroups of version 1 and 2."""
    for line in cgroup.splitlines():
        controllers, path = line.split(":", 2)[1:]
        if controllers in ("", "name=systemd"):
            services = [part for part in path.split("/") if part.endswith(".service")]
            if services:
                return services[-1]
    return ""


def _stat(root: str, pid: int) -> t.List[str]:
    return parse_stat(read_text(f"{root}proc/{pid}/stat"))


def parse_stat(text: str) -> t.List[str]:
    """The fields of /proc/PID/stat after the program's name, which may contain blanks and parentheses."""
    return text.rpartition(")")[2].split()


def _is_session_leader(root: str, pid: int) -> bool:
    return _stat(root, pid)[3:4] == [str(pid)]


def running_for(root: str, pid: int) -> float:
    """Seconds since a process was started; 0 if it has ended."""
    fields = _stat(root, pid)
    uptime = read_text(f"{root}proc/uptime").split()
    if len(fields) < 20 or not uptime:
        return 0.0
    return float(uptime[0]) - int(fields[19]) / os.sysconf("SC_CLK_TCK")


def _link(path: str) -> str:
    """Where a link leads to; empty if it is gone, as files and processes may be at any time."""
    try:
        return os.readlink(path)
    except FileNotFoundError:
        return ""


def _process(root: str, pid: int) -> Process:
    folder = f"{root}proc/{pid}"
    unit = parse_unit(read_text(f"{folder}/cgroup"))
    try:
        program = _link(f"{folder}/exe")
    except PermissionError:
        program = ""
    return Process(pid, read_text(f"{folder}/comm").strip(), unit, program)


def holders(root: str, targets: t.Iterable[str]) -> t.Dict[str, Holders]:
    """The processes that have each of these open (`socket:[1234]`).

    In a container even root may not look into a process that has changed its user, such as Postfix's master. What
    no other process has open, one of those has: a leader of a session, for daemons are that and their children are not.
    """
    left = set(targets)
    found: t.Dict[str, Holders] = {}
    hidden: t.List[Process] = []
    pids = sorted(int(name) for name in os.listdir(f"{root}proc") if name.isdigit())
    # init last: it has the sockets of .socket units open together with the daemon that answers on them.
    for pid in [pid for pid in pids if pid != 1] + [1]:
        if not left:
            break
        folder = f"{root}proc/{pid}/fd"
        try:
            opened = {_link(f"{folder}/{name}") for name in os.listdir(folder)}
        except PermissionError:
            if _is_session_leader(root, pid):
                hidden.append(_process(root, pid))
            continue
        except OSError:
            continue  # it has just ended
        found.update({target: (_process(root, pid),) for target in left & opened})
        left -= opened
    found.update({target: tuple(hidden) for target in left})
    return found


def lock_holders(root: str, paths: t.Iterable[str]) -> Holders:
    """The processes that have locked one of these files for writing, with fcntl()."""
    inodes = set()
    for path in paths:
        try:
            inodes.add(str(os.stat(path).st_ino))
        except OSError:
            continue
    locks = re.findall(r"POSIX\s+ADVISORY\s+WRITE\s+(\d+)\s+\w+:\w+:(\d+)\s", read_text(f"{root}proc/locks"))
    return tuple(_process(root, pid) for pid in sorted({int(pid) for pid, inode in locks if inode in inodes}))
