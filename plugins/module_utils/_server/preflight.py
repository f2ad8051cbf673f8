# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Private to this collection: may change in any release.
"""Whether a server is fit to become a mail server. Looks only, changes nothing.

Each check is a function from what was seen to a finding; examine() does the looking.
"""

import os
import re
import time
import typing as t
from ipaddress import ip_address

from ansible_collections.port587.mail.plugins.module_utils._daemons import nginx_syntax
from ansible_collections.port587.mail.plugins.module_utils._server import facts as server_facts
from ansible_collections.port587.mail.plugins.module_utils._server import firewall, preflight_net, security_updates
from ansible_collections.port587.mail.plugins.module_utils._server.memory import memory, read_text
from ansible_collections.port587.mail.plugins.module_utils._transaction.files import has_command, run_command

MIB = 1024 * 1024
GIB = 1024 * MIB

# A VPS sold with 512 MB has some 460 to 490 MiB left once the kernel has taken its own.
MEMORY_NEEDED = 448 * MIB
# Below this an update, or a search in a large mailbox, makes the kernel kill something. "1 GB" has 950 MiB or more.
MEMORY_WITHOUT_SWAP = 900 * MIB
DISK_NEEDED = GIB
CLOCK_TOLERANCE = 120.0
PORTS = (25, 110, 143, 465, 587, 993, 995, 4190)
# Where mail clients ask how to configure themselves, and certificate authorities whose name it is.
WEB_PORTS = (80, 443)

# Postfix and Dovecot, by what they run and, where that can't be seen, by their unit (postfix@-.service as well).
OUR_PROGRAMS = (
    "/usr/lib/postfix/",
    "/usr/libexec/postfix/",
    "/usr/sbin/dovecot",
    "/usr/lib/dovecot/",
    "/usr/libexec/dovecot/",
)
OUR_UNITS = ("postfix.", "postfix@", "dovecot.")
# It may well have been there before, with other sites.
WEB_PROGRAM, WEB_UNIT = "/usr/sbin/nginx", "nginx."
#: The site that role autoconfig writes, and what it names: what is wrong there, the run puts right.
OUR_SITE = r"/(?:zz-port587\.conf|etc/port587/|var/lib/port587/)"
WRITTEN_TO = ("/", "/etc", "/usr", "/var")
PACKAGE_LOCKS = ("/var/lib/dpkg/lock-frontend", "/var/lib/dpkg/lock", "/var/lib/apt/lists/lock")


class Finding(t.NamedTuple):
    name: str
    verdict: str  # ok | warn | fail
    seen: str
    expected: str
    cure: str = ""


class Process(t.NamedTuple):
    pid: int
    name: str
    unit: str  # "" where systemd knows of none
    program: str  # the path of what it runs, "" where that can't be seen

    def __str__(self) -> str:
        return f"{self.name} (pid {self.pid}{', ' + self.unit if self.unit else ''})"

    def is_ours(self, port: int) -> bool:
        if port in WEB_PORTS:
            return self.program == WEB_PROGRAM or self.unit.startswith(WEB_UNIT)
        return self.program.startswith(OUR_PROGRAMS) or self.unit.startswith(OUR_UNITS)


# Whoever holds something: one where that can be seen, else those who may.
Holders = t.Tuple[Process, ...]


def _finding(name: str, good: bool, seen: str, expected: str, cure: str, otherwise: str = "fail") -> Finding:
    return Finding(name, "ok", seen, expected) if good else Finding(name, otherwise, seen, expected, cure)


# What can't work


def check_root(user_id: int) -> Finding:
    return _finding("root", user_id == 0, f"user id {user_id}", "root (user id 0)", "set `become: true`")


def check_release(os_release: str) -> Finding:
    seen = server_facts.parse_os_release(os_release)
    known: t.Dict[str, t.List[str]] = {}
    for distribution, version in server_facts.RELEASES:
        known.setdefault(distribution.capitalize(), []).append(version)
    expected = "; ".join(f"{distribution} {', '.join(versions)}" for distribution, versions in known.items())
    return _finding(
        "release",
        seen in server_facts.RELEASES,
        " ".join(part for part in (seen[0].capitalize(), seen[1]) if part) or "no /etc/os-release",
        expected,
        "install one of these releases on the server",
    )


