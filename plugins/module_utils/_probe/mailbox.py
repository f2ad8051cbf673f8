# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# May run on any vantage host: Python 3.6 and the standard library only.

"""The walks into Dovecot: imaps (993), pop3s (995), imap (143), pop3 (110) and sieve (4190)."""

import time
import typing as t

from ansible_collections.port587.mail.plugins.module_utils._probe.message import difference
from ansible_collections.port587.mail.plugins.module_utils._probe.protocols import Imap, Pop3, Sieve, sieve_capabilities
from ansible_collections.port587.mail.plugins.module_utils._probe.walk import Walk

#: POP3 has no search: the message is among the newest, unless mail pours in.
NEWEST = 20


class MailboxWalk(Walk):
    """What the ways of reading mail share."""

    COMPONENT = "MRA"
    CLOSED = ("retrieval-closed", "fail")

    def reconnect_unverified(self) -> t.Any:
        wire = self.connect()
        wire.step()
        self.agree_to_tls(wire)
        wire.start_tls(self.unverified_context(), self.settings.host)
        return wire

    def agree_to_tls(self, wire: t.Any) -> None:
        """What has to be said in clear before TLS. Nothing where TLS comes first."""

    def may_log_in(self, step: str) -> bool:
        """Whether this walk should try the password after IMAP did."""
        self.begin(step)
        if not self.settings.password:
            self.skip("no password given")
            return False
        if self.shared.mail_login.wait(4 * self.settings.timeout) == "refused":
            self.skip("refused over IMAP already")
            return False
        return True

    def refused(self) -> str:
        sending = self.shared.smtp_login.wait(4 * self.settings.timeout)
        return "login-not-for-reading" if sending == "accepted" else "login-refused"


class Imaps(MailboxWalk):
    """993: where a mail client reads. Finds the test message and, after POP3 has seen it, removes it."""

    SERVICE = "imaps"
    LABEL = "IMAP"
    WELL = "TLS, login; the test message came back byte for byte and was removed"
    STEPS = ("connect", "certificate", "greeting", "login", "open mailbox", "delivery", "removed")

    def walk(self) -> None:
        wire = self.open()
        self.start_tls(wire)
        imap = Imap(wire)
        self.begin("greeting", wire)
        self.ok(imap.greeting())
        if not self.settings.password:
            for step in ("login", "open mailbox", "delivery", "removed"):
                self.begin(step)
                self.skip("no password given")
            return
        self.login(imap)
        first_new = self.open_mailbox(imap)
        found = self.wait_for_message(imap, first_new)
        self.remove(imap, found)
        imap.command("LOGOUT")

    def finish(self) -> None:
        self.shared.mail_login.tell("untried")
        self.shared.found_by_imap.tell("untried")

    def login(self, imap: Imap) -> None:
        self.begin("login", imap.wire)
        capabilities = imap.capabilities()
        word, text = imap.login(capabilities, self.settings.login, self.settings.password)
        if word == "OK":
            self.shared.mail_login.tell("accepted")
            return self.ok()
        self.shared.mail_login.tell("refused")
        if "UNAVAILABLE" in text.upper():
            self.fail("mailbox-unreadable", text)
        self.fail(self.refused(), text)

    def open_mailbox(self, imap: Imap) -> int:
        """Gives the number that the next message will get, so that a big mailbox needs no search."""
        self.begin("open mailbox", imap.wire)
        word, text, lines = imap.command("SELECT INBOX")
        if word != "OK":
            self.fail("mailbox-unreadable", text)
        messages = next((line.split()[1].decode() for line in lines if line.upper().endswith(b" EXISTS")), "?")
        next_uid = next((line for line in lines if b"[UIDNEXT " in line.upper()), b"[UIDNEXT 1]")
        self.ok(f"{messages} messages")
        return int(next_uid.upper().split(b"[UIDNEXT ")[1].split(b"]")[0])

    def wait_for_message(self, imap: Imap, first_new: int) -> int:
        self.begin("delivery", imap.wire)
        if self.shared.sent.wait(6 * self.settings.timeout) != "sent":
            self.skip("nothing was sent")
            return 0
        start = time.monotonic()
        pause = 0.05
        while True:
            imap.wire.step()
            found = self.look(imap, first_new)
            if found:
                break
            if time.monotonic() - start > self.settings.delivery_timeout:
                self.shared.found_by_imap.tell("not found")
                self.look_elsewhere(imap)
            time.sleep(pause)
            pause = min(2 * pause, 1.0)
        waited = time.monotonic() - start
        self.shared.found_by_imap.tell("found")
        imap.wire.step()
        lines = imap.command("UID FETCH %d BODY.PEEK[]" % found)[2]
        received = next((line for line in lines if b" FETCH " in line), b"")
        changed = difference(self.shared.message, received.split(b"\r\n", 1)[-1].rsplit(b")", 1)[0])
        if changed:
            self.note("message-changed", changed)
        else:
            self.ok(f"byte for byte, {waited:.1f} s after sending")
        return found

    def look(self, imap: Imap, first_new: int) -> int:
        imap.command("NOOP")
        for line in imap.command('UID SEARCH UID %d:* HEADER Message-ID "%s"' % (first_new, self.shared.token))[2]:
            if line.upper().startswith(b"* SEARCH ") and line.split()[2:]:
                return int(line.split()[2])
        return 0

    def look_elsewhere(self, imap: Imap) -> t.NoReturn:
        """Not in the inbox in time: did a filter take it?"""
        imap.wire.step()
        self.fail("not-delivered", f"not in the inbox {self.settings.delivery_timeout:g} s after sending")

    def remove(self, imap: Imap, found: int) -> None:
        self.begin("removed", imap.wire)
        if not found:
            return self.skip("nothing was sent")
        self.shared.done_by_pop3.wait(self.settings.delivery_timeout)
        imap.wire.step()
        # EXPUNGE without a number would also take what the person has marked and wants to keep a little longer
        imap.command("UID STORE %d +FLAGS.SILENT (\\Deleted)" % found)
        word, text, _lines = imap.command("UID EXPUNGE %d" % found)
        if word == "OK":
            self.ok()
        else:
            self.warn("not-removed", text)


