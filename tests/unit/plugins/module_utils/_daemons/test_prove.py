# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The proofs that a daemon serves, against small servers that work or fail."""

import contextlib
import pathlib
import socket
import ssl
import struct
import subprocess
import threading
import time
import typing as t

import pytest
from ansible_collections.port587.mail.plugins.module_utils._daemons import prove
from ansible_collections.port587.mail.plugins.module_utils._daemons.prove import Proof
from ansible_collections.port587.mail.plugins.module_utils._transaction.errors import ProofError


@pytest.fixture(scope="module")
def pem(tmp_path_factory: t.Any) -> str:
    directory = tmp_path_factory.mktemp("tls")  # type: pathlib.Path
    for name in ("one", "other"):
        path = str(directory / (name + ".pem"))
        subprocess.check_call(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=x", "-keyout"]
            + [path, "-out", path + ".crt"],
            stderr=subprocess.DEVNULL,
        )
        with open(path, "a") as handle, open(path + ".crt") as certificate:
            handle.write(certificate.read())
    return str(directory / "one.pem")


#: (what the client has to say next, what is answered); None: it is the server's turn. "TLS" starts TLS.
Script = t.List[t.Tuple[t.Optional[str], str]]


@contextlib.contextmanager
def serving(script: Script, pem: str = "", implicit: bool = False, path: str = "") -> t.Iterator[int]:
    """A server that plays the script to everybody who connects."""
    if path:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(path)
    else:
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
    listener.listen(5)

    def secure(connection: socket.socket) -> socket.socket:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        for one in pem.split():
            context.load_cert_chain(one)
        return context.wrap_socket(connection, server_side=True)

    def play(connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            if implicit:
                connection = secure(connection)
            reader = connection.makefile("rb")
            for expected, answer in script:
                if expected is not None and not reader.readline().decode("utf-8", "replace").startswith(expected):
                    break
                if answer == "TLS":
                    connection = secure(connection)
                    reader = connection.makefile("rb")
                elif answer:
                    connection.sendall(answer.replace("\n", "\r\n").encode() + b"\r\n")
            reader.close()
        connection.close()

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=play, args=(listener.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield 0 if path else listener.getsockname()[1]
    finally:
        listener.close()


def outcome(proof: Proof, certificate: t.Optional[str] = None, deadline: float = 0.0) -> str:
    try:
        prove.prove([proof], certificate, deadline)
        return "proved"
    except ProofError as exc:
        return str(exc)


SUBMISSION = [
    (None, "220 hello"),
    ("EHLO", "250-mail\n250-STARTTLS\n250 8BITMIME"),
    ("STARTTLS", "220 go"),
    (None, "TLS"),
    ("EHLO", "250-mail\n250 AUTH PLAIN LOGIN"),
    ("MAIL", "250 ok"),
    ("RCPT", "554 5.7.1 Access denied"),
    ("QUIT", "221 bye"),
]  # type: Script


def changed(number: int, answer: str) -> Script:
    script = list(SUBMISSION)
    script[number] = (script[number][0], answer)
    return script


@pytest.mark.parametrize(
    ("script", "words"),
    [
        (SUBMISSION, "proved"),
        (changed(0, "421 not now"), "answers the connection with: 421 not now"),
        (changed(1, "250-mail\n250 8BITMIME"), "does not offer STARTTLS"),
        (changed(1, "250-mail\n250-AUTH PLAIN\n250 STARTTLS"), "offers AUTH before TLS"),
        (changed(2, "454 4.7.0 TLS not available"), "answers STARTTLS with: 454 4.7.0 TLS not available"),
        (changed(4, "250 mail"), "does not offer AUTH, so nobody can log in"),
        (changed(6, "250 ok"), "answers RCPT TO:<a@example.com> with: 250 ok"),
        (changed(6, "451 4.3.5 Server configuration error"), "451 4.3.5 Server configuration error"),
        (SUBMISSION[:5], "connection closed without an answer"),
        ([], "connection closed without an answer"),
    ],
)
def test_submission(pem: str, script: Script, words: str) -> None:
    with serving(script, pem) as port:
        proof = Proof("smtp", port, tls="starttls", auth=True, recipient="a@example.com", answer="refused")
        assert words in outcome(proof, pem)


def test_another_certificate_than_the_one_installed(pem: str) -> None:
    with serving([(None, "220 hello")], pem, implicit=True) as port:
        other = pem.replace("one", "other")
        assert "serves another certificate" in outcome(Proof("smtp", port, tls="implicit"), other)
        # one that is for a name of its own
        of_one = Proof("smtp", port, tls="implicit", host="one.test", certificate=other)
        assert "serves another certificate" in outcome(of_one, pem)
        assert "serves another certificate" not in outcome(of_one._replace(certificate=pem), other)


def test_the_certificate_for_clients_that_know_rsa_only(pem: str, tmp_path: pathlib.Path) -> None:
    ecdsa = str(tmp_path / "ecdsa.pem")
    subprocess.check_call(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
        + ["-subj", "/CN=x", "-keyout", ecdsa, "-out", ecdsa + ".crt"],
        stderr=subprocess.DEVNULL,
    )
    with open(ecdsa, "a") as handle, open(ecdsa + ".crt") as certificate:
        handle.write(certificate.read())
    of_all = Proof("smtp", tls="implicit")
    for_old = of_all._replace(certificate=pem, rsa=True)

    def outcomes(served: str) -> t.List[str]:
        with serving([(None, "220 hello")], served, implicit=True) as port:
            return [outcome(proof._replace(port=port), ecdsa) for proof in (of_all, for_old)]

    for_all, old = outcomes(ecdsa + " " + pem)
    assert "another certificate" not in for_all + old
    assert "handshake failed" not in for_all + old
    for_all, old = outcomes(ecdsa)
    assert "another certificate" not in for_all
    assert "handshake failed" in old
    # the other one stands in for it: there is nothing to tell apart
    with serving([(None, "220 hello")], ecdsa, implicit=True) as port:
        assert "handshake failed" not in outcome(for_old._replace(port=port, certificate=ecdsa), ecdsa)


def test_no_tls_where_it_should_be(pem: str) -> None:
    with serving([(None, "220 hello"), ("x", "")]) as port:
        assert "TLS handshake failed" in outcome(Proof("smtp", port, tls="implicit"), pem)


def test_mta_that_offers_auth(pem: str) -> None:
    script = [(None, "220 hello"), ("EHLO", "250-mail\n250 AUTH PLAIN"), ("QUIT", "221")]  # type: Script
    with serving(script) as port:
        assert "offers AUTH" in outcome(Proof("smtp", port, auth=False))
        assert outcome(Proof("smtp", port)) == "proved"


IMAP = [(None, "* OK hello"), ("p1 AUTHENTICATE", "+"), ("*", "p1 BAD no")]  # type: Script


@pytest.mark.parametrize(
    ("script", "words"),
    [
        (IMAP, "proved"),
        ([(None, "* BYE too many")], "answers the connection with: * BYE too many"),
        ([IMAP[0], ("p1 AUTH", "* BYE Auth process broken")], "* BYE Auth process broken"),
        ([IMAP[0], ("p1 AUTH", "p1 NO [UNAVAILABLE]")], "p1 NO [UNAVAILABLE]"),
    ],
)
def test_imap(pem: str, script: Script, words: str) -> None:
    with serving(script, pem, implicit=True) as port:
        assert words in outcome(Proof("imap", port, tls="implicit"), pem)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ("HTTP/1.1 200 OK", "proved"),
        ("HTTP/1.1 404 Not Found", "answers GET /x HTTP/1.0 for mail.example.com with: HTTP/1.1 404 Not Found"),
        ("220 mail ESMTP", "not an answer in HTTP: 220 mail ESMTP"),
    ],
)
def test_http(pem: str, answer: str, words: str) -> None:
    script = [("GET /x HTTP/1.0", ""), ("Host: mail.example.com", ""), ("", answer)]  # type: Script
    with serving(script, pem, implicit=True) as port:
        proof = Proof("http", port, tls="implicit", host="mail.example.com", uri="/x")
        assert words in outcome(proof, pem)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ("9:NOTFOUND ,", "proved"),
        ("9:OK secure,", "proved"),
        ("18:TEMP out of memory,", "answers postfix 192.0.2.1 with: TEMP out of memory"),
        ("220 mail ESMTP", "answers postfix 192.0.2.1 with what is not a netstring"),
        ("", "connection closed without an answer"),
    ],
)
def test_socketmap(answer: str, words: str) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(1)

        def answers() -> None:
            connection = server.accept()[0]
            with connection:
                if connection.recv(100) == b"17:postfix 192.0.2.1,":
                    connection.sendall(answer.encode())

        threading.Thread(target=answers, daemon=True).start()
        assert words in outcome(Proof("socketmap", server.getsockname()[1], host="192.0.2.1"))


