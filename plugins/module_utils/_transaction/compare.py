# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Runs on the server: Python 3.6 and the standard library only.

"""The differences between a server and the files that a transaction wants."""

import os
import re
import typing as t

from ansible_collections.port587.mail.plugins.module_utils._transaction.files import read_file, same_attributes
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
    #: files of an earlier run that are no longer wanted, and those of them that are kept
    removed: t.List[str]
    kept: t.List[str]
    #: wanted paths with a file from another source
    adopted: t.List[str]
    #: None if the present manifest is the same. It is swapped in together with the files that it lists.
    manifest: t.Optional[File]


def compare(request: Request, recorded: Manifest, others: t.Iterable[Manifest], live: View) -> Difference:
    """``recorded``: the transaction's manifest; ``others``: those of other transactions; ``live``: the file system."""
    previous = recorded["files"]
    others_files = {path for one in others for path in one["files"]}
    compiled = [(f.compiler, f) for f in request.files if f.compiler and f.compiler.installed()]
    mine = {f.path for f in request.files} | {compiler.path(f.path) for compiler, f in compiled}
    mine |= set(previous if request.keep_others else ())

    # not paths that belong to another transaction now, nor those that a person replaced with a directory
    unwanted = [
        p
        for p in previous
        if p not in mine and p not in others_files and live.present(p) and not os.path.isdir(live.where(p) or "")
    ]
    kept = [p for p in unwanted if request.keep and re.match(request.keep, p)]
    changed = [f for f in request.files if not _same(f, live)]

    directories = {d.path for d in request.directories} | set(recorded["directories"] if request.keep_others else ())
    wanted = manifest(mine, directories, request.activations)
    path = path_of(request.state_directory, request.name)
    return Difference(
        files=changed,
        directories=[d for d in request.directories if not same_attributes(d.path, d)],
        stale=[(compiler, f) for compiler, f in compiled if f in changed or not _fresh(compiler, f, live)],
        removed=[p for p in unwanted if p not in kept],
        kept=kept,
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
