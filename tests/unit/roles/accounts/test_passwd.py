# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The program with which people and the administrator change passwords."""

import os
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import threading
import typing as t

import pytest
from ansible_collections.port587.mail.plugins.module_utils._accounts import own
from repository import ROOT, program

passwd = program("accounts", "passwd")

OLD, NEW = "the old one of eve", "Nine-Lives_of 猫"
FILE = (
    "# a comment: stays\nbob@example.com:{SHA512-CRYPT}$6$b$b:::Bob:::\neve@example.com:%s:::Eve B:::userdb_quota=1\n"
)


class Place(t.NamedTuple):
    passwd: pathlib.Path
    own: pathlib.Path
    apps: pathlib.Path
    stored: str


@pytest.fixture
def place(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A passwd-file of Bob and Eve; Dovecot accepts Eve's stored password only."""
    scheme = passwd.passwords.Sha512Crypt()
    place = Place(
        tmp_path / "passwd",
        tmp_path / "own_passwords",
        tmp_path / "app_passwords.passwd",
        "{SHA512-CRYPT}%s" % scheme.hash(OLD.encode()).decode(),
    )
    place.passwd.write_text(FILE % place.stored, encoding="utf-8")
    monkeypatch.setattr(passwd, "PASSWD", str(place.passwd))
    monkeypatch.setattr(own, "PATH", str(place.own))
    monkeypatch.setattr(passwd.app_passwords, "PATH", str(place.apps))
    monkeypatch.setattr(passwd.passwords, "STATE", str(tmp_path))
    # the file belongs to whoever runs the test
    monkeypatch.setattr(passwd.files, "ids", lambda wanted: (os.getuid(), os.getgid()))
    monkeypatch.setattr(passwd.sessions, "await_dovecot", lambda: None)
    monkeypatch.setattr(passwd.sessions, "end", lambda logins: None)
    monkeypatch.setattr(passwd, "_dictionary", lambda password: None)

    def authenticate(login: str, password: str) -> bool:
        stored = passwd.hash_of(login)
        return bool(scheme.verify(password.encode("utf-8"), stored.partition("}")[2].encode("ascii")))

    monkeypatch.setattr(passwd, "authenticate", authenticate)
    return place


def change(login: str = "eve@example.com", old: str = OLD, new: str = NEW, tries: t.Any = None) -> None:
    passwd.change_own(tries or passwd.Tries(), login, old, new)


def test_only_the_hash_changes(place: Place) -> None:
    change()
    stored = passwd.hash_of("eve@example.com")
    assert stored != place.stored
    assert place.passwd.read_text(encoding="utf-8") == FILE % stored
    assert passwd.authenticate("eve@example.com", NEW)
    assert not passwd.authenticate("eve@example.com", OLD)
    assert place.passwd.stat().st_mode & 0o777 == 0o640
    assert own.read(str(place.own)) == {"eve@example.com": own.digest(stored)}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"old": "wrong"}, "the old password is wrong"),
        ({"login": "nobody@example.com"}, "the old password is wrong"),
        ({"login": "# a comment"}, "the old password is wrong"),
        ({"new": OLD}, "is the old one"),
        ({"new": "short"}, "less than 8 characters"),
        ({"new": "Eve@example.com"}, "the account's own name"),
        ({"new": "Password123"}, "tried first"),
        ({"new": "with a\x07bell"}, "control character"),
        ({"new": "x" * 600}, "longer than 511 bytes"),
    ],
    ids=lambda value: "" if isinstance(value, dict) else str(value),
)
def test_refused(place: Place, arguments: t.Dict[str, str], words: str) -> None:
    with pytest.raises(passwd.Refused, match=words):
        change(**arguments)
    assert place.passwd.read_text(encoding="utf-8") == FILE % place.stored
    assert not place.own.exists()


def test_wrong_passwords_are_limited_for_each_account(place: Place) -> None:
    tries = passwd.Tries()
    for _number in range(passwd.TRIES):
        with pytest.raises(passwd.Refused, match="is wrong"):
            change(old="wrong", tries=tries)
    with pytest.raises(passwd.Refused, match="too many wrong passwords; try again in 1[01] minutes"):
        change(tries=tries)
    with pytest.raises(passwd.Refused, match="is wrong"):
        change("bob@example.com", tries=tries)
    assert tries.wait("eve@example.com", passwd.time.monotonic() + passwd.WINDOW + 1) == 0


def test_two_changes_at_once(place: Place) -> None:
    """Of two who know the old password, one wins, and the other one hears of it."""
    both = threading.Barrier(2)
    right = passwd.authenticate

    def authenticate(login: str, password: str) -> bool:
        accepted = right(login, password)
        both.wait()
        return bool(accepted)

    passwd.authenticate = authenticate
    said: t.List[str] = []

    def one(new: str) -> None:
        try:
            change(new=new)
            said.append(new)
        except passwd.Refused as exc:
            said.append(str(exc))

    people = [threading.Thread(target=one, args=(new,)) for new in ("first of the two", "second of the two")]
    for person in people:
        person.start()
    for person in people:
        person.join()
    assert sum("changed by somebody else" in one for one in said) == 1
    winner = next(one for one in said if "somebody else" not in one)
    assert right("eve@example.com", winner)


