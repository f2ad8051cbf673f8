# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Runs on the controller and on the server: Python 3.6 and the standard library only.

"""Skip transactions that have nothing to do.

A module run costs half a second, however little it does. So one run (port587.mail.server_info) returns the state of
all trees, and the controller compares it with the rendered files. A transaction runs unless it is certain that it has
nothing to do.
"""

import hashlib
import os
import stat
import typing as t

from ansible_collections.port587.mail.plugins.module_utils._daemons import kinds
from ansible_collections.port587.mail.plugins.module_utils._daemons.tables import POSTMAP, compiled_path, database_type
from ansible_collections.port587.mail.plugins.module_utils._transaction.daemon import Activation, Description
from ansible_collections.port587.mail.plugins.module_utils._transaction.errors import TransactionError
from ansible_collections.port587.mail.plugins.module_utils._transaction.files import attributes, read_file
from ansible_collections.port587.mail.plugins.module_utils._transaction.journal import Journal
from ansible_collections.port587.mail.plugins.module_utils._transaction.manifest import Manifest, manifest, manifests
from ansible_collections.port587.mail.plugins.module_utils._transaction.state import STATE_DIRECTORY
from ansible_collections.port587.mail.plugins.module_utils._transaction.tree import Directory, File

Tree = t.Dict[str, t.Any]

#: Bytes of all files of a transaction without a daemon that is looked at nevertheless.
_SMALL = 200000
#: The permission bit of files that everybody may read.
_OTHERS = 0o004


def trees(state_directory: str = STATE_DIRECTORY) -> t.Dict[str, Tree]:
    """The present state of each transaction, by its name. Runs on the server.

    Empty during a change or after an interrupted one, which the next transaction has to recover. Also empty without the
    permission to look, or if the stored state can't be read; the next transaction reports that.
    """
    if not os.access(state_directory, os.R_OK) or Journal(state_directory).present():
        return {}
    try:
        known = manifests(state_directory)
    except TransactionError:
        return {}
    tables = database_type() if POSTMAP.installed() else None
    return {name: _tree(one, tables) for name, one in known.items() if one["daemons"] or _small(one)}


def _small(known: Manifest) -> bool:
    """Whether all files together are read quickly: programs are, and the tables of many accounts are not."""
    return sum(os.path.getsize(path) for path in known["files"] if os.path.isfile(path)) < _SMALL


def _tree(known: Manifest, tables: t.Optional[str]) -> Tree:
    return {
        "manifest": known,
        "files": {path: _file(path) for path in known["files"]},
        "directories": {path: _status(path, stat.S_ISDIR) for path in known["directories"]},
        "daemons": {name: _runs(one["description"]) for name, one in known["daemons"].items()},
        "tables": tables,
    }


def _runs(description: Description) -> bool:
    daemon = kinds.of(description)
    return daemon.installed() and daemon.running() and daemon.enabled()


def _status(path: str, kind: t.Callable[[int], bool]) -> t.Optional[t.List[t.Any]]:
    try:
        # a directory may be a link to one elsewhere
        status = os.stat(path) if kind is stat.S_ISDIR else os.lstat(path)
    except OSError:
        return None
    return list(attributes(status)) if kind(status.st_mode) else None


def _file(path: str) -> t.Optional[t.Dict[str, t.Any]]:
    found = _status(path, stat.S_ISREG)
    if found is None:
        return None
    # a file that not everybody may read may be a secret, and the hash of a short secret reveals it
    public = found[0] & _OTHERS
    digest = hashlib.sha256(read_file(path) or b"").hexdigest() if public else None
    return {"attributes": found, "sha256": digest, "mtime": os.lstat(path).st_mtime}


def nothing_to_do(
    tree: Tree,
    files: t.Sequence[File],
    generated: t.Container[str],
    directories: t.Sequence[Directory],
    activations: t.Sequence[Activation],
) -> bool:
    """Whether a transaction certainly has nothing to do. Runs on the controller, without the server.

    ``generated``: files that are kept once they exist.
    """
    tables = tree["tables"]
    compiled = {f.path: compiled_path(f.path, tables) for f in files if f.compiler and tables}
    paths = [f.path for f in files] + list(compiled.values())
    wanted = manifest(paths, [d.path for d in directories], activations)
    if wanted != tree["manifest"] or not all(tree["daemons"].get(a.daemon.name) for a in activations):
        return False
    if any(tree["directories"].get(d.path) != [d.mode, d.owner, d.group] for d in directories):
        return False
    for file in files:
        there = tree["files"].get(file.path)
        if there is None or there["attributes"] != [file.mode, file.owner, file.group]:
            return False
        if file.path not in generated and there["sha256"] != hashlib.sha256(file.content).hexdigest():
            return False
        table = tree["files"].get(compiled[file.path]) if file.path in compiled else there
        if table is None or table["attributes"] != there["attributes"] or table["mtime"] < there["mtime"]:
            return False
    return True
