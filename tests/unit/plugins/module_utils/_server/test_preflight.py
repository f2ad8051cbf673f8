# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""preflight: from observations on a server to findings and their text."""

import os
import socket
import time
import typing as t
from pathlib import Path

import pytest
from ansible_collections.port587.mail.plugins.module_utils._server import (
    apt,
    facts,
    findings,
    memory,
    network_checks,
    ports,
    preflight,
    security_updates,
    server_checks,
)
from ansible_collections.port587.mail.plugins.module_utils._server.preflight import Request
from ansible_collections.port587.mail.plugins.module_utils._server.preflight_net import Sight
from ansible_collections.port587.mail.plugins.module_utils._server.proc import Process
from ansible_collections.port587.mail.plugins.module_utils._server.server_checks import MIB
from repository import ROOT

EXIM = Process(812, "exim4", "exim4.service", "/usr/sbin/exim4")
MASTER = Process(900, "master", "postfix@-.service", "/usr/lib/postfix/sbin/master")
DOVECOT = Process(901, "dovecot", "dovecot.service", "/usr/sbin/dovecot")


def tree(root: Path, **files: str) -> str:
    """A server's /proc and /sys, `__` for a slash. What it returns is passed as root."""
    for name, text in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return f"{root}/"


# Ports


def test_ports_of_our_own_daemons_are_fine() -> None:
    finding = server_checks.check_ports([(25, (MASTER,)), (587, (MASTER,)), (993, (DOVECOT,)), (993, (DOVECOT,))])
    assert finding.verdict == "ok"


def test_another_program_is_named_with_its_ports_and_unit() -> None:
    finding = server_checks.check_ports([(465, (EXIM,)), (25, (EXIM,)), (25, (EXIM,)), (993, (DOVECOT,))])
    assert finding.verdict == "fail"
    assert finding.seen == "exim4 (pid 812, exim4.service) listens on 25, 465"
    assert finding.cure == "systemctl stop exim4.service; systemctl disable exim4.service"


def test_a_mail_server_that_postfix_replaces() -> None:
    finding = server_checks.check_ports([(25, (EXIM,))], other_mtas=["exim4-daemon-light"])
    assert finding.cure == (
        "systemctl stop exim4.service; systemctl disable exim4.service;"
        " apt-get install postfix, which takes the place of exim4-daemon-light"
    )


def test_of_two_that_cannot_be_looked_into_the_kernel_knows_which() -> None:
    bus = Process(700, "dbus-daemon", "dbus.service", "")
    units = ports.parse_socket_units(
        "LISTEN 0      20      127.0.0.1:25    0.0.0.0:* cgroup:/docker/1/system.slice/exim4.service                \n"
        "LISTEN 0      20          [::1]:25       [::]:* cgroup:/system.slice/exim4.service \n"
        "LISTEN 0      4096   127.0.0.11:41905 0.0.0.0:* cgroup:/ \n"
    )
    assert units == {25: "exim4.service", 41905: ""}
    assert ports.of_unit((bus, EXIM), units[25]) == (EXIM,)
    assert ports.of_unit((bus, EXIM), "") == (bus, EXIM)


def test_another_program_beside_our_own_is_seen() -> None:
    finding = server_checks.check_ports([(25, (MASTER,)), (25, (EXIM,))])
    assert finding.seen == "exim4 (pid 812, exim4.service) listens on 25"


def test_nothing_is_told_to_be_disabled_that_may_not_be_it() -> None:
    dbus = Process(40, "dbus-daemon", "dbus.service", "")
    finding = server_checks.check_ports([(25, (dbus, EXIM._replace(program="")))])
    assert finding.seen == "dbus-daemon (pid 40, dbus.service) or exim4 (pid 812, exim4.service) listens on 25"
    assert "dbus" not in finding.cure


def test_our_own_daemon_that_cannot_be_looked_into_is_known_by_its_unit() -> None:
    hidden = (Process(40, "dbus-daemon", "dbus.service", ""), MASTER._replace(program=""))
    assert server_checks.check_ports([(25, hidden)]).verdict == "ok"


