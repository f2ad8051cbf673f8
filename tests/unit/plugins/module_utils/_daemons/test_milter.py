# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The milter client: possible answers of a milter to a message, and the resulting outcome."""

import contextlib
import pathlib
import socket
import struct
import threading
import typing as t

import pytest
from ansible_collections.port587.mail.plugins.module_utils._daemons import prove
from ansible_collections.port587.mail.plugins.module_utils._daemons.milter import Message, scan
from ansible_collections.port587.mail.plugins.module_utils._transaction.errors import ProofError
from ansible_collections.port587.mail.plugins.module_utils._wire.connection import Wire
from ansible_collections.port587.mail.plugins.module_utils._wire.errors import WireError

ALL_SILENT = 0xFF080
SIGNED = b"\0\0\0\1DKIM-Signature\0v=1; a=rsa-sha256; d=example.com; s=rsa1;\n\tb=abc=\0"
MESSAGE = Message("eve@example.com", "bob@example.org", [("From", "eve@example.com")], login="eve")


def packet(letter: str, data: bytes = b"") -> bytes:
    return struct.pack("!I", len(data) + 1) + letter.encode() + data


class Filter:
    """Answers each step that it promised to answer with ``step``, and the end of the message with ``end``."""

    def __init__(self, end: t.Sequence[bytes], silent: int = ALL_SILENT, step: bytes = packet("c")) -> None:
        self.end = end
        self.silent = silent
        self.step = step
        self.heard = []  # type: t.List[bytes]

    def serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError, struct.error), connection:
            reader = connection.makefile("rb")
            while True:
                (length,) = struct.unpack("!I", reader.read(4))
                heard = reader.read(length)
                self.heard.append(heard)
                if heard[:1] == b"O":
                    connection.sendall(packet("O", struct.pack("!3I", 6, 0x1FF, self.silent)))
                elif heard[:1] == b"E":
                    connection.sendall(b"".join(self.end))
                elif heard[:1] != b"D" and not self.silent:
                    connection.sendall(self.step)


class Closing(Filter):
    def serve(self, connection: socket.socket) -> None:
        connection.recv(4)
        connection.shutdown(socket.SHUT_WR)
        # until the other side has said everything
        while connection.recv(4096):
            pass


def asked(what: Filter, message: Message = MESSAGE) -> t.Any:
    mine, its = socket.socketpair()
    threading.Thread(target=what.serve, args=(its,), daemon=True).start()
    with mine:
        return scan(Wire(mine, 5.0), message)


@pytest.mark.parametrize("silent", [ALL_SILENT, 0])
def test_what_it_adds_and_removes(silent: int) -> None:
    removed = b"\0\0\0\1Authentication-Results\0\0"
    changed = b"\0\0\0\1Subject\0[spam] hello\0"
    what = Filter(
        [packet("m", removed), packet("m", changed), packet("i", SIGNED), packet("h", b"X\0y\0"), packet("a")], silent
    )
    outcome = asked(what)
    assert outcome.verdict == "accept"
    assert [name for name, _value in outcome.added] == ["DKIM-Signature", "X"]
    assert outcome.removed == ["Authentication-Results"]


def test_what_it_is_told() -> None:
    what = Filter([packet("c")])
    assert asked(what).verdict == "continue"
    assert [heard[:1] for heard in what.heard] == [b"O", b"D", b"C", b"H", b"D", b"M", b"R", b"L", b"N", b"B", b"E"]
    assert b"{auth_authen}\0eve\0" in what.heard[4]
    stranger = Filter([packet("c")])
    asked(stranger, MESSAGE._replace(login="", client="2001:db8::1"))
    assert stranger.heard[2] == b"Clocalhost\x006\x00\x192001:db8::1\0"
    assert b"auth" not in stranger.heard[4]


@pytest.mark.parametrize(
    ("said", "verdict"),
    [
        (packet("r"), "550"),
        (packet("t"), "451"),
        (packet("d"), "discard"),
        (packet("y", b"554 5.7.1 no\0"), "554 5.7.1 no"),
    ],
)
def test_refusals(said: bytes, verdict: str) -> None:
    assert asked(Filter([said])).verdict == verdict
    assert asked(Filter([], silent=0, step=said)).verdict == verdict


def test_one_that_hangs_up() -> None:
    with pytest.raises(WireError, match="closed the connection"):
        asked(Closing([]))


@pytest.mark.parametrize(
    ("end", "words"),
    [
        ([packet("i", SIGNED), packet("a")], "proved"),
        (
            [packet("a")],
            "does not sign a message from postmaster@example.com with the key of rsa1._domainkey.example.com",
        ),
        ([packet("i", SIGNED.replace(b"rsa1", b"old")), packet("a")], "does not sign"),
        ([packet("t")], "answers a message from postmaster@example.com with: 451"),
    ],
)
def test_as_a_proof(tmp_path: pathlib.Path, end: t.List[bytes], words: str) -> None:
    assert words in proved(tmp_path, end, signatures=["rsa1._domainkey.example.com"])


@pytest.mark.parametrize(
    ("end", "words"),
    [
        ([packet("y", b"554 5.7.1 who are you\0")], "proved"),
        ([packet("y", b"451 4.7.1 no table\0")], "a login that is not in the table: 451 4.7.1 no table"),
        ([packet("a")], "a login that is not in the table: accept"),
    ],
)
def test_a_login_that_has_to_be_refused(tmp_path: pathlib.Path, end: t.List[bytes], words: str) -> None:
    assert words in proved(tmp_path, end, answer="refused")


def proved(tmp_path: pathlib.Path, end: t.List[bytes], **proof: t.Any) -> str:
    """What becomes of the proof: "proved", or why not."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "socket"))
    listener.listen(5)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                Filter(end).serve(listener.accept()[0])

    threading.Thread(target=accept, daemon=True).start()
    try:
        prove.prove([prove.Proof("milter", path=str(tmp_path / "socket"), **proof)], deadline=0.3)
        return "proved"
    except ProofError as exc:
        return str(exc)
    finally:
        listener.close()
