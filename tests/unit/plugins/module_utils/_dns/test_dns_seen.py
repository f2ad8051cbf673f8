# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The wanted records compared with the answers of various name servers."""

import struct
import typing as t

import pytest
from ansible_collections.port587.mail.plugins.module_utils._dns import client, packets
from ansible_collections.port587.mail.plugins.module_utils._dns import seen as dns_seen
from ansible_collections.port587.mail.plugins.module_utils._dns.packets import Answer

MX = {"zone": "example.com", "name": "example.com", "type": "MX", "value": "10 mail.example.com."}
SPF = {"zone": "example.com", "name": "example.com", "type": "TXT", "value": "v=spf1 mx -all"}
KEY = {"zone": "example.com", "name": "a._domainkey.example.com", "type": "TXT", "value": "v=DKIM1; k=rsa; p=AA"}
ALIAS = {
    "zone": "example.com",
    "name": "autoconfig.example.com",
    "type": "CNAME",
    "value": "mail.example.com.",
    "addresses": ["192.0.2.7", "2001:db8::7"],
}
CAA = {"zone": "example.com", "name": "mail.example.com", "type": "CAA", "value": '0 issue "letsencrypt.org"'}

Values = t.Optional[t.List[str]]


class World:
    """Two name servers of example.com, and two that others ask. ``None``: does not answer."""

    def __init__(self, first: Values, second: Values, cache: Values, other_cache: Values, **more: t.List[str]) -> None:
        self.says = {"1.1.1.1": first, "2.2.2.2": second, "8.8.8.8": cache, "9.9.9.9": other_cache}
        self.more = more

    def ask(self, server: str, name: str, kind: str, recursive: bool) -> t.Optional[Answer]:
        assert recursive is (server in ("8.8.8.8", "9.9.9.9"))
        if kind == "NS":
            return Answer(["a.ns.example.", "b.ns.example."] if name == "example.com" else [], name, False)
        if name.endswith("ns.example."):
            return Answer(["1.1.1.1" if name.startswith("a") else "2.2.2.2"], name, False)
        if kind in self.more:
            return Answer(self.more[kind], name, False)
        values = self.more.get(name.replace(".", "_"), self.says[server])
        return None if values is None else Answer(values, name, False)


def state(record: t.Dict[str, t.Any], world: World) -> t.Tuple[str, str]:
    found = look(record, world)
    return found["state"], found["seen"]


def look(record: t.Dict[str, t.Any], world: World) -> t.Dict[str, t.Any]:
    (found,) = dns_seen.look([record], ["8.8.8.8", "9.9.9.9"], world.ask)
    return found


RIGHT, WRONG = [MX["value"]], ["10 old.example.net."]


@pytest.mark.parametrize(
    ("world", "expected"),
    [
        (World(RIGHT, RIGHT, RIGHT, RIGHT), "present"),
        (World([], [], [], []), "missing"),
        (World(WRONG, WRONG, WRONG, WRONG), "different"),
        (World(RIGHT + WRONG, RIGHT + WRONG, [], []), "different"),
        (World(RIGHT, RIGHT, WRONG, RIGHT), "waiting"),
        (World(RIGHT, RIGHT, [], []), "waiting"),
        (World(RIGHT, [], [], []), "waiting"),
        # the zone's own can't be reached from here: what others say is all there is
        (World(None, None, RIGHT, RIGHT), "present"),
        (World(None, None, RIGHT, None), "present"),
        (World(None, None, RIGHT, WRONG), "waiting"),
        (World(None, None, WRONG, None), "different"),
        (World(RIGHT, None, None, RIGHT), "present"),
        (World(None, None, None, None), "unknown"),
    ],
)
def test_states(world: World, expected: str) -> None:
    assert state(MX, world)[0] == expected


def test_texts_of_other_kinds_are_none_of_ours() -> None:
    site = ["google-site-verification=abc", "v=spf1  mx -all"]
    assert state(SPF, World(site, site, site, site)) == ("present", "")
    assert state(SPF, World(site[:1], site[:1], [], []))[0] == "missing"
    assert state(KEY, World(["k=rsa; p=AA"], ["k=rsa; p=AA"], [], []))[0] == "different"
    assert (
        state(KEY, World(["v=DKIM1;k=rsa;p=AA;"] * 1, ["v=DKIM1;k=rsa;p=AA"], ["v=DKIM1; k=rsa; p=AA"], None))[0]
        == "present"
    )


@pytest.mark.parametrize("first", ["v=spf1 mx -all", "v=spf1 a ~all"])
def test_two_spf_records_are_named(first: str) -> None:
    both = [first, "v=spf1 include:other.example ~all"]
    found = look(SPF, World(both, both, both, both))
    assert found["state"] == "different"
    assert found["problem"] == "example.com TXT: " + found["seen"]
    assert found["seen"] == "there are 2 of them, and receivers take none then: " + " | ".join(sorted(both))


