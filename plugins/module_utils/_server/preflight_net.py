# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Runs on the server: Python 3.6 and the standard library only.

"""The server as seen from the network: its names and addresses, and whether it can send mail.

All queries go directly to the name servers. getaddrinfo() is not suitable: on most VPSs /etc/hosts, and by default
systemd-resolved, answer for the server's own name and address regardless of DNS; and getaddrinfo() has no timeout.
"""

import re
import socket
import typing as t
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address

from ansible_collections.port587.mail.plugins.module_utils._dns import client

# Seconds. Long enough for any name server or mail host in the world (a lost packet costs only a warning), short enough
# for a run that changes nothing. All queries run in parallel; at most two depend on each other.
PATIENCE = 1.0


class Sight(t.NamedTuple):
    """Observations. None: no name server answered; []: the answer is that there is none."""

    answers: bool  # does any name server answer at all, and the stub, if there is one?
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


def lookup(name: str, kind: str, servers: t.List[str], port: int = 53) -> t.Optional[t.List[str]]:
    """The values in DNS, queried from all these servers at once. None if none of them answers in time."""
    try:
        ascii_name = name.rstrip(".").encode("idna").decode("ascii")
    except UnicodeError:
        return []  # no such name can exist
    found = client.ask_any(servers, ascii_name, kind, PATIENCE, port)
    return None if found is None else [value.rstrip(".") for value in found.values]


def pointer_name(address: str) -> str:
    return ip_address(address.split("%")[0]).reverse_pointer


def source_addresses() -> t.List[str]:
    """The addresses from which outgoing connections leave, IPv4 first."""
    return [found for found in map(source_address, (socket.AF_INET, socket.AF_INET6)) if found]


def source_address(family: socket.AddressFamily) -> t.Optional[str]:
    """None without a route, or with a kernel without this family."""
    anywhere = "2001:4860:4860::8888" if family == socket.AF_INET6 else "8.8.8.8"
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            # connecting a UDP socket chooses the address, and sends nothing
            probe.connect((anywhere, 9))
            return str(probe.getsockname()[0])
    except OSError:
        return None


def is_own(address: str) -> bool:
    """Whether this is an address of this server: the kernel refuses to bind a socket to any other."""
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


def look(hostname: str, mail_hosts: t.Sequence[str], resolv_conf: str, behind_stub: str) -> Sight:
    """Run all queries in parallel. Without mail_hosts, no connection to port 25 is tried."""
    servers, listed = nameservers(resolv_conf, behind_stub), nameservers(resolv_conf, "")
    sources = source_addresses()
    public = [address for address in sources if ip_address(address).is_global]
    with ThreadPoolExecutor(max_workers=len(mail_hosts) + 5) as pool:
        # what the stub says of this host is no news, but the mail server's programs ask nobody else
        stub = pool.submit(lookup, hostname, "A", listed) if listed != servers else None
        outgoing = {host: pool.submit(_reach_host, host, servers) for host in mail_hosts}
        pointers = {address: pool.submit(lookup, pointer_name(address), "PTR", servers) for address in public}
        found = list(pool.map(lambda kind: lookup(hostname, kind, servers), ("A", "AAAA")))
        answered = [answer for answer in found if answer is not None]
        addresses = sum(answered, []) if answered else None
        if not public:
            # Behind NAT the public address, to which the name leads, differs from the server's own.
            for address in addresses or []:
                pointers[address] = pool.submit(lookup, pointer_name(address), "PTR", servers)
    named = {address: answer.result() for address, answer in pointers.items()}
    return Sight(
        answers=any(answer is not None for answer in found + list(named.values()))
        and (stub is None or stub.result() is not None),
        addresses=addresses,
        own=[address for address in addresses or [] if is_own(address)],
        sources=sources,
        pointers=named,
        outgoing={host: answer.result() for host, answer in outgoing.items()},
    )
