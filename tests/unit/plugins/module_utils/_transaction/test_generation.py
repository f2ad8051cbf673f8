# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A run notices that another one has changed the server meanwhile."""

import os
import pathlib
import typing as t

import pytest
from ansible_collections.port587.mail.plugins.module_utils._transaction import generation
from ansible_collections.port587.mail.plugins.module_utils._transaction.errors import TransactionError
from ansible_collections.port587.mail.plugins.module_utils._transaction.tree import File
from transaction_fixture import Server


@pytest.fixture
def server(tmp_path: pathlib.Path) -> Server:
    one = Server(str(tmp_path))
    one.run(tree(one, 1))
    return one


def tree(server: Server, version: t.Union[int, str]) -> t.List[File]:
    return [server.file("etc/main.conf", "%s\n" % version)]


@pytest.fixture(autouse=True)
def unnamed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(generation.VARIABLE, raising=False)


def looks(server: Server) -> str:
    return generation.look(server.path("state"))


def test_one_of_several_runs_changes_the_server(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = [looks(server) for _ in range(5)]
    monkeypatch.setenv(generation.VARIABLE, runs[0])
    assert server.run(tree(server, 2)).changed
    # its own changes do not count
    assert server.run(tree(server, 3)).changed
    before = server.snapshot("")
    for run in runs[1:]:
        monkeypatch.setenv(generation.VARIABLE, run)
        # what is as wanted needs no change
        assert not server.run(tree(server, 3)).changed
        with pytest.raises(TransactionError, match="another run has changed this server"):
            server.run(tree(server, 4))
    assert server.snapshot("") == before


def test_also_if_the_other_run_was_under_way_already(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    first = looks(server)
    monkeypatch.setenv(generation.VARIABLE, first)
    server.run(tree(server, 2))
    second = looks(server)
    server.run(tree(server, 3))
    monkeypatch.setenv(generation.VARIABLE, second)
    with pytest.raises(TransactionError, match="another run has changed this server"):
        server.run(tree(server, 4))
    monkeypatch.setenv(generation.VARIABLE, looks(server))
    assert server.run(tree(server, 4)).changed
    # and now it is the first that has to notice
    monkeypatch.setenv(generation.VARIABLE, first)
    with pytest.raises(TransactionError, match="another run has changed this server"):
        server.run(tree(server, 5))


def test_a_change_that_is_rolled_back_was_none(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = [looks(server), looks(server)]
    monkeypatch.setenv(generation.VARIABLE, runs[0])
    with pytest.raises(TransactionError):
        # with which the daemon answers nobody
        server.run(tree(server, "bad"))
    monkeypatch.setenv(generation.VARIABLE, runs[1])
    assert server.run(tree(server, 2)).changed


def test_renewals_leave_no_mark(server: Server) -> None:
    server.run(tree(server, 2))
    assert not os.path.exists(server.path("state/last-change"))


def test_a_run_that_has_not_looked_is_noticed(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    looked = looks(server)
    for version in (2, 3):
        monkeypatch.setenv(generation.VARIABLE, "accounts/*")
        assert server.run(tree(server, version)).changed
    monkeypatch.setenv(generation.VARIABLE, looked)
    with pytest.raises(TransactionError, match="another run has changed this server"):
        server.run(tree(server, 4))


@pytest.mark.parametrize("damage", [b"", bytes(66), os.urandom(5000), b"a/b", b"x" * 33 + b"\n" + b"y" * 33])
def test_a_damaged_mark(server: Server, monkeypatch: pytest.MonkeyPatch, damage: bytes) -> None:
    monkeypatch.setenv(generation.VARIABLE, looks(server))
    server.run(tree(server, 2))
    with open(server.path("state/last-change"), "wb") as file:
        file.write(damage)
    run = looks(server)
    assert run.endswith("/")
    monkeypatch.setenv(generation.VARIABLE, run)
    assert server.run(tree(server, 3)).changed
    assert looks(server).partition("/")[2].startswith(run.partition("/")[0] + ".")
