# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The policy service for full mailboxes: its requests to Dovecot, and its answers to Postfix."""

import contextlib
import json
import os
import random
import socket
import socketserver
import threading

import pytest
from ansible_collections.port587.mail.plugins.module_utils._accounts import files as accounts_files
from ansible_collections.port587.mail.plugins.module_utils._inspect import postfix as inspected
from repository import program

recipients = program("postfix", "recipients")
Server, Settings, Table, ends = recipients.Server, recipients.Settings, recipients.Table, recipients.ends

FULL = "552 5.2.2 Mailbox is full"
OWN = {"well@example.org": "eve@example.com"}
ALIASES = {
    "@example.org": "bob@example.com",
    "kim@example.org": "kim@example.org",
    "info@example.com": "eve@example.com",
    "sales@example.com": "info@example.com",
    "eve+shop@example.com": "bob@example.com",
    "team@example.com": "eve@example.com,bob@example.com",
    "both@example.com": "eve@example.com,info@example.com",
    "mixed@example.com": "eve@example.com,x@elsewhere.example",
    "phone@example.com": '"a, b"@quoted.example,taro..y.@docomo.example',
    "round@example.com": "about@example.com",
    "about@example.com": "round@example.com",
}


class Dovecot(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """Its quota service, as far as the socket shows: it knows some who are full, and hears what it is asked."""

    daemon_threads = True

    def __init__(self, path):
        super().__init__(path, Answers)
        self.asked = []
        self.said = {}


class Answers(socketserver.StreamRequestHandler):
    def handle(self):
        request = {}
        for line in self.rfile:
            name, _, value = line.decode().rstrip("\n").partition("=")
            if name:
                request[name] = value
            else:
                self.server.asked.append(request)
                said = self.server.said.get(request["recipient"].split("+")[0].split("@")[0], "DUNNO")
                self.wfile.write(b"action=%s\n\n" % said.encode())
                request = {}


@contextlib.contextmanager
def serving(server):
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def tables(tmp_path):
    (tmp_path / "own").write_text(accounts_files._map({key: [key] for key in OWN}))
    (tmp_path / "aliases").write_text(accounts_files._map({key: [value] for key, value in ALIASES.items()}))
    return [Table(str(tmp_path / "own")), Table(str(tmp_path / "aliases"))]


@pytest.fixture
def dovecot(tmp_path, monkeypatch):
    monkeypatch.setattr(recipients, "QUEUE_DIRECTORY", str(tmp_path))
    monkeypatch.setattr(recipients, "PATIENCE", 0.3)
    with serving(Dovecot(str(tmp_path / "quota-status"))) as dovecot:
        yield dovecot


@pytest.fixture
def postfix(tmp_path, tables, dovecot):
    """What an smtpd gets for a recipient."""
    written = {"aliases": [table.path for table in tables], "quota": "unix:quota-status"}
    (tmp_path / "settings.json").write_text(json.dumps(written))
    settings = Settings.read(str(tmp_path / "settings.json"))
    with serving(Server(str(tmp_path / "socket"), settings)) as server, socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(5)
        connection.connect(server.server_address)
        answers = connection.makefile("rb")

        def ask(recipient, **more):
            request = dict({"request": "smtpd_access_policy", "size": "10", "recipient": recipient}, **more)
            connection.sendall("".join(f"{key}={value}\n" for key, value in request.items()).encode() + b"\n")
            said = answers.readline().decode().rstrip("\n")
            assert answers.readline() == b"\n"
            return said[len("action=") :]

        yield ask
        answers.close()


@pytest.mark.parametrize(
    ("recipient", "mailboxes"),
    [
        ("eve@example.com", ["eve@example.com"]),
        ("eve+x@example.com", ["eve+x@example.com"]),
        ("eve+shop@example.com", ["bob@example.com"]),
        ("well@example.org", ["well@example.org"]),
        ("well+x@example.org", ["well+x@example.org"]),
        ("info+x@example.com", ["eve+x@example.com"]),
        ("info+shop@example.com", ["bob@example.com"]),
        ("sales@example.com", ["eve@example.com"]),
        ("team@example.com", ["bob@example.com", "eve@example.com"]),
        ("both@example.com", ["eve@example.com"]),
        ("whoever@example.org", ["bob@example.com"]),
        ("kim+x@example.org", ["kim+x@example.org"]),
        ("mixed@example.com", ["eve@example.com", "x@elsewhere.example"]),
        ("phone@example.com", ['"a, b"@quoted.example', "taro..y.@docomo.example"]),
        ("round@example.com", []),
        ("+x@example.com", ["+x@example.com"]),
    ],
)
def test_where_mail_ends(tables, recipient, mailboxes):
    assert sorted(ends(tables, recipient)) == mailboxes


def test_every_key_of_a_table_is_found(tmp_path):
    """And nothing else, whatever the lengths of its lines."""
    rng = random.Random(587)
    keys = sorted(
        {"%s@%s.example" % ("x" * rng.randint(1, 9) + str(rng.randint(0, 99)), rng.choice("abc")) for _ in range(500)}
    )
    (tmp_path / "table").write_text(accounts_files._map({key: ["to-" + key] * rng.randint(1, 5) for key in keys}))
    table = Table(str(tmp_path / "table"))
    assert all((table.get(key) or "").split(",")[0] == "to-" + key for key in keys)
    assert [key for key in keys if table.get(key + "x") or table.get("#") is None or table.get(key[1:-1])] == []
    (tmp_path / "empty").write_text("")
    assert Table(str(tmp_path / "empty")).get("a@b.example") is None


def test_a_new_table_is_seen(tmp_path, tables):
    assert ends(tables, "new@example.com") == ["new@example.com"]
    (tmp_path / "new").write_text("new@example.com eve@example.com\n")
    os.rename(str(tmp_path / "new"), tables[1].path)
    assert ends(tables, "new@example.com") == ["eve@example.com"]


def test_dovecot_is_asked_what_postfix_asked(postfix, dovecot):
    assert postfix("Info+x@Example.com", sender="jörg@example.net", ccert_subject="a=b") == "DUNNO"
    (asked,) = dovecot.asked
    assert asked == {
        "request": "smtpd_access_policy",
        "size": "10",
        "recipient": "eve+x@example.com",
        "sender": "jörg@example.net",
        "ccert_subject": "a=b",
    }


def test_full(postfix, dovecot):
    dovecot.said = {"eve": FULL, "well": FULL}
    for recipient in (
        "eve@example.com",
        "eve+x@example.com",
        "sales@example.com",
        "both@example.com",
        "well+y@example.org",
    ):
        assert postfix(recipient) == FULL
    for recipient in (
        "team@example.com",
        "mixed@example.com",
        "eve+shop@example.com",
        "x@example.org",
        "round@example.com",
        "x",
    ):
        assert postfix(recipient) == "DUNNO"
    dovecot.said["bob"] = FULL
    for recipient in ("team@example.com", "eve+shop@example.com", "x@example.org"):
        assert postfix(recipient) == FULL
    # nobody knows yet about one of them
    dovecot.said["bob"] = "DEFER_IF_PERMIT Internal error"
    assert postfix("team@example.com") == "DEFER_IF_PERMIT Internal error"


def test_a_passing_fault_is_waited_for(postfix, dovecot):
    dovecot.said = {"eve": "DEFER_IF_PERMIT Internal error"}
    threading.Timer(0.1, dovecot.said.clear).start()
    assert postfix("eve@example.com") == "DUNNO"


def test_what_goes_wrong_stops_no_mail(postfix, dovecot, tables, tmp_path, capsys):
    dovecot.said = {"eve": FULL}
    os.rename(tables[0].path, tables[0].path + ".gone")
    assert postfix("eve@example.com") == "DUNNO"
    os.rename(tables[0].path + ".gone", tables[0].path)
    os.rename(str(tmp_path / "quota-status"), str(tmp_path / "gone"))
    assert postfix("eve@example.com") == "DUNNO"
    # one that takes connections and says nothing
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "quota-status"))
        silent.listen(1)
        assert postfix("eve@example.com") == "DUNNO"
    os.rename(str(tmp_path / "gone"), str(tmp_path / "quota-status"))
    assert postfix("eve@example.com") == FULL
    assert capsys.readouterr().err.count("not asked whether a mailbox is full") == 3


def test_a_quota_service_over_the_network():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(1)
        with contextlib.closing(recipients.connect("inet:[127.0.0.1]:%d" % listener.getsockname()[1])) as connection:
            assert connection.getpeername() == listener.getsockname()


def test_verify_looks_where_the_program_is():
    assert inspected.RECIPIENTS == recipients.SOCKET
    assert inspected.RECIPIENTS_SETTINGS == recipients.SETTINGS
