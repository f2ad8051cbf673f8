# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Runs on the server: Python 3.6 and the standard library only.

"""What has to stay reachable once a firewall of our own is on: SSH, and whatever else listens."""

import ipaddress
import os
import re
import socket
import struct
import typing as t

from ansible_collections.port587.mail.plugins.module_utils._server import proc
from ansible_collections.port587.mail.plugins.module_utils._transaction.commands import has_command, run_command

#: The role firewall's table, rules, and where the server notes that it has taken rules back.
FAMILY, TABLE = "inet", "port587"
RULES = "/etc/port587/firewall.nft"
TAKEN_BACK = "/run/port587-firewall-taken-back"

_SSH = ("sshd", "dropbear")
#: Programs that send queries from UDP ports of the kernel's choice, which look like ports that they serve.
_ASKING = (
    "unbound",
    "named",
    "dnsmasq",
    "systemd-resolve",
    "systemd-timesyn",
    "avahi-daemon",
    "rspamd",
    "chronyd",
    "ntpd",
)


class Listener(t.NamedTuple):
    """A port that other machines can reach."""

    port: int
    protocol: str  # tcp | udp
    program: str  # those that listen; what systemd calls them, if it knows them

    @property
    def name(self) -> str:
        """As in the role's variables."""
        return "%d/%s" % (self.port, self.protocol)


class Ssh(t.NamedTuple):
    #: the port of the connection that this process runs in; None if it runs in none
    connection: t.Optional[int]
    #: the ports on which a server waits for SSH
    listening: t.List[int]

    @property
    def ports(self) -> t.List[int]:
        return sorted({*self.listening, *([self.connection] if self.connection else [])})


class Inbound(t.NamedTuple):
    ssh: Ssh
    others: t.List[Listener]


def look(served: t.Collection[int], root: str = "/") -> Inbound:
    """What listens on this server, apart from SSH and the TCP ports ``served``."""
    found = _listeners(root)
    listening = {one.port for one in found if one.protocol == "tcp" and _is_ssh(one.program)} | _ssh_socket()
    ssh = Ssh(connection(os.getpid(), root), sorted(listening))
    known = {*served, *ssh.ports}
    return Inbound(ssh, [one for one in found if one.protocol == "udp" or one.port not in known])


def refusal(
    ssh: Ssh, given: t.Collection[int], closed: t.Collection[int], missing: t.Optional[str] = None
) -> t.Tuple[str, str]:
    """Why the firewall can't be set up, and the cure; empty if it can.

    ``given``, ``closed``: ports that a person names. ``missing``: what the kernel lacks, by default what it says.
    """
    missing = no_nf_tables() if missing is None else missing
    if missing:
        return "the kernel has no nf_tables (%s)" % missing, "set mail_firewall: false"
    if not ssh.ports and not given:
        seen = "this run does not come over SSH, no SSH server listens, and firewall_ssh_ports is empty"
        return seen, "write the ports that SSH will use into firewall_ssh_ports, such as [22]"
    shut = sorted(set(closed) & {*ssh.ports, *given})
    if shut:
        return "firewall_close: %d is the port of SSH" % shut[0], "leave it out, or nobody could log in any more"
    return "", ""


# -- SSH ----------------------------------------------------------------------------------------------------------


def connection(pid: int, root: str = "/") -> t.Optional[int]:
    """The server's port of the SSH connection in which a process runs. sudo hides it, so its ancestors are asked."""
    while pid > 1:
        environment = proc.read_text("%sproc/%d/environ" % (root, pid))
        found = re.search(r"(?:^|\0)SSH_CONNECTION=\S+ \d+ \S+ (\d+)(?:\0|$)", environment)
        if found:
            return int(found.group(1))
        fields = proc.parse_stat(proc.read_text("%sproc/%d/stat" % (root, pid)))
        pid = int(fields[1]) if len(fields) > 1 else 0
    return None


def _is_ssh(program: str) -> bool:
    return any(name in _SSH or name in ("ssh.service", "sshd.service") for name in program.split(", "))


def _ssh_socket() -> t.Set[int]:
    """The ports on which systemd waits for SSH, as Ubuntu has it since 22.10."""
    if not has_command("systemctl"):
        return set()
    return parse_socket_unit(run_command(["systemctl", "show", "--property=ActiveState,Listen", "ssh.socket"])[1])


def parse_socket_unit(text: str) -> t.Set[int]:
    """The TCP ports in the output of `systemctl show` for a socket unit; none if it is not active."""
    if "ActiveState=active" not in text:
        return set()
    return {int(port) for port in re.findall(r":(\d+) \(Stream\)", text)}


# -- listeners ----------------------------------------------------------------------------------------------------


def _listeners(root: str) -> t.List[Listener]:
    sockets = [("tcp", one) for one in proc.listening(root)] + [("udp", one) for one in proc.receiving(root)]
    sockets = [(protocol, one) for protocol, one in sockets if not _is_loopback(one.address)]
    holders = proc.holders(root, {one.target for _protocol, one in sockets})
    first, last = _ephemeral(root)
    found: t.Dict[t.Tuple[int, str], t.Set[str]] = {}
    for protocol, one in sockets:
        names = {process.unit or process.name for process in holders[one.target]}
        asks = any(process.name.startswith(_ASKING) for process in holders[one.target])
        if not (protocol == "udp" and first <= one.port <= last and asks):
            found.setdefault((one.port, protocol), set()).update(names or {"the kernel"})
    return [Listener(port, protocol, ", ".join(sorted(names))) for (port, protocol), names in sorted(found.items())]


def _is_loopback(text: str) -> bool:
    address = ipaddress.ip_address(text)
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


def _ephemeral(root: str) -> t.Tuple[int, int]:
    """The ports that the kernel chooses from."""
    words = proc.read_text(root + "proc/sys/net/ipv4/ip_local_port_range").split()
    return (int(words[0]), int(words[1])) if len(words) == 2 else (32768, 60999)


# -- nftables -----------------------------------------------------------------------------------------------------


def loaded() -> bool:
    return has_command("nft") and run_command(["nft", "list", "table", FAMILY, TABLE])[0] == 0


def rules() -> str:
    """The rules that are in force, as the role wrote them; "" without them."""
    return proc.read_text(RULES) if loaded() else ""


def no_nf_tables() -> str:
    """Why the kernel can't have nftables; "" if it can. It works before the program nft is installed."""
    request = struct.pack("=IHHIIBBH", 20, _SUBSYSTEM << 8 | _GET_GENERATION, _REQUEST, 1, 0, 0, 0, 0)
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER) as kernel:
            kernel.settimeout(5)
            kernel.send(request)
            return parse_answer(kernel.recv(4096))
    except OSError as exc:
        return (exc.strerror or str(exc)).lower()


#: From linux/netlink.h and linux/netfilter/nfnetlink.h, nf_tables.h.
_NETLINK_NETFILTER, _SUBSYSTEM, _GET_GENERATION, _REQUEST, _ERROR = 12, 10, 16, 1, 2


def parse_answer(answer: bytes) -> str:
    """The error in an answer of the kernel, "" if it has none."""
    kind = struct.unpack_from("=H", answer, 4)[0]
    error = -struct.unpack_from("=i", answer, 16)[0] if kind == _ERROR else 0
    return os.strerror(error).lower() if error else ""
