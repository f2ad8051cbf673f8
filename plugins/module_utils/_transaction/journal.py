# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Runs on the server: Python 3.6 and the standard library only.

"""The journal of a change: what it replaces, written before a live file is touched, so that it can be rolled back.

It exists only until the change is proved. A host has one journal.
"""

import contextlib
import os
import typing as t

from ansible_collections.port587.mail.plugins.module_utils._transaction.daemon import Daemon, Description, State
from ansible_collections.port587.mail.plugins.module_utils._transaction.files import (
    before_name,
    remove,
    set_attributes,
    staged_name,
    sync_directories,
)
from ansible_collections.port587.mail.plugins.module_utils._transaction.state import FORMAT, load_record, write_json

Record = t.Dict[str, t.Any]

_SHAPE = {"files": dict, "created": list, "changed": list, "daemons": dict}  # type: t.Dict[str, type]
_TAKE_BACK = (
    "An earlier run was interrupted and can't be taken back without it. Beside each file that it replaced lies the "
    "earlier one, .port587-before.NAME: put those back, and move the journal away"
)
_TIDY = "Remove the copies beside its files (.port587-staged.NAME, .port587-before.NAME), and move the journal away"


class Journal:
    """The file's name says how far the change is, so that each step from one phase to the next is a rename, atomic and
    without need of space:

    staging   new files and copies of the old ones are written beside the live ones, which are untouched
    swapping  everything is written; live files are replaced, and daemons load them
    done      the change is proved; the copies of the old files are removed
    """

    def __init__(self, state_directory: str) -> None:
        self.staging, self.swapping, self.done = (
            os.path.join(state_directory, "journal." + phase) for phase in ("staging", "swapping", "done")
        )

    def present(self) -> bool:
        """Whether a change is under way, or was interrupted."""
        return any(os.path.exists(phase) for phase in (self.staging, self.swapping, self.done))

    def begin(
        self,
        files: t.Mapping[str, bool],
        created: t.Sequence[str],
        changed: t.Sequence[t.Sequence[t.Any]],
        daemons: t.Iterable[t.Tuple[Daemon, State]],
    ) -> None:
        """Record what is about to be replaced.

        ``files``: whether each path existed; ``created``: directories; ``changed``: path, mode, owner's and group's
        number of directories.
        """
        described = {one.name: dict(was._asdict(), description=one.description) for one, was in daemons}
        record = {"version": FORMAT, "files": files, "created": created, "changed": changed, "daemons": described}
        write_json(self.staging, record)

    def swap(self) -> None:
        os.rename(self.staging, self.swapping)
        try:
            sync_directories([self.swapping])
        except OSError:
            os.rename(self.swapping, self.staging)
            raise

    def finish(self) -> None:
        os.rename(self.swapping, self.done)
        with contextlib.suppress(OSError):
            # if a power failure loses this, a proved change is rolled back and made again
            sync_directories([self.done])

    def clean_up(self) -> None:
        """Remove leftovers of a run that ended, or that was killed before it touched a live file."""
        for index in (self.staging, self.done):
            if os.path.exists(index):
                record = _load(index, _TIDY)
                for path in record["files"]:
                    remove(staged_name(path))
                    remove(before_name(path))
                if index == self.staging:
                    _remove_directories(record)
                os.unlink(index)

    def interrupted(self) -> t.Optional[Record]:
        """The record of a change that was begun and neither proved nor rolled back."""
        return _load(self.swapping, _TAKE_BACK) if os.path.exists(self.swapping) else None

    def beneath(self) -> t.Dict[str, t.Optional[str]]:
        """For each path, the file from which restore() would restore it; None: it would be removed."""
        where = {}  # type: t.Dict[str, t.Optional[str]]
        for path, existed in (self.interrupted() or {"files": {}})["files"].items():
            if not os.path.lexists(staged_name(path)):
                if os.path.lexists(before_name(path)):
                    where[path] = before_name(path)
                elif not existed:
                    where[path] = None
        return where

    def restore(self) -> None:
        """Restore the old files. Can be interrupted anywhere, and repeated."""
        record = _load(self.swapping, _TAKE_BACK)
        failed = []  # type: t.List[OSError]
        for path, existed in record["files"].items():
            try:
                if os.path.lexists(staged_name(path)):
                    # still staged, so the live file was not replaced
                    remove(before_name(path))
                    remove(staged_name(path))
                elif os.path.lexists(before_name(path)):
                    os.rename(before_name(path), path)
                elif not existed:
                    remove(path)
            except OSError as exc:
                # go on with the other files
                failed.append(exc)
        sync_directories(record["files"])
        for path, mode, uid, gid in record["changed"]:
            set_attributes(path, mode, uid, gid)
        _remove_directories(record)
        if failed:
            raise failed[0]

    def forget(self) -> None:
        """Remove the journal: the daemons run on the restored files."""
        remove(self.swapping)
        sync_directories([self.swapping])


def _remove_directories(record: Record) -> None:
    for directory in reversed(record["created"]):
        # a directory that has other files by now is kept
        with contextlib.suppress(OSError):
            os.rmdir(directory)


def _load(path: str, remedy: str) -> Record:
    """Load a journal, converted to the current format."""
    record = load_record(path, _SHAPE, remedy)
    if record["version"] == 0:
        record["version"] = FORMAT
        record["daemons"] = {
            name: {"description": {"unit": name}, "running": running, "enabled": enabled}
            for name, (running, enabled) in record["daemons"].items()
        }
    return record


def daemons_of(record: t.Optional[Record]) -> t.Dict[str, t.Tuple[Description, State]]:
    """The daemons that a change concerned, by name: the description of each, and its earlier state."""
    entries = record["daemons"] if record else {}
    return {name: (entry["description"], State(entry["running"], entry["enabled"])) for name, entry in entries.items()}
