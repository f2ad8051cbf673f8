# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Runs on the server: Python 3.6 and the standard library only.

"""A change of configuration as a transaction: validate, stage, swap, activate, prove, or roll back.

What makes it safe to be killed at any point is the journal. Before the first live file is touched, a copy of all
that is about to be replaced is on disk, and the journal says so. It goes away only when the daemons were proved.
A run that finds a journal puts everything back first, and then does its own work.
"""

import contextlib
import errno
import fcntl
import grp
import json
import os
import pwd
import shutil
import signal
import stat
import subprocess
import tempfile
import time
import typing as t

#: One lock for all transactions of a host: they share daemons.
STATE_DIRECTORY = "/var/lib/port587"

#: Staged files lie beside the file they will replace, since only within a file system is a rename atomic.
STAGED_PREFIX = ".port587-staged."

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

MASKED = "(contents hidden: this file holds secrets)\n"


class File(t.NamedTuple):
    """A file as it has to be.

    ``map`` marks a Postfix lookup table: it is compiled with postmap(1), and source and compiled table are replaced together.
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
    """What a check found wrong: ``line`` counts from 1 in the file as rendered; None where no line can be named."""

    path: str
    text: str
    line: t.Optional[int] = None


class View:
    """The file system as it will be after the swap: what checks read, so that the live files need not be touched."""

    def __init__(self, files: t.Iterable[File] = (), removed: t.Iterable[str] = ()) -> None:
        self.files = {f.path: f for f in files}
        self.removed = set(removed)

    def read(self, path: str) -> t.Optional[bytes]:
        if path in self.files:
            return self.files[path].content
        return None if path in self.removed else read_file(path)

    def exists(self, path: str) -> bool:
        return path in self.files or (path not in self.removed and os.path.exists(path))

    def line_of(self, path: str, matches: t.Callable[[str], bool]) -> t.Optional[int]:
        """The number of the first line of a new file that matches, for a message that can say where."""
        text = self.files[path].content.decode("utf-8", "replace") if path in self.files else ""
        return next((n for n, line in enumerate(text.splitlines(), 1) if matches(line)), None)


class Daemon:
    """What a transaction has to know of a program: see _daemons.py for those there are."""

    name = ""

    def installed(self) -> bool:
        raise NotImplementedError

    def running(self) -> bool:
        raise NotImplementedError

    def enabled(self) -> bool:
        raise NotImplementedError

    def validate(self, view: View) -> t.List[Problem]:
        raise NotImplementedError

    def needs_restart(self, view: View) -> bool:
        raise NotImplementedError

    def start(self) -> None:
        raise NotImplementedError

    def reload(self) -> None:
        raise NotImplementedError

    def restart(self) -> None:
        raise NotImplementedError

    def stop(self) -> None:
        raise NotImplementedError

    def words_since(self, moment: float) -> t.List[str]:
        """What the daemon logged of warnings and errors since ``moment`` (seconds since the epoch)."""
        raise NotImplementedError


class Activation(t.NamedTuple):
    """A daemon that has to take over the change, and what proves that it did. ``prove`` raises ProofError."""

    daemon: Daemon
    prove: t.Callable[[], None] = lambda: None
    #: The form in which the proof is remembered, so that another transaction (a new certificate) can ask the same of the daemon.
    remember: t.Optional[t.Dict[str, t.Any]] = None


class ProofError(Exception):
    """The daemon does not do what it should after the change."""


class TransactionError(Exception):
    """The change was not made, or was taken back. ``details`` goes into the module's result."""

    def __init__(self, message: str, **details: t.Any) -> None:
        super().__init__(message)
        self.message = message
        self.details = details


class Result(t.NamedTuple):
    changed: bool
    diff: t.List[t.Dict[str, str]]
    activated: t.Dict[str, str]
    not_validated: t.List[str]
    recovered: bool


class _Interrupted(Exception):
    pass


def run_command(argv: t.Sequence[str], stdin: t.Optional[bytes] = None) -> t.Tuple[int, str, str]:
    """Exit code, standard output and standard error of a command, in the C locale."""
    env = dict(os.environ, LC_ALL="C", PATH="/usr/sbin:/usr/bin:/sbin:/bin")
    process = subprocess.Popen(
        list(argv),
        stdin=subprocess.PIPE if stdin is not None else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=env,
    )
    out, err = process.communicate(stdin)
    return process.returncode, out.decode("utf-8", "replace"), err.decode("utf-8", "replace")


