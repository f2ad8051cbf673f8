# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Runs on the server: Python 3.6 and the standard library only.

"""Restore into an empty directory, and compare with the server."""

import hashlib
import os
import re
import time
import typing as t

from ansible_collections.port587.mail.plugins.module_utils._backup.restic import Failure, Restic, mail_roots
from ansible_collections.port587.mail.plugins.module_utils._backup.restore import scratch
from ansible_collections.port587.mail.plugins.module_utils._backup.snapshots import choose, local
from ansible_collections.port587.mail.plugins.module_utils._backup.stage import mails_below


def rehearse(restic: Restic, at: str) -> str:
    """Restore into an empty directory, and compare with the server."""
    snapshot = choose(restic.own_snapshots(), at)
    began = time.time()
    with scratch(restic, snapshot) as directory:
        seconds = time.time() - began
        mails = {"equal": 0, "deleted since": 0, "different": 0, "missing": 0}
        bad: t.List[str] = []
        for root in mail_roots(restic.settings):
            _compare_mail(root, directory + root, snapshot["at"], mails, bad)
        files = {"equal": 0, "changed since": 0, "different": 0}
        for one in restic.settings["paths"]:
            if one["as"] in ("plain", "extra"):
                _compare_files(os.path.realpath(one["path"]), directory, files, bad)
    said = "mails: %s; other files: %s" % tuple(
        ", ".join("%d %s" % (count, word) for word, count in counts.items()) for counts in (mails, files)
    )
    text = "the snapshot of %s was restored in %.0f s; %s" % (local(snapshot["at"]), seconds, said)
    if bad:
        raise Failure("different", "%s: %s" % (text, ", ".join(bad[:5])))
    return text


def _compare_mail(root: str, restored: str, at: float, counts: t.Dict[str, int], bad: t.List[str]) -> None:
    there = mails_below(restored)
    here = mails_below(root)
    for key, path in there.items():
        same = _sum(here[key]) if key in here else None
        word = "deleted since" if same is None else "equal" if same == _sum(path) else "different"
        counts[word] += 1
        if word == "different":
            bad.append(here[key])
    for key, path in here.items():
        # a mail's name begins with the second of its arrival; what arrives during the backup may be in the next one
        arrived = re.match(r"\d+", key)
        if key not in there and arrived and int(arrived.group()) < at - 60:
            counts["missing"] += 1
            bad.append(path)
    for path in _uid_lists(restored):
        live = root + path[len(restored) :]
        if os.path.exists(live) and _validity(live) != _validity(path):
            counts["different"] += 1
            bad.append(live)


def _uid_lists(root: str) -> t.Iterator[str]:
    for place, _directories, files in os.walk(root):
        if "dovecot-uidlist" in files:
            yield os.path.join(place, "dovecot-uidlist")


def _validity(path: str) -> str:
    with open(path, errors="replace") as handle:
        found = re.search(r" V(\d+)", handle.readline())
    return found.group(1) if found else ""


def _sum(path: str) -> t.Optional[str]:
    """The checksum of a mail; none if it is gone meanwhile."""
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as handle:
            for block in iter(lambda: handle.read(1 << 20), b""):
                digest.update(block)
    except FileNotFoundError:
        return None
    return digest.hexdigest()


def _compare_files(path: str, directory: str, counts: t.Dict[str, int], bad: t.List[str]) -> None:
    pairs = [(path, directory + path)] if os.path.isfile(path) else []
    for place, _directories, files in os.walk(directory + path):
        pairs += [(os.path.join(place, name)[len(directory) :], os.path.join(place, name)) for name in files]
    for live, restored in pairs:
        if os.path.islink(restored) or not os.path.exists(restored):
            continue
        changed = not os.path.exists(live) or int(os.stat(live).st_mtime) != int(os.stat(restored).st_mtime)
        word = "changed since" if changed else "equal" if _sum(live) == _sum(restored) else "different"
        counts[word] += 1
        if word == "different":
            bad.append(live)
