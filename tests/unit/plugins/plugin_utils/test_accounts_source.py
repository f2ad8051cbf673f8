# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Files of accounts as spreadsheets and editors write them, and with mistakes."""

from __future__ import annotations

import pathlib
import typing as t

import pytest

pytest.importorskip("yaml")

from ansible_collections.port587.mail.plugins.plugin_utils import _accounts_source as source

SECRET = "correct horse"


def read(tmp_path: pathlib.Path, name: str, content: str | bytes) -> tuple[list[t.Any], list[str]]:
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    found: list[str] = []
    return list(source.entries(str(path), name, lambda where, what: found.append(f"{where}: {what}"))), found


CSV = [
    ("address,password\neve@x.example,a\n", {"address": "eve@x.example", "password": "a"}),
    # as Excel writes it
    ("\ufeffaddress,password\r\neve@x.example,Grüße ☃\r\n", {"address": "eve@x.example", "password": "Grüße ☃"}),
    ('Password, Address\n" a,""b"" ",eve@x.example', {"address": "eve@x.example", "password": ' a,"b" '}),
    ("address,password,aliases\nx,1,a@x b@x\n", {"address": "x", "password": "1", "aliases": ["a@x", "b@x"]}),
    ("address,password,name,quota\nx,1,,\n", {"address": "x", "password": "1"}),
    ("address,password\n\nx,1\n\r\n\n", {"address": "x", "password": "1"}),
]


@pytest.mark.parametrize(("text", "entry"), CSV)
def test_csv(tmp_path: pathlib.Path, text: str, entry: t.Any) -> None:
    entries, found = read(tmp_path, "people.csv", text)
    assert found == []
    assert [one for _, one in entries] == [entry]


def test_a_broken_line_of_many_is_named_and_the_others_are_read(tmp_path: pathlib.Path) -> None:
    lines = ["address,password"] + [f"user{n}@example.com,{SECRET}" for n in range(2, 100001)]
    lines[41_999] = f'user42000@example.com,"{SECRET}'
    lines[69_999] = f"user70000@example.com,{SECRET},x"
    lines[70_999] = "user71000@example.com"
    entries, found = read(tmp_path, "people.csv", "\n".join(lines))
    assert len(entries) == 99_999 - 3
    assert entries[-1][0] == "people.csv line 100000"
    assert [problem.split(";")[0] for problem in found] == [
        "people.csv line 42000: is not CSV (unexpected end of data)",
        "people.csv line 70000: has 3 cells, and line 1 names 2",
        "people.csv line 71000: has 1 cell, and line 1 names 2",
    ]
    assert SECRET not in str(found)


BAD_CSV: list[tuple[str | bytes, str]] = [
    ("", "people.csv: is empty; its first line has to name the columns"),
    (f"eve@example.com,{SECRET}\n", "people.csv line 1: does not name the columns; write a first line such as"),
    (f"address;password\neve@example.com;{SECRET}\n", "does not name the columns; there has to be a comma between"),
    ("address,pasword\n", "people.csv line 1: names an unknown column 'pasword'; there are: address, password,"),
    (
        "address,app_passwords\n",
        "line 1: names a column app_passwords, which is a list of mappings; a YAML file",
    ),
    ("address,password,Address\n", "people.csv line 1: names a column twice"),
    ("password,name\n", "people.csv line 1: has no column address"),
    (b"address,name\nx@x,Bj\xf6rn\n", "people.csv line 2: is not UTF-8: the byte 0xf6"),
    ("address,password\n".encode("utf-16"), "people.csv line 1: is not UTF-8: the byte 0xff"),
]


@pytest.mark.parametrize(("content", "message"), BAD_CSV)
def test_bad_csv(tmp_path: pathlib.Path, content: str | bytes, message: str) -> None:
    _, found = read(tmp_path, "people.csv", content)
    assert len(found) == 1
    assert message in found[0]
    assert SECRET not in found[0]


