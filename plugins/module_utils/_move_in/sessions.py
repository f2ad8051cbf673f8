# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Runs on the server: Python 3.6 and the standard library only.

"""IMAP sessions: with the other server over the network, and with this server's Dovecot through a pipe."""

import concurrent.futures
import contextlib
import os
import select
import socket
import ssl
import subprocess
import tempfile
import typing as t

from ansible_collections.port587.mail.plugins.module_utils._move_in import syntax
from ansible_collections.port587.mail.plugins.module_utils._wire.connection import Wire, connect
from ansible_collections.port587.mail.plugins.module_utils._wire.errors import WireError
from ansible_collections.port587.mail.plugins.module_utils._wire.imap import Imap
from ansible_collections.port587.mail.plugins.module_utils._wire.limits import (
    LARGEST_MAIL,
    MOST_ADDRESSES,
    MOST_LINES_OF_FOLDER,
)

#: Seconds for an answer, beside the time that its mails need at the least speed, in bytes a second.
PATIENCE = 60
SLOWEST = 20000

#: Dovecot's program behind IMAP. Root may start it for an account; it then works as the owner of the mail.
DOVECOT_IMAP = "/usr/lib/dovecot/imap"


class MoveError(Exception):
    """Why a mailbox, or a folder of it, could not be copied; a sentence for people."""


class Refused(Exception):
    """The server answered a command with NO or BAD, and this text."""


class Server(t.NamedTuple):
    """The other server. ``authorities``: certificates to trust in PEM, besides those of the system."""

    host: str
    port: int
    tls: str = "implicit"
    authorities: t.Optional[str] = None
    verify: bool = True
    master_user: str = ""
    master_password: str = ""
    master_separator: str = "*"

    def context(self) -> ssl.SSLContext:
        context = ssl.create_default_context()
        if self.authorities:
            context.load_verify_locations(cadata=self.authorities)
        if not self.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context


class Session:
    """An IMAP session, with deadlines."""

    def __init__(self, wire: Wire) -> None:
        wire.largest, wire.most_lines = LARGEST_MAIL, MOST_LINES_OF_FOLDER
        self.imap = Imap(wire)

    def ask(self, command: t.Union[str, bytes], expected: int = 0) -> t.Tuple[str, t.List[bytes]]:
        """The text and the lines of the answer. ``expected``: bytes that go over the wire, which take time."""
        self.imap.wire.step(PATIENCE + expected / SLOWEST)
        word, text, lines = self.imap.command(command)
        if word != "OK":
            raise Refused(text)
        return text, lines

    def fetch(self, command: str, expected: int = 0) -> t.List[syntax.Mail]:
        mails = map(syntax.fetched, self.ask(command, expected)[1])
        return [mail for mail in mails if mail]

    def folders(self, command: str) -> t.List[syntax.Listed]:
        found = map(syntax.listed, self.ask(command)[1])
        return [folder for folder in found if folder]

    def close(self) -> None:
        with contextlib.suppress(WireError, Refused):
            self.ask("LOGOUT")
        self.imap.wire.close()


class There(Session):
    """The other server. It is only read."""

    def __init__(self, server: Server, login: str, password: str) -> None:
        try:
            super().__init__(_connected(server))
            self.imap.wire.step(PATIENCE)
            self._begin(server)
        except WireError as error:
            raise MoveError(_reason(server, error)) from None
        try:
            self._log_in(server, login, password)
        except WireError as error:
            raise MoveError(_reason(server, error)) from None

    def _begin(self, server: Server) -> None:
        wire = self.imap.wire
        if server.tls == "implicit":
            wire.start_tls(server.context(), server.host)
        self.imap.greeting()
        if server.tls == "starttls":
            word, text, _lines = self.imap.command("STARTTLS")
            if word != "OK":
                raise WireError("tls", "it refuses STARTTLS: %s" % text)
            wire.start_tls(server.context(), server.host)

    def _log_in(self, server: Server, login: str, password: str) -> None:
        capabilities = self.imap.capabilities()
        owner = ""
        if server.master_user:
            password = server.master_password
            if server.master_separator:
                login = login + server.master_separator + server.master_user
            else:
                owner, login = login, server.master_user
        self.imap.wire.step(PATIENCE)
        word, text = self.imap.login(capabilities, login, password, owner)
        if word != "OK":
            self.close()
            raise MoveError("login refused: %s does not let %s in: %s" % (server.host, login, text))
        # many servers tell only now what they can
        self.capabilities = self.imap.capabilities()

    def all_folders(self) -> t.Tuple[t.List[syntax.Listed], t.List[bytes], t.List[bytes]]:
        """The folders, and the prefixes of own and of others' ones."""
        own, others = [], []  # type: t.List[bytes], t.List[bytes]
        if "NAMESPACE" in self.capabilities:
            for line in self.ask("NAMESPACE")[1]:
                if line.upper().startswith(b"* NAMESPACE "):
                    own, others = syntax.namespaces(line)
        marked = {"SPECIAL-USE", "LIST-EXTENDED"} <= set(self.capabilities)
        return self.folders('LIST "" "*"' + (" RETURN (SPECIAL-USE)" if marked else "")), own, others


