# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# May run on any vantage host: Python 3.6 and the standard library only.

"""The walks into Postfix: submission (587), submissions (465) and smtp (25)."""

import typing as t

from ansible_collections.port587.mail.plugins.module_utils._probe.walk import (
    LOGIN_PATIENCE,
    Settings,
    Shared,
    Stop,
    Walk,
)
from ansible_collections.port587.mail.plugins.module_utils._wire.connection import Wire
from ansible_collections.port587.mail.plugins.module_utils._wire.errors import WireError
from ansible_collections.port587.mail.plugins.module_utils._wire.smtp import Reply, Smtp

#: In a reserved domain without mail (RFC 2606), so that nobody gets mail through an open relay.
ELSEWHERE = "relay-test@example.net"

#: Seconds to wait for a greeting. A server that expects TLS first never sends one.
GREETING_IN_CLEAR = 0.5


class SmtpWalk(Walk):
    """Base class of the walks to the three ports."""

    #: The diagnosis if the server closes the connection at the greeting or at EHLO.
    DIES = "service-dies"

    def greet(self, wire: Wire) -> Smtp:
        """The steps ``greeting`` and ``EHLO``."""
        smtp = Smtp(wire)
        self.begin("greeting", wire)
        reply = self.unless_it_dies(smtp.reply)
        if reply.code != 220:
            self.fail("service-busy", str(reply))
        self.ok(str(reply))
        self.begin("EHLO", wire)
        self.hello(smtp)
        self.ok(", ".join(sorted(smtp.features)))
        return smtp

    def hello(self, smtp: Smtp) -> None:
        reply = self.unless_it_dies(smtp.ehlo)
        if reply.code != 250:
            self.fail("service-busy" if reply.code == 421 else "service-confused", str(reply))

    def unless_it_dies(self, ask: t.Callable[[], Reply]) -> Reply:
        try:
            return ask()
        except WireError as exc:
            if exc.kind == "closed":
                self.fail(self.DIES, exc.text)
            raise

    def upgrade(self, smtp: Smtp) -> None:
        """The steps ``STARTTLS`` and ``certificate``."""
        self.begin("STARTTLS", smtp.wire)
        if "STARTTLS" not in smtp.features:
            self.fail("starttls-missing", "offered: " + (", ".join(sorted(smtp.features)) or "nothing"))
        reply = smtp.command("STARTTLS")
        if reply.code != 220:
            self.fail("tls-broken", str(reply))
        self.ok(str(reply))
        self.start_tls(smtp.wire)

    def agree_to_tls(self, wire: Wire) -> None:
        if not self.IMPLICIT_TLS:
            smtp = Smtp(wire)
            smtp.reply()
            smtp.ehlo()
            smtp.command("STARTTLS")


class Msa(SmtpWalk):
    """Logging in and sending, as on 587 and 465."""

    COMPONENT = "MSA"
    CLOSED = ("submission-closed", "fail")
    # Postfix opens Dovecot's login socket when it offers AUTH, and dies where it can't
    DIES = "login-socket"

    def offered(self, smtp: Smtp) -> t.List[str]:
        """The step ``AUTH offered``. Gives the mechanisms that can be tried."""
        mechanisms = smtp.mechanisms()
        usable = [name for name in mechanisms if name in ("PLAIN", "LOGIN")]
        seen = " ".join(mechanisms) or "no AUTH"
        if not usable:
            self.fail("login-not-offered", seen)
        if "LOGIN" not in usable:
            self.warn("login-only-plain", seen)
        else:
            self.ok(seen)
        return usable

    def nothing_without_login(self, smtp: Smtp) -> None:
        """The step of that name, for a recipient that exists here: the hardest case to refuse."""
        self.begin("nothing without login", smtp.wire)
        if not self.settings.mailbox:
            self.skip("no account given")
            return
        reply = smtp.ask("", self.settings.mailbox)
        if reply.code < 400:
            self.note("open-without-login", str(reply))
        else:
            self.ok(str(reply))

    def login(self, smtp: Smtp, mechanism: str) -> None:
        """The step ``login MECHANISM``."""
        self.begin(f"login {mechanism}")
        smtp.wire.step(LOGIN_PATIENCE)
        reply = smtp.login(mechanism, self.settings.login, self.settings.password)
        if reply.code == 235:
            self.shared.smtp_login.tell("accepted")
            self.ok(str(reply))
        elif reply.code == 535:
            self.shared.smtp_login.tell("refused")
            reads = self.shared.imap_login.wait() == "accepted"
            self.fail("login-wrong-backend" if reads else "login-refused", str(reply))
        else:
            self.fail("login-socket" if reply.code == 454 else "login-not-offered", str(reply))


