# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Runs on the server: Python 3.6 and the standard library only.

"""What this host was before this collection, and what the collection has written: both are needed to give it back.

One file for all transactions, since they share daemons and directories. It is swapped in together with the files. It
stays on the server: no module returns it.
"""

import hashlib
import os
import stat
import typing as t

from ansible_collections.port587.mail.plugins.module_utils._transaction.errors import DamagedError
from ansible_collections.port587.mail.plugins.module_utils._transaction.files import attributes
from ansible_collections.port587.mail.plugins.module_utils._transaction.state import FORMAT, load_record
from ansible_collections.port587.mail.plugins.module_utils._transaction.tree import Directory, File

Record = t.Dict[str, t.Any]

_SHAPE = {"daemons": dict, "directories": dict, "written": dict}  # type: t.Dict[str, type]
_REMEDY = "Run site.yml, which begins it anew"


def path_of(state_directory: str) -> str:
    return os.path.join(state_directory, "record.json")


def load(path: t.Optional[str]) -> Record:
    """The stored record.

    ``daemons``: by name, whether each ran and was enabled before; ``directories``: by path, the earlier mode, owner and
    group, or an empty list if it did not exist; ``written``: by path, the checksum of what was written, empty for
    compiled files. The version of an empty record that stands for a damaged one is None.
    """
    empty = {"version": FORMAT, "daemons": {}, "directories": {}, "written": {}}  # type: Record
    if path is None or not os.path.lexists(path):
        return empty
    try:
        return load_record(path, _SHAPE, _REMEDY)
    except DamagedError:
        return dict(empty, version=None)


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def is_edited(record: Record, path: str, content: t.Optional[bytes]) -> bool:
    """Whether somebody else has changed a file since it was written. ``content``: None if it does not exist."""
    known = record["written"].get(path)
    return content is not None and known != "" and known != digest(content)


def with_files(record: Record, files: t.Iterable[File], sources: t.Container[str], gone: t.Container[str]) -> Record:
    """The record after ``files`` were written and those in ``gone`` given up. Others than ``sources`` are compiled."""
    written = {path: known for path, known in record["written"].items() if path not in gone}
    written.update((f.path, digest(f.content) if f.path in sources else "") for f in files)
    return dict(record, written=written)


def with_directories(record: Record, created: t.Iterable[str], changed: t.Iterable[Directory]) -> Record:
    """The record with the directories that are about to be created or changed, as they are now."""
    # what is gone was removed with its last file
    known = {path: was for path, was in record["directories"].items() if os.path.isdir(path)}
    for path in created:
        known[path] = []
    for directory in changed:
        if directory.path not in known:
            known[directory.path] = list(attributes(os.stat(directory.path)))
    return dict(record, directories=known)


def before(record: Record, path: str) -> t.Optional[Directory]:
    """A directory as it was before; None if it was as it is, did not exist, or does not exist now."""
    was = record["directories"].get(path)
    if not was or not os.path.isdir(path):
        return None
    return Directory(path, was[0], was[1], was[2])


def remove_empty(record: Record, needed: t.Iterable[str]) -> t.List[str]:
    """Remove the created directories without needed paths. Returns those that others have put files into."""
    needed = list(needed)
    left = []
    for path in sorted((path for path, was in record["directories"].items() if not was), reverse=True):
        if any(one == path or one.startswith(path + "/") for one in needed) or not os.path.isdir(path):
            continue
        for name in os.listdir(path):
            # a daemon that was stopped leaves its sockets
            if stat.S_ISSOCK(os.lstat(os.path.join(path, name)).st_mode):
                os.unlink(os.path.join(path, name))
        try:
            os.rmdir(path)
        except OSError:
            left.append(path)
    return left
