# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Runs on the server, there also as a program of its own: Python 3.6 and the standard library only.

"""How much each login may send: a policy service, which Postfix asks before it takes a mail from somebody logged in.

It counts recipients, since a mail to a hundred people is a hundred mails for the world. A mail is counted whole or not
at all. What is wrong here never stops mail: Postfix goes on where there is no answer (SMTPD_POLICY_README).
"""

import contextlib
import json
import os
import socketserver
import sqlite3
import sys
import threading
import time
import typing as t

SETTINGS = "/etc/port587/send-limits.json"
DATABASE = "/var/lib/port587-send-limits/sent.sqlite"
SOCKET = "/var/spool/postfix/port587/send-limits"

#: What a limit is for, in seconds.
PERIODS = {"hour": 3600, "day": 86400}

#: Of a login, how many recipients it may send to in each period.
Limits = t.Dict[str, int]


class Settings:
    """The limits of all, and those of certain logins, which have these alone."""

    def __init__(self, limits: t.Dict[str, t.Any], logins: t.Sequence[t.Dict[str, t.Any]]) -> None:
        self.limits = _limits(limits)
        self.logins = {one["login"].lower(): _limits(one) for one in logins}

    @classmethod
    def read(cls, path: str = SETTINGS) -> "Settings":
        with open(path) as handle:
            return cls(**json.load(handle))

    def of(self, login: str) -> Limits:
        return self.logins.get(login, self.limits)


def _limits(given: t.Dict[str, t.Any]) -> Limits:
    return {period: int(given[period]) for period in PERIODS if given.get(period)}


class Ledger:
    """Who sent to how many, and when. It survives a restart, so that nobody begins anew by one."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self.database = database

    @classmethod
    def begin(cls, path: str = DATABASE) -> "Ledger":
        try:
            return cls(cls._open(path))
        except sqlite3.DatabaseError as exc:
            _say("%s can't be read, and is begun anew: %s" % (path, exc))
            os.unlink(path)
            return cls(cls._open(path))

    @staticmethod
    def _open(path: str) -> sqlite3.Connection:
        # all is committed at once, and one thread at a time works on it
        database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        # one write and no wait for the disk; a power cut costs the last few entries, and never the file
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = NORMAL")
        database.execute("CREATE TABLE IF NOT EXISTS sent (login TEXT, at REAL, recipients INTEGER)")
        database.execute("CREATE INDEX IF NOT EXISTS by_login ON sent (login, at)")
        return database

    def sent(self, login: str, since: float) -> t.List[t.Tuple[float, int]]:
        """When, and to how many; the newest first."""
        rows = self.database.execute(
            "SELECT at, recipients FROM sent WHERE login = ? AND at > ? ORDER BY at DESC", (login, since)
        )
        return list(rows)

    def add(self, login: str, recipients: int, now: float) -> None:
        self.database.execute("DELETE FROM sent WHERE login = ? AND at <= ?", (login, now - max(PERIODS.values())))
        self.database.execute("INSERT INTO sent VALUES (?, ?, ?)", (login, now, recipients))

    def logins(self) -> t.List[str]:
        return [row[0] for row in self.database.execute("SELECT DISTINCT login FROM sent ORDER BY login")]

    def close(self) -> None:
        self.database.close()


def wait(ledger: Ledger, login: str, recipients: int, limit: int, period: str, now: float) -> float:
    """Seconds until so many more are within the limit; 0 if they are now."""
    left = limit - recipients
    for at, count in ledger.sent(login, now - PERIODS[period]):
        left -= count
        if left < 0:
            return at + PERIODS[period] - now
    return 0


def answer(request: t.Dict[str, str], settings: Settings, ledger: Ledger, now: float) -> str:
    """What Postfix has to do with a mail, as access(5) has it."""
    login = request.get("sasl_username", "")
    recipients = int(request.get("recipient_count") or 0)
    limits = settings.of(login)
    if not login or not recipients or not limits:
        return "DUNNO"
    waits = []
    for period, limit in sorted(limits.items(), key=lambda one: -PERIODS[one[0]]):
        if recipients > limit:
            # waiting would not help
            return "550 5.5.3 This mail has %d recipients, and %s may send to %d within one %s" % (
                recipients,
                login,
                limit,
                period,
            )
        seconds = wait(ledger, login, recipients, limit, period, now)
        if seconds:
            waits.append((seconds, limit, period))
    if not waits:
        ledger.add(login, recipients, now)
        return "DUNNO"
    seconds, limit, period = max(waits)
    return "450 4.7.1 Sending limit: %s may send to %d recipients within one %s; try again in %d min" % (
        login,
        limit,
        period,
        seconds // 60 + 1,
    )


def at_limit(settings: Settings, ledger: Ledger, now: float) -> t.List[str]:
    """Who can't send one mail more."""
    return [
        "%s: %d recipients within one %s" % (login, limit, period)
        for login in ledger.logins()
        for period, limit in sorted(settings.of(login).items())
        if wait(ledger, login, 1, limit, period, now)
    ]


def look(settings: str = SETTINGS, database: str = DATABASE) -> t.Optional[t.List[str]]:
    """Who is at the limit now; None where nobody counts."""
    if not (os.path.exists(settings) and os.path.exists(database)):
        return None
    with contextlib.closing(sqlite3.connect("file:%s?mode=ro" % database, uri=True)) as connection:
        return at_limit(Settings.read(settings), Ledger(connection), time.time())


# -- the program --------------------------------------------------------------------------------------------------


def _say(text: str) -> None:
    # systemd keeps it in the journal
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


class _Handler(socketserver.StreamRequestHandler):
    """A connection of one smtpd(8), which asks about one mail after another."""

    server = None  # type: t.Any

    def handle(self) -> None:
        request = {}  # type: t.Dict[str, str]
        for line in self.rfile:
            name, _equals, value = line.decode("utf-8", "replace").rstrip("\n").partition("=")
            if name:
                request[name] = value
                continue
            self.wfile.write(b"action=%s\n\n" % self.server.answer(request).encode("utf-8"))
            request = {}


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    request_queue_size = 100

    def __init__(self, path: str, settings: Settings, ledger: Ledger) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        super().__init__(path, _Handler)
        self.settings = settings
        self.ledger = ledger
        self.one_at_a_time = threading.Lock()

    def answer(self, request: t.Dict[str, str]) -> str:
        try:
            with self.one_at_a_time:
                said = answer(request, self.settings, self.ledger, time.time())
        except (sqlite3.Error, ValueError) as exc:
            _say("not counted: %s" % exc)
            return "DUNNO"
        if said != "DUNNO":
            _say(said)
        return said


def main() -> None:
    Server(SOCKET, Settings.read(), Ledger.begin()).serve_forever()


if __name__ == "__main__":
    main()
