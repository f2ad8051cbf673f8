# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The readers of the wire protocols, with anything that a server may say: an answer or a WireError, soon."""

import re
import typing as t

import pytest
from ansible_collections.port587.mail.plugins.module_utils._wire import certificate, http
from ansible_collections.port587.mail.plugins.module_utils._wire.connection import Wire
from ansible_collections.port587.mail.plugins.module_utils._wire.errors import WireError
from ansible_collections.port587.mail.plugins.module_utils._wire.imap import Imap
from ansible_collections.port587.mail.plugins.module_utils._wire.limits import LARGEST_ANSWER
from ansible_collections.port587.mail.plugins.module_utils._wire.pop3 import Pop3
from ansible_collections.port587.mail.plugins.module_utils._wire.sieve import Sieve, sieve_capabilities
from ansible_collections.port587.mail.plugins.module_utils._wire.smtp import Smtp
from fuzzing import bytes_of, text_of, wire
from hypothesis import given
from hypothesis import strategies as st


def smtp(wire: Wire) -> t.Any:
    one = Smtp(wire)
    return one.reply(), one.ehlo(), one.features, one.login("LOGIN", "a", "b")


def imap(wire: Wire) -> t.Any:
    one = Imap(wire)
    return one.greeting(), one.capabilities(), one.login([], "a", "b"), one.command("NOOP")


def pop3(wire: Wire) -> t.Any:
    one = Pop3(wire)
    return one.reply(), one.capabilities(), one.login({"SASL": ["PLAIN"]}, "a", "b")


def sieve(wire: Wire) -> t.Any:
    one = Sieve(wire)
    return sieve_capabilities(one.reply()[1]), one.login("a", "b")


def web(wire: Wire) -> t.Any:
    return http.get(wire, "a", "/"), http.body(wire)


#: What is read from a connection, and the pieces of what servers say there.
READERS: t.Dict[str, t.Tuple[t.Callable[[Wire], t.Any], t.List[bytes]]] = {
    "SMTP": (
        smtp,
        [b"220", b"250", b"334 ", b"535", b"-", b" ", b"\r\n", b"\n", b"AUTH=PLAIN LOGIN", b"\0", b"250-x\r\n"],
    ),
    "IMAP": (
        imap,
        [b"* OK x\r\n", b"* ", b"p1 OK\r\n", b"p2 NO no\r\n", b"p3 OK\r\n", b"+ \r\n", b"{3}\r\nabc", b"{99}\r\n"]
        + [b"{0}\r\n", b"* CAPABILITY A AUTH=PLAIN\r\n", b"{12345678901234567890}\r\n", b"{4000000000}\r\n", b"\r\n"],
    ),
    "POP3": (
        pop3,
        [b"+OK\r\n", b"-ERR no\r\n", b"+ \r\n", b"+", b".\r\n", b"..\r\n", b"SASL PLAIN\r\n", b"\r\n", b" \r\n"],
    ),
    "ManageSieve": (
        sieve,
        [b'"SASL" "PLAIN"\r\n', b'"', b"OK\r\n", b"NO\r\n", b'BYE "x"\r\n', b"{5}\r\n", b"\r\n", b'"STARTTLS"\r\n'],
    ),
    "HTTP": (
        web,
        [b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 ", b"301", b"\r\n", b"\r\n\r\n", b"A: b\r\n", b"<p>", b"\n\n"],
    ),
}


def outcome(read: t.Callable[[Wire], t.Any], said: bytes, size: int = 65536) -> t.Any:
    try:
        return read(wire(said, size))
    except WireError as exc:
        return exc.kind


@pytest.mark.parametrize("protocol", list(READERS))
def test_anything_is_said(protocol: str) -> None:
    read, pieces = READERS[protocol]

    @given(bytes_of(*pieces), st.integers(1, 40))
    def check(said: bytes, size: int) -> None:
        # however it is cut into packets
        if len(said) < 2000:
            assert outcome(read, said, size) == outcome(read, said)
        else:
            outcome(read, said)

    check()


LINE = st.text(st.characters(blacklist_categories=("Cc", "Cs", "Zl", "Zp")), max_size=40)


@given(st.integers(200, 599), st.lists(LINE, min_size=1, max_size=8))
def test_smtp_reply(code: int, lines: t.List[str]) -> None:
    text = "".join(f"{code}{'-' if at < len(lines) else ' '}{line}\r\n" for at, line in enumerate(lines, 1))
    assert Smtp(wire(text.encode(), 3)).reply() == (code, lines)


@given(st.lists(st.binary(max_size=40), max_size=5), LINE.map(str.encode).filter(lambda line: b"{" not in line))
def test_imap_literals(literals: t.List[bytes], rest: bytes) -> None:
    line = b"* X " + b"".join(b"{%d}\r\n%s" % (len(literal), literal) for literal in literals) + rest
    untagged = Imap(wire(line + b"\r\np1 OK\r\n", 3)).command("X")[2]
    assert untagged == [line]


@given(st.lists(st.binary(max_size=20).filter(lambda line: not re.search(rb"[\r\n]", line)), max_size=9))
def test_pop3_listing(lines: t.List[bytes]) -> None:
    sent = b"".join((b"." if line.startswith(b".") else b"") + line + b"\r\n" for line in lines)
    assert Pop3(wire(b"+OK\r\n" + sent + b".\r\n", 3)).listing("RETR 1") == b"".join(line + b"\r\n" for line in lines)


@given(
    st.dictionaries(st.text("ABC", min_size=1, max_size=9), st.lists(st.sampled_from(["PLAIN", "LOGIN"]), max_size=3))
)
def test_sieve_capabilities(known: t.Dict[str, t.List[str]]) -> None:
    lines = [f'"{name}" "{" ".join(values)}"' for name, values in known.items()]
    assert sieve_capabilities(lines) == known


@given(text_of('"', "A", " ", "\\"))
def test_sieve_capabilities_of_anything(line: str) -> None:
    sieve_capabilities([line])


@given(st.integers(100, 599), st.binary(max_size=200).filter(lambda page: b"\r" not in page))
def test_http(code: int, page: bytes) -> None:
    connection = wire(b"HTTP/1.1 %d x\r\nA: b\r\n\r\n%s" % (code, page), 5)
    assert http.get(connection, "a", "/").code == code
    assert http.body(connection) == page.decode("utf-8", "replace")


def test_the_limit_of_an_answer_holds_for_each_alone() -> None:
    half = b"{%d}\r\n" % (LARGEST_ANSWER // 2) + bytes(LARGEST_ANSWER // 2) + b"\r\n"
    one = Imap(wire(half + b"p1 OK\r\n" + half + b"p2 OK\r\n" + half + half + b"p3 OK\r\n"))
    assert [one.command("X")[0] for _ in range(2)] == ["OK", "OK"]
    with pytest.raises(WireError, match="more than 1048576 bytes"):
        one.command("X")


@given(
    bytes_of(b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\0", b"\x03", b"\x30", b"\x02", b"\x82\x01\x01", b"\x85")
)
def test_keys(der: bytes) -> None:
    assert isinstance(certificate.describe_key(der)[1], bool)