class Submission(Msa):
    """587: where a mail client sends."""

    SERVICE = "submission"
    LABEL = "submission"
    WELL = "STARTTLS, login, message sent; nothing is taken without a login"
    STEPS = (
        "connect",
        "greeting",
        "EHLO",
        "no AUTH in clear",
        "STARTTLS",
        "certificate",
        "AUTH offered",
        "nothing without login",
        "login PLAIN",
        "send",
        "login LOGIN",
    )

    def walk(self) -> None:
        wire = self.open()
        try:
            smtp = self.greet(wire)
        except WireError as exc:
            if exc.kind == "timeout" and self.speaks_tls():
                self.fail("tls-from-the-start", "no greeting in clear, but a TLS handshake works")
            raise
        self.begin("no AUTH in clear")
        if smtp.mechanisms():
            self.note("login-in-clear", f"AUTH {' '.join(smtp.mechanisms())} before TLS")
        else:
            self.ok()
        self.upgrade(smtp)
        self.begin("AUTH offered", wire)
        self.hello(smtp)
        usable = self.offered(smtp)
        self.nothing_without_login(smtp)
        if not self.settings.password:
            self.skip("no password given", "login PLAIN", "send", "login LOGIN")
            return
        self.login(smtp, usable.pop(0))
        self.send(smtp)
        smtp.command("QUIT")
        for mechanism in usable:
            self.login_again(mechanism)

    def finish(self) -> None:
        self.shared.smtp_login.tell("untried")
        self.shared.sending.tell("unsent")

    def send(self, smtp: Smtp) -> None:
        """The step ``send``. Nothing is sent that could not be removed again."""
        self.begin("send")
        is_open = self.shared.mailbox.wait() == "open"
        smtp.wire.step()
        mailbox = self.settings.mailbox
        body_type = " BODY=8BITMIME" if "8BITMIME" in smtp.features else ""
        reply = smtp.command(f"MAIL FROM:<{mailbox}>{body_type}")
        if reply.code == 250:
            reply = smtp.command(f"RCPT TO:<{mailbox}>")
        if reply.code == 250 and not is_open:
            smtp.command("RSET")
            self.skip("would be taken, but was not sent, because IMAP could not find and remove it again")
            return
        if reply.code == 250:
            reply = smtp.data(self.shared.message)
        if reply.code != 250:
            self.fail(refusal(reply), str(reply))
        self.shared.sending.tell("sent")
        self.ok(str(reply))

    def login_again(self, mechanism: str) -> None:
        """Another mechanism, on a new connection: one connection allows only one login."""
        self.begin(f"login {mechanism}")
        smtp = Smtp(self.connect())
        self.agree_to_tls(smtp.wire)
        smtp.wire.start_tls(self.settings.context, self.settings.host)
        smtp.ehlo()
        self.login(smtp, mechanism)
        smtp.command("QUIT")

    def speaks_tls(self) -> bool:
        try:
            self.start_tls_unverified(self.connect())
        except WireError:
            return False
        return True


class Submissions(Msa):
    """465: the same with TLS from the first byte."""

    SERVICE = "submissions"
    LABEL = "submissions"
    WELL = "TLS, login; nothing is taken without a login"
    STEPS = ("connect", "certificate", "greeting", "EHLO", "AUTH offered", "nothing without login", "login")
    IMPLICIT_TLS = True

    def walk(self) -> None:
        wire = self.open()
        self.start_tls(wire)
        smtp = self.greet(wire)
        self.begin("AUTH offered")
        usable = self.offered(smtp)
        self.nothing_without_login(smtp)
        if not self.settings.password:
            self.skip("no password given", "login")
        # a password that 587 has refused is not tried again
        elif self.shared.smtp_login.wait() == "refused":
            self.skip("refused by submission already", "login")
        else:
            self.login(smtp, usable[0])
        smtp.command("QUIT")

    def login(self, smtp: Smtp, mechanism: str) -> None:
        super().login(smtp, mechanism)
        # under the name that stands in STEPS: which mechanism it is matters less here than on 587, where each is tried
        self.records[-1] = self.records[-1]._replace(step="login")


