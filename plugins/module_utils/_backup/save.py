# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Runs on the server: Python 3.6 and the standard library only.

"""Back up, and tidy the repository."""

import contextlib
import json
import os
import re
import shutil
import sqlite3
import tempfile
import time
import typing as t

from ansible_collections.port587.mail.plugins.module_utils._backup import snapshots as history
from ansible_collections.port587.mail.plugins.module_utils._backup.restic import (
    NOT_MOUNTED,
    TAG,
    Failure,
    Restic,
    Saved,
    Snapshot,
    mail_roots,
)
from ansible_collections.port587.mail.plugins.module_utils._backup.stage import (
    STAGED,
    mails_below,
    names_in,
    stage_copy,
    stage_mail,
    stage_queue,
)
from ansible_collections.port587.mail.plugins.module_utils._backup.state import (
    NAMES,
    STATE,
    STATUS,
    read_status,
    remember_names,
    write_json,
)

WEEK = 7 * 86400
#: Each week, one of so many parts of the repository is read and verified.
PARTS = 8

STAGES: t.Dict[str, t.Callable[[str, str], int]] = {"mail": stage_mail, "queue": stage_queue, "copy": stage_copy}


def check(path: str) -> None:
    """Raise Failure unless the repository is this server's, or can be made."""
    with open(path) as handle:
        restic = Restic(json.load(handle))
    try:
        restic.own_snapshots()
    except Failure as failure:
        if failure.kind != "missing":
            raise
        where = restic.settings["repository"]
        if where.startswith("/") and names_in(where):
            raise Failure("foreign", "%s is not empty, and is no restic repository" % where) from failure


def prepare(restic: Restic) -> t.Tuple[bool, t.List[Snapshot]]:
    """Make the repository, if it never existed. Whether it was made, and the snapshots in it."""
    status = read_status()
    snapshots: t.List[Snapshot] = []
    try:
        snapshots = restic.own_snapshots()
        made = False
    except Failure as failure:
        # without this, a disk that is not mounted would be replaced by a directory
        if failure.kind != "missing" or status.get("repository") == restic.settings["repository"]:
            raise
        restic.run("init")
        made = True
    identity = restic.identity()
    if status.get("repository") == restic.settings["repository"] and status.get("identity") != identity:
        raise Failure("foreign", "%s is another repository than before" % status["repository"])
    if status.get("identity") != identity:
        now = {"since": time.time(), "repository": restic.settings["repository"], "identity": identity}
        here = sum(len(mails_below(root)) for root in mail_roots(restic.settings))
        write_json(STATUS, dict(now, **_judge(snapshots, {}, "this server", here)))
    return made, snapshots


def _judge(before: t.List[Snapshot], status: t.Dict[str, t.Any], what: str, mails: int) -> t.Dict[str, t.Any]:
    """For the status: whether most of the mail of earlier snapshots is gone. ``before`` are these snapshots."""
    here = {"at": time.time(), "tags": [history.count_tag(mails)]}
    lost = history.fuller(before + [here], status.get("accepted", 0))
    return {"kind": "shrunk", "problem": history.loss(what, mails, lost)} if lost else {"kind": "", "problem": ""}


def run(restic: Restic) -> str:
    """Back up, and leave the outcome for verify."""
    began = time.time()
    try:
        return _back_up(restic)
    except (Failure, OSError, sqlite3.Error) as exc:
        _write_outcome(began, kind=getattr(exc, "kind", "failed"), problem=str(exc))
        raise


def accept() -> str:
    """Mail was deleted on purpose: no snapshot is kept for its sake, and verify no longer warns."""
    status = read_status()
    settled = {"kind": "", "problem": ""} if status.get("kind") == "shrunk" else {}
    write_json(STATUS, dict(status, accepted=time.time(), **settled))
    return "the number of mails is accepted"


def _write_outcome(began: float, **outcome: t.Any) -> None:
    write_json(STATUS, dict({"since": began}, **dict(read_status(), tried=began, **outcome)))


