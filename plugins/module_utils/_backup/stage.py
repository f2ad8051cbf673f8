# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Runs on the server: Python 3.6 and the standard library only.

"""Consistent copies of what changes while it is saved."""

import contextlib
import os
import re
import shutil
import sqlite3
import stat
import typing as t

#: The copy from which restic reads mail. It has to be on the same file system, because it consists of hard links.
STAGED = ".port587-backup"
#: What Dovecot makes again by itself, and what is in use by a running process only.
NOT_SAVED = re.compile(r"dovecot\.index\.cache|.*\.lock$|.*\.tmp$|dovecot\.autoexpunge")
#: How often a mailbox is walked at most, until a walk finds no further mail.
WALKS = 5
#: The directories of Postfix's queue that hold accepted mail, in the order in which mail goes through them.
QUEUES = ("maildrop", "incoming", "active", "deferred", "hold", "defer", "bounce")
#: Those of them whose files are complete only when they are executable (Postfix's own mark).
MARKED = QUEUES[:5]


def stage_mail(root: str, staged: str) -> int:
    """Copy the mailboxes while mail arrives, is moved and deleted. The mails are hard links. The number of mails.

    restic itself would miss a mail that is renamed between its look into a directory and its look at the mail: that
    happens whenever a client reads a mail or moves it.
    """
    shutil.rmtree(staged, ignore_errors=True)
    _copy_directory(root, staged)
    seen: t.Set[t.Tuple[str, str]] = set()
    folders: t.List[str] = []
    for domain in names_in(root):
        if domain == STAGED:
            continue
        if os.path.isdir(os.path.join(root, domain)):
            _copy_directory(os.path.join(root, domain), os.path.join(staged, domain))
        for user in names_in(os.path.join(root, domain)):
            home = os.path.join(domain, user)
            for _walk in range(WALKS):
                known = len(seen)
                folders = _link_mails(root, staged, home, seen)
                if len(seen) == known:
                    break
            # afterwards, so that each mail of the copy has the UID under which clients know it
            for folder in folders:
                _copy_files(os.path.join(root, folder), os.path.join(staged, folder))
        _copy_files(os.path.join(root, domain), os.path.join(staged, domain))
    _copy_files(root, staged)
    return len(seen)


def _link_mails(root: str, staged: str, home: str, seen: t.Set[t.Tuple[str, str]]) -> t.List[str]:
    """Link what ``seen`` does not have yet, and return all directories but those of mails."""
    others = []
    for place, directories, _files in os.walk(os.path.join(root, home)):
        folder = os.path.relpath(place, root)
        target = os.path.join(staged, folder)
        _copy_directory(place, target)
        others.append(folder)
        if not {"cur", "new"} <= set(directories):
            continue
        # never deeper: tmp holds mail that is not accepted yet
        directories[:] = [name for name in directories if name not in ("cur", "new", "tmp")]
        for name in ("tmp", "new", "cur"):
            _copy_directory(os.path.join(place, name), os.path.join(target, name))
        # a mail moves from new to cur
        for name in ("new", "cur"):
            for mail in names_in(os.path.join(place, name)):
                key = (folder, mail.split(":", 1)[0])
                if key not in seen:
                    with contextlib.suppress(FileNotFoundError):
                        os.link(os.path.join(place, name, mail), os.path.join(target, name, mail))
                        seen.add(key)
    return others


def _copy_files(source: str, target: str) -> None:
    """The files of one directory. Dovecot's list of UIDs comes last: it may know more than the others, not less."""
    if not os.path.isdir(target):
        return
    for name in sorted(
        names_in(source), key=lambda one: (one == "dovecot-uidlist", one.startswith("dovecot.index.log"))
    ):
        if not NOT_SAVED.match(name):
            with contextlib.suppress(FileNotFoundError):
                copy_file(os.path.join(source, name), os.path.join(target, name))
    uids = os.path.join(target, "dovecot-uidlist")
    with contextlib.suppress(FileNotFoundError), open(uids, "rb+") as handle:
        # Dovecot appends to it: the last line may be half of one
        handle.truncate(handle.read().rfind(b"\n") + 1)
    if os.path.exists(uids):
        shutil.copystat(os.path.join(source, "dovecot-uidlist"), uids)


