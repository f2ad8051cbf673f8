# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Runs on the server: Python 3.6 and the standard library only.

"""What a transaction is made of: files and directories as they have to be, and what is asked of a daemon."""

import contextlib
import functools
import grp
import os
import pwd
import shutil
import stat
import subprocess
import tempfile
import time
import typing as t

#: Seconds until a daemon that was just started or reloaded has to be up. The old processes may still answer at first.
DEADLINE = 20.0

#: Where a new file waits, and where the old one is kept until the change is proved: beside the file's own place, since
#: only within a file system is a rename atomic, and needs no space.
STAGED_PREFIX = ".port587-staged."
BEFORE_PREFIX = ".port587-before."

SBIN = "/usr/sbin:/usr/bin:/sbin:/bin"


class File(t.NamedTuple):
    """A file as it has to be.

    ``map`` marks a Postfix lookup table: it is compiled with postmap(1), and both are replaced together.
    """

    path: str
    content: bytes
    mode: int = 0o644
    owner: str = "root"
    group: str = "root"
    secret: bool = False
    map: bool = False


class Directory(t.NamedTuple):
    """A directory as it has to be. It is never removed."""

    path: str
    mode: int = 0o755
    owner: str = "root"
    group: str = "root"


class Problem(t.NamedTuple):
    """What a check found wrong: ``line`` counts from 1 in the file as rendered; None where no line can be named.

    ``absent``: the path or the user that is not there, if it is that.
    """

    path: str
    text: str
    line: t.Optional[int] = None
    absent: t.Optional[str] = None


def made_here(absent: t.Optional[str]) -> bool:
    """Whether a part of this collection makes it."""
    return absent == "vmail" or bool(absent and absent.startswith("/etc/port587/"))


class View:
    """The file system as it will be after the swap: what checks read, so that the live files need not be touched.

    ``beneath`` says where the present content of a path lies, if that is not the path itself (None: it has none): check
    mode sees there what an interrupted run will be taken back to.
    """

    def __init__(
        self,
        files: t.Iterable[File] = (),
        removed: t.Iterable[str] = (),
        beneath: t.Optional[t.Mapping[str, t.Optional[str]]] = None,
    ) -> None:
        self.files = {f.path: f for f in files}
        self.removed = set(removed)
        self.beneath = dict(beneath or {})

    def before(self, path: str) -> t.Optional[bytes]:
        where = self.beneath.get(path, path)
        return None if where is None else read_file(where)

    def read(self, path: str) -> t.Optional[bytes]:
        if path in self.files:
            return self.files[path].content
        return None if path in self.removed else self.before(path)

    def exists(self, path: str) -> bool:
        if path in self.files:
            return True
        where = self.beneath.get(path, path)
        return path not in self.removed and where is not None and os.path.exists(where)

    def line_of(self, path: str, matches: t.Callable[[str], bool]) -> t.Optional[int]:
        """The number of the first line of a new file that matches, for a message that can say where."""
        text = self.files[path].content.decode("utf-8", "replace") if path in self.files else ""
        return next((n for n, line in enumerate(text.split("\n"), 1) if matches(line)), None)


class Daemon:
    """What a transaction has to know of a program: see _daemons/ for those there are."""

    name = ""

    def installed(self) -> bool:
        raise NotImplementedError

    def running(self) -> bool:
        raise NotImplementedError

    def enabled(self) -> bool:
        raise NotImplementedError

    def validate(self, view: View) -> t.List[Problem]:
        raise NotImplementedError

    def in_order(self, files: t.Sequence[File], view: View) -> t.Tuple[t.List[File], str]:
        """The files in an order in which the daemon can load each state on the way; what to say if there is none."""
        return list(files), ""

    def needs_restart(self, view: View) -> bool:
        raise NotImplementedError

    def enable(self) -> None:
        raise NotImplementedError

    def disable(self) -> None:
        raise NotImplementedError

    def start(self) -> None:
        raise NotImplementedError

    def reload(self) -> None:
        raise NotImplementedError

    def restart(self) -> None:
        raise NotImplementedError

    def stop(self) -> None:
        raise NotImplementedError

    def prove(self, remembered: t.Dict[str, t.Any], patience: float = DEADLINE) -> None:
        """Prove what an activation remembered, see there, within so many seconds. Raises ProofError."""
        raise NotImplementedError

    def complaints_since(self, moment: float) -> t.List[str]:
        """What it logged that means that the next start would fail, although it answers."""
        return []

    def words_since(self, moment: float) -> t.List[str]:
        """What the daemon logged of warnings and errors since ``moment`` (seconds since the epoch)."""
        raise NotImplementedError


