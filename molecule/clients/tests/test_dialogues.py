# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Recorded dialogues of mail clients that can't run here, replayed line by line. dialogues/*.txt:

587       the port
TLS       the handshake
> text    is said; {user}, {password}, {login} (both, as AUTH PLAIN has it), {subject}; {... in base64}
< regex   has to be answered; lines that go on (250-) are joined by blanks; with (?s) several are waited for
"""

import base64
import pathlib
import re
import socket

import pytest
from conftest import Site
from mailclient import IMPLICIT_TLS, TIMEOUT, received, token

testinfra_hosts = ["ansible://mail"]

DIALOGUES = sorted((pathlib.Path(__file__).parent.parent / "dialogues").glob("*.txt"))


class Line:
    """A connection, and what is said on it."""

    def __init__(self, site: Site, port: int) -> None:
        self.server = site.server
        self.socket = socket.create_connection((site.server.address, port), TIMEOUT)
        self.reader = self.socket.makefile("rb")

    def start_tls(self) -> None:
        self.socket = self.server.context().wrap_socket(self.socket, server_hostname=self.server.name)
        self.reader = self.socket.makefile("rb")

    def hear(self) -> str:
        return self.reader.readline().decode().rstrip("\r\n")

    def expect(self, pattern: str) -> None:
        heard = [self.hear()]
        if "(?s)" in pattern:
            while not re.match(pattern, "\n".join(heard), re.MULTILINE):
                heard.append(self.hear())
                assert heard[-1] or len(heard) < 100, (pattern, heard)
            return
        while re.match(r"\d{3}-", heard[-1]):
            heard.append(self.hear())
        text = " ".join(heard)
        assert re.match(pattern, re.sub(r"^(\d{3})-", r"\1 ", text)), (pattern, text)


@pytest.mark.parametrize("dialogue", DIALOGUES, ids=lambda path: path.stem)
def test_dialogue(site: Site, dialogue: pathlib.Path) -> None:
    user, password = site.account("eve")
    words = {"user": user, "password": password, "login": f"\0{user}\0{password}", "subject": token()}
    words.update({f"{name} in base64": base64.b64encode(text.encode()).decode() for name, text in list(words.items())})

    comment, port, *lines = dialogue.read_text(encoding="utf-8").splitlines()
    assert comment.startswith("# ")
    line = Line(site, int(port))
    with line.socket:
        for row in lines:
            kind, _, text = row.partition(" ")
            if kind == "TLS":
                line.start_tls()
            elif kind == ">":
                said = re.sub(r"\{(.*?)\}", lambda found: words[found[1]], text)
                line.socket.sendall(said.encode() + b"\r\n")
            else:
                assert kind == "<", row
                line.expect(text)
        line.socket.close()
    if any("{subject}" in row for row in lines):
        assert received(site.server, site.account("eve"), words["subject"])
    assert ("TLS" in lines[:1]) == (int(port) in IMPLICIT_TLS)
