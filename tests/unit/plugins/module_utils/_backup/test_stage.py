# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Copies of what changes meanwhile."""

import os
import sqlite3

import pytest
from ansible_collections.port587.mail.plugins.module_utils._backup import stage


@pytest.fixture
def home(tmp_path):
    """A mailbox with two mails in the folder Archive, and one in INBOX."""
    maildir = tmp_path / "vmail" / "example.com" / "eve" / "Maildir"
    for folder in ("", ".Archive"):
        for name in ("cur", "new", "tmp"):
            (maildir / folder / name).mkdir(parents=True)
    (maildir / "cur" / "1.M1.host:2,S").write_text("read")
    (maildir / ".Archive" / "new" / "2.M2.host").write_text("new")
    (maildir / ".Archive" / "cur" / "3.M3.host:2,").write_text("old")
    (maildir / "tmp" / "4.M4.host").write_text("not accepted yet")
    (maildir / "dovecot-uidlist").write_text("3 V17 N3 G1\n1 :1.M1.host\n2 :5.M")
    (maildir / "dovecot.index.cache").write_text("made again")
    (maildir.parent / ".dovecot.sieve").symlink_to("sieve/mine.sieve")
    return maildir


def staged_of(home):
    root = home.parents[2]
    staged = root / stage.STAGED
    count = stage.stage_mail(str(root), str(staged))
    return count, staged / "example.com" / "eve"


def test_mail_is_linked_and_the_rest_copied(home):
    count, staged = staged_of(home)
    assert count == 3
    assert (staged / "Maildir" / "cur" / "1.M1.host:2,S").samefile(home / "cur" / "1.M1.host:2,S")
    assert (staged / "Maildir" / ".Archive" / "new" / "2.M2.host").read_text() == "new"
    assert list((staged / "Maildir" / "tmp").iterdir()) == []
    assert not (staged / "Maildir" / "dovecot.index.cache").exists()
    assert os.readlink(str(staged / ".dovecot.sieve")) == "sieve/mine.sieve"
    # the half line, of a mail that is arriving, is left out
    assert (staged / "Maildir" / "dovecot-uidlist").read_text() == "3 V17 N3 G1\n1 :1.M1.host\n"
    # a copy of a copy would grow each time
    assert staged_of(home)[0] == 3


def test_a_mail_that_moves_meanwhile_is_not_missed(home, monkeypatch):
    """From the folder that is walked last to the one that was walked first, with another name."""
    real, moved = stage.names_in, []

    def names(directory):
        found = real(directory)
        if directory.endswith(".Archive/cur") and not moved:
            moved.append(True)
            os.rename(str(home / ".Archive" / "cur" / "3.M3.host:2,"), str(home / "cur" / "9.M3.host:2,S"))
        return found

    monkeypatch.setattr(stage, "names_in", names)
    _count, staged = staged_of(home)
    assert moved
    assert (staged / "Maildir" / "cur" / "9.M3.host:2,S").read_text() == "old"


def test_a_mail_that_is_read_meanwhile_is_not_missed(home, monkeypatch):
    real, renamed = os.link, []

    def link(source, target):
        if source.endswith("2.M2.host") and not renamed:
            renamed.append(True)
            os.rename(source, source.replace("new/2.M2.host", "cur/2.M2.host:2,S"))
        real(source, target)

    monkeypatch.setattr(os, "link", link)
    count, staged = staged_of(home)
    assert count == 3
    assert (staged / "Maildir" / ".Archive" / "cur" / "2.M2.host:2,S").read_text() == "new"


def test_the_queue_is_copied_without_halves(tmp_path):
    for queue in ("incoming", "deferred/A", "defer/A"):
        (tmp_path / "spool" / queue).mkdir(parents=True)
    files = {"incoming/half": 0o600, "incoming/WHOLE": 0o700, "deferred/A/A1": 0o700, "defer/A/A1": 0o600}
    for name, mode in files.items():
        (tmp_path / "spool" / name).write_text(name)
        (tmp_path / "spool" / name).chmod(mode)
    assert stage.stage_queue(str(tmp_path / "spool"), str(tmp_path / "staged")) == 2
    found = {str(path.relative_to(tmp_path / "staged")) for path in (tmp_path / "staged").rglob("*") if path.is_file()}
    assert found == set(files) - {"incoming/half"}
    assert not (tmp_path / "staged" / "incoming" / "WHOLE").samefile(tmp_path / "spool" / "incoming" / "WHOLE")


def test_a_database_is_copied_whole(tmp_path):
    root = tmp_path / "limits"
    root.mkdir()
    database = sqlite3.connect(str(root / "sent.sqlite"), isolation_level=None)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("CREATE TABLE sent (login TEXT)")
    database.execute("INSERT INTO sent VALUES ('eve')")
    stage.stage_copy(str(root), str(tmp_path / "staged"))
    copy = sqlite3.connect(str(tmp_path / "staged" / "sent.sqlite"))
    assert copy.execute("SELECT login FROM sent").fetchall() == [("eve",)]
    copy.close()
    database.close()
