# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The effects of a transaction on a tree of files and on the daemon that reads it."""

import json
import os
import pathlib
import re
import signal
import stat
import subprocess
import sys
import time
import typing as t

import pytest
from ansible_collections.port587.mail.plugins.module_utils._transaction import apply, lock, manifest, swap
from ansible_collections.port587.mail.plugins.module_utils._transaction import change as transaction
from ansible_collections.port587.mail.plugins.module_utils._transaction import diff as shown_diff
from ansible_collections.port587.mail.plugins.module_utils._transaction.daemon import Activation
from ansible_collections.port587.mail.plugins.module_utils._transaction.errors import TransactionError
from ansible_collections.port587.mail.plugins.module_utils._transaction.tree import Compiler, File, Problem
from ansible_collections.port587.mail.plugins.module_utils._transaction.view import View
from transaction_fixture import FakeDaemon, Server


@pytest.fixture
def server(tmp_path: pathlib.Path) -> Server:
    one = Server(str(tmp_path))
    one.put("etc/main.conf", "1 by the package\n")
    one.put("etc/services.conf", "1 by the package\n", 0o600)
    return one


def tree(server: Server, version: int, more: str = "") -> t.List[File]:
    return [
        server.file("etc/main.conf", "%d %s\n" % (version, more)),
        server.file("etc/services.conf", "%d\n" % version, 0o640),
        server.file("etc/below/table", "%d\n" % version),
    ]


def leftovers(server: Server) -> t.List[str]:
    found = [n for _d, _s, names in os.walk(server.root) for n in names if n.startswith((".port587", "journal"))]
    return found + [n for _d, _s, names in os.walk(server.state) for n in names if n.endswith(".new")]


# -- what is changed ----------------------------------------------------------------------------------------------


def test_first_run_writes_starts_and_proves(server: Server) -> None:
    result = server.run(tree(server, 1))
    assert result.changed
    assert result.activated == {"fake": "started"}
    assert server.daemon.calls == ["enable", "start", "prove it"]
    assert server.read("etc/below/table") == "1\n"
    assert stat.S_IMODE(os.stat(server.path("etc/services.conf")).st_mode) == 0o640
    assert leftovers(server) == []