def test_yaml(tmp_path: pathlib.Path) -> None:
    text = """\
---
# people
- address: eve@example.com
  password: "1"
  aliases: [a@example.com, b@example.com]
  enabled: no
- {address: bob@example.com, password: 2024-02-30, quota: 0, name: }
"""
    for name, content in (("people.yml", text), ("people.YAML", "\ufeff" + text.replace("\n", "\r\n"))):
        entries, found = read(tmp_path, name, content)
        assert found == []
        assert entries == [
            (
                f"{name} line 3",
                {
                    "address": "eve@example.com",
                    "password": "1",
                    "aliases": ["a@example.com", "b@example.com"],
                    "enabled": False,
                },
            ),
            (f"{name} line 7", {"address": "bob@example.com", "password": "2024-02-30", "quota": 0, "name": None}),
        ]


BAD_YAML: list[tuple[str | bytes, str]] = [
    (b"- {address: eve}\n- {address: bob, name: Bj\xf6rn}\n", "p.yml line 2: is not UTF-8: the byte 0xf6"),
    ("", "p.yml line 1: is no list of accounts; write - {address: eve@example.com, password: ...}"),
    (f"eve@example.com: {SECRET}\n", "p.yml line 1: is no list of accounts"),
    (f"- address: eve\n  password: {SECRET}\n  address: bob\n", "p.yml line 3: has a key twice"),
    ("- address: eve\n  password: !vault |\n    abc\n", "p.yml line 2: has the tag !vault; a file can only be encr"),
    ("- &eve {address: eve}\n", "p.yml line 1: has an anchor"),
    ("- *eve\n", "p.yml line 1: has an anchor or a reference"),
    ("- {address: eve}\n- {address: bob\n- x\n", "p.yml line 4: is not YAML: did not find expected ',' or '}'"),
    ('- "a\x00"\n', "p.yml: is not YAML: it holds a character"),
    (f"- {'9' * 5000}\n", "p.yml: is not YAML: it holds a character or a number"),
]


@pytest.mark.parametrize(("text", "message"), BAD_YAML)
def test_bad_yaml(tmp_path: pathlib.Path, text: str | bytes, message: str) -> None:
    _, found = read(tmp_path, "p.yml", text)
    assert len(found) == 1
    assert message in found[0]
    assert SECRET not in found[0]


def test_a_name_that_says_nothing() -> None:
    assert source.problem_of_name("a/people.CSV") is None
    problem = source.problem_of_name("a/people.txt")
    assert problem is not None
    assert "'people.txt' ends with neither .csv, .yml, .yaml" in problem


# -- where it is --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["mine/people.csv", "mine/files/people.csv", "link/people.csv"])
def test_a_file_that_ansible_takes_for_hosts_is_refused(tmp_path: pathlib.Path, place: str) -> None:
    inventory = tmp_path / "mine"
    (inventory / "files").mkdir(parents=True)
    (tmp_path / "link").symlink_to(inventory)
    told = source.problem_of_place(str(tmp_path / place), ["mail.example.com,", str(inventory)])
    assert told
    assert told.startswith(f"accounts_file: '{tmp_path / place}' is part of the inventory '{inventory}'.")
    # as the inventory itself
    assert source.problem_of_place(str(tmp_path / place), [str(tmp_path / place)])


@pytest.mark.parametrize(
    ("place", "inventory"),
    [
        ("people.csv", "mine"),
        ("mine/people.csv", "mine/hosts.yml"),
        ("mine/people.csv", "mine/people"),
        # what Ansible itself passes over there
        ("mine/group_vars/mail/people.csv", "mine"),
        ("mine/.private/people.csv", "mine"),
        ("mine.people.csv", "mine"),
    ],
)
def test_other_places_are_as_good_as_any(tmp_path: pathlib.Path, place: str, inventory: str) -> None:
    assert source.problem_of_place(str(tmp_path / place), [str(tmp_path / inventory)]) is None
