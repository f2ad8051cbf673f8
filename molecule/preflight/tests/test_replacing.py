# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Another mail server keeps running until a person replaces it. These tests run last, since they install Postfix."""

import re
import typing as t

import pytest
from controller import Played
from test_preflight import OUTSIDE, SCENARIO, Ask, ansible
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
    played = play(host)
    assert played.code == 0, played.output
    assert "bsd-mailx ii" in mail_servers(host)[0]
    assert " ESMTP" in host.check_output("timeout 1 bash -c 'read -r line </dev/tcp/127.0.0.1/25; echo $line'")
