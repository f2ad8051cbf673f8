# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Runs on the server: Python 3.6 and the standard library only.

"""Copy a mailbox from another server, as often as wanted: what is here already does not come again.

What happens to mail here, after it was copied, is the owner's: nothing here is deleted, moved, or loses a flag. A flag
that a mail has got there since is added here.
"""

import collections
import contextlib
import re
import time
import typing as t

from ansible_collections.port587.mail.plugins.module_utils._move_in import folders, syntax
from ansible_collections.port587.mail.plugins.module_utils._move_in.sessions import (
    Here,
    MoveError,
    Refused,
    Server,
    There,
    lost,
)
from ansible_collections.port587.mail.plugins.module_utils._move_in.state import FolderState, Known, State
from ansible_collections.port587.mail.plugins.module_utils._wire.errors import WireError

#: A batch has no more mails than this, and no more bytes, unless one mail has.
BATCH_MAILS = 200
BATCH_BYTES = 8 * 1024 * 1024

#: What makes a mail recognisable, besides its date of arrival and its size.
_IDENTITY = "(UID INTERNALDATE RFC822.SIZE BODY.PEEK[HEADER.FIELDS (MESSAGE-ID DATE SUBJECT)])"
_OVER_QUOTA = re.compile(r"overquota|quota", re.IGNORECASE)


class Account(t.NamedTuple):
    """A mailbox to copy: its address here, and login and password there."""

    address: str
    login: str
    password: str


class OutOfTime(Exception):
    """The rest is for the next call."""


def unfinished(account: Account) -> t.Dict[str, t.Any]:
    """The result for an account that had no turn."""
    nothing = {"new": 0, "total": 0, "seconds": 0.0, "problems": []}  # type: t.Dict[str, t.Any]
    return {"address": account.address, "outcome": "unfinished", **nothing}


