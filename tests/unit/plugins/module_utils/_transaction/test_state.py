# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The state of transactions on a server: older formats are read, newer ones left alone, damaged files begun anew."""

import contextlib
import json
import os
import pathlib
import typing as t

import pytest
from ansible_collections.port587.mail.plugins.module_utils._transaction import manifest
from ansible_collections.port587.mail.plugins.module_utils._transaction.errors import TransactionError
from ansible_collections.port587.mail.plugins.module_utils._transaction.journal import Journal
from ansible_collections.port587.mail.plugins.module_utils._transaction.tree import File
from transaction_fixture import Server

MANIFEST = "state/fake/manifest.json"
INTERRUPTED = "state/journal.swapping"


@pytest.fixture
def server(tmp_path: pathlib.Path) -> Server:
    one = Server(str(tmp_path))
    one.run(tree(one, 1))
    return one


def tree(server: Server, version: int) -> t.List[File]:
    return [server.file("etc/main.conf", "%d\n" % version), server.file("etc/table", "%d\n" % version)]


def read_json(server: Server, name: str) -> t.Dict[str, t.Any]:
    return dict(json.loads(server.read(name) or ""))


def make_old(server: Server) -> None:
    """The manifest as it was before it had a version."""
    new = read_json(server, MANIFEST)
    del new["version"]
    new["proofs"] = {name: one["proof"] for name, one in new.pop("daemons").items()}
    server.put(MANIFEST, json.dumps(new))


def test_what_is_kept(server: Server) -> None:
    assert read_json(server, MANIFEST) == {
        "version": 1,
        "files": [server.path("etc/main.conf"), server.path("etc/table")],
        "directories": [],
        "daemons": {"fake": {"description": {"unit": "fake"}, "proof": {"asked": "it"}}},
    }


def test_an_old_manifest_is_taken_over_without_a_change(server: Server) -> None:
    now = server.read(MANIFEST)
    make_old(server)
    before = server.snapshot()
    server.daemon.description = {"unit": "fake", "kind": "service"}
    assert not server.run(tree(server, 1), check_mode=True).changed
    server.daemon.calls = []
    assert not server.run(tree(server, 1)).changed
    assert server.snapshot() == before
    assert server.daemon.calls == []
    written = read_json(server, MANIFEST)
    assert written["daemons"]["fake"]["description"] == server.daemon.description
    assert dict(written, daemons=None) == dict(json.loads(now or ""), daemons=None)


def test_an_old_manifest_still_says_what_to_remove_and_to_stop(server: Server) -> None:
    make_old(server)
    result = server.run([], daemon=False)
    assert result.activated == {"fake": "stopped"}
    assert server.snapshot() == {}


def test_an_old_manifest_still_says_what_to_prove(server: Server) -> None:
    make_old(server)
    server.daemon.calls = []
    with pytest.raises(TransactionError, match="rolled back, fake runs on as before"):
        server.run([server.file("etc/main.conf", "2 bad\n")], asked="more")
    assert server.daemon.calls == ["reload", "prove more", "restart", "prove it"]


def test_an_old_journal_is_taken_back(server: Server) -> None:
    before = server.snapshot()
    os.rename(server.path("etc/main.conf"), server.path("etc/.port587-before.main.conf"))
    server.put("etc/main.conf", "2 bad\n")
    server.put("etc/new", "x\n")
    old = {
        "files": {server.path("etc/main.conf"): True, server.path("etc/new"): False},
        "created": [],
        "changed": [],
        "daemons": {"fake": [True, True]},
    }
    server.put(INTERRUPTED, json.dumps(old))
    server.daemon.stop()
    assert server.run(tree(server, 1), check_mode=True).recovered
    assert server.run(tree(server, 1)).recovered
    assert server.snapshot() == before
    assert server.daemon.loaded() == b"1\n"


NEWER = ['{"version": 2}', '{"version": 100, "files": 3}']
DAMAGES = [
    "",
    '{"version": 1, "fil',
    "\0" * 100,
    "[" * 100000,
    "[]",
    '{"files": 3}',
    '{"version": "x"}',
    '{"version": -1}',
]
STORED = [MANIFEST, INTERRUPTED, "state/record.json"]


@pytest.mark.parametrize("check_mode", [True, False])
@pytest.mark.parametrize("content", NEWER)
@pytest.mark.parametrize("name", [*STORED, "state/other/manifest.json"])
def test_what_a_newer_version_has_written_is_left_alone(
    server: Server, name: str, content: str, check_mode: bool
) -> None:
    os.makedirs(os.path.dirname(server.path(name)), exist_ok=True)
    server.put(name, content)
    before = server.snapshot(""), server.daemon.loaded()
    with pytest.raises(TransactionError, match="%s was written by a newer version.*; this change was not made" % name):
        server.run(tree(server, 2), check_mode=check_mode)
    assert (server.snapshot(""), server.daemon.loaded()) == before


