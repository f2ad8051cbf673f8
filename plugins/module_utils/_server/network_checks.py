# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Runs on the server: Python 3.6 and the standard library only.

"""Preflight's checks of the network: observations in, findings out. All findings are warnings."""

import typing as t
from ipaddress import ip_address

from ansible_collections.port587.mail.plugins.module_utils._server.findings import Finding, finding, listed
from ansible_collections.port587.mail.plugins.module_utils._server.preflight_net import Sight


def check_dns(sight: Sight) -> Finding:
    return finding(
        "dns",
        sight.answers,
        "the name servers answer" if sight.answers else "no name server of /etc/resolv.conf answers",
        "name servers that answer: where mail goes is asked there",
        "look at /etc/resolv.conf and at the network",
        "warn",
    )


def check_hostname(hostname: str, sight: Sight) -> Finding:
    addresses = sight.addresses
    others = [address for address in addresses or [] if address not in sight.own]
    # Behind NAT the server can't tell which public address is its own.
    behind_nat = not any(ip_address(address).is_global for address in sight.sources)
    unknown = [address for address in others if behind_nat and ip_address(address).is_global]
    if addresses is None:
        seen = f"no name server answers for {hostname}"
    elif not addresses:
        seen = f"{hostname} has no address in the DNS"
    elif others and others != unknown:
        seen = f"{hostname} leads to {listed(others)} too, which is not this server" if sight.own else ""
        seen = seen or f"{hostname} leads to {listed(others)}, which is not this server"
    else:
        seen = f"{hostname} leads to {listed(addresses)}"
    return finding(
        "hostname",
        bool(addresses) and others == unknown,
        seen,
        f"{hostname} leads to this server" + (f" ({listed(sight.sources)})" if sight.sources else ""),
        f"publish an A record for {hostname} (and AAAA where the server has IPv6) with the server's addresses only",
        "warn",
    )


def check_ptr(hostname: str, sight: Sight) -> t.Optional[Finding]:
    wrong = []
    for address, names in sight.pointers.items():
        if names is None:
            wrong.append(f"no name server answers for {address}")
        elif not names:
            wrong.append(f"{address} has no PTR record")
        elif hostname.lower() not in [name.lower() for name in names]:
            wrong.append(f"the PTR record of {address} says {listed(names)}")
    if not sight.pointers:
        return None  # the address isn't known; the fault is in the host name's own record
    return finding(
        "ptr",
        not wrong,
        "; ".join(wrong) or f"{listed(sight.pointers)} says {hostname}",
        f"PTR record {hostname}, without which large providers refuse mail",
        f"set the reverse DNS of {listed(sight.pointers)} to {hostname} at the provider of the VPS",
        "warn",
    )


def check_ipv6(sight: Sight) -> Finding:
    has = any(":" in address and ip_address(address).is_global for address in sight.sources)
    return finding(
        "ipv6",
        has,
        "has IPv6" if has else "no IPv6 address that reaches the world",
        "IPv6 besides IPv4",
        "mail goes over IPv4 alone; have the provider add IPv6 if senders need it",
        "warn",
    )


def check_outgoing(sight: Sight) -> t.Optional[Finding]:
    failed = [f"{host}: {reason}" for host, reason in sight.outgoing.items() if reason]
    if not sight.outgoing:
        return None
    return finding(
        "outgoing",
        len(failed) < len(sight.outgoing),
        f"no connection to port 25 of {'; of '.join(failed)}" if failed else "other servers can be reached on port 25",
        "other mail servers can be reached on port 25",
        "ask the provider of the VPS to open outgoing port 25, or send through a relay host",
        "warn",
    )
