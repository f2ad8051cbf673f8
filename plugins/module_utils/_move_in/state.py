# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Runs on the server: Python 3.6 and the standard library only.

"""Which mails of another server have come here. Without it, a mail that was moved or deleted here would come again."""

import json
import os
import sqlite3
import typing as t

_TABLES = """
CREATE TABLE IF NOT EXISTS folders (
    number INTEGER PRIMARY KEY, account TEXT, source TEXT, folder TEXT, validity INTEGER, here TEXT, next INTEGER,
    UNIQUE (account, source, folder)
);
CREATE TABLE IF NOT EXISTS mails (
    folder INTEGER, uid INTEGER, here INTEGER, flags TEXT, PRIMARY KEY (folder, uid)
) WITHOUT ROWID;
"""

#: UID here, 0 if it is not known; and the flags there, when they were last looked at.
Known = t.Tuple[int, t.FrozenSet[str]]


class State:
    """A database in one file. Each thread opens its own connection. ``path`` may be ``:memory:``."""

    def __init__(self, path: str) -> None:
        if path != ":memory:":
            os.makedirs(os.path.dirname(path), 0o711, exist_ok=True)
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
        self._database = sqlite3.connect(path, timeout=60)
        self._database.executescript(_TABLES)

    def close(self) -> None:
        self._database.close()

    def folder(self, account: str, source: str, folder: str, validity: int) -> "FolderState":
        """``source``: the other server and the login there. With a new UIDVALIDITY, all UIDs mean other mails."""
        key = (account, source, folder)
        with self._database:
            row = self._database.execute(
                "SELECT number, validity, here, next FROM folders WHERE account = ? AND source = ? AND folder = ?", key
            ).fetchone()
            if row and row[1] == validity:
                return FolderState(self._database, row[0], row[2], row[3])
            if row:
                self._database.execute("DELETE FROM mails WHERE folder = ?", row[:1])
                self._database.execute("DELETE FROM folders WHERE number = ?", row[:1])
            number = self._database.execute(
                "INSERT INTO folders (account, source, folder, validity, here, next) VALUES (?, ?, ?, ?, '', 1)",
                (*key, validity),
            ).lastrowid
        return FolderState(self._database, number or 0, "", 1)


class FolderState:
    """One folder. ``next``: mails here with this UID or above may be copies that a killed run did not note."""

    def __init__(self, database: sqlite3.Connection, number: int, here: str, following: int) -> None:
        self._database = database
        self._number = number
        self._here = here
        self.next = following

    def known(self) -> t.Dict[int, Known]:
        """By UID there."""
        rows = self._database.execute("SELECT uid, here, flags FROM mails WHERE folder = ?", (self._number,))
        return {uid: (here, frozenset(json.loads(flags))) for uid, here, flags in rows}

    def begin(self, here: str) -> None:
        """``here``: name and UIDVALIDITY of the folder here. In another one, the UIDs are other mails'."""
        if here == self._here:
            return
        with self._database:
            self._database.execute("UPDATE mails SET here = 0 WHERE folder = ?", (self._number,))
            self._database.execute("UPDATE folders SET here = ?, next = 1 WHERE number = ?", (here, self._number))
        self._here, self.next = here, 1

    def is_in(self, here: str) -> bool:
        return here == self._here

    def note(self, mails: t.Iterable[t.Tuple[int, int, t.Iterable[str]]], following: int) -> None:
        """Mails that are here now: UID there, UID here, flags there."""
        with self._database:
            self._database.executemany(
                "INSERT OR REPLACE INTO mails (folder, uid, here, flags) VALUES (?, ?, ?, ?)",
                [(self._number, uid, here, json.dumps(sorted(flags))) for uid, here, flags in mails],
            )
            self.next = max(self.next, following)
            self._database.execute("UPDATE folders SET next = ? WHERE number = ?", (self.next, self._number))
