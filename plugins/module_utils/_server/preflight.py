# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Runs on the server: Python 3.6 and the standard library only.

"""Check whether a server is fit to become a mail server. Changes nothing."""

import os
import time
import typing as t

from ansible_collections.port587.mail.plugins.module_utils._daemons import hardening
from ansible_collections.port587.mail.plugins.module_utils._server import (
    apt,
    facts,
    firewall,
    inbound,
    network_checks,
    ports,
    preflight_net,
    security_updates,
    server_checks,
)
from ansible_collections.port587.mail.plugins.module_utils._server.findings import Finding
from ansible_collections.port587.mail.plugins.module_utils._server.memory import memory
from ansible_collections.port587.mail.plugins.module_utils._server.proc import read_text
from ansible_collections.port587.mail.plugins.module_utils._transaction.commands import has_command, run_command

CHECKS = (
    "root",
    "release",
    "systemd",
    "ports",
    "web",
    "firewall",
    "nftables",
    "memory",
    "disk",
    "writable",
    "clock",
    "apt",
    "swap",
    "mounts",
    "apparmor",
    "updates",
    "dns",
    "ipv6",
    "hostname",
    "ptr",
    "outgoing",
)
NETWORK = ("dns", "ipv6", "hostname", "ptr", "outgoing")


class Request(t.NamedTuple):
    """The options of port587.mail.preflight that say what to examine. ``packages``: those that are installed next."""

    hostname: str
    smtp_probe_hosts: t.Sequence[str] = ()
    controller_time: t.Optional[float] = None
    web: bool = False
    web_names: t.Sequence[str] = ()
    open_ports: t.Sequence[int] = ()
    #: what the role firewall will be given; None if it will not run
    own_firewall: t.Optional[t.Mapping[str, t.Sequence[int]]] = None
    skip: t.Collection[str] = ()
    packages: t.Sequence[str] = ()
    variables: t.Mapping[str, str] = {}


def examine(request: Request, root: str = "/") -> t.List[Finding]:
    """All findings, in the order of CHECKS. A check that is skipped does not look either."""
    # Fast checks come first: the time for the network must not count as an error of the clock.
    looks = _looks(request, root)
    findings = [looks[name]() for name in looks if name not in request.skip]
    if not set(NETWORK) <= set(request.skip):
        findings += examine_network(request, root)
    return [finding for finding in findings if finding is not None]


def _looks(request: Request, root: str) -> t.Dict[str, t.Callable[[], t.Optional[Finding]]]:
    """How each check looks at the server itself."""
    amount, swap = memory(root)
    os_release = read_text(f"{root}etc/os-release") or read_text(f"{root}usr/lib/os-release")
    packages = read_text(f"{root}var/lib/dpkg/status")
    variables = request.variables

    def check_ports() -> Finding:
        wanted = ports.PORTS + (ports.WEB_PORTS if request.web else ())
        found = [(one.port, one.processes) for one in ports.listeners(root, wanted)]
        return server_checks.check_ports(found, request.web, facts.parse_other_mtas(packages), variables)

    def check_web() -> t.Optional[Finding]:
        if not (request.web and has_command("nginx")):
            return None
        code, configuration, said = run_command(["nginx", "-T"])
        hosts = [name.lower() for name in request.web_names]
        return server_checks.check_web(code, said, configuration, hosts, variables)

    def check_firewall() -> t.Optional[Finding]:
        if not request.open_ports:
            return None
        return server_checks.check_firewall(
            firewall.look(request.open_ports, [firewall.OURS]), request.open_ports, variables
        )

    def check_apt() -> Finding:
        broken = apt.parse_broken(packages)
        wanted = [name for entry in request.packages for name in facts.alternatives(entry)]
        completed = apt.of_same_source(packages, broken, wanted) if broken else []
        return server_checks.check_apt(broken, apt.users(root), completed)

    def check_clock() -> t.Optional[Finding]:
        there = request.controller_time
        return None if there is None else server_checks.check_clock(time.time(), there)

    def check_updates() -> t.Optional[Finding]:
        support = security_updates.look(facts.parse_os_release(os_release), root)
        return server_checks.check_updates(support, time.strftime("%Y-%m-%d", time.gmtime())) if support else None

    return {
        "root": lambda: server_checks.check_root(os.geteuid()),
        "release": lambda: server_checks.check_release(os_release),
        # The test that sd_booted(3) makes.
        "systemd": lambda: server_checks.check_systemd(os.path.isdir(f"{root}run/systemd/system")),
        "ports": check_ports,
        "web": check_web,
        "firewall": check_firewall,
        "nftables": lambda: _nftables(request.own_firewall, root),
        "memory": lambda: server_checks.check_memory(amount),
        "disk": lambda: server_checks.check_disk(server_checks.free_space(("/", "/var"))),
        "writable": lambda: server_checks.check_writable(server_checks.read_only(server_checks.WRITTEN_TO)),
        "clock": check_clock,
        "apt": check_apt,
        "swap": lambda: server_checks.check_swap(amount, swap),
        "mounts": lambda: server_checks.check_mounts(hardening.can_mount()),
        "apparmor": lambda: server_checks.check_apparmor(read_text(f"{root}sys/kernel/security/apparmor/profiles")),
        "updates": check_updates,
    }


def _nftables(given: t.Optional[t.Mapping[str, t.Sequence[int]]], root: str) -> t.Optional[Finding]:
    if given is None:
        return None
    ssh = inbound.look((), root).ssh
    return server_checks.check_nftables(inbound.refusal(ssh, given["ssh_ports"], given["close"]))


def examine_network(request: Request, root: str) -> t.List[t.Optional[Finding]]:
    sight = preflight_net.look(
        request.hostname,
        [] if "outgoing" in request.skip else request.smtp_probe_hosts,
        read_text(f"{root}etc/resolv.conf"),
        read_text(f"{root}run/systemd/resolve/resolv.conf"),
    )
    looks: t.Dict[str, t.Callable[[], t.Optional[Finding]]] = {
        "dns": lambda: network_checks.check_dns(sight),
        "ipv6": lambda: network_checks.check_ipv6(sight),
    }
    # Without name servers these would only repeat that finding.
    if sight.answers:
        looks.update(
            hostname=lambda: network_checks.check_hostname(request.hostname, sight),
            ptr=lambda: network_checks.check_ptr(request.hostname, sight),
            outgoing=lambda: network_checks.check_outgoing(sight),
        )
    return [looks[name]() for name in looks if name not in request.skip]
