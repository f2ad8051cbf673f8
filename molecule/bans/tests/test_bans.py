# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bans: whoever guesses is out, and nobody else is."""

import ipaddress
import re
import typing as t

import pytest
from conftest import Client, Vps
from exposure import too_exposed
from mailclient import until

testinfra_hosts = ["ansible://mail"]


def guesses(vps: Vps, number: int) -> t.List[t.List[str]]:
    return [[vps.alice.address, f"guess{one}"] for one in range(number)]


def within_a_while(client: Client, port: int, source: str) -> t.Iterator[str]:
    return (answers[0] for answers in until(lambda: client.tries(port, source, ["/", "mail"])))


def test_a_guesser_is_banned(vps: Vps, client: Client) -> None:
    here, _ = client.addresses()
    answers = client.tries(993, here, *guesses(vps, 5))
    assert answers == ["NO"] * 5
    assert vps.bans(here)
    assert client.tries(993, here, *guesses(vps, 1)) == ["refused"]
    assert client.tries(443, here, ["/", vps.hostname]) == ["refused"]
    # mail of other servers
    assert client.tries(25, here) == ["220"]
    # others
    neighbour = client.add_neighbour(here)
    assert client.tries(993, neighbour, [vps.bob.address, f'"{vps.bob.password}"']) == ["OK"]
    # lifted with one command
    vps.run("fail2ban-client", "unban", here)
    assert client.tries(993, here, [vps.bob.address, f'"{vps.bob.password}"']) == ["OK"]


def test_a_network_is_banned_with_ipv6(vps: Vps, client: Client) -> None:
    _, here = client.addresses()
    neighbour = client.add_neighbour(here)
    assert client.tries(993, here, *guesses(vps, 5)) == ["NO"] * 5
    network = str(ipaddress.ip_network(f"{here}/64", strict=False).network_address)
    assert vps.bans(network)
    assert client.tries(993, neighbour, *guesses(vps, 1)) == ["refused"]
    vps.run("fail2ban-client", "unban", network)
    assert client.tries(993, neighbour, [vps.bob.address, f'"{vps.bob.password}"']) == ["OK"]


def test_mistakes_of_people_are_no_guesses(vps: Vps, client: Client) -> None:
    here, _ = client.addresses()
    # a phone with an old password
    old = [vps.alice.address, "old"]
    assert client.tries(993, here, *[old] * 12) == ["NO"] * 12
    # an office: one gets in, others have forgotten theirs
    assert client.tries(993, here, [vps.bob.address, f'"{vps.bob.password}"'], *guesses(vps, 8)) == ["OK"] + ["NO"] * 8
    said = vps.run("journalctl", "--unit=port587-login-limits", "--since=-1min", "--output=cat")
    assert f"wrong login from {here}" in said
    assert here not in vps.banned()
    assert vps.alice.address not in said


def test_a_scanner_is_banned_from_the_web_server(vps: Vps, client: Client) -> None:
    here, _ = client.addresses()
    looked_for = [[f"/wp-login.php?{number}", vps.hostname] for number in range(30)]
    assert set(client.tries(443, here, *looked_for)) <= {"404", "400", "429", "503"}
    assert vps.bans(here)
    assert client.tries(443, here, ["/", vps.hostname]) == ["refused"]
    assert client.tries(993, here, [vps.bob.address, f'"{vps.bob.password}"']) == ["OK"]


def test_a_firewall_that_was_loaded_anew_does_not_end_banning(vps: Vps, client: Client) -> None:
    here, _ = client.addresses()
    vps.run("nft", "flush", "ruleset")
    client.tries(993, here, *guesses(vps, 5))
    assert "refused" in within_a_while(client, 993, here)
    vps.run("systemctl", "restart", "port587-firewall")


def test_verify_names_the_ban(vps: Vps, client: Client) -> None:
    """The controller is on the other end of the SSH connection."""
    gateway = vps.run("sh", "-c", "ip route show default | cut -d' ' -f3").strip()
    vps.run("fail2ban-client", "set", "port587-logins", "banip", gateway)
    assert vps.bans(gateway)
    # and one of the ports is shut by hand
    vps.run("nft", "insert", "rule", "inet", "port587", "input", "tcp", "dport", "4190", "drop")
    done = vps.play("../../playbooks/verify.yml")
    assert done.code != 0
    said = re.sub(r"\s+", " ", done.output)
    assert "address-banned" in said
    assert f"sudo fail2ban-client unban {gateway}" in said
    # besides what containers lack
    found = set(re.findall(r"troubleshooting\.md#([a-z0-9-]+)", said)) - {"name-unknown", "kernel-limit"}
    assert found == {"address-banned", "host-firewall"}
    assert "the role firewall lets nobody in on port 4190" in said
    vps.run("fail2ban-client", "unban", gateway)
    vps.run("systemctl", "stop", "fail2ban")
    vps.run("nft", "delete", "table", "inet", "port587")
    try:
        output = vps.play("../../playbooks/verify.yml").output
        assert "bans-stopped" in output
        assert "firewall-off" in output
    finally:
        vps.run("systemctl", "restart", "port587-firewall")
        vps.run("systemctl", "start", "fail2ban")
        assert any("pong" in said for said in until(lambda: vps.run("fail2ban-client", "ping", check=False)))


def test_fail2ban_is_restricted(host: t.Any) -> None:
    assert too_exposed(host, "fail2ban") == {}


@pytest.mark.one_host
def test_bad_values(vps: Vps) -> None:
    done = vps.play("converge.yml", bans_tries=0, bans_ignored=["office"], bans_longest_time=60, dovecot_login_limit=0)
    assert (done.code, done.changed) == (2, 0)
    said = re.sub(r"\s+", " ", done.output)
    assert "bans_tries: 0 is less than 1; write one such as 5" in said
    assert "bans_ignored: ['office'] has an entry that is not a network or an address" in said
    assert "bans_longest_time: '60' is less than bans_time; write 3600 or more" in said
    assert "bans_tries: needs the service that counts wrong logins, which dovecot_login_limit 0 leaves out" in said
