# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Runs on the server: Python 3.6 and the standard library only.

"""A change of configuration as a transaction: stage, validate, swap, activate, prove, or roll back.

The journal (journal.py) makes it safe to kill a run at any point. Before a live file is touched, everything that needs
space is written: the new files, copies of the old ones next to them, and the journal, which lists them. After that
there are only renames. The journal is removed once the daemons are proved. A run that finds a journal first rolls the
interrupted change back, daemons included, and then does its own work.

Each step has its own file, and depends only on its arguments:

compare     find the differences between the server and the wanted files
validate    check the change with compilers, the daemons' checkers and the caller's check
activation  decide whether to start, reload or restart each daemon
diff        describe the change for Ansible's diff mode
generation  notice that another run has changed the server meanwhile
apply       stage and swap (swap.py) the files, activate and prove the daemons; or roll back
"""

import os
import typing as t

from ansible_collections.port587.mail.plugins.module_utils._transaction import record as records
from ansible_collections.port587.mail.plugins.module_utils._transaction.activation import affected, plan
from ansible_collections.port587.mail.plugins.module_utils._transaction.apply import Applied, Prepared, apply, recover
from ansible_collections.port587.mail.plugins.module_utils._transaction.commands import run_command
from ansible_collections.port587.mail.plugins.module_utils._transaction.compare import compare
from ansible_collections.port587.mail.plugins.module_utils._transaction.daemon import (
    Activation,
    Daemon,
    DaemonOf,
    State,
)
from ansible_collections.port587.mail.plugins.module_utils._transaction.diff import diff
from ansible_collections.port587.mail.plugins.module_utils._transaction.errors import ProofError, TransactionError
from ansible_collections.port587.mail.plugins.module_utils._transaction.files import (
    edited_name,
    original_name,
    read_file,
)
from ansible_collections.port587.mail.plugins.module_utils._transaction.journal import Journal, daemons_of
from ansible_collections.port587.mail.plugins.module_utils._transaction.lock import lock
from ansible_collections.port587.mail.plugins.module_utils._transaction.manifest import (
    Manifest,
    load,
    manifests,
    path_of,
)
from ansible_collections.port587.mail.plugins.module_utils._transaction.request import Request
from ansible_collections.port587.mail.plugins.module_utils._transaction.state import STATE_DIRECTORY
from ansible_collections.port587.mail.plugins.module_utils._transaction.tree import Directory, File, Problem
from ansible_collections.port587.mail.plugins.module_utils._transaction.validate import (
    compile_stale,
    could_stage,
    validate,
)
from ansible_collections.port587.mail.plugins.module_utils._transaction.view import View

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
]


#: Of a damaged manifest or record
_ANEW = (
    "is damaged, and is begun anew (a copy is kept beside it, with .damaged at its end). What is there is taken over; "
    "what only this file knew to be no longer wanted stays"
)


class Result(t.NamedTuple):
    changed: bool
    diff: t.List[t.Dict[str, str]]
    activated: t.Dict[str, str]
    not_validated: t.List[str]
    recovered: bool
    warnings: t.List[str]
    #: copies of replaced files from another source
    originals: t.List[str]
    #: files that have got their original content back
    restored: t.List[str]
    #: copies of files that somebody else had changed, and that are gone
    edited: t.List[str]
    #: files of an earlier run that are kept although they are not wanted now
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
    *,
    daemon_of: DaemonOf,
) -> Result:
    """Install ``files`` and ``directories``, or change nothing and raise TransactionError.

    ``name`` is the transaction's identity: files that an earlier run of the same name wrote and that are no longer
    wanted are removed, or get their original content back. A daemon that it set up and that is no longer wanted is
    stopped and disabled; if it ran before, or has configuration of others, it is restarted without these files.
    ``keep_others`` turns that off, for a call with only some of the transaction's files. Files that match the pattern
    ``keep`` are never removed.
    ``validate`` is the caller's own check, in addition to those of the daemons.
    ``daemon_of`` makes the daemon of an earlier run from its description.
    """
    request = Request(name, files, directories, activations, daemon_of, validate, keep_others, keep, state_directory)
    request.check()
    try:
        with lock(state_directory, lock_timeout, check_mode):
            return _predict(request) if check_mode else _make(request)
    except OSError as exc:
        # disk full, read-only file system, ...: live files were not touched yet, else it would be a TransactionError
        raise TransactionError(
            "%s: %s; this change was not made" % (exc.filename or name, exc.strerror or exc)
        ) from exc


