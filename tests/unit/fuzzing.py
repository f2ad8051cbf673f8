# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Helpers of the fuzz tests: input from a format's own tokens, and a connection that delivers it."""

import time
import typing as t

from ansible_collections.port587.mail.plugins.module_utils._wire.connection import Wire
from hypothesis import strategies as st

#: Bytes of the longest input: large enough that what is quadratic takes too long.
LONGEST = 300000


def bytes_of(*pieces: bytes) -> st.SearchStrategy[bytes]:
    """The pieces in any order, with anything in between, and at times one of them thousands of times."""
    one = st.sampled_from(pieces)
    anything = st.one_of(one, one, one, st.binary(max_size=12))
    short = st.lists(anything, max_size=24).map(b"".join)
    many = st.builds(
        lambda part, times: (part * times)[:LONGEST],
        st.lists(one, min_size=1, max_size=3).map(b"".join),
        st.sampled_from([100, 3000, 100000]),
    )
    return st.one_of(short, short, short, st.builds(lambda *parts: b"".join(parts), short, many, short))


def text_of(*pieces: str) -> st.SearchStrategy[str]:
    """The same as text."""
    return bytes_of(*(piece.encode() for piece in pieces)).map(lambda content: content.decode("utf-8", "replace"))


class Scripted:
    """A socket on which the other side says this, and then closes the connection. It takes everything."""

    def __init__(self, said: bytes, size: int = 65536) -> None:
        self.left, self.size = said, size

    def recv(self, size: int) -> bytes:
        size = min(size, self.size)
        data, self.left = self.left[:size], self.left[size:]
        return data

    def sendall(self, data: bytes) -> None:
        pass

    def settimeout(self, seconds: float) -> None:
        assert seconds > 0

    def getsockname(self) -> t.Tuple[str, int]:
        return "192.0.2.1", 50000

    def close(self) -> None:
        pass


def wire(said: bytes, size: int = 65536) -> Wire:
    """A connection on which the server says this, at most so many bytes at a time."""
    return Wire(t.cast(t.Any, Scripted(said, size)), 60.0, time.monotonic() + 60)