def check_systemd(booted: bool) -> Finding:
    return _finding(
        "systemd",
        booted,
        "systemd runs" if booted else "systemd isn't what this server was booted with",
        "systemd as init",
        "take a VPS, or a container that boots systemd",
    )


def check_ports(
    listening: t.Iterable[t.Tuple[int, Holders]], web: bool = False, other_mtas: t.Sequence[str] = ()
) -> Finding:
    others: t.Dict[Holders, t.List[int]] = {}
    for port, processes in sorted(set(listening)):  # a set, for most listen on IPv4 and on IPv6
        if not any(process.is_ours(port) for process in processes):
            others.setdefault(processes, []).append(port)
    seen = [
        f"{' or '.join(map(str, processes)) or 'a program outside this container'} listens on {_words(ports)}"
        for processes, ports in others.items()
    ]
    units = sorted({processes[0].unit for processes in others if len(processes) == 1} - {""})
    cures = [f"systemctl disable --now {' '.join(units)}"] if units else []
    if cures and other_mtas:
        cures.append(f"apt-get install postfix, which takes the place of {_words(other_mtas)}")
    if any(len(processes) != 1 or not processes[0].unit for processes in others):
        cures.append("stop the program, and whatever starts it")
    if any(port in WEB_PORTS for ports in others.values() for port in ports):
        cures.append("or do without the web server: `mail_autoconfig: false`")
    return _finding(
        "ports",
        not others,
        "; ".join(seen) or "no other program on them",
        f"nobody but Postfix and Dovecot on {_words(PORTS)}" + (f", but nginx on {_words(WEB_PORTS)}" if web else ""),
        "; ".join(cures),
    )


def check_web(code: int, said: str, configuration: str, names: t.Sequence[str]) -> Finding:
    """``code``, ``said``, ``configuration``: of `nginx -T`."""
    errors = re.findall(r"\[emerg\] (?:\d+#\d+: )?(.*)", said) if code else []
    seen = [f"nginx refuses its own configuration: {error}" for error in errors if not re.search(OUR_SITE, error)]
    for server in nginx_syntax.servers(configuration):
        taken = {name.lower() for name in server.names} & set(names)
        if server.ports & set(WEB_PORTS) and taken and not re.search(OUR_SITE, server.file):
            seen.append(f"{server.file} has the server_name {_words(sorted(taken))}")
    return _finding(
        "web",
        not seen,
        "; ".join(seen) or "nginx has room for the site",
        "an nginx in order, and no other site for the names of this one",
        "correct that (nginx -t), or do without the web server: `mail_autoconfig: false`",
    )


def check_firewall(found: t.Sequence[firewall.Shut], ports: t.Sequence[int]) -> Finding:
    return _finding(
        "firewall",
        not found,
        "; ".join(f"{one.by} lets nobody in on {_words(one.ports)}" for one in found) or "shuts none of the ports",
        f"{_words(sorted(ports))} open to the world, at the provider too",
        "; ".join(one.cure for one in found) + ". What is shut on purpose, leave out of `preflight_open_ports`",
    )


def check_memory(memory: int) -> Finding:
    return _finding(
        "memory",
        memory >= MEMORY_NEEDED,
        f"{memory // MIB} MiB",
        f"{MEMORY_NEEDED // MIB} MiB or more, which a VPS of 512 MB has",
        "take a larger VPS, or raise the container's memory limit",
    )


def check_disk(free: t.Dict[str, int]) -> Finding:
    least = min(free, key=lambda path: free[path])
    return _finding(
        "disk",
        free[least] >= DISK_NEEDED,
        f"{free[least] / GIB:.1f} GiB free on {least}",
        f"{DISK_NEEDED // GIB} GiB or more",
        f"make room on {least}: apt-get clean; journalctl --vacuum-size=50M; du -xh {least} | sort -h | tail",
    )


