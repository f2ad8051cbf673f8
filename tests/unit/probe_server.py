# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A mail server on sockets of this machine, with the answers of a healthy one, or of the test's choice.

The four protocols are as real as the probe needs: a message that is sent over SMTP lies in the mailbox afterwards. What
real servers say in trouble is put over the healthy answers, one answer at a time.
"""

import base64
import re
import socket
import ssl
import threading
import time
import typing as t

LOGIN, PASSWORD = "eve@example.test", "s3cret of eve"

#: Answers that are no text.
HANG_UP = "hang up"
SILENCE = "silence"

Answers = t.Dict[str, str]

_TOKEN = base64.b64encode(f"\0{LOGIN}\0{PASSWORD}".encode()).decode()


class Mailbox:
    """What has been delivered. ``change`` is what a careless filter would do to it."""

    def __init__(self) -> None:
        self.messages: t.List[bytes] = []
        self.change: t.Callable[[bytes], bytes] = bytes
        self.loses_mail = False
        self.clock = 0.0

    def deliver(self, message: bytes) -> None:
        if not self.loses_mail:
            date = time.strftime("%a, %d %b %Y %H:%M:%S +0000", time.gmtime(time.time() + self.clock))
            trace = f"Return-Path: <{LOGIN}>\r\nReceived: from here by there;\r\n\t{date}\r\n"
            self.messages.append(trace.encode() + self.change(message))


class Conversation:
    """One connection. Subclasses know the protocol, and answer what ``answers`` does not."""

    def __init__(self, service: "Service", connection: socket.socket) -> None:
        self.service = service
        self.connection = connection
        self.file = connection.makefile("rwb", 0)
        self.tls = service.implicit

    def say(self, text: str) -> bool:
        """Whether the conversation goes on."""
        if text == HANG_UP:
            return False
        if text == SILENCE:
            time.sleep(60)
        self.file.write(text.encode().replace(b"\n", b"\r\n") + b"\r\n")
        return True

    def run(self) -> None:
        if not self.say(self.service.answer("greeting", self.greeting())):
            return
        while True:
            said = self.file.readline().decode().rstrip("\r\n")
            if not said:
                return
            self.service.heard.append(said)
            if not self.say(self.service.answer(said, self.reply(said))):
                return
            self.afterwards(said)

    def greeting(self) -> str:
        raise NotImplementedError

    def reply(self, said: str) -> str:
        raise NotImplementedError

    def afterwards(self, said: str) -> None:
        if re.search("(STARTTLS|STLS)$", said) and self.service.tls:
            self.connection = self.service.tls.wrap_socket(self.connection, server_side=True)
            self.file = self.connection.makefile("rwb", 0)
            self.tls = True


class Smtp(Conversation):
    expected: t.List[str] = []

    def greeting(self) -> str:
        return "220 mail.example.test ESMTP"

    def reply(self, said: str) -> str:
        command = said.upper()
        if self.expected:  # the answers to AUTH LOGIN
            good = base64.b64decode(said).decode() == self.expected.pop(0)
            return "334 UGFzc3dvcmQ6" if self.expected else "235 ok" if good else "535 5.7.8 no"
        if command.startswith("EHLO"):
            auth = "\n250-AUTH PLAIN LOGIN" if self.service.kind == "msa" and self.tls else ""
            starttls = "" if self.tls else "\n250-STARTTLS"
            return f"250-mail.example.test{starttls}{auth}\n250 8BITMIME"
        if command == "STARTTLS":
            return "220 go on"
        if command.startswith("AUTH PLAIN"):
            self.logged_in = said.split()[-1] == _TOKEN
            return "235 ok" if self.logged_in else "535 5.7.8 no"
        if command == "AUTH LOGIN":
            self.expected = [LOGIN, PASSWORD]
            return "334 VXNlcm5hbWU6"
        if command.startswith("RCPT"):
            return self.recipient(said)
        if command == "DATA":
            self.say("354 go on")
            lines = []
            for line in iter(self.file.readline, b".\r\n"):
                lines.append(line[1:] if line.startswith(b".") else line)
            self.service.mailbox.deliver(b"".join(lines))
        return "221 bye" if command == "QUIT" else "250 2.0.0 ok"

    logged_in = False

    def recipient(self, said: str) -> str:
        if self.service.kind == "msa":
            return "250 ok" if self.logged_in else "554 5.7.1 Client host rejected"
        if LOGIN in said:
            return "250 ok"
        return "550 5.1.1 User unknown" if "example.test" in said else "554 5.7.1 Relay access denied"


class Imap(Conversation):
    tag = ""

    def greeting(self) -> str:
        return f"* OK [CAPABILITY {self.capabilities()}] ready"

    def capabilities(self) -> str:
        return "IMAP4rev1 AUTH=PLAIN UIDPLUS" if self.tls else "IMAP4rev1 STARTTLS LOGINDISABLED"

    def reply(self, said: str) -> str:
        self.tag, _, command = said.partition(" ")
        messages = self.service.mailbox.messages
        if not command:  # what was asked for with +
            return f"{self.wanted} OK in" if said == _TOKEN else f"{self.wanted} NO [AUTHENTICATIONFAILED] no"
        if command == "CAPABILITY":
            return f"* CAPABILITY {self.capabilities()}\n{self.tag} OK done"
        if command == "AUTHENTICATE PLAIN":
            self.wanted = self.tag
            return "+ "
        if command == "SELECT INBOX":
            return f"* {len(messages)} EXISTS\n* OK [UIDNEXT {len(messages) + 1}] next\n{self.tag} OK done"
        if command.startswith("UID SEARCH"):
            token = command.split('"')[1].encode()
            found = [str(uid) for uid, message in enumerate(messages, 1) if token in message]
            return f"* SEARCH {' '.join(found)}\n{self.tag} OK done"
        if command.startswith("UID FETCH"):
            uid = int(command.split()[2])
            body = messages[uid - 1]
            self.file.write(f"* {uid} FETCH (UID {uid} BODY[] {{{len(body)}}}\r\n".encode() + body + b")\r\n")
        if command.startswith("UID EXPUNGE"):
            messages.pop(int(command.split()[2]) - 1)
        if command.startswith("LIST"):
            return f'* LIST (\\HasNoChildren) "/" INBOX\n* LIST (\\Junk) "/" "Junk"\n{self.tag} OK done'
        return f"{self.tag} OK done"

    wanted = ""


class Pop3(Conversation):
    def greeting(self) -> str:
        return "+OK ready"

    def reply(self, said: str) -> str:
        messages = self.service.mailbox.messages
        command = said.upper()
        if command == "CAPA":
            return "+OK\nUSER\nSASL PLAIN\n." if self.tls else "+OK\nSTLS\nSASL\n."
        if command == "AUTH PLAIN":
            return "+ "
        if command == "STAT":
            return f"+OK {len(messages)} 1"
        if command.startswith(("TOP", "RETR")):
            message = re.sub(rb"(?m)^\.", b"..", messages[int(said.split()[1]) - 1])
            self.file.write(b"+OK\r\n" + message)
            return "."
        return "+OK"


class Sieve(Conversation):
    def greeting(self) -> str:
        return '"SASL" ""\n"STARTTLS"\nOK "ready"'

    def reply(self, said: str) -> str:
        return 'OK "done"'

    def afterwards(self, said: str) -> None:
        super().afterwards(said)
        if said == "STARTTLS":
            self.say('"SASL" "PLAIN"\nOK "in TLS"')


class Http(Conversation):
    """Answers by path: what a test wants to be said is the whole answer."""

    def greeting(self) -> str:
        raise NotImplementedError

    def reply(self, said: str) -> str:
        return "HTTP/1.1 404 Not Found\n\nNot here."

    def run(self) -> None:
        first = self.file.readline().decode().split()
        if not first:
            return
        said = first[1]
        while self.file.readline().strip():
            pass
        self.service.heard.append(said)
        self.say(self.service.answer(said, self.reply(said)))


class Service(threading.Thread):
    """A listening port, until close_all()."""

    running: t.List["Service"] = []

    def __init__(
        self,
        talk: t.Type[Conversation],
        kind: str,
        mailbox: Mailbox,
        answers: Answers,
        tls: t.Optional[ssl.SSLContext],
        implicit: bool,
    ) -> None:
        super().__init__(daemon=True)
        self.talk, self.kind, self.mailbox, self.answers = talk, kind, mailbox, answers
        self.tls, self.implicit = tls, implicit
        self.heard: t.List[str] = []
        self.connections = 0
        self.listener = socket.socket()
        self.listener.bind(("127.0.0.1", 0))
        self.listener.listen(5)
        self.port: int = self.listener.getsockname()[1]
        self.running.append(self)
        self.start()

    def answer(self, said: str, healthy: str) -> str:
        """What a test wants to be said, ``{tag}`` being IMAP's, or else what a healthy server says."""
        tag = said.split(" ")[0]
        wanted = (answer for pattern, answer in self.answers.items() if re.search(pattern, said, re.IGNORECASE))
        return next(wanted, healthy).replace("{tag}", tag)

    def run(self) -> None:
        with self.listener:
            while True:
                try:
                    connection, _address = self.listener.accept()
                except OSError:
                    return  # it was shut down
                self.connections += 1
                threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection: socket.socket) -> None:
        try:
            if self.implicit and self.tls:
                connection = self.tls.wrap_socket(connection, server_side=True)
            self.talk(self, connection).run()
        except (OSError, ValueError):
            pass  # the probe hung up
        finally:
            connection.close()


