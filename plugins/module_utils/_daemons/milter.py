# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Runs on the server: Python 3.6 and the standard library only.

"""The MTA's side of the milter protocol, as far as needed to get a filter's verdict on one message.

No RFC describes it: this is version 6, as in sendmail's libmilter (mfdef.h) and Postfix. A packet consists of its
length (4 bytes), one letter, and data; strings end with a zero byte.
"""

import struct
import typing as t

from ansible_collections.port587.mail.plugins.module_utils._wire.connection import Wire
from ansible_collections.port587.mail.plugins.module_utils._wire.errors import WireError, endless
from ansible_collections.port587.mail.plugins.module_utils._wire.limits import MOST_LINES

#: What the filter may do (add, change and remove headers, and so on), and steps that it may leave unanswered.
_ACTIONS = 0x1FF
_PROTOCOL = 0x1FFFFF
#: For each step, the flag by which the filter announces that it will not answer.
_NO_REPLY = {"C": 0x1000, "H": 0x2000, "M": 0x4000, "R": 0x8000, "L": 0x80, "N": 0x40000, "B": 0x80000}
#: Replies at the end of a message that change it. Another reply follows each of them.
_CHANGES = "hims+-epq2"
_CONTINUE, _ACCEPT = "c", "a"


class Message(t.NamedTuple):
    """``login``: the sender's login; empty for other servers, which connect from ``client``."""

    sender: str
    recipient: str
    headers: t.Sequence[t.Tuple[str, str]]
    body: bytes = b"Hello.\r\n"
    login: str = ""
    client: str = "127.0.0.1"
    hostname: str = "localhost"


class Outcome(t.NamedTuple):
    """``verdict``: continue, accept, or the filter's SMTP reply. ``added``: headers, in order."""

    verdict: str
    added: t.List[t.Tuple[str, str]]
    removed: t.List[str]


def scan(wire: Wire, message: Message) -> Outcome:
    """Send a message to the filter. Raises WireError."""
    return _Session(wire).scan(message)


class _Session:
    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.silent = 0

    def scan(self, message: Message) -> Outcome:
        self._send("O", struct.pack("!3I", 6, _ACTIONS, _PROTOCOL))
        letter, data = self._receive()
        if letter != "O" or len(data) < 12:
            raise WireError("protocol", "it does not speak the milter protocol")
        self.silent = struct.unpack_from("!3I", data)[2]

        family = b"6" if ":" in message.client else b"4"
        self._macros("C", {"j": message.hostname, "{daemon_name}": message.hostname})
        steps = [("C", _text("localhost") + family + struct.pack("!H", 25) + _text(message.client))]
        steps.append(("H", _text("localhost")))
        steps.append(("M", _text("<%s>" % message.sender)))
        steps.append(("R", _text("<%s>" % message.recipient)))
        steps += [("L", _text(name) + _text(value)) for name, value in message.headers]
        steps += [("N", b""), ("B", message.body)]
        for step, data in steps:
            if step == "M":
                self._macros("M", {"i": "port587", **({"{auth_authen}": message.login} if message.login else {})})
            self._send(step, data)
            if not self.silent & _NO_REPLY[step]:
                letter, said = self._receive()
                if letter != _CONTINUE:
                    return Outcome(_verdict(letter, said), [], [])
        return self._end()

    def _end(self) -> Outcome:
        added = []  # type: t.List[t.Tuple[str, str]]
        removed = []  # type: t.List[str]
        self._send("E", b"")
        for _change in range(MOST_LINES):
            letter, data = self._receive()
            if letter not in _CHANGES:
                return Outcome(_verdict(letter, data), added, removed)
            # i and m begin with a number: the position to insert at, or the index of the header to change
            fields = data[4:] if letter in "im" else data
            name, value = (fields.split(b"\0") + [b"", b""])[:2]
            if letter == "m" and not value:
                removed.append(name.decode("utf-8", "replace"))
            elif letter in "hi":
                added.append((name.decode("utf-8", "replace"), value.decode("utf-8", "replace")))
        raise endless("more than %d changes" % MOST_LINES)

    def _macros(self, step: str, values: t.Mapping[str, str]) -> None:
        self._send("D", step.encode() + b"".join(_text(name) + _text(value) for name, value in values.items()))

    def _send(self, letter: str, data: bytes) -> None:
        self.wire.send(struct.pack("!I", len(data) + 1) + letter.encode() + data)

    def _receive(self) -> t.Tuple[str, bytes]:
        self.wire.step()
        (length,) = struct.unpack("!I", self.wire.exactly(4))
        packet = self.wire.exactly(length)
        if not packet:
            raise WireError("protocol", "it does not speak the milter protocol")
        return packet[:1].decode("ascii", "replace"), packet[1:]


def _text(value: str) -> bytes:
    return value.encode("utf-8") + b"\0"


def _verdict(letter: str, data: bytes) -> str:
    words = {_CONTINUE: "continue", _ACCEPT: "accept", "r": "550", "t": "451", "d": "discard"}
    # y: a reply with the filter's own text
    return data.rstrip(b"\0").decode("utf-8", "replace") if letter == "y" else words.get(letter, letter)
