# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""DNS packets: questions byte by byte, and answers of name servers that may be broken."""

import typing as t

import pytest
from ansible_collections.port587.mail.plugins.module_utils._dns import packets
from dns_answers import A, answer, name, record


def values(message: bytes, kind: str, question: str = "mail.example.com") -> t.Optional[t.List[str]]:
    found = packets.parse(message, question, kind)
    return None if found is None else found.values


def test_question() -> None:
    question = packets.question("mail.example.com", "AAAA", 7, edns=False)
    assert question == b"\0\7\1\0\0\1\0\0\0\0\0\0\4mail\7example\3com\0\0\x1c\0\1"
    # AD, and one additional record: OPT
    with_edns = packets.question("mail.example.com", "AAAA", 7)
    assert with_edns == b"\0\7\1\x20\0\1\0\0\0\0\0\1" + question[12:] + b"\0\0\x29\4\xd0\0\0\0\0\0\0"
    with pytest.raises(ValueError, match="x.example"):
        packets.question("x" * 64 + ".example", "A", 7)


def test_answers() -> None:
    # a CNAME in front of the address, as of many mail hosts
    alias = record(5, name("other.example"))
    address = name("other.example") + record(1, A)[2:]
    assert values(answer(7, alias, address), "A") == ["192.0.2.5"]
    assert values(answer(7, record(28, b"\x20\1\r\xb8" + b"\0" * 11 + b"\1")), "AAAA") == ["2001:db8::1"]
    # the name in a PTR record may end in a pointer: "vps" + what the question has at offset 12
    assert values(answer(7, record(12, b"\3vps\xc0\x0c")), "PTR") == ["vps.mail.example.com."]


def test_none_there_is_not_none_answered() -> None:
    assert values(answer(7), "A") == []
    assert values(answer(7, code=3), "A") == []
    assert values(answer(7, code=2), "A") is None
    assert values(answer(7, code=5), "A") is None


def test_an_answer_to_another_question_is_none() -> None:
    assert packets.is_answer(answer(7), 7)
    assert not packets.is_answer(answer(8), 7)
    assert not packets.is_answer(packets.question("mail.example.com", "A", 7), 7)
    assert not packets.is_answer(b"\0\7\x81\x80", 7)


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        (b"", "A"),
        (b"\0\7\x81\x80", "A"),
        (answer(7, record(1, A))[:-2], "A"),
        # a name that points at itself, and one that points forwards
        (answer(7, record(12, b"\xc0" + bytes([len(answer(7)) + 12]))), "PTR"),
        (answer(7, record(12, b"\xc0\xff")), "PTR"),
    ],
)
def test_a_malformed_answer(message: bytes, kind: str) -> None:
    with pytest.raises(packets.MALFORMED):
        packets.parse(message, "mail.example.com", kind)
