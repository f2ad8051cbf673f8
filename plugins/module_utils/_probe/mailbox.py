# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# May run on any vantage host: Python 3.6 and the standard library only.

"""The walks into Dovecot: imaps (993), pop3s (995), imap (143), pop3 (110) and sieve (4190)."""

import re
import time
import typing as t

from ansible_collections.port587.mail.plugins.module_utils._probe.message import clock_difference, difference
from ansible_collections.port587.mail.plugins.module_utils._probe.walk import LOGIN_PATIENCE, Walk
from ansible_collections.port587.mail.plugins.module_utils._wire.connection import Wire
from ansible_collections.port587.mail.plugins.module_utils._wire.imap import Imap
from ansible_collections.port587.mail.plugins.module_utils._wire.limits import LONGEST_TEXT
from ansible_collections.port587.mail.plugins.module_utils._wire.pop3 import Pop3
from ansible_collections.port587.mail.plugins.module_utils._wire.sieve import Sieve, sieve_capabilities

#: Newest messages to read: POP3 has no search, and the test message is among these unless much mail arrives.
NEWEST = 20

#: Folders to search if the message is not in the inbox.
MOST_FOLDERS = 20

#: Minutes are enough to make a second factor, a signature or a certificate fail.
CLOCK_TOLERANCE = 120.0


class MailboxWalk(Walk):
    """Base class of the walks that read mail."""

    COMPONENT = "MRA"
    CLOSED = ("retrieval-closed", "fail")

    def greeted(self, seen: str, good: bool) -> None:
        """The end of the step ``greeting``."""
        if good:
            self.ok(seen)
        else:
            self.fail("dovecot-auth-broken" if "auth process" in seen.lower() else "service-busy", seen)

    def may_log_in(self) -> bool:
        """Whether the password is worth trying, after IMAP and submission have tried it."""
        if not self.settings.password:
            self.skip("no password given", "login")
            return False
        imap = self.shared.imap_login.wait()
        if imap == "refused" or (imap == "untried" and self.shared.smtp_login.wait() == "refused"):
            self.skip("refused already", "login")
            return False
        return True

    def refused(self, seen: str) -> t.NoReturn:
        """The login failed."""
        if re.search("internal error|unavailable", seen, re.IGNORECASE):
            self.fail("mailbox-unreadable", seen)
        self.shared.imap_login.tell("refused")
        sends = self.shared.smtp_login.wait() == "accepted"
        self.fail("login-not-for-reading" if sends else "login-refused", seen)


