# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Cause each error and warning of preflight on the server, and check the message."""

import contextlib
import json
import os
import pathlib
import re
import time
import typing as t

import pytest
from controller import Played, end, start
from testinfra.host import Host

# What depends on the network that the container is in, and on the day
OUTSIDE = ["dns", "ipv6", "hostname", "ptr", "outgoing", "updates"]
SCENARIO = pathlib.Path(os.environ["MOLECULE_SCENARIO_DIRECTORY"])
Ask = t.Callable[..., t.Dict[str, t.Any]]


def name_of(host: Host) -> str:
    return str(host.ansible.get_variables()["inventory_hostname"])


def address_of(host: Host) -> str:
    return str(host.ansible.get_variables()["ansible_host"])


def ansible(command: str, host: Host, *arguments: str) -> Played:
    return end(start(command, name_of(host), *arguments, ANSIBLE_CALLBACK_RESULT_FORMAT="json"))


@pytest.fixture
def ask(host: Host) -> Ask:
    """Run the module once, and give what it answered: `failed`, `msg`, `warnings` and `findings`, by name."""

    def run(become_user: str = "root", **options: t.Any) -> t.Dict[str, t.Any]:
        arguments = json.dumps({"hostname": "mail.example.com", **options})
        user = ["--become", f"--become-user={become_user}"]
        done = ansible("ansible", host, "mail", "--module-name=port587.mail.preflight", f"--args={arguments}", *user)
        found = re.search(r"(SUCCESS|FAILED!) => (\{.*^\})", done.output, re.DOTALL | re.MULTILINE)
        assert found, done.output
        result: t.Dict[str, t.Any] = json.loads(found.group(2))
        assert result["changed"] is False
        result["failed"] = found.group(1) != "SUCCESS"
        result["warnings"] = re.findall(r"^\[WARNING\]: (.*)", done.output, re.MULTILINE)
        result["findings"] = {finding["name"]: finding for finding in result.get("findings", [])}
        return result

    return run


@contextlib.contextmanager
def provoked(host: Host, begin: str, end: str) -> t.Iterator[None]:
    host.run_expect([0], begin)
    try:
        yield
    finally:
        host.run_expect([0], end)


def listening(port: int) -> str:
    """Wait until somebody does."""
    return f"for i in $(seq 50); do ! grep ':{port:04X} .* 0A ' /proc/net/tcp || break; sleep 0.1; done"


def mounted(host: Host, path: str, content: str) -> t.ContextManager[None]:
    """Another content in place of a file's, as a container's host shows its guests."""
    other = "/root/other-" + path.rsplit("/", 1)[1]
    begin = f"printf %s '{content}' >{other} && mount --bind {other} $(readlink -f {path})"
    return provoked(host, begin, f"umount $(readlink -f {path})")


def test_a_fit_server(ask: Ask) -> None:
    result = ask(skip=OUTSIDE, controller_time=time.time())
    assert not result["failed"]
    assert result["msg"] == "mail.example.com: this server is fit for mail (12 checks)"
    assert result["warnings"] == []


@pytest.mark.parametrize("wrong", ["mail", "mail.example.com.", "192.0.2.1", "-x.example.com", "mail .example.com", ""])
def test_host_name_that_is_none(host: Host, wrong: str) -> None:
    variables = json.dumps({"mail_hostname": wrong})
    done = ansible("ansible-playbook", host, f"--extra-vars={variables}", str(SCENARIO / "converge.yml"))
    assert done.code != 0
    assert f"mail_hostname: {wrong!r} is not a fully qualified host name" in done.output
    assert "Check whether this server is fit" not in done.output


def test_another_program_on_our_ports(host: Host, ask: Ask) -> None:
    begin = (
        "systemd-run --quiet --unit=other-mta python3 -m http.server 25 --bind 127.0.0.1 &&"
        f"systemd-run --quiet --unit=other-imap python3 -m http.server 993; {listening(25)}; {listening(993)}"
    )
    with provoked(host, begin, "systemctl stop other-mta other-imap"):
        pids = [
            host.check_output(f"systemctl show --property MainPID --value {unit}")
            for unit in ("other-mta", "other-imap")
        ]
        result = ask(skip=OUTSIDE)
        assert result["failed"]
        lines = result["msg"].splitlines()
        assert lines[0] == "mail.example.com: this server is not fit for mail yet. This check has changed nothing."
        assert "FAIL ports: " in lines[2]
        assert re.search(rf"python3[.0-9]* \(pid {pids[0]}, other-mta.service\) listens on 25", lines[2])
        assert re.search(rf"python3[.0-9]* \(pid {pids[1]}, other-imap.service\) listens on 993", lines[2])
        units = "other-imap.service other-mta.service"
        assert lines[4] == f"  cure: systemctl stop {units}; systemctl disable {units}"
        # knowingly
        assert not ask(skip=[*OUTSIDE, "ports"])["failed"]