class Copy:
    """One account. ``end``: when to stop, in time.monotonic()'s seconds. ``check_mode``: only count."""

    def __init__(self, server: Server, account: Account, state: State, end: float, check_mode: bool = False) -> None:
        self._server = server
        self._account = account
        self._state = state
        self._end = end
        self._check_mode = check_mode
        self._problems = []  # type: t.List[str]
        self.new = self.total = 0

    def run(self) -> t.Dict[str, t.Any]:
        began = time.monotonic()
        outcome = "done"
        try:
            self._mailbox()
        except OutOfTime:
            outcome = "unfinished"
        except MoveError as error:
            self._problems.append(str(error))
        except WireError as error:
            self._problems.append(lost("%s or with Dovecot here" % self._server.host, error))
        except Refused as error:
            self._problems.append("%s refused a command: %s" % (self._server.host, error))
        return {
            **unfinished(self._account),
            "outcome": "failed" if self._problems and outcome == "done" else outcome,
            "new": self.new,
            "total": self.total,
            "seconds": round(time.monotonic() - began, 1),
            "problems": self._problems,
        }

    def _mailbox(self) -> None:
        with contextlib.ExitStack() as stack:
            self._here = Here(self._account.address)
            stack.callback(self._here.close)
            self._there = There(self._server, self._account.login, self._account.password)
            stack.callback(self._there.close)
            ours = self._here.folders('LIST "" "*" RETURN (SPECIAL-USE)')
            for folder in folders.plan(*self._there.all_folders(), ours):
                try:
                    self._folder(folder)
                except Refused as error:
                    self._problems.append("folder %s: %s" % (folder.shown, error))

    def _folder(self, folder: folders.Folder) -> None:
        answer = self._there.ask(b"EXAMINE " + syntax.quote(folder.there))[1]
        source = "%s@%s:%d" % (self._account.login, self._server.host, self._server.port)
        validity = _number(answer, rb"\[UIDVALIDITY (\d+)\]")
        state = self._state.folder(self._account.address, source, folder.there.decode("utf-8", "replace"), validity)
        there = {}  # type: t.Dict[int, syntax.Mail]
        if _number(answer, rb"\* (\d+) EXISTS"):
            there = {mail.uid: mail for mail in self._there.fetch("UID FETCH 1:* (UID FLAGS RFC822.SIZE)")}
        known = state.known()
        new = [there[uid] for uid in sorted(set(there) - set(known))]
        self.total += len(there)
        if self._check_mode:
            self.new += len(new)
            return
        place, following = self._open(folder.here)
        if state.is_in(place):
            self._add_flags(state, known, there)
        state.begin(place)
        if new and following > state.next:
            new = self._leave_out(state, new)
        for batch in _batches(new):
            if time.monotonic() > self._end:
                raise OutOfTime
            self._batch(state, folder, batch)

    def _open(self, name: str) -> t.Tuple[str, int]:
        """The folder here, made if it is missing: its name with its UIDVALIDITY, and the next UID."""
        quoted = syntax.quote(syntax.encode(name))
        try:
            answer = self._here.ask(b"SELECT " + quoted)[1]
        except Refused:
            self._here.ask(b"CREATE " + quoted)
            self._here.ask(b"SUBSCRIBE " + quoted)
            answer = self._here.ask(b"SELECT " + quoted)[1]
        following = _number(answer, rb"\[UIDNEXT (\d+)\]")
        return "%s %d" % (name, _number(answer, rb"\[UIDVALIDITY (\d+)\]")), following

    def _add_flags(self, state: FolderState, known: t.Mapping[int, Known], there: t.Mapping[int, syntax.Mail]) -> None:
        """What has been read there since is read here too."""
        gained = collections.defaultdict(list)  # type: t.Dict[t.FrozenSet[str], t.List[int]]
        noted = []
        for uid, (here, before) in known.items():
            if uid in there and there[uid].flags != before:
                more = there[uid].flags - before
                if here and more:
                    gained[more].append(here)
                noted.append((uid, here, there[uid].flags))
        for flags, uids in gained.items():
            for start in range(0, len(uids), BATCH_MAILS):
                chosen = _set(uids[start : start + BATCH_MAILS])
                self._here.ask("UID STORE %s +FLAGS.SILENT (%s)" % (chosen, " ".join(sorted(flags))))
        if noted:
            state.note(noted, 0)

    def _leave_out(self, state: FolderState, new: t.List[syntax.Mail]) -> t.List[syntax.Mail]:
        """The new mails, without those that are here: a run was killed, or the other server renumbered its mails."""
        here = collections.defaultdict(list)  # type: t.Dict[t.Any, t.List[int]]
        for mail in self._here.fetch("UID FETCH %d:* %s" % (state.next, _IDENTITY)):
            if mail.uid >= state.next:
                here[mail.identity()].append(mail.uid)
        left, found = [], []
        flags = {mail.uid: mail.flags for mail in new}
        for batch in _batches(new) if here else [new]:
            mails = self._there.fetch("UID FETCH %s %s" % (_set(mail.uid for mail in batch), _IDENTITY)) if here else []
            same = {mail.uid: here[mail.identity()].pop(0) for mail in mails if here.get(mail.identity())}
            found += [(uid, uid_here, flags[uid]) for uid, uid_here in same.items()]
            left += [mail for mail in batch if mail.uid not in same]
        state.note(found, 0)
        return left

    def _batch(self, state: FolderState, folder: folders.Folder, batch: t.List[syntax.Mail]) -> None:
        size = sum(mail.size for mail in batch)
        chosen = _set(mail.uid for mail in batch)
        mails = self._there.fetch("UID FETCH %s (UID FLAGS INTERNALDATE BODY.PEEK[])" % chosen, size)
        mails = [mail for mail in mails if mail.body]
        try:
            self._append(state, folder, mails)
        except Refused:
            # one of them is the reason; the others come
            for mail in mails:
                self._one(state, folder, mail)

    def _one(self, state: FolderState, folder: folders.Folder, mail: syntax.Mail) -> None:
        try:
            self._append(state, folder, [mail])
        except Refused as error:
            if _OVER_QUOTA.search(str(error)):
                raise MoveError("mailbox here is full: %s" % error) from None
            self._problems.append("folder %s: mail %d: %s" % (folder.shown, mail.uid, error))

    def _append(self, state: FolderState, folder: folders.Folder, mails: t.List[syntax.Mail]) -> None:
        """All of them, or none (RFC 3502)."""
        if not mails:
            return
        parts = [b"APPEND ", syntax.quote(syntax.encode(folder.here))]
        for mail in mails:
            flags = " ".join(sorted(mail.flags)).encode("utf-8")
            parts += [b" (", flags, b") ", mail.date, b" {%d+}\r\n" % len(mail.body), mail.body]
        text, _lines = self._here.ask(b"".join(parts), sum(len(mail.body) for mail in mails))
        here = syntax.appended(text) or [0] * len(mails)
        state.note([(mail.uid, uid, mail.flags) for mail, uid in zip(mails, here)], max(here) + 1)
        self.new += len(mails)


def _batches(mails: t.Sequence[syntax.Mail]) -> t.Iterator[t.List[syntax.Mail]]:
    batch, size = [], 0  # type: t.List[syntax.Mail], int
    for mail in mails:
        if batch and (len(batch) == BATCH_MAILS or size + mail.size > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(mail)
        size += mail.size
    if batch:
        yield batch


def _set(uids: t.Iterable[int]) -> str:
    """A sequence set (RFC 3501): 1:3,7."""
    ranges = []  # type: t.List[t.List[int]]
    for uid in sorted(uids):
        if ranges and uid == ranges[-1][1] + 1:
            ranges[-1][1] = uid
        else:
            ranges.append([uid, uid])
    return ",".join(str(first) if first == last else "%d:%d" % (first, last) for first, last in ranges)


def _number(lines: t.Iterable[bytes], form: bytes) -> int:
    for line in lines:
        match = re.search(form, line, re.IGNORECASE)
        if match:
            return int(match.group(1))
    return 0
