# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Runs on the server: Python 3.6 and the standard library only.

"""What transactions keep on the server, below /var/lib/port587: the lock, the journal, and who wrote which files."""

import contextlib
import errno
import fcntl
import json
import os
import time
import typing as t

from ansible_collections.port587.mail.plugins.module_utils._transaction.files import (
    Activation,
    TransactionError,
    before_name,
    naming,
    read_file,
    remove,
    set_attributes,
    staged_name,
    sync_directories,
)

STATE_DIRECTORY = "/var/lib/port587"


class Journal:
    """What a change replaces. It exists only while a change is not proved. There is one for the host.

    The file's name says how far the change is, so that each step from one phase to the next is a rename, atomic and
    without need of space:

    staging   new files and copies of the old ones are written beside the live ones, which are untouched
    swapping  all is written; live files are replaced, and daemons take over
    done      the change stays; the copies of the old files are removed
    """

    def __init__(self, state_directory: str) -> None:
        self.staging, self.swapping, self.done = (
            os.path.join(state_directory, "journal." + phase) for phase in ("staging", "swapping", "done")
        )

    def present(self) -> bool:
        """Whether a change is under way, or was interrupted."""
        return any(os.path.exists(phase) for phase in (self.staging, self.swapping, self.done))

    def begin(self, record: t.Dict[str, t.Any]) -> None:
        """``record``: files (path: did it exist), created and changed directories, daemons (name: running, enabled)."""
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
            # if this gets lost with the power, a proved change is taken back and made again
            sync_directories([self.done])

    def clean_up(self) -> None:
        """Remove what a run that ended, or that was killed before it touched a live file, has left."""
        for index in (self.staging, self.done):
            if os.path.exists(index):
                record = load_json(index)
                for path in record["files"]:
                    remove(staged_name(path))
                    remove(before_name(path))
                if index == self.staging:
                    _remove_directories(record)
                os.unlink(index)

    def interrupted(self) -> t.Optional[t.Dict[str, t.Any]]:
        """The record of a change that was begun and neither proved nor taken back."""
        return load_json(self.swapping) if os.path.exists(self.swapping) else None

    def beneath(self) -> t.Dict[str, t.Optional[str]]:
        """Where the content lies that restore() would give back to each path; None: it would be removed."""
        where = {}  # type: t.Dict[str, t.Optional[str]]
        for path, existed in (self.interrupted() or {"files": {}})["files"].items():
            if not os.path.lexists(staged_name(path)):
                if os.path.lexists(before_name(path)):
                    where[path] = before_name(path)
                elif not existed:
                    where[path] = None
        return where

    def restore(self) -> None:
        """Put back what was there. Can be interrupted anywhere, and done again."""
        record = load_json(self.swapping)
        failed = []  # type: t.List[OSError]
        for path, existed in record["files"].items():
            try:
                if os.path.lexists(staged_name(path)):
                    # still waiting, so the live file was not replaced, which it may refuse
                    remove(before_name(path))
                    remove(staged_name(path))
                elif os.path.lexists(before_name(path)):
                    os.rename(before_name(path), path)
                elif not existed:
                    remove(path)
            except OSError as exc:
                # the others all the same
                failed.append(exc)
        sync_directories(record["files"])
        for path, mode, uid, gid in record["changed"]:
            set_attributes(path, mode, uid, gid)
        _remove_directories(record)
        if failed:
            raise failed[0]

    def forget(self) -> None:
        """What was put back runs: the journal has served."""
        remove(self.swapping)
        sync_directories([self.swapping])


def _remove_directories(record: t.Dict[str, t.Any]) -> None:
    for directory in reversed(record["created"]):
        # only if nobody has put anything there since
        with contextlib.suppress(OSError):
            os.rmdir(directory)


# -- manifests ----------------------------------------------------------------------------------------------------


def manifest(
    files: t.Iterable[str], directories: t.Iterable[str], activations: t.Iterable[Activation]
) -> t.Dict[str, t.Any]:
    """What is kept of a transaction."""
    return {
        "files": sorted(files),
        "directories": sorted(directories),
        "proofs": {a.daemon.name: a.proof for a in activations if a.remember},
    }


def manifest_path(state_directory: str, name: str) -> str:
    return os.path.join(state_directory, name, "manifest.json")


def manifests(state_directory: str) -> t.Dict[str, t.Dict[str, t.Any]]:
    """What each transaction of this host has written, and what proves its daemon, by the transaction's name."""
    try:
        names = sorted(os.listdir(state_directory))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    found = {name: load_json(manifest_path(state_directory, name)) for name in names}
    return {name: manifest for name, manifest in found.items() if manifest}


def remembered_proofs(state_directory: str = STATE_DIRECTORY) -> t.Dict[str, t.Dict[str, t.Any]]:
    """What proves each daemon that transactions of this host look after, by the daemon's name."""
    proofs = {}  # type: t.Dict[str, t.Dict[str, t.Any]]
    for manifest in manifests(state_directory).values():
        proofs.update(manifest.get("proofs", {}))
    return proofs


def dump_json(value: t.Dict[str, t.Any]) -> bytes:
    return json.dumps(value, indent=1, sort_keys=True).encode("ascii") + b"\n"


def load_json(path: str) -> t.Dict[str, t.Any]:
    content = read_file(path)
    if not content:
        return {}
    loaded = json.loads(content.decode("utf-8"))
    return loaded if isinstance(loaded, dict) else {}


def write_json(path: str, value: t.Dict[str, t.Any]) -> None:
    temporary = path + ".new"
    try:
        with naming(path), open(temporary, "wb") as handle:
            handle.write(dump_json(value))
            handle.flush()
            os.fsync(handle.fileno())
        os.rename(temporary, path)
    except OSError:
        remove(temporary)
        raise
    sync_directories([path])


# -- the lock -----------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def lock(state_directory: str, timeout: float, check_mode: bool) -> t.Iterator[None]:
    """One lock for all transactions of a host: they share daemons. Check mode waits too, and leaves no trace."""
    path = os.path.join(state_directory, "run.lock")
    if check_mode and not os.path.exists(path):
        yield
        return
    if not check_mode and not os.path.isdir(state_directory):
        # not for root alone: there may be something below that others read, such as a web server
        os.makedirs(state_directory, 0o711)
        sync_directories([state_directory])
    with open(path, "r" if check_mode else "a") as handle:
        deadline = time.time() + timeout
        while True:
            try:
                fcntl.flock(handle, (fcntl.LOCK_SH if check_mode else fcntl.LOCK_EX) | fcntl.LOCK_NB)
                break
            except OSError as exc:
                if exc.errno not in (errno.EAGAIN, errno.EACCES):
                    raise
                if time.time() >= deadline:
                    raise TransactionError(
                        "another run is changing this server (it holds %s); this change was not made, try again later"
                        % path
                    ) from exc
                time.sleep(0.1)
        yield
