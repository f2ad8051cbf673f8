# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Runs on the server: Python 3.6 and the standard library only.

"""A change of configuration as a transaction: stage, validate, swap, activate, prove, or roll back.

What makes it safe to be killed at any point is the journal (journal.py). Before a live file is touched, everything that
needs space is written: the new files and copies of the old ones, beside them, and the journal, which says so. From
then on there are only renames. The journal goes away when the daemons were proved. A run that finds one takes the
interrupted change back first, daemons included, and then does its own work.
"""

import contextlib
import hashlib
import os
import re
import signal
import time
import typing as t

from ansible_collections.port587.mail.plugins.module_utils._daemons import daemons, kernel
from ansible_collections.port587.mail.plugins.module_utils._transaction.files import (
    Activation,
    Daemon,
    Directory,
    File,
    Problem,
    ProofError,
    TransactionError,
    View,
    attributes,
    before_name,
    compiled_path,
    copy,
    database_type,
    has_command,
    ids,
    made_here,
    missing_directories,
    private_directory,
    read_file,
    remove,
    run_command,
    same_attributes,
    set_attributes,
    settled,
    staged_name,
    sync_directories,
    temporary_directory,
    write,
    write_settled,
)
from ansible_collections.port587.mail.plugins.module_utils._transaction.journal import (
    STATE_DIRECTORY,
    Journal,
    dump_json,
    load_json,
    lock,
    manifest,
    manifest_path,
    manifests,
    remembered_proofs,
)

__all__ = [
    "Activation",
    "Daemon",
    "Directory",
    "File",
    "Problem",
    "ProofError",
    "Result",
    "TransactionError",
    "View",
    "read_file",
    "run",
    "run_command",
    "shortened",
]

MASKED = "(contents hidden: this file holds secrets)\n"

#: Whether systemd has to read its units anew is a matter of these.
UNITS = "/etc/systemd/system/"

#: Where programs of this collection lie.
PROGRAMS = "/usr/local/lib/port587/"

#: Longer files are shown by their changed lines only, and of these so many: a table can have a hundred thousand.
SHOWN_LINES = 2000


class Result(t.NamedTuple):
    changed: bool
    diff: t.List[t.Dict[str, str]]
    activated: t.Dict[str, str]
    not_validated: t.List[str]
    recovered: bool
    warnings: t.List[str]
    #: copies of what somebody else had there
    originals: t.List[str]
    #: files of an earlier run that stay although they are no longer wanted
    kept: t.List[str]


def run(
    name: str,
    files: t.Sequence[File],
    directories: t.Sequence[Directory] = (),
    activations: t.Sequence[Activation] = (),
    validate: t.Optional[t.Callable[[View], t.List[Problem]]] = None,
    check_mode: bool = False,
    lock_timeout: float = 120.0,
    state_directory: str = STATE_DIRECTORY,
    keep_others: bool = False,
    keep: str = "",
) -> Result:
    """Make ``files`` and ``directories`` so, or change nothing and raise TransactionError.

    ``name`` is the transaction's identity: files that an earlier run of the same name wrote and that are no longer
    wanted are removed, and a daemon that it set up and that is no longer wanted is stopped and disabled, unless
    ``keep_others`` says that these are only some of them. Files that the pattern ``keep`` matches stay, and are there
    if they are wanted again.
    ``validate`` is a check of the caller's own, in addition to those of the daemons.
    """
    if not re.match(r"[a-z][a-z0-9_-]*$", name):
        raise TransactionError(
            "name: %r is no name for a transaction; write one in small letters, such as postfix" % name
        )
    paths = [f.path for f in files]
    for path in paths:
        if paths.count(path) > 1 or not os.path.isabs(path):
            raise TransactionError(
                "%s: %s" % (path, "is given twice" if os.path.isabs(path) else "is not an absolute path")
            )
    change = _Change(name, files, directories, activations, validate, state_directory, keep_others, keep)
    try:
        with lock(state_directory, lock_timeout, check_mode):
            return change.predict() if check_mode else change.make()
    except OSError as exc:
        # disk full, read-only file system, ...: live files were not touched yet, else it would be a TransactionError
        raise TransactionError(
            "%s: %s; this change was not made" % (exc.filename or name, exc.strerror or exc)
        ) from exc


