# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""A transaction is skipped only if it certainly has nothing to do."""

import json
import os
import pathlib
import typing as t

import pytest
from ansible_collections.port587.mail.plugins.module_utils._daemons import known
from ansible_collections.port587.mail.plugins.module_utils._daemons.tables import POSTMAP
from ansible_collections.port587.mail.plugins.module_utils._transaction.daemon import Activation
from ansible_collections.port587.mail.plugins.module_utils._transaction.tree import File
from transaction_fixture import Server

KEY = "etc/made.key"


@pytest.fixture
def server(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    one = Server(str(tmp_path))
    monkeypatch.setattr(known.kinds, "of", one.daemon_of)
    one.run(tree(one), directories=[one.directory("etc/below", 0o750)])
    return one


def tree(server: Server, version: int = 1, key: str = "made here\n") -> t.List[File]:
    return [
        server.file("etc/main.conf", "%d\n" % version),
        server.file("etc/below/table", "%d\n" % version),
        server.file(KEY, key, 0o640, secret=True),
    ]


def nothing_to_do(
    server: Server,
    files: t.Optional[t.List[File]] = None,
    mode: int = 0o750,
    asked: str = "it",
    generated: t.Sequence[str] = (KEY,),
) -> bool:
    # as it comes out of a module
    trees = json.loads(json.dumps(known.trees(server.state)))
    if "fake" not in trees:
        return False
    activations = [Activation(server.daemon, {"asked": asked})]
    wanted = tree(server, key="") if files is None else files
    made = [server.path(name) for name in generated]
    return known.nothing_to_do(trees["fake"], wanted, made, [server.directory("etc/below", mode)], activations)


def test_nothing_is_to_do_after_a_run(server: Server) -> None:
    assert nothing_to_do(server)


@pytest.mark.parametrize("name", ["etc/main.conf", "etc/below/table"])
def test_a_changed_file(server: Server, name: str) -> None:
    server.put(name, "by hand\n")
    assert not nothing_to_do(server)


@pytest.mark.parametrize("name", ["etc/main.conf", KEY])
def test_a_missing_file(server: Server, name: str) -> None:
    os.unlink(server.path(name))
    assert not nothing_to_do(server)


@pytest.mark.parametrize("name", ["etc/main.conf", KEY, "etc/below"])
def test_changed_attributes(server: Server, name: str) -> None:
    os.chmod(server.path(name), 0o700)
    assert not nothing_to_do(server)


def test_a_link_instead_of_the_file(server: Server) -> None:
    os.rename(server.path("etc/main.conf"), server.path("elsewhere"))
    os.symlink(server.path("elsewhere"), server.path("etc/main.conf"))
    assert not nothing_to_do(server)


def test_other_contents(server: Server) -> None:
    assert not nothing_to_do(server, tree(server, 2))


def test_one_file_more_or_less(server: Server) -> None:
    files = tree(server)
    assert not nothing_to_do(server, files[1:])
    assert not nothing_to_do(server, files + [server.file("etc/more", "")])


def test_a_file_that_not_everybody_may_read_is_not_told_and_never_taken_for_the_same(server: Server) -> None:
    assert known.trees(server.state)["fake"]["files"][server.path(KEY)]["sha256"] is None
    assert not nothing_to_do(server, tree(server), generated=())


def test_another_directory_or_proof(server: Server) -> None:
    assert not nothing_to_do(server, mode=0o755)
    assert not nothing_to_do(server, asked="more")


@pytest.mark.parametrize("state", ["loaded", "enabled"])
def test_a_daemon_that_is_stopped_or_disabled(server: Server, state: str) -> None:
    os.unlink(server.path("daemon/" + state))
    assert not nothing_to_do(server)


def test_a_daemon_that_is_not_installed(server: Server) -> None:
    server.put("daemon/missing", "")
    assert not nothing_to_do(server)


@pytest.mark.parametrize("phase", ["staging", "swapping", "done"])
def test_an_interrupted_change(server: Server, phase: str) -> None:
    server.put("state/journal." + phase, "{}")
    assert not nothing_to_do(server)


def test_nothing_is_known_before_the_first_run(tmp_path: pathlib.Path) -> None:
    assert known.trees(str(tmp_path / "state")) == {}


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ({"attributes": [0o644, "root", "root"], "mtime": 1.0}, True),
        ({"attributes": [0o644, "root", "root"], "mtime": 0.5}, False),
        ({"attributes": [0o600, "root", "root"], "mtime": 1.0}, False),
        (None, False),
    ],
)
def test_a_table_has_to_be_compiled_from_what_is_there(table: t.Optional[t.Dict[str, t.Any]], expected: bool) -> None:
    source = File("/etc/x", b"a b\n", compiler=POSTMAP)
    there = {
        "attributes": [0o644, "root", "root"],
        "mtime": 1.0,
        "sha256": "01186fcf04b4b447f393e552964c08c7b419c1ad7a25c342a0b631b1967d3a27",
    }
    told = {
        "manifest": {"files": ["/etc/x", "/etc/x.db"], "directories": [], "daemons": {}, "version": 1},
        "files": {"/etc/x": there, "/etc/x.db": table},
        "directories": {},
        "daemons": {},
        "tables": "hash",
    }
    assert known.nothing_to_do(told, [source], [], [], []) == expected


def test_what_a_newer_version_has_written_is_for_the_next_transaction_to_say(server: Server) -> None:
    server.put("state/fake/manifest.json", '{"version": 2}')
    assert known.trees(server.state) == {}


@pytest.mark.parametrize("content", ["", "{"])
def test_what_is_damaged_has_to_be_begun_anew(server: Server, content: str) -> None:
    server.put("state/fake/manifest.json", content)
    # named, so that it is removed if nobody wants it any more
    assert not known.nothing_to_do(known.trees(server.state)["fake"], [], [], [], [])
