# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""How rspamd is checked and started."""

import pathlib
import subprocess
import typing as t

import pytest
from ansible_collections.port587.mail.plugins.module_utils._daemons import rspamd as rspamd_daemon
from ansible_collections.port587.mail.plugins.module_utils._daemons.rspamd import Rspamd
from ansible_collections.port587.mail.plugins.module_utils._transaction.tree import File
from ansible_collections.port587.mail.plugins.module_utils._transaction.view import View

DESCRIPTION = {"unit": "rspamd", "kind": "rspamd"}


def test_rspamd_s_includes_lead_to_the_copy(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are named by variables that are compiled in, so a changed file would not be seen otherwise."""
    live = tmp_path / "rspamd"
    (live / "override.d").mkdir(parents=True)
    (live / "rspamd.conf").write_text('.include "$CONFDIR/a.inc"\n.include "${LOCAL_CONFDIR}/override.d/b.inc"\n')
    (live / "override.d" / "gone.inc").write_text("x")
    monkeypatch.setattr(Rspamd, "directory", str(live))
    new = str(live / "override.d" / "b.inc")
    seen = {}

    def configtest(argv: t.Sequence[str]) -> t.Tuple[int, str, str]:
        tree = pathlib.Path(argv[-1]).parent
        seen["conf"] = pathlib.Path(argv[-1]).read_text().replace(str(tree), "TREE")
        seen["new"] = (tree / "override.d" / "b.inc").read_text()
        seen["gone"] = str((tree / "override.d" / "gone.inc").exists())
        text = "symbol 'A' has its score defined, error\nucl parser error in %s/override.d/b.inc: line: 1, column: 2\n"
        return 1, text % tree, "syntax BAD"

    monkeypatch.setattr(rspamd_daemon, "run_command", configtest)
    view = View([File(new, b"enabled = ", 0o644)], [str(live / "override.d" / "gone.inc")])
    problems = Rspamd(DESCRIPTION).validate(view)
    assert seen == {
        "conf": '.include "TREE/a.inc"\n.include "TREE/override.d/b.inc"\n',
        "new": "enabled = ",
        "gone": "False",
    }
    assert len(problems) == 1
    assert "b.inc: line: 1, column: 2" in problems[0].text
    monkeypatch.setattr(rspamd_daemon, "run_command", lambda _argv: (0, "", "symbol 'A' has its score defined"))
    assert Rspamd(DESCRIPTION).validate(view) == []


def test_a_key_for_signatures_that_is_too_short(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Rspamd, "_lay_out", lambda *_arguments: None)
    run = rspamd_daemon.run_command
    monkeypatch.setattr(rspamd_daemon, "run_command", lambda argv: (0, "", "") if argv[0] == "rspamadm" else run(argv))
    path = "/var/lib/rspamd/dkim/example.com.rsa1.key"

    def said(content: bytes) -> t.List[t.Tuple[str, str]]:
        return [(one.path, one.text) for one in Rspamd(DESCRIPTION).validate(View([File(path, content)]))]

    for bits, text in ((1024, "the key has 1024 bits, and many refuse what has less than 2048"), (2048, "")):
        key = subprocess.check_output(["openssl", "genrsa", str(bits)], stderr=subprocess.DEVNULL)
        assert said(key) == ([(path, text)] if text else [])
    assert said(b"nonsense") == [(path, "it is neither PEM nor an Ed25519 key in base64")]
    # check mode, which makes none
    assert said(b"") == []


def test_rspamd_starts_again_after_it_has_compiled(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    restarts = []

    def restart(_daemon: t.Any) -> None:
        restarts.append(1)
        (tmp_path / "a.hsmp").write_text("")

    monkeypatch.setattr(Rspamd, "state", str(tmp_path))
    monkeypatch.setattr(Rspamd, "restart", restart)
    monkeypatch.setattr(Rspamd, "_workers", staticmethod(lambda: {"1"}))
    Rspamd(DESCRIPTION).start()
    assert len(restarts) == 2
    Rspamd(DESCRIPTION).start()
    assert len(restarts) == 3
