# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""preflight's network queries: limited in time, and sent directly to the name servers."""

import socket
import struct
import threading
import time
import typing as t
from contextlib import contextmanager

import pytest
from ansible_collections.port587.mail.plugins.module_utils._server import preflight_net
from dns_answers import A, answer, record


def test_nameservers_are_those_behind_the_stub() -> None:
    behind = "nameserver 192.0.2.53\nnameserver 2001:db8::53\n"
    assert preflight_net.nameservers("# x\nnameserver 127.0.0.53\noptions edns0\n", behind) == [
        "192.0.2.53",
        "2001:db8::53",
    ]
    assert preflight_net.nameservers("nameserver 127.0.0.53\n", "") == ["127.0.0.53"]
    assert preflight_net.nameservers("nameserver 10.0.0.2\n", behind) == ["10.0.0.2"]
    assert preflight_net.nameservers("", "") == ["127.0.0.1"]


@pytest.mark.parametrize("silent", [[], ["127.0.0.53"], ["192.0.2.53"]])
def test_the_stub_has_to_answer_too(monkeypatch: pytest.MonkeyPatch, silent: t.List[str]) -> None:
    """Of systemd-resolved and of the servers behind it, each can be away."""

    def lookup(_name: str, _kind: str, servers: t.List[str]) -> t.Optional[t.List[str]]:
        return None if servers == silent else ["192.0.2.5"]

    monkeypatch.setattr(preflight_net, "lookup", lookup)
    sight = preflight_net.look("mail.example.com", [], "nameserver 127.0.0.53\n", "nameserver 192.0.2.53\n")
    assert sight.answers == (not silent)
    assert sight.addresses == (None if silent == ["192.0.2.53"] else ["192.0.2.5", "192.0.2.5"])


@pytest.fixture
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine the thread that answers may start seconds later."""
    monkeypatch.setattr(preflight_net, "PATIENCE", 60.0)


def number_of(question: bytes) -> int:
    return struct.unpack_from("!H", question)[0]


@contextmanager
def name_server(reply: t.Callable[[bytes], t.Optional[bytes]]) -> t.Iterator[int]:
    """A real socket that answers one question."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))

        def serve() -> None:
            question, client = server.recvfrom(512)
            message = reply(question)
            if message is not None:
                server.sendto(message, client)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1]


@pytest.mark.usefixtures("_patient")
def test_lookup() -> None:
    with name_server(lambda question: answer(number_of(question), record(1, A))) as port:
        assert preflight_net.lookup("mail.example.com.", "A", ["127.0.0.1"], port) == ["192.0.2.5"]


@pytest.mark.usefixtures("_patient")
def test_the_first_good_answer_counts() -> None:
    """One server can't be reached, one refuses, one answers with rubbish."""
    with name_server(lambda question: answer(number_of(question), code=5)) as port:
        assert preflight_net.lookup("mail.example.com", "A", ["192.0.2.1:x", "127.0.0.1"], port) is None
    with name_server(lambda question: question[:2] + b"\x81\x80" + b"\xff" * 20) as port:
        assert preflight_net.lookup("mail.example.com", "A", ["127.0.0.1"], port) is None


def test_lookup_gives_up_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight_net, "PATIENCE", 0.2)
    with name_server(lambda _question: None) as port:
        start = time.monotonic()
        assert preflight_net.lookup("mail.example.com", "A", ["127.0.0.1"], port) is None
        # less than a second, on a machine with nothing else to do
        assert 0.15 < time.monotonic() - start < 30


def test_lookup_where_nobody_listens() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    assert preflight_net.lookup("mail.example.com", "A", ["127.0.0.1"], port) is None
    assert preflight_net.lookup("x" * 64 + ".example", "A", ["127.0.0.1"], port) == []


def test_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port = server.getsockname()[1]
        assert preflight_net.reach("127.0.0.1", port) == "connection refused"
        server.listen()
        assert preflight_net.reach("127.0.0.1", port) == ""

    def silent(*_args: object, **_options: object) -> None:
        raise socket.timeout

    monkeypatch.setattr(socket, "create_connection", silent)
    assert preflight_net.reach("192.0.2.1") == "no answer within 1 s"


def test_own_addresses() -> None:
    assert preflight_net.is_own("127.0.0.1")
    assert not preflight_net.is_own("192.0.2.1")


def test_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind NAT the PTR record that counts is that of the address which the name leads to."""
    world = {("mail.example.com", "A"): ["9.9.9.10"], ("10.9.9.9.in-addr.arpa", "PTR"): ["mail.example.com"]}
    monkeypatch.setattr(preflight_net, "lookup", lambda name, kind, _servers: world.get((name, kind), []))
    monkeypatch.setattr(
        preflight_net, "source_address", lambda family: "10.0.0.4" if family == socket.AF_INET else None
    )
    sight = preflight_net.look("mail.example.com", ["mx.example"], "", "")
    assert sight.answers
    assert sight.addresses == ["9.9.9.10"]
    assert sight.sources == ["10.0.0.4"]
    assert sight.pointers == {"9.9.9.10": ["mail.example.com"]}
    assert sight.outgoing == {"mx.example": "it has no IPv4 address"}

    monkeypatch.setattr(preflight_net, "lookup", lambda *_args: None)
    sight = preflight_net.look("mail.example.com", ["mx.example"], "", "")
    assert not sight.answers
    assert sight.addresses is None
    assert sight.outgoing == {"mx.example": "its name could not be looked up"}