class Mta(SmtpWalk):
    """25: where other servers deliver. No mail is sent; each recipient is only tested with RCPT."""

    SERVICE = "smtp"
    COMPONENT = "MTA"
    LABEL = "smtp"
    WELL = "takes mail for its own users only; no relay, no login"
    CLOSED = ("smtp-closed", "fail")
    STEPS = (
        "connect",
        "greeting",
        "EHLO",
        "relay refused",
        "unknown user refused",
        "known user accepted",
        "no AUTH",
        "STARTTLS",
        "certificate",
        "no AUTH in TLS",
    )

    def walk(self) -> None:
        smtp = self.greet(self.open())
        # the questions come before TLS, so that a bad certificate can't hide an open relay
        self.relay(smtp)
        self.unknown_user(smtp)
        self.known_user(smtp)
        self.begin("no AUTH")
        self.no_auth(smtp)
        try:
            self.upgrade(smtp)
        except Stop:
            if not self.records[-1].diagnosis.startswith("certificate-"):
                raise
            # nor can it hide a login, and nothing secret is said here
            smtp = Smtp(self.connect())
            self.agree_to_tls(smtp.wire)
            self.start_tls_unverified(smtp.wire)
        self.begin("no AUTH in TLS", smtp.wire)
        self.hello(smtp)
        self.no_auth(smtp)
        smtp.command("QUIT")

    def relay(self, smtp: Smtp) -> None:
        self.begin("relay refused", smtp.wire)
        reply = smtp.ask("", ELSEWHERE)
        if reply.code < 400:
            self.note("open-relay", str(reply))
        elif reply.code < 500:
            diagnosis = refusal(reply)
            self.warn("relay-unclear" if diagnosis == "mail-refused" else diagnosis, str(reply))
        else:
            self.ok(str(reply))

    def unknown_user(self, smtp: Smtp) -> None:
        self.begin("unknown user refused", smtp.wire)
        if not self.settings.domain:
            self.skip("no domain given")
            return
        reply = smtp.ask("", f"no-such-user-{self.shared.token[:8]}@{self.settings.domain}")
        if reply.code < 400:
            self.warn("unknown-user-accepted", str(reply))
        elif reply.code < 500:
            self.warn(refusal(reply), str(reply))
        else:
            self.ok(str(reply))

    def known_user(self, smtp: Smtp) -> None:
        self.begin("known user accepted", smtp.wire)
        if not self.settings.mailbox:
            self.skip("no account given")
            return
        reply = smtp.ask("", self.settings.mailbox)
        if reply.code < 400:
            self.ok(str(reply))
        else:
            diagnosis = refusal(reply)
            # "not now" is what a server with greylisting says to everybody
            greylisting = diagnosis == "mail-refused" and reply.code < 500
            report = self.warn if greylisting else self.note
            report("mail-in-refused" if diagnosis == "mail-refused" else diagnosis, str(reply))

    def no_auth(self, smtp: Smtp) -> None:
        if smtp.mechanisms():
            self.note("login-on-25", f"AUTH {' '.join(smtp.mechanisms())}")
        else:
            self.ok("a client set to this port instead of 587 can't log in")


class WrongSettings(Walk):
    """Test a client with the wrong kind of TLS for its port."""

    SERVICE = "wrong_settings"
    COMPONENT = "MUA"
    LABEL = "wrong settings"
    WELL = "465 with STARTTLS hears nothing, 587 with TLS fails, as it must"
    STEPS = ("465 with STARTTLS", "587 with TLS")

    def __init__(self, settings: Settings, shared: Shared) -> None:
        super().__init__(settings, shared)
        self.port = settings.ports["submissions"]

    def walk(self) -> None:
        self.begin("465 with STARTTLS")
        try:
            wire = self.connect()
            wire.step(GREETING_IN_CLEAR)
            self.note("tls-not-from-the-start", wire.line().decode("utf-8", "replace"))
        except WireError as exc:
            if exc.kind == "timeout":
                self.ok("hears nothing, and gives up after a minute or more")
            else:
                self.skip(exc.text)
        self.port = self.settings.ports["submission"]
        self.begin("587 with TLS")
        try:
            wire = self.connect()
            self.start_tls_unverified(wire)
        except WireError as exc:
            if exc.kind == "tls":
                self.ok(exc.text)
            else:
                self.skip(exc.text)
            return
        self.note("tls-from-the-start", "a TLS handshake works")


#: Enhanced status codes (RFC 3463) and reply codes that name the fault; the first match counts.
_REFUSALS = (
    ("5.1.1", "recipient-unknown"),
    ("5.2.2", "mailbox-full"),
    ("4.2.2", "mailbox-full"),
    ("4.3.1", "disk-full"),
    ("4.3.0", "lookup-failed"),
    ("4.3.5", "lookup-failed"),
    ("553", "sender-refused"),
    ("552", "mailbox-full"),
    ("452", "disk-full"),
)


def refusal(reply: Reply) -> str:
    """The diagnosis of a refused MAIL, RCPT or DATA."""
    text = str(reply)
    if "local recipient table" in text:
        return "domain-is-local"
    if "may not send as" in text:
        return "sender-refused"
    words = text.split()[:2]
    return next((diagnosis for word, diagnosis in _REFUSALS if word in words), "mail-refused")
