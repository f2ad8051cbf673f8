# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Runs on the server: Python 3.6 and the standard library only.

"""Test on the server itself, right after a change, that a daemon really serves.

EHLO alone proves nothing: with an unreadable key Postfix still offers STARTTLS, and with a misspelt restriction only
RCPT gets the answer 451. So each proof goes as far as a client would: handshake, AUTH, recipient.
"""

import contextlib
import os
import pwd
import re
import socket
import ssl
import time
import typing as t

from ansible_collections.port587.mail.plugins.module_utils._daemons.milter import Message, scan
from ansible_collections.port587.mail.plugins.module_utils._dns import client as dns_client
from ansible_collections.port587.mail.plugins.module_utils._transaction.commands import run_command
from ansible_collections.port587.mail.plugins.module_utils._transaction.daemon import DEADLINE
from ansible_collections.port587.mail.plugins.module_utils._transaction.errors import ProofError
from ansible_collections.port587.mail.plugins.module_utils._wire import fastcgi, http
from ansible_collections.port587.mail.plugins.module_utils._wire.connection import Wire, connect
from ansible_collections.port587.mail.plugins.module_utils._wire.errors import WireError
from ansible_collections.port587.mail.plugins.module_utils._wire.imap import Imap
from ansible_collections.port587.mail.plugins.module_utils._wire.pop3 import Pop3
from ansible_collections.port587.mail.plugins.module_utils._wire.sieve import Sieve
from ansible_collections.port587.mail.plugins.module_utils._wire.smtp import Reply, Smtp
from ansible_collections.port587.mail.plugins.module_utils._wire.words import text

#: Seconds for one answer. A healthy daemon on the same machine takes milliseconds.
ANSWER_TIMEOUT = 5.0

#: Seconds for all answers of one attempt.
ATTEMPT_TIMEOUT = 60.0

#: rsaEncryption (RFC 8017), as in a certificate's public key.
_RSA_KEY = bytes.fromhex("06092a864886f70d0101010500")


class Proof(t.NamedTuple):
    """One test.

    ``protocol``: smtp, imap, pop3, sieve, http, socketmap, dns (on ``port``) or sasl, lmtp, policy, milter, redis (on
    the socket ``path``, as ``user``), and http and fastcgi on either; or command, which runs ``command``.
    ``tls``: implicit, starttls or none. ``auth``: AUTH must be offered (True) or must not be (False).
    ``recipient``: the address to name in RCPT; ``answer``: accepted or refused. For a milter, refused tests a message
    with a login that does not exist.
    ``host`` and ``uri``: the page to GET over HTTP, with status 200; for fastcgi, ``uri`` is the script's path.
    ``host`` is the key to look up in a socketmap, and the name in the handshake (SNI) with all other protocols.
    ``certificate``: the PEM file with the certificate to be served, if it differs from the one for all proofs.
    ``rsa``: connect like a client that supports RSA only, if that file has an RSA key.
    ``signatures``: the DKIM keys that must sign a message from this server, by their names in DNS.
    """

    protocol: str
    port: t.Optional[int] = None
    address: str = "127.0.0.1"
    tls: str = "none"
    auth: t.Optional[bool] = None
    recipient: t.Optional[str] = None
    answer: t.Optional[str] = None
    path: t.Optional[str] = None
    user: t.Optional[str] = None
    host: t.Optional[str] = None
    uri: str = "/"
    signatures: t.Sequence[str] = ()
    certificate: t.Optional[str] = None
    rsa: bool = False
    command: t.Optional[t.Sequence[str]] = None

    def where(self) -> str:
        if self.command:
            return " ".join(self.command)
        return self.path or "port %s (%s)" % (self.port, self.protocol)


def prove(proofs: t.Sequence[Proof], certificate: t.Optional[str] = None, deadline: float = DEADLINE) -> None:
    """Repeat every proof until it succeeds, all within ``deadline`` seconds. ``certificate``: must be served."""
    end = time.time() + deadline
    for proof in proofs:
        path = proof.certificate or certificate
        leaf = _leaf(path) if path else None
        while True:
            try:
                _attempt(proof, leaf)
                break
            except (ProofError, WireError, OSError) as exc:
                if time.time() >= end:
                    raise ProofError("%s: %s" % (proof.where(), _words(exc))) from exc
                time.sleep(0.1)


