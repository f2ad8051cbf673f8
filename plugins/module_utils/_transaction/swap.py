# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Runs on the server: Python 3.6 and the standard library only.

"""The files of a change: written beside the live ones, renamed into their places, and back."""

import os
import typing as t

from ansible_collections.port587.mail.plugins.module_utils._transaction import kernel
from ansible_collections.port587.mail.plugins.module_utils._transaction.commands import run_command
from ansible_collections.port587.mail.plugins.module_utils._transaction.compare import Difference
from ansible_collections.port587.mail.plugins.module_utils._transaction.daemon import Daemon, State
from ansible_collections.port587.mail.plugins.module_utils._transaction.files import (
    before_name,
    copy,
    edited_name,
    ids,
    missing_directories,
    original_name,
    private_directory,
    set_attributes,
    settled,
    staged_name,
    sync_directories,
    write,
)
from ansible_collections.port587.mail.plugins.module_utils._transaction.journal import Journal
from ansible_collections.port587.mail.plugins.module_utils._transaction.request import Request
from ansible_collections.port587.mail.plugins.module_utils._transaction.tree import File

#: A change in these directories needs `systemctl daemon-reload`.
UNITS = "/etc/systemd/system/"


def stage(
    request: Request,
    journal: Journal,
    files: t.Sequence[File],
    difference: Difference,
    replaced: t.Sequence[str],
    daemons: t.Iterable[t.Tuple[Daemon, State]],
) -> None:
    """Write everything next to the live files. After this there are only renames.

    ``replaced``: files from another source, of which copies are kept for good.
    """
    created = to_create(request, files, difference)
    changed = []
    for directory in difference.directories:
        if directory.path not in created:
            status = os.stat(directory.path)
            changed.append([directory.path, status.st_mode & 0o7777, status.st_uid, status.st_gid])
    paths = {f.path: os.path.lexists(f.path) for f in files}
    paths.update((path, os.path.lexists(path)) for path in difference.restored)
    paths.update((path, True) for path in difference.removed)
    journal.begin(paths, created, changed, daemons)

    # a file and its compiled form get one time stamp: Postfix warns of a table older than its source
    moment = settled(os.lstat(path).st_mtime for path, there in paths.items() if there)
    described = {d.path: d for d in request.directories}
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
    for path, saved in difference.restored.items():
        copy(saved, staged_name(path))
        if paths[path]:
            copy(path, before_name(path))
    for path in replaced:
        _keep(path, original_name(request.state_directory, request.name, path))
    for path in difference.edited:
        _keep(path, edited_name(request.state_directory, path))
    sync_directories(list(paths) + created)


def to_create(request: Request, files: t.Sequence[File], difference: Difference) -> t.List[str]:
    """The directories that the change needs and that do not exist, outermost first."""
    places = [os.path.dirname(path) for path in [*(f.path for f in files), *difference.restored]]
    return missing_directories([d.path for d in request.directories] + places)


def _keep(path: str, keep: str) -> None:
    private_directory(os.path.dirname(keep))
    copy(path, keep + ".new")
    os.rename(keep + ".new", keep)
    sync_directories([keep])


def swap(files: t.Sequence[File], difference: Difference) -> t.List[str]:
    """Swap the new files in. Returns warnings about requirements that this server can't meet."""
    for new in files:
        os.rename(staged_name(new.path), new.path)
    for path in difference.restored:
        os.rename(staged_name(path), path)
    # last, when no file refers to them
    for path in difference.removed:
        os.rename(path, before_name(path))
    for directory in difference.directories:
        set_attributes(directory.path, directory.mode, *ids(directory))
    swapped = [f.path for f in files] + list(difference.restored) + difference.removed
    sync_directories(swapped)
    _read_units_of(swapped)
    return kernel.raise_limits(swapped)


def take_back(journal: Journal) -> None:
    """Restore the files in the journal. Restoring the daemons is another step."""
    journal.restore()
    _read_units_of((journal.interrupted() or {"files": {}})["files"])


def _read_units_of(paths: t.Iterable[str]) -> None:
    """Run daemon-reload only if some of these are units: it is slow, and runs all generators again.

    systemd's own property NeedDaemonReload is not reliable: 247 overlooks a new drop-in.
    """
    if any(path.startswith(UNITS) for path in paths):
        run_command(["systemctl", "daemon-reload"])
