# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""verify.yml from the desktop, whose name server has the records that mail clients look up."""

import pathlib
import re

import controller
from conftest import Desktop, Site
from testinfra.host import Host

testinfra_hosts = ["ansible://mail"]

ROOT = pathlib.Path(__file__).parents[3]


def verify(address: str, password: str = "") -> str:
    variables = {"verify_from": "desktop", "verify_address": address, "verify_password": password}
    return controller.play(ROOT / "playbooks/verify.yml", "mail", **variables).output


def test_well(site: Site, desktop: Desktop) -> None:
    said = verify(*site.account("eve"))
    assert re.search("MUA +443 autoconfig +ok +mail clients find the settings by an address", said), said


def test_a_name_that_is_not_in_dns_is_named(site: Site, desktop: Desktop) -> None:
    said = verify("eve@not-in-dns.test")
    assert "WARN DNS" in said
    assert "autoconfig.not-in-dns.test: no address" in said
    assert "publish a CNAME record for it that names the mail host" in said


def test_a_web_server_that_does_not_run_is_named(site: Site, desktop: Desktop, host: Host) -> None:
    host.check_output("systemctl stop nginx")
    try:
        said = verify(*site.account("eve"))
    finally:
        host.check_output("systemctl start nginx")
    assert "WARN MUA" in said
    assert "start nginx (journalctl -u nginx shows why it stopped)" in said
