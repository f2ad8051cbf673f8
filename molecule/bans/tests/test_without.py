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
    done = vps.play("converge.yml", mail_bans=False)
    assert done.code == 0, done.output
    assert vps.run("nft", "list", "ruleset").strip() == ""
    assert vps.run("systemctl", "is-active", "fail2ban", check=False).strip() != "active"
    assert vps.run("find", "/etc/fail2ban", "/etc/systemd/system", "-name", "*port587*fail2ban*") == ""
    assert vps.run("find", "/etc/fail2ban", "-name", "port587*") == ""
    again = vps.play("converge.yml", mail_bans=False)
    assert (again.code, again.changed) == (0, 0), again.output