class Pop3s(MailboxWalk):
    """995. A POP3 session sees what was there when it logged in, so it waits until IMAP has found the message."""

    SERVICE = "pop3s"
    LABEL = "POP3"
    WELL = "TLS, login; the same message byte for byte"
    CLOSED = ("retrieval-closed", "warn")
    STEPS = ("connect", "certificate", "greeting", "login", "delivery")

    def walk(self) -> None:
        wire = self.open()
        self.start_tls(wire)
        pop3 = Pop3(wire)
        self.begin("greeting", wire)
        self.ok(pop3.reply())
        if not self.may_log_in("login"):
            self.begin("delivery")
            return self.skip("not logged in")
        found = self.shared.found_by_imap.wait(6 * self.settings.timeout + self.settings.delivery_timeout)
        self.begin("login", wire)
        reply = pop3.login(pop3.capabilities(), self.settings.login, self.settings.password)
        if not reply.startswith("+OK"):
            self.fail(self.refused(), reply)
        self.ok()
        self.begin("delivery", wire)
        if found != "found":
            self.skip("not looked for, because IMAP did not find it")
        else:
            self.read(pop3)
        pop3.command("QUIT")

    def finish(self) -> None:
        self.shared.done_by_pop3.tell("done")

    def read(self, pop3: Pop3) -> None:
        count = int(pop3.command("STAT").split()[1])
        for number in range(count, max(count - NEWEST, 0), -1):
            if self.shared.token.encode("ascii") in pop3.listing("TOP %d 0" % number):
                changed = difference(self.shared.message, pop3.listing("RETR %d" % number))
                return self.note("message-changed", changed) if changed else self.ok("byte for byte")
        self.note("not-delivered", "IMAP shows the message, POP3 does not")


class Imap143(MailboxWalk):
    """143: only with STARTTLS."""

    SERVICE = "imap"
    LABEL = "IMAP STARTTLS"
    WELL = "no login before STARTTLS"
    CLOSED = ("", "skip")
    STEPS = ("connect", "greeting", "no login in clear", "STARTTLS", "certificate")

    def walk(self) -> None:
        imap = Imap(self.open())
        self.begin("greeting", imap.wire)
        self.ok(imap.greeting())
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
        self.ok()
        self.start_tls(imap.wire)
        imap.command("LOGOUT")

    def agree_to_tls(self, wire: t.Any) -> None:
        imap = Imap(wire)
        imap.greeting()
        imap.command("STARTTLS")


class Pop3110(MailboxWalk):
    """110: only with STLS, as POP3 calls it."""

    SERVICE = "pop3"
    LABEL = "POP3 STARTTLS"
    WELL = "no login before STARTTLS"
    CLOSED = ("", "skip")
    STEPS = ("connect", "greeting", "no login in clear", "STARTTLS", "certificate")

    def walk(self) -> None:
        pop3 = Pop3(self.open())
        self.begin("greeting", pop3.wire)
        self.ok(pop3.reply())
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
        self.ok()
        self.start_tls(pop3.wire)
        pop3.command("QUIT")

    def agree_to_tls(self, wire: t.Any) -> None:
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
        self.ok(status)
        self.begin("STARTTLS", sieve.wire)
        if "STARTTLS" not in sieve_capabilities(lines):
            self.fail("starttls-missing", " ".join(lines))
        status, _lines = sieve.command("STARTTLS")
        if not status.startswith("OK"):
            self.fail("tls-broken", status)
        self.ok()
        self.start_tls(sieve.wire)
        if not self.may_log_in("login"):
            return
        self.begin("login", sieve.wire)
        _status, lines = sieve.reply()
        if "PLAIN" not in sieve_capabilities(lines).get("SASL", []):
            self.fail("login-not-offered", " ".join(lines))
        status = sieve.login(self.settings.login, self.settings.password)
        if not status.startswith("OK"):
            self.fail(self.refused(), status)
        self.ok()
        sieve.command("LOGOUT")

    def agree_to_tls(self, wire: t.Any) -> None:
        sieve = Sieve(wire)
        sieve.reply()
        sieve.command("STARTTLS")
