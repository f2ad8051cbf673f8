# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Runs on the server: Python 3.6 and the standard library only.

"""Read, write and compare files with owner and mode. Written data is synced to disk."""

import contextlib
import grp
import os
import pwd
import shutil
import stat
import tempfile
import time
import typing as t

from ansible_collections.port587.mail.plugins.module_utils._transaction.errors import TransactionError
from ansible_collections.port587.mail.plugins.module_utils._transaction.tree import Directory, File

#: Names of a staged new file, and of the old one until the change is proved. Both are next to the file itself, since a
#: rename is atomic and needs no space only within one file system.
STAGED_PREFIX = ".port587-staged."
BEFORE_PREFIX = ".port587-before."


@contextlib.contextmanager
def temporary_directory() -> t.Iterator[str]:
    """A private directory (mode 0700) that is removed afterwards."""
    directory = tempfile.mkdtemp(prefix="port587-")
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def read_file(path: str) -> t.Optional[bytes]:
    try:
        with open(path, "rb") as handle:
            return handle.read()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None


def staged_name(path: str) -> str:
    return os.path.join(os.path.dirname(path), STAGED_PREFIX + os.path.basename(path))


def before_name(path: str) -> str:
    return os.path.join(os.path.dirname(path), BEFORE_PREFIX + os.path.basename(path))


def copied(directory: str) -> t.List[str]:
    """The paths in a directory beside which lies a staged file or an old one."""
    names = os.listdir(directory) if os.path.isdir(directory) else []
    prefixes = (STAGED_PREFIX, BEFORE_PREFIX)
    found = {name[len(prefix) :] for name in names for prefix in prefixes if name.startswith(prefix)}
    return [os.path.join(directory, name) for name in sorted(found)]


def original_name(state_directory: str, name: str, path: str) -> str:
    """The permanent copy of a file that the transaction ``name`` replaced, such as the user's own main.cf."""
    return os.path.join(state_directory, name, "original", path.lstrip("/"))


def edited_name(state_directory: str, path: str) -> str:
    """The copy of a file that somebody else has changed, and that is no longer in its place."""
    return os.path.join(state_directory, "edited", path.lstrip("/"))


def ids(wanted: t.Union[File, Directory]) -> t.Tuple[int, int]:
    try:
        return pwd.getpwnam(wanted.owner).pw_uid, grp.getgrnam(wanted.group).gr_gid
    except KeyError:
        raise TransactionError(
            "%s has to belong to %s:%s, but this server has no such user or group; this change was not made"
            % (wanted.path, wanted.owner, wanted.group)
        ) from None


def write(path: str, new: File, moment: float) -> None:
    """Write a file with owner and mode; it is synced to disk before this returns."""
    remove(path)
    uid, gid = ids(new)
    with naming(path), os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as handle:
        os.fchown(handle.fileno(), uid, gid)
        os.fchmod(handle.fileno(), new.mode)
        handle.write(new.content)
        handle.flush()
        os.utime(handle.fileno(), (moment, moment))
        os.fsync(handle.fileno())


def settled(replaced: t.Iterable[float] = ()) -> float:
    """A time stamp for new files: Postfix reads one that is younger than two seconds over and over until it is not.

    It is in a later second than those of the ``replaced`` files: Dovecot does not read a changed file again if its size
    and the second of its time stamp are the same.
    """
    now = time.time()
    return max([now - 5] + [int(stamp) + 1.0 for stamp in replaced if stamp <= now])


def write_settled(path: str, content: bytes) -> None:
    """For a check only."""
    with open(path, "wb") as handle:
        handle.write(content)
    os.utime(path, (settled(), settled()))


def copy(source: str, target: str) -> None:
    """A copy with owner, mode and times. Never a hard link: Postfix notices a replaced table by its link count."""
    remove(target)
    if os.path.islink(source):
        os.symlink(os.readlink(source), target)
        return
    with naming(target), open(source, "rb") as handle:
        status = os.fstat(handle.fileno())
        with os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
            shutil.copyfileobj(handle, out)
            out.flush()
            os.fchown(out.fileno(), status.st_uid, status.st_gid)
            shutil.copystat(source, target)
            os.fsync(out.fileno())


def remove(path: str) -> None:
    # a read-only file system refuses to unlink even a missing file
    if os.path.lexists(path):
        os.unlink(path)


@contextlib.contextmanager
def naming(path: str) -> t.Iterator[None]:
    """Add the file name to an error: write(2) reports a full disk without one."""
    try:
        yield
    except OSError as exc:
        exc.filename = exc.filename or path
        raise


def missing_directories(paths: t.Iterable[str]) -> t.List[str]:
    """The missing parents of these directories and the directories themselves, outermost first."""
    missing = []  # type: t.List[str]
    for path in paths:
        new = []  # type: t.List[str]
        while not os.path.isdir(path) and path not in missing:
            new.insert(0, path)
            path = os.path.dirname(path)
        missing += new
    return missing


def set_attributes(path: str, mode: int, uid: int, gid: int) -> None:
    os.chown(path, uid, gid)
    # after chown(2), which clears the set-ID bits; chmod(2) ignores the umask
    os.chmod(path, mode)


def private_directory(path: str) -> None:
    for missing in missing_directories([path]):
        os.mkdir(missing, 0o700)
        sync_directories([missing])


def sync_directories(paths: t.Iterable[str]) -> None:
    """Sync the parent directories of these paths to disk."""
    for directory in sorted({os.path.dirname(p) for p in paths}):
        with contextlib.suppress(FileNotFoundError):
            descriptor = os.open(directory, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


# -- comparing ----------------------------------------------------------------------------------------------------


def attributes(status: os.stat_result) -> t.Tuple[int, str, str]:
    def name(lookup: t.Callable[[int], t.Any], number: int) -> str:
        try:
            return str(lookup(number)[0])
        except KeyError:
            return str(number)

    return stat.S_IMODE(status.st_mode), name(pwd.getpwuid, status.st_uid), name(grp.getgrgid, status.st_gid)


def same_attributes(where: t.Optional[str], wanted: t.Union[File, Directory]) -> bool:
    """Whether the path has the wanted type, mode and owner. A directory may be a link to one elsewhere."""
    try:
        if where is None:
            return False
        status = os.stat(where) if isinstance(wanted, Directory) else os.lstat(where)
    except (FileNotFoundError, NotADirectoryError):
        return False
    kind = stat.S_ISDIR if isinstance(wanted, Directory) else stat.S_ISREG
    return kind(status.st_mode) and attributes(status) == (wanted.mode, wanted.owner, wanted.group)
