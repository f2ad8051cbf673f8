# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Runs on the server: Python 3.6 and the standard library only.

"""Preflight's checks of the server itself: observations in, findings out."""

import os
import re
import typing as t

from ansible_collections.port587.mail.plugins.module_utils._daemons import nginx_syntax
from ansible_collections.port587.mail.plugins.module_utils._server import facts, ports
from ansible_collections.port587.mail.plugins.module_utils._server.findings import Finding, finding, listed
from ansible_collections.port587.mail.plugins.module_utils._server.firewall import Shut
from ansible_collections.port587.mail.plugins.module_utils._server.ports import PORTS, WEB_PORTS
from ansible_collections.port587.mail.plugins.module_utils._server.proc import Holders
from ansible_collections.port587.mail.plugins.module_utils._server.security_updates import Support

MIB = 1024 * 1024
GIB = 1024 * MIB

# A VPS sold with 512 MB has some 460 to 490 MiB left once the kernel has taken its own.
MEMORY_NEEDED = 448 * MIB
# Below this an update, or a search in a large mailbox, makes the kernel kill something. "1 GB" has 950 MiB or more.
MEMORY_WITHOUT_SWAP = 900 * MIB
DISK_NEEDED = GIB
CLOCK_TOLERANCE = 120.0
WRITTEN_TO = ("/", "/etc", "/usr", "/var")
#: The site of role autoconfig, and the files that it names: the run itself corrects mistakes there.
OUR_SITE = r"/(?:zz-port587\.conf|etc/port587/|var/lib/port587/)"


def check_root(user_id: int) -> Finding:
    return finding("root", user_id == 0, f"user id {user_id}", "root (user id 0)", "set `become: true`")


def check_release(os_release: str) -> Finding:
    seen = facts.parse_os_release(os_release)
    known: t.Dict[str, t.List[str]] = {}
    for distribution, version in facts.RELEASES:
        known.setdefault(distribution.capitalize(), []).append(version)
    expected = "; ".join(f"{distribution} {listed(versions)}" for distribution, versions in known.items())
    return finding(
        "release",
        seen in facts.RELEASES,
        " ".join(part for part in (seen[0].capitalize(), seen[1]) if part) or "no /etc/os-release",
        expected,
        "install one of these releases on the server",
    )


def check_systemd(booted: bool) -> Finding:
    return finding(
        "systemd",
        booted,
        "systemd runs" if booted else "this server was not booted with systemd",
        "systemd as init",
        "take a VPS, or a container that boots systemd",
    )


def check_ports(
    listening: t.Iterable[t.Tuple[int, Holders]],
    web: bool = False,
    other_mtas: t.Sequence[str] = (),
    variables: t.Optional[t.Mapping[str, str]] = None,
) -> Finding:
    others: t.Dict[Holders, t.List[int]] = {}
    for port, processes in sorted(set(listening)):  # a set, for most listen on IPv4 and on IPv6
        if not any(ports.is_expected(process, port) for process in processes):
            others.setdefault(processes, []).append(port)
    seen = [f"{ports.as_text(processes)} listens on {listed(numbers)}" for processes, numbers in others.items()]
    units = sorted({processes[0].unit for processes in others if len(processes) == 1} - {""})
    # not `disable --now`: for a service with an init script, older versions of systemd do not stop it then
    cures = [f"systemctl {verb} {' '.join(units)}" for verb in ("stop", "disable")] if units else []
    if cures and other_mtas:
        cures.append(f"apt-get install postfix, which takes the place of {listed(other_mtas)}")
    if any(len(processes) != 1 or not processes[0].unit for processes in others):
        cures.append("stop the program, and whatever starts it")
    if any(port in WEB_PORTS for numbers in others.values() for port in numbers):
        cures.append("or " + _without_web_server(variables))
    return finding(
        "ports",
        not others,
        "; ".join(seen) or "no other program on them",
        f"only Postfix and Dovecot on {listed(PORTS)}" + (f", and nginx on {listed(WEB_PORTS)}" if web else ""),
        "; ".join(cures),
    )


def _without_web_server(variables: t.Optional[t.Mapping[str, str]]) -> str:
    return f"do without the web server: `{(variables or {}).get('web', 'web')}: false`"


def check_web(
    code: int, said: str, configuration: str, hosts: t.Sequence[str], variables: t.Optional[t.Mapping[str, str]] = None
) -> Finding:
    """``code``, ``said``, ``configuration``: of `nginx -T`. ``hosts``: the names that it is to answer for."""
    errors = re.findall(r"\[emerg\] (?:\d+#\d+: )?(.*)", said) if code else []
    seen = [f"nginx refuses its own configuration: {error}" for error in errors if not re.search(OUR_SITE, error)]
    for server in nginx_syntax.servers(configuration):
        taken = {name.lower() for name in server.names} & set(hosts)
        if server.ports & set(WEB_PORTS) and taken and not re.search(OUR_SITE, server.file):
            seen.append(f"{server.file} has the server_name {listed(sorted(taken))}")
    return finding(
        "web",
        not seen,
        "; ".join(seen) or "nginx has room for the site",
        "an nginx in order, and no other site for the names of this one",
        "correct that (nginx -t), or " + _without_web_server(variables),
    )


def check_firewall(
    found: t.Sequence[Shut], open_ports: t.Sequence[int], variables: t.Optional[t.Mapping[str, str]] = None
) -> Finding:
    return finding(
        "firewall",
        not found,
        "; ".join(f"{one.by} lets nobody in on {listed(one.ports)}" for one in found) or "shuts none of the ports",
        f"{listed(sorted(open_ports))} open to the world, at the provider too",
        "; ".join(one.cure for one in found)
        + f". What is shut on purpose, leave out of `{(variables or {}).get('open_ports', 'open_ports')}`",
    )


