# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Ubuntu has beside it: systemd-resolved as the machine's resolver, rsyslog, and a profile of AppArmor."""

import re
import typing as t

import controller
import pytest
from test_unbound import CONFIGURATION, SCENARIO, answer, name_of
from testinfra.host import Host

testinfra_hosts = ["ansible://mail"]
PROFILE = "/etc/apparmor.d/usr.sbin.unbound"


@pytest.fixture
def as_on_ubuntu(host: Host) -> t.Iterator[None]:
    """Docker mounts resolv.conf, so the stub's content stands in for a link to it."""
    host.check_output(
        "cp /etc/resolv.conf /root/ && apt-get install -q -y --no-install-recommends systemd-resolved rsyslog"
    )
    host.check_output("cat /run/systemd/resolve/stub-resolv.conf >/etc/resolv.conf")
    yield
    host.check_output("cat /root/resolv.conf >/etc/resolv.conf; apt-get purge -q -y systemd-resolved rsyslog")
    host.check_output("cat /root/resolv.conf >/etc/resolv.conf")


def test_it_works_beside_resolved_and_rsyslog(host: Host, as_on_ubuntu: None) -> None:
    assert host.check_output("ss -Hlnu 'sport = 53'").count("127.0.0.53%lo") == 1
    done = controller.play(SCENARIO / "unbound.yml", name_of(host), unbound_extra="server:\n  verbosity: 2")
    assert done.changed == 1, done.output
    assert answer(host) == "0 True"
    assert "nameserver 127.0.0.53" in host.check_output("cat /etc/resolv.conf")
    # the transaction quotes the journal, which rsyslog leaves as it is
    assert "start of service" in host.check_output("journalctl --quiet --unit=unbound --since=-1min --output=cat")
    assert "start of service" in host.check_output("tail -n 100 /var/log/syslog")
    assert controller.play(SCENARIO / "unbound.yml", name_of(host)).changed == 1


def permitted(profile: str, path: str) -> t.Set[str]:
    """What the profile's rules for files let its program do with one."""
    found = set()
    for glob, rights in re.findall(r"^\s*(?:owner\s+)?(/\S+)\s+([a-z]+),", profile, re.MULTILINE):
        pattern = re.escape(glob).replace(r"\*\*", ".*").replace(r"\*", "[^/]*")
        pattern = re.sub(r"\\\{([^}]*)\\\}", lambda match: f"(?:{match[1].replace(',', '|')})", pattern)
        if re.fullmatch(pattern, path):
            found.update(rights)
    return found


def test_the_profile_of_apparmor_permits_our_files(host: Host) -> None:
    """The kernel here has no AppArmor, so the rules are read. Ubuntu enforces this profile."""
    profile = host.file(PROFILE).content_string
    assert permitted(profile, CONFIGURATION) >= {"r"}
    key = host.check_output(f"unbound-checkconf -o auto-trust-anchor-file {CONFIGURATION}")
    assert permitted(profile, key or "/var/lib/unbound/root.key") >= {"r", "w"}
    # a file that unbound_extra might name
    assert permitted(profile, "/etc/port587/unbound.conf") == set()
