# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# May run on any vantage host: Python 3.6 and the standard library only.

"""The base of all walks: steps, their records, and data that walks share."""

import math
import ssl
import threading
import time
import typing as t

from ansible_collections.port587.mail.plugins.module_utils._probe.diagnoses import DIAGNOSES
from ansible_collections.port587.mail.plugins.module_utils._probe.records import Record
from ansible_collections.port587.mail.plugins.module_utils._wire import certificate
from ansible_collections.port587.mail.plugins.module_utils._wire.connection import Wire, connect
from ansible_collections.port587.mail.plugins.module_utils._wire.errors import CertificateError, WireError
from ansible_collections.port587.mail.plugins.module_utils._wire.limits import LONGEST_TEXT
from ansible_collections.port587.mail.plugins.module_utils._wire.tls import HOSTNAME_MISMATCH
from ansible_collections.port587.mail.plugins.module_utils._wire.words import plain_token, printable

#: Programs renew when a third of the lifetime is left, or half of a short one (certbot, Caddy), or 30 days before the
#: end. When less is left than this part of the lifetime, or than three weeks, they have missed it.
RENEWAL_IS_LATE = 1 / 4
THREE_WEEKS = 21 * 86400

#: Seconds for the answer to a login. Dovecot delays a refusal, more so after earlier ones: 8 s were seen after two.
LOGIN_PATIENCE = 30.0

#: The longest way through a walk, as long as every answer comes at the last moment: steps, logins, and waits for the
#: test message, of which one may be another walk's. After that all walks end, whatever the server does.
STEPS_IN_A_ROW, LOGINS_IN_A_ROW, DELIVERIES_IN_A_ROW = 12, 3, 2

#: OpenSSL's X509_V_ERR numbers.
_NOT_YET_VALID, _EXPIRED, _NO_ISSUER, _NO_ISSUER_OF_LEAF = 9, 10, 20, 21

#: The diagnosis of a broken connection, unless a step has a more specific one.
_BROKEN = {
    "timeout": "service-stalls",
    "filtered": "service-stalls",
    "closed": "service-confused",
    "protocol": "service-confused",
    "refused": "service-confused",
    "unreachable": "service-confused",
    "nameless": "service-confused",
    "endless": "service-endless",
    "tls": "tls-broken",
    "certificate": "tls-broken",
}


class Settings(t.NamedTuple):
    """What to walk. ``host`` is the name in the certificate, ``address`` the one that is connected to."""

    host: str
    address: str
    ports: t.Dict[str, int]
    context: ssl.SSLContext
    timeout: float = 10.0
    delivery_timeout: float = 20.0
    login: str = ""
    password: str = ""
    mailbox: str = ""
    domain: str = ""
    #: further names of the server, for the users of single domains
    names: t.Sequence[str] = ()
    #: whether the web server has webmail, too
    webmail: bool = False


def longest(settings: Settings) -> float:
    """Seconds that all walks may take together."""
    steps = STEPS_IN_A_ROW * settings.timeout
    return steps + LOGINS_IN_A_ROW * LOGIN_PATIENCE + DELIVERIES_IN_A_ROW * settings.delivery_timeout


class Promise:
    """A result of one walk that another one waits for. The first value is final."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._answer = ""

    def tell(self, answer: str) -> None:
        if not self._event.is_set():
            self._answer = answer
            self._event.set()

    def wait(self) -> str:
        """Wait for the value. Every walk has deadlines and always sets its values, so this needs no deadline."""
        self._event.wait()
        return self._answer


class Shared:
    """Data that walks share: a wrong password is tried at most twice, and no walk waits for a message in vain."""

    def __init__(self, token: str, message: bytes, end: float = math.inf) -> None:
        #: when all walks must be over, whatever servers do meanwhile, in time.monotonic()'s seconds
        self.end = end
        self.token = token
        self.message = message
        #: the login: accepted, refused or untried, by Postfix and by Dovecot
        self.smtp_login = Promise()
        self.imap_login = Promise()
        #: the mailbox, from which the test message can be taken out again: open or closed
        self.mailbox = Promise()
        #: the test message: sent or unsent; found or missing over IMAP; done with over POP3
        self.sending = Promise()
        self.imap_found = Promise()
        self.pop3_done = Promise()


class Stop(Exception):
    """This walk can't go on: its step failed and was recorded."""