@pytest.mark.one_host
def test_everything_that_is_wrong_is_said_at_once(host: Host, ask: Ask) -> None:
    meminfo = "MemTotal:         245760 kB\nSwapTotal:             0 kB\n"
    with mounted(host, "/proc/meminfo", meminfo), mounted(host, "/etc/os-release", 'ID=debian\nVERSION_ID="10"\n'):
        result = ask(skip=OUTSIDE, controller_time=time.time() + 600)
    assert result["failed"]
    told = [line for line in result["msg"].splitlines() if line[:5] in ("FAIL ", "WARN ")]
    assert told[0] == "FAIL release: Debian 10"
    assert told[1] == "FAIL memory: 240 MiB"
    assert re.fullmatch(r"FAIL clock: the server's clock is (59\d|60\d) s behind this machine's", told[2])
    assert told[3] == "WARN swap: 240 MiB of memory and 0 MiB of swap"
    assert len(told) == 4
    assert "  wanted: 448 MiB or more, which a VPS of 512 MB has" in result["msg"]


@pytest.mark.one_host
def test_a_small_vps_is_warned_of_swap(host: Host, ask: Ask) -> None:
    with mounted(host, "/proc/meminfo", "MemTotal:         480000 kB\nSwapTotal:             0 kB\n"):
        result = ask(skip=OUTSIDE)
    assert not result["failed"]
    assert result["msg"] == "mail.example.com: this server is fit for mail (11 checks, 1 warned)"
    assert result["warnings"] == [
        "mail.example.com: swap: 468 MiB of memory and 0 MiB of swap. Cure: fallocate -l 1G /swapfile; "
        "chmod 600 /swapfile; mkswap /swapfile; swapon /swapfile; and a line in /etc/fstab."
    ]


def test_a_release_without_security_updates(host: Host, ask: Ask) -> None:
    with mounted(host, "/etc/os-release", 'ID=ubuntu\nVERSION_ID="18.04"\n'):
        result = ask(skip=OUTSIDE[:-1])
    assert not result["failed"]
    assert result["warnings"] == [
        "mail.example.com: updates: Ubuntu 18.04 has had no security updates since 2023-05-31. Cure: upgrade to a "
        "newer release, or take the extended support that there is until 2028-04-26."
    ]


@pytest.fixture(scope="module")
def programs(host: Host) -> None:
    """What a person may have installed before. They stay, and don't run."""
    policy = "/usr/sbin/policy-rc.d"
    host.run_expect([0], f"printf '#!/bin/sh\\nexit 101\\n' >{policy} && chmod +x {policy} && apt-get -qq update")
    host.run_expect([0], "apt-get -qq install --no-install-recommends ufw nftables nginx")
    host.run_expect([0], f"rm {policy} /etc/nginx/sites-enabled/default")


@pytest.mark.usefixtures("programs")
def test_ufw(host: Host, ask: Ask) -> None:
    with provoked(host, "ufw allow 22/tcp && ufw --force enable", "ufw disable"):
        result = ask(skip=OUTSIDE, open_ports=[25, 993, 22])
        assert result["failed"]
        lines = result["msg"].splitlines()
        assert lines[2] == "FAIL firewall: ufw lets nobody in on 25, 993"
        assert lines[3] == "  wanted: 22, 25, 993 open to the world, at the provider too"
        cure = re.match(r"  cure: (.*)\. What is shut on purpose, leave out of `open_ports`", lines[4])
        assert cure
        assert cure.group(1) == "ufw allow 25,993/tcp"
        # for one network only: somebody may come in
        host.run_expect([0], "ufw allow from 192.0.2.0/24 to any port 25 proto tcp")
        assert "ufw lets nobody in on 993\n" in ask(skip=OUTSIDE, open_ports=[25, 993, 22])["msg"]
        host.run_expect([0], cure.group(1))
        assert ask(skip=OUTSIDE, open_ports=[25, 993, 22])["findings"]["firewall"]["verdict"] == "ok"


NFTABLES = """
table inet port587_test {
  chain input {
    type filter hook input priority 0; policy drop;
    ct state vmap { established : accept, related : accept, invalid : drop }
    iifname "lo" accept
    meta l4proto { icmp, ipv6-icmp } accept
    tcp dport { 22, 80-90 } accept
    tcp dport 465 limit rate 10/second accept
    jump mail
    reject with icmpx type admin-prohibited
  }
  chain mail {
    meta nfproto ipv6 accept
    udp dport 25 accept
  }
}"""


