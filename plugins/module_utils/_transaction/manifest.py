# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Runs on the server: Python 3.6 and the standard library only.

"""Manifests: each transaction records its files below /var/lib/port587. The manifest is swapped in with the files.

A manifest has the paths of the files and directories, and the description and proofs of each daemon. Instead of a
damaged one there is an empty one without a version; the next run of the transaction takes over what is there.
"""

import os
import typing as t

from ansible_collections.port587.mail.plugins.module_utils._transaction.daemon import Activation
from ansible_collections.port587.mail.plugins.module_utils._transaction.errors import DamagedError
from ansible_collections.port587.mail.plugins.module_utils._transaction.state import (
    FORMAT,
    STATE_DIRECTORY,
    load_record,
)

Manifest = t.Dict[str, t.Any]

_SHAPE = {"files": list, "directories": list, "daemons": dict, "proofs": dict}  # type: t.Dict[str, type]
_REMEDY = "Run site.yml, which writes it anew"


def manifest(files: t.Iterable[str], directories: t.Iterable[str], activations: t.Iterable[Activation]) -> Manifest:
    """The manifest of a transaction."""
    return {
        "version": FORMAT,
        "files": sorted(files),
        "directories": sorted(directories),
        "daemons": {
            a.daemon.name: {"description": a.daemon.description, "proof": a.proof} for a in activations if a.remember
        },
    }


def load(path: t.Optional[str]) -> Manifest:
    """The stored manifest, converted to the current format; an empty one if there is none.

    The version of an empty one that stands for a damaged one is None.
    """
    empty = manifest((), (), ())
    if path is None or not os.path.lexists(path):
        return empty
    try:
        record = load_record(path, _SHAPE, _REMEDY)
    except DamagedError:
        return dict(empty, version=None)
    proofs = record.pop("proofs")
    if record["version"] == 0:
        record["version"] = FORMAT
        record["daemons"] = {name: {"description": {"unit": name}, "proof": proof} for name, proof in proofs.items()}
    return record


def path_of(state_directory: str, name: str) -> str:
    return os.path.join(state_directory, name, "manifest.json")


def manifests(state_directory: str = STATE_DIRECTORY) -> t.Dict[str, Manifest]:
    """The manifests of all transactions of this host, by the transaction's name."""
    try:
        names = sorted(os.listdir(state_directory))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    paths = {name: path_of(state_directory, name) for name in names}
    return {name: load(path) for name, path in paths.items() if os.path.lexists(path)}


def refuse_damaged(state_directory: str = STATE_DIRECTORY) -> None:
    """Raises DamagedError if a manifest is damaged, for changes that need all of them."""
    for name, one in manifests(state_directory).items():
        if one["version"] is None:
            load_record(path_of(state_directory, name), _SHAPE, _REMEDY)


def remembered(state_directory: str = STATE_DIRECTORY) -> t.Dict[str, t.Dict[str, t.Any]]:
    """The description and the proof of each daemon that transactions of this host manage, by the daemon's name."""
    found = {}  # type: t.Dict[str, t.Dict[str, t.Any]]
    for one in manifests(state_directory).values():
        found.update(one["daemons"])
    return found


def proof_of(name: str, state_directory: str) -> t.Dict[str, t.Any]:
    """The latest proof of a daemon; empty if no transaction manages it."""
    return dict(remembered(state_directory).get(name, {}).get("proof", {}))
