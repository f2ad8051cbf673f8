# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role alone sets up the same; switched off again, it leaves nothing behind. The last of the tests."""

import pytest
from conftest import Vps

testinfra_hosts = ["ansible://mail"]


@pytest.mark.one_host
def test_the_role_alone_changes_nothing(vps: Vps) -> None:
    done = vps.play("bans.yml")
    assert (done.code, done.changed) == (0, 0), done.output


def test_nothing_is_left(vps: Vps) -> None:
    done = vps.play("converge.yml", mail_bans=False, dovecot_pop3=False)
    assert done.code == 0, done.output
    # what is no longer served is closed by the same run
    assert "tcp dport { 22, 25, 80, 143, 443, 465, 587, 993, 4190 } accept" in vps.run("nft", "list", "ruleset")
    done = vps.play("converge.yml", mail_bans=False, mail_firewall=False, dovecot_pop3=False)
    assert done.code == 0, done.output
    assert vps.run("nft", "list", "ruleset").strip() == ""
    assert vps.run("systemctl", "is-active", "port587-firewall", check=False).strip() == "inactive"
    assert vps.run("find", "/etc", "/run", "-name", "*port587*firewall*", "-o", "-name", "firewall.nft") == ""
    assert vps.run("systemctl", "is-active", "fail2ban", check=False).strip() != "active"
    assert vps.run("find", "/etc/fail2ban", "/etc/systemd/system", "-name", "*port587*fail2ban*") == ""
    assert vps.run("find", "/etc/fail2ban", "-name", "port587*") == ""
    again = vps.play("converge.yml", mail_bans=False, mail_firewall=False, dovecot_pop3=False)
    assert (again.code, again.changed) == (0, 0), again.output
