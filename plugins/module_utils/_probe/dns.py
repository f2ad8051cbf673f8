# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# May run on any vantage host: Python 3.6 and the standard library only.

"""The addresses of the server's name, with IPv4 and IPv6 checked separately."""

import ipaddress
import socket
import threading
import typing as t

from ansible_collections.port587.mail.plugins.module_utils._probe.walk import Settings, Shared, Walk
from ansible_collections.port587.mail.plugins.module_utils._wire.connection import connect
from ansible_collections.port587.mail.plugins.module_utils._wire.errors import WireError
from ansible_collections.port587.mail.plugins.module_utils._wire.limits import MOST_ADDRESSES

Lookup = t.Callable[[str, socket.AddressFamily], t.List[str]]


class Addresses(t.NamedTuple):
    v4: t.List[str]
    v6: t.List[str]

    def all(self) -> t.List[str]:
        return self.v4 + self.v6


def system_lookup(name: str, family: socket.AddressFamily) -> t.List[str]:
    try:
        answers = socket.getaddrinfo(name, None, family, socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    return sorted({str(answer[4][0]) for answer in answers})


def resolve(name: str, timeout: float, lookup: Lookup = system_lookup) -> Addresses:
    """Look up both families at once. The system's resolver has no deadline, so this stops waiting after its own."""
    found: t.Dict[socket.AddressFamily, t.List[str]] = {socket.AF_INET: [], socket.AF_INET6: []}

    def ask(family: socket.AddressFamily) -> None:
        found[family] = lookup(name, family)

    threads = [threading.Thread(target=ask, args=(family,), daemon=True) for family in list(found)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout)
    v4, v6 = (found[family][:MOST_ADDRESSES] for family in (socket.AF_INET, socket.AF_INET6))
    return Addresses(v4, v6)


def is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


class Dns(Walk):
    """Check that the name leads to the probed server, and that every published address answers."""

    SERVICE = "dns"
    COMPONENT = "DNS"
    LABEL = "name"
    WELL = "the name leads to this server"
    STEPS = ("address of the name", "IPv6 answers")

    def __init__(self, settings: Settings, shared: Shared, addresses: Addresses) -> None:
        super().__init__(settings, shared)
        self.addresses = addresses
        self.port = settings.ports["submission"]

    def walk(self) -> None:
        self.begin("address of the name")
        if is_loopback(self.settings.address):
            self.skip("the server is on this machine", *self.STEPS)
            return
        found = self.addresses.all()
        seen = f"{self.settings.host}: {', '.join(found) or 'no address'}"
        # the name can be published after the server was built, so this is no failure
        if not found:
            self.fail("name-unknown", seen, "warn")
        if self.settings.address not in found:
            self.fail("name-elsewhere", f"{seen}, but the server is {self.settings.address}", "warn")
        self.ok(seen)
        self.begin("IPv6 answers")
        for address in self.addresses.v6:
            self.try_ipv6(address)
        if not self.addresses.v6:
            self.skip("no IPv6 address is published")

    def try_ipv6(self, address: str) -> None:
        try:
            connect(address, self.port, self.settings.timeout, self.shared.end).close()
        except WireError as exc:
            if exc.kind == "unreachable":
                self.skip(f"no IPv6 from here ({exc.text})")
            else:
                self.note("ipv6-silent", f"{address}: {exc.text}")
        else:
            self.ok(address)