def test_a_program_outside_the_container_is_no_secret() -> None:
    assert server_checks.check_ports([(143, ())]).seen == "a program outside this container listens on 143"


def test_nginx_may_be_where_it_is_to_serve_and_nowhere_else() -> None:
    nginx = Process(7, "nginx", "nginx.service", "/usr/sbin/nginx")
    apache = Process(8, "apache2", "apache2.service", "/usr/sbin/apache2")
    assert server_checks.check_ports([(80, (nginx,)), (443, (nginx,))], web=True).verdict == "ok"
    assert server_checks.check_ports([(587, (nginx,))], web=True).verdict == "fail"
    taken = [(80, (apache,)), (443, (apache,))]
    assert "or do without the web server: `web: false`" in server_checks.check_ports(taken, web=True).cure
    finding = server_checks.check_ports(taken, web=True, variables={"web": "mail_autoconfig"})
    assert (finding.verdict, finding.seen) == ("fail", "apache2 (pid 8, apache2.service) listens on 80, 443")
    assert "systemctl stop apache2.service; systemctl disable apache2.service" in finding.cure
    assert "mail_autoconfig: false" in finding.cure


def test_a_program_on_this_machine_is_found() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        found = [(one.port, one.processes) for one in ports.listeners("/", (port,))]
        finding = server_checks.check_ports(found)
    assert f"(pid {os.getpid()}" in finding.seen
    assert finding.seen.endswith(f"listens on {port}")


# Memory, disk, clock


@pytest.mark.parametrize(("total", "verdict"), [(460, "ok"), (448, "ok"), (447, "fail"), (240, "fail")])
def test_memory(tmp_path: Path, total: int, verdict: str) -> None:
    root = tree(tmp_path, proc__meminfo=f"MemTotal:  {total * 1024} kB\nSwapTotal: 0 kB\n")
    amount, swap = memory.memory(root)
    assert (amount, swap) == (total * MIB, 0)
    finding = server_checks.check_memory(amount)
    assert finding.verdict == verdict
    assert finding.seen == f"{total} MiB"


@pytest.mark.parametrize(
    ("cgroup", "files", "expected"),
    [
        ("0::/", {"sys__fs__cgroup__memory.max": "268435456\n"}, 256),
        # a session deep inside a container: the limit is on a group around it
        ("0::/docker/x/user.slice/s.scope", {"sys__fs__cgroup__docker__x__memory.max": "268435456\n"}, 256),
        ("0::/", {"sys__fs__cgroup__memory.max": "max\n"}, 2000),
        ("9:cpu,memory:/docker/x", {"sys__fs__cgroup__memory__memory.limit_in_bytes": "268435456\n"}, 256),
        ("9:memory:/", {"sys__fs__cgroup__memory__memory.limit_in_bytes": "9223372036854771712\n"}, 2000),
        ("", {}, 2000),
    ],
)
def test_memory_limit_of_a_container(tmp_path: Path, cgroup: str, files: t.Dict[str, str], expected: int) -> None:
    meminfo = f"MemTotal: {2000 * 1024} kB\nMemFree: 1 kB\nSwapTotal: 1024 kB\n"
    root = tree(tmp_path, proc__meminfo=meminfo, proc__self__cgroup=cgroup, **files)
    assert memory.memory(root) == (expected * MIB, MIB)


@pytest.mark.parametrize(("amount", "swap", "verdict"), [(480, 0, "warn"), (480, 512, "ok"), (960, 0, "ok")])
def test_swap(amount: int, swap: int, verdict: str) -> None:
    assert server_checks.check_swap(amount * MIB, swap * MIB).verdict == verdict


def test_disk() -> None:
    assert server_checks.check_disk({"/": 9 << 30, "/var": 1 << 30}).verdict == "ok"
    finding = server_checks.check_disk({"/": 9 << 30, "/var": (1 << 30) - 1})
    assert finding.verdict == "fail"
    assert "free on /var" in finding.seen


