# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The state of transactions on a server: older formats are read, and unusable files are left alone."""

import json
import os
import pathlib
import typing as t

import pytest
from ansible_collections.port587.mail.plugins.module_utils._transaction.errors import TransactionError
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


@pytest.mark.parametrize("check_mode", [True, False])
@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "is damaged"),
        ('{"version": 1, "fil', "is damaged"),
        ("\0" * 100, "is damaged"),
        ("[" * 100000, "is damaged"),
        ("[]", "is damaged [(]it is not a dictionary[)]"),
        ('{"files": 3}', "is damaged [(]files is not a (list|dict)[)]"),
        ('{"version": 2}', "was written by a newer version of port587.mail [(]format 2; this one knows up to 1[)]"),
        ('{"version": "x"}', "was written by a newer version of port587.mail"),
    ],
)
@pytest.mark.parametrize("name", [MANIFEST, INTERRUPTED, "state/other/manifest.json"])
def test_what_can_not_be_used_is_left_alone(
    server: Server, name: str, content: str, words: str, check_mode: bool
) -> None:
    os.makedirs(os.path.dirname(server.path(name)), exist_ok=True)
    server.put(name, content)
    before = server.snapshot(""), server.daemon.loaded()
    with pytest.raises(TransactionError, match="%s %s.*; this change was not made" % (name, words)):
        server.run(tree(server, 2), check_mode=check_mode)
    assert (server.snapshot(""), server.daemon.loaded()) == before


def test_what_a_person_can_do_about_a_damaged_manifest(server: Server) -> None:
    """Moved away, the files are taken over as they are."""
    server.put(MANIFEST, "{")
    with pytest.raises(TransactionError, match="Put it back from a backup, or move it away"):
        server.run(tree(server, 1))
    os.unlink(server.path(MANIFEST))
    assert not server.run(tree(server, 1)).changed
