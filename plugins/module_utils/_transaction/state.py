# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Runs on the server: Python 3.6 and the standard library only.

"""Persistent state of transactions: JSON files, written atomically.

Manifests and journals carry a format number. A newer collection reads the older formats; an older collection refuses
newer formats, and changes nothing. A run begins damaged files anew, and keeps a copy of them.
"""

import json
import os
import typing as t

from ansible_collections.port587.mail.plugins.module_utils._transaction.errors import DamagedError, TransactionError
from ansible_collections.port587.mail.plugins.module_utils._transaction.files import (
    naming,
    read_file,
    remove,
    sync_directories,
)

STATE_DIRECTORY = "/var/lib/port587"

#: The format of manifests and journals. Format 0 has no number in the file, and names daemons without describing them.
FORMAT = 1

#: The type of each key's value. A missing key stands for an empty value.
Shape = t.Mapping[str, type]


def load_record(path: str, shape: Shape, remedy: str) -> t.Dict[str, t.Any]:
    """Load a manifest or a journal, and leave the file in place.

    Raises DamagedError if it can't be read, and TransactionError if a newer version has written it. ``remedy``: what a
    person can do about a damaged file.
    """
    try:
        record = json.loads((read_file(path) or b"").decode("utf-8"))
    except (ValueError, RecursionError) as exc:
        raise _damaged(path, str(exc), remedy) from exc
    if not isinstance(record, dict):
        raise _damaged(path, "it is not a dictionary", remedy)
    number = record.setdefault("version", 0)
    if not isinstance(number, int) or number < 0:
        raise _damaged(path, "version is not a number of a format", remedy)
    if number > FORMAT:
        raise TransactionError(
            "%s was written by a newer version of port587.mail (format %s; this one knows up to %d). "
            "Install that version on the controller; this change was not made" % (path, number, FORMAT)
        )
    for key, kind in shape.items():
        if not isinstance(record.setdefault(key, kind()), kind):
            raise _damaged(path, "%s is not a %s" % (key, kind.__name__), remedy)
    return record


def _damaged(path: str, why: str, remedy: str) -> DamagedError:
    return DamagedError("%s is damaged (%s). %s; this change was not made" % (path, why, remedy), why)


def damaged_name(path: str) -> str:
    """The copy of a damaged file in whose place there is a new one."""
    return path + ".damaged"


def dump_json(value: t.Dict[str, t.Any]) -> bytes:
    return json.dumps(value, indent=1, sort_keys=True).encode("ascii") + b"\n"


def load_json(path: str) -> t.Dict[str, t.Any]:
    """Load what may be lost at any time: empty if there is no such file, or if it is damaged."""
    try:
        loaded = json.loads((read_file(path) or b"").decode("utf-8"))
    except (ValueError, RecursionError):
        return {}
    return loaded if isinstance(loaded, dict) else {}


def write_json(path: str, value: t.Dict[str, t.Any]) -> None:
    temporary = path + ".new"
    try:
        with naming(path), open(temporary, "wb") as handle:
            handle.write(dump_json(value))
            handle.flush()
            os.fsync(handle.fileno())
        os.rename(temporary, path)
    except OSError:
        remove(temporary)
        raise
    sync_directories([path])
