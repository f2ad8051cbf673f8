# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Runs on the server: Python 3.6 and the standard library only.

"""Which snapshot a person means, and whether a later one has lost the mail of an earlier one."""

import contextlib
import re
import time
import typing as t

from ansible_collections.port587.mail.plugins.module_utils._backup.restic import Failure, Snapshot

#: A server with fewer mails than this has nothing to lose yet.
FEW = 10


def count_tag(mails: int) -> str:
    """The tag that says how many mails are in a snapshot."""
    return "mails=%d" % mails


def mails_of(snapshot: Snapshot) -> t.Optional[int]:
    """None if the snapshot does not say it."""
    found = [re.match(r"mails=(\d+)$", tag) for tag in snapshot.get("tags") or []]
    return next((int(one.group(1)) for one in found if one), None)


def fuller(snapshots: t.List[Snapshot], since: float = 0.0) -> t.List[Snapshot]:
    """The snapshots after which most mail was gone: all later ones have less than half of their mails. Latest first.

    Such is the last one of a burnt server, when its successor was saved before anybody restored it.
    ``since``: an administrator has accepted what was lost before.
    """
    found = []
    most: t.Optional[int] = None
    for one in reversed(snapshots):
        mails = mails_of(one)
        if mails is None:
            continue
        if most is not None and mails >= FEW and mails > 2 * most and one["at"] > since:
            found.append(one)
        most = max(mails, most or 0)
    return found


def loss(here: str, mails: int, lost: t.List[Snapshot]) -> str:
    """What a person should know about it."""
    others = " and ".join("that of %s has %d" % (exact(one["at"]), mails_of(one) or 0) for one in lost)
    return "%s has %d mails, and %s" % (here, mails, others)


def choose(snapshots: t.List[Snapshot], at: str, doubt: bool = False) -> Snapshot:
    """The last one until then. ``doubt``: raise Failure if nobody has named a moment and much fuller ones exist."""
    end = _moment(at) if at else float("inf")
    fit = [one for one in snapshots if one["at"] <= end]
    if not fit:
        first = " (the oldest is of %s)" % local(snapshots[0]["at"]) if snapshots else ""
        raise Failure("missing", "the repository has no snapshot%s%s" % (" until " + at if at else "", first))
    lost = [] if at or not doubt else fuller(fit)
    if lost:
        last = exact(fit[-1]["at"])
        raise Failure(
            "shrunk",
            "%s. Perhaps this server was set up anew and saved before it was restored. Write restore_at: '%s' for the "
            "full one, or restore_at: '%s' for the latest"
            % (loss("the latest snapshot", mails_of(fit[-1]) or 0, lost), exact(lost[0]["at"]), last),
        )
    return fit[-1]


def _moment(at: str) -> float:
    """The end of a day, a minute or a second."""
    for form, length in (("%Y-%m-%d", 86400), ("%Y-%m-%d %H:%M", 60), ("%Y-%m-%d %H:%M:%S", 1)):
        with contextlib.suppress(ValueError):
            return time.mktime(time.strptime(at, form)) + length
    raise Failure("failed", "'%s' is not a date; write one such as 2026-11-20 or '2026-11-20 12:00'" % at)


def local(moment: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(moment))


def exact(moment: float) -> str:
    """As restore_at takes it."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(moment))