class Walk(threading.Thread):
    """One way into the server, step by step. Subclasses define ``STEPS`` and ``walk``."""

    SERVICE = ""
    COMPONENT = ""
    LABEL = ""
    #: In a report, when every step was good.
    WELL = ""
    #: Who signed the certificate, where there was one to be trusted.
    issuer: t.Any = None
    STEPS: t.Sequence[str] = ()
    #: What a closed port means, and how bad it is.
    CLOSED = ("", "fail")
    #: Whether TLS comes with the first byte.
    IMPLICIT_TLS = False

    def __init__(self, settings: Settings, shared: Shared) -> None:
        super().__init__(daemon=True)
        self.settings = settings
        self.shared = shared
        self.port = settings.ports.get(self.SERVICE, 0)
        self.records: t.List[Record] = []
        #: An exception that no walk should see: a mistake in this program.
        self.crash: t.Optional[BaseException] = None
        self._step = ""
        self._wires: t.List[Wire] = []

    def walk(self) -> None:
        raise NotImplementedError

    def finish(self) -> None:
        """Set the values that other walks still wait for."""

    def agree_to_tls(self, wire: Wire) -> None:
        """The commands in clear text before TLS. None if TLS comes first."""

    # what walks use

    def begin(self, step: str, wire: t.Optional[Wire] = None) -> None:
        self._step = step
        if wire:
            wire.step()

    def ok(self, seen: str = "") -> None:
        self._record("ok", seen)

    def skip(self, seen: str, *steps: str) -> None:
        """Skip these steps, or else the one that has begun."""
        for step in steps or (self._step,):
            self._step = step
            self._record("skip", seen)

    def warn(self, diagnosis: str, seen: str) -> None:
        self._record("warn", seen, diagnosis)

    def note(self, diagnosis: str, seen: str) -> None:
        """The step failed, but the next one can be tried all the same."""
        self._record("fail", seen, diagnosis)

    def fail(self, diagnosis: str, seen: str, verdict: str = "fail") -> t.NoReturn:
        self._record(verdict, seen, diagnosis)
        raise Stop

    def connect(self) -> Wire:
        wire = connect(self.settings.address, self.port, self.settings.timeout, self.shared.end)
        self._wires.append(wire)
        return wire

    def open(self) -> Wire:
        """The step ``connect``."""
        self.begin("connect")
        diagnosis, verdict = self.CLOSED
        try:
            wire = self.connect()
        except WireError as exc:
            if exc.kind == "nameless":
                diagnosis, verdict = "name-unknown", "fail"
            elif exc.kind != "refused":
                diagnosis = "port-filtered"
                if self.SERVICE == "smtp":
                    diagnosis, verdict = "port-25-filtered", "warn"
            self.fail(diagnosis, exc.text, verdict)
        self.ok(self.settings.address)
        return wire

    def start_tls(self, wire: Wire) -> None:
        """The step ``certificate``: the handshake, with everything verified."""
        self.begin("certificate", wire)
        try:
            wire.start_tls(self.settings.context, self.settings.host)
        except CertificateError as exc:
            self.fail(*self._judge(exc))
        except WireError as exc:
            in_clear = self.IMPLICIT_TLS and exc.text == "wrong version number"
            self.fail("tls-not-from-the-start" if in_clear else "tls-broken", exc.text)
        shown = certificate.verified(wire.tls())
        self.issuer = shown.issuer
        until = time.strftime("%Y-%m-%d", time.gmtime(shown.expires))
        seen = f"{shown.protocol}, {shown.key}, valid until {until}"
        if shown.key_is_weak:
            self.warn("key-weak", seen)
        elif renewal_is_late(shown.begins, shown.expires):
            self.warn("certificate-expires-soon", seen)
        else:
            self.ok(seen)

    def start_tls_unverified(self, wire: Wire) -> None:
        """A handshake that accepts everything. Nothing secret may be said after it."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        wire.start_tls(context, self.settings.host)

    def run(self) -> None:
        try:
            self._walk()
        except BaseException as exc:  # raised again by who started this thread
            self.crash = exc
        finally:
            self.finish()
            for wire in self._wires:
                wire.close()

    def _walk(self) -> None:
        try:
            self.walk()
        except Stop:
            pass
        except WireError as exc:
            self._record("fail", exc.text, _BROKEN[exc.kind])
        except (ValueError, IndexError):  # an unexpected answer
            said = self._wires[-1].last.decode("utf-8", "replace") if self._wires else ""
            self._record("fail", f"an answer that makes no sense: {said!r}", "service-confused")
        done = {record.step for record in self.records}
        because = next((record.step for record in self.records if record.verdict in ("fail", "warn")), self._step)
        rest = [step for step in self.STEPS if step not in done]
        if rest:
            self.skip(f"not tried, because of: {because}", *rest)

    def _judge(self, exc: CertificateError) -> t.Tuple[str, str]:
        """Diagnosis of a refused certificate, and what was seen. OpenSSL's words alone don't say whose it is."""
        chain: t.List[t.Dict[str, t.Any]] = []
        try:
            wire = self.connect()
            self.agree_to_tls(wire)
            self.start_tls_unverified(wire)
            chain = certificate.sent_chain(wire.tls())
        except WireError:
            pass  # then there is only OpenSSL's word
        seen = exc.text
        if chain:
            names = ", ".join(value for kind, value in chain[0].get("subjectAltName", ()) if kind == "DNS") or "no name"
            issuer = _common_name(chain[0].get("issuer", ()))
            seen += f" (for {names}, issued by {issuer}, until {chain[0].get('notAfter', '?')})"
        known = {
            _EXPIRED: "certificate-expired",
            _NOT_YET_VALID: "certificate-not-yet-valid",
            HOSTNAME_MISMATCH: "certificate-wrong-name",
        }
        # the leaf alone does not show whether an intermediate is missing or the CA is private; the cure names both
        if exc.code in (_NO_ISSUER, _NO_ISSUER_OF_LEAF) and len(chain) == 1:
            return "certificate-chain", seen
        return known.get(exc.code, "certificate-untrusted"), seen

    def _record(self, verdict: str, seen: str, diagnosis: str = "") -> None:
        known = DIAGNOSES.get(diagnosis)
        self.records.append(
            Record(
                service=self.SERVICE,
                step=self._step,
                component=known.component if known and known.component else self.COMPONENT,
                address=self.settings.address,
                port=self.port,
                verdict=verdict,
                seen=self._clean(seen),
                diagnosis=diagnosis,
            )
        )

    def _clean(self, text: str) -> str:
        """What a server says, without what it may echo, and fit for a terminal."""
        password = self.settings.password
        for secret in (password, plain_token(self.settings.login, password)) if password else ():
            text = text.replace(secret, "********")
        return printable(text)[:LONGEST_TEXT].strip()


def renewal_is_late(begins: float, expires: float) -> bool:
    """Whether a certificate with this end of validity should have been renewed by now."""
    return expires - time.time() < min((expires - begins) * RENEWAL_IS_LATE, THREE_WEEKS)


def _common_name(name: t.Iterable[t.Iterable[t.Tuple[str, str]]]) -> str:
    return next((value for part in name for key, value in part if key == "commonName"), "?")