def close_all() -> None:
    """Close the ports of all servers, which would otherwise stay open until the last test."""
    while Service.running:
        # wakes accept(), which a close does not
        Service.running.pop().listener.shutdown(socket.SHUT_RDWR)


class MailServer:
    """All services. ``trouble``: by service, what to answer to which commands (patterns, and ``greeting``)."""

    KINDS: t.Dict[str, t.Tuple[t.Type[Conversation], str, bool]] = {
        "submission": (Smtp, "msa", False),
        "submissions": (Smtp, "msa", True),
        "smtp": (Smtp, "mta", False),
        "imaps": (Imap, "", True),
        "pop3s": (Pop3, "", True),
        "imap": (Imap, "", False),
        "pop3": (Pop3, "", False),
        "sieve": (Sieve, "", False),
    }

    def __init__(self, tls: ssl.SSLContext, trouble: t.Dict[str, Answers], closed: t.Sequence[str] = ()) -> None:
        self.mailbox = Mailbox()
        self.services = {
            name: Service(talk, kind, self.mailbox, trouble.get(name, {}), tls, implicit)
            for name, (talk, kind, implicit) in self.KINDS.items()
            if name not in closed
        }
        self.ports = {name: service.port for name, service in self.services.items()}
        self.ports.update({name: unused_port() for name in closed})


def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