def test_writable() -> None:
    assert server_checks.check_writable([]).verdict == "ok"
    assert server_checks.check_writable(["/"]).seen == "read-only: /"
    assert server_checks.read_only(["/proc/sys" if os.statvfs("/proc/sys").f_flag & os.ST_RDONLY else "/tmp"]) in (
        [],
        ["/proc/sys"],
    )


def test_apparmor(tmp_path):
    names = ("/usr/sbin/unbound", "dovecot-auth", "/usr/sbin/dovecot//doveconf", "postfix-smtpd", "lsb_release")
    modes = ("enforce", "enforce", "kill", "complain", "enforce")
    profiles = "".join("%s (%s)\n" % pair for pair in zip(names, modes))
    found = server_checks.check_apparmor(profiles)
    assert (found.verdict, found.seen) == ("warn", "AppArmor enforces /usr/sbin/dovecot//doveconf, dovecot-auth")
    assert server_checks.check_apparmor(profiles.replace("dovecot", "x")).verdict == "ok"
    # the kernel has none
    assert server_checks.check_apparmor("").verdict == "ok"
    kernel = tmp_path / "sys/kernel/security/apparmor"
    kernel.mkdir(parents=True)
    (kernel / "profiles").write_text(profiles)
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text("MemTotal: 1000000 kB\nSwapTotal: 0 kB\n")
    skip = set(preflight.CHECKS) - {"apparmor"}
    assert preflight.examine(preflight.Request("mail.example.com", skip=skip), str(tmp_path) + "/") == [found]


@pytest.mark.parametrize(
    ("off", "verdict", "seen"),
    [
        (0.0, "ok", "0 s"),
        (119.0, "ok", "119 s ahead of"),
        (-121.0, "fail", "121 s behind"),
        (86400.0, "fail", "86400 s ahead of"),
    ],
)
def test_clock(off: float, verdict: str, seen: str) -> None:
    finding = server_checks.check_clock(1000000.0 + off, 1000000.0)
    assert finding.verdict == verdict
    assert seen in finding.seen


# What the server is


def test_release() -> None:
    assert server_checks.check_release('ID=ubuntu\nVERSION_ID="18.04"\n').verdict == "ok"
    finding = server_checks.check_release('ID=debian\nVERSION_ID="10"\n')
    assert finding.verdict == "fail"
    assert finding.seen == "Debian 10"
    assert finding.expected == "Debian 11, 12, 13; Ubuntu 18.04, 20.04, 22.04, 24.04, 26.04"
    assert server_checks.check_release("").seen == "no /etc/os-release"


def test_root_and_systemd() -> None:
    assert server_checks.check_root(0).verdict == "ok"
    assert server_checks.check_root(1000).seen == "user id 1000"
    assert server_checks.check_root(1000).verdict == "fail"
    assert server_checks.check_systemd(True).verdict == "ok"
    assert server_checks.check_systemd(False).verdict == "fail"


def test_broken_packages() -> None:
    status = (
        "Package: good\nStatus: install ok installed\nPriority: x\n\n"
        "Package: waiting\nStatus: install ok triggers-awaited\n\n"
        "Package: gone\nStatus: deinstall ok config-files\n\n"
        "Package: half\nStatus: install ok half-configured\n\n"
        "Package: error\nStatus: install reinstreq installed\n"
    )
    assert apt.parse_broken(status) == ["half", "error"]
    assert server_checks.check_apt([], ()).verdict == "ok"
    assert server_checks.check_apt(["half"], ()).verdict == "fail"
    assert server_checks.check_apt(["half"], ()).seen == "not wholly installed: half"
    # what apt is working on at this moment looks the same
    assert server_checks.check_apt(["half"], (EXIM,)).verdict == "warn"


# What the world sees

