# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The checks of Dovecot, and the changes that need a restart."""

import pathlib
import typing as t

import pytest
from ansible_collections.port587.mail.plugins.module_utils._daemons import dovecot as dovecot_daemon
from ansible_collections.port587.mail.plugins.module_utils._daemons import dovecot_values, systemd
from ansible_collections.port587.mail.plugins.module_utils._daemons.dovecot import Dovecot
from ansible_collections.port587.mail.plugins.module_utils._transaction.tree import File, Problem
from ansible_collections.port587.mail.plugins.module_utils._transaction.view import View

DESCRIPTION = {"unit": "dovecot", "kind": "dovecot"}


def test_what_dovecot_restarts_for(tmp_path: pathlib.Path) -> None:
    dovecot = Dovecot(DESCRIPTION)
    dovecot.configuration = str(tmp_path / "dovecot.conf")
    (tmp_path / "dovecot.conf").write_text("listen = *\n")
    assert not dovecot.needs_restart(View([File(dovecot.configuration, b"listen = ::\n")]))
    assert dovecot.needs_restart(View([File(dovecot.configuration, b"base_dir = /run/x\n")]))
    assert dovecot.needs_restart(View([File(dovecot.configuration, b"import_environment = TZ A=b\n")]))
    assert dovecot.needs_restart(View([File(dovecot.configuration, b"protocols {\n  pop3 = yes\n}\n")]))
    dovecot.units = str(tmp_path)
    assert dovecot.needs_restart(View([File(str(tmp_path / "port587.conf"), b"[Service]\nLimitNOFILE=65535\n")]))


def test_dovecot_2_2_is_given_the_time_to_compute_its_parameters(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 3:
            (tmp_path / "ssl-parameters.dat").write_bytes(b"x")

    dovecot = Dovecot(DESCRIPTION)
    monkeypatch.setattr(dovecot, "parameters", str(tmp_path / "ssl-parameters.dat"))
    monkeypatch.setattr(dovecot, "parameters_program", str(tmp_path / "ssl-params"))
    monkeypatch.setattr(dovecot_daemon.time, "sleep", sleep)
    monkeypatch.setattr(Dovecot, "running", lambda _self: True)
    # since 2.3 there is no such program
    dovecot.prove({})
    assert slept == []
    (tmp_path / "ssl-params").write_bytes(b"x")
    # one that is asked whether it serves now
    dovecot.prove({}, patience=0)
    assert slept == []
    dovecot.prove({})
    assert len(slept) == 3
    # one that has died has nothing to wait for
    (tmp_path / "ssl-parameters.dat").unlink()
    monkeypatch.setattr(Dovecot, "running", lambda _self: False)
    dovecot.prove({})
    assert len(slept) == 3


def test_values_of_dovecot(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dovecot_values, "_knows_mechanism", lambda word: word in ("plain", "login"))
    monkeypatch.setattr(dovecot_values, "_has_plugin", lambda word: word == "quota")
    there = tmp_path / "passwd"
    there.write_text("")
    settings = "\n".join(
        [
            "auth_mechanisms = plain log-in",
            "mail_plugins = quota none",
            "passdb {",
            "  args = scheme=X username_format=%%Lu %s" % there,
            "  args = /nowhere/passwd",
            "  args = /etc/dovecot/sql.conf.ext",
            "}",
            "ssl_dh = </nowhere/dh.pem",
            "    user = nobody-has-this-name",
            "    user = root",
            "    group = $SET:x",
        ]
    )
    view = View([File("/etc/dovecot/dovecot.conf", b"\nauth_mechanisms = plain log-in\n")])
    problems = Dovecot(DESCRIPTION)._look_up(settings, view)
    assert [(p.text, p.line, p.pending) for p in problems] == [
        ("auth_mechanisms: this Dovecot has no mechanism log-in", 2, False),
        ("mail_plugins: plugin none is not installed", None, False),
        ("args: /nowhere/passwd does not exist", None, False),
        ("ssl_dh: /nowhere/dh.pem does not exist", None, False),
        ("user: this server has no user or group nobody-has-this-name", None, False),
    ]


def test_place_of_dovecot_s_problem() -> None:
    line = "doveconf: Fatal: Error in configuration file /etc/dovecot/dovecot.conf line 3: Unknown setting: x"
    assert Dovecot(DESCRIPTION)._locate(line) == Problem("/etc/dovecot/dovecot.conf", "Unknown setting: x", 3)
    assert Dovecot(DESCRIPTION)._locate("doveconf: Fatal: no") == Problem("/etc/dovecot/dovecot.conf", "no")


def test_dovecot_s_own_files_are_checked_together(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What dovecot.conf includes is found beside it: the new file where there is one, else the live one."""
    dovecot = Dovecot(DESCRIPTION)
    dovecot.configuration = str(tmp_path / "dovecot.conf")
    for name in ("dovecot.conf", "old.conf", "local.conf"):
        (tmp_path / name).write_text("live")
    seen = {}

    def doveconf(argv: t.Sequence[str], stdin: t.Optional[bytes] = None) -> t.Tuple[int, str, str]:
        seen.update({p.name: p.read_text() for p in pathlib.Path(argv[2]).parent.iterdir()})
        return (
            89,
            "",
            "doveconf: Fatal: Error in configuration file %s line 1: no" % argv[2].replace("dovecot.conf", "old.conf"),
        )

    monkeypatch.setattr(dovecot_daemon, "run_command", doveconf)
    new = [File(str(tmp_path / name), b"new") for name in ("dovecot.conf", "old.conf")]
    assert dovecot.validate(View(new)) == [Problem(str(tmp_path / "old.conf"), "no", 1)]
    assert seen == {"dovecot.conf": "new", "old.conf": "new", "local.conf": "live"}


def test_what_doveconf_prints_in_both_dialects() -> None:
    new = (
        "ssl_server {\n  cert_file = /a\n  key_file = /b\n}\n"
        "mail_plugins {\n  quota = yes\n}\nssl = required\nservice x {\n  user = y\n}\n"
    )
    assert dovecot_values.doveconf(new) == [
        ("ssl_server_cert_file", "/a"),
        ("ssl_server_key_file", "/b"),
        ("mail_plugins", "quota"),
        ("ssl", "required"),
        ("user", "y"),
    ]
    old = 'ssl_cert = </a\nprotocol imap {\n  mail_plugins = " quota imap_quota"\n}\n'
    assert dovecot_values.doveconf(old) == [("ssl_cert", "</a"), ("mail_plugins", " quota imap_quota")]


def test_reload_waits_until_the_daemon_has_heard_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = ["", "", "master: Warning: SIGHUP received - reloading configuration"]
    monkeypatch.setattr(systemd, "run_command", lambda argv: (0, lines.pop(0) if "journalctl" in argv else "", ""))
    Dovecot(DESCRIPTION).reload()
    assert lines == []


def test_listener_that_a_reload_went_on_without(monkeypatch: pytest.MonkeyPatch) -> None:
    log = (
        "master: Warning: SIGHUP received - reloading configuration\n"
        "master: Error: service(imap-login): listen(*, 2525) failed: Address already in use\n"
        "imap(a): Error: of a person's own\n"
    )
    monkeypatch.setattr(systemd, "run_command", lambda _argv: (0, log, ""))
    assert Dovecot(DESCRIPTION).complaints_since(0.0) == log.splitlines()[1:2]
