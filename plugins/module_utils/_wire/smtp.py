# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# May run on any vantage host and on the server: Python 3.6 and the standard library only.

"""The client side of SMTP (RFC 5321), as far as the probe and the proofs need it."""

import base64
import re
import typing as t

from ansible_collections.port587.mail.plugins.module_utils._wire.connection import Wire
from ansible_collections.port587.mail.plugins.module_utils._wire.errors import WireError
from ansible_collections.port587.mail.plugins.module_utils._wire.words import plain_token, text


class Reply(t.NamedTuple):
    code: int
    lines: t.List[str]

    def __str__(self) -> str:
        return f"{self.code} {' '.join(self.lines)}"


class Smtp:
    """SMTP. Every method is one command and gives the server's reply."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.features: t.Dict[str, str] = {}

    def reply(self) -> Reply:
        lines: t.List[str] = []
        while True:
            line = text(self.wire.line())
            if not re.match(r"[2-5][0-9][0-9]([ -]|$)", line):
                raise WireError("protocol", f"not an SMTP reply: {line[:80]}")
            lines.append(line[4:])
            if line[3:4] != "-":
                return Reply(int(line[:3]), lines)

    def command(self, line: str) -> Reply:
        self.wire.send(line.encode() + b"\r\n")
        return self.reply()

    def ehlo(self) -> Reply:
        address = self.wire.own_address()
        reply = self.command("EHLO [%s]" % ("IPv6:" + address if ":" in address else address))
        self.features = {}
        for line in reply.lines[1:]:
            word, _sep, rest = line.replace("=", " ", 1).partition(" ")
            self.features[word.upper()] = rest.strip()
        return reply

    def mechanisms(self) -> t.List[str]:
        return self.features.get("AUTH", "").upper().split()

    def login(self, mechanism: str, login: str, password: str) -> Reply:
        if mechanism == "PLAIN":
            return self.command("AUTH PLAIN " + plain_token(login, password))
        reply = self.command("AUTH LOGIN")
        for answer in (login, password):
            if reply.code != 334:
                break
            reply = self.command(base64.b64encode(answer.encode()).decode("ascii"))
        return reply

    def ask(self, sender: str, recipient: str) -> Reply:
        """Ask whether the server would accept this mail, without sending it."""
        reply = self.command(f"MAIL FROM:<{sender}>")
        if reply.code == 250:
            reply = self.command(f"RCPT TO:<{recipient}>")
        self.command("RSET")
        return reply

    def data(self, message: bytes) -> Reply:
        reply = self.command("DATA")
        if reply.code != 354:
            return reply
        self.wire.send(re.sub(rb"(?m)^\.", b"..", message) + b".\r\n")
        return self.reply()