def check_writable(read_only: t.List[str]) -> Finding:
    return _finding(
        "writable",
        not read_only,
        f"read-only: {_words(read_only)}" if read_only else "writable",
        f"{_words(WRITTEN_TO)} writable",
        "look for disk errors first (journalctl -k -p err), then: mount -o remount,rw /",
    )


def check_clock(server: float, controller: float) -> Finding:
    off = server - controller
    return _finding(
        "clock",
        abs(off) <= CLOCK_TOLERANCE,
        f"the server's clock is {abs(off):.0f} s {'ahead of' if off > 0 else 'behind'} this machine's",
        f"{CLOCK_TOLERANCE:.0f} s or less",
        "timedatectl set-ntp true on the one of the two that is wrong",
    )


def check_apt(broken: t.List[str], busy: t.Tuple[Process, ...]) -> Finding:
    expected = "no package half installed, and apt not busy"
    if busy:
        # What it is working on looks half installed, and isn't.
        cure = "nothing to do: it is waited for, for ten minutes at most"
        return Finding("apt", "warn", f"{_words(busy)} is installing or updating packages", expected, cure)
    return _finding(
        "apt",
        not broken,
        f"not wholly installed: {_words(broken)}" if broken else "in order",
        expected,
        "dpkg --configure -a; apt-get --fix-broken install",
    )


# What will hurt


def check_swap(memory: int, swap: int) -> Finding:
    return _finding(
        "swap",
        memory >= MEMORY_WITHOUT_SWAP or swap > 0,
        f"{memory // MIB} MiB of memory and {swap // MIB} MiB of swap",
        f"swap, where there is less than {MEMORY_WITHOUT_SWAP // MIB} MiB of memory",
        "fallocate -l 1G /swapfile; chmod 600 /swapfile; mkswap /swapfile; swapon /swapfile; and a line in /etc/fstab",
        "warn",
    )


