# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# May run on any vantage host and on the server: Python 3.6 and the standard library only.

"""POP3 as a client speaks it (RFC 1939), as far as the probe and the proofs need it. It knows no verdicts."""

import typing as t

from ansible_collections.port587.mail.plugins.module_utils._wire.connection import Wire
from ansible_collections.port587.mail.plugins.module_utils._wire.errors import WireError
from ansible_collections.port587.mail.plugins.module_utils._wire.words import plain_token, text


class Pop3:
    """POP3."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire

    def reply(self) -> str:
        """A line that begins with +OK, -ERR or, where it asks for more, + and a blank."""
        line = text(self.wire.line())
        if not line.startswith(("+OK", "-ERR")) and line.rstrip() != "+" and not line.startswith("+ "):
            raise WireError("protocol", f"not a POP3 reply: {line[:80]}")
        return line

    def command(self, command: str) -> str:
        self.wire.send(command.encode() + b"\r\n")
        return self.reply()

    def listing(self, command: str) -> bytes:
        """What follows the reply of a command that answers with several lines, dots taken away."""
        reply = self.command(command)
        if not reply.startswith("+OK"):
            raise WireError("protocol", reply)
        lines: t.List[bytes] = []
        while True:
            line = self.wire.line()
            if line == b".":
                return b"".join(each + b"\r\n" for each in lines)
            lines.append(line[1:] if line.startswith(b".") else line)

    def capabilities(self) -> t.Dict[str, t.List[str]]:
        """Keyword to its arguments. Empty where the server doesn't know CAPA."""
        try:
            lines = text(self.listing("CAPA")).upper().splitlines()
        except WireError as exc:
            if exc.kind != "protocol":
                raise
            return {}
        return {line.split()[0]: line.split()[1:] for line in lines if line.strip()}

    def login(self, capabilities: t.Dict[str, t.List[str]], login: str, password: str) -> str:
        if "PLAIN" in capabilities.get("SASL", []) and self.command("AUTH PLAIN").startswith("+"):
            return self.command(plain_token(login, password))
        reply = self.command("USER " + login)
        return self.command("PASS " + password) if reply.startswith("+OK") else reply
