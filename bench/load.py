# SPDX-License-Identifier: GPL-3.0-or-later
"""Mail clients that want something all at once."""

import concurrent.futures
import imaplib
import smtplib
import socket
import ssl
import statistics
import time
import typing as t
import uuid

from machines import DOMAIN, PASSWORD, USERS, Machine

CONTEXT = ssl.create_default_context()
# who answers is known here; what the handshake costs is the same
CONTEXT.check_hostname = False
CONTEXT.verify_mode = ssl.CERT_NONE
LINE = "x" * 70 + "\r\n"
TIMEOUT = 30


class Server(t.NamedTuple):
    """A mail server, ours or another, as its clients see it."""

    machine: Machine
    login: str  # of a user, with its number to be filled in
    mail: str  # where mailboxes lie

    def stored(self) -> int:
        return int(self.machine.sh(f"find {self.mail} -type f \\( -path '*/new/*' -o -path '*/cur/*' \\) | wc -l"))

    def user(self, number: int) -> str:
        return self.login % (number % USERS)


def message(number: int, sender: str) -> t.Tuple[str, str]:
    """An identity, and a text of 4 KB that has it."""
    identity = f"{uuid.uuid4()}@{DOMAIN}"
    user = f"u{number % USERS}@{DOMAIN}"
    head = f"From: {sender}\r\nTo: {user}\r\nMessage-ID: <{identity}>\r\nSubject: {number}\r\n\r\n"
    return identity, head + LINE * ((4096 - len(head)) // len(LINE))


def submission(server: Server, number: int) -> smtplib.SMTP:
    client = smtplib.SMTP(server.machine.address, 587, "client.example", timeout=TIMEOUT)
    client.starttls(context=CONTEXT)
    client.login(server.user(number), PASSWORD)
    return client


def exchange(server: Server, number: int) -> smtplib.SMTP:
    return smtplib.SMTP(server.machine.address, 25, "client.example", timeout=TIMEOUT)


def send(client: smtplib.SMTP, number: int, sender: str = f"u%d@{DOMAIN}") -> str:
    sender = sender % (number % USERS) if "%d" in sender else sender
    identity, text = message(number, sender)
    client.sendmail(sender, f"u{number % USERS}@{DOMAIN}", text)
    return identity


def at_once(work: t.Callable[[int], t.Any], numbers: t.Iterable[int]) -> t.List[t.Any]:
    with concurrent.futures.ThreadPoolExecutor(USERS) as pool:
        return list(pool.map(work, numbers))


def delivered(server: Server, work: t.Callable[[int], t.Any], count: int, each: int = 1) -> float:
    """Messages a second, until the last of them lies in its mailbox. One that was accepted and doesn't is an error."""
    wanted = server.stored() + count * each
    began = time.monotonic()
    at_once(work, range(count))
    while server.stored() < wanted:
        if time.monotonic() - began > 120:
            raise RuntimeError(f"{wanted - server.stored()} accepted messages did not arrive on {server.machine.role}")
        time.sleep(0.1)
    return count * each / (time.monotonic() - began)


def submissions(server: Server, count: int) -> float:
    """With a new connection for each."""

    def one(number: int) -> None:
        with submission(server, number) as client:
            send(client, number)

    return delivered(server, one, count)


def reused(server: Server, count: int) -> float:
    """Over one connection for each user."""
    each = count // USERS

    def one(number: int) -> None:
        with submission(server, number) as client:
            for _ in range(each):
                send(client, number)

    return delivered(server, one, USERS, each)


def deliveries(server: Server, count: int) -> float:
    """From other servers, on port 25, without TLS; from nobody, as no DNS here knows a sender."""

    def one(number: int) -> None:
        with exchange(server, number) as client:
            send(client, number, "")

    return delivered(server, one, count)


def logins(server: Server, count: int) -> float:
    """On 993."""

    def one(number: int) -> None:
        client = imaplib.IMAP4_SSL(server.machine.address, ssl_context=CONTEXT, timeout=TIMEOUT)
        client.login(server.user(number), PASSWORD)
        client.logout()

    began = time.monotonic()
    at_once(one, range(count))
    return count / (time.monotonic() - began)


def until_visible(server: Server, count: int = 60) -> t.Tuple[float, float]:
    """Milliseconds from the end of DATA until a mail client that looks sees it: median, and the 99th of a hundred."""
    reader = imaplib.IMAP4_SSL(server.machine.address, ssl_context=CONTEXT, timeout=TIMEOUT)
    reader.login(server.user(0), PASSWORD)
    took = []
    with submission(server, 0) as client:
        for _ in range(count):
            before = int(reader.select()[1][0] or 0)
            began = time.monotonic()
            send(client, 0)
            while int((reader.noop(), reader.response("EXISTS")[1][-1] or before)[1]) <= before:
                if time.monotonic() - began > TIMEOUT:
                    raise RuntimeError("a message does not become visible")
                time.sleep(0.005)
            took.append((time.monotonic() - began) * 1000)
    reader.logout()
    return statistics.median(took), sorted(took)[int(len(took) * 0.99)]


def sessions(server: Server, count: int) -> t.List[imaplib.IMAP4_SSL]:
    """Mail clients that have opened their mailbox and wait for news (IDLE, RFC 2177)."""

    def one(number: int) -> imaplib.IMAP4_SSL:
        client = imaplib.IMAP4_SSL(server.machine.address, ssl_context=CONTEXT, timeout=TIMEOUT)
        client.login(server.user(number), PASSWORD)
        client.select()
        client.send(b"1 IDLE\r\n")
        client.readline()
        return client

    return at_once(one, range(count))


def handshakes(server: Server, port: int, count: int, resume: bool) -> int:
    """Connections with TLS from the first byte, one after the other; how many went on with an earlier one's session."""
    session, resumed = None, 0
    for _ in range(count):
        plain = socket.create_connection((server.machine.address, port), timeout=TIMEOUT)
        with CONTEXT.wrap_socket(plain, session=session) as client:
            # with TLS 1.3, what can be resumed comes with the first data
            client.recv(1000)
            resumed += client.session_reused or False
            session = client.session if resume else None
    return resumed