@pytest.mark.usefixtures("programs")
def test_nftables(host: Host, ask: Ask) -> None:
    ports = [25, 80, 465]
    with provoked(host, f"echo '{NFTABLES}' | nft -f -", "nft delete table inet port587_test"):
        result = ask(skip=OUTSIDE, open_ports=ports)
        assert result["failed"]
        assert "FAIL firewall: nftables lets nobody in on 25\n" in result["msg"]
        cure = re.search(r"  cure: (nft .*), and the same rule in /etc/nftables.conf", result["msg"])
        assert cure
        host.run_expect([0], cure.group(1))
        assert not ask(skip=OUTSIDE, open_ports=ports)["failed"]
        # knowingly
        host.run_expect([0], "nft insert rule inet port587_test input tcp dport 25 drop")
        assert not ask(skip=[*OUTSIDE, "firewall"], open_ports=ports)["failed"]


@pytest.mark.usefixtures("programs")
def test_an_nginx_with_another_site_for_the_name(host: Host, ask: Ask) -> None:
    """Found before anything is set up, and not taken for another program on the port."""
    site, line = "/etc/nginx/sites-enabled/shop", "server { listen 80; server_name www.example.org %s; }"
    with provoked(host, f"echo '{line % ''}' >{site} && nginx", f"rm {site} && nginx -s stop"):
        result = ask(skip=OUTSIDE, web=True, web_names=["Mail.example.com"])
        assert not result["failed"], result["msg"]
        assert result["findings"]["ports"]["verdict"] == result["findings"]["web"]["verdict"] == "ok"
        host.run_expect([0], f"echo '{line % 'mail.EXAMPLE.com'}' >{site}")
        message = ask(skip=OUTSIDE, web=True, web_names=["Mail.example.com"])["msg"]
        assert f"FAIL web: {site} has the server_name mail.example.com\n" in message
        host.run_expect([0], f"echo 'lisen 80;' >{site}")
        message = ask(skip=OUTSIDE, web=True)["msg"]
        assert f'FAIL web: nginx refuses its own configuration: unknown directive "lisen" in {site}:1\n' in message


def test_full_disk(host: Host, ask: Ask) -> None:
    with provoked(host, "mount -t tmpfs -o size=100m tmpfs /var", "umount --lazy /var"):
        result = ask(skip=[*OUTSIDE, "apt"])
    assert result["failed"]
    assert "FAIL disk: 0.1 GiB free on /var" in result["msg"]


def test_read_only(host: Host, ask: Ask) -> None:
    with provoked(host, "mount --bind /usr /usr && mount -o remount,bind,ro /usr", "umount --lazy /usr"):
        result = ask(skip=OUTSIDE)
    assert result["failed"]
    assert "FAIL writable: read-only: /usr" in result["msg"]


def test_not_root(ask: Ask) -> None:
    result = ask(become_user="nobody", skip=OUTSIDE)
    assert result["failed"]
    assert "FAIL root: user id 65534" in result["msg"]
    assert "cure: set `become: true`" in result["msg"]


def test_package_that_is_half_installed(host: Host, ask: Ask) -> None:
    control = (
        "Package: port587-half\\nVersion: 1\\nArchitecture: all\\nMaintainer: x <x@example.com>\\nDescription: x\\n"
    )
    begin = f"mkdir -p /root/half/DEBIAN && printf '{control}' >/root/half/DEBIAN/control"
    begin += " && dpkg-deb --build /root/half && dpkg --unpack /root/half.deb"
    with provoked(host, begin, "dpkg --purge port587-half"):
        result = ask(skip=OUTSIDE)
    assert result["failed"]
    assert "FAIL apt: not wholly installed: port587-half\n" in result["msg"]
    assert "cure: dpkg --configure -a; apt-get --fix-broken install" in result["msg"]


def test_apt_at_work(host: Host, ask: Ask) -> None:
    script = 'import fcntl, time; f = open("/var/lib/dpkg/lock-frontend", "w"); fcntl.lockf(f, fcntl.LOCK_EX)'
    script += "; time.sleep(60)"
    begin = (
        f"systemd-run --quiet --unit=other-apt python3 -c '{script}' &&"
        " for i in $(seq 50); do grep -q POSIX.*WRITE /proc/locks && exit; sleep .1; done; exit 1"
    )
    with provoked(host, begin, "systemctl stop other-apt"):
        result = ask(skip=OUTSIDE)
    assert not result["failed"]
    assert re.search(
        r"apt: python3\S* \(pid \d+, other-apt.service\) is installing or updating packages", result["warnings"][0]
    )


