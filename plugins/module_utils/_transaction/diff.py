# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Runs on the server: Python 3.6 and the standard library only.

"""The diff of a change, without secrets."""

import hashlib
import os
import typing as t

from ansible_collections.port587.mail.plugins.module_utils._transaction.compare import Difference
from ansible_collections.port587.mail.plugins.module_utils._transaction.files import attributes, read_file
from ansible_collections.port587.mail.plugins.module_utils._transaction.tree import Directory, File
from ansible_collections.port587.mail.plugins.module_utils._transaction.view import View

MASKED = "(contents hidden: this file holds secrets)\n"

#: The directory of this collection's programs.
PROGRAMS = "/usr/local/lib/port587/"

#: Longer files are shown by their changed lines only, and of these so many: a table can have a hundred thousand.
SHOWN_LINES = 2000

Entry = t.Dict[str, str]


def diff(difference: Difference, directories: t.Sequence[Directory], live: View, first: bool) -> t.List[Entry]:
    """An entry for each file and directory that changes, as Ansible shows them.

    ``first``: only files of the daemon's package were there. These are not shown, and all the wanted ``directories``
    are, since check mode on a bare host can't know what the package brings.
    """
    hidden = difference.adopted if first else []
    entries = [_changed(f, None if f.path in hidden else live.where(f.path)) for f in difference.files]
    entries += [_restored(path, saved, live) for path, saved in difference.restored.items()]
    entries += [_removed(path) for path in difference.removed]
    entries += [_directory(d, first) for d in (directories if first else difference.directories)]
    entries += [
        _entry(source.path, "(table not compiled from this)\n", "(compiled)\n")
        for _compiler, source in difference.stale
        if source not in difference.files
    ]
    return entries


def _changed(wanted: File, where: t.Optional[str]) -> Entry:
    text = MASKED if wanted.secret else _shown(wanted.path, wanted.content)
    if where is None or not os.path.lexists(where):
        return _entry(wanted.path, "", shortened("", text)[1] or "(empty)\n", after_header=_header(wanted))
    before = read_file(where) or b""
    shown = shortened(_shown(wanted.path, before), text)
    if before == wanted.content:
        shown = ("(attributes)\n", "(attributes, see the header)\n")
    elif wanted.secret:
        shown = (MASKED, MASKED + "(changed)\n")
    header = "%s (%04o %s:%s)" % ((wanted.path,) + attributes(os.lstat(where)))
    return _entry(wanted.path, *shown, before_header=header, after_header=_header(wanted))


def _removed(path: str) -> Entry:
    # an older version may have written a secret there, and nothing says whether it did
    header = path + " (removed: written by an earlier version, no longer used)"
    return _entry(path, "(present)\n", "", after_header=header)


def _restored(path: str, saved: str, live: View) -> Entry:
    # neither of the two says whether it holds a secret; a mode that shuts others out may mean that
    hidden = not os.lstat(saved).st_mode & 0o004 or not os.path.isfile(saved)
    before, after = live.before(path) or b"", read_file(saved) or b""
    shown = (MASKED, MASKED + "(the original)\n") if hidden else shortened(_shown(path, before), _shown(path, after))
    return _entry(path, *shown, after_header=path + " (the original)")


def _directory(wanted: Directory, hidden: bool) -> Entry:
    there = os.path.isdir(wanted.path) and not hidden
    before = "directory %04o %s:%s\n" % attributes(os.stat(wanted.path)) if there else ""
    return _entry(wanted.path, before, "directory %04o %s:%s\n" % (wanted.mode, wanted.owner, wanted.group))


def _shown(path: str, content: bytes) -> str:
    """A file's content in a diff; for a program of this collection, only a short description."""
    if path.startswith(PROGRAMS):
        return "(this collection's program, sha256 %s)\n" % hashlib.sha256(content).hexdigest()
    return content.decode("utf-8", "replace")


def _entry(path: str, before: str, after: str, before_header: str = "", after_header: str = "") -> Entry:
    return {
        "before_header": before_header or path,
        "after_header": after_header or path,
        "before": before,
        "after": after,
    }


def _header(wanted: File) -> str:
    return "%s (%04o %s:%s)" % (wanted.path, wanted.mode, wanted.owner, wanted.group)


def shortened(before: str, after: str) -> t.Tuple[str, str]:
    """The two sides of a diff; for long files only the lines that differ."""
    sides = before.splitlines(True), after.splitlines(True)
    if max(len(side) for side in sides) <= SHOWN_LINES:
        return before, after
    shown = []
    for side, other in (sides, sides[::-1]):
        common = set(other)
        lines = [line for line in side if line not in common]
        more = len(lines) - SHOWN_LINES
        text = "(of %d lines, those that differ)\n" % len(side) + "".join(lines[:SHOWN_LINES])
        shown.append(text + ("(and %d more)\n" % more if more > 0 else ""))
    return shown[0], shown[1]
