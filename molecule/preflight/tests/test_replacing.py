# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Another mail server keeps running until a person replaces it; then Postfix is behind systemd-resolved.

These tests run last, since they install Postfix.
"""

import json
import re
import smtplib
import typing as t

import pytest
from controller import Played
from test_preflight import OUTSIDE, SCENARIO, Ask, address_of, ansible, listening
from test_preflight import ask as ask
from testinfra.host import Host

APT = "DEBIAN_FRONTEND=noninteractive apt-get -q -y"


@pytest.fixture(scope="module")
def exim(host: Host) -> None:
    """As Debian's installer leaves it, with a program that wants a mail server, and one that looks like another."""
    packages = "exim4-daemon-light bsd-mailx dbus"
    host.run_expect([0], f"apt-get -q update && {APT} --no-install-recommends install {packages}")


def play(host: Host, *arguments: str) -> Played:
    return ansible("ansible-playbook", host, *arguments, str(SCENARIO / "postfix.yml"))


def mail_servers(host: Host) -> t.Tuple[str, str]:
    """The installed packages, and whether exim runs."""
    packages = host.check_output("dpkg-query -W -f '${Package} ${db:Status-Abbrev}\\n' 'exim4*' 'postfix*' bsd-mailx")
    return packages, host.run("systemctl is-active exim4").stdout.strip()


@pytest.mark.usefixtures("exim")
def test_preflight_names_it_and_nothing_else(ask: Ask) -> None:
    told = ask(skip=OUTSIDE)["msg"]
    assert re.search(r"^FAIL ports: exim4 \(pid \d+, exim4\.service\) listens on 25$", told, re.MULTILINE), told
    assert "cure: systemctl stop exim4.service; systemctl disable exim4.service; apt-get install postfix, which" in told


@pytest.mark.usefixtures("exim")
def test_postfix_alone_waits_until_it_is_replaced(host: Host) -> None:
    before = mail_servers(host)
    assert before[1] == "active"
    for arguments in (["--check"], []):
        played = play(host, *arguments)
        assert played.code != 0
        assert "apt: would remove exim4-daemon-light to install postfix" in played.output, played.output
        assert mail_servers(host) == before

    cure = re.search(r"`(apt-get [^`]*)`", played.output)
    assert cure, played.output
    host.run_expect([0], cure[1].replace("apt-get", APT))
    assert mail_servers(host)[1] != "active"
    assert host.run("pgrep -x exim4").failed
    played = play(host)
    assert played.code == 0, played.output
    assert "bsd-mailx ii" in mail_servers(host)[0]
    banner = host.check_output("timeout 1 bash -c 'read -r line </dev/tcp/127.0.0.1/25; echo $line'")
    assert banner.strip() == "220 mail.example.com ESMTP"


@pytest.fixture(scope="module")
def resolved(host: Host) -> t.Iterator[None]:
    """/etc/resolv.conf as on Ubuntu: a link to what systemd-resolved writes. It asks Docker's name server."""
    # up to Debian 11 it is a part of systemd
    host.run(f"{APT} --no-install-recommends install systemd-resolved")
    host.check_output(
        "cp /etc/resolv.conf /root/ && mkdir -p /etc/systemd/resolved.conf.d && "
        "printf '[Resolve]\nDNS=127.0.0.11\n' >/etc/systemd/resolved.conf.d/docker.conf && "
        "umount /etc/resolv.conf; ln -sf /run/systemd/resolve/stub-resolv.conf /etc/resolv.conf && "
        "systemctl enable systemd-resolved && systemctl restart systemd-resolved"
    )
    yield
    host.check_output("rm /etc/resolv.conf && mv /root/resolv.conf /etc/ && systemctl disable --now systemd-resolved")


@pytest.mark.usefixtures("resolved")
def test_preflight_behind_resolveds_stub(host: Host, ask: Ask) -> None:
    assert "nameserver 127.0.0.53" in host.check_output("cat /etc/resolv.conf").splitlines()
    hostname = host.check_output("hostname")
    findings = ask(hostname=hostname, skip=["ports", "outgoing", "updates"])["findings"]
    assert [findings[name]["verdict"] for name in ("dns", "hostname", "ptr")] == ["ok", "ok", "warn"], findings
    assert address_of(host) in findings["hostname"]["seen"]
    assert findings["ptr"]["cure"].endswith(f"to {hostname} at the provider of the VPS")

    unknown = ask(hostname="no-such-host.example", skip=["ports", "outgoing", "updates"])["findings"]
    assert (unknown["dns"]["verdict"], unknown["hostname"]["verdict"]) == ("ok", "warn")

    host.check_output("systemctl stop systemd-resolved")
    silent = ask(hostname=hostname, skip=["ports", "outgoing", "updates"])["findings"]
    host.check_output("systemctl start systemd-resolved")
    assert silent["dns"]["verdict"] == "warn"
    assert silent["dns"]["seen"] == "no name server of /etc/resolv.conf answers"


def accepted(host: Host) -> t.List[str]:
    """The domains from which Postfix takes mail: those that the DNS knows."""
    domains = (host.check_output("hostname"), "no-such-domain.example")
    found = []
    for domain in domains:
        with smtplib.SMTP(address_of(host), 25, timeout=30) as smtp:
            smtp.ehlo("client.example")
            smtp.mail(f"sender@{domain}")
            found += [domain] * (smtp.rcpt("postmaster@mail.example.com")[0] == 250)
    return found


@pytest.mark.usefixtures("resolved")
def test_postfix_behind_resolveds_stub(host: Host) -> None:
    units = "for unit in postfix@- postfix; do ! systemctl is-active $unit || systemctl restart $unit; done"
    host.check_output(f"{units}; {listening(25)}")
    hostname = host.check_output("hostname")
    assert accepted(host) == [hostname]
    # a resolver for Postfix alone: the machine's own is a link, and stays
    played = play(host, f"--extra-vars={json.dumps({'postfix_nameservers': ['127.0.0.11']})}")
    assert played.code == 0, played.output
    host.check_output("systemctl stop systemd-resolved")
    with_its_own = accepted(host)
    assert play(host).code == 0
    with_the_stub = accepted(host)
    host.check_output("systemctl start systemd-resolved")
    assert (with_its_own, with_the_stub) == ([hostname], [])
    assert host.file("/etc/resolv.conf").linked_to == "/run/systemd/resolve/stub-resolv.conf"
    assert "nameserver 127.0.0.53" in host.check_output("cat /etc/resolv.conf").splitlines()