def _back_up(restic: Restic) -> str:
    began = time.time()
    _made, before = prepare(restic)
    # removes those of processes that no longer run, and those that nobody has renewed for half an hour
    restic.run("unlock")
    with contextlib.ExitStack() as stack:
        mounts, mails, queued = _stage_all(restic.settings["paths"], stack)
        text = _save(restic, mounts, mails)
    found = re.search(r"snapshot (\w+) saved", text)
    outcome = {"good": began, "mails": mails, "queued": queued, "snapshot": found.group(1) if found else ""}
    _write_outcome(began, **outcome)
    _tidy(restic, before + [{"at": time.time(), "tags": [history.count_tag(mails)]}])
    judged = _judge(before, read_status(), "the backup", mails) if mail_roots(restic.settings) else {}
    _write_outcome(began, **dict({"kind": "", "problem": ""}, **judged, seconds=round(time.time() - began, 1)))
    return "%d mails and %d queued ones are in snapshot %s, after %.1f s" % (
        mails,
        queued,
        outcome["snapshot"],
        time.time() - began,
    )


def _stage_all(paths: t.List[Saved], stack: contextlib.ExitStack) -> t.Tuple[t.List[str], int, int]:
    """Copies, as pairs of their directory and the one whose place they take; and how many mails and queued ones."""
    remember_names()
    mounts: t.List[str] = []
    counts = {"mail": 0, "queue": 0}
    directory = stack.enter_context(tempfile.TemporaryDirectory(dir=STATE))
    # the queue first: what is delivered meanwhile is then in both, and not in neither
    for number, one in enumerate(sorted(paths, key=lambda one: one["as"] == "mail")):
        path, kind = os.path.realpath(one["path"]), one["as"]
        if kind not in STAGES or not os.path.isdir(path):
            continue
        staged = os.path.join(directory, str(number))
        if kind == "mail":
            staged = os.path.join(path, STAGED)
            stack.callback(shutil.rmtree, staged, ignore_errors=True)
        counts[kind] = STAGES[kind](path, staged)
        mounts += [staged, path]
    return mounts, counts["mail"], counts["queue"]


#: Shows restic the copies in place of what they are copies of, and shows that to nobody else.
MOUNT = 'while [ "$1" != -- ]; do mount --bind "$1" "$2" && shift 2 || exit %d; done; shift; exec "$@"' % NOT_MOUNTED


def _save(restic: Restic, mounts: t.List[str], mails: int) -> str:
    saved = [os.path.realpath(one["path"]) for one in restic.settings["paths"]] + [NAMES]
    arguments = ["backup", restic.host_option(), restic.host, "--tag", TAG]
    arguments += ["--tag", history.count_tag(mails)] if mail_roots(restic.settings) else []
    # a link changes a mail's ctime, and nothing in the mail
    arguments += ["--ignore-inode"] if restic.version >= (0, 9, 6) else []
    for one in restic.settings["paths"]:
        for pattern in one.get("except", []):
            arguments += ["--exclude", os.path.join(os.path.realpath(one["path"]), pattern)]
    arguments += [path for path in saved if os.path.exists(path)]
    before = ["unshare", "--mount", "sh", "-c", MOUNT, "sh"] + mounts + ["--"]
    return restic.run(*arguments, before=before)


def _tidy(restic: Restic, snapshots: t.List[Snapshot]) -> None:
    """Forget old snapshots; once a week, verify the repository and give back their space."""
    keep = [word for period, count in sorted(restic.settings["keep"].items()) if count
            for word in ("--keep-" + period, str(count))]  # fmt: skip
    # the last full ones stay, however many nearly empty ones follow
    for one in history.fuller(snapshots, read_status().get("accepted", 0)):
        keep += ["--keep-tag", history.count_tag(history.mails_of(one) or 0)]
    restic.run("forget", "--host", restic.host, "--tag", TAG, "--group-by", "host", *keep)
    checked = read_status().get("checked", 0)
    if time.time() - checked < WEEK:
        return
    part = int(time.time() // WEEK) % PARTS + 1
    restic.run("check", "--read-data-subset=%d/%d" % (part, PARTS))
    # afterwards, so that nothing is removed from a damaged repository
    restic.run("prune")
    write_json(STATUS, dict(read_status(), checked=time.time()))
