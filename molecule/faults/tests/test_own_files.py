# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The user's own files are kept; files that the role no longer writes are removed, and the diff shows that."""

import pytest
from conftest import Vps

RELAYS = [
    {"host": "relay.example", "username": "me", "password": "the relay's s3cret", "domains": ["elsewhere.example"]}
]


@pytest.mark.one_host
def test_files_of_the_role_come_and_go_and_a_person_s_stay(vps: Vps) -> None:
    vps.run("sh", "-c", "echo 'by hand' > /etc/postfix/local-thing; chmod 0604 /etc/postfix/local-thing")
    by_hand = [line for line in vps.snapshot() if "local-thing" in line]
    with_relay = vps.apply("postfix", postfix_relays=RELAYS)
    assert "s3cret" not in with_relay.output
    passwords = vps.run("stat", "-c", "%a %U", "/etc/postfix/relay_passwords", "/etc/postfix/relay_passwords.db").split(
        "\n"
    )
    assert passwords[:2] == ["600 root"] * 2

    without = vps.apply("postfix")
    names = vps.run("ls", "-A", "/etc/postfix").split()
    assert [name for name in names if name.startswith(("relay_", ".port587"))] == []
    for name in ("relay_passwords", "relay_passwords.db", "relay_transport", "relay_tls"):
        assert f"after: /etc/postfix/{name} (removed: written by an earlier version, no longer used)" in without.output
    assert [line for line in vps.snapshot() if "local-thing" in line] == by_hand
    vps.serves()


def test_what_the_package_brought_is_kept_once(vps: Vps) -> None:
    original = "/var/lib/port587/postfix/original/etc/postfix/main.cf"
    assert "port587" not in vps.run("cat", original)
