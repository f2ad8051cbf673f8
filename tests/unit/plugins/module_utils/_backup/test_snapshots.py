# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The choice of a snapshot, and snapshots that have lost mail."""

import pytest
from ansible_collections.port587.mail.plugins.module_utils._backup import snapshots
from ansible_collections.port587.mail.plugins.module_utils._backup.restic import Failure, parse_time


def test_the_last_snapshot_until_then():
    times = ["2026-11-19T23:00:00.5Z", "2026-11-20T10:00:00+00:00", "2026-11-23T12:00:00Z"]
    them = [{"id": text, "at": parse_time(text)} for text in times]
    assert snapshots.choose(them, "")["id"] == times[2]
    assert snapshots.choose(them, "2026-11-21")["id"] == times[1]
    with pytest.raises(Failure, match="no snapshot until 2020-01-01"):
        snapshots.choose(them, "2020-01-01")
    with pytest.raises(Failure, match="'soon' is not a date; write one such as"):
        snapshots.choose(them, "soon")


def series(*counts):
    """Snapshots with so many mails, a day apart, the oldest first."""
    return [
        {"id": str(number), "at": 86400.0 * number, "tags": ["port587"] + ([f"mails={count}"] if count >= 0 else [])}
        for number, count in enumerate(counts, 1)
    ]


@pytest.mark.parametrize(
    ("counts", "full"),
    [
        ([], []),
        ([20000], []),
        ([20000, 20100, 20050], []),
        ([20000, 20100, 3], ["2"]),
        # the next ones have more, but still few
        ([20000, 20100, 3, 50, 2500], ["2"]),
        # restored, or grown again
        ([20000, 3, 19000], []),
        ([20000, 3, 19000, 2], ["3"]),
        ([20000, 5000, 3], ["2", "1"]),
        # a new server's first mails
        ([9, 0], []),
        # half of the mail
        ([100, 50], []),
        ([100, 49], ["1"]),
        # made before the number was stored
        ([-1, -1, 3], []),
        ([-1, 20000, -1, 3], ["2"]),
    ],
)
def test_snapshots_before_most_mail_was_gone(counts, full):
    assert [one["id"] for one in snapshots.fuller(series(*counts))] == full


def test_an_administrator_accepts_a_loss():
    them = series(20000, 3, 5000, 3)
    assert [one["id"] for one in snapshots.fuller(them, since=2.5 * 86400)] == ["3"]
    assert snapshots.fuller(them, since=5 * 86400) == []


def test_a_nearly_empty_snapshot_is_not_restored_by_default(monkeypatch):
    monkeypatch.setenv("TZ", "UTC")
    snapshots.time.tzset()
    them = series(19000, 20000, 3)
    with pytest.raises(Failure) as failed:
        snapshots.choose(them, "", doubt=True)
    said = str(failed.value)
    assert "the latest snapshot has 3 mails, and that of 1970-01-03 00:00:00 has 20000" in said
    # what it says to write selects what it says
    assert "restore_at: '1970-01-03 00:00:00' for the full one" in said
    assert snapshots.choose(them, "1970-01-03 00:00:00", doubt=True)["id"] == "2"
    assert "restore_at: '1970-01-04 00:00:00' for the latest" in said
    assert snapshots.choose(them, "1970-01-04 00:00:00", doubt=True)["id"] == "3"
    assert snapshots.choose(them[:2], "", doubt=True)["id"] == "2"
