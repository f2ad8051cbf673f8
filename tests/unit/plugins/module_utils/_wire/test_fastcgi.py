# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Asking php-fpm for a script, against a small server that speaks FastCGI."""

import socket
import struct
import threading
import typing as t

import pytest
from ansible_collections.port587.mail.plugins.module_utils._daemons.prove import Proof, prove
from ansible_collections.port587.mail.plugins.module_utils._transaction.errors import ProofError
from ansible_collections.port587.mail.plugins.module_utils._wire import fastcgi
from ansible_collections.port587.mail.plugins.module_utils._wire.connection import Wire

END = (fastcgi.END, bytes(8))
PAGE = b"Content-Type: text/html\r\n\r\n<form>Status: 404</form>"


def record(kind: int, content: bytes, version: int = 1) -> bytes:
    """With padding, as php-fpm sends it."""
    padding = -len(content) % 8
    return struct.pack(">BBHHBx", version, kind, 1, len(content), padding) + content + bytes(padding)


def served(listener: socket.socket, answer: bytes, asked: t.List[bytes]) -> threading.Thread:
    def serve() -> None:
        connection = listener.accept()[0]
        with connection:
            asked.append(connection.recv(65536))
            connection.sendall(answer)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    return thread


@pytest.mark.parametrize(
    ("records", "wanted"),
    [
        ([(fastcgi.STDOUT, PAGE), END], (200, "")),
        ([(fastcgi.STDOUT, b"Status: 500 Internal"), (fastcgi.STDOUT, b" Server Error\r\n\r\n"), END], (500, "")),
        (
            [(fastcgi.STDERR, b"PHP Fatal error"), (fastcgi.STDOUT, b"Status: 404 Not Found\r\n\r\n"), END],
            (404, "PHP Fatal error"),
        ),
    ],
)
def test_the_answer(records: t.List[t.Tuple[int, bytes]], wanted: t.Tuple[int, str]) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(b"".join(record(*one) for one in records))
        assert fastcgi.get(Wire(ours, 2.0), "/srv/index.php", "mail.example.com") == wanted
        request = theirs.recv(65536)
    assert b"SCRIPT_FILENAME/srv/index.php" in request
    assert b"HTTP_HOSTmail.example.com" in request
    # empty records end the parameters and the input
    assert request.endswith(bytes([1, fastcgi.PARAMS, 0, 1, 0, 0, 0, 0, 1, fastcgi.STDIN, 0, 1, 0, 0, 0, 0]))


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (record(fastcgi.STDOUT, PAGE) + record(*END), ""),
        (record(fastcgi.STDOUT, b"Status: 503 Busy\r\n\r\n") + record(*END), "with status 503"),
        (record(fastcgi.STDOUT, PAGE, version=72), "not an answer in FastCGI"),
        (record(fastcgi.STDOUT, PAGE), "closed without an answer"),
    ],
)
def test_the_proof(tmp_path: t.Any, answer: bytes, words: str) -> None:
    path = str(tmp_path / "php.sock")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(1)
        thread = served(listener, answer, [])
        proof = Proof("fastcgi", path=path, host="mail.example.com", uri="/srv/index.php")
        if words:
            with pytest.raises(ProofError, match=words):
                prove([proof], deadline=0)
        else:
            prove([proof], deadline=0)
        thread.join(5)