class _Was(t.NamedTuple):
    """A daemon before the change."""

    running: bool
    enabled: bool


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
        keep_others: bool,
        keep: str,
    ) -> None:
        self.name = name
        self.files = list(files)
        self.directories = directories
        self.activations = activations
        self.own_check = validate
        self.state_directory = state_directory
        self.keep_others = keep_others
        self.keep = keep
        self.manifest = manifest_path(state_directory, name)
        self.journal = Journal(state_directory)
        self.beneath = {}  # type: t.Dict[str, t.Optional[str]]
        self.was = {}  # type: t.Dict[str, _Was]
        self.leaving = []  # type: t.List[Daemon]
        self.not_validated = []  # type: t.List[str]
        self.warnings = []  # type: t.List[str]

    # -- the two ways to run ------------------------------------------------------------------------------------

    def predict(self) -> Result:
        interrupted = self.journal.interrupted()
        self.beneath = self.journal.beneath()
        before = {name: _Was(*was) for name, was in (interrupted or {"daemons": {}})["daemons"].items()}
        self._look(before)
        self._compare()
        self._validate(check_mode=True)
        self._could_stage()
        return self._result(self._plan(), interrupted is not None)

    def make(self) -> Result:
        self.journal.clean_up()
        recovered = self._recover()
        for activation in self.activations:
            if not activation.daemon.installed():
                raise TransactionError("%s is not installed; this change was not made" % activation.daemon.name)
        self._look({})
        self._compare()
        self._validate(check_mode=False)
        plan = self._plan()
        if self.changed_files or self.removed or self.changed_directories or plan or self.new_manifest:
            self._apply(plan)
        return self._result(plan, recovered)

    def _result(self, plan: t.Dict[str, str], recovered: bool) -> Result:
        return Result(
            changed=bool(self.changed_files or self.removed or self.changed_directories or plan or recovered),
            diff=self.diff,
            activated=plan,
            not_validated=self.not_validated,
            recovered=recovered,
            warnings=self.warnings,
            originals=[self._original(path) for path in self._replaced() if path not in self.hidden],
            kept=self.kept,
        )

    def _recover(self) -> bool:
        """Take back what an interrupted run, of whatever name, left half done."""
        interrupted = self.journal.interrupted()
        if interrupted is None:
            return False
        try:
            self._take_back()
        except OSError as exc:
            raise TransactionError(
                "an earlier run was interrupted, and what it began can't be taken back: %s: %s"
                % (exc.filename, exc.strerror)
            ) from exc
        for name, was in sorted(interrupted["daemons"].items()):
            # one that does not come back may be cured by this very run
            self._put_back(daemons.daemon(name), _Was(*was))
        self.journal.forget()
        return True

    # -- what is different --------------------------------------------------------------------------------------

    def _look(self, before: t.Dict[str, _Was]) -> None:
        recorded = load_json(self._where(self.manifest) or "")
        wanted = [a.daemon.name for a in self.activations]
        others = [m.get("proofs", {}) for n, m in manifests(self.state_directory).items() if n != self.name]
        self.leaving = [
            daemons.daemon(name)
            for name in sorted({} if self.keep_others else recorded.get("proofs", {}))
            if name not in wanted and not any(name in proofs for proofs in others)
        ]
        for daemon in [a.daemon for a in self.activations] + self.leaving:
            installed = daemon.installed()
            self.was[daemon.name] = before.get(daemon.name) or _Was(
                installed and daemon.running(), installed and daemon.enabled()
            )

    def _where(self, path: str) -> t.Optional[str]:
        return self.beneath.get(path, path)

    def _present(self, path: str) -> bool:
        where = self._where(path)
        return where is not None and os.path.lexists(where)

    def _replaced(self) -> t.List[str]:
        """The files of somebody else that the wanted ones take the place of."""
        return [
            f.path for f in self.changed_files if f.path in self.adopted and os.path.isfile(self._where(f.path) or "")
        ]

    def _compare(self) -> None:
        recorded = load_json(self._where(self.manifest) or "")
        previous = recorded.get("files", [])
        others = {p for n, m in manifests(self.state_directory).items() if n != self.name for p in m.get("files", [])}
        maps = [f for f in self.files if f.map] if has_command("postmap") else []
        mine = {f.path for f in self.files} | {compiled_path(f.path) for f in maps}
        mine |= set(previous if self.keep_others else ())

        # what has become another part's is not to be removed from it, nor what a person made a directory of
        unwanted = [
            p
            for p in previous
            if p not in mine and p not in others and self._present(p) and not os.path.isdir(self._where(p) or "")
        ]
        self.kept = [p for p in unwanted if self.keep and re.match(self.keep, p)]
        self.removed = [p for p in unwanted if p not in self.kept]
        self.adopted = [p for p in mine if p not in previous and self._present(p)]
        self.changed_directories = [d for d in self.directories if not same_attributes(d.path, d)]
        self.changed_files = [f for f in self.files if not self._same(f)]
        self.stale = [f for f in maps if f in self.changed_files or not self._compiled(f)]

        # What lies there before the first run of a daemon that is not running came with its package: not shown, as
        # check mode on a bare host can't know it.
        first = self.activations and not previous and not any(was.running for was in self.was.values())
        self.hidden = self.adopted if first else []
        self.diff = [self._diff(f, self.hidden) for f in self.changed_files]
        self.diff += [self._removal_diff(p) for p in self.removed]
        self.diff += [
            _directory_diff(d, bool(first)) for d in (self.directories if first else self.changed_directories)
        ]
        self.diff += [
            _entry(f.path, "(table not compiled from this)\n", "(compiled)\n")
            for f in self.stale
            if f not in self.changed_files
        ]

        directories = {d.path for d in self.directories}
        directories |= set(recorded.get("directories", []) if self.keep_others else ())
        wanted = manifest(mine, directories, self.activations)
        self.new_manifest = None  # type: t.Optional[File]
        if wanted != recorded:
            # swapped in with the files that it lists, and taken back with them
            self.new_manifest = File(self.manifest, dump_json(wanted), 0o600)

    def _same(self, wanted: File) -> bool:
        where = self._where(wanted.path)
        return same_attributes(where, wanted) and read_file(where or "") == wanted.content

    def _compiled(self, source: File) -> bool:
        """Whether the compiled table is there, can be read by whom it has to, and is no older than its source."""
        table, text = self._where(compiled_path(source.path)), self._where(source.path)
        if table is None or text is None or not same_attributes(table, source):
            return False
        return os.stat(table).st_mtime >= os.stat(text).st_mtime

    # -- is it right --------------------------------------------------------------------------------------------

    def _validate(self, check_mode: bool) -> None:
        self.view = View(self.files, self.removed, self.beneath)
        problems = []  # type: t.List[Problem]
        if self.stale:
            compiled, problems = compile_maps(self.stale)
            self.changed_files = compiled + self.changed_files
        elif any(f.map for f in self.files) and not has_command("postmap"):
            self.not_validated.append("lookup tables: Postfix is not installed yet")
        if self.own_check:
            problems += self.own_check(self.view)
        # a daemon whose own files do not change was validated when they did
        if self.changed_files or self.removed:
            for activation in self.activations:
                if activation.daemon.installed():
                    problems += activation.daemon.validate(self.view)
                else:
                    self.not_validated.append("%s: not installed yet" % activation.daemon.name)
        if check_mode:
            # check mode has only predicted what other parts write
            self.not_validated += [_describe(p) for p in problems if made_here(p.absent)]
            problems = [p for p in problems if not made_here(p.absent)]
        if problems:
            raise TransactionError(
                "not valid, this change was not made:\n%s" % "\n".join(_unique(_describe(p) for p in problems)),
                problems=[{"path": p.path, "line": p.line, "text": p.text} for p in problems],
            )
        for wanted in list(self.changed_files) + list(self.changed_directories) if check_mode else []:
            try:
                ids(wanted)
            except TransactionError as exc:
                # may be added by a task that check mode has only predicted
                self.not_validated += [line for line in [exc.message] if line not in self.not_validated]

    def _could_stage(self) -> None:
        """What staging would find, for check mode, which leaves no trace."""
        for new in self.changed_files:
            directory = (missing_directories([os.path.dirname(new.path)]) + [new.path])[0]
            system = os.statvfs(os.path.dirname(directory))
            if system.f_flag & os.ST_RDONLY:
                raise TransactionError("%s: Read-only file system" % new.path)
            if system.f_bavail * system.f_frsize < len(new.content):
                raise TransactionError("%s: No space left on device" % new.path)

    def _plan(self) -> t.Dict[str, str]:
        """What becomes of each daemon: started, reloaded or restarted. Daemons with nothing to do are not in it."""
        plan = {}
        for daemon in (a.daemon for a in self.activations):
            was = self.was[daemon.name]
            if not was.running:
                plan[daemon.name] = "started"
            elif self.changed_files or self.removed:
                # a reload would not revive an smtpd that died of what somebody has changed by hand
                restart = daemon.needs_restart(self.view) or not self._serves(daemon)
                plan[daemon.name] = "restarted" if restart else "reloaded"
            elif not was.enabled:
                plan[daemon.name] = "enabled"
        for daemon in self.leaving:
            if self.was[daemon.name].running or self.was[daemon.name].enabled:
                plan[daemon.name] = "stopped"
        return plan

    def _serves(self, daemon: Daemon) -> bool:
        """Whether it answers as it did when it was last proved, with whatever certificate."""
        remembered = remembered_proofs(self.state_directory).get(daemon.name, {})
        proofs = [dict(proof, certificate=None) for proof in remembered.get("proofs", [])]
        proved = dict(remembered, proofs=proofs, certificate=None)
        try:
            daemon.prove(proved, patience=0)
        except (ProofError, OSError):
            return False
        return True

    # -- the change ---------------------------------------------------------------------------------------------

    def _apply(self, plan: t.Dict[str, str]) -> None:
        began = time.time()
        files = self.changed_files
        for activation in self.activations:
            files, note = activation.daemon.in_order(files, self.view)
            self.not_validated += [note] if note else []
        files = files + ([self.new_manifest] if self.new_manifest else [])
        with _deferred_signals() as told_to_stop:
            try:
                self._stage(files)
                told_to_stop()
                self.journal.swap()
            except BaseException:
                self.journal.clean_up()
                raise
            try:
                for daemon in self.leaving:
                    if daemon.name in plan:
                        daemon.stop()
                        daemon.disable()
                self._swap(files)
                for activation in self.activations:
                    told_to_stop()
                    self._activate(activation.daemon, plan.get(activation.daemon.name))
                for activation in self.activations:
                    told_to_stop()
                    if activation.daemon.name in plan:
                        activation.daemon.prove(activation.proof)
                        for complaint in activation.daemon.complaints_since(began):
                            raise ProofError(complaint)
                told_to_stop()
                self.journal.finish()
            except BaseException as exc:
                raise self._roll_back(exc, began) from exc
            with contextlib.suppress(OSError):
                # the change is made; what is left behind is removed by the next run
                self.journal.clean_up()

    def _stage(self, files: t.Sequence[File]) -> None:
        """Write everything that has to be written, beside the live files. From here on there are only renames."""
        created = missing_directories([d.path for d in self.directories] + [os.path.dirname(f.path) for f in files])
        changed = []
        for directory in self.changed_directories:
            if directory.path not in created:
                status = os.stat(directory.path)
                changed.append([directory.path, status.st_mode & 0o7777, status.st_uid, status.st_gid])
        paths = {f.path: os.path.lexists(f.path) for f in files}
        paths.update((path, True) for path in self.removed)
        self.journal.begin({"files": paths, "created": created, "changed": changed, "daemons": self.was})

        # both of a table's files get one time stamp: Postfix warns of a table older than its source
        moment = settled(os.lstat(path).st_mtime for path, there in paths.items() if there)
        described = {d.path: d for d in self.directories}
        for path in created:
            os.mkdir(path, 0o700)
            if path in described:
                set_attributes(path, described[path].mode, *ids(described[path]))
            else:
                os.chmod(path, 0o755)
        for new in files:
            write(staged_name(new.path), new, moment)
            if paths[new.path]:
                copy(new.path, before_name(new.path))
        self._keep_originals()
        sync_directories(list(paths) + created)

    def _keep_originals(self) -> None:
        """What was there before this collection took a file over is kept for good: a person's own main.cf, say."""
        for path in self._replaced():
            keep = self._original(path)
            private_directory(os.path.dirname(keep))
            copy(path, keep + ".new")
            os.rename(keep + ".new", keep)
            sync_directories([keep])

    def _original(self, path: str) -> str:
        return os.path.join(self.state_directory, self.name, "original", path.lstrip("/"))

    def _swap(self, files: t.Sequence[File]) -> None:
        for new in files:
            os.rename(staged_name(new.path), new.path)
        # last: nothing points to these any more
        for path in self.removed:
            os.rename(path, before_name(path))
        for directory in self.changed_directories:
            set_attributes(directory.path, directory.mode, *ids(directory))
        swapped = [f.path for f in files] + self.removed
        sync_directories(swapped)
        _read_units_of(swapped)
        self.warnings = kernel.raise_limits(swapped)

    def _take_back(self) -> None:
        """The files; what runs on them is another step."""
        self.journal.restore()
        _read_units_of((self.journal.interrupted() or {"files": {}})["files"])

    def _activate(self, daemon: Daemon, how: t.Optional[str]) -> None:
        if how and not self.was[daemon.name].enabled:
            daemon.enable()
        if how == "started":
            daemon.start()
        elif how == "restarted":
            daemon.restart()
        elif how == "reloaded":
            daemon.reload()

    def _roll_back(self, cause: BaseException, began: float) -> TransactionError:
        words = []  # type: t.List[str]
        with contextlib.suppress(OSError):
            words = _unique(line for a in self.activations for line in a.daemon.words_since(began))
        said = "%s%s" % (cause, "".join("\n  " + w for w in words[-10:]))
        try:
            self._take_back()
            daemons = [a.daemon for a in self.activations] + self.leaving
            state = [self._put_back(daemon, self.was[daemon.name]) for daemon in daemons]
            self.journal.forget()
        except OSError as exc:
            return TransactionError(
                "failed, and NOT all could be put back (%s: %s), which the next run tries again: %s"
                % (exc.filename, exc.strerror, said),
                rolled_back=False,
                daemon_log=words,
            )
        return TransactionError(
            "rolled back, %s: %s" % (", ".join(state) or "the previous files are in place", said),
            rolled_back=True,
            daemon_log=words,
        )

    def _put_back(self, daemon: Daemon, was: _Was) -> str:
        """Let a daemon be as it was, on the previous files; in words."""
        try:
            if was.running:
                # a reload would not revive a throttled smtpd, nor a master that is gone
                daemon.restart()
                # what was proved then: the new proofs may ask for what only the new files have
                daemon.prove(remembered_proofs(self.state_directory).get(daemon.name, {}))
                state = "%s runs on as before" % daemon.name
            else:
                daemon.stop()
                state = "%s is stopped, as it was before" % daemon.name
            if was.enabled and not daemon.enabled():
                daemon.enable()
            if not was.enabled and daemon.enabled():
                daemon.disable()
            return state
        except (ProofError, TransactionError) as exc:
            return "%s does not answer as it should on the previous files either (%s)" % (daemon.name, exc)

    # -- what is shown ------------------------------------------------------------------------------------------

    def _diff(self, wanted: File, hidden: t.Sequence[str]) -> t.Dict[str, str]:
        where = self._where(wanted.path)
        text = MASKED if wanted.secret else _shown(wanted.path, wanted.content)
        if where is None or wanted.path in hidden or not os.path.lexists(where):
            return _entry(wanted.path, "", shortened("", text)[1] or "(empty)\n", after_header=_header(wanted))
        before = read_file(where) or b""
        shown = shortened(_shown(wanted.path, before), text)
        if before == wanted.content:
            shown = ("(attributes)\n", "(attributes, see the header)\n")
        elif wanted.secret:
            shown = (MASKED, MASKED + "(changed)\n")
        header = "%s (%04o %s:%s)" % ((wanted.path,) + attributes(os.lstat(where)))
        return _entry(wanted.path, *shown, before_header=header, after_header=_header(wanted))

    def _removal_diff(self, path: str) -> t.Dict[str, str]:
        # what an older version wrote may have been a secret, and nobody can tell any more
        return _entry(
            path, "(present)\n", "", after_header=path + " (removed: written by an earlier version, no longer used)"
        )


