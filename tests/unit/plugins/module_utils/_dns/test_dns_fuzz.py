# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Packets of name servers, with anything in them: an answer or a ValueError, soon."""

import contextlib
import struct
import typing as t

import pytest
from ansible_collections.port587.mail.plugins.module_utils._dns import seen
from ansible_collections.port587.mail.plugins.module_utils._dns.packets import MALFORMED, TYPES, Answer, name_at, parse
from fuzzing import bytes_of
from hypothesis import given
from hypothesis import strategies as st

HEAD = b"\0\7\x81\x80\0\1\0\2\0\0\0\0"
NAME = b"\4mail\7example\4test\0"
LABEL = st.text("abc019-_", min_size=1, max_size=20)
NAMES = st.lists(LABEL, min_size=1, max_size=5).map(".".join)


def packed(name: str) -> bytes:
    return b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0"


def packet(name: str, answers: t.Sequence[t.Tuple[str, int, bytes]]) -> bytes:
    """An answer, as name servers write it, without pointers."""
    rows = b"".join(
        packed(owner) + struct.pack("!2HIH", kind, 1, 60, len(data)) + data for owner, kind, data in answers
    )
    return struct.pack("!6H", 7, 0x8180, 1, len(answers), 0, 0) + packed(name) + struct.pack("!2H", 1, 1) + rows


@pytest.mark.parametrize("kind", ["A", "MX", "TXT", "SRV", "TLSA", "CAA", "CNAME"])
def test_anything(kind: str) -> None:
    number = struct.pack("!2HIH", TYPES[kind], 1, 60, 9)
    pieces = [NAME, b"\xc0\x0c", b"\xc0\x1c", b"\xff\xff", b"\x3f", b"\0", b"\0\1\0\1", number, b"\x04data"]

    @given(st.sampled_from([HEAD, b""]), bytes_of(*pieces))
    def check(head: bytes, rest: bytes) -> None:
        message = head + rest
        with contextlib.suppress(*MALFORMED):
            parse(message, "mail.example.test", kind)
        with contextlib.suppress(*MALFORMED):
            assert len(name_at(message, len(head))[0]) < 256

    check()


@given(NAMES, st.lists(st.ip_addresses(v=4), max_size=5))
def test_addresses(name: str, addresses: t.List[t.Any]) -> None:
    message = packet(name, [(name, 1, address.packed) for address in addresses])
    assert parse(message, name.upper() + ".", "A") == Answer(
        [str(address) for address in addresses], name, False, False
    )


@given(NAMES, NAMES, st.lists(st.text(max_size=60), min_size=1, max_size=3), st.integers(0, 65535), NAMES)
def test_other_records(name: str, alias: str, texts: t.List[str], preference: int, host: str) -> None:
    pieces = b"".join(bytes([len(text.encode())]) + text.encode() for text in texts)
    answers = [
        (alias, TYPES["CNAME"], packed(name)),
        (name, TYPES["TXT"], pieces),
        (name, TYPES["MX"], struct.pack("!H", preference) + packed(host)),
    ]
    message = packet(alias, answers if alias != name else answers[1:])
    for kind, value in (("TXT", "".join(texts)), ("MX", f"{preference} {host}.")):
        answer = parse(message, alias, kind)
        assert answer
        assert (answer.values, answer.name) == ([value], name)


def test_a_packet_full_of_pointers_at_pointers() -> None:
    """Each record's name is a chain of 8,000 pointers: 30 million steps without a limit."""
    # in the data of a first record, which begins at byte 23
    chain = b"\0" + b"".join(struct.pack("!H", 0xC000 | max(at - 2, 23)) for at in range(24, 16000, 2))
    first = b"\0" + struct.pack("!2HIH", 99, 1, 60, len(chain)) + chain
    record = struct.pack("!H", 0xC000 | 15990) + struct.pack("!2HIH", 1, 1, 60, 0)
    message = struct.pack("!6H", 7, 0x8180, 0, 4001, 0, 0) + first + record * 4000
    with pytest.raises(ValueError, match="too many pointers"):
        parse(message[:65535], "example.test", "A")


def test_records_that_include_each_other_without_end() -> None:
    """The text at a name of somebody else causes no more questions than receivers of mail would ask."""
    asked: t.List[str] = []

    def ask(server: str, name: str, kind: str, recursive: bool) -> t.Optional[Answer]:
        asked.append(name)
        many = " ".join(f"include:{number}.example.net" for number in range(9))
        return Answer([f"v=spf1 {many} -all"] * 50 if kind == "TXT" else [], name, True)

    wanted = {
        "name": "example.test",
        "zone": "example.test",
        "type": "TXT",
        "value": "v=spf1 include:x.example.net -all",
    }
    assert seen.look([wanted], ["192.0.2.1"], ask)[0]["problem"]
    assert len(asked) < 100
