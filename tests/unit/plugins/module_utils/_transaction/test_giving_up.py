# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""A transaction that gives its files up leaves the server as it was before the first run."""

import os
import pathlib
import stat

import pytest
from ansible_collections.port587.mail.plugins.module_utils._transaction import activation
from ansible_collections.port587.mail.plugins.module_utils._transaction.errors import TransactionError
from transaction_fixture import Server


@pytest.fixture
def server(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    monkeypatch.setattr(activation, "STAYS_UP", 0.01)
    one = Server(str(tmp_path))
    one.put("etc/main.conf", "1 by hand\n", 0o640)
    return one


def test_the_originals_return_with_mode_and_time(server: Server) -> None:
    before = server.snapshot()
    files = [server.file("etc/main.conf", "1\n"), server.file("etc/below/table", "1\n")]
    server.run(files, directories=[server.directory("etc/own")])
    server.run([server.file("etc/main.conf", "2\n"), *files[1:]], directories=[server.directory("etc/own")])
    predicted = server.run([], daemon=False, check_mode=True)
    made = server.run([], daemon=False)
    assert predicted.diff == made.diff
    assert made.restored == [server.path("etc/main.conf")]
    assert made.edited == []
    assert server.snapshot() == before
    assert not server.run([], daemon=False).changed


def test_the_next_takeover_keeps_the_original_of_then(server: Server) -> None:
    for content in ("1 by hand\n", "1 by another hand\n"):
        server.put("etc/main.conf", content)
        server.run([server.file("etc/main.conf", "1\n")])
        server.run([], daemon=False)
        assert server.read("etc/main.conf") == content


def test_a_daemon_that_did_not_run_before_is_stopped(server: Server) -> None:
    server.daemon.enable()
    server.run([server.file("etc/main.conf", "1\n")])
    assert server.run([], daemon=False).activated == {"fake": "stopped"}
    assert not server.daemon.enabled()


@pytest.mark.parametrize("enabled", [True, False])
def test_a_daemon_that_ran_before_runs_on_with_its_files(server: Server, enabled: bool) -> None:
    server.daemon.load()
    if enabled:
        server.daemon.enable()
    server.run([server.file("etc/main.conf", "1\n")])
    server.run([server.file("etc/main.conf", "2\n")])
    assert server.run([], daemon=False).activated == {"fake": "restarted"}
    assert server.daemon.loaded() == b"1 by hand\n"
    assert server.daemon.enabled() == enabled


def test_one_with_files_of_others_runs_on_too(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    server.run([server.file("etc/main.conf", "1\n")])
    monkeypatch.setattr(type(server.daemon), "serves_others", lambda _self, _removed: True)
    assert server.run([], daemon=False).activated == {"fake": "restarted"}
    assert server.daemon.running()


def test_earlier_files_that_do_not_work_are_not_put_back(server: Server) -> None:
    server.daemon.load()
    server.put("etc/services.conf", "9\n")
    files = [server.file("etc/main.conf", "1\n"), server.file("etc/services.conf", "1\n")]
    server.run(files)
    before, state = server.snapshot(), server.snapshot("state")
    with pytest.raises(TransactionError, match="rolled back, fake runs on as before.*died of a mixture"):
        server.run([], daemon=False)
    assert server.snapshot() == before
    assert server.snapshot("state").keys() == state.keys()
    assert server.daemon.loaded() == b"1\n1\n"


def test_what_somebody_has_changed_is_kept_apart(server: Server) -> None:
    server.run([server.file("etc/main.conf", "1\n"), server.file("etc/new", "1\n"), server.file("etc/same", "1\n")])
    for name in ("etc/main.conf", "etc/new"):
        server.put(name, "1 changed\n", 0o600)
    kept = server.run([], daemon=False).edited
    assert sorted(map(os.path.basename, kept)) == ["main.conf", "new"]
    for path in kept:
        with open(path) as handle:
            assert handle.read() == "1 changed\n"
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert server.read("etc/main.conf") == "1 by hand\n"
    assert server.read("etc/new") is None


def test_a_directory_with_somebody_elses_file_stays(server: Server) -> None:
    server.run([server.file("etc/below/table", "1\n"), server.file("etc/gone/table", "1\n")])
    server.put("etc/below/mine", "1\n")
    server.run([], daemon=False)
    assert server.read("etc/below/mine") == "1\n"
    assert not os.path.exists(server.path("etc/below/table"))
    assert not os.path.exists(server.path("etc/gone"))


def test_a_directory_of_others_gets_its_mode_back(server: Server) -> None:
    os.mkdir(server.path("etc/theirs"))
    os.chmod(server.path("etc/theirs"), 0o750)
    files = [server.file("etc/main.conf", "1\n")]
    server.run(files, directories=[server.directory("etc/theirs", 0o700)])
    os.chmod(server.path("etc/theirs"), 0o777)
    server.run(files, directories=[server.directory("etc/theirs", 0o700)])
    server.run([], daemon=False)
    assert stat.S_IMODE(os.stat(server.path("etc/theirs")).st_mode) == 0o750


def test_a_directory_that_another_transaction_needs_stays(server: Server) -> None:
    server.run([server.file("etc/shared/one", "1\n")])
    server.run([server.file("etc/shared/two", "1\n")], name="other", daemon=False)
    server.run([], daemon=False)
    assert server.read("etc/shared/two") == "1\n"
    server.run([], name="other", daemon=False)
    assert not os.path.exists(server.path("etc/shared"))
