# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Servers that mean harm: they send without end, or drop by drop. The probe ends in time, stays small, and says why."""

import contextlib
import pathlib
import socket
import ssl
import struct
import threading
import time
import tracemalloc
import typing as t

import pytest
from ansible_collections.port587.mail.plugins.module_utils._dns import client as dns_client
from ansible_collections.port587.mail.plugins.module_utils._probe.dns import Addresses
from ansible_collections.port587.mail.plugins.module_utils._probe.probe import STANDARD_PORTS, probe, trust
from ansible_collections.port587.mail.plugins.module_utils._probe.records import Record
from ansible_collections.port587.mail.plugins.module_utils._probe.walk import Settings
from authority import HOST, Certificates

#: What one attack sends before it gives up, so that a test against a probe without limits ends as well.
FLOOD_BYTES = 128 * 1024 * 1024
FLOOD_SECONDS = 30.0

#: Seconds for one step in tests of the clock, and in tests of sizes, which a slow machine has to reach before;
#: and what a walk that ends in its first or second step may take altogether.
TIMEOUT, LONG_TIMEOUT = 0.6, 15.0
IN_TIME = 20.0

#: Bytes that a walk may hold at a time. The limit of one answer is a part of it.
SMALL = 24 * 1024 * 1024

Attack = t.Callable[[socket.socket], None]


class Hostile:
    """A listening port that does the same to everybody who connects."""

    def __init__(self, attack: Attack, tls: t.Optional[ssl.SSLContext] = None) -> None:
        self.attack, self.tls = attack, tls
        self.listener = socket.socket()
        self.listener.bind(("127.0.0.1", 0))
        self.listener.listen(5)
        self.port: int = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self) -> None:
        while True:
            threading.Thread(target=self.serve, args=(self.listener.accept()[0],), daemon=True).start()

    def serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            connection.settimeout(FLOOD_SECONDS)
            with self.tls.wrap_socket(connection, server_side=True) if self.tls else connection as wrapped:
                self.attack(wrapped)


