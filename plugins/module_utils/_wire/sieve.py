# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# May run on any vantage host and on the server: Python 3.6 and the standard library only.

"""The client side of ManageSieve (RFC 5804), as far as the probe and the proofs need it."""

import re
import typing as t

from ansible_collections.port587.mail.plugins.module_utils._wire.connection import Wire
from ansible_collections.port587.mail.plugins.module_utils._wire.errors import WireError
from ansible_collections.port587.mail.plugins.module_utils._wire.words import plain_token, text


class Sieve:
    """ManageSieve (RFC 5804)."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire

    def reply(self) -> t.Tuple[str, t.List[str]]:
        """The last line (OK, NO or BYE ...) and what came before it."""
        lines: t.List[str] = []
        while True:
            line = text(self.wire.line())
            if re.match(r"(OK|NO|BYE)\b", line, re.I):
                return line, lines
            if not line.startswith('"'):
                raise WireError("protocol", f"not a ManageSieve reply: {line[:80]}")
            lines.append(line)

    def command(self, command: str) -> t.Tuple[str, t.List[str]]:
        self.wire.send(command.encode() + b"\r\n")
        return self.reply()

    def login(self, login: str, password: str) -> str:
        return self.command(f'AUTHENTICATE "PLAIN" "{plain_token(login, password)}"')[0]


def sieve_capabilities(lines: t.List[str]) -> t.Dict[str, t.List[str]]:
    """Name to values, from a ManageSieve server's capabilities."""
    found = {}
    for line in lines:
        words = re.findall(r'"([^"]*)"', line)
        if words:
            found[words[0].upper()] = " ".join(words[1:]).upper().split()
    return found