PUBLIC = "9.9.9.10"
SIGHT = Sight(True, [PUBLIC], [PUBLIC], [PUBLIC], {PUBLIC: ["mail.example.com"]}, {"mx.example": ""})
NAME = "mail.example.com"


def test_all_well() -> None:
    assert network_checks.check_dns(SIGHT).verdict == "ok"
    assert network_checks.check_hostname(NAME, SIGHT).verdict == "ok"
    ptr, outgoing = network_checks.check_ptr("Mail.Example.com", SIGHT), network_checks.check_outgoing(SIGHT)
    assert ptr
    assert ptr.verdict == "ok"
    assert outgoing
    assert outgoing.verdict == "ok"
    assert network_checks.check_ipv6(SIGHT).verdict == "warn"
    assert network_checks.check_ipv6(SIGHT._replace(sources=[PUBLIC, "2600::1"])).verdict == "ok"
    assert network_checks.check_ipv6(SIGHT._replace(sources=[PUBLIC, "fd00::1"])).verdict == "warn"


@pytest.mark.parametrize(
    ("sight", "seen"),
    [
        (SIGHT._replace(addresses=[], own=[]), f"{NAME} has no address in the DNS"),
        (SIGHT._replace(addresses=None, own=[]), f"no name server answers for {NAME}"),
        (SIGHT._replace(addresses=["8.8.4.4"], own=[]), f"{NAME} leads to 8.8.4.4, which is not this server"),
        # an AAAA record that leads elsewhere hurts as well
        (SIGHT._replace(addresses=[PUBLIC, "2600::1"]), f"{NAME} leads to 2600::1 too, which is not this server"),
        # behind NAT a private address is still a wrong one
        (
            SIGHT._replace(addresses=["10.1.1.1"], own=[], sources=["10.0.0.4"]),
            f"{NAME} leads to 10.1.1.1, which is not this server",
        ),
    ],
)
def test_hostname_leads_elsewhere(sight: Sight, seen: str) -> None:
    finding = network_checks.check_hostname(NAME, sight)
    assert finding.verdict == "warn"
    assert finding.seen == seen


def test_hostname_behind_nat() -> None:
    assert network_checks.check_hostname(NAME, SIGHT._replace(own=[], sources=["10.0.0.4"])).verdict == "ok"


@pytest.mark.parametrize(
    ("names", "seen"),
    [
        ([], f"{PUBLIC} has no PTR record"),
        (["vps-10.provider.example"], f"the PTR record of {PUBLIC} says vps-10.provider.example"),
        (None, f"no name server answers for {PUBLIC}"),
    ],
)
def test_ptr(names: t.Optional[t.List[str]], seen: str) -> None:
    finding = network_checks.check_ptr(NAME, SIGHT._replace(pointers={PUBLIC: names}))
    assert finding
    assert finding.verdict == "warn"
    assert finding.seen == seen


def test_one_mail_host_that_can_be_reached_is_enough() -> None:
    finding = network_checks.check_outgoing(SIGHT._replace(outgoing={"a": "no answer within 1 s", "b": ""}))
    assert finding
    assert finding.verdict == "ok"
    finding = network_checks.check_outgoing(
        SIGHT._replace(outgoing={"a": "no answer within 1 s", "b": "connection refused"})
    )
    assert finding
    assert finding.verdict == "warn"
    assert finding.seen == "no connection to port 25 of a: no answer within 1 s; of b: connection refused"
    assert network_checks.check_outgoing(SIGHT._replace(outgoing={})) is None


# The web server that is there already


def site(name: str, text: str) -> str:
    return (
        "# configuration file /etc/nginx/nginx.conf:\nhttp { include sites-enabled/*; }\n"
        f"# configuration file /etc/nginx/sites-enabled/{name}:\n{text}\n"
    )


