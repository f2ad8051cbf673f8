# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# May run on any vantage host and on the server: Python 3.6 and the standard library only.

"""A connection, with or without TLS, with deadlines and size limits."""

import contextlib
import ipaddress
import math
import socket
import ssl
import time
import typing as t

from ansible_collections.port587.mail.plugins.module_utils._wire.errors import WireError, endless
from ansible_collections.port587.mail.plugins.module_utils._wire.limits import (
    CHUNK,
    LARGEST_ANSWER,
    LARGEST_HANDSHAKE,
    LONGEST_LINE,
    MOST_LINES,
)
from ansible_collections.port587.mail.plugins.module_utils._wire.tls import Tls


def connect(address: str, port: int, timeout: float, end: float = math.inf) -> "Wire":
    """Connect over TCP to an IP address. ``timeout``: seconds for one step. ``end``: see :class:`Wire`."""
    try:
        ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        # the system's resolver has no deadline, so the caller looks names up before, with one
        raise WireError("nameless", f"{address} has no address") from None
    left = min(timeout, end - time.monotonic())
    try:
        return Wire(socket.create_connection((address, port), max(left, 0.001)), timeout, end)
    except socket.timeout:
        raise WireError("filtered", f"no answer within {timeout:g} s") from None
    except ConnectionRefusedError:
        raise WireError("refused", "connection refused") from None
    except OSError as exc:
        raise WireError("unreachable", exc.strerror or str(exc)) from None


class Wire:
    """A connection whose every step has a deadline: call ``step`` first, then send and read.

    ``timeout``: seconds for one step. ``end``: deadline for all steps, in time.monotonic()'s seconds. A deadline also
    applies while data arrives. All data between two calls of ``send`` counts as one answer, whose size is limited.
    """

    def __init__(self, connected: socket.socket, timeout: float, end: float = math.inf) -> None:
        self.timeout = timeout
        #: the last line that was read, to quote it if it is invalid
        self.last = b""
        #: limits of one answer, for who has to read more than the probe does
        self.largest, self.most_lines = LARGEST_ANSWER, MOST_LINES
        self._socket = connected
        self._tls: t.Optional[Tls] = None
        self._buffer = bytearray()
        self._lines = self._bytes = 0
        self._end = end
        self.step()

    def step(self, timeout: t.Optional[float] = None) -> None:
        """Start the deadline of the next step."""
        self._patience = self.timeout if timeout is None else timeout
        self._step_end = min(time.monotonic() + self._patience, self._end)

    def send(self, data: bytes) -> None:
        self._lines = self._bytes = 0
        if self._tls:
            data = self._tls.encrypt(data)
        self._in_time(lambda: self._socket.sendall(data))

    def line(self) -> bytes:
        """One line without its line end."""
        while b"\n" not in self._buffer:
            if len(self._buffer) > LONGEST_LINE:
                raise endless(f"a line of more than {LONGEST_LINE} bytes")
            self._fill()
        line = bytes(self._buffer[: self._buffer.index(b"\n")])
        del self._buffer[: len(line) + 1]
        self._lines += 1
        if self._lines > self.most_lines:
            raise endless(f"more than {self.most_lines} lines")
        self._count(len(line))
        self.last = line[:-1] if line.endswith(b"\r") else line
        return self.last

    def exactly(self, size: int) -> bytes:
        """So many bytes."""
        self._count(size)
        while len(self._buffer) < size:
            self._fill()
        data = bytes(self._buffer[:size])
        del self._buffer[:size]
        return data

    def until_closed(self, most: int) -> bytes:
        """All data until the server closes the connection, up to this number of bytes."""
        try:
            while len(self._buffer) <= most:
                self._fill()
        except WireError as exc:
            if exc.kind != "closed":
                raise
            data, self._buffer = bytes(self._buffer), bytearray()
            return data
        raise endless(f"more than {most} bytes")

    def start_tls(self, context: ssl.SSLContext, host: t.Optional[str]) -> None:
        """Start TLS. Data that arrived before the handshake is an error (RFC 3207, CVE-2011-0411)."""
        if self._buffer:
            raise WireError("protocol", "the server went on talking in clear after it agreed to TLS")
        tls = Tls(context, host)
        received = 0
        while True:
            try:
                done = tls.shake_hands()
            except WireError:
                with contextlib.suppress(WireError):
                    self._send_encrypted(tls)  # sends the reason to the server's log
                raise
            self._send_encrypted(tls)
            if done:
                break
            data = self._receive()
            received += len(data)
            if received > LARGEST_HANDSHAKE:
                raise endless(f"a TLS handshake of more than {LARGEST_HANDSHAKE} bytes")
            tls.incoming.write(data)
        self._tls = tls

    def tls(self) -> ssl.SSLObject:
        """The TLS session, after ``start_tls``."""
        if self._tls is None:
            raise ValueError("TLS has not begun")
        return self._tls.session

    def own_address(self) -> str:
        return str(self._socket.getsockname()[0])

    def close(self) -> None:
        self._socket.close()

    def _count(self, size: int) -> None:
        self._bytes += size
        if self._bytes > self.largest:
            raise endless(f"more than {self.largest} bytes")

    def _fill(self) -> None:
        if not self._tls:
            self._buffer += self._receive()
            return
        data = self._tls.decrypt()
        while not data:
            self._send_encrypted(self._tls)
            self._tls.incoming.write(self._receive())
            data = self._tls.decrypt()
        self._buffer += data

    def _receive(self) -> bytes:
        data: bytes = self._in_time(lambda: self._socket.recv(CHUNK))
        if not data:
            raise WireError("closed", "the server closed the connection")
        return data

    def _send_encrypted(self, tls: "Tls") -> None:
        data = tls.outgoing.read()
        if data:
            self._in_time(lambda: self._socket.sendall(data))

    def _in_time(self, action: t.Callable[[], t.Any]) -> t.Any:
        left = self._step_end - time.monotonic()
        try:
            if left <= 0:
                raise socket.timeout
            self._socket.settimeout(left)
            return action()
        except socket.timeout:
            raise WireError("timeout", f"no complete answer within {self._patience:g} s") from None
        except OSError as exc:
            raise WireError("closed", f"connection lost: {exc.strerror or exc}") from None
