# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Runs on the server, there also as a program of its own: Python 3.6 and the standard library only.

"""Whether a recipient's mailboxes are full: a policy service, which Postfix asks at RCPT.

Dovecot's quota service knows mailboxes, and Postfix asks about the address that a client has named. This program stands
between them. It follows the aliases as Postfix does, and asks Dovecot about each address at their end. A recipient is
refused if none of them can take the mail. What is wrong here never stops mail (SMTPD_POLICY_README).
"""

import contextlib
import json
import os
import re
import socket
import socketserver
import sys
import threading
import typing as t

SETTINGS = "/etc/port587/recipients.json"
QUEUE_DIRECTORY = "/var/spool/postfix"
SOCKET = QUEUE_DIRECTORY + "/port587/recipients"

#: How long Dovecot may take, in seconds. Postfix waits for 3.
PATIENCE = 2.0

#: More addresses than these are in no sensible alias (virtual_alias_expansion_limit).
MOST = 1000

GOES_ON = "DUNNO"

#: There is a comma between targets, and may be one in double quotes.
_TARGET = re.compile(r'(?:"(?:\\.|[^"\\])*"|[^,"])+')

Request = t.Dict[str, str]


class Table:
    """The text of a lookup table, sorted by key as role accounts writes it.

    It is kept and searched as it is: a dictionary of a hundred thousand aliases takes several times the memory.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.seen = None  # type: t.Optional[t.Tuple[int, ...]]
        self.text = b""

    def get(self, key: str) -> t.Optional[str]:
        """The value of a key, found by halves."""
        text, wanted = self._current(), key.encode("utf-8")
        low, high = 0, len(text)
        while low < high:
            start = max(text.rfind(b"\n", low, (low + high) // 2) + 1, low)
            end = text.find(b"\n", start)
            end = len(text) if end < 0 else end
            name, _blank, value = text[start:end].partition(b" ")
            if name == wanted:
                return value.decode("utf-8", "replace")
            if name < wanted:
                low = end + 1
            else:
                high = start
        return None

    def _current(self) -> bytes:
        with open(self.path, "rb") as handle:
            status = os.fstat(handle.fileno())
            now = (status.st_ino, status.st_mtime_ns, status.st_size)
            if now != self.seen:
                self.text = handle.read()
                self.seen = now
        return self.text


def keys(address: str) -> t.Iterator[t.Tuple[str, str]]:
    """What Postfix looks up of an address, and the extension that it then adds to the result (virtual(5))."""
    local, _at, domain = address.rpartition("@")
    yield address, ""
    base, plus, extension = local.partition("+")
    if base and plus:
        yield "%s@%s" % (base, domain), plus + extension
    yield "@" + domain, ""


def following(tables: t.Sequence[Table], address: str) -> t.List[str]:
    """Where the mail of an address goes on to; only the address itself if it stays."""
    for key, extension in keys(address):
        for table in tables:
            value = table.get(key)
            if value is not None:
                parts = [target.strip().rpartition("@") for target in _TARGET.findall(value)]
                return ["%s%s@%s" % (local, extension, domain) for local, _at, domain in parts]
    return [address]


def ends(tables: t.Sequence[Table], address: str) -> t.List[str]:
    """The addresses at the end of all aliases."""
    seen = {address}
    waiting, found = [address], []
    while waiting and len(seen) < MOST:
        one = waiting.pop()
        targets = [target.lower() for target in following(tables, one)]
        if one in targets:
            found.append(one)
        new = [target for target in targets if target not in seen]
        seen.update(new)
        waiting += new
    return found


class Quota:
    """Dovecot's quota service. One question at a time, so that it needs a single process."""

    def __init__(self, written: str) -> None:
        self.written = written
        self.one_at_a_time = threading.Lock()

    def answers(self, request: Request, recipients: t.Iterable[str]) -> t.Generator[str, None, None]:
        """What it says of the mail for each recipient."""
        if not self.one_at_a_time.acquire(timeout=PATIENCE):
            raise OSError("%s is busy" % self.written)
        try:
            with contextlib.closing(connect(self.written)) as connection, connection.makefile("rb") as reader:
                for recipient in recipients:
                    asked = dict(request, recipient=recipient)
                    lines = ["%s=%s\n" % pair for pair in asked.items()]
                    connection.sendall(("".join(lines) + "\n").encode("utf-8", "surrogateescape"))
                    said = reader.readline().decode("utf-8", "replace").strip()
                    reader.readline()
                    if not said.startswith("action="):
                        raise OSError("%s answered %r" % (self.written, said))
                    yield said[len("action=") :]
        finally:
            self.one_at_a_time.release()


def connect(written: str) -> socket.socket:
    """Where Postfix would be led by the same words: unix:private/quota-status, or inet:host:port."""
    kind, _colon, place = written.partition(":")
    if kind == "inet":
        host, _colon, port = place.rpartition(":")
        return socket.create_connection((host.strip("[]"), int(port)), PATIENCE)
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.settimeout(PATIENCE)
        connection.connect(os.path.join(QUEUE_DIRECTORY, place))
    except OSError:
        connection.close()
        raise
    return connection


class Settings(t.NamedTuple):
    """What a role has written: the tables in the order in which Postfix asks them, and where Dovecot answers."""

    aliases: t.List[Table]
    quota: Quota

    @classmethod
    def read(cls, path: str = SETTINGS) -> "Settings":
        with open(path) as handle:
            written = json.load(handle)
        return cls([Table(one) for one in written["aliases"]], Quota(written["quota"]))


def answer(request: Request, settings: Settings) -> str:
    """What Postfix has to do with a recipient, as access(5) has it."""
    recipient = request.get("recipient", "").lower()
    if "@" not in recipient:
        return GOES_ON
    refusals = []
    with contextlib.closing(settings.quota.answers(request, ends(settings.aliases, recipient))) as answers:
        for said in answers:
            if said.split(" ")[0] in (GOES_ON, "OK"):
                return GOES_ON
            refusals.append(said)
    # one that will pass counts more than one for good
    return min(refusals, key=lambda said: said.startswith("5"), default=GOES_ON)


# -- the program --------------------------------------------------------------------------------------------------


class _Handler(socketserver.StreamRequestHandler):
    """A connection of one smtpd(8), which asks about one recipient after another."""

    server = None  # type: t.Any

    def handle(self) -> None:
        request = {}  # type: Request
        for line in self.rfile:
            name, _equals, value = line.decode("utf-8", "surrogateescape").rstrip("\n").partition("=")
            if name:
                request[name] = value
                continue
            self.wfile.write(b"action=%s\n\n" % self.server.answer(request).encode("utf-8"))
            request = {}


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    request_queue_size = 100

    def __init__(self, path: str, settings: Settings) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        super().__init__(path, _Handler)
        self.settings = settings

    def answer(self, request: Request) -> str:
        try:
            return answer(request, self.settings)
        except (OSError, ValueError) as exc:
            # systemd keeps it in the journal
            sys.stderr.write("not asked whether a mailbox is full: %s\n" % exc)
            sys.stderr.flush()
            return GOES_ON


def main() -> None:
    Server(SOCKET, Settings.read()).serve_forever()


if __name__ == "__main__":
    main()
