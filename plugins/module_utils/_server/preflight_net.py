# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Private to this collection: may change in any release.
"""What the world sees of this server: its names, its address, and whether it may send mail.

Every question goes to the name servers themselves. getaddrinfo() is of no use here: /etc/hosts of most VPSs, and
systemd-resolved of its own accord, answer for the server's own name and address whatever the DNS says, and it can't be
told how long one is willing to wait.
"""

import os
import re
import select
import socket
import struct
import time
import typing as t
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address

from ansible_collections.port587.mail.plugins.module_utils._dns.client import name_at

# Seconds. Long enough for any name server or mail host in the world (a lost packet costs a warning, no more), short
# enough for a run that changes nothing. All questions are asked side by side; at most two depend on each other.
PATIENCE = 1.0

TYPES = {"A": 1, "PTR": 12, "AAAA": 28}


class Sight(t.NamedTuple):
    """What was seen. None is what no name server answered for; [] is the answer that there is none."""

    answers: bool  # does any name server answer at all?
    addresses: t.Optional[t.List[str]]  # of the host name
    own: t.List[str]  # those of them that are this server's
    sources: t.List[str]  # the addresses from which outgoing mail leaves
    pointers: t.Dict[str, t.Optional[t.List[str]]]  # address -> names
    outgoing: t.Dict[str, str]  # mail host -> "" where its port 25 could be reached, else the reason


def nameservers(resolv_conf: str, behind_stub: str) -> t.List[str]:
    """The servers of resolv.conf; where that is systemd-resolved's stub, which makes up answers, those behind it."""
    found: t.List[str] = re.findall(r"^\s*nameserver\s+(\S+)", resolv_conf, re.MULTILINE)
    if found == ["127.0.0.53"] and behind_stub:
        return nameservers(behind_stub, "")
    return found[:3] or ["127.0.0.1"]


def encode_question(name: str, kind: str, number: int) -> bytes:
    labels = [label.encode("idna") if label else b"" for label in name.rstrip(".").split(".")]
    packed = b"".join(bytes([len(label)]) + label for label in labels) + b"\0"
    # 0x0100: recursion desired; class 1: IN
    return struct.pack("!6H", number, 0x0100, 1, 0, 0, 0) + packed + struct.pack("!2H", TYPES[kind], 1)


def parse_answer(message: bytes, kind: str, number: int) -> t.Optional[t.List[str]]:
    """The answers of this type. None where this isn't an answer to the question, or the server failed."""
    try:
        got, flags, questions, answers = struct.unpack_from("!4H", message)
        # NXDOMAIN (3) is an answer too: there is none
        if got != number or not flags & 0x8000 or flags & 0xF not in (0, 3):
            return None
        at = 12
        for _question in range(questions):
            at = name_at(message, at)[1] + 4
        found = []
        for _answer in range(answers):
            at = name_at(message, at)[1]
            of, _class, _ttl, length = struct.unpack_from("!2HIH", message, at)
            at += 10
            if of == TYPES[kind]:
                if kind == "PTR":
                    found.append(name_at(message, at)[0])
                else:
                    found.append(str(ip_address(message[at : at + length])))
            at += length
        return found
    except (ValueError, IndexError, struct.error):
        return None


def lookup(name: str, kind: str, servers: t.List[str], port: int = 53) -> t.Optional[t.List[str]]:
    """Ask all servers at once; the first answer counts. None where there is none in time."""
    number = struct.unpack("!H", os.urandom(2))[0]
    sockets = []
    try:
        question = encode_question(name, kind, number)
        for server in servers:
            try:
                family = socket.AF_INET6 if ":" in server else socket.AF_INET
                asked = socket.socket(family, socket.SOCK_DGRAM)
                sockets.append(asked)
                asked.connect((server, port))
                asked.send(question)
            except OSError:
                continue
        deadline = time.monotonic() + PATIENCE
        waiting = list(sockets)
        while waiting:
            ready = select.select(waiting, [], [], max(0.0, deadline - time.monotonic()))[0]
            if not ready:
                return None
            for asked in ready:
                waiting.remove(asked)
                try:
                    found = parse_answer(asked.recv(4096), kind, number)
                except OSError:
                    continue
                if found is not None:
                    return found
        return None
    except UnicodeError:
        return []  # no such name can exist
    finally:
        for asked in sockets:
            asked.close()


def pointer_name(address: str) -> str:
    return ip_address(address.split("%")[0]).reverse_pointer


def source_address(family: socket.AddressFamily) -> t.Optional[str]:
    """The address from which outgoing connections leave. Connecting a UDP socket chooses it, and sends nothing."""
    anywhere = "2001:4860:4860::8888" if family == socket.AF_INET6 else "8.8.8.8"
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((anywhere, 9))
            return str(probe.getsockname()[0])
        except OSError:
            return None


def is_own(address: str) -> bool:
    """Whether this is an address of this server: the kernel lets nobody bind to another's."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((address, 0))
            return True
        except OSError:
            return False


def reach(address: str, port: int = 25) -> str:
    """ "" where a connection is accepted, else the reason why not."""
    try:
        socket.create_connection((address, port), timeout=PATIENCE).close()
        return ""
    except socket.timeout:
        return f"no answer within {PATIENCE:g} s"
    except OSError as error:
        return (error.strerror or str(error)).lower()


def _reach_host(host: str, servers: t.List[str]) -> str:
    try:
        return reach(str(ip_address(host)))
    except ValueError:
        pass
    addresses = lookup(host, "A", servers)
    if addresses is None:
        return "its name could not be looked up"
    if not addresses:
        return "it has no IPv4 address"
    return reach(addresses[0])


def look(hostname: str, mail_hosts: t.List[str], resolv_conf: str, behind_stub: str) -> Sight:
    """Ask everything, side by side. mail_hosts may be empty, where the person does not want them asked."""
    servers = nameservers(resolv_conf, behind_stub)
    sources = [found for found in map(_safely_source, (socket.AF_INET, socket.AF_INET6)) if found]
    public = [address for address in sources if ip_address(address).is_global]
    with ThreadPoolExecutor(max_workers=len(mail_hosts) + 4) as pool:
        outgoing = {host: pool.submit(_reach_host, host, servers) for host in mail_hosts}
        pointers = {address: pool.submit(lookup, pointer_name(address), "PTR", servers) for address in public}
        found = list(pool.map(lambda kind: lookup(hostname, kind, servers), ("A", "AAAA")))
        answered = [answer for answer in found if answer is not None]
        addresses = sum(answered, []) if answered else None
        if not public:
            # Behind NAT the world sees another address than the server does: the one that its name leads to.
            for address in addresses or []:
                pointers[address] = pool.submit(lookup, pointer_name(address), "PTR", servers)
    named = {address: answer.result() for address, answer in pointers.items()}
    return Sight(
        answers=any(answer is not None for answer in found + list(named.values())),
        addresses=addresses,
        own=[address for address in addresses or [] if is_own(address)],
        sources=sources,
        pointers=named,
        outgoing={host: answer.result() for host, answer in outgoing.items()},
    )


def _safely_source(family: socket.AddressFamily) -> t.Optional[str]:
    try:
        return source_address(family)
    except OSError:  # a kernel without this family
        return None