def read_file(path: str) -> t.Optional[bytes]:
    try:
        with open(path, "rb") as handle:
            return handle.read()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None


def run(
    name: str,
    files: t.Sequence[File],
    directories: t.Sequence[Directory] = (),
    activations: t.Sequence[Activation] = (),
    validate: t.Optional[t.Callable[[View], t.List[Problem]]] = None,
    check_mode: bool = False,
    lock_timeout: float = 60.0,
    state_directory: str = STATE_DIRECTORY,
) -> Result:
    """Make ``files`` and ``directories`` so, or change nothing and raise TransactionError.

    ``name`` is the transaction's identity: files that an earlier run of the same name wrote and that are no longer wanted are removed.
    ``validate`` is a check of the caller's own, in addition to those of the daemons.
    """
    change = _Change(name, files, directories, activations, validate, state_directory)
    if check_mode:
        return change.predict()
    try:
        with _lock(state_directory, lock_timeout):
            return change.make()
    except OSError as exc:
        # disk full, read-only file system, ...: whatever was begun has been taken back on the way here
        raise TransactionError(
            "%s: %s; nothing was changed" % (exc.filename or name, exc.strerror or exc), errno=errno.errorcode.get(exc.errno or 0)
        )


class _Change:
    """One run of a transaction."""

    def __init__(
        self,
        name: str,
        files: t.Sequence[File],
        directories: t.Sequence[Directory],
        activations: t.Sequence[Activation],
        validate: t.Optional[t.Callable[[View], t.List[Problem]]],
        state_directory: str,
    ) -> None:
        self.directories = directories
        self.activations = activations
        self.own_check = validate
        self.wanted = {f.path: f for f in files}
        self.state = os.path.join(state_directory, name)
        self.manifest = os.path.join(self.state, "manifest.json")
        self.journal = _Journal(os.path.join(self.state, "journal"))
        self.original = os.path.join(self.state, "original")
        self.not_validated = []  # type: t.List[str]

    # -- the two ways to run ------------------------------------------------------------------------------------

    def predict(self) -> Result:
        self._compare()
        self._validate()
        recovered = self.journal.exists()
        return self._result(self._plan(recovered), recovered)

    def make(self) -> Result:
        for path in self.wanted:
            # what a run that was killed while it staged has left
            for staged in (_staged_name(path), _staged_name(compiled_path(path)) if self.wanted[path].map else ""):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(staged)
        recovered = self.journal.recover()
        self._compare()
        self._validate()
        plan = self._plan(recovered)
        if self.changed_files or self.removed or self.changed_directories or plan:
            self._apply(plan)
        elif recovered:
            self.journal.forget()
        self._remember()
        return self._result(plan, recovered)

    def _result(self, plan: t.Dict[str, str], recovered: bool) -> Result:
        return Result(
            changed=bool(self.changed_files or self.removed or self.changed_directories or plan or recovered),
            diff=self.diff,
            activated=plan,
            not_validated=self.not_validated,
            recovered=recovered,
        )

    # -- what is different --------------------------------------------------------------------------------------

    def _compare(self) -> None:
        previous = _load_json(self.manifest).get("files", [])
        self.removed = [p for p in previous if p not in self.wanted and os.path.lexists(p)]
        self.adopted = [p for p in self.wanted if p not in previous and os.path.lexists(p)]
        self.changed_directories = [d for d in self.directories if not _same_attributes(d.path, d, is_directory=True)]
        self.changed_files = [f for f in self.wanted.values() if not _same_file(f)]
        # the compiled tables of maps are files like others from here on
        stale = [f for f in self.wanted.values() if f.map and (f in self.changed_files or not compiled_is_current(f.path))]
        self.compile = stale
        self.diff = [_diff(f) for f in self.changed_files]
        self.diff += [_removal_diff(p) for p in self.removed]
        self.diff += [_directory_diff(d) for d in self.changed_directories]
        self.diff += [
            {"before_header": f.path, "after_header": f.path, "before": "(lookup table not compiled)\n", "after": "(compiled)\n"}
            for f in stale
            if f not in self.changed_files
        ]

    # -- is it right --------------------------------------------------------------------------------------------

    def _validate(self) -> None:
        view = View(self.wanted.values(), self.removed)
        problems = []  # type: t.List[Problem]
        if self.compile:
            if shutil.which("postmap", path="/usr/sbin:/usr/bin"):
                compiled, problems = compile_maps(self.compile)
                self.changed_files = compiled + self.changed_files
            else:
                self.not_validated.append("lookup tables: Postfix is not installed yet")
        if self.own_check:
            problems += self.own_check(view)
        # a daemon whose own files do not change was validated when they did
        if self.changed_files or self.removed:
            for activation in self.activations:
                if activation.daemon.installed():
                    problems += activation.daemon.validate(view)
                else:
                    self.not_validated.append("%s: not installed yet" % activation.daemon.name)
        if problems:
            raise TransactionError(
                "not valid, nothing was changed:\n%s" % "\n".join(_unique(_describe(p) for p in problems)),
                problems=[dict(p._asdict()) for p in problems],
            )
        self.view = view

    def _plan(self, recovered: bool = False) -> t.Dict[str, str]:
        """What becomes of each daemon: started, reloaded or restarted. Daemons with nothing to do are not in it."""
        plan = {}
        for activation in self.activations:
            daemon = activation.daemon
            if not daemon.installed():
                plan[daemon.name] = "started"
            elif not daemon.running():
                plan[daemon.name] = "started"
            elif recovered or ((self.changed_files or self.removed) and daemon.needs_restart(self.view)):
                plan[daemon.name] = "restarted"
            elif self.changed_files or self.removed:
                plan[daemon.name] = "reloaded"
            elif not daemon.enabled():
                plan[daemon.name] = "enabled"
        return plan

    # -- the change ---------------------------------------------------------------------------------------------

    def _apply(self, plan: t.Dict[str, str]) -> None:
        was_running = {a.daemon.name: a.daemon.running() for a in self.activations}
        began = time.time()
        with _signals_raise():
            created = []  # type: t.List[str]
            staged = []  # type: t.List[t.Tuple[str, str]]
            try:
                for directory in self.changed_directories:
                    created += _make_directory(directory)
                # both of a table's files get one time stamp: Postfix warns of a table older than its source
                now = time.time()
                for new in self.changed_files:
                    created += _make_directory(Directory(os.path.dirname(new.path)), only_missing=True)
                    staged.append((_stage(new, now), new.path))
                self._keep_originals()
                self.journal.begin([path for _tmp, path in staged] + self.removed, created)
            except BaseException:
                _discard(staged, created)
                raise
            try:
                for temporary, path in staged:
                    os.rename(temporary, path)
                for path in self.removed:
                    os.unlink(path)
                _sync_directories([path for _tmp, path in staged] + self.removed)
                for activation in self.activations:
                    self._activate(activation.daemon, plan.get(activation.daemon.name))
                for activation in self.activations:
                    if activation.daemon.name in plan:
                        activation.prove()
            except BaseException as exc:
                raise self._roll_back(exc, began, was_running)
        self.journal.forget()

    @staticmethod
    def _activate(daemon: Daemon, how: t.Optional[str]) -> None:
        if how == "started":
            daemon.start()
        elif how == "restarted":
            daemon.restart()
        elif how == "reloaded":
            daemon.reload()
        elif how == "enabled":
            daemon.start()

    def _roll_back(self, cause: BaseException, began: float, was_running: t.Dict[str, bool]) -> TransactionError:
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        words = _unique(line for a in self.activations for line in a.daemon.words_since(began))
        self.journal.restore()
        state = []
        for activation in self.activations:
            daemon = activation.daemon
            try:
                if was_running[daemon.name]:
                    # a reload would not revive a throttled smtpd, nor a master that is gone
                    daemon.restart()
                    activation.prove()
                    state.append("%s runs on as before" % daemon.name)
                else:
                    daemon.stop()
                    state.append("%s is stopped, as it was before" % daemon.name)
            except (ProofError, TransactionError) as exc:
                state.append("%s does not answer as it should on the previous files either: %s" % (daemon.name, exc))
        self.journal.forget()
        return TransactionError(
            "rolled back, %s: %s%s"
            % (", ".join(state) or "the previous files are in place", cause, "".join("\n  " + w for w in words[-10:])),
            rolled_back=True,
            daemon_log=words,
        )

    def _keep_originals(self) -> None:
        """What was there before this collection came is kept for good: a person's own main.cf must not be lost."""
        for path in self.adopted:
            keep = os.path.join(self.original, path.lstrip("/"))
            if os.path.isfile(path) and not os.path.lexists(keep) and not _same_file(self.wanted[path]):
                _private_directory(os.path.dirname(keep))
                _copy(path, keep)

    def _remember(self) -> None:
        remembered = {
            "files": sorted(self.wanted),
            "proofs": {a.daemon.name: a.remember for a in self.activations if a.remember is not None},
        }
        if _load_json(self.manifest) != remembered:
            _private_directory(self.state)
            _write_json(self.manifest, remembered)