def check_nftables(refusal: t.Tuple[str, str]) -> Finding:
    """``refusal``: why the role firewall can't do its work, and the cure."""
    seen, cure = refusal
    return finding("nftables", not seen, seen or "there, and SSH's port is known", "what mail_firewall needs", cure)


def check_memory(memory: int) -> Finding:
    return finding(
        "memory",
        memory >= MEMORY_NEEDED,
        f"{memory // MIB} MiB",
        f"{MEMORY_NEEDED // MIB} MiB or more, which a VPS of 512 MB has",
        "take a larger VPS, or raise the container's memory limit",
    )


def check_disk(free: t.Dict[str, int]) -> Finding:
    least = min(free, key=lambda path: free[path])
    return finding(
        "disk",
        free[least] >= DISK_NEEDED,
        f"{free[least] / GIB:.1f} GiB free on {least}",
        f"{DISK_NEEDED // GIB} GiB or more",
        f"make room on {least}: apt-get clean; journalctl --vacuum-size=50M; du -xh {least} | sort -h | tail",
    )


def check_writable(read_only: t.List[str]) -> Finding:
    return finding(
        "writable",
        not read_only,
        f"read-only: {listed(read_only)}" if read_only else "writable",
        f"{listed(WRITTEN_TO)} writable",
        "look for disk errors first (journalctl -k -p err), then: mount -o remount,rw /",
    )


def check_clock(server: float, controller: float) -> Finding:
    off = server - controller
    return finding(
        "clock",
        abs(off) <= CLOCK_TOLERANCE,
        f"the server's clock is {abs(off):.0f} s {'ahead of' if off > 0 else 'behind'} this machine's",
        f"{CLOCK_TOLERANCE:.0f} s or less",
        "timedatectl set-ntp true on the one of the two that is wrong",
    )


def check_apt(broken: t.List[str], busy: Holders, completed: t.Sequence[str] = ()) -> Finding:
    """``completed``: packages whose installation this run will complete."""
    expected = "no package half installed, and apt not busy"
    if busy:
        # Packages that apt is working on only look half installed.
        cure = "nothing to do: it is waited for, for ten minutes at most"
        return Finding("apt", "warn", f"{listed(busy)} is installing or updating packages", expected, cure)
    others = [name for name in broken if name not in completed]
    if broken and not others:
        return Finding(
            "apt", "warn", f"not wholly installed: {listed(broken)}", expected, "nothing to do: they are completed"
        )
    broken = others
    return finding(
        "apt",
        not broken,
        f"not wholly installed: {listed(broken)}" if broken else "in order",
        expected,
        "dpkg --configure -a; apt-get --fix-broken install",
    )


def check_swap(memory: int, swap: int) -> Finding:
    return finding(
        "swap",
        memory >= MEMORY_WITHOUT_SWAP or swap > 0,
        f"{memory // MIB} MiB of memory and {swap // MIB} MiB of swap",
        f"swap, where there is less than {MEMORY_WITHOUT_SWAP // MIB} MiB of memory",
        "fallocate -l 1G /swapfile; chmod 600 /swapfile; mkswap /swapfile; swapon /swapfile; and a line in /etc/fstab",
        "warn",
    )


def check_mounts(can_mount: bool) -> Finding:
    return finding(
        "mounts",
        can_mount,
        f"services {'can' if can_mount else 'cannot'} have mounts of their own",
        "services with a /tmp of their own and read-only system files; without these, systemd restricts them less",
        "if this is a container of yours, permit nesting: features: nesting=1 in Proxmox, security.nesting=true in LXD",
        "warn",
    )


def check_apparmor(profiles: str) -> Finding:
    """``profiles``: the kernel's list, with the mode of each. Packages bring none for these programs."""
    enforced = re.findall(r"^(.*(?:dovecot|postfix|rspamd|nginx).*) \((?:enforce|kill)\)$", profiles, re.MULTILINE)
    return finding(
        "apparmor",
        not enforced,
        f"AppArmor enforces {listed(sorted(enforced))}" if enforced else "no profiles for the mail server's programs",
        "no profiles for Postfix, Dovecot, rspamd and nginx, or some that permit what the roles write",
        "let them only complain (aa-complain), or permit /etc/port587, /var/lib/port587, /var/vmail and the sockets in "
        "/var/spool/postfix and /run/dovecot in /etc/apparmor.d/local",
        "warn",
    )


def check_updates(support: Support, today: str) -> Finding:
    name = " ".join((support.release[0].capitalize(), support.release[1]))
    extended = support.extended and not support.has_extended and support.extended >= today
    return finding(
        "updates",
        support.end >= today,
        f"{name} gets security updates until {support.end}"
        if support.end >= today
        else f"{name} has had no security updates since {support.end}",
        "a release that gets security updates: this server is reached by the whole world",
        "upgrade to a newer release"
        + (f", or take the extended support that there is until {support.extended}" if extended else ""),
        "warn",
    )


def free_space(paths: t.Iterable[str]) -> t.Dict[str, int]:
    found = {}
    for path in paths:
        state = os.statvfs(path)
        found[path] = state.f_bavail * state.f_frsize
    return found


def read_only(paths: t.Iterable[str]) -> t.List[str]:
    return [path for path in paths if os.statvfs(path).f_flag & os.ST_RDONLY]