def test_what_another_record_cures_is_no_problem() -> None:
    site = ["google-site-verification=abc", "v=spf1 a ~all"]
    assert look(SPF, World(site, site, None, None))["problem"] == ""
    # the name servers don't agree yet
    assert look(SPF, World([SPF["value"]], ["v=spf1 a ~all"], None, None))["problem"] == ""
    # it was cured, and others remember
    assert look(SPF, World([SPF["value"]], [SPF["value"]], [SPF["value"], "v=spf1 a ~all"], None))["problem"] == ""


def test_two_keys_at_one_name_are_named() -> None:
    both = ["v=DKIM1; k=rsa; p=AA", "v=DKIM1; k=rsa; p=BB"]
    assert "there are 2 of them" in look(KEY, World(both, both, None, None))["problem"]


def test_an_spf_record_is_looked_at_before_it_is_published() -> None:
    record = dict(SPF, value="v=spf1 mx include:many.example -all")
    many = ["v=spf1 " + "".join("a:%d.example " % n for n in range(9)) + "-all"]
    found = look(record, World([], [], None, None, many_example=many))
    assert found["state"] == "missing"
    assert "example.com TXT: with what it includes, it causes more than 10 look-ups" in found["problem"]


def test_an_spf_record_that_includes_too_much() -> None:
    record = dict(SPF, value="v=spf1 mx include:many.example -all")
    many = ["v=spf1 " + "".join("a:%d.example " % n for n in range(9)) + "-all"]
    world = World([record["value"]], [record["value"]], None, None, many_example=many)
    assert "more than 10 look-ups" in state(record, world)[1]
    world.more["many_example"] = ["v=spf1 " + "".join("a:%d.example " % n for n in range(8)) + "-all"]
    assert state(record, world)[0] == "present"
    # one that includes itself ends, too
    world.more["many_example"] = ["v=spf1 include:many.example -all"]
    assert "more than 10 look-ups" in state(record, world)[1]


def test_addresses_are_as_good_as_an_alias() -> None:
    world = World([], [], [], [], A=["192.0.2.7"], AAAA=[])
    assert state(ALIAS, world)[0] == "present"
    world.more["A"] = ["192.0.2.8"]
    assert state(ALIAS, world) == ("different", "192.0.2.8")


def test_further_authorities() -> None:
    more = ['0 issue "letsencrypt.org"', '0 issue "other.example"']
    assert state(CAA, World(more, more, more, more))[0] == "present"
    assert state(CAA, World(more[1:], more[1:], [], []))[0] == "different"


def test_told() -> None:
    records = [dict(MX, name="%d.example" % n, state="missing") for n in range(5)] + [dict(SPF, state="present")]
    assert list(dns_seen.as_records(records)) == [
        (
            "records that are missing",
            "warn",
            "dns-record-missing",
            "0.example MX, 1.example MX, 2.example MX and 2 more: missing",
        ),
        ("records that are present", "ok", "", "example.com TXT: present"),
    ]


# -- on the wire ------------------------------------------------------------------------------------------------------


def name(text: str) -> bytes:
    return b"".join(bytes([len(label)]) + label.encode() for label in text.split(".") if label) + b"\0"


def message(answers: t.Sequence[t.Tuple[str, int, bytes]], flags: int = 0x8400) -> bytes:
    head = struct.pack("!6H", 7, flags, 1, len(answers), 0, 0) + name("example.com") + struct.pack("!2H", 1, 1)
    body = b"".join(name(owner) + struct.pack("!2HIH", kind, 1, 60, len(data)) + data for owner, kind, data in answers)
    return head + body


@pytest.mark.parametrize(
    ("kind", "data", "value"),
    [
        ("A", bytes([192, 0, 2, 7]), "192.0.2.7"),
        ("AAAA", bytes.fromhex("20010db8000000000000000000000007"), "2001:db8::7"),
        ("NS", name("NS.example.net"), "ns.example.net."),
        # a pointer to the question
        ("MX", b"\0\x0a\4mail\xc0\x0c", "10 mail.example.com."),
        ("TXT", b"\3abc\2de", "abcde"),
        ("SRV", struct.pack("!3H", 0, 1, 587) + name("mail.example.com"), "0 1 587 mail.example.com."),
        ("TLSA", b"\3\1\1\xab\xcd", "3 1 1 abcd"),
        ("CAA", b"\0\5issueletsencrypt.org", '0 issue "letsencrypt.org"'),
    ],
)
def test_values(kind: str, data: bytes, value: str) -> None:
    answer = packets.parse(message([("example.com", packets.TYPES[kind], data)]), "Example.com.", kind)
    assert answer == Answer([value], "example.com", True)


def test_aliases_are_followed() -> None:
    alias, end = ("example.com", 5, name("b.example.net")), ("b.example.net", 1, bytes([192, 0, 2, 7]))
    for answers in ([alias, end], [end, alias]):
        assert packets.parse(message(answers), "example.com", "A") == Answer(["192.0.2.7"], "b.example.net", True)
    assert packets.parse(message([alias]), "example.com", "CNAME") == Answer(["b.example.net."], "example.com", True)


def test_none_and_no_answer() -> None:
    assert packets.parse(message([], 0x8003), "example.com", "A") == Answer([], "example.com", False)
    assert packets.parse(message([], 0x8002), "example.com", "A") is None
    assert client.ask("192.0.2.1", "x" * 64 + ".example", "A") is None
