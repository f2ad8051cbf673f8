# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""A daemon that only its description defines."""

import pathlib
import socket
import typing as t

import pytest
from ansible_collections.port587.mail.plugins.module_utils._daemons import prove, systemd
from ansible_collections.port587.mail.plugins.module_utils._daemons import service as service_daemon
from ansible_collections.port587.mail.plugins.module_utils._daemons.service import Service
from ansible_collections.port587.mail.plugins.module_utils._transaction.errors import ProofError
from ansible_collections.port587.mail.plugins.module_utils._transaction.tree import File
from ansible_collections.port587.mail.plugins.module_utils._transaction.view import View


class Systemctl:
    """What systemd says of each unit; all else ends well."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **active: bool) -> None:
        self.active = active
        self.calls = []  # type: t.List[t.List[str]]
        for module in (service_daemon, systemd):
            monkeypatch.setattr(module, "run_command", self)

    def __call__(self, argv: t.List[str]) -> t.Tuple[int, str, str]:
        self.calls.append(argv)
        if argv[:2] == ["systemctl", "is-active"]:
            return (0 if self.active.get(argv[-1].replace("-", "_")) else 3), "", ""
        return 0, "", ""


@pytest.mark.parametrize(
    ("unit", "program", "command"),
    [
        ("postgrey", None, "postgrey"),
        ("vsftpd.service", None, "vsftpd"),
        ("port587-redis", "redis-server", "redis-server"),
        ("fstrim.timer", "", "fstrim"),
    ],
)
def test_the_program_that_tells_whether_it_is_installed(unit: str, program: t.Optional[str], command: str) -> None:
    assert Service({"unit": unit, "program": program}).program() == command


def test_its_own_command_checks_a_copy(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Systemctl(monkeypatch)
    checked = []  # type: t.List[bytes]

    def check(argv: t.List[str]) -> t.Tuple[int, str, str]:
        if argv[0] != "checker":
            return 3, "", ""
        assert argv[1] == "-f"
        checked.append(pathlib.Path(argv[-1]).read_bytes())
        return (1, "%s:2: no\n" % argv[-1], "") if b"bad" in checked[-1] else (0, "", "")

    monkeypatch.setattr(service_daemon, "run_command", check)
    path = str(tmp_path / "a.conf")
    daemon = Service({"unit": "a", "check": [{"file": path, "command": ["checker", "-f"]}]})
    assert daemon.validate(View([File(path, b"good")])) == []
    (problem,) = daemon.validate(View([File(path, b"bad")]))
    assert (problem.path, problem.text) == (path, "%s:2: no" % path)
    assert checked == [b"good", b"bad"]
    assert [problem.text for problem in daemon.validate(View())] == ["does not exist"]


def test_its_own_command_finds_the_other_new_files(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Systemctl(monkeypatch)
    files = {"etc/a/a.conf": b"include filter.d/b.conf", "etc/a/filter.d/b.conf": b"new"}

    def check(argv: t.List[str]) -> t.Tuple[int, str, str]:
        if argv[0] != "checker":
            return 3, "", ""
        other = pathlib.Path(argv[-1]).parent / "filter.d/b.conf"
        return 1, "", "%s: %s\n" % (other, other.read_text(encoding="ascii"))

    monkeypatch.setattr(service_daemon, "run_command", check)
    daemon = Service({"unit": "a", "check": [{"file": str(tmp_path / "etc/a/a.conf"), "command": ["checker"]}]})
    (problem,) = daemon.validate(View([File(str(tmp_path / path), content) for path, content in files.items()]))
    # by the name that it will have
    assert problem.text == "%s: new" % (tmp_path / "etc/a/filter.d/b.conf")


def test_a_check_finds_the_other_files_where_they_lie(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that comes with the configuration checks it, before either is on the server."""
    Systemctl(monkeypatch)

    def check(argv: t.List[str]) -> t.Tuple[int, str, str]:
        if argv[0] != "python3":
            return 3, "", ""
        program, other, copy = map(pathlib.Path, (argv[1], argv[2], argv[3]))
        assert (program.read_bytes(), str(other)) == (b"program", "/etc/other")
        assert (program.parent / "parts" / "one.py").read_bytes() == b"part"
        return 1, "%s calls %s bad" % (program, copy), ""

    monkeypatch.setattr(service_daemon, "run_command", check)
    files = [File("/x/lib/program", b"program"), File("/x/lib/parts/one.py", b"part"), File("/x/etc/a.json", b"{}")]
    command = ["python3", "/x/lib/program", "/etc/other"]
    daemon = Service({"unit": "a", "check": [{"file": "/x/etc/a.json", "command": command}]})
    (problem,) = daemon.validate(View(files))
    assert (problem.path, problem.text) == ("/x/etc/a.json", "/x/lib/program calls /x/etc/a.json bad")