class _Pipes:
    """Two pipes with the methods of a socket that Wire uses: Dovecot's imap refuses to talk to a socket."""

    def __init__(self, answers: t.IO[bytes], commands: t.IO[bytes]) -> None:
        self._answers, self._commands = answers, commands
        self._timeout = None  # type: t.Optional[float]

    def settimeout(self, timeout: t.Optional[float]) -> None:
        self._timeout = timeout

    def recv(self, size: int) -> bytes:
        if not select.select([self._answers], [], [], self._timeout)[0]:
            raise socket.timeout
        return os.read(self._answers.fileno(), size)

    def sendall(self, data: bytes) -> None:
        self._commands.write(data)

    def close(self) -> None:
        for end in (self._commands, self._answers):
            end.close()


def _imap(account: str, its_input: int, its_output: int, log: t.IO[bytes]) -> int:
    """Run Dovecot's imap to its end, in a thread: the exit code."""
    try:
        # not run_command: it is a conversation
        return subprocess.call(  # pylint: disable=ansible-bad-function
            [DOVECOT_IMAP, "-u", account], stdin=its_input, stdout=its_output, stderr=log
        )
    finally:
        # then who reads the answers sees that it has ended
        os.close(its_input)
        os.close(its_output)


class Here(Session):
    """The account's mailbox on this server, which Dovecot opens without a password."""

    def __init__(self, account: str) -> None:
        with contextlib.ExitStack() as stack:
            self._log = stack.enter_context(tempfile.TemporaryFile())
            # until this session is closed
            self._files = stack.pop_all()
        (its_input, commands), (answers, its_output) = os.pipe(), os.pipe()
        threads = concurrent.futures.ThreadPoolExecutor(1)
        self._process = threads.submit(_imap, account, its_input, its_output, self._log)
        threads.shutdown(wait=False)
        pipes = _Pipes(os.fdopen(answers, "rb", 0), os.fdopen(commands, "wb", 0))
        super().__init__(Wire(t.cast(socket.socket, pipes), PATIENCE))
        try:
            self.imap.greeting()
        except WireError:
            code = self._process.result()
            self._log.seek(0)
            said = self._log.read().decode("utf-8", "replace").strip()
            self._files.close()
            self.imap.wire.close()
            if "Unknown user" in said:
                raise MoveError("no such account here: add %s to the accounts of this server first" % account) from None
            raise MoveError("Dovecot's imap ended with %d: %s" % (code, said[-300:])) from None

    def close(self) -> None:
        super().close()
        self._process.result()
        self._files.close()


def _connected(server: Server) -> Wire:
    try:
        found = socket.getaddrinfo(server.host, server.port, 0, socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise WireError("nameless", "%s has no address in DNS" % server.host) from None
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))[:MOST_ADDRESSES]
    for address in addresses[:-1]:
        with contextlib.suppress(WireError):
            return connect(address, server.port, PATIENCE / len(addresses))
    return connect(addresses[-1], server.port, PATIENCE / len(addresses))


def _reason(server: Server, error: WireError) -> str:
    place = "%s port %d" % (server.host, server.port)
    if error.kind == "certificate":
        cure = "name the file with its authority in move_in_from.ca_file, or the host as its certificate does"
        return "certificate of %s is not accepted: %s; %s" % (place, error.text, cure)
    if error.kind in ("nameless", "refused", "filtered", "unreachable"):
        return "host not reachable: %s: %s" % (place, error.text)
    if error.kind == "tls":
        return "no TLS with %s (%s): %s" % (place, server.tls, error.text)
    return lost(place, error)


def lost(place: str, error: WireError) -> str:
    return "connection with %s lost: %s; the next run goes on there" % (place, error.text)
