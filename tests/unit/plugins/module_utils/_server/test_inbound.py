# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a firewall has to leave open."""

import pathlib
import struct
import typing as t

import pytest
from ansible_collections.port587.mail.plugins.module_utils._server import inbound

HEADER = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"


def row(address: str, port: int, state: str, inode: int) -> str:
    zeros = "0" * len(address)
    return "   0: %s:%04X %s:0000 %s 00000000:00000000 00:00000000 00000000     0        0 %d 1\n" % (
        address,
        port,
        zeros,
        state,
        inode,
    )


ANYWHERE, ANYWHERE6, LOOPBACK = "00000000", "0" * 32, "0100007F"


class Machine:
    """A /proc of our own."""

    def __init__(self, root: pathlib.Path) -> None:
        self.path = root
        self.root = "%s/" % root
        (root / "proc" / "net").mkdir(parents=True)
        self.tables: t.Dict[str, str] = {}

    def process(self, pid: int, name: str, unit: str, inodes: t.Sequence[int], parent: int = 1, env: str = "") -> None:
        folder = self.path / "proc" / str(pid)
        (folder / "fd").mkdir(parents=True)
        (folder / "comm").write_text(name + "\n")
        (folder / "cgroup").write_text("0::/system.slice/%s\n" % unit)
        (folder / "stat").write_text("%d (%s) S %d 1 1\n" % (pid, name, parent))
        (folder / "environ").write_text(env)
        for number, inode in enumerate(inodes):
            (folder / "fd" / str(number)).symlink_to("socket:[%d]" % inode)

    def socket(self, table: str, address: str, port: int, inode: int, state: str = "") -> None:
        state = state or ("0A" if table.startswith("tcp") else "07")
        self.tables[table] = self.tables.get(table, HEADER) + row(address, port, state, inode)
        (self.path / "proc" / "net" / table).write_text(self.tables[table])


@pytest.fixture
def machine(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    monkeypatch.setattr(inbound, "_ssh_socket", set)
    return Machine(tmp_path)


def test_others_are_what_neither_the_site_nor_ssh_serves(machine: Machine) -> None:
    machine.socket("tcp", ANYWHERE, 22, 1)
    machine.socket("tcp6", ANYWHERE6, 22, 2)
    machine.socket("tcp", ANYWHERE, 25, 3)
    machine.socket("tcp", ANYWHERE, 3306, 4)
    machine.socket("tcp6", ANYWHERE6, 3306, 5)
    machine.socket("tcp", LOOPBACK, 6379, 6)
    machine.socket("udp", ANYWHERE, 51820, 7)
    machine.process(10, "sshd", "ssh.service", [1, 2])
    machine.process(11, "master", "postfix@-.service", [3])
    machine.process(12, "mysqld", "mysql.service", [4, 5])
    machine.process(13, "redis", "redis.service", [6])
    seen = inbound.look([25], machine.root)
    assert seen.ssh.listening == [22]
    # WireGuard's socket belongs to no process
    assert [(one.name, one.program) for one in seen.others] == [
        ("3306/tcp", "mysql.service"),
        ("51820/udp", "the kernel"),
    ]


def test_ports_of_queries_are_not_served(machine: Machine) -> None:
    """A resolver sends from ports of the kernel's choice: in each run others."""
    machine.socket("udp", ANYWHERE, 53, 1)
    machine.socket("udp", ANYWHERE, 40000, 2)
    machine.socket("udp", ANYWHERE, 40001, 3)
    # a connected socket, as that of a client
    machine.socket("udp", ANYWHERE, 40002, 4, "01")
    machine.process(10, "unbound", "unbound.service", [1, 2])
    machine.process(11, "tailscaled", "tailscaled.service", [3, 4])
    assert [one.name for one in inbound.look([], machine.root).others] == ["53/udp", "40001/udp"]


def test_the_port_of_this_connection_is_that_of_an_ancestor(machine: Machine) -> None:
    """sudo hides the environment of its own parent."""
    machine.process(100, "sshd", "ssh.service", [])
    machine.process(101, "sh", "user.slice", [], 100, "A=b\0SSH_CONNECTION=192.0.2.1 4711 198.51.100.1 2222\0C=d\0")
    machine.process(102, "sudo", "user.slice", [], 101, "SSH=x\0")
    machine.process(103, "python3", "user.slice", [], 102, "NOT_SSH_CONNECTION=192.0.2.1 1 198.51.100.1 9\0")
    assert inbound.connection(103, machine.root) == 2222
    assert inbound.connection(100, machine.root) is None


@pytest.mark.parametrize(
    ("ssh", "given", "closed", "missing", "said"),
    [
        (inbound.Ssh(2222, [22]), [], [3306], "", ""),
        (inbound.Ssh(None, [22]), [], [], "", ""),
        (inbound.Ssh(None, []), [22], [], "", ""),
        (inbound.Ssh(None, []), [], [], "", "no SSH server listens"),
        (inbound.Ssh(2222, [22]), [], [2222], "", "2222 is the port of SSH"),
        (inbound.Ssh(None, [22]), [], [22], "", "22 is the port of SSH"),
        (inbound.Ssh(22, []), [23], [23], "", "23 is the port of SSH"),
        (inbound.Ssh(22, [22]), [], [], "invalid argument", "the kernel has no nf_tables (invalid argument)"),
    ],
)
def test_what_is_refused(ssh: inbound.Ssh, given: t.List[int], closed: t.List[int], missing: str, said: str) -> None:
    seen, cure = inbound.refusal(ssh, given, closed, missing)
    assert said in seen
    assert bool(seen) == bool(said) == bool(cure)


def test_the_kernel_is_asked() -> None:
    # NLMSG_ERROR with EINVAL: no such part of netfilter; and an answer about the generation
    assert inbound.parse_answer(struct.pack("=IHHIIi", 36, 2, 0, 1, 0, -22)) == "invalid argument"
    assert inbound.parse_answer(struct.pack("=IHHIII", 44, 10 << 8 | 15, 0, 1, 0, 7)) == ""
    assert isinstance(inbound.no_nf_tables(), str)


def test_a_socket_unit() -> None:
    text = "Listen=0.0.0.0:22 (Stream)\nListen=[::]:2222 (Stream)\nListen=/run/x (Stream)\nActiveState=%s\n"
    assert inbound.parse_socket_unit(text % "active") == {22, 2222}
    assert inbound.parse_socket_unit(text % "inactive") == set()