class _Journal:
    """Copies of everything a change replaces, and the list of them. It exists only while a change is not proved."""

    def __init__(self, directory: str) -> None:
        self.directory = directory
        self.index = os.path.join(directory, "index.json")

    def exists(self) -> bool:
        return os.path.exists(self.index)

    def begin(self, paths: t.Sequence[str], created: t.Sequence[str]) -> None:
        # a change on top of a recovered one: the copies made then show the last proved state, and must win
        earlier = _load_json(self.index)
        entries = earlier.get("files", {})
        if not self.exists():
            shutil.rmtree(self.directory, ignore_errors=True)
        _private_directory(self.directory)
        try:
            for path in paths:
                if path in entries and (entries[path] is None or os.path.lexists(entries[path])):
                    continue
                if path not in entries:
                    entries[path] = os.path.join(self.directory, "%d" % len(entries)) if os.path.lexists(path) else None
                if entries[path] is not None:
                    _copy(path, entries[path])
            _write_json(self.index, {"files": entries, "created": list(earlier.get("created", [])) + list(created)})
        except BaseException:
            if not self.exists():
                shutil.rmtree(self.directory, ignore_errors=True)
            raise

    def recover(self) -> bool:
        """Put back what an interrupted run left half done. The journal stays until the daemons are proved again."""
        if not self.exists():
            return False
        self.restore()
        return True

    def restore(self) -> None:
        index = _load_json(self.index)
        for path, copy in index.get("files", {}).items():
            if copy is None:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(path)
            elif os.path.lexists(copy):
                _move(copy, path)
            # else: an earlier restore, itself interrupted, has moved it there already
        _sync_directories(index.get("files", {}))
        for directory in reversed(index.get("created", [])):
            # only what this change made, and only if nobody has put anything there since
            with contextlib.suppress(OSError):
                os.rmdir(directory)

    def forget(self) -> None:
        # the index first: without it the copies mean nothing
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.index)
        shutil.rmtree(self.directory, ignore_errors=True)


