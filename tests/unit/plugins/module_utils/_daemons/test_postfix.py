# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The checks of Postfix, and the changes that need a restart."""

import pathlib
import typing as t

import pytest
from ansible_collections.port587.mail.plugins.module_utils._daemons import postfix as postfix_daemon
from ansible_collections.port587.mail.plugins.module_utils._daemons.postfix import Postfix
from ansible_collections.port587.mail.plugins.module_utils._transaction.tree import File, Problem
from ansible_collections.port587.mail.plugins.module_utils._transaction.view import View

DESCRIPTION = {"unit": "postfix", "kind": "postfix"}


def test_ports() -> None:
    assert Postfix._port_is_known("587", {})
    assert Postfix._port_is_known("smtp", {})
    assert Postfix._port_is_known("sub", {"known_tcp_ports": "lmtp=24, sub=submission=587"})
    assert not Postfix._port_is_known("submisson", {"known_tcp_ports": "lmtp=24, submission=587"})


def test_place_of_a_problem() -> None:
    postfix = Postfix(DESCRIPTION)
    view = View(
        [File("/etc/postfix/main.cf", b"first = 1\nother = 2\n"), File("/etc/postfix/master.cf", b"x\n  -o third=3\n")]
    )
    cases = [
        ("/tmp/t/main.cf: unused parameter: other=2", Problem("/etc/postfix/main.cf", "unused parameter: other=2", 2)),
        (
            "/tmp/t/master.cf: unused parameter: third=3",
            Problem("/etc/postfix/master.cf", "unused parameter: third=3", 2),
        ),
        ("/tmp/t/main.cf, line 7: missing '=' after", Problem("/etc/postfix/main.cf", "missing '=' after", 7)),
        ("/tmp/t/master.cf: line 2: bad field", Problem("/etc/postfix/master.cf", "bad field", 2)),
    ]
    for text, expected in cases:
        assert postfix._locate(Problem("/tmp/t/main.cf", text), "/tmp/t", view)[:3] == expected[:3]
    # check mode has to know that it is only not there yet
    assert postfix._locate(Problem("/tmp/t/main.cf", "other = /y", pending=True), "/tmp/t", view).pending


@pytest.mark.parametrize(
    ("old", "new", "restart"),
    [
        ("inet_interfaces = all\n", "inet_interfaces = all\nbiff = no\n", False),
        ("inet_interfaces = all\n", "inet_interfaces =\n  all\n", False),
        ("inet_interfaces = all\n", "inet_interfaces = loopback-only\n", True),
        ("", "inet_protocols = ipv4\n", True),
    ],
)
def test_what_postfix_restarts_for(tmp_path: pathlib.Path, old: str, new: str, restart: bool) -> None:
    postfix = Postfix(DESCRIPTION)
    postfix.directory = str(tmp_path)
    (tmp_path / "main.cf").write_text(old)
    assert postfix.needs_restart(View([File(str(tmp_path / "main.cf"), new.encode())])) is restart


@pytest.mark.parametrize("unit", ["postfix", "postfix@-"])
def test_postfix_restarts_for_another_resolver(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, unit: str
) -> None:
    paths = [path.replace("/etc/", f"{tmp_path}/") for path in (Postfix.resolver, *Postfix.drop_ins)]
    monkeypatch.setattr(Postfix, "resolver", paths[0])
    monkeypatch.setattr(Postfix, "drop_ins", tuple(paths[1:]))
    monkeypatch.setattr(Postfix, "units", f"{tmp_path}/systemd/system/")
    (drop_in,) = [path for path in paths if f"/{unit}.service.d/" in path]
    files = [File(path, b"x") for path in paths]
    assert Postfix(DESCRIPTION).needs_restart(View(files))
    for path in paths:
        pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
        pathlib.Path(path).write_bytes(b"x")
    assert not Postfix(DESCRIPTION).needs_restart(View(files))
    # it has to see the machine's own again
    assert Postfix(DESCRIPTION).needs_restart(View([], [drop_in]))


@pytest.mark.parametrize(
    ("faulty", "expected", "note"),
    [
        ([], ["table", "main.cf", "master.cf"], False),
        (["new main.cf"], ["table", "master.cf", "main.cf"], False),
        (["new main.cf", "new master.cf"], ["table", "main.cf", "master.cf"], True),
    ],
)
def test_order_in_which_postfix_s_files_are_swapped(
    monkeypatch: pytest.MonkeyPatch, faulty: t.List[str], expected: t.List[str], note: bool
) -> None:
    """A state in between is one that Postfix can load: whichever way round that is."""

    def validate(_self: Postfix, view: View) -> t.List[Problem]:
        # in between, all are new but one
        state = "new master.cf" if "/etc/postfix/master.cf" in view.files else "new main.cf"
        assert "/etc/postfix/table" in view.files
        assert len(view.files) == 2
        unused = Problem("/etc/postfix/main.cf", "unused parameter: x=1")
        return [unused] + [Problem("/etc/postfix/main.cf", "no")] * (state in faulty)

    monkeypatch.setattr(Postfix, "validate", validate)
    files = [File("/etc/postfix/" + name, b"") for name in ("main.cf", "master.cf", "table")]
    ordered, said = Postfix(DESCRIPTION).in_order(files, View(files))
    assert [f.path[len("/etc/postfix/") :] for f in ordered] == expected
    assert bool(said) is note
    assert Postfix(DESCRIPTION).in_order(files[1:], View(files))[0] == [files[2], files[1]]


@pytest.mark.parametrize(
    ("master", "served"),
    [
        ("smtp       inet  n  -  y  -  -  smtpd\nsmtps inet n - y - - smtpd\n", {25, 465}),
        ("127.0.0.1:10025 inet n - n - 25 smtpd\npickup unix n - y 60 1 pickup\n", {10025}),
        ("no-such-name inet n - n - - smtpd\n", set()),
    ],
)
def test_ports_that_postfix_has(monkeypatch: pytest.MonkeyPatch, master: str, served: t.Set[int]) -> None:
    monkeypatch.setattr(postfix_daemon, "run_command", lambda _argv: (0, master, ""))
    assert Postfix._served() == served
