# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Runs on the server: Python 3.6 and the standard library only.

"""Put back everything, or one mailbox."""

# parts of a program, not of a module: pylint: disable=ansible-bad-function

import contextlib
import grp
import json
import os
import pwd
import re
import shutil
import stat
import subprocess
import tempfile
import time
import typing as t

from ansible_collections.port587.mail.plugins.module_utils._backup.restic import (
    Failure,
    Restic,
    Settings,
    Snapshot,
    mail_roots,
)
from ansible_collections.port587.mail.plugins.module_utils._backup.snapshots import choose, local
from ansible_collections.port587.mail.plugins.module_utils._backup.stage import MARKED, names_in
from ansible_collections.port587.mail.plugins.module_utils._backup.state import (
    NAMES,
    STATE,
    STATUS,
    read_status,
    write_json,
)

#: The services that write what is restored.
WRITERS = ("postfix", "dovecot", "rspamd", "port587-redis", "port587-send-limits", "port587-webmail")


def restore(restic: Restic, at: str, hold: bool) -> str:
    """Put back everything. What is there is moved aside. If it fails, the server is as it was."""
    snapshot = choose(restic.own_snapshots(), at, doubt=True)
    places = _places(restic.settings, snapshot)
    running = [unit for unit in WRITERS if not subprocess.call(["systemctl", "is-active", "--quiet", unit])]
    for unit in running:
        subprocess.check_call(["systemctl", "stop", unit])
    try:
        aside = _put_back(restic, snapshot, places)
    finally:
        for unit in running:
            subprocess.check_call(["systemctl", "start", unit])
    for one in restic.settings["paths"]:
        if one["as"] == "queue":
            _settle_queue(one["path"], hold)
    known = {"repository": restic.settings["repository"], "identity": restic.identity(), "kind": "", "problem": ""}
    write_json(STATUS, dict({"since": time.time()}, **dict(read_status(), **known)))
    text = "restored the snapshot of %s" % local(snapshot["at"])
    return text + "".join("; what was there is in %s" % path for path in aside)


def _places(settings: Settings, snapshot: Snapshot) -> t.List[str]:
    """What is to be replaced. The queue is not, since mail in it would be lost. Nor are paths that a person has added:
    they may be directories of the system.
    """
    for root in map(os.path.realpath, mail_roots(settings)):
        if root not in snapshot["paths"]:
            there = ", ".join(sorted(snapshot["paths"]))
            raise Failure("missing", "the snapshot has no mail in %s; it has %s" % (root, there))
    found = [os.path.realpath(one["path"]) for one in settings["paths"] if one["as"] in ("mail", "copy", "plain")]
    return [path for path in found if path in snapshot["paths"]]


def _put_back(restic: Restic, snapshot: Snapshot, places: t.List[str]) -> t.List[str]:
    """Where what was there has been moved to."""
    moved: t.List[t.Tuple[str, str]] = []
    # restic restores the directories above the saved ones, too, and these are the release's own
    above = {path: os.stat(path) for path in _above_all(restic.settings) if os.path.isdir(path)}
    try:
        for path in places:
            moved.append((path, ""))
            if os.path.isfile(path) or names_in(path):
                moved[-1] = (path, _move_aside(path))
        restic.run("restore", snapshot["id"], "--target", "/")
        _map_names(restic.settings)
    except (Failure, OSError):
        for path, aside in moved:
            _undo(path, aside)
        raise
    finally:
        for path, status in above.items():
            os.chown(path, status.st_uid, status.st_gid)
            os.chmod(path, stat.S_IMODE(status.st_mode))
    return [aside for _path, aside in moved if aside]


def _undo(path: str, aside: str) -> None:
    """As before _move_aside: without what has been restored since."""
    inside = aside.startswith(path + "/")
    for name in names_in(path):
        if not name.startswith("before-restore-") and name != "lost+found":
            _remove(os.path.join(path, name))
    if inside:
        for name in names_in(aside):
            os.rename(os.path.join(aside, name), os.path.join(path, name))
        os.rmdir(aside)
    elif aside:
        _remove(path)
        os.rename(aside, path)
    elif os.path.isfile(path):
        os.remove(path)


def _remove(path: str) -> None:
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    elif os.path.lexists(path):
        os.remove(path)


def _above_all(settings: Settings) -> t.Set[str]:
    """All directories above those that are saved."""
    found = set()
    for one in settings["paths"]:
        path = os.path.dirname(os.path.realpath(one["path"]))
        while path != "/":
            found.add(path)
            path = os.path.dirname(path)
    return found