def test_a_full_disk_leaves_the_file_as_it_was(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(path: str, *_: t.Any) -> None:
        pathlib.Path(path).write_text("half of", encoding="utf-8")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(passwd.files, "write", write)
    with pytest.raises(passwd.Refused, match="No space left on device"):
        change()
    assert place.passwd.read_text(encoding="utf-8") == FILE % place.stored
    assert {path.name for path in place.passwd.parent.iterdir()} <= {"passwd", "run.lock"}


def test_an_interrupted_run_comes_first(place: Place) -> None:
    (place.passwd.parent / ".port587-before.passwd").touch()
    with pytest.raises(passwd.Refused, match="interrupted"):
        change()


def test_a_damaged_list_of_own_passwords_is_begun_anew(place: Place) -> None:
    place.own.write_bytes(b"\0\0\xff\ngone@example.com abc\nno blank\n")
    change()
    assert list(own.read(str(place.own))) == ["eve@example.com"]


def test_conversation(place: Place) -> None:
    ours, theirs = socket.socketpair()
    server = type("Server", (), {"tries": passwd.Tries(), "turns": threading.BoundedSemaphore(1)})()
    serving = threading.Thread(target=lambda: (passwd.Handler(theirs, None, server), theirs.close()))
    serving.start()
    lines = ["newpass x", "user eve@example.com", "pass %s" % OLD, "newpass %s" % NEW, "dance", "quit"]
    ours.sendall("".join("%s\r\n" % line for line in lines).encode("utf-8"))
    answers = ours.makefile(encoding="utf-8").read().splitlines()
    serving.join()
    assert [answer[:3] for answer in answers] == ["200", "500", "200", "200", "200", "500", "200"]
    assert not any(secret in answer for answer in answers for secret in (OLD, NEW))
    assert passwd.authenticate("eve@example.com", NEW)


def test_a_long_line_ends_the_conversation(place: Place) -> None:
    ours, theirs = socket.socketpair()
    server = type("Server", (), {"tries": passwd.Tries(), "turns": threading.BoundedSemaphore(1)})()
    serving = threading.Thread(target=lambda: (passwd.Handler(theirs, None, server), theirs.close()))
    serving.start()
    ours.sendall(b"user " + b"x" * passwd.LINE)
    assert ours.makefile("rb").read().count(b"\n") == 1
    serving.join()
    assert server.turns.acquire(blocking=False)


def test_a_run_names_what_it_replaces() -> None:
    before, after = (
        {"eve": "hash 1", "bob": "hash 2", "ann": "hash 3"},
        {"eve": "hash 4", "bob": "hash 5", "ann": "hash 3"},
    )
    digests = {"eve": own.digest("hash 1"), "ann": own.digest("hash 3"), "bob": own.digest("an older one")}
    assert own.replaced(digests, before, after) == ["eve"]
    # the account is removed: nothing is replaced
    assert own.replaced(digests, before, {}) == []


def test_app_passwords(place: Place) -> None:
    given = "# a comment\neve@example.com/imap/abcdef:{X}1:::desk 2026-01-01 given:::app=desk\n"
    place.apps.write_text(given, encoding="utf-8")
    password = passwd.new_app("eve@example.com", "phone")
    assert re.fullmatch(r"[a-z2-9]{6}(-[a-z2-9]{5}){3}", password)
    found = {one.name: one for one in passwd.apps_of("eve@example.com")}
    assert (found["phone"].begins, found["phone"].own) == (password[:6], True)
    scheme, stored = passwd.passwords.Sha512Crypt(), found["phone"].password_hash.partition("}")[2]
    assert scheme.verify(password.encode("ascii"), stored.encode("ascii"))
    assert password[6:] not in place.apps.read_text(encoding="utf-8")
    assert place.apps.stat().st_mode & 0o777 == 0o640

    for refused, words in (
        (lambda: passwd.new_app("eve@example.com", "phone"), "one with the name phone already"),
        (lambda: passwd.new_app("eve@example.com", "a b"), "is not a name"),
        (lambda: passwd.new_app("kim@example.com", "phone"), "no account on this server"),
        (lambda: passwd.remove_app("eve@example.com", "desk"), "given by the administrator"),
        (lambda: passwd.remove_app("eve@example.com", "other"), "no app password 'other'"),
    ):
        before = place.apps.read_text(encoding="utf-8")
        with pytest.raises(passwd.Refused, match=words):
            refused()
        assert place.apps.read_text(encoding="utf-8") == before
    passwd.remove_app("eve@example.com", "phone")
    assert place.apps.read_text(encoding="utf-8") == given
    passwd.expire()
    assert place.apps.read_text(encoding="utf-8") == "# a comment\n"
    place.apps.unlink()
    passwd.expire()
    assert not place.apps.exists()


def test_the_role_installs_all_that_the_program_imports(tmp_path: pathlib.Path) -> None:
    text = (ROOT / "roles/accounts/vars/main.yml").read_text(encoding="utf-8")
    library = re.findall(r"plugins/module_utils/(\S+\.py)\"\n", text)
    assert library
    for one in library:
        path = tmp_path / "python/ansible_collections/port587/mail/plugins/module_utils" / one
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(str(ROOT / "plugins/module_utils" / one), str(path))
    source = (ROOT / "roles/accounts/files/usr/local/lib/port587/passwd").read_text(encoding="utf-8")
    there = tmp_path / "passwd"
    there.write_text(source.replace("/usr/local/lib/port587/python", str(tmp_path / "python")), encoding="utf-8")
    done = subprocess.run([sys.executable, "-I", str(there)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert "port587-passwd: error: write ADDRESS, as in eve@example.com\n" in done.stdout.decode("utf-8")
    assert not list(tmp_path.rglob("__pycache__"))
