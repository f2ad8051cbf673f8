# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Runs on the server: Python 3.6 and the standard library only.

"""The journal of a change: what it replaces, written before a live file is touched, so that it can be rolled back.

It exists only until the change is proved. A host has one journal. If it is damaged, the copies beside the files say
what the change has replaced.
"""

import contextlib
import os
import typing as t

from ansible_collections.port587.mail.plugins.module_utils._transaction import manifest
from ansible_collections.port587.mail.plugins.module_utils._transaction import record as records
from ansible_collections.port587.mail.plugins.module_utils._transaction.daemon import Daemon, Description, State
from ansible_collections.port587.mail.plugins.module_utils._transaction.errors import DamagedError
from ansible_collections.port587.mail.plugins.module_utils._transaction.files import (
    before_name,
    copied,
    copy,
    remove,
    set_attributes,
    staged_name,
    sync_directories,
)
from ansible_collections.port587.mail.plugins.module_utils._transaction.state import (
    FORMAT,
    damaged_name,
    load_record,
    write_json,
)

Record = t.Dict[str, t.Any]

_SHAPE = {"files": dict, "created": list, "changed": list, "daemons": dict}  # type: t.Dict[str, type]
_REMEDY = "The next run makes it anew"


class Journal:
    """The file's name says how far the change is, so that each step from one phase to the next is a rename, atomic and
    without need of space:

    staging   new files and copies of the old ones are written beside the live ones, which are untouched
    swapping  everything is written; live files are replaced, and daemons load them
    done      the change is proved; the copies of the old files are removed
    """

    def __init__(self, state_directory: str) -> None:
        self._state_directory = state_directory
        self.phases = [os.path.join(state_directory, "journal." + phase) for phase in ("staging", "swapping", "done")]
        self.staging, self.swapping, self.done = self.phases

    def present(self) -> bool:
        """Whether a change is under way, or was interrupted."""
        return any(os.path.exists(phase) for phase in self.phases)

    def damaged(self) -> t.Dict[str, str]:
        """What is wrong with each phase's file that can't be read."""
        found = {}
        for phase in self.phases:
            try:
                if os.path.exists(phase):
                    load_record(phase, _SHAPE, _REMEDY)
            except DamagedError as exc:
                found[phase] = exc.why
        return found

    def mend(self) -> t.List[str]:
        """Make damaged files anew. Returns sentences about it."""
        said = []
        for phase, why in self.damaged().items():
            found = _found_again(self._state_directory)
            copy(phase, damaged_name(phase))
            write_json(phase, found)
            said.append(
                "%s was damaged (%s; a copy is %s). An earlier run was interrupted, and is taken back by the copies "
                "beside its files: %s. Files that it has added stay, unless this run replaces them"
                % (phase, why, damaged_name(phase), ", ".join(sorted(found["files"])) or "there are none")
            )
        return said

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
                record = self._load(index)
                for path in record["files"]:
                    remove(staged_name(path))
                    remove(before_name(path))
                if index == self.staging:
                    _remove_directories(record)
                os.unlink(index)

    def interrupted(self) -> t.Optional[Record]:
        """The record of a change that was begun and neither proved nor rolled back."""
        return self._load(self.swapping) if os.path.exists(self.swapping) else None

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
        record = self._load(self.swapping)
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

    def _load(self, path: str) -> Record:
        """Load a journal, converted to the current format."""
        try:
            record = load_record(path, _SHAPE, _REMEDY)
        except DamagedError:
            return _found_again(self._state_directory)
        if record["version"] == 0:
            record["version"] = FORMAT
            record["daemons"] = {
                name: {"description": {"unit": name}, "running": running, "enabled": enabled}
                for name, (running, enabled) in record["daemons"].items()
            }
        return record


def _found_again(state_directory: str) -> Record:
    """What the journal of an interrupted change has listed, as far as the copies beside the files tell it.

    They are looked for in the directories of all files that transactions have or had. Of the daemons it is only known
    that they were wanted before.
    """
    files = set(records.load(records.path_of(state_directory))["written"])
    daemons = {}  # type: t.Dict[str, t.Dict[str, t.Any]]
    for name in [name for name in os.listdir(state_directory) if os.path.isdir(os.path.join(state_directory, name))]:
        path = manifest.path_of(state_directory, name)
        for one in [manifest.load(place) for place in (staged_name(path), path, before_name(path))]:
            files.update(one["files"])
        files.update([path, os.path.join(state_directory, name)])
        earlier = manifest.load(before_name(path) if os.path.lexists(before_name(path)) else path)
        daemons.update(earlier["daemons"])
    replaced = [path for directory in sorted(set(map(os.path.dirname, files))) for path in copied(directory)]
    return {
        "version": FORMAT,
        "files": dict.fromkeys(replaced, True),
        "created": [],
        "changed": [],
        "daemons": {
            name: {"description": one["description"], "running": True, "enabled": True} for name, one in daemons.items()
        },
    }


def _remove_directories(record: Record) -> None:
    for directory in reversed(record["created"]):
        # a directory that has other files by now is kept
        with contextlib.suppress(OSError):
            os.rmdir(directory)


def daemons_of(record: t.Optional[Record]) -> t.Dict[str, t.Tuple[Description, State]]:
    """The daemons that a change concerned, by name: the description of each, and its earlier state."""
    entries = record["daemons"] if record else {}
    return {name: (entry["description"], State(entry["running"], entry["enabled"])) for name, entry in entries.items()}
