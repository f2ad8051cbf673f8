# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Ports that a firewall certainly blocks. The scenario preflight tests real firewalls."""

import json
import typing as t

import pytest
from ansible_collections.port587.mail.plugins.module_utils._server import firewall

PORTS = (25, 443, 993)


def iptables(*rules: str, policy: str = "DROP", chains: str = "") -> t.List[int]:
    text = "*nat\n:PREROUTING DROP [0:0]\nCOMMIT\n*filter\n:INPUT %s [1:2]\n:OUTPUT DROP [0:0]\n" % policy
    text += "".join(":%s - [0:0]\n" % chain for chain in chains.split())
    text += "".join("-A %s\n" % rule for rule in rules) + "COMMIT\n"
    return firewall.closed(firewall.parse_iptables(text), PORTS)


@pytest.mark.parametrize(
    ("rules", "shut"),
    [
        ([], [25, 443, 993]),
        (["INPUT -i lo -j ACCEPT", "INPUT -m state --state RELATED,ESTABLISHED -j ACCEPT"], [25, 443, 993]),
        (["INPUT -p tcp -m tcp --dport 25 -j ACCEPT", "INPUT -p udp --dport 443 -j ACCEPT"], [443, 993]),
        (["INPUT -p tcp -m multiport --dports 25,400:500 -j ACCEPT"], [993]),
        (['INPUT -p tcp -m tcp --dport 25 -m comment --comment "-j ACCEPT" -j LOG --log-prefix x'], [25, 443, 993]),
        # may let somebody in
        (["INPUT -s 192.0.2.0/24 -p tcp -m tcp --dport 25 -j ACCEPT"], [443, 993]),
        (["INPUT -i eth0 -p tcp -m tcp --dport 25 -j ACCEPT"], [443, 993]),
        (["INPUT -p tcp -m tcp ! --dport 25 -j ACCEPT"], [25]),
        (["INPUT -p tcp -m geoip --src-cc CH -j NFQUEUE --queue-num 0"], []),
        # the first that decides
        (["INPUT -p tcp -m tcp --dport 25 -j REJECT --reject-with tcp-reset", "INPUT -j ACCEPT"], [25]),
        (["INPUT -s 192.0.2.1/32 -j DROP", "INPUT -j ACCEPT"], []),
    ],
)
def test_iptables(rules: t.List[str], shut: t.List[int]) -> None:
    assert iptables(*rules) == shut


def test_chains_of_iptables() -> None:
    rules = ["INPUT -j a", "INPUT -p tcp --dport 25 -j ACCEPT", "a -p tcp --dport 443 -j b", "b -j ACCEPT"]
    assert iptables(*rules, chains="a b") == [993]
    # whoever comes back from a chain is let in by the next rule
    rules = ["INPUT -j a", "INPUT -j ACCEPT", "a -s 192.0.2.1/32 -j RETURN", "a -j DROP"]
    assert iptables(*rules, chains="a") == []
    rules = ["INPUT -g a", "INPUT -j ACCEPT", "a -p tcp --dport 25 -j ACCEPT"]
    assert iptables(*rules, chains="a") == [443, 993]
    assert iptables("INPUT -j a", "a -j a", chains="a") == []


def test_an_open_policy() -> None:
    assert iptables(policy="ACCEPT") == []
    assert iptables("INPUT -p tcp --dport 25 -j DROP", policy="ACCEPT") == [25]


def match(left: t.Any, right: t.Any, op: str = "==") -> t.Dict[str, t.Any]:
    return {"match": {"op": op, "left": left, "right": right}}


DPORT = {"payload": {"protocol": "tcp", "field": "dport"}}
SADDR = {"payload": {"protocol": "ip", "field": "saddr"}}
STATE = {"ct": {"key": "state"}}


def nft(*rules: t.List[t.Any], policy: str = "drop", family: str = "inet", hook: str = "input") -> t.List[int]:
    table: t.Dict[str, t.Any] = {"family": family, "table": "filter"}
    chain = dict(table, name="input", type="filter", hook=hook, policy=policy)
    entries: t.List[t.Any] = [{"metainfo": {}}, {"chain": chain}, {"chain": dict(table, name="mail")}]
    entries += [{"rule": dict(table, chain="input", expr=rule)} for rule in rules]
    entries.append({"rule": dict(table, chain="mail", expr=[match(DPORT, 25), {"accept": None}])})
    tables = firewall.parse_nft(json.dumps({"nftables": entries}))
    return [port for table in tables.values() for port in firewall.closed(table, PORTS)]