@pytest.mark.parametrize(
    ("file", "text", "seen"),
    [
        ("shop", "server{listen 80;server_name MAIL.example.com www.x;}", "shop has the server_name mail.example.com"),
        ("shop", "server { server_name mail.example.com; }", "shop has the server_name mail.example.com"),
        ("shop", "server { listen 8080; server_name mail.example.com; }", ""),
        ("shop", "server { listen 192.0.2.1:80; server_name mail.example.com; }", ""),
        ("shop", "server { listen 80; server_name www.example.com; # mail.example.com\n }", ""),
        ("zz-port587.conf", "server { listen 80; server_name mail.example.com; }", ""),
    ],
)
def test_another_site_for_a_name(file: str, text: str, seen: str) -> None:
    finding = server_checks.check_web(0, "", site(file, text), ["mail.example.com", "autoconfig.example.com"])
    assert finding.verdict == ("fail" if seen else "ok")
    assert finding.seen == (f"/etc/nginx/sites-enabled/{seen}" if seen else "nginx has room for the site")


@pytest.mark.parametrize(
    ("said", "verdict"),
    [
        ('nginx: [emerg] unknown directive "lisen" in /etc/nginx/sites-enabled/shop:2\n', "fail"),
        # what the run puts right
        ('nginx: [emerg] unknown directive "x" in /etc/nginx/sites-enabled/zz-port587.conf:2\n', "ok"),
        ('nginx: [emerg] cannot load certificate "/etc/port587/tls/combined.pem": BIO_new_file() failed\n', "ok"),
    ],
)
def test_an_nginx_that_is_out_of_order(said: str, verdict: str) -> None:
    assert server_checks.check_web(1, said, "", []).verdict == verdict


# Security updates


@pytest.mark.parametrize(
    ("release", "sources", "today", "verdict", "seen", "cure"),
    [
        (("debian", "11"), "", "2026-08-31", "ok", "Debian 11 gets security updates until 2026-08-31", ""),
        (
            ("debian", "11"),
            "",
            "2026-09-01",
            "warn",
            "Debian 11 has had no security updates since 2026-08-31",
            "upgrade to a newer release, or take the extended support that there is until 2031-06-30",
        ),
        (
            ("debian", "11"),
            "deb http://deb.freexian.com/extended-lts bullseye-lts main",
            "2026-09-01",
            "ok",
            "Debian 11 gets security updates until 2031-06-30",
            "",
        ),
        (
            ("ubuntu", "18.04"),
            "# deb https://esm.ubuntu.com/infra/ubuntu bionic-infra-security main",
            "2026-11-27",
            "warn",
            "Ubuntu 18.04 has had no security updates since 2023-05-31",
            "upgrade to a newer release, or take the extended support that there is until 2028-04-26",
        ),
        (
            ("ubuntu", "18.04"),
            "deb https://esm.ubuntu.com/infra/ubuntu bionic-infra-security main",
            "2028-04-27",
            "warn",
            "Ubuntu 18.04 has had no security updates since 2028-04-26",
            "upgrade to a newer release",
        ),
        (
            ("ubuntu", "20.04"),
            "Types: deb\nURIs: https://esm.ubuntu.com/infra/ubuntu\nSuites: focal-infra-security\n",
            "2026-11-27",
            "ok",
            "Ubuntu 20.04 gets security updates until 2030-04-23",
            "",
        ),
    ],
)
def test_security_updates(
    tmp_path: Path, release: t.Tuple[str, str], sources: str, today: str, verdict: str, seen: str, cure: str
) -> None:
    root = tree(tmp_path, **{"etc__apt__sources.list.d__more.list": sources})
    support = security_updates.look(release, root)
    assert support
    assert server_checks.check_updates(support, today)[1:3] == (verdict, seen)
    assert server_checks.check_updates(support, today).cure == cure


