# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The resolver alone: it is used only if it validates, and does not conflict with other programs."""

import functools
import os
import pathlib
import typing as t

import controller
import pytest
from controller import Played
from exposure import too_exposed
from testinfra.host import Host

SCENARIO = pathlib.Path(os.environ["MOLECULE_SCENARIO_DIRECTORY"])
CONFIGURATION = "/etc/unbound/port587.conf"
#: The key of the world's root, which did not sign this one.
ELSEWHERE = ". IN DS 20326 8 2 E06D44B80B8F1D39A95C0B0D7C65D08458E880409BBC683457104237C7F8EC8D"
#: Ask for the root's name servers with AD; print the response code, and whether they were validated.
ASK = """
import socket, struct
asked = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
asked.settimeout(5)
asked.sendto(struct.pack("!6H", 7, 0x0120, 1, 0, 0, 0) + struct.pack("!BHH", 0, 2, 1), ("127.0.0.1", 53))
flags = struct.unpack("!2H", asked.recv(512)[:4])[1]
print(flags & 15, bool(flags & 32))
"""

testinfra_hosts = ["ansible://mail"]


@pytest.fixture
def play(host: Host) -> t.Callable[..., Played]:
    """Run the play again, with other values."""
    return functools.partial(controller.play, SCENARIO / "unbound.yml", name_of(host))


def name_of(host: Host) -> str:
    return str(host.ansible.get_variables()["inventory_hostname"])


def answer(host: Host) -> str:
    return host.check_output(f"python3 -c '{ASK}'")


def test_it_validates_for_who_asks_it(host: Host) -> None:
    assert answer(host) == "0 True"
    assert "nameserver 127.0.0.1" not in host.check_output("cat /etc/resolv.conf").splitlines()
    assert host.check_output("systemctl is-enabled unbound") == "enabled"


def test_it_is_restricted(host: Host) -> None:
    # HAProxy is the tests' own
    assert set(too_exposed(host, "unbound")) <= {"haproxy.service"}


def test_nobody_else_can_ask_it(host: Host) -> None:
    """Docker's own name server is on 127.0.0.11."""
    listening = {line.split()[4] for line in host.check_output("ss -Hlnut").splitlines()}
    assert {one for one in listening if one.endswith(":53")} == {"127.0.0.1:53"}


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (
            {"unbound_forwarders": ["ns.example.net"], "unbound_trust_anchors": [". IN A 192.0.2.1"]},
            ["'ns.example.net' is not an IP address", "'. IN A 192.0.2.1' is not a DS or DNSKEY record"],
        ),
        ({"unbound_extra": "server:\n  no-such-option: yes"}, [f"{CONFIGURATION}:", "no-such-option"]),
        # it is signed, but by somebody else
        (
            {"unbound_trust_anchors": [ELSEWHERE]},
            ["rolled back, unbound runs on as before: port 53 (dns): can't get the keys of the root"],
        ),
    ],
    ids=["bad value", "bad option", "bad root"],
)
def test_what_does_not_work_is_not_used(
    host: Host, play: t.Callable[..., Played], values: t.Dict[str, t.Any], words: t.List[str]
) -> None:
    before = host.file(CONFIGURATION).content_string
    done = play(**values)
    assert done.code != 0
    assert [one for one in words if one not in done.output] == []
    assert host.file(CONFIGURATION).content_string == before
    assert answer(host) == "0 True"


def test_the_end_of_it(host: Host, play: t.Callable[..., Played]) -> None:
    """And a server that has somebody else's keeps that one."""
    package = host.check_output("cat /lib/systemd/system/unbound.service")
    assert controller.play(SCENARIO / "remove.yml", name_of(host)).changed == 1
    assert not host.file(CONFIGURATION).exists
    assert host.run("systemctl is-active unbound").stdout == "inactive\n"
    assert host.run("systemctl is-enabled unbound").stdout == "disabled\n"
    assert host.check_output("systemctl cat unbound").endswith(package)

    host.check_output("systemctl start unbound")
    assert "unbound runs here already, set up by somebody else" in play().output
    assert host.check_output("systemctl is-active unbound") == "active"
    host.check_output("systemctl stop unbound")
    assert play().changed == 1
    assert answer(host) == "0 True"
