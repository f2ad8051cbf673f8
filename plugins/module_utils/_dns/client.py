# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# May run on any vantage host: Python 3.6 and the standard library only.

"""Queries to name servers."""

import contextlib
import os
import selectors
import socket
import struct
import time
import typing as t

from ansible_collections.port587.mail.plugins.module_utils._dns import packets
from ansible_collections.port587.mail.plugins.module_utils._dns.packets import Answer
from ansible_collections.port587.mail.plugins.module_utils._wire.connection import connect
from ansible_collections.port587.mail.plugins.module_utils._wire.errors import WireError

#: Seconds for one server. A lost packet is sent again once.
PATIENCE = 2.0


def ask(
    server: str, name: str, kind: str, recursive: bool = True, patience: float = PATIENCE, port: int = 53
) -> t.Optional[Answer]:
    """The answer; None if the server does not answer, or reports a failure."""
    number = _new_number()
    try:
        question = packets.question(name, kind, number, recursive)
        for _attempt in range(2):
            message = _over_udp((server, port), question, number, patience / 2)
            if message is not None:
                break
        if message is None:
            return None
        if packets.is_truncated(message):
            message = _over_tcp((server, port), question, number, patience)
        return packets.parse(message, name, kind)
    except (OSError, WireError, *packets.MALFORMED):
        return None


def ask_any(servers: t.Iterable[str], name: str, kind: str, patience: float, port: int = 53) -> t.Optional[Answer]:
    """Query all these servers at once, with one packet each. The first answer counts; None if none comes in time.

    Raises ValueError for an invalid name.
    """
    number = _new_number()
    question = packets.question(name, kind, number, edns=False)
    with contextlib.ExitStack() as opened:
        asked = []
        for server in servers:
            # a server that can't be reached is not waited for
            with contextlib.suppress(OSError):
                one = opened.enter_context(socket.socket(_family(server), socket.SOCK_DGRAM))
                one.connect((server, port))
                one.send(question)
                asked.append(one)
        return _first_answer(asked, name, kind, number, patience)


def _first_answer(
    sockets: t.Sequence[socket.socket], name: str, kind: str, number: int, patience: float
) -> t.Optional[Answer]:
    deadline = time.monotonic() + patience
    # not select(2), which supports no file descriptor above 1023
    with selectors.DefaultSelector() as selector:
        for asked in sockets:
            selector.register(asked, selectors.EVENT_READ)
        while selector.get_map():
            ready = selector.select(max(0.0, deadline - time.monotonic()))
            if not ready:
                return None
            for key, _events in ready:
                asked = t.cast(socket.socket, key.fileobj)
                selector.unregister(asked)
                try:
                    message = asked.recv(4096)
                    found = packets.parse(message, name, kind) if packets.is_answer(message, number) else None
                except (OSError, *packets.MALFORMED):
                    continue
                if found is not None:
                    return found
    return None


def _new_number() -> int:
    return int.from_bytes(os.urandom(2), "big")


def _family(server: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in server else socket.AF_INET


def _over_udp(server: t.Tuple[str, int], question: bytes, number: int, patience: float) -> t.Optional[bytes]:
    with socket.socket(_family(server[0]), socket.SOCK_DGRAM) as asked:
        asked.connect(server)
        asked.send(question)
        end = time.monotonic() + patience
        left = patience
        try:
            while left > 0:
                asked.settimeout(left)
                message = asked.recv(65535)
                if packets.is_answer(message, number):
                    return message
                left = end - time.monotonic()
        except socket.timeout:
            pass
        return None


def _over_tcp(server: t.Tuple[str, int], question: bytes, number: int, patience: float) -> bytes:
    wire = connect(server[0], server[1], patience, time.monotonic() + patience)
    try:
        wire.send(struct.pack("!H", len(question)) + question)
        message = wire.exactly(struct.unpack("!H", wire.exactly(2))[0])
    finally:
        wire.close()
    if not packets.is_answer(message, number):
        raise ValueError("not the answer to this question")
    return message
