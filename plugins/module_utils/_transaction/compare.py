# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Runs on the server: Python 3.6 and the standard library only.

"""The differences between a server and the files that a transaction wants."""

import os
import re
import typing as t

from ansible_collections.port587.mail.plugins.module_utils._transaction import record as records
from ansible_collections.port587.mail.plugins.module_utils._transaction.files import (
    original_name,
    read_file,
    same_attributes,
)
from ansible_collections.port587.mail.plugins.module_utils._transaction.manifest import Manifest, manifest, path_of
from ansible_collections.port587.mail.plugins.module_utils._transaction.request import Request
from ansible_collections.port587.mail.plugins.module_utils._transaction.state import dump_json
from ansible_collections.port587.mail.plugins.module_utils._transaction.tree import Compiler, Directory, File
from ansible_collections.port587.mail.plugins.module_utils._transaction.view import View


class Difference(t.NamedTuple):
    """The wanted files and directories that are missing or differ, and what else there is to do."""

    files: t.List[File]
    directories: t.List[Directory]
    #: sources whose compiled form is missing or outdated, each with its compiler
    stale: t.List[t.Tuple[Compiler, File]]
    #: files of an earlier run that are no longer wanted: those that go, those in whose places the originals return
    #: (path: the original's copy), and those that are kept
    removed: t.List[str]
    restored: t.Dict[str, str]
    kept: t.List[str]
    #: those of the first two that somebody else has changed
    edited: t.List[str]
    #: wanted paths with a file from another source
    adopted: t.List[str]
    #: None if the present manifest is the same. It is swapped in together with the files that it lists.
    manifest: t.Optional[File]


def compare(
    request: Request, recorded: Manifest, others: t.Sequence[Manifest], record: records.Record, live: View
) -> Difference:
    """``recorded``: the transaction's manifest; ``others``: those of other transactions; ``live``: the file system."""
    previous = recorded["files"]
    others_files = {path for one in others for path in one["files"]}
    compiled = [(f.compiler, f) for f in request.files if f.compiler and f.compiler.installed()]
    mine = {f.path for f in request.files} | {compiler.path(f.path) for compiler, f in compiled}
    mine |= set(previous if request.keep_others else ())

    # not paths that belong to another transaction now, nor those that a person replaced with a directory
    unwanted = [
        p for p in previous if p not in mine and p not in others_files and not os.path.isdir(live.where(p) or "")
    ]
    kept = [p for p in unwanted if request.keep and re.match(request.keep, p) and live.present(p)]
    originals = {p: original_name(request.state_directory, request.name, p) for p in unwanted if p not in kept}
    restored = {p: copy for p, copy in originals.items() if os.path.lexists(copy)}
    removed = [p for p in unwanted if p not in kept and p not in restored and live.present(p)]
    changed = [f for f in request.files if not _same(f, live)]

    directories = {d.path for d in request.directories} | set(recorded["directories"] if request.keep_others else ())
    shared = directories.union(*(one["directories"] for one in others))
    left = [records.before(record, path) for path in recorded["directories"] if path not in shared]
    differing = [d for d in [*request.directories, *filter(None, left)] if not same_attributes(d.path, d)]
    wanted = manifest(mine, directories, request.activations)
    path = path_of(request.state_directory, request.name)
    return Difference(
        files=changed,
        directories=differing,
        stale=[(compiler, f) for compiler, f in compiled if f in changed or not _fresh(compiler, f, live)],
        removed=removed,
        restored=restored,
        kept=kept,
        edited=[p for p in [*removed, *restored] if records.is_edited(record, p, live.before(p))],
        adopted=[p for p in mine if p not in previous and live.present(p)],
        manifest=File(path, dump_json(wanted), 0o600) if wanted != recorded else None,
    )


def _same(wanted: File, live: View) -> bool:
    where = live.where(wanted.path)
    return same_attributes(where, wanted) and read_file(where or "") == wanted.content


def _fresh(compiler: Compiler, source: File, live: View) -> bool:
    """Whether the compiled form exists, has the right owner and mode, and is not older than its source."""
    compiled, text = live.where(compiler.path(source.path)), live.where(source.path)
    if compiled is None or text is None or not same_attributes(compiled, source):
        return False
    return os.stat(compiled).st_mtime >= os.stat(text).st_mtime
