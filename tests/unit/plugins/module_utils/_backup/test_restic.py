# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""What restic is told, and why it failed."""

import pytest
from ansible_collections.port587.mail.plugins.module_utils._backup import restic as restic_module
from ansible_collections.port587.mail.plugins.module_utils._backup.restic import TAG, Failure, Restic, parse_time


@pytest.mark.parametrize(
    "text", ["2026-11-27T17:00:00.25+01:00", "2026-11-27T16:00:00.25Z", "2026-11-27T14:30:00.25-01:30"]
)
def test_times_of_any_zone(text):
    assert parse_time(text) == 1795795200.25


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
    monkeypatch.setattr(restic_module, "_version", lambda: (0, 18, 0))
    restic = Restic({"repository": "/r", "host": "mail.example.com"})
    failure = restic._failure(1, said)
    assert failure.kind == kind
    assert str(failure).startswith("/r: ")


def test_a_repository_of_another_server_is_refused(monkeypatch):
    monkeypatch.setattr(restic_module, "_version", lambda: (0, 18, 0))
    restic = Restic({"repository": "/r", "host": "mail.example.com"})
    ours = {"hostname": "mail.example.com", "tags": [TAG], "at": 0.0}
    monkeypatch.setattr(restic, "snapshots", lambda: [ours])
    assert restic.own_snapshots() == [ours]
    for other in ({"hostname": "mail.example.org"}, {"tags": None}):
        monkeypatch.setattr(restic, "snapshots", lambda other=other: [ours, dict(ours, **other)])
        with pytest.raises(Failure, match="this server's are of mail.example.com"):
            restic.own_snapshots()


def test_ssh_gets_the_port_and_the_user(monkeypatch, tmp_path):
    monkeypatch.setattr(restic_module, "_version", lambda: (0, 18, 0))
    settings = {"host": "h", "known_hosts": "x", "ssh_key": "key"}
    for repository, end in {
        "sftp:eve@backup.example.net:/srv/mail": "-l eve backup.example.net -s sftp",
        "sftp://eve@backup.example.net:2222//srv/mail": "-p 2222 -l eve backup.example.net -s sftp",
        "sftp:backup:mail": "backup -s sftp",
    }.items():
        restic = Restic(dict(settings, repository=repository))
        assert restic._ssh(str(tmp_path)).endswith(" " + end)
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600
