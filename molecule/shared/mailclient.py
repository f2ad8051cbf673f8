# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A mail client for the scenarios' tests: SMTP, IMAP, POP3 and ManageSieve with the standard library.

Certificates are verified, always. A server is reached at its container's address and has to have the certificate of its
name: those names are in no DNS that the controller asks.
"""

import base64
import contextlib
import imaplib
import poplib
import re
import smtplib
import socket
import ssl
import time
import typing as t
import uuid

TIMEOUT = 30
#: The ports that speak TLS from the first byte; on all others it starts with STARTTLS.
IMPLICIT_TLS = (465, 993, 995)


class Account(t.NamedTuple):
    """A user who logs in."""

    address: str
    password: str


class Server(t.NamedTuple):
    """A mail host as its clients know it. Another `address` of it is `server._replace(address=...)`."""

    name: str
    address: str
    ca_file: str
    #: of an old client those that it knows, up to TLS 1.2
    ciphers: str = ""

    def context(self) -> ssl.SSLContext:
        """What a client with the CA imported trusts."""
        context = ssl.create_default_context(cafile=self.ca_file)
        if self.ciphers:
            context.maximum_version = ssl.TLSVersion.TLSv1_2
            context.set_ciphers(self.ciphers)
        return context

    def connect(self, port: int, context: t.Optional[ssl.SSLContext] = None) -> socket.socket:
        """A socket, with TLS on it where TLS comes first."""
        plain = socket.create_connection((self.address, port), TIMEOUT)
        if port not in IMPLICIT_TLS:
            return plain
        try:
            return (context or self.context()).wrap_socket(plain, server_hostname=self.name)
        except OSError:
            plain.close()
            raise


def token() -> str:
    """A word that no other mail has."""
    return uuid.uuid4().hex


def mail(sender: str, recipient: str, subject: str, body: bytes = b"Hello.\r\n", headers: str = "") -> bytes:
    """A mail in which there is nothing for a server to add or to mend."""
    head = (
        f"From: <{sender or 'mailer-daemon@elsewhere.example'}>\r\nTo: <{recipient}>\r\nSubject: {subject}\r\n"
        f"Date: Mon, 02 Nov 2026 10:00:00 +0000\r\nMessage-ID: <{token()}@client.example>\r\n"
        f"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n"
        f"{headers}\r\n"
    )
    return head.encode("ascii") + body


# -- SMTP -------------------------------------------------------------------------------------------------------------


class Reply(t.NamedTuple):
    """What an SMTP server answered."""

    code: int
    text: bytes


class Smtp(smtplib.SMTP):
    """Port 25, 587 or 465, after STARTTLS and EHLO unless told otherwise."""

    def __init__(self, server: Server, port: int, starttls: bool = True, helo: str = "client.example") -> None:
        self._server = server
        super().__init__(server.name, port, local_hostname=helo, timeout=TIMEOUT)
        self.ehlo()
        if starttls and port not in IMPLICIT_TLS:
            self.starttls(context=server.context())
            self.ehlo()

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        return self._server.connect(port)

    def say(self, line: str) -> Reply:
        """One command, one reply."""
        return Reply(*self.docmd(line))

    def greet(self, verb: str, name: bytes) -> Reply:
        """EHLO or HELO from a computer with this name, which the standard library would encode."""
        self.send(verb.encode() + b" " + name + b"\r\n")
        return Reply(*self.getreply())

    def authenticate(self, account: Account, mechanism: str = "PLAIN") -> Reply:
        """Log in. `PLAIN` and `LOGIN` send the first answer with the command; `LOGIN in steps` waits to be asked."""
        word, _, in_steps = mechanism.partition(" ")
        if word == "PLAIN":
            answers = [f"\0{account.address}\0{account.password}"]
        else:
            answers = [account.address, account.password]
        encoded = [base64.b64encode(answer.encode()).decode() for answer in answers]
        reply = self.say(f"AUTH {word}" + ("" if in_steps else f" {encoded.pop(0)}"))
        for answer in encoded:
            if reply.code != 334:
                break
            reply = self.say(answer)
        return reply

    def ask(self, sender: str, recipient: str, size: t.Optional[int] = None) -> Reply:
        """Would this mail be taken? The reply that decides; nothing is sent."""
        reply = self.say(f"MAIL FROM:<{sender}>" + (f" SIZE={size}" if size else ""))
        if reply.code == 250:
            reply = self.say(f"RCPT TO:<{recipient}>")
        self.say("RSET")
        return reply


def submit(server: Server, account: Account, recipient: str, message: bytes, port: int = 587, **options: t.Any) -> None:
    """Log in and send. Raises smtplib.SMTPAuthenticationError if the login fails."""
    with Smtp(server, port, **options) as smtp:
        reply = smtp.authenticate(account)
        if reply.code != 235:
            raise smtplib.SMTPAuthenticationError(reply.code, reply.text)
        smtp.sendmail(account.address, [recipient], message, ["BODY=8BITMIME"])


def deliver(server: Server, recipient: str, message: bytes, sender: str = "somebody@elsewhere.example") -> None:
    """Bring a mail from outside, as another server does."""
    with Smtp(server, 25, helo="mx.elsewhere.example") as smtp:
        smtp.sendmail(sender, [recipient], message, ["BODY=8BITMIME"])


# -- IMAP -------------------------------------------------------------------------------------------------------------


class Imap(imaplib.IMAP4):
    """Port 993, or 143 with STARTTLS."""

    def __init__(self, server: Server, port: int = 993, starttls: bool = True) -> None:
        self._server = server
        super().__init__(server.name, port)
        if starttls and port not in IMPLICIT_TLS:
            self.starttls(server.context())

    def _create_socket(self, timeout: t.Optional[float]) -> socket.socket:
        return self._server.connect(self.port)

    def log_in(self, account: Account) -> "Imap":
        """`login` of the standard library knows only ASCII."""
        self.authenticate("PLAIN", lambda _: f"\0{account.address}\0{account.password}".encode())
        return self

    def search_subject(self, word: str, folder: str = "INBOX") -> t.List[str]:
        """The numbers of the mails with this word in the subject; none if there is no such folder."""
        if self.select(f'"{folder}"')[0] != "OK":
            return []
        return self.search(None, "SUBJECT", word)[1][0].decode().split()

    def mail(self, number: str) -> bytes:
        """One mail, as it lies there."""
        return t.cast(t.Any, self.fetch(number, "(BODY.PEEK[])")[1])[0][1]

    def quota(self) -> t.Tuple[int, int]:
        """What is used and what is allowed, in KiB."""
        answer = self.getquotaroot("INBOX")[1][1][0].decode()
        found = re.search(r"STORAGE (\d+) (\d+)", answer)
        assert found, answer
        return int(found[1]), int(found[2])

    def is_ended(self) -> bool:
        """Wait whether the server ends the session."""
        try:
            for _again in until(self.noop, 10):
                pass
        except (imaplib.IMAP4.abort, OSError):
            self.shutdown()
            return True
        return False

    def empty(self, folder: str = "INBOX") -> None:
        """Remove every mail in the folder."""
        if self.select(folder)[1] == [b"0"]:
            return
        self.store("1:*", "+FLAGS.SILENT", r"(\Deleted)")
        self.expunge()


def received(server: Server, account: Account, word: str, folder: str = "INBOX", count: int = 1) -> t.List[bytes]:
    """Wait until mails with the word in their subject have arrived, and read them."""
    with Imap(server).log_in(account) as imap:
        for numbers in until(lambda: imap.search_subject(word, folder)):
            if len(numbers) >= count:
                return [imap.mail(number) for number in numbers]
    raise AssertionError(f"{len(numbers)} and not {count} mails with {word} in {folder} of {account.address}")


# -- POP3 and ManageSieve ---------------------------------------------------------------------------------------------


class Pop3(poplib.POP3):
    """Port 995, or 110 with STARTTLS."""

    def __init__(self, server: Server, port: int = 995, starttls: bool = True) -> None:
        self._server = server
        super().__init__(server.name, port, TIMEOUT)
        if starttls and port not in IMPLICIT_TLS:
            self.stls(server.context())

    def _create_socket(self, timeout: t.Optional[float]) -> socket.socket:
        return self._server.connect(self.port)

    def __enter__(self) -> "Pop3":
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError, poplib.error_proto):
            self.quit()

    def log_in(self, account: Account) -> "Pop3":
        """USER and PASS."""
        self.user(account.address)
        self.pass_(account.password)
        return self


class SieveError(Exception):
    """NO or BYE."""


class Sieve:
    """ManageSieve (RFC 5804) on 4190, after STARTTLS."""

    def __init__(self, server: Server, starttls: bool = True) -> None:
        self._socket = server.connect(4190)
        self._file = self._socket.makefile("rb")
        self.capabilities = self._reply()
        if starttls:
            self.say(b"STARTTLS")
            self._socket = server.context().wrap_socket(self._socket, server_hostname=server.name)
            self._file = self._socket.makefile("rb")
            self.capabilities = self._reply()

    def __enter__(self) -> "Sieve":
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def _reply(self) -> t.List[str]:
        lines: t.List[str] = []
        while True:
            line = self._file.readline().decode().rstrip("\r\n")
            literal = re.search(r"\{(\d+)\}$", line)
            if literal:
                line += self._file.read(int(literal[1])).decode() + self._file.readline().decode()
            if not line or line.startswith(("NO", "BYE")):
                raise SieveError(line or "the connection was closed")
            if line.startswith("OK"):
                return lines
            lines.append(line)

    def say(self, line: bytes) -> t.List[str]:
        """One command; what is answered before OK."""
        self._socket.sendall(line + b"\r\n")
        return self._reply()

    def log_in(self, account: Account) -> "Sieve":
        """PLAIN."""
        answer = base64.b64encode(f"\0{account.address}\0{account.password}".encode())
        self.say(b'AUTHENTICATE "PLAIN" "%s"' % answer)
        return self

    def put(self, name: str, script: str) -> None:
        """Upload a script."""
        encoded = script.encode()
        self.say(b'PUTSCRIPT "%s" {%d+}\r\n%s' % (name.encode(), len(encoded), encoded))


# -- Waiting ----------------------------------------------------------------------------------------------------------

T = t.TypeVar("T")


def until(question: t.Callable[[], T], seconds: float = TIMEOUT) -> t.Iterator[T]:
    """Ask again and again. The last answer comes when the time is over, so the caller ends with it."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        yield question()
        time.sleep(0.2)
    yield question()