def test_pop3_and_sieve(pem: str) -> None:
    with serving([(None, "+OK"), ("STLS", "+OK"), (None, "TLS"), ("AUTH", "+ "), ("*", "-ERR no")], pem) as port:
        assert outcome(Proof("pop3", port, tls="starttls"), pem) == "proved"
    with serving([(None, '"SASL" ""\nOK'), ("STARTTLS", "OK"), (None, "TLS"), (None, "OK")], pem) as port:
        assert outcome(Proof("sieve", port, tls="starttls"), pem) == "proved"
    with serving([(None, "NO down")]) as port:
        assert "NO down" in outcome(Proof("sieve", port))


@pytest.mark.parametrize(
    ("protocol", "script", "words"),
    [
        ("sasl", [("VERSION", "VERSION\t1\t2\nMECH\tPLAIN\tplaintext\nDONE")], "proved"),
        ("sasl", [("VERSION", "VERSION\t1\t2\nDONE")], "offers no mechanism"),
        ("lmtp", [(None, "220 hello")], "proved"),
        ("lmtp", [(None, "421 no")], "421 no"),
        ("policy", [("request=", "action=DUNNO")], "proved"),
        ("policy", [("request=", "error")], "answers a recipient with: error"),
    ],
)
def test_sockets(tmp_path: pathlib.Path, protocol: str, script: Script, words: str) -> None:
    path = str(tmp_path / "socket")
    with serving(script, path=path):
        assert words in outcome(Proof(protocol, path=path, recipient="a@example.com"))