def _move_aside(root: str) -> str:
    """A new name for a directory, beside it or, if it is a mount point, in it."""
    name = "before-restore-" + time.strftime("%Y%m%d-%H%M%S")
    if not os.path.ismount(root):
        os.rename(root, root + "." + name)
        return root + "." + name
    os.mkdir(os.path.join(root, name), 0o700)
    for one in names_in(root):
        if not one.startswith("before-restore-") and one != "lost+found":
            os.rename(os.path.join(root, one), os.path.join(root, name, one))
    return os.path.join(root, name)


def _map_names(settings: Settings) -> None:
    """Give the files to the users of the same names, whose numbers may differ here."""
    with open(NAMES) as handle:
        known = json.load(handle)
    users, groups = {}, {}
    for number, name in known["users"].items():
        with contextlib.suppress(KeyError):
            users[int(number)] = pwd.getpwnam(name).pw_uid
    for number, name in known["groups"].items():
        with contextlib.suppress(KeyError):
            groups[int(number)] = grp.getgrnam(name).gr_gid
    for one in settings["paths"]:
        path = os.path.realpath(one["path"])
        for place, directories, files in os.walk(path):
            _give(place, users, groups)
            # each once: a number may stand for one user there, and for another one here
            for name in files + [name for name in directories if os.path.islink(os.path.join(place, name))]:
                _give(os.path.join(place, name), users, groups)
        if os.path.isfile(path):
            _give(path, users, groups)


def _give(path: str, users: t.Dict[int, int], groups: t.Dict[int, int]) -> None:
    status = os.lstat(path)
    owner, group = users.get(status.st_uid, status.st_uid), groups.get(status.st_gid, status.st_gid)
    if (owner, group) != (status.st_uid, status.st_gid):
        os.chown(path, owner, group, follow_symlinks=False)
        if stat.S_ISREG(status.st_mode):
            # a change of the owner can clear bits
            os.chmod(path, stat.S_IMODE(status.st_mode))


def _settle_queue(root: str, hold: bool) -> None:
    """Make queued mail due now, or hold it. Postfix renames the files to fit their new inodes when it starts."""
    for queue in MARKED[1:4]:
        for place, _directories, files in os.walk(os.path.join(root, queue)):
            for name in files:
                path = os.path.join(place, name)
                # the time of the next try
                os.utime(path)
                if hold:
                    os.rename(path, os.path.join(root, "hold", name))


@contextlib.contextmanager
def scratch(restic: Restic, snapshot: Snapshot, *only: str) -> t.Iterator[str]:
    """A directory with the snapshot, or with some paths of it. It is on the mail's file system, and disappears."""
    root = next(iter(mail_roots(restic.settings)), STATE)
    directory = tempfile.mkdtemp(prefix=".port587-restored-", dir=root)
    try:
        # Dovecot reads from it
        os.chmod(directory, 0o711)
        includes = [word for path in only for word in ("--include", path)]
        restic.run("restore", snapshot["id"], "--target", directory, *includes)
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def restore_mailbox(restic: Restic, address: str, folder: str, at: str) -> str:
    """Put a mailbox or one of its folders into a new folder of the same mailbox."""
    said = subprocess.run(
        ["doveadm", "user", "-f", "home", address], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False
    )
    home = said.stdout.decode().strip()
    if said.returncode or not home:
        raise Failure("missing", "%s has no mailbox here; add the account first" % address)
    snapshot = choose(restic.own_snapshots(), at)
    parent = "Restored %s" % time.strftime("%Y-%m-%d %H.%M", time.localtime(snapshot["at"]))
    with scratch(restic, snapshot, home) as directory:
        source = directory + home + "/Maildir"
        if not os.path.isdir(source):
            raise Failure("missing", "the snapshot of %s has no mail of %s" % (local(snapshot["at"]), address))
        for path in _above(directory, source):
            os.chmod(path, 0o711)
        query = ["mailbox", folder] if folder else ["all"]
        argv = ["doveadm", "import", "-u", address, "-s", "maildir:" + source, parent] + query
        done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
        if done.returncode:
            raise Failure("failed", "doveadm import: %s" % done.stderr.decode("utf-8", "replace").strip()[-500:])
    count = _count(address, parent)
    if not count:
        raise Failure("missing", "the snapshot of %s has no mail in %s" % (local(snapshot["at"]), folder or address))
    return "%d mails of %s are in the folder '%s' of %s" % (count, local(snapshot["at"]), parent, address)


def _above(directory: str, path: str) -> t.List[str]:
    """The directories between both, whose owners may differ from the mail's."""
    parts = os.path.relpath(os.path.dirname(os.path.dirname(path)), directory).split("/")
    return [os.path.join(directory, *parts[: number + 1]) for number in range(len(parts) - 1)]


def _count(address: str, parent: str) -> int:
    argv = ["doveadm", "-f", "flow", "mailbox", "status", "-u", address, "messages", parent, parent + "/*"]
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
    return sum(map(int, re.findall(r"messages=(\d+)", done.stdout.decode())))