def _shown(path: str, content: bytes) -> str:
    """A file's content in a diff; of a program of this collection, which nobody reads there, which one it is."""
    if path.startswith(PROGRAMS):
        return "(this collection's program, sha256 %s)\n" % hashlib.sha256(content).hexdigest()
    return content.decode("utf-8", "replace")


def _entry(path: str, before: str, after: str, before_header: str = "", after_header: str = "") -> t.Dict[str, str]:
    return {
        "before_header": before_header or path,
        "after_header": after_header or path,
        "before": before,
        "after": after,
    }


def _header(wanted: File) -> str:
    return "%s (%04o %s:%s)" % (wanted.path, wanted.mode, wanted.owner, wanted.group)


def _directory_diff(wanted: Directory, hidden: bool) -> t.Dict[str, str]:
    there = os.path.isdir(wanted.path) and not hidden
    before = "directory %04o %s:%s\n" % attributes(os.stat(wanted.path)) if there else ""
    return _entry(wanted.path, before, "directory %04o %s:%s\n" % (wanted.mode, wanted.owner, wanted.group))


def shortened(before: str, after: str) -> t.Tuple[str, str]:
    """The two sides of a diff; of long ones only the lines that differ."""
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


def _read_units_of(paths: t.Iterable[str]) -> None:
    """Let systemd read its units anew if some of them are among these: it is slow, and runs all generators again.

    systemd's own NeedDaemonReload does not tell: 247 overlooks a new drop-in.
    """
    if any(path.startswith(UNITS) for path in paths):
        run_command(["systemctl", "daemon-reload"])