class Activation(t.NamedTuple):
    """A daemon that has to take over the change, and what proves that it did."""

    daemon: Daemon
    #: What Daemon.prove() is given.
    proof: t.Dict[str, t.Any] = {}
    #: Whether the proof is kept, so that another transaction (a new certificate) can ask the same of the daemon.
    remember: bool = True


class ProofError(Exception):
    """The daemon does not do what it should after the change."""


class TransactionError(Exception):
    """The change was not made, or was taken back. ``details`` goes into the module's result."""

    def __init__(self, message: str, **details: t.Any) -> None:
        super().__init__(message)
        self.message = message
        self.details = details


# -- commands -----------------------------------------------------------------------------------------------------


def run_command(argv: t.Sequence[str], stdin: t.Optional[bytes] = None) -> t.Tuple[int, str, str]:
    """Exit code, standard output and standard error of a command, in the C locale."""
    env = dict(os.environ, LC_ALL="C", PATH=SBIN)
    # what is tested without a module can't use a module's run_command
    done = subprocess.run(  # pylint: disable=ansible-bad-function
        list(argv),
        # never a terminal to ask on
        input=stdin or b"",
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=env,
        check=False,
    )
    return done.returncode, done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace")


def has_command(name: str) -> bool:
    return shutil.which(name, path=SBIN) is not None


@functools.lru_cache(maxsize=None)
def database_type() -> str:
    """The table type of this machine's Postfix (hash, lmdb, ...)."""
    return run_command(["postconf", "-dh", "default_database_type"])[1].strip() or "hash"


def compiled_path(path: str, kind: t.Optional[str] = None) -> str:
    kind = kind or database_type()
    return path + {"hash": ".db", "btree": ".db"}.get(kind, "." + kind)


# -- reading and writing ------------------------------------------------------------------------------------------


@contextlib.contextmanager
def temporary_directory() -> t.Iterator[str]:
    """A private directory (mode 0700) that is gone afterwards."""
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


def ids(wanted: t.Union[File, Directory]) -> t.Tuple[int, int]:
    try:
        return pwd.getpwnam(wanted.owner).pw_uid, grp.getgrnam(wanted.group).gr_gid
    except KeyError:
        raise TransactionError(
            "%s has to belong to %s:%s, but this server has no such user or group; this change was not made"
            % (wanted.path, wanted.owner, wanted.group)
        ) from None


def write(path: str, new: File, moment: float) -> None:
    """Write a file that is complete with owner and mode, and on disk, before this returns."""
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

    It is in a later second than those of the files that are ``replaced``: Dovecot takes a file of the same second and
    the same size for the one that it has read, until it changes again.
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
    # a read-only file system refuses to unlink even what is not there
    if os.path.lexists(path):
        os.unlink(path)


@contextlib.contextmanager
def naming(path: str) -> t.Iterator[None]:
    """A full disk is told by write(2), which knows no file name."""
    try:
        yield
    except OSError as exc:
        exc.filename = exc.filename or path
        raise


def missing_directories(paths: t.Iterable[str]) -> t.List[str]:
    """The directories that have to be made for these to exist, outermost first."""
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
    # after chown(2), which takes away the set-ID bits; and chmod(2) heeds no umask
    os.chmod(path, mode)


def private_directory(path: str) -> None:
    for missing in missing_directories([path]):
        os.mkdir(missing, 0o700)
        sync_directories([missing])


def sync_directories(paths: t.Iterable[str]) -> None:
    """Put on disk what happened in the directories that these lie in."""
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
    """Whether what lies there has the kind, mode and owner wanted. A directory may be a link to one elsewhere."""
    try:
        if where is None:
            return False
        status = os.stat(where) if isinstance(wanted, Directory) else os.lstat(where)
    except (FileNotFoundError, NotADirectoryError):
        return False
    kind = stat.S_ISDIR if isinstance(wanted, Directory) else stat.S_ISREG
    return kind(status.st_mode) and attributes(status) == (wanted.mode, wanted.owner, wanted.group)