def _words(exc: BaseException) -> str:
    if isinstance(exc, WireError):
        return "connection closed without an answer" if exc.kind == "closed" else exc.text
    if isinstance(exc, OSError) and exc.strerror:
        # without Python's "[Errno 111]"
        return exc.strerror.lower()
    return str(exc)


def _leaf(path: str) -> bytes:
    """The first certificate of a PEM file, in DER."""
    with open(path) as handle:
        text = handle.read()
    found = re.search("-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", text, re.DOTALL)
    if found is None:
        raise ProofError("%s holds no certificate in PEM" % path)
    return ssl.PEM_cert_to_DER_cert(found.group() + "\n")


def _attempt(proof: Proof, leaf: t.Optional[bytes]) -> None:
    if proof.protocol == "command":
        _run(proof.command or [])
        return
    connection = _Connection(proof)
    try:
        if proof.tls == "implicit":
            connection.start_tls(leaf)
        PROTOCOLS[proof.protocol](connection, proof, leaf)
    finally:
        connection.wire.close()


def _run(command: t.Sequence[str]) -> None:
    code, out, err = run_command(["timeout", str(int(ANSWER_TIMEOUT)), *command])
    if code == 124:
        raise ProofError("does not end within %d s" % ANSWER_TIMEOUT)
    if code:
        raise ProofError("ends with %d: %s" % (code, (err + out).strip()))


class _Connection:
    def __init__(self, proof: Proof) -> None:
        self.host = proof.host
        self.rsa = proof.rsa
        end = time.monotonic() + ATTEMPT_TIMEOUT
        if proof.path:
            self.wire = Wire(_connect_unix(proof.path, proof.user), ANSWER_TIMEOUT, end)
        else:
            self.wire = connect(proof.address, proof.port or 0, ANSWER_TIMEOUT, end)

    def start_tls(self, leaf: t.Optional[bytes]) -> None:
        # not verified against a CA: comparing with the certificate in the file is the stronger test
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        if self.rsa and leaf is not None and _RSA_KEY in leaf:
            # up to TLS 1.2 the cipher determines the kind of key
            context.options |= ssl.OP_NO_TLSv1_3
            context.set_ciphers("aRSA")
        self.wire.step()
        try:
            self.wire.start_tls(context, self.host)
        except WireError as exc:
            raise ProofError("TLS handshake failed: %s" % exc.text) from exc
        if leaf is not None and self.wire.tls().getpeercert(True) != leaf:
            raise ProofError("serves another certificate than the one installed")

    def line(self) -> str:
        self.wire.step()
        return text(self.wire.line())

    def lines_until(self, final: t.Callable[[str], bool]) -> t.List[str]:
        lines = [self.line()]
        while not final(lines[-1]):
            lines.append(self.line())
        return lines

    def send(self, command: str) -> None:
        self.wire.step()
        self.wire.send(command.encode("ascii") + b"\r\n")


def _connect_unix(path: str, user: t.Optional[str]) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(ANSWER_TIMEOUT)
    try:
        with _acting_as(user):
            connection.connect(path)
    except OSError as exc:
        connection.close()
        raise ProofError("%s can't connect: %s" % (user or "root", exc.strerror)) from exc
    return connection


@contextlib.contextmanager
def _acting_as(user: t.Optional[str]) -> t.Iterator[None]:
    """Change the user, since root could open a socket whose mode excludes Postfix."""
    if not user:
        yield
        return
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        raise ProofError("there is no user %s" % user) from None
    groups = os.getgroups()
    os.initgroups(user, entry.pw_gid)
    os.setegid(entry.pw_gid)
    os.seteuid(entry.pw_uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)


def _expect(lines: t.Sequence[str], starts: t.Tuple[str, ...], to: str) -> None:
    if not lines[-1].startswith(starts):
        raise ProofError("answers %s with: %s" % (to, " / ".join(lines)))


