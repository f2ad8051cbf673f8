# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# May run on any vantage host and on the server: Python 3.6 and the standard library only.

"""The client side of IMAP (RFC 3501), as far as the probe and the proofs need it."""

import re
import typing as t

from ansible_collections.port587.mail.plugins.module_utils._wire.connection import Wire
from ansible_collections.port587.mail.plugins.module_utils._wire.errors import WireError, endless
from ansible_collections.port587.mail.plugins.module_utils._wire.words import plain_token, text

#: Announces a literal: a number of bytes, which may include line ends.
_LITERAL = re.compile(rb"\{([0-9]{1,10})\}$")


class Imap:
    """IMAP. ``command`` gives the status line's word, its text, and the untagged lines with their literals in place."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self._tag = 0

    def greeting(self) -> str:
        line = text(self.line())
        if not re.match(r"\* (OK|BYE|PREAUTH)\b", line, re.IGNORECASE):
            raise WireError("protocol", f"not an IMAP greeting: {line[:80]}")
        return line[2:]

    def send(self, command: t.Union[str, bytes]) -> bytes:
        """Send a command. Returns its tag."""
        self._tag += 1
        tag = b"p%d " % self._tag
        self.wire.send(tag + (command.encode() if isinstance(command, str) else command) + b"\r\n")
        return tag

    def response(self, tag: bytes, *answers: bytes) -> t.Tuple[str, str, t.List[bytes]]:
        """All lines up to the one with this tag. ``answers``: replies to the continuation requests, in order."""
        # a further request gets "*", which cancels the command
        left = [*answers, b"*"]
        untagged: t.List[bytes] = []
        while True:
            line = self.line()
            if line.startswith(tag):
                word, _sep, rest = text(line[len(tag) :]).partition(" ")
                return word.upper(), rest, untagged
            if not line.startswith(b"+"):
                untagged.append(line)
            elif left:
                self.wire.send(left.pop(0) + b"\r\n")
            else:
                raise endless("it asks for more, though the command was cancelled")

    def command(self, command: t.Union[str, bytes], *answers: bytes) -> t.Tuple[str, str, t.List[bytes]]:
        return self.response(self.send(command), *answers)

    def capabilities(self) -> t.List[str]:
        for line in self.command("CAPABILITY")[2]:
            if line.upper().startswith(b"* CAPABILITY "):
                return text(line).upper().split()[2:]
        return []

    def login(self, capabilities: t.List[str], login: str, password: str, owner: str = "") -> t.Tuple[str, str]:
        """``owner``: whose mailbox to open, if that is another's; the server must offer PLAIN then (RFC 4616)."""
        if "AUTH=PLAIN" in capabilities or owner:
            return self.command("AUTHENTICATE PLAIN", plain_token(login, password, owner).encode("ascii"))[:2]
        # a literal can have every character; a quoted string can't
        user, secret = login.encode(), password.encode()
        return self.command(f"LOGIN {{{len(user)}}}", user + b" {%d}" % len(secret), secret)[:2]

    def line(self) -> bytes:
        """One line, with its literals and the text after them."""
        parts = [self.wire.line()]
        size = _LITERAL.search(parts[-1])
        while size:
            parts += [b"\r\n", self.wire.exactly(int(size.group(1))), self.wire.line()]
            size = _LITERAL.search(parts[-1])
        return b"".join(parts)
