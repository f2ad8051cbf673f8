# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fuzz files of accounts: the result is accounts, or a mistake with its place."""

from __future__ import annotations

import csv
import io
import json
import pathlib
import tracemalloc
import typing as t

import pytest
from ansible_collections.port587.mail.plugins.module_utils._wire.limits import LONGEST_ACCOUNT
from ansible_collections.port587.mail.plugins.plugin_utils import _accounts_source
from fuzzing import bytes_of
from hypothesis import given
from hypothesis import strategies as st

TEXT = st.text(st.characters(blacklist_categories=("Cc", "Cf", "Cn", "Cs", "Zl", "Zp")), max_size=20)
ACCOUNT = st.fixed_dictionaries({"address": TEXT.filter(bool), "password": TEXT.filter(bool)})
PIECES = {
    "csv": [b"address,password\n", b'"', b",", b"eve@example.com,x\n", b";", b"\r\n", b"\xef\xbb\xbf", b"\xff", b"\0"],
    "yml": [
        b"- ",
        b"address: ",
        b"[",
        b"{",
        b"}",
        b"]",
        b"\n",
        b"  ",
        b"&a ",
        b"*a",
        b"!x ",
        b"|\n",
        b"'",
        b"? ",
        b"\t",
        b"%",
    ],
}


def read(path: pathlib.Path, content: bytes) -> tuple[list[t.Any], list[tuple[str, str]]]:
    path.write_bytes(content)
    said: list[tuple[str, str]] = []
    found = [entry for _where, entry in _accounts_source.entries(str(path), path.name, lambda *what: said.append(what))]
    return found, said


@pytest.mark.parametrize("kind", list(PIECES))
def test_anything(kind: str, tmp_path: pathlib.Path) -> None:
    @given(bytes_of(*PIECES[kind]))
    def check(content: bytes) -> None:
        _found, said = read(tmp_path / f"people.{kind}", content)
        assert all(where.startswith(f"people.{kind}") for where, _what in said)

    check()


def test_what_was_written_is_read(tmp_path: pathlib.Path) -> None:
    @given(st.lists(ACCOUNT, max_size=5))
    def check(accounts: list[dict[str, str]]) -> None:
        text = io.StringIO()
        writer = csv.DictWriter(text, ["address", "password"])
        writer.writeheader()
        writer.writerows(accounts)
        assert read(tmp_path / "people.csv", text.getvalue().encode()) == (accounts, [])
        assert read(tmp_path / "people.yml", json.dumps(accounts, ensure_ascii=False).encode()) == (accounts, [])

    check()


@pytest.mark.parametrize(
    ("name", "begin", "more"),
    [
        ("a.csv", b"address,password\n", b"x"),
        ("a.yml", b"- address: ", b"x"),
        ("a.yml", b"- address: |\n", b"    x\n"),
        ("a.yml", b"- ", b"["),
        ("a.yml", b"- ", b"[\n"),
    ],
)
def test_an_account_without_end(name: str, begin: bytes, more: bytes, tmp_path: pathlib.Path) -> None:
    content = begin + more * (20000000 // len(more))
    tracemalloc.start()
    try:
        (tmp_path / name).write_bytes(content)
        del content
        said: list[tuple[str, str]] = []
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        assert not list(_accounts_source.entries(str(tmp_path / name), name, lambda *what: said.append(what)))
        assert tracemalloc.get_traced_memory()[1] - before < 40 * LONGEST_ACCOUNT
    finally:
        tracemalloc.stop()
    assert len(said) == 1
