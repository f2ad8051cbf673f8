# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Runs on the server: Python 3.6 and the standard library only.

"""Validate a change before a live file is touched."""

import os
import typing as t

from ansible_collections.port587.mail.plugins.module_utils._transaction.compare import Difference
from ansible_collections.port587.mail.plugins.module_utils._transaction.errors import TransactionError
from ansible_collections.port587.mail.plugins.module_utils._transaction.files import ids, missing_directories
from ansible_collections.port587.mail.plugins.module_utils._transaction.request import Request
from ansible_collections.port587.mail.plugins.module_utils._transaction.tree import Directory, File, Problem
from ansible_collections.port587.mail.plugins.module_utils._transaction.view import View


def compile_stale(difference: Difference) -> t.Tuple[t.List[File], t.List[Problem]]:
    """The compiled forms that must be made, and the problems that their compilers find."""
    files = []  # type: t.List[File]
    problems = []  # type: t.List[Problem]
    for compiler in dict.fromkeys(compiler for compiler, _source in difference.stale):
        made, wrong = compiler.compile([source for its, source in difference.stale if its is compiler])
        files += made
        problems += wrong
    return files, problems


def validate(request: Request, changed: bool, view: View, problems: t.List[Problem], check_mode: bool) -> t.List[str]:
    """Raise TransactionError with all problems of the change. Returns what could not be validated, and why.

    ``changed``: whether there are files to change or to remove. ``problems``: those that are known already.
    """
    compilers = dict.fromkeys(f.compiler for f in request.files if f.compiler)
    not_validated = [one.not_installed for one in compilers if not one.installed()]
    problems = problems + (request.validate(view) if request.validate else [])
    # a daemon whose own files do not change was validated when they did
    for daemon in [activation.daemon for activation in request.activations] if changed else []:
        if daemon.installed():
            problems += daemon.validate(view)
        else:
            not_validated.append("%s: not installed yet" % daemon.name)
    if check_mode:
        not_validated += [str(p) for p in problems if p.pending]
        problems = [p for p in problems if not p.pending]
    if problems:
        raise TransactionError(
            "not valid, this change was not made:\n%s" % "\n".join(dict.fromkeys(map(str, problems))),
            problems=[{"path": p.path, "line": p.line, "text": p.text} for p in problems],
        )
    return not_validated


def could_stage(files: t.Sequence[File], difference: Difference) -> t.List[str]:
    """Predict for check mode, without a trace, whether staging would succeed. Returns the owners that do not exist yet.

    Raises TransactionError if the file system is full or not writable.
    """
    missing = []  # type: t.List[str]
    everything: t.List[t.Union[File, Directory]] = [*files, *difference.directories]
    for wanted in everything:
        try:
            ids(wanted)
        except TransactionError as exc:
            # a task that check mode has only predicted may add it
            missing += [line for line in [exc.message] if line not in missing]
    for new in files:
        directory = (missing_directories([os.path.dirname(new.path)]) + [new.path])[0]
        system = os.statvfs(os.path.dirname(directory))
        if system.f_flag & os.ST_RDONLY:
            raise TransactionError("%s: Read-only file system" % new.path)
        if system.f_bavail * system.f_frsize < len(new.content):
            raise TransactionError("%s: No space left on device" % new.path)
    return missing