@pytest.mark.parametrize("content", DAMAGES)
@pytest.mark.parametrize("name", STORED)
def test_what_is_damaged_is_begun_anew(server: Server, name: str, content: str) -> None:
    content = content.replace("files", "daemons") if name.endswith("record.json") else content
    server.put(name, content)
    before = server.snapshot("")
    predicted = server.run(tree(server, 1), check_mode=True)
    assert server.snapshot("") == before
    server.daemon.calls = []
    result = server.run(tree(server, 1))
    for one in (predicted, result):
        assert [said for said in one.warnings if said.startswith(server.path(name))], one.warnings
    assert server.read(name + ".damaged") == content
    # what was there is taken over
    assert (server.read("etc/main.conf"), server.daemon.loaded()) == ("1\n", b"1\n")
    assert (result.originals, result.diff) == ([], [])
    assert not os.path.exists(server.path(INTERRUPTED))
    # it may not have loaded what is there
    assert ("reload" in server.daemon.calls) == (name == MANIFEST)
    after = server.snapshot("")
    again = server.run(tree(server, 1))
    assert (again.changed, again.warnings, server.snapshot("")) == (False, [], after)
    assert read_json(server, MANIFEST)["files"] == [server.path("etc/main.conf"), server.path("etc/table")]


def test_a_damaged_manifest_of_another_transaction_waits_for_it(server: Server) -> None:
    server.run([server.file("etc/other", "1\n")], name="other", daemon=False)
    server.put("state/other/manifest.json", "{")
    result = server.run(tree(server, 2))
    assert (result.warnings, server.read("state/other/manifest.json")) == ([], "{")
    with pytest.raises(TransactionError, match="other/manifest.json is damaged.*Run site.yml"):
        manifest.refuse_damaged(server.state)
    assert server.run([], name="other", daemon=False).warnings
    assert server.read("etc/other") == "1\n"
    manifest.refuse_damaged(server.state)


@pytest.mark.parametrize("record", [None, "{"])
def test_originals_are_kept_when_a_manifest_is_damaged(server: Server, record: t.Optional[str]) -> None:
    server.put("etc/own", "somebody's\n")
    wanted = tree(server, 1)
    server.run([*wanted, server.file("etc/own", "1\n")])
    server.put(MANIFEST, "{")
    if record:
        server.put("state/record.json", record)
    # neither what this collection wrote, nor what was changed of it since, replaces the original
    server.put("etc/table", "changed\n")
    server.run([*tree(server, 2), server.file("etc/own", "2\n")])
    server.run(tree(server, 2))
    assert server.read("etc/own") == "somebody's\n"


@pytest.mark.parametrize("check_mode", [False, True])
@pytest.mark.parametrize("phase", ["staging", "swapping", "done"])
@pytest.mark.parametrize("content", DAMAGES[:4])
def test_a_change_is_taken_back_without_its_journal(
    server: Server, content: str, phase: str, check_mode: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As killed in each phase; the journal is damaged then."""

    class Killed(BaseException):
        pass

    def die(journal: Journal) -> None:
        if journal.present():
            raise Killed

    before = server.snapshot()
    with monkeypatch.context() as patch:
        patch.setattr(Journal, "restore" if phase == "swapping" else "clean_up", die)
        if phase == "staging":
            patch.setattr(Journal, "swap", die)
        with contextlib.suppress(Killed):
            server.run([server.file("etc/main.conf", "2 bad\n" if phase == "swapping" else "2\n"), tree(server, 1)[1]])
    journal = server.path("state/journal." + phase)
    assert os.path.exists(journal)
    server.put("state/journal." + phase, content)
    if check_mode:
        now = server.snapshot("")
        result = server.run(tree(server, 1), check_mode=True)
        assert server.snapshot("") == now
    else:
        result = server.run(tree(server, 1))
        left = [name for name in os.listdir(server.path("etc")) if name.startswith(".")]
        assert (left, os.path.exists(journal), server.read("state/journal.%s.damaged" % phase)) == ([], False, content)
        assert (server.read("etc/main.conf"), server.daemon.loaded()) == ("1\n", b"1\n")
        if phase != "done":
            assert server.snapshot() == before
    assert result.recovered == (phase == "swapping")
    assert any("journal.%s" % phase in said for said in result.warnings)
