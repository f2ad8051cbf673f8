# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Runs on the server: Python 3.6 and the standard library only.

"""Carry out a validated change and prove it, or roll it back; and roll back an interrupted one."""

import contextlib
import re
import signal
import time
import typing as t

from ansible_collections.port587.mail.plugins.module_utils._transaction import generation, swap
from ansible_collections.port587.mail.plugins.module_utils._transaction import record as records
from ansible_collections.port587.mail.plugins.module_utils._transaction.activation import (
    Affected,
    activate,
    leave,
    put_back,
)
from ansible_collections.port587.mail.plugins.module_utils._transaction.compare import Difference
from ansible_collections.port587.mail.plugins.module_utils._transaction.errors import ProofError, TransactionError
from ansible_collections.port587.mail.plugins.module_utils._transaction.files import copy, remove
from ansible_collections.port587.mail.plugins.module_utils._transaction.journal import Journal, daemons_of
from ansible_collections.port587.mail.plugins.module_utils._transaction.manifest import manifests
from ansible_collections.port587.mail.plugins.module_utils._transaction.request import Request
from ansible_collections.port587.mail.plugins.module_utils._transaction.state import FORMAT, damaged_name, dump_json
from ansible_collections.port587.mail.plugins.module_utils._transaction.tree import File
from ansible_collections.port587.mail.plugins.module_utils._transaction.view import View


class Prepared(t.NamedTuple):
    """A validated change that is not made yet."""

    difference: Difference
    #: the files to write, compiled ones too
    files: t.List[File]
    view: View
    daemons: Affected
    #: the action for each daemon, by name
    plan: t.Dict[str, str]
    #: files from another source that the wanted ones replace
    replaced: t.List[str]
    diff: t.List[t.Dict[str, str]]
    not_validated: t.List[str]
    #: whether only files of the daemon's package were there
    first: bool
    #: files of the stored state that are damaged, and are written anew
    anew: t.List[str]

    def changes(self) -> bool:
        moved = self.difference.removed or self.difference.restored
        return bool(self.files or moved or self.difference.directories or self.plan)


class Applied(t.NamedTuple):
    #: requirements of the files that this server can't meet
    warnings: t.List[str]
    #: steps that could not be done safely, each with the reason
    notes: t.List[str]


def recover(request: Request, journal: Journal) -> bool:
    """Roll back an interrupted run of any name. Returns whether there was one."""
    interrupted = journal.interrupted()
    if interrupted is None:
        return False
    try:
        swap.take_back(journal)
    except OSError as exc:
        raise TransactionError(
            "an earlier run was interrupted, and what it began can't be taken back: %s: %s"
            % (exc.filename, exc.strerror)
        ) from exc
    for _name, (description, was) in sorted(daemons_of(interrupted).items()):
        # this run may cure a daemon that does not come back
        put_back(request.daemon_of(description), was, request.state_directory)
    journal.forget()
    return True


def apply(request: Request, journal: Journal, prepared: Prepared) -> Applied:
    """Make the change, or restore everything and raise TransactionError."""
    began = time.time()
    files, notes = prepared.files, []
    for daemon in prepared.daemons.readers:
        files, note = daemon.in_order(files, prepared.view)
        notes += [note] if note else []
    files = files + ([prepared.difference.manifest] if prepared.difference.manifest else [])
    record = _record(request, prepared, files)
    files = files + ([record] if record else []) + generation.mark(request.state_directory)
    with _deferred_signals() as told_to_stop:
        try:
            for path in prepared.anew:
                copy(path, damaged_name(path))
            swap.stage(request, journal, files, prepared.difference, prepared.replaced, prepared.daemons.all())
            told_to_stop()
            journal.swap()
        except BaseException:
            journal.clean_up()
            raise
        try:
            warnings = _take_over(request, prepared, files, began, told_to_stop)
            told_to_stop()
            journal.finish()
        except BaseException as exc:
            raise _roll_back(request, journal, prepared.daemons, exc, began) from exc
        with contextlib.suppress(OSError):
            # the change is made; the next run removes the leftovers
            journal.clean_up()
            for path in prepared.difference.restored.values():
                remove(path)
            notes += _remove_directories(request)
    return Applied(warnings, notes)