@pytest.mark.parametrize(
    ("running", "before", "refuse", "expected"),
    [
        (False, False, True, []),
        (True, True, True, []),
        (True, False, False, []),
        (True, False, True, ["unbound runs here already, set up by somebody else, and would lose its configuration"]),
    ],
)
def test_one_that_somebody_else_has_set_up(
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    running: bool,
    before: bool,
    refuse: bool,
    expected: t.List[str],
) -> None:
    path = tmp_path / "port587.conf"
    if before:
        path.write_text("server:\n")
    Systemctl(monkeypatch, unbound=running)
    daemon = Service({"unit": "unbound", "refuse_foreign": refuse})
    assert [problem.text for problem in daemon.validate(View([File(str(path), b"")]))] == expected


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
@pytest.mark.parametrize("running", [False, True])
def test_a_port_that_another_program_has(
    monkeypatch: pytest.MonkeyPatch, kind: socket.SocketKind, running: bool
) -> None:
    Systemctl(monkeypatch, a=running)
    with socket.socket(socket.AF_INET, kind) as other:
        other.bind(("127.0.0.1", 0))
        if kind == socket.SOCK_STREAM:
            other.listen(1)
        port = other.getsockname()[1]
        daemon = Service({"unit": "a", "listens": [{"port": port, "address": "127.0.0.1"}]})
        said = [problem.text for problem in daemon.validate(View([File("/etc/a.conf", b"")]))]
    assert said == ([] if running else ["another program answers on port %d of 127.0.0.1" % port])


def test_what_it_replaces_is_not_started_by_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """But for one that somebody uses."""
    systemctl = Systemctl(monkeypatch, used=True)
    Service({"unit": "a", "replaces": ["used", "unused"]}).enable()
    assert [argv[1:] for argv in systemctl.calls if "able" in argv[1]] == [["enable", "a"], ["disable", "unused"]]


def test_without_a_proof_it_has_to_stay_up(monkeypatch: pytest.MonkeyPatch) -> None:
    systemctl = Systemctl(monkeypatch, a=True)
    monkeypatch.setattr(service_daemon, "STAYS_UP", 0.3)
    Service({"unit": "a"}).prove({})
    looks = len(systemctl.calls)
    assert looks > 1
    Service({"unit": "a"}).prove({"proofs": []}, patience=0)
    assert len(systemctl.calls) == looks + 1
    systemctl.active = {}
    with pytest.raises(ProofError, match="a does not stay up"):
        Service({"unit": "a"}).prove({})


def test_its_own_words_come_before_those_of_systemd(monkeypatch: pytest.MonkeyPatch) -> None:
    log = [
        "Starting vsftpd.service - vsftpd FTP server...",
        "500 OOPS: unrecognised variable in config file",
        "vsftpd.service: Main process exited, code=exited, status=2/INVALIDARGUMENT",
        "vsftpd.service: Scheduled restart job, restart counter is at 7.",
        "Started vsftpd.service - vsftpd FTP server.",
    ]
    monkeypatch.setattr(systemd, "run_command", lambda _argv: (0, "\n".join(log), ""))
    assert Service({"unit": "vsftpd"}).words_since(0.0) == log[1:3]


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["true"], None),
        (["sh", "-c", "echo no such luck; exit 3"], r"ends with 3: no such luck"),
        (["sleep", "5"], "does not end within 1 s"),
    ],
)
def test_a_command_as_proof(monkeypatch: pytest.MonkeyPatch, command: t.List[str], words: t.Optional[str]) -> None:
    monkeypatch.setattr(prove, "ANSWER_TIMEOUT", 1.0)
    proof = {"proofs": [{"protocol": "command", "command": command}]}
    if words is None:
        Service({"unit": "a"}).prove(proof)
        return
    with pytest.raises(ProofError, match=words):
        Service({"unit": "a"}).prove(proof, patience=0)
