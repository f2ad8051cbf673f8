# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Runs on the server: Python 3.6 and the standard library only.

"""Does a daemon really serve? Asked on the server itself, right after a change.

EHLO alone proves nothing: with an unreadable key Postfix still offers STARTTLS, and with a misspelt restriction only
the RCPT is answered with 451. So each proof goes as far as a client would: handshake, AUTH, recipient.
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

#: Seconds for one answer. A healthy daemon on the same machine takes milliseconds.
ANSWER_TIMEOUT = 5.0


#: rsaEncryption (RFC 8017), as it stands in a certificate's public key.
_RSA_KEY = bytes.fromhex("06092a864886f70d0101010500")


class Proof(t.NamedTuple):
    """One thing to try.

    ``protocol``: smtp, imap, pop3, sieve, http, socketmap, dns (on ``port``) or sasl, lmtp, policy, milter, redis (on
    the socket ``path``, as ``user``); or command, which runs ``command`` and asks nobody else.
    ``tls``: implicit, starttls or none. ``auth``: AUTH has to be offered (True) or must not be (False).
    ``recipient``: the address to name in RCPT; ``answer``: accepted or refused. A milter
    refuses a login that nobody has.
    ``host`` and ``uri``: what to GET over HTTP. It has to be there. ``host`` is what to look up in a socketmap, and
    with all other protocols what is named in the handshake (SNI). ``certificate``: the PEM file with the one to be
    served, where it is another than that of all.
    ``rsa``: ask as a client does that knows RSA only, if there is such a key in that file.
    ``signatures``: the DKIM keys that a message of this server's has to be signed with, by their names in DNS.
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
    """Try every proof until it succeeds, all within ``deadline`` seconds. ``certificate``: the one to be served."""
    end = time.time() + deadline
    for proof in proofs:
        path = proof.certificate or certificate
        leaf = _leaf(path) if path else None
        while True:
            try:
                _attempt(proof, leaf)
                break
            except (ProofError, OSError, EOFError) as exc:
                if time.time() >= end:
                    raise ProofError("%s: %s" % (proof.where(), _words(exc))) from exc
                time.sleep(0.1)


def _words(exc: BaseException) -> str:
    if isinstance(exc, socket.timeout):
        return "no answer within %d s" % ANSWER_TIMEOUT
    if isinstance(exc, (EOFError, ssl.SSLError)):
        return "connection closed without an answer"
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
        connection.close()


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
        if proof.path:
            self.socket = _connect_unix(proof.path, proof.user)
        else:
            self.socket = socket.create_connection((proof.address, proof.port or 0), ANSWER_TIMEOUT)
        self.reader = self.socket.makefile("rb")

    def start_tls(self, leaf: t.Optional[bytes]) -> None:
        # not verified against an authority: that the very certificate from the file is served is a stronger statement
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        if self.rsa and leaf is not None and _RSA_KEY in leaf:
            # up to TLS 1.2 the cipher says what kind of key
            context.options |= ssl.OP_NO_TLSv1_3
            context.set_ciphers("aRSA")
        try:
            wrapped = context.wrap_socket(self.socket, server_hostname=self.host)
        except ssl.SSLError as exc:
            raise ProofError("TLS handshake failed: %s" % (exc.reason or exc)) from exc
        if leaf is not None and wrapped.getpeercert(True) != leaf:
            wrapped.close()
            raise ProofError("serves another certificate than the one installed")
        self.socket = wrapped
        self.reader = wrapped.makefile("rb")

    def line(self) -> str:
        line = self.reader.readline(4096)
        if not line:
            raise EOFError
        return line.decode("utf-8", "replace").rstrip("\r\n")

    def lines_until(self, final: t.Callable[[str], bool]) -> t.List[str]:
        lines = [self.line()]
        while not final(lines[-1]):
            lines.append(self.line())
        return lines

    def send(self, command: str) -> None:
        self.socket.sendall(command.encode("ascii") + b"\r\n")

    def close(self) -> None:
        self.reader.close()
        self.socket.close()


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
    """Root could open a socket whose mode shuts Postfix out."""
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
    def final(line: str) -> bool:
        return line[3:4] != "-"

    def ask(command: str, starts: t.Tuple[str, ...]) -> t.List[str]:
        connection.send(command)
        lines = connection.lines_until(final)
        _expect(lines, starts, command)
        return [line[4:].upper() for line in lines]

    _expect(connection.lines_until(final), ("220",), "the connection")
    features = ask("EHLO localhost", ("250",))
    if proof.tls == "starttls":
        if any(f.startswith("AUTH") for f in features):
            raise ProofError("offers AUTH before TLS")
        if "STARTTLS" not in features:
            raise ProofError("does not offer STARTTLS")
        ask("STARTTLS", ("220",))
        connection.start_tls(leaf)
        features = ask("EHLO localhost", ("250",))
    offered = any(f.startswith("AUTH ") for f in features)
    if proof.auth is True and not offered:
        # where it is offered, smtpd(8) has the mechanisms from Dovecot, over the SASL socket; without that it dies
        raise ProofError("does not offer AUTH, so nobody can log in")
    if proof.auth is False and offered:
        raise ProofError("offers AUTH")
    if proof.recipient:
        ask("MAIL FROM:<>", ("250",))
        ask("RCPT TO:<%s>" % proof.recipient, ("250",) if proof.answer == "accepted" else ("5",))
    ask("QUIT", ("221",))


