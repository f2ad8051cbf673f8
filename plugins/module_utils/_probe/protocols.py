# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# May run on any vantage host: Python 3.6 and the standard library only.

"""The four protocols that a mail client speaks, as far as the walk needs them. They know no verdicts."""

import base64
import re
import typing as t

from ansible_collections.port587.mail.plugins.module_utils._probe.wire import Wire, WireError


def _text(line: bytes) -> str:
    return line.decode("utf-8", "replace")


def plain_token(login: str, password: str) -> str:
    return base64.b64encode((f"\0{login}\0{password}").encode()).decode("ascii")


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
            line = _text(self.wire.line())
            if not re.match(r"[2-5]\d\d([ -]|$)", line):
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
        """Would this mail be taken? Nothing is sent."""
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


class Imap:
    """IMAP. ``command`` gives the status line's word, its text, and the untagged lines with their literals in place."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self._tag = 0

    def greeting(self) -> str:
        line = _text(self._line())
        if not re.match(r"\* (OK|BYE|PREAUTH)\b", line, re.IGNORECASE):
            raise WireError("protocol", f"not an IMAP greeting: {line[:80]}")
        return line[2:]

    def command(self, command: str, *answers: bytes) -> t.Tuple[str, str, t.List[bytes]]:
        """``answers``: what to say to each continuation request."""
        self._tag += 1
        tag = f"p{self._tag} "
        self.wire.send((tag + command).encode() + b"\r\n")
        left = list(answers)
        untagged: t.List[bytes] = []
        while True:
            line = self._line()
            if line.startswith(tag.encode("ascii")):
                word, _sep, rest = _text(line[len(tag) :]).partition(" ")
                return word.upper(), rest, untagged
            if line.startswith(b"+"):
                self.wire.send((left.pop(0) if left else b"*") + b"\r\n")
            else:
                untagged.append(line)

    def capabilities(self) -> t.List[str]:
        for line in self.command("CAPABILITY")[2]:
            if line.upper().startswith(b"* CAPABILITY "):
                return _text(line).upper().split()[2:]
        return []

    def login(self, capabilities: t.List[str], login: str, password: str) -> t.Tuple[str, str]:
        if "AUTH=PLAIN" in capabilities:
            return self.command("AUTHENTICATE PLAIN", plain_token(login, password).encode("ascii"))[:2]
        # literals carry every character; a quoted string does not
        user, secret = login.encode(), password.encode()
        return self.command(f"LOGIN {{{len(user)}}}", user + b" {%d}" % len(secret), secret)[:2]

    def _line(self) -> bytes:
        line = self.wire.line()
        size = re.search(rb"\{(\d+)\}$", line)
        while size:
            line += b"\r\n" + self.wire.exactly(int(size.group(1)))
            rest = self.wire.line()
            line += rest
            size = re.search(rb"\{(\d+)\}$", rest)
        return line


class Pop3:
    """POP3."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire

    def reply(self) -> str:
        line = _text(self.wire.line())
        if not line.startswith(("+OK", "-ERR")):
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
            lines = _text(self.listing("CAPA")).upper().splitlines()
        except WireError as exc:
            if exc.kind != "protocol":
                raise
            return {}
        return {line.split()[0]: line.split()[1:] for line in lines if line.strip()}

    def login(self, capabilities: t.Dict[str, t.List[str]], login: str, password: str) -> str:
        if "PLAIN" in capabilities.get("SASL", []):
            self.wire.send(b"AUTH PLAIN\r\n")
            if self.wire.line().startswith(b"+"):
                return self.command(plain_token(login, password))
        reply = self.command("USER " + login)
        return self.command("PASS " + password) if reply.startswith("+OK") else reply


class Sieve:
    """ManageSieve (RFC 5804)."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire

    def reply(self) -> t.Tuple[str, t.List[str]]:
        """The last line (OK, NO or BYE ...) and what came before it."""
        lines: t.List[str] = []
        while True:
            line = _text(self.wire.line())
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
    """Name to values, from what a ManageSieve server says of itself."""
    found = {}
    for line in lines:
        words = re.findall(r'"([^"]*)"', line)
        if words:
            found[words[0].upper()] = " ".join(words[1:]).upper().split()
    return found