# -- lookup tables ------------------------------------------------------------------------------------------------


def database_type() -> str:
    """The table type of this machine's Postfix (hash, lmdb, ...)."""
    return run_command(["postconf", "-dh", "default_database_type"])[1].strip() or "hash"


def compiled_path(path: str, kind: t.Optional[str] = None) -> str:
    suffix = {"hash": ".db", "btree": ".db"}.get(kind or database_type(), "." + (kind or database_type()))
    return path + suffix


def compiled_is_current(path: str) -> bool:
    if not shutil.which("postconf", path="/usr/sbin:/usr/bin"):
        return True
    try:
        return os.stat(compiled_path(path)).st_mtime >= os.stat(path).st_mtime
    except FileNotFoundError:
        return False


def compile_maps(maps: t.Sequence[File]) -> t.Tuple[t.List[File], t.List[Problem]]:
    """The compiled tables as files, and what postmap(1) complained of: it warns of a malformed line and exits with 0."""
    kind = database_type()
    compiled = []
    problems = []  # type: t.List[Problem]
    with temporary_directory() as directory:
        # a main.cf of its own: the live one may not exist yet, and must not decide here
        with open(os.path.join(directory, "main.cf"), "w") as handle:
            handle.write("compatibility_level = 2\n")
        for source in maps:
            text = os.path.join(directory, os.path.basename(source.path))
            with open(text, "wb") as binary:
                binary.write(source.content)
            code, out, err = run_command(["postmap", "-c", directory, "%s:%s" % (kind, text)])
            complaints = (out + err).replace(text, source.path).strip()
            table = read_file(compiled_path(text, kind))
            if code or complaints or table is None:
                problems.append(Problem(source.path, complaints or "postmap failed with exit code %d" % code))
            else:
                compiled.append(
                    File(compiled_path(source.path, kind), table, source.mode, source.owner, source.group, secret=True)
                )
    return compiled, problems