def _imap(connection: _Connection, proof: Proof, leaf: t.Optional[bytes]) -> None:
    def ask(tag: str, command: str, starts: t.Tuple[str, ...]) -> None:
        connection.send("%s %s" % (tag, command))
        _expect(connection.lines_until(lambda line: line.startswith((tag, "+", "* BYE"))), starts, command)

    _expect([connection.line()], ("* OK",), "the connection")
    if proof.tls == "starttls":
        ask("a", "STARTTLS", ("a OK",))
        connection.start_tls(leaf)
    ask("b", "AUTHENTICATE PLAIN", ("+",))
    connection.send("*")
    _expect(connection.lines_until(lambda line: line.startswith(("b ", "* BYE"))), ("b BAD", "b NO"), "AUTHENTICATE")


def _pop3(connection: _Connection, proof: Proof, leaf: t.Optional[bytes]) -> None:
    _expect([connection.line()], ("+OK",), "the connection")
    if proof.tls == "starttls":
        connection.send("STLS")
        _expect([connection.line()], ("+OK",), "STLS")
        connection.start_tls(leaf)
    connection.send("AUTH PLAIN")
    _expect([connection.line()], ("+",), "AUTH PLAIN")
    connection.send("*")
    _expect([connection.line()], ("-ERR",), "AUTH PLAIN")


def _sieve(connection: _Connection, proof: Proof, leaf: t.Optional[bytes]) -> None:
    def final(line: str) -> bool:
        return line.startswith(("OK", "NO", "BYE"))

    _expect(connection.lines_until(final), ("OK",), "the connection")
    if proof.tls == "starttls":
        connection.send("STARTTLS")
        _expect(connection.lines_until(final), ("OK",), "STARTTLS")
        connection.start_tls(leaf)
        _expect(connection.lines_until(final), ("OK",), "STARTTLS")


def _sasl(connection: _Connection, proof: Proof, leaf: t.Optional[bytes]) -> None:
    # Dovecot 2.4 lets the client speak first
    connection.socket.sendall(b"VERSION\t1\t0\nCPID\t%d\n" % os.getpid())
    lines = connection.lines_until(lambda line: line == "DONE")
    if not any(line.startswith("MECH\t") for line in lines):
        raise ProofError("offers no mechanism")


def _lmtp(connection: _Connection, proof: Proof, leaf: t.Optional[bytes]) -> None:
    _expect([connection.line()], ("220",), "the connection")


def _policy(connection: _Connection, proof: Proof, leaf: t.Optional[bytes]) -> None:
    # a greylisting one dies without an address
    connection.socket.sendall(
        b"request=smtpd_access_policy\nprotocol_state=RCPT\nclient_address=127.0.0.1\nclient_name=localhost\n"
        b"helo_name=localhost\nsender=\nrecipient=%s\nsize=1\n\n" % (proof.recipient or "").encode("ascii")
    )
    _expect([connection.line()], ("action=",), "a recipient")


def _http(connection: _Connection, proof: Proof, leaf: t.Optional[bytes]) -> None:
    request = "GET %s HTTP/1.0" % proof.uri
    connection.send("%s\r\nHost: %s\r\n" % (request, proof.host))
    line = connection.line()
    if not re.match(r"HTTP/1\.\d 200 ", line):
        raise ProofError("answers %s for %s with: %s" % (request, proof.host, line))


def _milter(connection: _Connection, proof: Proof, leaf: t.Optional[bytes]) -> None:
    """A message as a program of this machine sends it, or as a login that nobody has. It goes nowhere."""
    domain = proof.signatures[0].partition("._domainkey.")[2] if proof.signatures else "localhost"
    sender = "postmaster@%s" % domain
    headers = [
        ("From", "<%s>" % sender),
        ("To", "<%s>" % sender),
        ("Subject", "Proof"),
        ("Message-ID", "<0@localhost>"),
    ]
    login = "nobody" if proof.answer == "refused" else ""
    outcome = scan(connection.socket, Message(sender, sender, headers, login=login))
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
    """A lookup as of socketmap_table(5), in netstrings; that there is nothing of the name is an answer, too."""
    query = ("postfix %s" % proof.host).encode("ascii")
    connection.socket.sendall(b"%d:%s," % (len(query), query))
    length = b""
    while not length.endswith(b":"):
        more = connection.reader.read(1)
        if not more:
            raise EOFError
        length += more
        if not re.match(rb"\d{1,6}:?$", length):
            raise ProofError("answers %s with what is no netstring" % query.decode())
    _expect([connection.reader.read(int(length[:-1])).decode("utf-8", "replace")], ("OK ", "NOTFOUND "), query.decode())


def _dns(connection: _Connection, proof: Proof, leaf: t.Optional[bytes]) -> None:
    """The connection was over TCP; the question goes over UDP. Everything that is validated hangs on these keys."""
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
    "milter": _milter,
    "socketmap": _socketmap,
    "dns": _dns,
    "redis": _redis,
}
