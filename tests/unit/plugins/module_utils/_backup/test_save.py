# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a backup keeps and notes when most of the mail is gone."""

import json

import pytest
from ansible_collections.port587.mail.plugins.module_utils._backup import save, state


class FakeRestic:
    """A repository with snapshots of so many mails, a day apart."""

    host = "mail.example.com"

    def __init__(self, root, *counts):
        self.settings = {
            "repository": "/r",
            "keep": {"daily": 7, "weekly": 0},
            "paths": [{"path": str(root), "as": "mail"}],
        }
        self.counts = counts
        self.commands = []

    def own_snapshots(self):
        return [
            {"at": 86400.0 * number, "tags": ["port587", "mails=%d" % count]}
            for number, count in enumerate(self.counts, 1)
        ]

    def identity(self):
        return "1"

    def run(self, *arguments):
        self.commands.append(arguments)


@pytest.fixture
def status(tmp_path, monkeypatch):
    """Where the status is. The weekly check is not due."""
    path = tmp_path / "state" / "status.json"
    path.parent.mkdir()
    for module in (save, state):
        monkeypatch.setattr(module, "STATUS", str(path))
    monkeypatch.setattr(save, "WEEK", float("inf"))
    return path


def test_a_server_that_was_set_up_anew_is_told_to_be_restored(tmp_path, status):
    save.prepare(FakeRestic(tmp_path / "vmail", 19000, 20000))
    found = json.loads(status.read_text())
    assert found["kind"] == "shrunk"
    assert found["problem"].startswith("this server has 0 mails, and that of 1970-01-")
    assert found["problem"].endswith(" has 20000")


def test_a_new_server_is_not(tmp_path, status):
    save.prepare(FakeRestic(tmp_path / "vmail"))
    found = json.loads(status.read_text())
    assert (found["kind"], found["problem"], found["identity"]) == ("", "", "1")


def test_the_last_full_snapshot_outlives_the_others(tmp_path, status):
    restic = FakeRestic(tmp_path, 19000, 20000, 3, 5)
    save._tidy(restic, restic.own_snapshots())
    (forget,) = restic.commands
    assert forget[-4:] == ("--keep-daily", "7", "--keep-tag", "mails=20000")
    # until an administrator says that it was on purpose
    status.write_text(json.dumps({"kind": "shrunk", "problem": "x"}))
    save.accept()
    found = json.loads(status.read_text())
    assert (found["kind"], found["problem"]) == ("", "")
    restic.commands.clear()
    save._tidy(restic, restic.own_snapshots())
    assert restic.commands[0][-2:] == ("--keep-daily", "7")


def test_accepting_a_loss_hides_no_other_problem(status):
    status.write_text(json.dumps({"kind": "full", "problem": "the disk is full"}))
    save.accept()
    assert json.loads(status.read_text())["problem"] == "the disk is full"