@pytest.mark.parametrize(
    ("rule", "shut"),
    [
        ([match({"meta": {"key": "iifname"}}, "lo"), {"accept": None}], [25, 443, 993]),
        ([match(STATE, ["established", "related"], "in"), {"accept": None}], [25, 443, 993]),
        ([match(STATE, {"set": ["established", "new"]}), {"accept": None}], []),
        ([match({"payload": {"protocol": "udp", "field": "dport"}}, 25, "!="), {"accept": None}], [25, 443, 993]),
        ([match(DPORT, {"set": [25, {"range": [400, 500]}]}), {"counter": {}}, {"accept": None}], [993]),
        ([match(DPORT, 25, "!="), {"accept": None}], [25]),
        ([match(DPORT, "@mine"), {"accept": None}], []),
        ([match(SADDR, "192.0.2.1"), match(DPORT, 25), {"accept": None}], [443, 993]),
        ([match(DPORT, 25), {"limit": {"rate": 1}}, {"accept": None}], [443, 993]),
        ([match({"meta": {"key": "nfproto"}}, "ipv6"), {"accept": None}], [25, 443, 993]),
        (
            [{"vmap": {"key": DPORT, "data": {"set": [[25, {"accept": None}], [443, {"jump": {"target": "mail"}}]]}}}],
            [443, 993],
        ),
        ([{"vmap": {"key": DPORT, "data": "@named"}}], []),
        ([{"jump": {"target": "mail"}}], [443, 993]),
        ([match(DPORT, 25), {"xt": None}], [443, 993]),
        ([match(DPORT, 25), {"log": None}], [25, 443, 993]),
        (["return"], [25, 443, 993]),
        # the role firewall's: what is no request for a new connection passes
        (
            [match({"&": [{"payload": {"protocol": "tcp", "field": "flags"}}, {}]}, "syn", "!="), {"accept": None}],
            [25, 443, 993],
        ),
        ([match({"&": [{"payload": {"protocol": "tcp", "field": "flags"}}, {}]}, "syn"), {"accept": None}], []),
    ],
)
def test_nftables(rule: t.List[t.Any], shut: t.List[int]) -> None:
    assert nft(rule) == shut


def test_which_tables_count() -> None:
    assert nft(family="ip") == nft(hook="prerouting") == list(PORTS)
    assert nft(family="ip6") == nft(hook="output") == nft(policy="accept") == []


def looked(monkeypatch: pytest.MonkeyPatch, **says: str) -> t.List[firewall.Shut]:
    programs = {name.replace("_", "-"): text for name, text in says.items()}
    monkeypatch.setattr(firewall, "has_command", lambda name: name in programs)
    monkeypatch.setattr(firewall, "run_command", lambda argv: (0, programs[argv[0]], ""))
    return firewall.look(PORTS)


def test_what_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    rules = "*filter\n:INPUT DROP [0:0]\n-A INPUT -p tcp --dport 443 -j ACCEPT\n"
    shut = looked(monkeypatch, iptables_save=rules)[0]
    assert shut[:2] == ([25, 993], "iptables")
    assert shut.cure.startswith("iptables -I INPUT -p tcp -m multiport --dports 25,993 -j ACCEPT")
    shut = looked(monkeypatch, iptables_save=rules + ":ufw-user-input - [0:0]\n")[0]
    assert shut == ([25, 993], "ufw", "ufw allow 25,993/tcp")
    table = {"family": "inet", "table": "firewalld"}
    chain = dict(table, name="filter_INPUT", type="filter", hook="input", policy="drop")
    shut = looked(monkeypatch, nft=json.dumps({"nftables": [{"chain": chain}]}))[0]
    assert shut.by == "firewalld"
    assert "--add-port=25/tcp --add-port=443/tcp --add-port=993/tcp; firewall-cmd --reload" in shut.cure
    shut = looked(monkeypatch, nft=json.dumps({"nftables": [{"chain": dict(chain, table="mine")}]}))[0]
    assert shut.cure.startswith("nft insert rule inet mine filter_INPUT tcp dport '{ 25,443,993 }' accept")


def test_nothing_is_said_of_what_is_not_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    assert looked(monkeypatch) == []
    assert looked(monkeypatch, nft="", iptables_save="") == []
    assert (
        looked(monkeypatch, nft="not JSON", iptables_save='*filter\n:INPUT DROP\n-A INPUT -m comment --comment "\n')
        == []
    )
    assert looked(monkeypatch, nft='{"nftables": [{"rule": {"family": "inet"}}]}') == []
