# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""A restore replaces what is there, and takes it back if it fails."""

import json
import os
import pathlib

import pytest
from ansible_collections.port587.mail.plugins.module_utils._backup import restore
from ansible_collections.port587.mail.plugins.module_utils._backup.restic import Failure


class FakeRestic:
    """Restores into a directory that stands for the root, as far as it gets."""

    def __init__(self, root, fails=False):
        self.root, self.fails = root, fails
        paths = [{"path": str(root / "vmail"), "as": "mail"}, {"path": str(root / "state.json"), "as": "plain"}]
        self.settings = {"paths": paths}
        self.snapshot = {"id": "1", "paths": [one["path"] for one in paths]}

    def run(self, *arguments):
        assert arguments == ("restore", "1", "--target", "/")
        (self.root / "vmail" / "example.com").mkdir(parents=True)
        (self.root / "vmail" / "example.com" / "mail").write_text("restored")
        (self.root / "state.json").write_text("restored")
        if self.fails:
            raise Failure("damaged", "half of it")

    def put_back(self):
        return restore._put_back(self, self.snapshot, restore._places(self.settings, self.snapshot))


@pytest.fixture
def root(tmp_path, monkeypatch):
    names = tmp_path / "names.json"
    names.write_text(json.dumps({"users": {}, "groups": {}}))
    monkeypatch.setattr(restore, "NAMES", str(names))
    # the directories above belong to the test's user, but perhaps not those above all tests
    monkeypatch.setattr(restore, "_above_all", lambda settings: set())
    return tmp_path


def tree(root: pathlib.Path):
    return {
        str(path.relative_to(root)): path.read_text()
        for path in sorted(root.rglob("*"))
        if path.is_file() and path.name != "names.json"
    }


@pytest.mark.parametrize("mounted", [False, True])
def test_what_was_there_is_moved_aside(root, monkeypatch, mounted):
    # the mail's own disk: its root cannot be renamed
    monkeypatch.setattr(os.path, "ismount", lambda path: mounted and path == str(root / "vmail"))
    (root / "vmail").mkdir()
    (root / "vmail" / "mail").write_text("was here")
    (root / "state.json").write_text("was here, and was longer")
    aside = FakeRestic(root).put_back()
    assert len(aside) == 2
    assert [pathlib.Path(one).parent for one in aside] == [root / "vmail" if mounted else root, root]
    assert pathlib.Path(aside[0], "mail").read_text() == "was here"
    found = tree(root)
    assert found["vmail/example.com/mail"] == found["state.json"] == "restored"
    assert len(found) == 4


@pytest.mark.parametrize("mounted", [False, True])
def test_a_failed_restore_is_taken_back(root, monkeypatch, mounted):
    monkeypatch.setattr(os.path, "ismount", lambda path: mounted and path == str(root / "vmail"))
    (root / "vmail").mkdir()
    (root / "vmail" / "mail").write_text("was here")
    before = tree(root)
    with pytest.raises(Failure, match="half of it"):
        FakeRestic(root, fails=True).put_back()
    assert tree(root) == before
    assert sorted(os.listdir(str(root))) == ["names.json", "vmail"]
    assert os.listdir(str(root / "vmail")) == ["mail"]


def test_a_failed_restore_leaves_a_bare_server_bare(root):
    """So that the next try is not refused because of half a mailbox."""
    with pytest.raises(Failure):
        FakeRestic(root, fails=True).put_back()
    assert tree(root) == {}


def test_a_snapshot_without_the_mail_is_refused(root):
    """The mail was elsewhere on the old server. Restored there, nobody would see it."""
    restic = FakeRestic(root)
    restic.snapshot["paths"] = ["/srv/mail", str(root / "state.json")]
    with pytest.raises(Failure, match="the snapshot has no mail in .*/vmail; it has /"):
        restic.put_back()
    # a path that is saved since then only stays as it is
    restic.snapshot["paths"] = [str(root / "vmail")]
    assert restore._places(restic.settings, restic.snapshot) == [str(root / "vmail")]


def test_directories_that_others_need_stay_where_they_are(root):
    restic = FakeRestic(root)
    for kind in ("queue", "extra"):
        restic.settings["paths"].append({"path": str(root / kind), "as": kind})
        restic.snapshot["paths"].append(str(root / kind))
    assert restore._places(restic.settings, restic.snapshot) == [str(root / "vmail"), str(root / "state.json")]