def _record(request: Request, prepared: Prepared, files: t.Sequence[File]) -> t.Optional[File]:
    """The record of this host, if this change adds to it."""
    path, difference, daemons = records.path_of(request.state_directory), prepared.difference, prepared.daemons
    before, ours = records.load(path), manifests(request.state_directory).values()
    created = swap.to_create(request, files, difference)
    after = records.with_directories(
        before,
        [one for one in created if not (one + "/").startswith(request.state_directory + "/")],
        # what this collection has set already is not how it was before
        [
            one
            for one in difference.directories
            if one.path not in created and not any(one.path in other["directories"] for other in ours)
        ],
    )
    after = records.with_files(
        after, prepared.files, [f.path for f in request.files], [*difference.removed, *difference.restored]
    )
    known = {name: state for name, state in after["daemons"].items() if name not in daemons.first}
    for activation in request.activations:
        if activation.remember and not any(activation.daemon.name in other["daemons"] for other in ours):
            known.setdefault(activation.daemon.name, list(daemons.was[activation.daemon.name]))
    after.update(daemons=known, version=FORMAT)
    return File(path, dump_json(after), 0o600) if after != before else None


def _remove_directories(request: Request) -> t.List[str]:
    needed = [path for one in manifests(request.state_directory).values() for path in one["files"] + one["directories"]]
    left = records.remove_empty(records.load(records.path_of(request.state_directory)), needed)
    return ["%s: has files of others, and is kept" % path for path in left]


def _take_over(
    request: Request,
    prepared: Prepared,
    files: t.Sequence[File],
    began: float,
    told_to_stop: t.Callable[[], None],
) -> t.List[str]:
    """Swap the files in, and let the daemons prove that they serve with them. Returns swap()'s warnings."""
    daemons, plan = prepared.daemons, prepared.plan
    for daemon in daemons.leaving:
        if plan.get(daemon.name) == "stopped":
            daemon.stop()
            daemon.disable()
    warnings = swap.swap(files, prepared.difference)
    for daemon in daemons.leaving:
        if plan.get(daemon.name) == "restarted":
            leave(daemon, daemons.first[daemon.name])
    for daemon in daemons.readers:
        told_to_stop()
        activate(daemon, daemons.was[daemon.name], plan.get(daemon.name))
    for activation in request.activations:
        told_to_stop()
        if activation.daemon.name in plan:
            activation.daemon.prove(activation.proof)
            for complaint in activation.daemon.complaints_since(began):
                raise ProofError(complaint)
    return warnings


def _roll_back(
    request: Request, journal: Journal, daemons: Affected, cause: BaseException, began: float
) -> TransactionError:
    words = []  # type: t.List[str]
    with contextlib.suppress(OSError):
        lines = [line for daemon in daemons.readers for line in daemon.words_since(began)]
        # a daemon that tries again and again names another process each time
        words = list({re.sub(r"\d+", "", line): line for line in lines}.values())
    said = "%s%s" % (cause, "".join("\n  " + w for w in words[-10:]))
    try:
        swap.take_back(journal)
        states = [put_back(daemon, was, request.state_directory) for daemon, was in daemons.all()]
        journal.forget()
    except OSError as exc:
        return TransactionError(
            "failed, and NOT all could be put back (%s: %s), which the next run tries again: %s"
            % (exc.filename, exc.strerror, said),
            rolled_back=False,
            daemon_log=words,
        )
    return TransactionError(
        "rolled back, %s: %s" % (", ".join(states) or "the previous files are in place", said),
        rolled_back=True,
        daemon_log=words,
    )


@contextlib.contextmanager
def _deferred_signals() -> t.Iterator[t.Callable[[], None]]:
    """On a signal to stop (Ctrl-C, a shutdown), finish the current step, roll back, and then stop."""
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