# -- files --------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def temporary_directory() -> t.Iterator[str]:
    """A private directory (mode 0700) that is gone afterwards."""
    directory = tempfile.mkdtemp(prefix="port587-")
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _staged_name(path: str) -> str:
    return os.path.join(os.path.dirname(path), STAGED_PREFIX + os.path.basename(path))


def _stage(new: File, moment: float) -> str:
    """Write a file beside its place, complete with owner and mode, on disk before the rename."""
    staged = _staged_name(new.path)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(staged)
    uid, gid = _ids(new)
    descriptor = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as handle:
            os.fchown(handle.fileno(), uid, gid)
            os.fchmod(handle.fileno(), new.mode)
            handle.write(new.content)
            handle.flush()
            os.fsync(handle.fileno())
        os.utime(staged, (moment, moment))
    except BaseException:
        os.unlink(staged)
        raise
    return staged


def _discard(staged: t.Sequence[t.Tuple[str, str]], created: t.Sequence[str]) -> None:
    for temporary, _path in staged:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
    for directory in reversed(created):
        with contextlib.suppress(OSError):
            os.rmdir(directory)


def _copy(source: str, target: str) -> None:
    """A copy with owner, mode and times. Never a hard link: Postfix notices a replaced table by its link count."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(target)
    if os.path.islink(source):
        os.symlink(os.readlink(source), target)
        return
    status = os.stat(source)
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as out, open(source, "rb") as handle:
        shutil.copyfileobj(handle, out)
        out.flush()
        os.fchown(out.fileno(), status.st_uid, status.st_gid)
        os.fsync(out.fileno())
    shutil.copystat(source, target)


def _move(source: str, target: str) -> None:
    """Put a file in place by rename, which needs no space, so that a full disk can't stand in the way of a roll-back."""
    try:
        os.rename(source, target)
    except OSError as exc:
        if exc.errno != errno.EXDEV:
            raise
        staged = _staged_name(target)
        _copy(source, staged)
        os.rename(staged, target)


def _make_directory(wanted: Directory, only_missing: bool = False) -> t.List[str]:
    """Make a directory and its missing parents; those that were made, outermost first."""
    created = []
    missing = wanted.path
    while not os.path.isdir(missing):
        created.insert(0, missing)
        missing = os.path.dirname(missing)
    for path in created:
        os.mkdir(path, 0o755)
    if not only_missing:
        uid, gid = _ids(wanted)
        os.chown(wanted.path, uid, gid)
        os.chmod(wanted.path, wanted.mode)
    return created


def _private_directory(path: str) -> None:
    os.makedirs(path, mode=0o700, exist_ok=True)