def test_the_server_s_own_table_is_newer(tmp_path: Path) -> None:
    debian = "version,codename,series,created,release,eol,eol-lts,eol-elts\n14,Forky,forky,2025-08-09\n12,Bookworm"
    debian += ",bookworm,2021-08-14,2023-06-10,2026-07-11,2028-07-31,2033-06-30\n,Sid,sid,1993-08-16\n"
    root = tree(tmp_path, **{"usr__share__distro-info__debian.csv": debian})
    assert security_updates.look(("debian", "12"), root) == (("debian", "12"), "2028-07-31", "2033-06-30", False)
    # not known there yet
    assert security_updates.look(("debian", "13"), root) == (("debian", "13"), "2030-06-30", "2035-06-30", False)
    assert security_updates.look(("debian", "14"), root) is None


def test_every_release_has_an_end() -> None:
    assert set(security_updates.ENDS) == set(facts.RELEASES)


# All of it together


def test_examine_this_machine_and_skip() -> None:
    # these two are left out where there is nothing to ask about
    skip = [*preflight.NETWORK, "web", "firewall", "nftables"]
    found = preflight.examine(Request(NAME, controller_time=time.time(), skip=skip))
    assert [finding.name for finding in found] == [name for name in preflight.CHECKS if name not in skip]
    assert [finding.name for finding in preflight.examine(Request(NAME, skip=[*skip, "ports"]))] == [
        name for name in preflight.CHECKS if name not in [*skip, "ports", "clock"]
    ]


def test_without_name_servers_only_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    blind = SIGHT._replace(answers=False, addresses=None, own=[], pointers={PUBLIC: None})
    monkeypatch.setattr(preflight.preflight_net, "look", lambda *_args: blind)
    found = preflight.examine_network(Request(NAME, ["mx.example"], skip=["ipv6"]), "/")
    assert [finding.name for finding in found if finding] == ["dns"]


def test_report_has_all_at_once_the_worst_first() -> None:
    found = [
        server_checks.check_swap(480 * MIB, 0),
        server_checks.check_root(0),
        server_checks.check_ports([(25, (EXIM,))]),
        server_checks.check_root(5),
    ]
    text = findings.report(NAME, found)
    assert [line for line in text.splitlines() if line[:5] in ("FAIL ", "WARN ")] == [
        "FAIL ports: exim4 (pid 812, exim4.service) listens on 25",
        "FAIL root: user id 5",
        "WARN swap: 480 MiB of memory and 0 MiB of swap",
    ]
    assert text.count("  cure: ") == text.count("  wanted: ") == 3


def test_report_of_a_fit_server_is_one_line() -> None:
    well = [server_checks.check_root(0)]
    assert findings.report(NAME, well) == f"{NAME}: this server is fit for mail (1 checks)"
    warned = [*well, server_checks.check_swap(480 * MIB, 0)]
    assert findings.report(NAME, warned) == f"{NAME}: this server is fit for mail (2 checks, 1 warned)"
    assert len(findings.warnings(NAME, warned)) == 1


def test_every_check_can_be_skipped_by_name_and_is_documented() -> None:
    names = ", ".join(preflight.CHECKS)
    specs = (ROOT / "roles/preflight/meta/argument_specs.yml").read_text()
    assert f"choices: [{names}]" in " ".join(specs.split())
    readme = (ROOT / "roles/preflight/README.md").read_text()
    assert all(f"| `{name}` |" in readme for name in preflight.CHECKS)


def test_half_configured_packages_of_our_own_are_completed() -> None:
    status = (
        "Package: dovecot-core\nStatus: install ok half-configured\nSource: dovecot (1.0)\n\n"
        "Package: dovecot-pgsql\nStatus: install ok unpacked\nSource: dovecot\n\n"
        "Package: postfix\nStatus: install ok installed\n\n"
        "Package: other\nStatus: install ok unpacked\n"
    )
    broken = apt.parse_broken(status)
    ours = apt.of_same_source(status, broken, ["dovecot-core", "postfix"])
    assert ours == ["dovecot-core", "dovecot-pgsql"]
    finding = server_checks.check_apt(broken, (), ours)
    assert (finding.verdict, finding.seen) == ("fail", "not wholly installed: other")
    assert server_checks.check_apt(ours, (), ours).verdict == "warn"
