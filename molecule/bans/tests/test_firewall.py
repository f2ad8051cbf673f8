# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The firewall: open is what is served, and nobody is locked out."""

import re
import typing as t

import pytest
from conftest import Client, Vps
from exposure import too_exposed
from mailclient import until

testinfra_hosts = ["ansible://mail"]

#: On the server: a program that answers with a word, over IPv4 and IPv6.
ANSWERS = r"""
import socket, sys
listening = socket.socket(socket.AF_INET6)
listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listening.bind(("::", int(sys.argv[1])))
listening.listen(5)
while True:
    listening.accept()[0].sendall(b"hello")
"""

#: On the client: what a port says, of several addresses.
ASKS = r"""
import socket, sys
for address in sys.argv[2:]:
    try:
        with socket.create_connection((address, int(sys.argv[1])), 10) as asked:
            print(asked.recv(5).decode() or "closed")
    except OSError as exc:
        print(exc.strerror or exc)
"""

#: On the server: what Docker does for `docker run -p 8080:80`, without Docker. The box has a network of its own.
BOX = r"""
ip netns add box
ip link add box type veth peer name inside netns box
ip address add 10.58.7.1/24 dev box && ip link set box up
ip -n box address add 10.58.7.2/24 dev inside && ip -n box link set inside up
ip -n box route add default via 10.58.7.1
nft -f /dev/stdin <<'END'
table ip box {
    chain prerouting { type nat hook prerouting priority -100; tcp dport 8080 dnat to 10.58.7.2:80; }
    chain forward { type filter hook forward priority 0; policy accept; }
}
END
"""


def asks(client: Client, port: int) -> t.Set[str]:
    """What the client hears on the server's port, over IPv4 and IPv6."""
    return set(client.run("python3", "-c", ASKS, str(port), client.vps.server.address, client.vps.ipv6).splitlines())


def rules(vps: Vps) -> str:
    return vps.run("nft", "list", "table", "inet", "port587")


@pytest.fixture
def own_program(vps: Vps, client: Client) -> t.Iterator[int]:
    """A port on which something else listens, begun after the run that set up the firewall."""
    vps.run("systemd-run", "--unit=own-program", "python3", "-c", ANSWERS, "9000")
    assert any("9000" in said for said in until(lambda: vps.run("ss", "-Hltn", "sport = 9000")))
    yield 9000
    vps.run("systemctl", "stop", "own-program")


def test_served_ports_are_open_and_others_closed(vps: Vps, client: Client, own_program: int) -> None:
    assert asks(client, 25) == {"220 m"}
    assert asks(client, own_program) == {"Connection refused"}
    # what other machines say is open is exactly what is named
    named = re.search(r"tcp dport \{ ([^}]+) \} accept", rules(vps))
    assert named
    assert named.group(1) == "22, 25, 80, 110, 143, 443, 465, 587, 993, 995, 4190"


def test_other_programs_are_listed_and_stay_reachable_unless_named(vps: Vps, client: Client, own_program: int) -> None:
    done = vps.play("firewall.yml")
    assert done.code == 0, done.output
    assert "9000/tcp (own-program.service)" in re.sub(r"\s+", " ", done.output)
    assert asks(client, own_program) == {"hello"}
    again = vps.play("firewall.yml")
    assert (again.code, again.changed) == (0, 0), again.output
    done = vps.play("firewall.yml", firewall_close=[own_program])
    assert done.code == 0, done.output
    assert "own-program" not in done.output
    assert asks(client, own_program) == {"Connection refused"}
    assert asks(client, 25) == {"220 m"}


def test_rules_of_others_work_beside_it(vps: Vps, client: Client) -> None:
    vps.run("sh", "-e", "-c", BOX)
    vps.run("systemd-run", "--unit=box", "ip", "netns", "exec", "box", "python3", "-c", ANSWERS, "80")
    here = vps.server.address
    try:
        said = until(lambda: client.run("python3", "-c", ASKS, "8080", here).strip())
        assert any(word == "hello" for word in said)
        # who loads the rules in /etc/nftables.conf anew deletes all others first
        vps.run("systemctl", "restart", "nftables")
        loaded = until(lambda: vps.run("nft", "list", "table", "inet", "port587", check=False))
        assert any("tcp dport" in said for said in loaded)
    finally:
        vps.run("systemctl", "stop", "box", "nftables")
        vps.run("sh", "-c", "nft delete table ip box; ip link delete box; ip netns delete box", check=False)
        vps.run("systemctl", "restart", "port587-firewall")


@pytest.mark.one_host
def test_rules_that_lock_everybody_out_are_taken_back(vps: Vps, client: Client) -> None:
    before = rules(vps), vps.run("cat", "/etc/port587/firewall.nft")
    done = vps.play("firewall.yml", firewall_extra="tcp dport 22 drop")
    said = re.sub(r"\s+", " ", done.output)
    assert done.code == 2
    assert "no new connection to this server came through with the new rules, and it has taken them back" in said
    assert (rules(vps), vps.run("cat", "/etc/port587/firewall.nft")) == before
    assert "port587-firewall-back" not in vps.run("systemctl", "list-units", "--all", "port587-*")
    again = vps.play("firewall.yml")
    assert (again.code, again.changed) == (0, 0), again.output
    assert "were taken back by the server" in re.sub(r"\s+", " ", again.output)
    # rules that let people in are kept, and the note goes
    done = vps.play("firewall.yml", firewall_extra="ip saddr 192.0.2.1 tcp dport 22 drop")
    assert done.code == 0, done.output
    assert "192.0.2.1" in rules(vps)
    done = vps.play("firewall.yml")
    assert done.code == 0, done.output
    assert "were taken back by the server" not in re.sub(r"\s+", " ", done.output)
    assert rules(vps) == before[0]


@pytest.mark.one_host
def test_what_cannot_work_is_refused(vps: Vps) -> None:
    before = rules(vps)
    done = vps.play("firewall.yml", firewall_close=["ssh", 22, "9000/udp"], firewall_open=["9000/udp", 0])
    said = re.sub(r"\s+", " ", done.output)
    assert (done.code, done.changed) == (2, 0)
    assert "firewall_close[0]: 'ssh' is not a port; write one such as 443 or 51820/udp" in said
    assert "firewall_open[1]: 0 is not a port" in said
    assert "9000/udp is in firewall_open too" in said
    done = vps.play("firewall.yml", firewall_close=[22])
    assert (done.code, done.changed) == (2, 0)
    assert "firewall_close: 22 is the port of SSH; leave it out" in re.sub(r"\s+", " ", done.output)
    done = vps.play("firewall.yml", firewall_extra="tcp dport ssh allow")
    assert (done.code, done.changed) == (2, 0)
    assert "firewall_extra: nft does not know 'tcp dport ssh allow'" in re.sub(r"\s+", " ", done.output)
    assert rules(vps) == before


def test_the_service_is_restricted(host: t.Any) -> None:
    assert too_exposed(host, "port587-firewall") == {}