def _sync_directories(paths: t.Iterable[str]) -> None:
    for directory in sorted({os.path.dirname(p) for p in paths}):
        if os.path.isdir(directory):
            descriptor = os.open(directory, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def _ids(wanted: t.Union[File, Directory]) -> t.Tuple[int, int]:
    try:
        return pwd.getpwnam(wanted.owner).pw_uid, grp.getgrnam(wanted.group).gr_gid
    except KeyError:
        raise TransactionError(
            "%s has to belong to %s:%s, but this server has no such user or group; nothing was changed"
            % (wanted.path, wanted.owner, wanted.group)
        )


def _same_attributes(path: str, wanted: t.Union[File, Directory], is_directory: bool = False) -> bool:
    try:
        status = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    kind = stat.S_ISDIR if is_directory else stat.S_ISREG
    return kind(status.st_mode) and _attributes(status) == (wanted.mode, wanted.owner, wanted.group)


def _attributes(status: os.stat_result) -> t.Tuple[int, str, str]:
    def name(lookup: t.Callable[[int], t.Any], number: int) -> str:
        try:
            return str(lookup(number)[0])
        except KeyError:
            return str(number)

    return stat.S_IMODE(status.st_mode), name(pwd.getpwuid, status.st_uid), name(grp.getgrgid, status.st_gid)


def _same_file(wanted: File) -> bool:
    return _same_attributes(wanted.path, wanted) and read_file(wanted.path) == wanted.content


# -- what is shown ------------------------------------------------------------------------------------------------


def _header(path: str, attributes: t.Optional[t.Tuple[int, str, str]]) -> str:
    return path if attributes is None else "%s (%04o %s:%s)" % ((path,) + attributes)


def _live_header(path: str) -> str:
    return _header(path, _attributes(os.lstat(path)) if os.path.lexists(path) else None)


def _diff(wanted: File) -> t.Dict[str, str]:
    before = read_file(wanted.path) or b""
    texts = [before, wanted.content]
    if wanted.secret:
        shown = ["" if not before else MASKED, MASKED if before == wanted.content or not before else MASKED + "(changed)\n"]
    else:
        shown = [text.decode("utf-8", "replace") for text in texts]
    return {
        "before_header": _live_header(wanted.path),
        "after_header": _header(wanted.path, (wanted.mode, wanted.owner, wanted.group)),
        "before": shown[0],
        "after": shown[1],
    }


def _removal_diff(path: str) -> t.Dict[str, str]:
    # what an older version wrote may have been a secret, and nobody can tell any more
    return {
        "before_header": _live_header(path),
        "after_header": path + " (removed: written by an earlier version, no longer used)",
        "before": "(present)\n",
        "after": "",
    }


def _directory_diff(wanted: Directory) -> t.Dict[str, str]:
    before = _attributes(os.lstat(wanted.path)) if os.path.lexists(wanted.path) else None
    return {
        "before_header": wanted.path,
        "after_header": wanted.path,
        "before": "" if before is None else "directory %04o %s:%s\n" % before,
        "after": "directory %04o %s:%s\n" % (wanted.mode, wanted.owner, wanted.group),
    }


def _describe(problem: Problem) -> str:
    if problem.line is None:
        return "%s: %s" % (problem.path, problem.text)
    return "%s line %d: %s" % (problem.path, problem.line, problem.text)


def _unique(lines: t.Iterable[str]) -> t.List[str]:
    seen = []  # type: t.List[str]
    for line in lines:
        if line not in seen:
            seen.append(line)
    return seen


# -- state --------------------------------------------------------------------------------------------------------


def remembered_proofs(state_directory: str = STATE_DIRECTORY) -> t.Dict[str, t.Dict[str, t.Any]]:
    """What proves each daemon that transactions of this host look after, by the daemon's name."""
    proofs = {}  # type: t.Dict[str, t.Dict[str, t.Any]]
    try:
        names = sorted(os.listdir(state_directory))
    except FileNotFoundError:
        return proofs
    for name in names:
        proofs.update(_load_json(os.path.join(state_directory, name, "manifest.json")).get("proofs", {}))
    return proofs


def _load_json(path: str) -> t.Dict[str, t.Any]:
    content = read_file(path)
    if not content:
        return {}
    loaded = json.loads(content.decode("utf-8"))
    return loaded if isinstance(loaded, dict) else {}


def _write_json(path: str, value: t.Dict[str, t.Any]) -> None:
    temporary = path + ".new"
    with open(temporary, "w") as handle:
        json.dump(value, handle, indent=1, sort_keys=True)
        handle.flush()
        os.fsync(handle.fileno())
    os.rename(temporary, path)
    _sync_directories([path])


@contextlib.contextmanager
def _lock(state_directory: str, timeout: float) -> t.Iterator[None]:
    _private_directory(state_directory)
    path = os.path.join(state_directory, "lock")
    with open(path, "a") as handle:
        deadline = time.time() + timeout
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as exc:
                if exc.errno not in (errno.EAGAIN, errno.EACCES):
                    raise
                if time.time() >= deadline:
                    raise TransactionError(
                        "another run is changing this server (it holds %s); nothing was changed, try again when it has ended" % path
                    )
                time.sleep(0.1)
        yield


@contextlib.contextmanager
def _signals_raise() -> t.Iterator[None]:
    """A run that is told to stop (Ctrl-C on the controller, a lost connection, a shutdown) rolls back before it obeys."""

    def handler(number: int, _frame: t.Any) -> None:
        raise _Interrupted("interrupted by signal %d" % number)

    previous = [signal.signal(n, handler) for n in _SIGNALS]
    try:
        yield
    finally:
        for number, old in zip(_SIGNALS, previous):
            signal.signal(number, old)