@pytest.mark.parametrize(
    ("flags", "answers", "words"),
    [
        (0x81A0, 1, "proved"),
        (0x8180, 1, "answers without having validated"),
        (0x81A0, 0, "can't get the keys of the root"),
        # SERVFAIL: what a resolver says of what it can't validate
        (0x8182, 0, "can't get the keys of the root"),
    ],
)
def test_resolver(flags: int, answers: int, words: str) -> None:
    with serving([]) as port, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as resolver:
        resolver.bind(("127.0.0.1", port))

        def reply() -> None:
            question, asker = resolver.recvfrom(512)
            # for the keys of the root, and with AD: without it, a resolver does not say whether it has validated
            assert (question[3] & 0x20, question[12:17]) == (0x20, b"\0\0\x30\0\1")
            head = question[:2] + struct.pack("!5H", flags, 1, answers, 0, 0) + question[12:17]
            resolver.sendto(head + answers * (b"\0" + struct.pack("!2HIH", 48, 1, 60, 4) + b"key!"), asker)

        thread = threading.Thread(target=reply)
        thread.start()
        assert words in outcome(Proof("dns", port))
        thread.join()


def test_socket_that_is_not_there(tmp_path: pathlib.Path) -> None:
    path = str(tmp_path / "none")
    assert outcome(Proof("lmtp", path=path)) == "%s: root can't connect: No such file or directory" % path
    assert "there is no user nobody-has-this-name" in outcome(Proof("lmtp", path=path, user="nobody-has-this-name"))


def test_waits_for_a_daemon_that_is_slow_to_come(tmp_path: pathlib.Path) -> None:
    path = str(tmp_path / "socket")
    ready = threading.Event()

    def later() -> None:
        time.sleep(0.4)
        with serving([(None, "220 hello")], path=path):
            ready.wait(10)

    thread = threading.Thread(target=later)
    thread.start()
    try:
        assert outcome(Proof("lmtp", path=path), deadline=10.0) == "proved"
    finally:
        ready.set()
        thread.join()


def test_gives_up_in_time(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prove, "ANSWER_TIMEOUT", 0.2)
    began = time.time()
    with serving([("never", "")]) as port:
        assert "port %d (smtp): no complete answer within" % port in outcome(Proof("smtp", port), deadline=0.5)
    assert time.time() - began < 15