def _smtp(connection: _Connection, proof: Proof, leaf: t.Optional[bytes]) -> None:
    smtp = Smtp(connection.wire)

    def expect(code: str, command: str, ask: t.Callable[[], Reply]) -> None:
        connection.wire.step()
        reply = ask()
        _expect(["%d %s" % (reply.code, line) for line in reply.lines], (code,), command)

    def command(code: str, line: str) -> None:
        expect(code, line, lambda: smtp.command(line))

    expect("220", "the connection", smtp.reply)
    expect("250", "EHLO", smtp.ehlo)
    if proof.tls == "starttls":
        if smtp.mechanisms():
            raise ProofError("offers AUTH before TLS")
        if "STARTTLS" not in smtp.features:
            raise ProofError("does not offer STARTTLS")
        command("220", "STARTTLS")
        connection.start_tls(leaf)
        expect("250", "EHLO", smtp.ehlo)
    if proof.auth is True and not smtp.mechanisms():
        # to offer AUTH, smtpd(8) reads the mechanisms from Dovecot's SASL socket; without the socket it dies
        raise ProofError("does not offer AUTH, so nobody can log in")
    if proof.auth is False and smtp.mechanisms():
        raise ProofError("offers AUTH")
    if proof.recipient:
        command("250", "MAIL FROM:<>")
        command("250" if proof.answer == "accepted" else "5", "RCPT TO:<%s>" % proof.recipient)
    command("221", "QUIT")


def _imap(connection: _Connection, proof: Proof, leaf: t.Optional[bytes]) -> None:
    imap = Imap(connection.wire)
    connection.wire.step()
    _expect(["* " + imap.greeting()], ("* OK",), "the connection")
    if proof.tls == "starttls":
        connection.wire.step()
        word, rest, _untagged = imap.command("STARTTLS")
        _expect([word + " " + rest], ("OK",), "STARTTLS")
        connection.start_tls(leaf)
    connection.wire.step()
    tag = imap.send("AUTHENTICATE PLAIN")
    line = imap.line()
    while line.startswith(b"* ") and not line.startswith(b"* BYE"):
        line = imap.line()
    _expect([text(line)], ("+",), "AUTHENTICATE PLAIN")
    connection.send("*")
    word, rest, _untagged = imap.response(tag)
    _expect([word + " " + rest], ("BAD", "NO"), "AUTHENTICATE")


def _pop3(connection: _Connection, proof: Proof, leaf: t.Optional[bytes]) -> None:
    pop3 = Pop3(connection.wire)

    def command(line: str, start: str) -> None:
        connection.wire.step()
        _expect([pop3.command(line)], (start,), "AUTH PLAIN" if line == "*" else line)

    connection.wire.step()
    _expect([pop3.reply()], ("+OK",), "the connection")
    if proof.tls == "starttls":
        command("STLS", "+OK")
        connection.start_tls(leaf)
    command("AUTH PLAIN", "+")
    command("*", "-ERR")


def _sieve(connection: _Connection, proof: Proof, leaf: t.Optional[bytes]) -> None:
    sieve = Sieve(connection.wire)
    connection.wire.step()
    _expect([sieve.reply()[0]], ("OK",), "the connection")
    if proof.tls == "starttls":
        connection.wire.step()
        _expect([sieve.command("STARTTLS")[0]], ("OK",), "STARTTLS")
        connection.start_tls(leaf)
        connection.wire.step()
        _expect([sieve.reply()[0]], ("OK",), "STARTTLS")


def _sasl(connection: _Connection, proof: Proof, leaf: t.Optional[bytes]) -> None:
    # with Dovecot 2.4 the client speaks first
    connection.wire.send(b"VERSION\t1\t0\nCPID\t%d\n" % os.getpid())
    lines = connection.lines_until(lambda line: line == "DONE")
    if not any(line.startswith("MECH\t") for line in lines):
        raise ProofError("offers no mechanism")


def _lmtp(connection: _Connection, proof: Proof, leaf: t.Optional[bytes]) -> None:
    _expect([connection.line()], ("220",), "the connection")


def _policy(connection: _Connection, proof: Proof, leaf: t.Optional[bytes]) -> None:
    # a greylisting service dies without an address
    connection.wire.send(
        b"request=smtpd_access_policy\nprotocol_state=RCPT\nclient_address=127.0.0.1\nclient_port=1\n"
        b"server_address=127.0.0.1\nserver_port=25\nclient_name=localhost\nhelo_name=localhost\nsender=\nrecipient=%s\nsize=1\n\n"
        % (proof.recipient or "").encode("ascii")
    )
    _expect([connection.line()], ("action=",), "a recipient")


