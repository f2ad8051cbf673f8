# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# May run on any vantage host: Python 3.6 and the standard library only.

"""The walks into Postfix: submission (587), submissions (465) and smtp (25)."""

import typing as t

from ansible_collections.port587.mail.plugins.module_utils._probe.protocols import Reply, Smtp
from ansible_collections.port587.mail.plugins.module_utils._probe.walk import Settings, Shared, Walk
from ansible_collections.port587.mail.plugins.module_utils._probe.wire import Wire, WireError

#: A domain that is reserved (RFC 2606), so that nobody gets mail where a relay is open.
ELSEWHERE = "relay-test@example.net"

#: Seconds in which a server that is going to greet has done so. One that expects TLS first never does.
GREETING_IN_CLEAR = 1.0


class SmtpWalk(Walk):
    """What the three ports share."""

    def greet(self, wire: Wire) -> Smtp:
        """The steps ``greeting`` and ``EHLO``."""
        smtp = Smtp(wire)
        self.begin("greeting", wire)
        try:
            reply = smtp.reply()
        except WireError as exc:
            if exc.kind == "closed":
                self.fail("service-dies", exc.text)
            raise
        if reply.code != 220:
            self.fail("service-busy", str(reply))
        self.ok(str(reply))
        self.begin("EHLO", wire)
        self.hello(smtp)
        self.ok(", ".join(sorted(smtp.features)))
        return smtp

    def hello(self, smtp: Smtp) -> None:
        reply = smtp.ehlo()
        if reply.code != 250:
            self.fail("service-busy" if reply.code == 421 else "service-confused", str(reply))

    def upgrade(self, smtp: Smtp) -> None:
        """The steps ``STARTTLS`` and ``certificate``."""
        self.begin("STARTTLS", smtp.wire)
        if "STARTTLS" not in smtp.features:
            self.fail("starttls-missing", "offered: " + (", ".join(sorted(smtp.features)) or "nothing"))
        reply = smtp.command("STARTTLS")
        if reply.code != 220:
            self.fail("tls-broken", str(reply))
        self.ok()
        self.start_tls(smtp.wire)
        self.hello(smtp)

    def reconnect_unverified(self) -> t.Optional[Wire]:
        smtp = Smtp(self.connect())
        smtp.wire.step()
        smtp.reply()
        smtp.ehlo()
        smtp.command("STARTTLS")
        smtp.wire.start_tls(self.unverified_context(), self.settings.host)
        return smtp.wire


class Msa(SmtpWalk):
    """Logging in and sending, as on 587 and 465."""

    COMPONENT = "MSA"
    CLOSED = ("submission-closed", "fail")

    def offered(self, smtp: Smtp) -> t.List[str]:
        """The step ``AUTH offered``. Gives the mechanisms that can be tried."""
        self.begin("AUTH offered", smtp.wire)
        usable = [name for name in ("PLAIN", "LOGIN") if name in smtp.mechanisms()]
        seen = " ".join(smtp.mechanisms()) or "no AUTH"
        if not usable:
            self.fail("login-not-offered", seen)
        if "LOGIN" not in usable:
            self.warn("login-only-plain", seen)
        else:
            self.ok(seen)
        return usable

    def nothing_without_login(self, smtp: Smtp) -> None:
        """The step ``nothing without login``, for a recipient who exists here: the hardest case to refuse."""
        self.begin("nothing without login", smtp.wire)
        if not self.settings.mailbox:
            return self.skip("no account given")
        reply = smtp.ask("", self.settings.mailbox)
        if reply.code < 400:
            return self.note("open-without-login", str(reply))
        self.ok(str(reply))

    def login(self, smtp: Smtp, mechanism: str) -> None:
        """The step ``login MECHANISM``."""
        self.begin("login " + mechanism, smtp.wire)
        reply = smtp.login(mechanism, self.settings.login, self.settings.password)
        if reply.code == 235:
            self.shared.smtp_login.tell("accepted")
            return self.ok(str(reply))
        if reply.code == 535:
            self.shared.smtp_login.tell("refused")
            self.fail(self._refused(), str(reply))
        self.fail("login-backend" if reply.code == 454 else "login-not-offered", str(reply))

    def _refused(self) -> str:
        read = self.shared.mail_login.wait(self.settings.timeout)
        return "login-wrong-backend" if read == "accepted" else "login-refused"


