# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The backup program: copies of what changes meanwhile, the choice of a snapshot, and why restic failed."""

import os
import sqlite3

import pytest
from repository import program

backup = program("backup", "backup")


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


def stage(home):
    root = home.parents[2]
    staged = root / backup.STAGED
    count = backup.stage_mail(str(root), str(staged))
    return count, staged / "example.com" / "eve"


def test_mail_is_linked_and_the_rest_copied(home):
    count, staged = stage(home)
    assert count == 3
    assert (staged / "Maildir" / "cur" / "1.M1.host:2,S").samefile(home / "cur" / "1.M1.host:2,S")
    assert (staged / "Maildir" / ".Archive" / "new" / "2.M2.host").read_text() == "new"
    assert list((staged / "Maildir" / "tmp").iterdir()) == []
    assert not (staged / "Maildir" / "dovecot.index.cache").exists()
    assert os.readlink(str(staged / ".dovecot.sieve")) == "sieve/mine.sieve"
    # the half line, of a mail that is arriving, is left out
    assert (staged / "Maildir" / "dovecot-uidlist").read_text() == "3 V17 N3 G1\n1 :1.M1.host\n"
    # a copy of a copy would grow each time
    assert stage(home)[0] == 3


def test_a_mail_that_moves_meanwhile_is_not_missed(home, monkeypatch):
    """From the folder that is walked last to the one that was walked first, with another name."""
    real, moved = backup._names, []

    def names(directory):
        found = real(directory)
        if directory.endswith(".Archive/cur") and not moved:
            moved.append(True)
            os.rename(str(home / ".Archive" / "cur" / "3.M3.host:2,"), str(home / "cur" / "9.M3.host:2,S"))
        return found

    monkeypatch.setattr(backup, "_names", names)
    _count, staged = stage(home)
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
    count, staged = stage(home)
    assert count == 3
    assert (staged / "Maildir" / ".Archive" / "cur" / "2.M2.host:2,S").read_text() == "new"


def test_the_queue_is_copied_without_halves(tmp_path):
    for queue in ("incoming", "deferred/A", "defer/A"):
        (tmp_path / "spool" / queue).mkdir(parents=True)
    files = {"incoming/half": 0o600, "incoming/WHOLE": 0o700, "deferred/A/A1": 0o700, "defer/A/A1": 0o600}
    for name, mode in files.items():
        (tmp_path / "spool" / name).write_text(name)
        (tmp_path / "spool" / name).chmod(mode)
    assert backup.stage_queue(str(tmp_path / "spool"), str(tmp_path / "staged")) == 2
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
    backup.stage_copy(str(root), str(tmp_path / "staged"))
    copy = sqlite3.connect(str(tmp_path / "staged" / "sent.sqlite"))
    assert copy.execute("SELECT login FROM sent").fetchall() == [("eve",)]
    copy.close()
    database.close()


def test_the_last_snapshot_until_then():
    times = ["2026-11-19T23:00:00.5Z", "2026-11-20T10:00:00+00:00", "2026-11-23T12:00:00Z"]
    snapshots = [{"id": text, "at": backup._parse_time(text)} for text in times]
    assert backup.choose(snapshots, "")["id"] == times[2]
    assert backup.choose(snapshots, "2026-11-21")["id"] == times[1]
    with pytest.raises(backup.Failure, match="no snapshot until 2020-01-01"):
        backup.choose(snapshots, "2020-01-01")
    with pytest.raises(backup.Failure, match="'soon' is not a date; write one such as"):
        backup.choose(snapshots, "soon")


@pytest.mark.parametrize(
    "text", ["2026-11-27T17:00:00.25+01:00", "2026-11-27T16:00:00.25Z", "2026-11-27T14:30:00.25-01:30"]
)
def test_times_of_any_zone(text):
    assert backup._parse_time(text) == 1795795200.25


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("Fatal: wrong password or no key found", "password"),
        ("unable to create lock in backend: repository is already locked by PID 547", "locked"),
        ("Save(<data/1>) returned error: write f: no space left on device", "full"),
        ('sftp: "Failure" (SSH_FX_FAILURE)', "full"),
        (
            "Fatal: unable to open config file\nIs there a repository at the following location?",
            "missing",
        ),
        ("subprocess ssh: keeper@192.0.2.1: Permission denied (publickey).", "unreachable"),
        ("pack 35b6ba96: does not exist\nFatal: repository contains errors", "damaged"),
        ("decrypting blob failed: ciphertext verification failed", "damaged"),
        ("Fatal: something else", "failed"),
    ],
)
def test_why_restic_failed(monkeypatch, said, kind):
    monkeypatch.setattr(backup, "_version", lambda: (0, 18))
    restic = backup.Restic({"repository": "/r", "host": "mail.example.com"})
    failure = restic._failure(1, said)
    assert failure.kind == kind
    assert str(failure).startswith("/r: ")


def test_a_repository_of_another_server_is_refused(monkeypatch):
    monkeypatch.setattr(backup, "_version", lambda: (0, 18))
    restic = backup.Restic({"repository": "/r", "host": "mail.example.com"})
    ours = {"hostname": "mail.example.com", "tags": [backup.TAG], "at": 0.0}
    monkeypatch.setattr(restic, "snapshots", lambda: [ours])
    assert restic.own_snapshots() == [ours]
    for other in ({"hostname": "mail.example.org"}, {"tags": None}):
        monkeypatch.setattr(restic, "snapshots", lambda other=other: [ours, dict(ours, **other)])
        with pytest.raises(backup.Failure, match="this server's are of mail.example.com"):
            restic.own_snapshots()


def test_ssh_gets_the_port_and_the_user(monkeypatch, tmp_path):
    monkeypatch.setattr(backup, "_version", lambda: (0, 18))
    settings = {"host": "h", "known_hosts": "x", "ssh_key": "key"}
    for repository, end in {
        "sftp:eve@backup.example.net:/srv/mail": "-l eve backup.example.net -s sftp",
        "sftp://eve@backup.example.net:2222//srv/mail": "-p 2222 -l eve backup.example.net -s sftp",
        "sftp:backup:mail": "backup -s sftp",
    }.items():
        restic = backup.Restic(dict(settings, repository=repository))
        assert restic._ssh(str(tmp_path)).endswith(" " + end)
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600