def _predict(request: Request) -> Result:
    journal = Journal(request.state_directory)
    interrupted = journal.interrupted()
    before = {name: was for name, (_description, was) in daemons_of(interrupted).items()}
    prepared = _prepare(request, View(beneath=journal.beneath()), before, check_mode=True)
    notes = could_stage(prepared.files, prepared.difference)
    warnings = ["%s is damaged (%s)" % pair for pair in journal.damaged().items()]
    return _result(request, prepared, interrupted is not None, Applied(warnings, notes))


def _make(request: Request) -> Result:
    journal = Journal(request.state_directory)
    warnings = journal.mend()
    journal.clean_up()
    recovered = recover(request, journal)
    for activation in request.activations:
        if not activation.daemon.installed():
            raise TransactionError("%s is not installed; this change was not made" % activation.daemon.name)
    prepared = _prepare(request, View(), {}, check_mode=False)
    applied = Applied([], [])
    if prepared.changes() or prepared.difference.manifest or prepared.anew:
        applied = apply(request, journal, prepared)
    applied = applied._replace(warnings=warnings + applied.warnings)
    return _result(request, prepared, recovered, applied)


def _prepare(request: Request, live: View, before: t.Mapping[str, State], check_mode: bool) -> Prepared:
    """Everything that is known before the first change. ``live``: the file system now, or after recovery."""
    places = path_of(request.state_directory, request.name), records.path_of(request.state_directory)
    recorded, record = load(live.where(places[0])), records.load(live.where(places[1]))
    anew = [path for path, one in zip(places, (recorded, record)) if one["version"] is None]
    others = [one for name, one in manifests(request.state_directory).items() if name != request.name]
    daemons = affected(request, recorded, others, record, before)
    difference = compare(request, recorded, others, record, live)

    # What lies there before the first run of a daemon that is not running came with its package.
    running = any(was.running for was in daemons.was.values())
    first = bool(request.activations and not recorded["files"] and not running)

    originals = [File(path, read_file(copy) or b"") for path, copy in difference.restored.items()]
    view = View([*request.files, *originals], difference.removed, live.beneath)
    compiled, problems = compile_stale(difference)
    files = compiled + difference.files
    # without the manifest it is not known whether the daemon has loaded what is there
    changed = bool(files or difference.removed or difference.restored or recorded["version"] is None)
    not_validated = validate(request, changed, view, problems, check_mode)
    return Prepared(
        difference=difference,
        files=files,
        view=view,
        daemons=daemons,
        plan=plan(daemons, changed, view, request.state_directory),
        replaced=_replaced(request, recorded, record, [f.path for f in files if f.path in difference.adopted], live),
        diff=diff(difference, request.directories, live, first),
        not_validated=not_validated,
        first=first,
        anew=anew,
    )


def _replaced(
    request: Request, recorded: Manifest, record: records.Record, adopted: t.Sequence[str], live: View
) -> t.List[str]:
    """Those of the paths at which there is a file from another source."""
    there = {path: live.before(path) for path in adopted}
    found = [path for path in adopted if there[path] is not None]
    if recorded["version"] is not None:
        return found
    # the damaged manifest had most of them, and the originals of these are kept already
    return [
        path
        for path in found
        if records.is_edited(record, path, there[path])
        and not os.path.lexists(original_name(request.state_directory, request.name, path))
    ]


def _result(request: Request, prepared: Prepared, recovered: bool, applied: Applied) -> Result:
    def original(path: str) -> str:
        return original_name(request.state_directory, request.name, path)

    return Result(
        changed=prepared.changes() or recovered,
        diff=prepared.diff,
        activated=prepared.plan,
        not_validated=prepared.not_validated + applied.notes,
        recovered=recovered,
        warnings=["%s: %s" % (path, _ANEW) for path in prepared.anew] + applied.warnings,
        # files of the daemon's package are not the user's
        originals=[] if prepared.first else [original(path) for path in prepared.replaced],
        restored=sorted(prepared.difference.restored),
        edited=[edited_name(request.state_directory, path) for path in prepared.difference.edited],
        kept=prepared.difference.kept,
    )