class Submission(Msa):
    """587: where a mail client sends."""

    SERVICE = "submission"
    LABEL = "submission"
    WELL = "STARTTLS, login, message sent; nothing is taken without a login"
    STEPS = (
        "connect", "greeting", "EHLO", "no AUTH in clear", "STARTTLS", "certificate", "AUTH offered", "nothing without login",
        "login PLAIN", "send", "login LOGIN",
    )  # fmt: skip

    def walk(self) -> None:
        smtp = Smtp(self.open())
        try:
            smtp = self.greet(smtp.wire)
        except WireError as exc:
            if exc.kind == "timeout" and self._speaks_tls():
                self.fail("tls-from-the-start", "no greeting in clear, but a TLS handshake works")
            self.fail("service-dies" if exc.kind == "timeout" else "service-confused", exc.text)
        self.no_auth_in_clear(smtp)
        self.upgrade(smtp)
        usable = self.offered(smtp)
        self.nothing_without_login(smtp)
        if not self.settings.password:
            for step in ("login PLAIN", "login LOGIN", "send"):
                self.begin(step)
                self.skip("no password given")
            return
        self.login(smtp, usable[0])
        self.send(smtp)
        if usable == ["PLAIN", "LOGIN"]:
            smtp.wire.step()
            smtp.command("QUIT")
            self.login_again()

    def finish(self) -> None:
        self.shared.smtp_login.tell("untried")
        self.shared.sent.tell("not sent")

    def no_auth_in_clear(self, smtp: Smtp) -> None:
        self.begin("no AUTH in clear")
        if smtp.mechanisms():
            self.note("login-in-clear", "AUTH {} before TLS".format(" ".join(smtp.mechanisms())))
        else:
            self.ok()

    def send(self, smtp: Smtp) -> None:
        self.begin("send", smtp.wire)
        mailbox = self.settings.mailbox
        body_type = " BODY=8BITMIME" if "8BITMIME" in smtp.features else ""
        reply = smtp.command(f"MAIL FROM:<{mailbox}>{body_type}")
        if reply.code == 250:
            reply = smtp.command(f"RCPT TO:<{mailbox}>")
        if reply.code == 250:
            reply = smtp.data(self.shared.message)
        if reply.code != 250:
            self.fail(refusal(reply), str(reply))
        self.shared.sent.tell("sent")
        self.ok(str(reply))

    def login_again(self) -> None:
        """The other mechanism, on a connection of its own: nobody logs in twice on one."""
        self.begin("login LOGIN")
        smtp = Smtp(self.connect())
        smtp.wire.step()
        smtp.reply()
        smtp.ehlo()
        smtp.command("STARTTLS")
        smtp.wire.start_tls(self.settings.context(), self.settings.host)
        smtp.ehlo()
        self.login(smtp, "LOGIN")
        smtp.command("QUIT")

    def _speaks_tls(self) -> bool:
        try:
            wire = self.connect()
            wire.start_tls(self.unverified_context(), self.settings.host)
        except WireError:
            return False
        return True


class Submissions(Msa):
    """465: the same with TLS from the first byte."""

    SERVICE = "submissions"
    LABEL = "submissions"
    WELL = "TLS, login; nothing is taken without a login"
    STEPS = ("connect", "certificate", "greeting", "EHLO", "AUTH offered", "nothing without login", "login PLAIN")

    def walk(self) -> None:
        wire = self.open()
        self.start_tls(wire)
        smtp = self.greet(wire)
        usable = self.offered(smtp)
        self.nothing_without_login(smtp)
        if not self.settings.password:
            self.begin("login PLAIN")
            return self.skip("no password given")
        # a password that 587 has refused is not tried again
        if self.shared.smtp_login.wait(self.settings.timeout) == "refused":
            self.begin("login PLAIN")
            return self.skip("refused on the other port already")
        self.login(smtp, usable[0])
        smtp.command("QUIT")

    def reconnect_unverified(self) -> t.Optional[Wire]:
        wire = self.connect()
        wire.step()
        wire.start_tls(self.unverified_context(), self.settings.host)
        return wire