def check_updates(support: security_updates.Support, today: str) -> Finding:
    name = " ".join((support.release[0].capitalize(), support.release[1]))
    extended = support.extended and not support.has_extended and support.extended >= today
    return _finding(
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


def check_dns(sight: preflight_net.Sight) -> Finding:
    return _finding(
        "dns",
        sight.answers,
        "the name servers answer" if sight.answers else "no name server of /etc/resolv.conf answers",
        "name servers that answer: where mail goes is asked there",
        "look at /etc/resolv.conf and at the network",
        "warn",
    )


def check_hostname(hostname: str, sight: preflight_net.Sight) -> Finding:
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
        seen = f"{hostname} leads to {_words(others)} too, which is not this server" if sight.own else ""
        seen = seen or f"{hostname} leads to {_words(others)}, which is not this server"
    else:
        seen = f"{hostname} leads to {_words(addresses)}"
    return _finding(
        "hostname",
        bool(addresses) and others == unknown,
        seen,
        f"{hostname} leads to this server" + (f" ({_words(sight.sources)})" if sight.sources else ""),
        f"publish an A record for {hostname} (and AAAA where the server has IPv6) with the server's addresses only",
        "warn",
    )


def check_ptr(hostname: str, sight: preflight_net.Sight) -> t.Optional[Finding]:
    wrong = []
    for address, names in sight.pointers.items():
        if names is None:
            wrong.append(f"no name server answers for {address}")
        elif not names:
            wrong.append(f"{address} has no PTR record")
        elif hostname.lower() not in [name.lower() for name in names]:
            wrong.append(f"the PTR record of {address} says {_words(names)}")
    if not sight.pointers:
        return None  # the address isn't known; what is wrong then is the host name's own record
    return _finding(
        "ptr",
        not wrong,
        "; ".join(wrong) or f"{_words(sight.pointers)} says {hostname}",
        f"PTR record {hostname}, without which large providers refuse mail",
        f"set the reverse DNS of {_words(sight.pointers)} to {hostname} at the provider of the VPS",
        "warn",
    )


def check_ipv6(sight: preflight_net.Sight) -> Finding:
    has = any(":" in address and ip_address(address).is_global for address in sight.sources)
    return _finding(
        "ipv6",
        has,
        "has IPv6" if has else "no IPv6 address that reaches the world",
        "IPv6 besides IPv4",
        "mail goes over IPv4 alone; have the provider add IPv6 if senders need it",
        "warn",
    )


def check_outgoing(sight: preflight_net.Sight) -> t.Optional[Finding]:
    failed = [f"{host}: {reason}" for host, reason in sight.outgoing.items() if reason]
    if not sight.outgoing:
        return None
    return _finding(
        "outgoing",
        len(failed) < len(sight.outgoing),
        f"no connection to port 25 of {'; of '.join(failed)}" if failed else "other servers can be reached on port 25",
        "other mail servers can be reached on port 25",
        "ask the provider of the VPS to open outgoing port 25, or send through a relay host",
        "warn",
    )


# Looking


def parse_listening(text: str) -> t.Dict[str, int]:
    """The listening sockets of /proc/net/tcp or tcp6, inode -> port."""
    found = {}
    for line in text.splitlines()[1:]:
        field = line.split()
        if len(field) > 9 and field[3] == "0A":
            found[field[9]] = int(field[1].rsplit(":", 1)[1], 16)
    return found


def parse_unit(cgroup: str) -> str:
    """The innermost systemd service of /proc/PID/cgroup, whichever version of cgroups it is."""
    for line in cgroup.splitlines():
        controllers, path = line.split(":", 2)[1:]
        if controllers in ("", "name=systemd"):
            services = [part for part in path.split("/") if part.endswith(".service")]
            if services:
                return services[-1]
    return ""


def parse_session(stat: str) -> int:
    """The session of /proc/PID/stat. The program's name before it may have blanks and parentheses of its own."""
    fields = stat.rpartition(")")[2].split()
    return int(fields[3]) if len(fields) > 3 else 0


def parse_broken(status: str) -> t.List[str]:
    """The packages of /var/lib/dpkg/status that an installation was interrupted at, or failed."""
    found = re.findall(r"^Package: (\S+)\nStatus: \S+ (\S+) (\S+)$", status, re.MULTILINE)
    unfinished = ("half-installed", "half-configured", "unpacked")
    return [name for name, error, state in found if error != "ok" or state in unfinished]


def _words(values: t.Iterable[t.Any]) -> str:
    return ", ".join(str(value) for value in values)


def _link(path: str) -> str:
    """Where it leads to; nowhere if it is gone meanwhile, as files and processes are at any time."""
    try:
        return os.readlink(path)
    except FileNotFoundError:
        return ""


def _process(folder: str) -> Process:
    unit = parse_unit(read_text(f"{folder}/cgroup"))
    try:
        program = _link(f"{folder}/exe")
    except PermissionError:
        program = ""
    return Process(int(os.path.basename(folder)), read_text(f"{folder}/comm").strip(), unit, program)


def holders(root: str, targets: t.Iterable[str]) -> t.Dict[str, Holders]:
    """Who has each of these open (`socket:[1234]`).

    In a container even root may not look into a process that has changed its user, such as Postfix's master. What
    nobody else has open, one of those has: a leader of a session, for daemons are that and their children are not.
    """
    left = set(targets)
    found: t.Dict[str, Holders] = {}
    hidden: t.List[Process] = []
    pids = sorted(int(name) for name in os.listdir(f"{root}proc") if name.isdigit())
    # init last: it has the sockets of .socket units open together with the daemon that answers on them.
    for pid in [pid for pid in pids if pid != 1] + [1]:
        if not left:
            break
        folder = f"{root}proc/{pid}"
        try:
            opened = {_link(f"{folder}/fd/{name}") for name in os.listdir(f"{folder}/fd")}
        except PermissionError:
            if parse_session(read_text(f"{folder}/stat")) == pid:
                hidden.append(_process(folder))
            continue
        except OSError:
            continue  # gone meanwhile
        found.update({target: (_process(folder),) for target in left & opened})
        left -= opened
    found.update({target: tuple(hidden) for target in left})
    return found


def listeners(root: str, ports: t.Sequence[int]) -> t.List[t.Tuple[int, Holders]]:
    sockets: t.Dict[str, int] = {}
    for table in ("tcp", "tcp6"):
        sockets.update(parse_listening(read_text(f"{root}proc/net/{table}")))
    wanted = {f"socket:[{inode}]": port for inode, port in sockets.items() if port in ports}
    seen = holders(root, wanted) if wanted else {}
    units = socket_units() if any(len(found) > 1 for found in seen.values()) else {}
    return [(port, of_unit(seen[target], units.get(port, ""))) for target, port in wanted.items()]


def parse_socket_units(text: str) -> t.Dict[int, str]:
    """Port -> systemd service, as ss(8) prints the listening sockets with `--cgroup`."""
    found = re.findall(r"^LISTEN\s.*?:(\d+)\s.*\scgroup:(\S+)", text, re.MULTILINE)
    return {int(port): parse_unit(f"0::{path}") for port, path in found}


def socket_units() -> t.Dict[int, str]:
    """What the kernel remembers of who opened a socket. Nothing where ss(8) is missing, or from before 2020."""
    command = ["ss", "--no-header", "--listening", "--tcp", "--numeric", "--cgroup"]
    return parse_socket_units(run_command(command)[1]) if has_command("ss") else {}


def of_unit(processes: Holders, unit: str) -> Holders:
    """Those of the unit; all where it has none of them."""
    return tuple(process for process in processes if process.unit == unit) or processes


def package_users(root: str) -> t.Tuple[Process, ...]:
    """Who holds a lock of dpkg or apt. They lock with fcntl(), and those locks are in /proc/locks."""
    files = set()
    for path in PACKAGE_LOCKS:
        try:
            files.add(str(os.stat(path).st_ino))
        except OSError:
            continue
    locks = re.findall(r"POSIX\s+ADVISORY\s+WRITE\s+(\d+)\s+\w+:\w+:(\d+)\s", read_text(f"{root}proc/locks"))
    return tuple(_process(f"{root}proc/{pid}") for pid in sorted({pid for pid, inode in locks if inode in files}))


def running_for(root: str, pid: int) -> float:
    """Seconds since a process was started; 0 where it is gone."""
    fields = read_text(f"{root}proc/{pid}/stat").rpartition(")")[2].split()
    uptime = read_text(f"{root}proc/uptime").split()
    if len(fields) < 20 or not uptime:
        return 0.0
    return float(uptime[0]) - int(fields[19]) / os.sysconf("SC_CLK_TCK")


def free_space(paths: t.Iterable[str]) -> t.Dict[str, int]:
    found = {}
    for path in paths:
        state = os.statvfs(path)
        found[path] = state.f_bavail * state.f_frsize
    return found


def read_only(paths: t.Iterable[str]) -> t.List[str]:
    return [path for path in paths if os.statvfs(path).f_flag & os.ST_RDONLY]


CHECKS = (
    "root",
    "release",
    "systemd",
    "ports",
    "web",
    "firewall",
    "memory",
    "disk",
    "writable",
    "clock",
    "apt",
    "swap",
    "updates",
    "dns",
    "ipv6",
    "hostname",
    "ptr",
    "outgoing",
)
NETWORK = ("dns", "ipv6", "hostname", "ptr", "outgoing")


def examine(
    hostname: str,
    mail_hosts: t.List[str],
    controller_time: t.Optional[float],
    skip: t.List[str],
    web: bool = False,
    web_names: t.Sequence[str] = (),
    open_ports: t.Sequence[int] = (),
    root: str = "/",
) -> t.List[Finding]:
    """All findings, in the order of CHECKS. A check that is skipped does not look either."""
    amount, swap = memory(root)
    os_release = read_text(f"{root}etc/os-release") or read_text(f"{root}usr/lib/os-release")
    packages = read_text(f"{root}var/lib/dpkg/status")
    looks: t.Dict[str, t.Callable[[], t.Optional[Finding]]] = {
        "root": lambda: check_root(os.geteuid()),
        "release": lambda: check_release(os_release),
        # The test that sd_booted(3) makes.
        "systemd": lambda: check_systemd(os.path.isdir(f"{root}run/systemd/system")),
        "ports": lambda: check_ports(
            listeners(root, PORTS + (WEB_PORTS if web else ())), web, server_facts.parse_other_mtas(packages)
        ),
        "web": lambda: examine_web(web_names) if web and has_command("nginx") else None,
        "firewall": lambda: check_firewall(firewall.look(open_ports), open_ports) if open_ports else None,
        "memory": lambda: check_memory(amount),
        "disk": lambda: check_disk(free_space(("/", "/var"))),
        "writable": lambda: check_writable(read_only(WRITTEN_TO)),
        "clock": lambda: None if controller_time is None else check_clock(time.time(), controller_time),
        "apt": lambda: check_apt(parse_broken(packages), package_users(root)),
        "swap": lambda: check_swap(amount, swap),
        "updates": lambda: examine_updates(server_facts.parse_os_release(os_release), root),
    }
    # The clock and all else that is quick comes first: what the network takes must not count as the clock's error.
    findings = [looks[name]() for name in looks if name not in skip]
    if not set(NETWORK) <= set(skip):
        findings += examine_network(hostname, [] if "outgoing" in skip else mail_hosts, skip, root)
    return [finding for finding in findings if finding is not None]


def examine_web(names: t.Sequence[str]) -> Finding:
    code, configuration, said = run_command(["nginx", "-T"])
    return check_web(code, said, configuration, [name.lower() for name in names])


def examine_updates(release: t.Tuple[str, str], root: str) -> t.Optional[Finding]:
    support = security_updates.look(release, root)
    return check_updates(support, time.strftime("%Y-%m-%d", time.gmtime())) if support else None


def examine_network(
    hostname: str, mail_hosts: t.List[str], skip: t.List[str], root: str
) -> t.List[t.Optional[Finding]]:
    sight = preflight_net.look(
        hostname, mail_hosts, read_text(f"{root}etc/resolv.conf"), read_text(f"{root}run/systemd/resolve/resolv.conf")
    )
    looks: t.Dict[str, t.Callable[[], t.Optional[Finding]]] = {
        "dns": lambda: check_dns(sight),
        "ipv6": lambda: check_ipv6(sight),
        # Without name servers these would only say the same again.
        "hostname": lambda: check_hostname(hostname, sight) if sight.answers else None,
        "ptr": lambda: check_ptr(hostname, sight) if sight.answers else None,
        "outgoing": lambda: check_outgoing(sight) if sight.answers else None,
    }
    return [looks[name]() for name in looks if name not in skip]


# Saying it


def report(hostname: str, findings: t.List[Finding]) -> str:
    """One readable text: a line when all is well, else everything that isn't, the worst first."""
    fails = [finding for finding in findings if finding.verdict == "fail"]
    warns = [finding for finding in findings if finding.verdict == "warn"]
    if not fails:
        later = f", {len(warns)} warned" if warns else ""
        return f"{hostname}: this server is fit for mail ({len(findings)} checks{later})"
    lines = [f"{hostname}: this server is not fit for mail yet. This check has changed nothing."]
    for finding in fails + warns:
        lines += ["", f"{finding.verdict.upper()} {finding.name}: {finding.seen}"]
        lines += [f"  wanted: {finding.expected}", f"  cure: {finding.cure}"]
    return "\n".join(lines)


def warnings(hostname: str, findings: t.List[Finding]) -> t.List[str]:
    """One line each. They name the host, for equal warnings of several hosts are shown once."""
    return [
        f"{hostname}: {finding.name}: {finding.seen}. Cure: {finding.cure}."
        for finding in findings
        if finding.verdict == "warn"
    ]