def _http(connection: _Connection, proof: Proof, leaf: t.Optional[bytes]) -> None:
    connection.wire.step()
    status = http.get(connection.wire, proof.host or "", proof.uri)
    if status.code != 200:
        raise ProofError("answers GET %s HTTP/1.0 for %s with: %s" % (proof.uri, proof.host, status.line))


def _fastcgi(connection: _Connection, proof: Proof, leaf: t.Optional[bytes]) -> None:
    connection.wire.step()
    answer = fastcgi.get(connection.wire, proof.uri, proof.host or "")
    if answer.status != 200:
        raise ProofError("answers GET of %s with status %d: %s" % (proof.uri, answer.status, answer.errors))


def _milter(connection: _Connection, proof: Proof, leaf: t.Optional[bytes]) -> None:
    """Test a message from a local program, or with a login that does not exist. It is not delivered."""
    domain = proof.signatures[0].partition("._domainkey.")[2] if proof.signatures else "localhost"
    sender = "postmaster@%s" % domain
    headers = [
        ("From", "<%s>" % sender),
        ("To", "<%s>" % sender),
        ("Subject", "Proof"),
        ("Message-ID", "<0@localhost>"),
    ]
    login = "nobody" if proof.answer == "refused" else ""
    outcome = scan(connection.wire, Message(sender, sender, headers, login=login))
    if login:
        if not outcome.verdict.startswith("5"):
            raise ProofError("does not refuse a message of a login that is not in the table: %s" % outcome.verdict)
        return
    if outcome.verdict not in ("continue", "accept"):
        raise ProofError("answers a message from %s with: %s" % (sender, outcome.verdict))
    found = [
        "%s._domainkey.%s" % (tags.get("s"), tags.get("d"))
        for tags in (
            dict(re.findall(r"(?:^|;)\s*(\w+)=([^;\s]*)", value))
            for name, value in outcome.added
            if name == "DKIM-Signature"
        )
    ]
    missing = [name for name in proof.signatures if name not in found]
    if missing:
        raise ProofError("does not sign a message from %s with the key of %s" % (sender, missing[0]))


def _socketmap(connection: _Connection, proof: Proof, leaf: t.Optional[bytes]) -> None:
    """A lookup of socketmap_table(5), in netstrings; the answer NOTFOUND is good, too."""
    query = ("postfix %s" % proof.host).encode("ascii")
    connection.wire.step()
    connection.wire.send(b"%d:%s," % (len(query), query))
    length = b""
    while not length.endswith(b":"):
        length += connection.wire.exactly(1)
        if not re.match(rb"[0-9]{1,6}:?$", length):
            raise ProofError("answers %s with what is not a netstring" % query.decode())
    _expect([text(connection.wire.exactly(int(length[:-1])))], ("OK ", "NOTFOUND "), query.decode())


def _dns(connection: _Connection, proof: Proof, leaf: t.Optional[bytes]) -> None:
    """The connection test used TCP; the query uses UDP. All DNSSEC validation depends on these keys."""
    answer = dns_client.ask(proof.address, ".", "DNSKEY", port=proof.port or 53)
    if answer is None or not answer.values:
        raise ProofError(
            "can't get the keys of the root: name servers can't be reached, or their answers are not valid"
        )
    if not answer.validated:
        raise ProofError("answers without having validated")


def _redis(connection: _Connection, proof: Proof, leaf: t.Optional[bytes]) -> None:
    connection.send("PING")
    _expect([connection.line()], ("+PONG",), "PING")


PROTOCOLS = {
    "smtp": _smtp,
    "imap": _imap,
    "pop3": _pop3,
    "sieve": _sieve,
    "sasl": _sasl,
    "lmtp": _lmtp,
    "policy": _policy,
    "http": _http,
    "fastcgi": _fastcgi,
    "milter": _milter,
    "socketmap": _socketmap,
    "dns": _dns,
    "redis": _redis,
}
