# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""What other servers answer, which folders become which, and what is noted. The copy itself: molecule/move_in."""

import pathlib
import typing as t

import pytest
from ansible_collections.port587.mail.plugins.module_utils._move_in import folders, syntax
from ansible_collections.port587.mail.plugins.module_utils._move_in.state import State
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("wire", "name"),
    [
        (b"INBOX", "INBOX"),
        (b"Entw&APw-rfe", "Entwürfe"),
        (b"&ZeVnLIqe-", "日本語"),
        (b"R&-D", "R&D"),
        (b"&-&ZeVnLIqe-&-", "&日本語&"),
        (b"&2D3eAA-", "😀"),
    ],
)
def test_modified_utf_7(wire: bytes, name: str) -> None:
    assert syntax.decode(wire) == name
    assert syntax.encode(name) == wire


@given(st.text(st.characters(blacklist_categories=("Cs",))))
def test_every_name_comes_back(name: str) -> None:
    assert syntax.decode(syntax.encode(name)) == name


@pytest.mark.parametrize("wire", ["Entwürfe".encode(), b"a&b", b"&///-"])
def test_servers_that_do_not_keep_to_it(wire: bytes) -> None:
    assert syntax.decode(wire)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (rb'* LIST (\HasNoChildren \Sent) "." INBOX.Sent', ({"\\hasnochildren", "\\sent"}, ".", b"INBOX.Sent")),
        (rb'* LIST () "\\" "a \"b\""', (set(), "\\", b'a "b"')),
        (b'* LIST () NIL {5}\r\na"b\\c', (set(), "", b'a"b\\c')),
        (b"* OK something else", None),
    ],
)
def test_list(line: bytes, expected: t.Any) -> None:
    found = syntax.listed(line)
    assert (tuple(found) if found else None) == expected


@pytest.mark.parametrize(
    ("line", "own", "others"),
    [
        (b'* NAMESPACE (("INBOX." ".")) (("user." ".")) (("" "."))', [b"INBOX."], [b"user.", b""]),
        (b'* NAMESPACE (("" "/")("#mh/" "/")) NIL NIL', [b"", b"#mh/"], []),
        (b"* NAMESPACE NIL NIL NIL", [], []),
    ],
)
def test_namespaces(line: bytes, own: t.List[bytes], others: t.List[bytes]) -> None:
    assert syntax.namespaces(line) == (own, others)


@pytest.mark.parametrize(
    "line",
    [
        b'* 1 FETCH (UID 7 FLAGS (\\Seen \\Recent $x) INTERNALDATE " 1-Jan-2024 00:00:00 +0100" '
        b"BODY[] {9}\r\na\r\nUID 9\r)",
        b'* 1 FETCH (BODY[] {9}\r\na\r\nUID 9\r FLAGS (\\Seen $x) INTERNALDATE " 1-Jan-2024 00:00:00 +0100" UID 7)',
        b'* 1 FETCH (UID 7 INTERNALDATE " 1-Jan-2024 00:00:00 +0100" BODY[] "a\r\nUID 9\r" FLAGS ($x \\Seen))',
    ],
)
def test_fetch_in_any_order(line: bytes) -> None:
    mail = syntax.fetched(line)
    assert mail
    assert (mail.uid, mail.flags, mail.body) == (7, {"\\Seen", "$x"}, b"a\r\nUID 9\r")
    assert mail.date == b'" 1-Jan-2024 00:00:00 +0100"'


def test_changes_by_others_are_no_mails() -> None:
    assert syntax.fetched(b"* 3 FETCH (FLAGS (\\Seen))") is None
    assert syntax.fetched(b"* 3 EXPUNGE") is None


def test_the_same_mail_on_two_servers() -> None:
    one = syntax.Mail(
        1, size=5, date=b'" 1-Jan-2024 01:00:00 +0100"', body=b"Message-ID: <a>\r\nSubject: b\r\n c\r\n\r\n"
    )
    two = syntax.Mail(
        9, size=5, date=b'" 1-Jan-2024 00:00:00 +0000"', body=b"Subject: b\r\n c\r\nMessage-ID:  <a>\r\n\r\n"
    )
    assert one.identity() == two.identity()
    assert one.identity() != two._replace(size=6).identity()