class Imaps(MailboxWalk):
    """993: where a mail client reads. Finds the test message and, when POP3 has seen it too, removes it."""

    SERVICE = "imaps"
    LABEL = "IMAP"
    WELL = "TLS, login; the test message came back unchanged and was removed"
    STEPS = ("connect", "certificate", "greeting", "login", "open mailbox", "delivery", "clock", "removed")
    IMPLICIT_TLS = True

    def walk(self) -> None:
        wire = self.open()
        self.start_tls(wire)
        imap = Imap(wire)
        self.begin("greeting", wire)
        greeting = imap.greeting()
        self.greeted(greeting, greeting.upper().startswith("OK"))
        if not self.settings.password:
            self.skip("no password given", "login", "open mailbox", "delivery", "clock", "removed")
            return
        self.login(imap)
        first_new = self.open_mailbox(imap)
        self.shared.mailbox.tell("open")
        if self.shared.sending.wait() != "sent":
            self.skip("nothing was sent", "delivery", "clock", "removed")
        else:
            self.deliver(imap, first_new)
        imap.command("LOGOUT")

    def finish(self) -> None:
        self.shared.imap_login.tell("untried")
        self.shared.mailbox.tell("closed")
        self.shared.imap_found.tell("missing")

    def login(self, imap: Imap) -> None:
        self.begin("login", imap.wire)
        capabilities = imap.capabilities()
        imap.wire.step(LOGIN_PATIENCE)
        word, text = imap.login(capabilities, self.settings.login, self.settings.password)
        if word != "OK":
            self.refused(text)
        self.shared.imap_login.tell("accepted")
        self.ok()

    def open_mailbox(self, imap: Imap) -> int:
        """Returns the number of the next message, so that a big mailbox needs no search."""
        self.begin("open mailbox", imap.wire)
        word, text, lines = imap.command("SELECT INBOX")
        if word != "OK":
            self.fail("mailbox-unreadable", text)
        answer = b"\n".join(lines).upper()
        exists = re.search(rb"\* (\d+) EXISTS", answer)
        next_uid = re.search(rb"\[UIDNEXT (\d+)\]", answer)
        self.ok(f"{int(exists.group(1)) if exists else 'unknown number of'} messages")
        return int(next_uid.group(1)) if next_uid else 1

    def deliver(self, imap: Imap, first_new: int) -> None:
        """The steps ``delivery``, ``clock`` and ``removed``."""
        self.begin("delivery")
        start = time.monotonic()
        uid = self.wait_for_message(imap, first_new)
        waited = time.monotonic() - start
        self.shared.imap_found.tell("found" if uid else "missing")
        if not uid:
            self.look_elsewhere(imap)
            self.skip("not in the inbox", "clock")
            return
        received = self.fetch(imap, uid)
        changed = difference(self.shared.message, received)
        if changed:
            self.note("message-changed", changed)
        else:
            self.ok(f"byte for byte, {waited:.1f} s after sending")
        self.begin("clock")
        ahead = clock_difference(received)
        if abs(ahead) > CLOCK_TOLERANCE:
            self.note("clock-wrong", f"the server is {abs(ahead):.0f} s {'ahead' if ahead > 0 else 'behind'}")
        else:
            self.ok()
        self.shared.pop3_done.wait()
        self.remove(imap, uid)

    def wait_for_message(self, imap: Imap, first_new: int) -> int:
        end = time.monotonic() + self.settings.delivery_timeout
        pause = 0.05
        while True:
            imap.wire.step()
            imap.command("NOOP")
            found = self.search(imap, f"UID {first_new}:* ")
            if found or time.monotonic() > end:
                return found
            time.sleep(pause)
            pause = min(2 * pause, 1.0)

    def search(self, imap: Imap, among: str = "") -> int:
        lines = imap.command(f'UID SEARCH {among}HEADER Message-ID "{self.shared.token}"')[2]
        uids = [int(uid) for line in lines if line.upper().startswith(b"* SEARCH") for uid in line.split()[2:]]
        return uids[0] if uids else 0

    def look_elsewhere(self, imap: Imap) -> None:
        """The message is not in the inbox in time: look where a filter may have put it."""
        imap.wire.step(self.settings.delivery_timeout)
        for line in imap.command('LIST "" "*"')[2][:MOST_FOLDERS]:
            name = re.search(rb'"[^"]*" ("(?:[^"\\]|\\.)*"|[^ ]+)$|NIL ([^ ]+)$', line[:LONGEST_TEXT])
            if not name:
                continue
            folder = (name.group(1) or name.group(2)).decode("utf-8", "replace")
            if folder.strip('"').upper() == "INBOX" or imap.command(f"SELECT {folder}")[0] != "OK":
                continue
            uid = self.search(imap)
            if uid:
                self.warn("delivered-elsewhere", f"found in {folder}")
                self.remove(imap, uid)
                return
        seen = f"not in the mailbox {self.settings.delivery_timeout:g} s after sending"
        self.fail("not-delivered", seen + "; it may still come, and can be deleted then")

    @staticmethod
    def fetch(imap: Imap, uid: int) -> bytes:
        """The message. Its literal stands between the line that announces it and the closing parenthesis."""
        imap.wire.step()
        lines = imap.command(f"UID FETCH {uid} BODY.PEEK[]")[2]
        answer = next((line for line in lines if b" FETCH " in line), b"")
        announced = re.search(rb"\{(\d+)\}\r\n", answer)
        return answer[announced.end() :][: int(announced.group(1))] if announced else b""

    def remove(self, imap: Imap, uid: int) -> None:
        self.begin("removed", imap.wire)
        # EXPUNGE without a number would also remove other messages that the user has marked
        imap.command(f"UID STORE {uid} +FLAGS.SILENT (\\Deleted)")
        word, text, _lines = imap.command(f"UID EXPUNGE {uid}")
        if word == "OK":
            self.ok()
        else:
            self.warn("not-removed", text)


class Pop3s(MailboxWalk):
    """995. A POP3 session sees what was there when it logged in, so it waits until IMAP has found the message."""

    SERVICE = "pop3s"
    LABEL = "POP3"
    WELL = "TLS, login; the same message unchanged"
    CLOSED = ("retrieval-closed", "warn")
    STEPS = ("connect", "certificate", "greeting", "login", "delivery")
    IMPLICIT_TLS = True

    def walk(self) -> None:
        wire = self.open()
        self.start_tls(wire)
        pop3 = Pop3(wire)
        self.begin("greeting", wire)
        greeting = pop3.reply()
        self.greeted(greeting, greeting.startswith("+OK"))
        if not self.may_log_in():
            self.skip("not logged in", "delivery")
            return
        found = self.shared.imap_found.wait() == "found"
        self.begin("login", wire)
        capabilities = pop3.capabilities()
        wire.step(LOGIN_PATIENCE)
        reply = pop3.login(capabilities, self.settings.login, self.settings.password)
        if not reply.startswith("+OK"):
            self.refused(reply)
        self.ok()
        if found:
            self.begin("delivery", wire)
            self.read(pop3)
        else:
            self.skip("IMAP did not find it", "delivery")
        pop3.command("QUIT")

    def finish(self) -> None:
        self.shared.pop3_done.tell("done")

    def read(self, pop3: Pop3) -> None:
        count = int(pop3.command("STAT").split()[1])
        token = self.shared.token.encode("ascii")
        for number in range(count, max(count - NEWEST, 0), -1):
            if token in pop3.listing(f"TOP {number} 0"):
                changed = difference(self.shared.message, pop3.listing(f"RETR {number}"))
                if changed:
                    self.note("message-changed", changed)
                else:
                    self.ok("byte for byte")
                return
        self.note("not-delivered", "IMAP shows the message, POP3 does not")


