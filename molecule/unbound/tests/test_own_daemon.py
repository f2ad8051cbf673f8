# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A role outside of the collection uses a transaction for a daemon that the collection does not know."""

import os
import pathlib

import controller
from testinfra.host import Host

SCENARIO = pathlib.Path(os.environ["MOLECULE_SCENARIO_DIRECTORY"])
CONFIGURATION = "/etc/haproxy/haproxy.cfg"

testinfra_hosts = ["ansible://mail"]


def play(host: Host, **variables: str) -> controller.Played:
    name = str(host.ansible.get_variables()["inventory_hostname"])
    return controller.play(SCENARIO / "haproxy.yml", name, **variables)


def alive(host: Host) -> bool:
    asked = "printf 'GET /alive HTTP/1.0\\r\\n\\r\\n' >&3; head -1 <&3"
    return "200 OK" in host.check_output(f'bash -c "exec 3<>/dev/tcp/127.0.0.1/8080; {asked}"')


def test_a_good_change_is_proved(host: Host) -> None:
    assert alive(host)
    assert host.check_output("systemctl is-enabled haproxy") == "enabled"
    done = play(host, haproxy_timeout="20s")
    assert done.changed == 1
    assert "+    timeout client 20s" in done.output
    assert alive(host)


def test_its_own_checker_refuses_a_bad_one(host: Host) -> None:
    before = host.file(CONFIGURATION).content_string
    done = play(host, haproxy_timeout="soon")
    assert "not valid, this change was not made" in done.output
    assert f"[{CONFIGURATION}:7]" in done.output
    assert host.file(CONFIGURATION).content_string == before


def test_what_its_checker_lets_through_is_taken_back(host: Host) -> None:
    """And the daemon's own words say why."""
    before = host.file(CONFIGURATION).content_string
    done = play(host, haproxy_address="192.0.2.1")
    assert "rolled back, haproxy runs on as before" in done.output
    assert "cannot bind socket" in done.output
    assert host.file(CONFIGURATION).content_string == before
    assert alive(host)