def copy_file(source: str, target: str) -> None:
    """A regular file or a symbolic link, with its owner, mode and time. Anything else is passed over."""
    status = os.lstat(source)
    if stat.S_ISLNK(status.st_mode):
        os.symlink(os.readlink(source), target)
        os.chown(target, status.st_uid, status.st_gid, follow_symlinks=False)
    elif stat.S_ISREG(status.st_mode):
        shutil.copyfile(source, target)
        os.chown(target, status.st_uid, status.st_gid)
        shutil.copystat(source, target)


def _copy_directory(source: str, target: str) -> None:
    try:
        status = os.stat(source)
    except FileNotFoundError:
        return
    if not os.path.isdir(target):
        os.mkdir(target, 0o700)
        os.chown(target, status.st_uid, status.st_gid)
        os.chmod(target, stat.S_IMODE(status.st_mode))


def names_in(directory: str) -> t.List[str]:
    """The names in a directory; none if it is gone or is not one."""
    try:
        return sorted(os.listdir(directory))
    except (FileNotFoundError, NotADirectoryError):
        return []


def stage_queue(root: str, staged: str) -> int:
    """Copy Postfix's queue. The number of messages.

    Copies and not links: Postfix marks in the file who has got the message, and warns about files with two names.
    """
    _copy_directory(root, staged)
    seen: t.Set[t.Tuple[bool, str]] = set()
    for _walk in range(WALKS):
        known = len(seen)
        for queue in QUEUES:
            for place, _directories, files in os.walk(os.path.join(root, queue)):
                target = os.path.join(staged, os.path.relpath(place, root))
                _copy_directory(place, target)
                for name in files:
                    source = os.path.join(place, name)
                    with contextlib.suppress(FileNotFoundError):
                        half = queue in MARKED and not os.lstat(source).st_mode & stat.S_IXUSR
                        if not half and (queue in MARKED, name) not in seen:
                            copy_file(source, os.path.join(target, name))
                            seen.add((queue in MARKED, name))
        if len(seen) == known:
            break
    return sum(marked for marked, _name in seen)


def stage_copy(root: str, staged: str) -> int:
    """Copy a directory whose files grow or are replaced meanwhile. SQLite's databases are locked for that moment."""
    with contextlib.ExitStack() as locks:
        for name in names_in(root):
            if name.endswith(".sqlite"):
                database = sqlite3.connect(os.path.join(root, name), timeout=60, isolation_level=None)
                locks.callback(database.close)
                database.execute("BEGIN IMMEDIATE")
        for place, _directories, files in os.walk(root):
            target = os.path.normpath(os.path.join(staged, os.path.relpath(place, root)))
            _copy_directory(place, target)
            for name in files:
                # SQLite makes the file with the shared memory anew
                if not name.endswith("-shm"):
                    with contextlib.suppress(FileNotFoundError):
                        copy_file(os.path.join(place, name), os.path.join(target, name))
    return 0


STAGES: t.Dict[str, t.Callable[[str, str], int]] = {"mail": stage_mail, "queue": stage_queue, "copy": stage_copy}


def mails_below(root: str) -> t.Dict[str, str]:
    """The mails below a directory, by their names without flags."""
    found = {}
    for place, directories, files in os.walk(root):
        directories[:] = [name for name in directories if not name.startswith((STAGED, ".port587-", "before-restore-"))]
        if os.path.basename(place) in ("cur", "new"):
            found.update({name.split(":", 1)[0]: os.path.join(place, name) for name in files})
    return found