def test_appended() -> None:
    assert syntax.appended("[APPENDUID 17 5:7,9] Append completed") == [5, 6, 7, 9]
    assert syntax.appended("Append completed") == []


def a_list(*lines: str) -> t.List[syntax.Listed]:
    """Each: attributes, delimiter, name."""
    found = [line.split(" ", 2) for line in lines]
    return [
        syntax.Listed({word for word in words.split(",") if word}, delimiter, syntax.encode(name))
        for words, delimiter, name in found
    ]


HERE = a_list("\\sent / Sent", "\\drafts / Drafts", "\\junk / Junk", "\\trash / Trash", "\\archive / Archive")


@pytest.mark.parametrize(
    ("there", "own", "others", "expected"),
    [
        # Cyrus and Courier, which mark nothing
        (
            [" . INBOX", " . INBOX.Gesendet", " . INBOX.Entwürfe.alt", " . INBOX.Entwürfe", " . user.bob"],
            [b"INBOX."],
            [b"user."],
            {
                "INBOX": "INBOX",
                "INBOX.Gesendet": "Sent",
                "INBOX.Entwürfe.alt": "Drafts/alt",
                "INBOX.Entwürfe": "Drafts",
            },
        ),
        # a mark counts more than a name, and the other folder keeps its own
        ([" / Sent Items", "\\sent / Ausgang"], [b""], [], {"Sent Items": "Sent Items", "Ausgang": "Sent"}),
        # the likeliest name, once
        ([" / Deleted Items", " / Trash"], [b""], [], {"Deleted Items": "Deleted Items", "Trash": "Trash"}),
        (
            [" / 送信済み", " / 迷惑メール", " / 下書き"],
            [],
            [],
            {"送信済み": "Sent", "迷惑メール": "Junk", "下書き": "Drafts"},
        ),
        # views of mail that is in other folders, and folders that only have others below them
        (["\\noselect / [G]", "\\all / [G]/All", "\\trash / [G]/Bin", " / x"], [], [], {"[G]/Bin": "Trash", "x": "x"}),
        # a slash separates folders here
        ([" . 10/2025", " . v1.2"], [], [], {"10/2025": "10-2025", "v1.2": "v1/2"}),
        ([" \\ a\\b"], [], [], {"a\\b": "a/b"}),
    ],
)
def test_folders(there: t.List[str], own: t.Any, others: t.Any, expected: t.Dict[str, str]) -> None:
    assert {one.shown: one.here for one in folders.plan(a_list(*there), own, others, HERE)} == expected


def test_the_inbox_comes_first() -> None:
    assert [one.here for one in folders.plan(a_list(" / A", " / INBOX"), [], [], HERE)] == ["INBOX", "A"]


def test_what_is_noted(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "below" / "state.sqlite"
    folder = State(str(path)).folder("eve@x.example", "eve@old:993", "INBOX", 7)
    folder.begin("INBOX 1")
    folder.note([(3, 30, ["\\Seen"]), (4, 31, [])], 32)
    assert path.stat().st_mode & 0o777 == 0o600

    again = State(str(path)).folder("eve@x.example", "eve@old:993", "INBOX", 7)
    assert again.known() == {3: (30, frozenset(["\\Seen"])), 4: (31, frozenset())}
    assert (again.next, again.is_in("INBOX 1")) == (32, True)

    # the folder was renamed or deleted here: its mails do not come again, and their numbers mean nothing any more
    again.begin("INBOX 2")
    assert again.known() == {3: (0, frozenset(["\\Seen"])), 4: (0, frozenset())}
    assert again.next == 1

    # the other server has numbered its mails anew
    assert State(str(path)).folder("eve@x.example", "eve@old:993", "INBOX", 8).known() == {}
    assert State(str(path)).folder("bob@x.example", "eve@old:993", "INBOX", 8).known() == {}