def flood(what: bytes, first: bytes = b"", after: int = 0) -> Attack:
    """Send ``first``, wait for so many lines of the client, and then send ``what`` again and again."""

    def attack(connection: socket.socket) -> None:
        connection.sendall(first)
        heard = b""
        while heard.count(b"\n") < after:
            heard += connection.recv(4096)
        end = time.monotonic() + FLOOD_SECONDS
        much = what * (65536 // len(what))
        for _ in range(FLOOD_BYTES // len(much)):
            connection.sendall(much)
            if time.monotonic() > end:
                break

    return attack


def drip(what: bytes, pause: float = 0.05, first: bytes = b"", after: int = 0) -> Attack:
    """One byte now and then."""

    def attack(connection: socket.socket) -> None:
        connection.sendall(first)
        heard = b""
        while heard.count(b"\n") < after:
            heard += connection.recv(4096)
        for number in range(int(FLOOD_SECONDS / pause)):
            connection.sendall(what[number % len(what) :][:1])
            time.sleep(pause)

    return attack


def endless_handshake(connection: socket.socket) -> None:
    """A ServerHello of TLS 1.3, and then the record that means nothing there, which clients pass over, without end."""
    hello = connection.recv(16384)
    session = hello[44 : 44 + hello[43]]
    share = struct.pack("!6H", 43, 2, 0x0304, 51, 36, 0x001D) + struct.pack("!H", 32) + b"\x09" + bytes(31)
    body = b"\x03\x03" + bytes(range(32)) + bytes([len(session)]) + session + b"\x13\x02\0"
    body += struct.pack("!H", len(share)) + share
    message = b"\x02" + struct.pack("!I", len(body))[1:] + body
    flood(b"\x14\x03\x03\0\1\1", b"\x16\x03\x03" + struct.pack("!H", len(message)) + message)(connection)


def huge_handshake(connection: socket.socket) -> None:
    """Records of a handshake message that is said to be 16 MB long."""
    flood(b"\x16\x03\x03\x40\0" + b"\x0b\xff\xff\xff" + bytes(16380))(connection)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: t.Any) -> Certificates:
    return Certificates(pathlib.Path(str(tmp_path_factory.mktemp("tls"))))


@pytest.fixture(scope="module")
def tls(certificates: Certificates) -> ssl.SSLContext:
    return certificates.server()


class Measured(t.NamedTuple):
    records: t.List[Record]
    seconds: float
    peak: int

    def failed(self) -> t.List[t.Tuple[str, str, str]]:
        return [(one.step, one.diagnosis, one.seen) for one in self.records if one.verdict == "fail"]


def measure(action: t.Callable[[], t.Any]) -> t.Tuple[t.Any, float, int]:
    """What it returns, how long it took, and the bytes that Python held at most meanwhile."""
    tracemalloc.start()
    began = time.monotonic()
    try:
        result = action()
        return result, time.monotonic() - began, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def walk(server: Hostile, service: str, certificates: Certificates, timeout: float = TIMEOUT) -> Measured:
    settings = Settings(
        host=HOST,
        address="127.0.0.1",
        ports=dict(STANDARD_PORTS, **{service: server.port}),
        context=trust(certificates.ca, None),
        timeout=timeout,
    )
    found, seconds, peak = measure(lambda: probe(settings, [service], Addresses([], [])))
    return Measured(found.records, seconds, peak)


HTTP = b"HTTP/1.1 200 OK\r\n"

#: The service, whether inside TLS, what is done to the probe, and the step in which it says that this never ends.
FLOODS: t.Dict[str, t.Tuple[str, bool, Attack, str]] = {
    "SMTP, greeting": ("smtp", False, flood(b"220-hello\r\n"), "greeting"),
    "SMTP, short lines": ("smtp", False, flood(b"220-\n"), "greeting"),
    "SMTP, long lines": ("smtp", False, flood(b"220-" + b"x" * 60000 + b"\r\n"), "greeting"),
    "SMTP, one line": ("smtp", False, flood(b"2"), "greeting"),
    "SMTP, EHLO": ("submission", False, flood(b"250-X\r\n", b"220 hello\r\n", 1), "EHLO"),
    "IMAP, greeting": ("imap", False, flood(b"* OK hello "), "greeting"),
    "IMAP, untagged": ("imap", False, flood(b"* OK still here\r\n", b"* OK hello\r\n", 1), "no login in clear"),
    "IMAP, asks on": ("imap", False, flood(b"+ more\r\n", b"* OK hello\r\n", 1), "no login in clear"),
    "IMAP, a huge literal": (
        "imap",
        False,
        flood(b"x", b"* OK hello\r\n* X {4000000000}\r\n", 1),
        "no login in clear",
    ),
    "IMAP, many literals": ("imap", False, flood(b"{9}\r\n123456789", b"* OK hello\r\n", 1), "no login in clear"),
    "POP3, list": ("pop3", False, flood(b"X Y\r\n", b"+OK hello\r\n+OK\r\n", 1), "no login in clear"),
    "Sieve, greeting": ("sieve", False, flood(b'"X" "y"\r\n'), "greeting"),
    "HTTP, header": ("autoconfig", True, flood(b"X: y\r\n", HTTP, 1), "page"),
    "HTTP, body": ("autoconfig", True, flood(b"<p>hello\n", HTTP + b"\r\n", 1), "page"),
    "HTTP, chunks": (
        "autoconfig",
        True,
        flood(b"10\r\n0123456789abcdef\r\n", HTTP + b"Transfer-Encoding: chunked\r\n\r\n", 1),
        "page",
    ),
    "HTTP, compressed": (
        "autoconfig",
        True,
        flood(bytes(1024), HTTP + b"Content-Encoding: gzip\r\n\r\n\x1f\x8b\x08", 1),
        "page",
    ),
}


@pytest.mark.parametrize(("service", "inside", "attack", "step"), list(FLOODS.values()), ids=list(FLOODS))
def test_an_answer_without_end(
    service: str, inside: bool, attack: Attack, step: str, tls: ssl.SSLContext, certificates: Certificates
) -> None:
    seen = walk(Hostile(attack, tls if inside else None), service, certificates, LONG_TIMEOUT)
    assert seen.seconds < IN_TIME
    assert seen.peak < SMALL
    assert [(where, diagnosis) for where, diagnosis, _seen in seen.failed()] == [(step, "service-endless")]
    assert seen.failed()[0][2].startswith("the answer does not end")


#: The same with a byte now and then: the clock of the step runs on.
DRIPS: t.Dict[str, t.Tuple[str, bool, Attack, t.Tuple[str, str]]] = {
    "SMTP": ("smtp", False, drip(b"220-hello\r\n"), ("greeting", "service-stalls")),
    "SMTP, EHLO": ("smtp", False, drip(b"250-x\r\n", 0.05, b"220 x\r\n", 1), ("EHLO", "service-stalls")),
    "IMAP": ("imap", False, drip(b"* OK\r\n", 0.05, b"* OK\r\n", 1), ("no login in clear", "service-stalls")),
    "POP3": ("pop3", False, drip(b"X\r\n", 0.05, b"+OK\r\n+OK\r\n", 1), ("no login in clear", "service-stalls")),
    "Sieve": ("sieve", False, drip(b'"X"\r\n'), ("greeting", "service-stalls")),
    "TLS": ("imaps", False, drip(b"\x16\x03\x03\x40\0" + bytes(999)), ("certificate", "tls-broken")),
    "HTTP": ("autoconfig", True, drip(b"x\n", 0.05, HTTP, 1), ("page", "service-stalls")),
}


@pytest.mark.parametrize(("service", "inside", "attack", "finding"), list(DRIPS.values()), ids=list(DRIPS))
def test_an_answer_drop_by_drop(
    service: str,
    inside: bool,
    attack: Attack,
    finding: t.Tuple[str, str],
    tls: ssl.SSLContext,
    certificates: Certificates,
) -> None:
    seen = walk(Hostile(attack, tls if inside else None), service, certificates)
    assert seen.seconds < IN_TIME
    assert seen.peak < SMALL
    assert [(where, diagnosis) for where, diagnosis, _seen in seen.failed()] == [finding]


@pytest.mark.parametrize("attack", [endless_handshake, huge_handshake])
def test_a_handshake_without_end(attack: Attack, certificates: Certificates) -> None:
    seen = walk(Hostile(attack), "imaps", certificates)
    assert seen.seconds < IN_TIME
    assert seen.peak < SMALL
    assert [(where, diagnosis) for where, diagnosis, _seen in seen.failed()] == [("certificate", "tls-broken")]


class Resolver:
    """Over UDP it says that the answer is too long, and over TCP it does what the test wants; or it floods UDP."""

    def __init__(self, attack: Attack, floods_udp: bool = False) -> None:
        self.tcp = Hostile(attack)
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.bind(("127.0.0.1", self.tcp.port))
        self.port = self.tcp.port
        self.floods_udp = floods_udp
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self) -> None:
        question, asker = self.udp.recvfrom(512)
        end = time.monotonic() + FLOOD_SECONDS
        while self.floods_udp and time.monotonic() < end:
            # never the answer to this question
            self.udp.sendto(bytes([question[0] ^ 1]) + question[1:2] + b"\x80" + question[3:], asker)
            time.sleep(0.001)
        self.udp.sendto(question[:2] + b"\x82\x80" + question[4:], asker)


@pytest.mark.parametrize(
    ("attack", "floods_udp"),
    [
        (flood(bytes(1000)), False),
        (drip(b"\xff\xff" + bytes(1000)), False),
        (drip(b"\xff"), True),
    ],
    ids=["TCP without end", "TCP drop by drop", "UDP without end"],
)
def test_a_name_server_without_end(attack: Attack, floods_udp: bool) -> None:
    resolver = Resolver(attack, floods_udp)

    def ask() -> t.Any:
        return dns_client.ask("127.0.0.1", "example.test", "TXT", patience=0.5, port=resolver.port)

    answer, seconds, peak = measure(ask)
    assert answer is None
    assert seconds < IN_TIME
    assert peak < SMALL