class Mta(SmtpWalk):
    """25: where other servers deliver. Nothing is sent, each recipient is only asked for."""

    SERVICE = "smtp"
    COMPONENT = "MTA"
    LABEL = "SMTP"
    WELL = "takes mail for its own users only; no relay, no login"
    CLOSED = ("smtp-closed", "fail")
    STEPS = (
        "connect", "greeting", "EHLO", "relay refused", "unknown user refused", "known user accepted", "no AUTH", "STARTTLS",
        "certificate", "no AUTH in TLS",
    )  # fmt: skip

    def walk(self) -> None:
        smtp = self.greet(self.open())
        # the questions come before TLS, so that a bad certificate can't hide an open relay
        self.relay(smtp)
        self.unknown_user(smtp)
        self.known_user(smtp)
        self.no_auth(smtp, "no AUTH")
        self.upgrade(smtp)
        self.no_auth(smtp, "no AUTH in TLS")
        smtp.command("QUIT")

    def relay(self, smtp: Smtp) -> None:
        self.begin("relay refused", smtp.wire)
        reply = smtp.ask("", ELSEWHERE)
        if reply.code < 400:
            self.note("open-relay", str(reply))
        elif reply.code < 500:
            self.warn("relay-unclear", str(reply))
        else:
            self.ok(str(reply))

    def unknown_user(self, smtp: Smtp) -> None:
        self.begin("unknown user refused", smtp.wire)
        if not self.settings.domain:
            return self.skip("no domain given")
        reply = smtp.ask("", f"no-such-user-{self.shared.token[:8]}@{self.settings.domain}")
        if reply.code < 400:
            self.warn("unknown-user-accepted", str(reply))
        elif reply.code < 500:
            self.note(refusal(reply), str(reply))
        else:
            self.ok(str(reply))

    def known_user(self, smtp: Smtp) -> None:
        self.begin("known user accepted", smtp.wire)
        if not self.settings.mailbox:
            return self.skip("no account given")
        reply = smtp.ask("", self.settings.mailbox)
        if reply.code < 400:
            return self.ok(str(reply))
        diagnosis = refusal(reply)
        self.note("mail-in-refused" if diagnosis == "mail-refused" else diagnosis, str(reply))

    def no_auth(self, smtp: Smtp, step: str) -> None:
        self.begin(step)
        if smtp.mechanisms():
            self.note("login-on-25", "AUTH " + " ".join(smtp.mechanisms()))
        else:
            self.ok("a client set to this port instead of 587 can't log in")


def refusal(reply: Reply) -> str:
    """The diagnosis of a refused MAIL, RCPT or DATA, by its enhanced status code where there is one."""
    status = reply.lines[0].split(" ")[0] if reply.lines else ""
    if reply.code == 553:
        return "sender-refused"
    if reply.code == 552 or status.endswith(".2.2"):
        return "mailbox-full"
    if reply.code == 452:
        return "disk-full"
    if reply.code == 451:
        return "lookup-failed"
    if status in ("5.1.1", "5.1.6"):
        return "recipient-unknown"
    return "mail-refused"


class WrongSettings(Walk):
    """465 with STARTTLS instead of TLS: a client that waits for a greeting there waits in vain, and must."""

    SERVICE = "wrong_settings"
    COMPONENT = "MUA"
    LABEL = "wrong settings"
    WELL = "a client set to STARTTLS on 465 times out, as it must"
    STEPS = ("465 set to STARTTLS",)

    def __init__(self, settings: Settings, shared: Shared) -> None:
        super().__init__(settings, shared)
        self.port = settings.ports["submissions"]

    def walk(self) -> None:
        self.begin("465 set to STARTTLS")
        try:
            wire = self.connect()
        except WireError as exc:
            return self.skip(exc.text)
        wire.step(GREETING_IN_CLEAR)
        try:
            greeting = wire.line()
        except WireError as exc:
            return self.ok(f"the client hears nothing and times out ({exc.text})")
        self.fail("tls-not-from-the-start", greeting.decode("utf-8", "replace"))