def _describe(problem: Problem) -> str:
    if problem.line is None:
        return "%s: %s" % (problem.path, problem.text)
    return "%s line %d: %s" % (problem.path, problem.line, problem.text)


def _unique(lines: t.Iterable[str]) -> t.List[str]:
    return list(dict.fromkeys(lines))


# -- lookup tables ------------------------------------------------------------------------------------------------


def compile_maps(maps: t.Sequence[File]) -> t.Tuple[t.List[File], t.List[Problem]]:
    """The compiled tables, and what postmap(1) complained of: it warns of a malformed line and exits with 0."""
    kind = database_type()
    compiled = []
    problems = []  # type: t.List[Problem]
    with temporary_directory() as directory:
        # a main.cf of its own: the live one may not exist yet, and must not decide here
        write_settled(os.path.join(directory, "main.cf"), b"compatibility_level = 2\n")
        text = os.path.join(directory, "table")
        for source in maps:
            write_settled(text, source.content)
            code, out, err = run_command(["postmap", "-c", directory, "%s:%s" % (kind, text)])
            table = read_file(compiled_path(text, kind))
            complaints = [_complaint(line, text, source.path) for line in (out + err).splitlines()]
            if code or complaints or table is None:
                problems += complaints or [Problem(source.path, "postmap ends with %d" % code)]
            else:
                compiled.append(
                    File(compiled_path(source.path, kind), table, source.mode, source.owner, source.group, secret=True)
                )
            remove(compiled_path(text, kind))
    return compiled, problems


def _complaint(line: str, text: str, path: str) -> Problem:
    # "postmap: warning: FILE, line N: expected format: key whitespace value"
    found = re.search(r"(?:%s)(?:\.\w+)?, line (\d+): (.*)" % re.escape(text), line)
    if found:
        return Problem(path, found.group(2), int(found.group(1)))
    return Problem(path, re.sub(r"^postmap: (warning|fatal|error): ", "", line.replace(text, path)))


# -- signals ------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _deferred_signals() -> t.Iterator[t.Callable[[], None]]:
    """A run that is told to stop (Ctrl-C, a shutdown) ends the step it is at, rolls back, and then obeys."""
    received = []  # type: t.List[int]

    def told_to_stop() -> None:
        if received:
            raise TransactionError("interrupted by signal %d" % received[0])

    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    previous = [signal.signal(number, lambda got, _frame: received.append(got)) for number in numbers]
    try:
        yield told_to_stop
    finally:
        for number, old in zip(numbers, previous):
            signal.signal(number, old)