class ImapStartTls(MailboxWalk):
    """143: only with STARTTLS."""

    SERVICE = "imap"
    LABEL = "IMAP STARTTLS"
    WELL = "no login before STARTTLS"
    CLOSED = ("", "skip")
    STEPS = ("connect", "greeting", "no login in clear", "STARTTLS", "certificate")

    def walk(self) -> None:
        imap = Imap(self.open())
        self.begin("greeting", imap.wire)
        greeting = imap.greeting()
        self.greeted(greeting, greeting.upper().startswith("OK"))
        self.begin("no login in clear", imap.wire)
        capabilities = imap.capabilities()
        if "LOGINDISABLED" in capabilities and not {"AUTH=PLAIN", "AUTH=LOGIN"} & set(capabilities):
            self.ok("LOGINDISABLED")
        else:
            self.note("login-in-clear", " ".join(capabilities))
        self.begin("STARTTLS", imap.wire)
        if "STARTTLS" not in capabilities:
            self.fail("starttls-missing", " ".join(capabilities))
        word, text, _lines = imap.command("STARTTLS")
        if word != "OK":
            self.fail("tls-broken", text)
        self.ok(text)
        self.start_tls(imap.wire)
        imap.command("LOGOUT")

    def agree_to_tls(self, wire: Wire) -> None:
        imap = Imap(wire)
        imap.greeting()
        imap.command("STARTTLS")


class Pop3StartTls(MailboxWalk):
    """110: only with STLS, as POP3 calls it."""

    SERVICE = "pop3"
    LABEL = "POP3 STARTTLS"
    WELL = "no login before STARTTLS"
    CLOSED = ("", "skip")
    STEPS = ("connect", "greeting", "no login in clear", "STARTTLS", "certificate")

    def walk(self) -> None:
        pop3 = Pop3(self.open())
        self.begin("greeting", pop3.wire)
        greeting = pop3.reply()
        self.greeted(greeting, greeting.startswith("+OK"))
        self.begin("no login in clear", pop3.wire)
        capabilities = pop3.capabilities()
        if "USER" in capabilities or {"PLAIN", "LOGIN"} & set(capabilities.get("SASL", [])):
            self.note("login-in-clear", " ".join(sorted(capabilities)))
        else:
            self.ok()
        self.begin("STARTTLS", pop3.wire)
        if "STLS" not in capabilities:
            self.fail("starttls-missing", " ".join(sorted(capabilities)))
        reply = pop3.command("STLS")
        if not reply.startswith("+OK"):
            self.fail("tls-broken", reply)
        self.ok(reply)
        self.start_tls(pop3.wire)
        pop3.command("QUIT")

    def agree_to_tls(self, wire: Wire) -> None:
        pop3 = Pop3(wire)
        pop3.reply()
        pop3.command("STLS")


class ManageSieve(MailboxWalk):
    """4190: where a client manages the filters that the MDA applies."""

    SERVICE = "sieve"
    COMPONENT = "MDA"
    LABEL = "ManageSieve"
    WELL = "STARTTLS, login"
    CLOSED = ("sieve-closed", "warn")
    STEPS = ("connect", "greeting", "STARTTLS", "certificate", "login")

    def walk(self) -> None:
        sieve = Sieve(self.open())
        self.begin("greeting", sieve.wire)
        status, lines = sieve.reply()
        self.greeted(status, status.startswith("OK"))
        self.begin("STARTTLS", sieve.wire)
        if "STARTTLS" not in sieve_capabilities(lines):
            self.fail("starttls-missing", " ".join(lines))
        status, _lines = sieve.command("STARTTLS")
        if not status.startswith("OK"):
            self.fail("tls-broken", status)
        self.ok(status)
        self.start_tls(sieve.wire)
        _status, lines = sieve.reply()
        if not self.may_log_in():
            return
        self.begin("login")
        sieve.wire.step(LOGIN_PATIENCE)
        if "PLAIN" not in sieve_capabilities(lines).get("SASL", []):
            self.fail("login-not-offered", " ".join(lines))
        status = sieve.login(self.settings.login, self.settings.password)
        if not status.startswith("OK"):
            self.refused(status)
        self.ok(status)
        sieve.command("LOGOUT")

    def agree_to_tls(self, wire: Wire) -> None:
        sieve = Sieve(wire)
        sieve.reply()
        sieve.command("STARTTLS")