def test_the_dns_leads_here(host: Host, ask: Ask) -> None:
    """Docker's own name server knows the container by its host name, and its address by another."""
    hostname = host.check_output("hostname")
    result = ask(hostname=hostname)
    assert result["findings"]["dns"]["verdict"] == "ok"
    assert result["findings"]["hostname"]["verdict"] == "ok"
    assert address_of(host) in result["findings"]["hostname"]["seen"]
    pointer = result["findings"]["ptr"]
    assert pointer["verdict"] == "warn"
    name = re.match(rf"the PTR record of {address_of(host)} says ([^ ;]+)", pointer["seen"])
    assert name, pointer
    assert pointer["cure"].endswith(f"to {hostname} at the provider of the VPS")

    result = ask(hostname=name.group(1))
    assert result["findings"]["hostname"]["verdict"] == "ok"
    assert result["findings"]["ptr"]["verdict"] == "ok"


def test_hosts_file_is_no_dns(host: Host, ask: Ask) -> None:
    """What most providers write into it says nothing about the world."""
    with mounted(host, "/etc/hosts", "127.0.1.1 mail.example.com\n"):
        result = ask()
    assert result["findings"]["hostname"]["seen"] == "mail.example.com has no address in the DNS"


def test_name_servers_that_do_not_answer(host: Host, ask: Ask) -> None:
    """Nothing else is said then, and the wait is bounded."""
    with mounted(host, "/etc/resolv.conf", "nameserver 192.0.2.53\nnameserver 192.0.2.54\n"):
        start = time.monotonic()
        result = ask(smtp_probe_hosts=["mx.example.com"], skip=["ipv6", "updates"])
        took = time.monotonic() - start
    assert not result["failed"]
    assert [warning.split(": ")[1] for warning in result["warnings"]] == ["dns"]
    assert took < 20


@pytest.mark.one_host
def test_outgoing(host: Host, ask: Ask) -> None:
    address = address_of(host)
    silent = address.rsplit(".", 1)[0] + ".250"
    assert ask(smtp_probe_hosts=[address])["findings"]["outgoing"]["seen"] == (
        f"no connection to port 25 of {address}: connection refused"
    )
    start = time.monotonic()
    blocked = ask(smtp_probe_hosts=[silent, "no-such-host.example"])["findings"]["outgoing"]
    assert time.monotonic() - start < 20
    assert blocked["verdict"] == "warn"
    assert f"of {silent}: no answer within 1 s; of no-such-host.example: it has no IPv4 address" in blocked["seen"]

    begin = f"systemd-run --quiet --unit=other-mta python3 -m http.server 25 --bind {address}; {listening(25)}"
    with provoked(host, begin, "systemctl stop other-mta"):
        assert ask(smtp_probe_hosts=[silent, address], skip=["ports"])["findings"]["outgoing"]["verdict"] == "ok"


def test_warnings_are_not_repeated(ask: Ask) -> None:
    """With `only_new`, as the role has it: each is said once, and again when it is another one."""
    of_no_address = {"hostname": "once.example.com", "skip": ["ipv6", "ptr", "outgoing", "updates"]}
    first = ask(only_new=True, **of_no_address)
    assert [warning.split(": ")[1] for warning in first["warnings"]] == ["hostname"]
    again = ask(only_new=True, **of_no_address)
    assert again["warnings"] == []
    assert again["findings"]["hostname"] == first["findings"]["hostname"]
    assert len(ask(**of_no_address)["warnings"]) == 1


def test_without_python(host: Host, ask: Ask) -> None:
    """Ansible needs it on the server, and says no more than that a module has failed."""

    def raw(command: str) -> None:
        done = ansible("ansible", host, "mail", "--module-name=raw", f"--args={command}")
        assert done.code == 0, done.output

    raw("mkdir /root/away && mv /usr/bin/python3* /root/away/")
    try:
        result = ask()
    finally:
        raw("mv /root/away/* /usr/bin/ && rmdir /root/away")
    assert result["failed"]
    assert "is not on this server, and Ansible needs Python 3.6 or later there" in result["msg"]
    assert "apt-get install -y python3" in result["msg"]


def test_nothing_is_left_behind(host: Host) -> None:
    assert host.run("dpkg --audit").stdout == ""
    assert host.run("grep -c ' /var \\| /usr ' /proc/mounts").stdout.strip() == "0"