def test_units_are_read_anew_when_they_changed(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the daemon is told, and again when they are taken back."""
    monkeypatch.setattr(swap, "UNITS", server.path("etc/units/"))
    monkeypatch.setattr(swap, "run_command", lambda argv: server.daemon.calls.append(argv[-1]) or (0, "", ""))
    server.run([*tree(server, 1), server.file("etc/units/fake", "1")])
    assert server.daemon.calls == ["daemon-reload", "enable", "start", "prove it"]
    server.daemon.calls.clear()
    server.run([*tree(server, 2), server.file("etc/units/fake", "1")])
    assert "daemon-reload" not in server.daemon.calls
    server.daemon.calls.clear()
    with pytest.raises(TransactionError):
        server.run([*tree(server, 2, "bad"), server.file("etc/units/fake", "2")])
    assert server.daemon.calls == ["daemon-reload", "reload", "prove it", "daemon-reload", "restart", "prove it"]
    server.daemon.calls.clear()
    server.run(tree(server, 2))
    assert server.daemon.calls == ["daemon-reload", "reload", "prove it"]


def test_second_run_changes_nothing(server: Server) -> None:
    server.run(tree(server, 1))
    before, state = server.snapshot(), server.snapshot("state")
    server.daemon.calls = []
    result = server.run(tree(server, 1))
    assert not result.changed
    assert result.diff == []
    assert server.daemon.calls == []
    assert server.snapshot() == before
    assert server.snapshot("state") == state


def test_what_does_not_serve_is_restarted(server: Server) -> None:
    """A reload does not revive an smtpd that died of what somebody wrote into its files by hand."""
    server.run(tree(server, 1))
    server.put("etc/main.conf", "1 bad\n")
    server.daemon.load()
    server.daemon.calls = []
    result = server.run(tree(server, 1))
    assert result.activated == {"fake": "restarted"}
    assert server.daemon.calls == ["restart", "prove it"]


def test_a_change_reloads(server: Server) -> None:
    server.run(tree(server, 1))
    server.daemon.calls = []
    result = server.run(tree(server, 2))
    assert result.activated == {"fake": "reloaded"}
    assert server.daemon.calls == ["reload", "prove it"]
    assert server.daemon.loaded() == b"2 \n2\n"


def test_restarts_only_where_the_daemon_has_to(server: Server) -> None:
    server.run(tree(server, 1))
    assert server.run(tree(server, 2, "port")).activated == {"fake": "restarted"}
    assert server.run(tree(server, 3, "port")).activated == {"fake": "reloaded"}


def test_a_stopped_daemon_is_started_although_no_file_changes(server: Server) -> None:
    server.run(tree(server, 1))
    server.daemon.stop()
    assert server.run(tree(server, 1)).activated == {"fake": "started"}


def test_enabling_alone_does_not_restart(server: Server) -> None:
    server.run(tree(server, 1))
    server.daemon.disable()
    server.daemon.calls = []
    assert server.run(tree(server, 1)).activated == {"fake": "enabled"}
    assert server.daemon.calls == ["enable", "prove it"]
    assert not server.run(tree(server, 1)).changed


def test_mode_alone_is_a_change_that_the_diff_shows(server: Server) -> None:
    server.run(tree(server, 1))
    os.chmod(server.path("etc/main.conf"), 0o666)
    result = server.run(tree(server, 1))
    assert result.changed
    (entry,) = result.diff
    assert "0666" in entry["before_header"]
    assert "0644" in entry["after_header"]
    # Ansible prints headers only where the texts differ
    assert entry["before"] != entry["after"]


def test_a_program_of_ours_is_shown_in_one_line(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shown_diff, "PROGRAMS", server.path("lib/"))
    (new,) = server.run([server.file("lib/program", "#!/bin/sh\nexit 0\n")]).diff
    (changed,) = server.run([server.file("lib/program", "#!/bin/sh\nexit 1\n")]).diff
    for text in (new["after"], changed["before"], changed["after"]):
        assert re.fullmatch(r"\(this collection's program, sha256 [0-9a-f]{64}\)\n", text)
    assert changed["before"] == new["after"] != changed["after"]


def test_an_empty_new_file_is_shown(server: Server) -> None:
    (entry,) = server.run([server.file("etc/empty", "")]).diff
    assert entry["before"] != entry["after"]


def test_file_dropped_by_a_later_version_is_removed_and_the_diff_says_so(server: Server) -> None:
    server.run(tree(server, 1))
    server.put("etc/local-thing", "by hand")
    result = server.run(tree(server, 1)[:2])
    assert [e["after_header"] for e in result.diff] == [
        server.path("etc/below/table") + " (removed: written by an earlier version, no longer used)"
    ]
    assert server.read("etc/below/table") is None
    assert server.read("etc/local-thing") == "by hand"
    assert result.activated == {"fake": "reloaded"}
    assert not server.run(tree(server, 1)[:2]).changed


def test_daemon_dropped_by_a_later_version_is_stopped(server: Server) -> None:
    server.run(tree(server, 1))
    assert server.run([], daemon=False, check_mode=True).activated == {"fake": "stopped"}
    assert server.daemon.running()
    result = server.run([], daemon=False)
    assert result.activated == {"fake": "stopped"}
    assert not server.daemon.running()
    assert not server.daemon.enabled()
    assert not server.run([], daemon=False).changed


def test_dropped_daemon_runs_on_when_that_fails(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    server.run(tree(server, 1))
    before = server.snapshot()

    def broken(*_arguments: t.Any) -> None:
        raise OSError(5, "Input/output error", "somewhere")

    with monkeypatch.context() as patched:
        patched.setattr(apply.swap, "swap", broken)
        with pytest.raises(TransactionError, match="rolled back, fake runs on as before"):
            server.run([], daemon=False)
    assert server.snapshot() == before
    assert server.daemon.running()
    assert server.daemon.enabled()


def test_daemon_that_another_part_took_over_is_not_stopped(server: Server) -> None:
    server.run(tree(server, 1))
    server.run(tree(server, 1), name="other")
    assert server.run([], daemon=False).activated == {}
    assert server.daemon.running()


def test_some_files_of_many_leave_the_others_alone(server: Server) -> None:
    server.run(tree(server, 1))
    before = server.snapshot()
    assert not server.run(tree(server, 1)[:1], keep_others=True).changed
    assert server.snapshot() == before
    result = server.run([*tree(server, 1)[:1], server.file("etc/more", "x")], keep_others=True)
    assert [e["after_header"].split(" ")[0] for e in result.diff] == [server.path("etc/more")]
    # and all of them are known to the next run that names all it wants
    server.run(tree(server, 1)[:2])
    assert server.read("etc/more") is None
    assert server.read("etc/below/table") is None


def test_file_that_another_part_took_over_is_not_removed(server: Server) -> None:
    server.run(tree(server, 1))
    server.run([server.file("etc/below/table", "mine now\n")], name="other", daemon=False)
    server.run(tree(server, 1)[:2])
    assert server.read("etc/below/table") == "mine now\n"


def test_directory_in_the_place_of_a_dropped_file_stays(server: Server) -> None:
    server.run(tree(server, 1))
    os.unlink(server.path("etc/below/table"))
    os.mkdir(server.path("etc/below/table"))
    assert not server.run(tree(server, 1)[:2]).changed


def test_what_was_there_first_is_kept_once(server: Server) -> None:
    server.run(tree(server, 1))
    server.run(tree(server, 2))
    kept = "state/fake/original" + server.path("etc/main.conf")
    assert server.read(kept) == "1 by the package\n"
    assert os.stat(server.path(kept)).st_mtime == 1500000000.25
    assert server.read("state/fake/original" + server.path("etc/below/table")) is None


def test_says_where_what_was_there_first_is_kept(server: Server) -> None:
    """When it was in use; what the package of a daemon that is new has brought is nobody's."""
    kept = [server.path("state/fake/original" + server.path("etc/" + name)) for name in ("main.conf", "services.conf")]
    server.daemon.start()
    assert server.run(tree(server, 1), check_mode=True).originals == kept
    assert server.run(tree(server, 1)).originals == kept
    assert server.run(tree(server, 2)).originals == []


def test_says_nothing_of_what_a_package_brought(server: Server) -> None:
    assert server.run(tree(server, 1)).originals == []
    assert server.read("state/fake/original" + server.path("etc/main.conf")) == "1 by the package\n"


def test_files_that_stay_when_they_are_not_wanted(server: Server) -> None:
    keys = [server.file("etc/keys/a.key", "a"), server.file("etc/keys/b.key", "b"), server.file("etc/keys/c.key", "c")]
    keep = server.path("etc/keys/") + "(?!b[.])[^/]+[.]key$"
    server.run(tree(server, 1) + keys, keep=keep)
    predicted = server.run(tree(server, 1) + keys[2:], keep=keep, check_mode=True)
    result = server.run(tree(server, 1) + keys[2:], keep=keep)
    assert predicted.kept == result.kept == [server.path("etc/keys/a.key")]
    assert [server.read("etc/keys/%s.key" % name) for name in "abc"] == ["a", None, "c"]
    again = server.run(tree(server, 1) + keys[2:], keep=keep)
    assert (again.changed, again.kept) == (False, [])
    # as if it had never been away
    assert [
        entry["after_header"].split(" ")[0] for entry in server.run(tree(server, 1) + keys[::2], keep=keep).diff
    ] == []


def test_what_a_person_wrote_after_a_first_run_that_failed_is_kept(server: Server) -> None:
    with pytest.raises(TransactionError):
        server.run(tree(server, 1, "bad"))
    server.put("etc/main.conf", "1 by a person\n")
    server.run(tree(server, 1))
    assert server.read("state/fake/original" + server.path("etc/main.conf")) == "1 by a person\n"


def test_link_is_replaced_and_what_it_points_to_is_not(server: Server) -> None:
    os.rename(server.path("etc/main.conf"), server.path("etc/elsewhere"))
    os.symlink("elsewhere", server.path("etc/main.conf"))
    server.run(tree(server, 1))
    assert not os.path.islink(server.path("etc/main.conf"))
    assert server.read("etc/elsewhere") == "1 by the package\n"


def test_directory_behind_a_link_is_fine(server: Server) -> None:
    os.mkdir(server.path("disk"))
    os.symlink(server.path("disk"), server.path("etc/mail"))
    result = server.run(tree(server, 1), directories=[server.directory("etc/mail", 0o750)])
    assert result.changed
    assert stat.S_IMODE(os.stat(server.path("disk")).st_mode) == 0o750
    assert not server.run(tree(server, 1), directories=[server.directory("etc/mail", 0o750)]).changed


def test_umask_does_not_shut_daemons_out(server: Server) -> None:
    old = os.umask(0o077)
    try:
        server.run(tree(server, 1), directories=[server.directory("etc/mail", 0o775)])
    finally:
        os.umask(old)
    assert stat.S_IMODE(os.stat(server.path("etc/below")).st_mode) == 0o755
    assert stat.S_IMODE(os.stat(server.path("etc/mail")).st_mode) == 0o775


def test_hard_link_count_of_a_replaced_file_is_zero(server: Server) -> None:
    # Postfix looks at the link count of an open table, to see that it was replaced
    server.run(tree(server, 1))
    counts = []
    with open(server.path("etc/below/table")) as handle:
        server.daemon.prove = lambda *_, **__: counts.append(os.fstat(handle.fileno()).st_nlink)  # type: ignore[assignment]
        server.run(tree(server, 2))
    # before the change, and after it
    assert counts == [1, 0]


# -- what is refused ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("check_mode", [True, False])
def test_invalid_tree_never_becomes_live(server: Server, check_mode: bool) -> None:
    server.run(tree(server, 1))
    before = server.snapshot()
    with pytest.raises(TransactionError) as failed:
        server.run(tree(server, 2, "nonsense"), check_mode=check_mode)
    assert failed.value.details["problems"] == [{"path": server.path("etc/main.conf"), "line": 1, "text": "nonsense"}]
    assert "main.conf line 1: nonsense" in failed.value.message
    assert server.snapshot() == before


def test_own_check(server: Server) -> None:
    def check(view: View) -> t.List[Problem]:
        assert view.read(server.path("etc/below/table")) == b"1\n"
        assert not view.exists(server.path("etc/nowhere"))
        return [Problem(server.path("etc/below/table"), "too short")]

    with pytest.raises(TransactionError, match="too short"):
        server.run(tree(server, 1), validate=check)


def test_daemon_not_installed(server: Server) -> None:
    server.put("daemon/missing", "")
    before = server.snapshot()
    with pytest.raises(TransactionError, match="fake is not installed; this change was not made"):
        server.run(tree(server, 1))
    assert server.snapshot() == before
    result = server.run(tree(server, 1), check_mode=True)
    assert result.activated == {"fake": "started"}
    assert result.not_validated == ["fake: not installed yet"]


@pytest.mark.parametrize(
    ("name", "paths", "words"),
    [
        ("../x", ["/a"], "is not a name"),
        ("fake", ["a"], "not an absolute path"),
        ("fake", ["/a", "/a"], "/a: is given twice"),
    ],
)
def test_bad_arguments(tmp_path: pathlib.Path, name: str, paths: t.List[str], words: str) -> None:
    with pytest.raises(TransactionError, match=words):
        transaction.run(name, [File(p, b"") for p in paths], state_directory=str(tmp_path), daemon_of=None)


def test_user_that_is_not_there(server: Server) -> None:
    before = server.snapshot()
    wanted = tree(server, 1)
    wanted[1] = wanted[1]._replace(owner="nobody-has-this-name")
    with pytest.raises(TransactionError, match="has to belong to nobody-has-this-name:.*this change was not made"):
        server.run(wanted)
    assert server.snapshot() == before
    assert leftovers(server) == []
    # a task before this one may add the user
    assert "nobody-has-this-name" in server.run(wanted, check_mode=True).not_validated[0]


def test_directory_where_a_file_should_be(server: Server) -> None:
    os.mkdir(server.path("etc/dir"))
    before = server.snapshot()
    with pytest.raises(TransactionError, match="Is a directory.*this change was not made"):
        server.run(tree(server, 1) + [server.file("etc/dir", "x")])
    assert server.snapshot() == before
    assert leftovers(server) == []


# -- rolling back -------------------------------------------------------------------------------------------------


def test_a_cause_is_not_lost_among_repetitions(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A daemon that tries again and again names another process each time."""
    again = ["warning: process %d exit status 1" % number for number in range(30)]
    monkeypatch.setattr(server.daemon, "words_since", lambda moment: ["fatal: no SASL socket", *again])
    with pytest.raises(TransactionError) as failed:
        server.run(tree(server, 1, "bad"))
    assert "fatal: no SASL socket" in failed.value.message
    assert failed.value.details["daemon_log"] == ["fatal: no SASL socket", again[-1]]


def test_rolls_back_all_of_it(server: Server) -> None:
    os.symlink("elsewhere", server.path("etc/link"))
    os.mkdir(server.path("etc/mail"), 0o750)
    server.run(tree(server, 1) + [server.file("etc/dropped", "x", 0o600)])
    before, state = server.snapshot(), server.snapshot("state")
    server.daemon.calls = []
    with pytest.raises(TransactionError) as failed:
        server.run(
            tree(server, 2, "bad") + [server.file("etc/link", "no link"), server.file("etc/new/a/b", "new")],
            directories=[server.directory("etc/mail", 0o777), server.directory("etc/other/made")],
            asked="more",
        )
    assert server.snapshot() == before
    assert server.snapshot("state") == state
    assert leftovers(server) == []
    assert failed.value.message.startswith("rolled back, fake runs on as before: port 587 (smtp): no answer")
    assert "it hurts" in failed.value.message
    assert failed.value.details["rolled_back"] is True
    assert failed.value.details["daemon_log"] == ["fake: fatal: it hurts"]
    # restarted, and proved by what was asked of it before
    assert server.daemon.calls == ["reload", "prove more", "restart", "prove it"]
    assert server.daemon.loaded() == b"1 \n1\n"


def test_rolls_back_to_stopped_and_disabled(server: Server) -> None:
    before = server.snapshot()
    with pytest.raises(TransactionError, match="fake is stopped, as it was before"):
        server.run(tree(server, 1, "bad"))
    assert server.snapshot() == before
    assert not server.daemon.running()
    assert not server.daemon.enabled()


def test_says_so_when_the_previous_files_do_not_work_either(server: Server) -> None:
    server.run(tree(server, 1))
    server.put("etc/main.conf", "1 bad\n")
    before = server.snapshot()
    with pytest.raises(TransactionError, match="fake does not answer as it should on the previous files either"):
        server.run(tree(server, 2, "bad"))
    assert server.snapshot() == before


def test_an_exception_that_nobody_expects_is_rolled_back(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    server.run(tree(server, 1))
    before = server.snapshot()

    def surprise(_self: t.Any, _remembered: t.Any, **_patience: float) -> None:
        if "2" in server.read("etc/main.conf"):  # type: ignore[operator]
            raise UnicodeDecodeError("ascii", b"\xff", 0, 1, "surprise")

    monkeypatch.setattr(FakeDaemon, "prove", surprise)
    with pytest.raises(TransactionError, match="surprise"):
        server.run(tree(server, 2))
    assert server.snapshot() == before


def test_a_file_that_can_not_be_replaced(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """As with a bind mount or chattr +i: neither the swap nor the roll-back can rename anything onto it."""
    server.run(tree(server, 1))
    before = server.snapshot()
    rename = os.rename

    def guarded(source: str, target: str) -> None:
        if target.endswith("services.conf"):
            raise OSError(16, "Device or resource busy", target)
        rename(source, target)

    monkeypatch.setattr(os, "rename", guarded)
    with pytest.raises(TransactionError, match="rolled back.*busy"):
        server.run(tree(server, 2))
    assert server.snapshot() == before
    assert leftovers(server) == []


def test_says_so_when_not_all_can_be_put_back(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    server.run(tree(server, 1))
    before = server.snapshot()
    rename = os.rename

    def guarded(source: str, target: str) -> None:
        if source.endswith("before.main.conf"):
            raise OSError(30, "Read-only file system", source)
        rename(source, target)

    monkeypatch.setattr(os, "rename", guarded)
    with pytest.raises(TransactionError, match="NOT all could be put back .*Read-only file system"):
        server.run(tree(server, 2, "bad"))
    assert server.read("etc/services.conf") == "1\n"
    monkeypatch.undo()
    with pytest.raises(TransactionError, match="rolled back"):
        server.run(tree(server, 2, "bad"))
    assert server.snapshot() == before
    assert leftovers(server) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_told_to_stop(server: Server, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    server.run(tree(server, 1))
    before = server.snapshot()
    reload = FakeDaemon.reload

    def interrupted(self: FakeDaemon) -> None:
        reload(self)
        os.kill(os.getpid(), number)

    monkeypatch.setattr(FakeDaemon, "reload", interrupted)
    with pytest.raises(TransactionError, match="rolled back.*interrupted by signal %d" % number):
        server.run(tree(server, 2))
    assert server.snapshot() == before
    assert server.daemon.loaded() == b"1 \n1\n"


# -- check mode ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("change", ["first", "value", "removed", "mode", "stopped", "nothing"])
def test_check_mode_predicts_exactly(server: Server, change: str) -> None:
    wanted = tree(server, 1)
    if change != "first":
        server.run(wanted)
    if change == "value":
        wanted = tree(server, 2)
    elif change == "removed":
        wanted = wanted[:2]
    elif change == "mode":
        os.chmod(server.path("etc/main.conf"), 0o600)
    elif change == "stopped":
        server.daemon.stop()
    directories = [server.directory("etc/mail")] if change == "value" else []
    before = server.snapshot(""), server.daemon.loaded()
    predicted = server.run(wanted, directories=directories, check_mode=True)
    assert (server.snapshot(""), server.daemon.loaded()) == before
    assert predicted == server.run(wanted, directories=directories)
    assert predicted.changed is (change != "nothing")


def test_files_that_came_with_the_package_are_not_shown(server: Server) -> None:
    bare = server.path("bare")
    os.mkdir(bare)
    other = Server(bare)
    predicted = other.run(tree(other, 1), directories=[other.directory("etc/mail")], check_mode=True)
    os.mkdir(server.path("etc/mail"), 0o755)
    applied = server.run(tree(server, 1), directories=[server.directory("etc/mail")])
    assert json.dumps(predicted.diff).replace(bare, server.root) == json.dumps(applied.diff)


def test_files_of_a_running_daemon_are_shown(server: Server) -> None:
    server.daemon.start()
    assert server.run(tree(server, 1)).diff[0]["before"] == "1 by the package\n"


def test_what_other_parts_write_may_be_missing_in_check_mode_only(server: Server) -> None:
    def check(_view: View) -> t.List[Problem]:
        return [Problem(server.path("etc/main.conf"), "/etc/port587/tls/not-there does not exist", pending=True)]

    assert "not-there" in server.run(tree(server, 1), validate=check, check_mode=True).not_validated[0]
    with pytest.raises(TransactionError, match="not-there"):
        server.run(tree(server, 1), validate=check)


def test_check_mode_sees_a_full_and_a_read_only_file_system(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        f_flag, f_bavail, f_frsize = 0, 0, 4096

    class ReadOnly:
        f_flag, f_bavail, f_frsize = os.ST_RDONLY, 1000, 4096

    for kind, words in ((Full, "No space left"), (ReadOnly, "Read-only")):
        monkeypatch.setattr(os, "statvfs", lambda _path, kind=kind: kind)
        with pytest.raises(TransactionError, match=words):
            server.run(tree(server, 1), check_mode=True)


# -- two at once --------------------------------------------------------------------------------------------------


def test_second_run_waits_or_gives_up(server: Server) -> None:
    server.run(tree(server, 1))
    with lock.lock(server.state, 1.0, check_mode=False):
        started = time.time()
        with pytest.raises(TransactionError, match="another run is changing this server.*this change was not made"):
            server.run(tree(server, 2), lock_timeout=0.3)
        assert time.time() - started >= 0.3
        with pytest.raises(TransactionError, match="another run"):
            server.run([], lock_timeout=0.1, check_mode=True)


def test_lock_of_a_killed_run_is_free(server: Server) -> None:
    code = (
        "import os, sys; from ansible_collections.port587.mail.plugins.module_utils._transaction import lock\n"
        "with lock.lock(%r, 1, False): os.kill(os.getpid(), 9)" % server.state
    )
    assert (
        subprocess.call([sys.executable, "-c", code], env=dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path))) == -9
    )
    assert server.run(tree(server, 1)).changed


# -- what is shown ------------------------------------------------------------------------------------------------


def test_secrets_are_never_shown(server: Server) -> None:
    shown = []
    for content in ("s3cret-one", "s3cret-two"):
        wanted = [server.file("etc/passwords", content, 0o600, secret=True)]
        shown += [server.run(wanted, check_mode=True), server.run(wanted)]
    shown.append(server.run([]))
    assert all(result.changed and result.diff for result in shown)
    assert "s3cret" not in str(shown)


def test_a_long_table_is_shown_by_its_changed_lines(server: Server) -> None:
    lines = ["user%d@example.com OK\n" % number for number in range(100000)]
    server.run([server.file("etc/table", "".join(lines))])
    lines[500] = "changed@example.com OK\n"
    (entry,) = server.run([server.file("etc/table", "".join(lines))]).diff
    assert entry["before"] == "(of 100000 lines, those that differ)\nuser500@example.com OK\n"
    assert entry["after"] == "(of 100000 lines, those that differ)\nchanged@example.com OK\n"
    (entry,) = server.run([server.file("etc/table", "".join("x" + line for line in lines))]).diff
    assert len(entry["after"]) < 100000
    assert entry["after"].endswith("(and 98000 more)\n")


# -- lookup tables ------------------------------------------------------------------------------------------------


class Compiled(Compiler):
    """A table with a word in front."""

    not_installed = "tables: no compiler"

    def installed(self) -> bool:
        return True

    def path(self, source: str) -> str:
        return source + ".db"

    def compile(self, sources: t.Sequence[File]) -> t.Tuple[t.List[File], t.List[Problem]]:
        problems = [Problem(one.path, "odd", 1) for one in sources if b"odd" in one.content]
        made = [
            one._replace(path=self.path(one.path), content=b"compiled " + one.content, secret=True, compiler=None)
            for one in sources
        ]
        return made, problems


COMPILED = Compiled()


class Missing(Compiled):
    def installed(self) -> bool:
        return False


def test_a_compiler_that_is_not_installed(server: Server) -> None:
    result = server.run([server.file("etc/passwords", "a b\n", compiler=Missing())])
    assert result.not_validated == ["tables: no compiler"]
    assert server.read("etc/passwords.db") is None


def test_what_a_compiler_complains_of(server: Server) -> None:
    with pytest.raises(TransactionError, match="passwords line 1: odd"):
        server.run([server.file("etc/passwords", "odd\n", compiler=COMPILED)])
    assert server.read("etc/passwords") is None


def test_tables_are_compiled_beside_their_source(server: Server) -> None:
    wanted = [server.file("etc/passwords", "a b\n", 0o600, compiler=COMPILED)]
    assert len(server.run(wanted).diff) == 1
    assert server.read("etc/passwords.db") == "compiled a b\n"
    status, source = os.stat(server.path("etc/passwords.db")), os.stat(server.path("etc/passwords"))
    assert stat.S_IMODE(status.st_mode) == 0o600
    assert status.st_mtime_ns == source.st_mtime_ns
    assert not server.run(wanted).changed


@pytest.mark.parametrize("age", [0, 4, 5, 6, 60, -60])
def test_no_file_has_the_second_of_the_one_that_it_replaces(server: Server, age: int) -> None:
    """Dovecot would take one of the same second and size for the one that it has read."""
    server.run(tree(server, 1))
    stamp = time.time() - age
    os.utime(server.path("etc/below/table"), (stamp, stamp))
    server.run(tree(server, 2))
    after = os.stat(server.path("etc/below/table")).st_mtime
    assert int(after) != int(stamp)
    assert after <= time.time() + 1


@pytest.mark.parametrize("trouble", ["missing", "older", "mode"])
def test_compiled_table_that_is_not_as_it_should_be(server: Server, trouble: str) -> None:
    wanted = [server.file("etc/passwords", "a b\n", 0o600, compiler=COMPILED)]
    server.run(wanted)
    if trouble == "missing":
        os.unlink(server.path("etc/passwords.db"))
    elif trouble == "older":
        os.utime(server.path("etc/passwords.db"), (1, 1))
    else:
        os.chmod(server.path("etc/passwords.db"), 0o644)
    predicted = server.run(wanted, check_mode=True)
    assert predicted == server.run(wanted)
    assert predicted.changed
    assert len(predicted.diff) == 1
    assert not server.run(wanted).changed


def test_dropped_table_goes_with_its_compiled_form(server: Server) -> None:
    server.run([server.file("etc/passwords", "a b\n", 0o600, compiler=COMPILED)])
    server.run([])
    assert sorted(os.listdir(server.path("etc"))) == ["main.conf", "services.conf"]


# -- an interrupted run -------------------------------------------------------------------------------------------


@pytest.fixture
def interrupted(server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    """Killed after the swap: the new files are live, the daemon hasn't been told."""
    server.run(tree(server, 1))
    pid = os.fork()
    if pid == 0:
        server.daemon.reload = lambda: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[assignment]
        server.run(tree(server, 2) + [server.file("etc/new", "x")])
        os._exit(0)
    assert os.WTERMSIG(os.waitpid(pid, 0)[1]) == signal.SIGKILL
    assert server.read("etc/main.conf") == "2 \n"
    return server


def test_next_run_takes_it_back_first(interrupted: Server) -> None:
    server = interrupted
    result = server.run(tree(server, 1))
    assert result.recovered
    assert result.changed
    assert result.diff == []
    assert server.read("etc/main.conf") == "1 \n"
    assert server.read("etc/new") is None
    assert leftovers(server) == []
    assert server.daemon.calls[-2:] == ["restart", "prove it"]
    assert not server.run(tree(server, 1)).changed


def test_next_run_of_another_name_takes_it_back(interrupted: Server) -> None:
    server = interrupted
    assert server.run([server.file("etc/other", "x")], name="other", daemon=False).recovered
    assert server.read("etc/main.conf") == "1 \n"
    assert server.read("etc/new") is None
    assert server.daemon.loaded() == b"1 \n1\n"


def test_taken_back_even_when_the_next_tree_is_not_valid(interrupted: Server) -> None:
    server = interrupted
    with pytest.raises(TransactionError, match="nonsense"):
        server.run(tree(server, 3, "nonsense"))
    assert server.read("etc/main.conf") == "1 \n"
    assert leftovers(server) == []


@pytest.mark.parametrize("version", [1, 2, 3])
def test_check_mode_predicts_that_too(interrupted: Server, version: int) -> None:
    server = interrupted
    before = server.snapshot("")
    predicted = server.run(tree(server, version), check_mode=True)
    assert server.snapshot("") == before
    assert predicted == server.run(tree(server, version))
    assert predicted.recovered


def test_proof_of_a_running_daemon_is_remembered(server: Server) -> None:
    server.run(tree(server, 1), asked="this")
    assert manifest.proof_of("fake", server.state) == {"asked": "this"}
    transaction.run(
        "certificates",
        [],
        (),
        [Activation(server.daemon, {"asked": "that"}, remember=False)],
        state_directory=server.state,
        daemon_of=server.daemon_of,
    )
    assert manifest.proof_of("fake", server.state) == {"asked": "this"}
