# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# May run on any vantage host: Python 3.6 and the standard library only.

"""What all walks have in common: steps, their records, and what they tell each other."""

import ssl
import threading
import time
import typing as t

from ansible_collections.port587.mail.plugins.module_utils._probe.diagnoses import DIAGNOSES
from ansible_collections.port587.mail.plugins.module_utils._probe.protocols import plain_token
from ansible_collections.port587.mail.plugins.module_utils._probe.records import Record
from ansible_collections.port587.mail.plugins.module_utils._probe.wire import (
    HOSTNAME_MISMATCH,
    CertificateError,
    Wire,
    WireError,
)

#: A certificate that nobody has renewed this long before its end will not renew itself any more.
RENEWAL_IS_LATE = 14 * 86400

#: OpenSSL's X509_V_ERR numbers.
_NOT_YET_VALID, _EXPIRED, _NO_ISSUER, _NO_ISSUER_OF_LEAF = 9, 10, 20, 21


class Settings(t.NamedTuple):
    """What to walk. ``host`` is the name in the certificate, ``address`` the one that is connected to."""

    host: str
    address: str
    ports: t.Dict[str, int]
    context: t.Callable[[], ssl.SSLContext]
    timeout: float = 10.0
    delivery_timeout: float = 20.0
    login: str = ""
    password: str = ""
    mailbox: str = ""
    domain: str = ""
    now: t.Callable[[], float] = time.time


class Promise:
    """What one walk finds out and another waits for. The first answer stands."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._answer = ""

    def tell(self, answer: str) -> None:
        if not self._event.is_set():
            self._answer = answer
            self._event.set()

    def wait(self, timeout: float) -> str:
        """The answer; empty if there is none."""
        return self._answer if self._event.wait(timeout) else ""


class Shared:
    """What the walks tell each other, so that a wrong password is tried twice at most, and nothing is looked for in vain."""

    def __init__(self) -> None:
        #: accepted, refused or untried, by Postfix and by Dovecot
        self.smtp_login = Promise()
        self.mail_login = Promise()
        #: the test message: sent or not sent; found or not found over IMAP; done over POP3
        self.sent = Promise()
        self.found_by_imap = Promise()
        self.done_by_pop3 = Promise()
        self.token = ""
        self.message = b""


class Stop(Exception):
    """This walk can't go on: its step failed and was recorded."""


class Walk(threading.Thread):
    """One way into the server, step by step. Subclasses define ``STEPS`` and ``walk``."""

    SERVICE = ""
    COMPONENT = ""
    LABEL = ""
    #: In a report, when every step was good.
    WELL = ""
    STEPS = ()  # type: t.Sequence[str]
    #: What a closed port means: a diagnosis and its verdict.
    CLOSED = ("", "fail")

    def __init__(self, settings: Settings, shared: Shared) -> None:
        super().__init__(daemon=True)
        self.settings = settings
        self.shared = shared
        self.port = settings.ports.get(self.SERVICE, 0)
        self.records = []  # type: t.List[Record]
        self._step = ""
        self._wires = []  # type: t.List[Wire]

    # what subclasses do

    def walk(self) -> None:
        raise NotImplementedError

    def finish(self) -> None:
        """Tell the others that nothing more will come."""

    # what they use

    def begin(self, step: str, wire: t.Optional[Wire] = None) -> None:
        self._step = step
        if wire:
            wire.step()

    def ok(self, seen: str = "") -> None:
        self._record("ok", seen)

    def skip(self, seen: str) -> None:
        self._record("skip", seen)

    def warn(self, diagnosis: str, seen: str) -> None:
        self._record("warn", seen, diagnosis)

    def note(self, diagnosis: str, seen: str) -> None:
        """The step failed, but the next one can be tried all the same."""
        self._record("fail", seen, diagnosis)

    def fail(self, diagnosis: str, seen: str, verdict: str = "fail") -> t.NoReturn:
        self._record(verdict, seen, diagnosis)
        raise Stop

    def connect(self, port: t.Optional[int] = None) -> Wire:
        wire = Wire(self.settings.address, port or self.port, self.settings.timeout)
        self._wires.append(wire)
        return wire

    def open(self) -> Wire:
        """The step ``connect``."""
        self.begin("connect")
        try:
            wire = self.connect()
        except WireError as exc:
            if exc.kind == "refused":
                self.fail(self.CLOSED[0], exc.text, self.CLOSED[1])
            if self.SERVICE == "smtp":
                self.fail("port-25-filtered", exc.text, "warn")
            self.fail("port-filtered", exc.text, "fail" if self.CLOSED[1] == "fail" else "warn")
        self.ok(self.settings.address)
        return wire

    def start_tls(self, wire: Wire) -> None:
        """The step ``certificate``: the handshake, with everything verified."""
        self.begin("certificate", wire)
        try:
            wire.start_tls(self.settings.context(), self.settings.host)
        except CertificateError as exc:
            self.fail(*self._judge(exc))
        except WireError as exc:
            self.fail("tls-broken", exc.text)
        shown = wire.certificate()
        seen = "{}, {}, valid until {}".format(shown.protocol, shown.key, time.strftime("%Y-%m-%d", time.gmtime(shown.expires)))
        if shown.key_is_weak:
            self.warn("key-weak", seen)
        elif shown.expires - self.settings.now() < RENEWAL_IS_LATE:
            self.warn("certificate-expires-soon", seen)
        else:
            self.ok(seen)

    def reconnect_unverified(self) -> t.Optional[Wire]:
        """A handshake that accepts everything, only to see which certificates are sent. Nothing secret is said on it."""
        return None

    def unverified_context(self) -> ssl.SSLContext:
        context = self.settings.context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context

    def run(self) -> None:
        try:
            self.walk()
        except Stop:
            pass
        except WireError as exc:
            self._record("fail", exc.text, _BROKEN[exc.kind])
        finally:
            self.finish()
            for wire in self._wires:
                wire.close()
            self._skip_the_rest()

    def _judge(self, exc: CertificateError) -> t.Tuple[str, str]:
        """Diagnosis of a refused certificate, and what was seen. OpenSSL's words alone don't say whose certificate it is."""
        chain = []  # type: t.List[t.Dict[str, t.Any]]
        try:
            wire = self.reconnect_unverified()
            chain = wire.sent_chain() if wire else []
        except WireError:
            pass  # then there is only OpenSSL's word
        seen = exc.text
        if chain:
            leaf = chain[0]
            names = [value for kind, value in leaf.get("subjectAltName", ()) if kind == "DNS"]
            seen += " (for {}, issued by {}, until {})".format(
                ", ".join(names) or "no name",
                _common_name(leaf.get("issuer", ())),
                leaf.get("notAfter", "?"),
            )
        if exc.code == _EXPIRED:
            return "certificate-expired", seen
        if exc.code == _NOT_YET_VALID:
            return "certificate-not-yet-valid", seen
        if exc.code == HOSTNAME_MISMATCH:
            return "certificate-wrong-name", seen
        # Only the leaf came, and it was not made by itself: an intermediate is missing. But an own small CA that signs
        # leaves directly sends no more than that either, so if that is all the server's other port can do, so be it.
        if exc.code in (_NO_ISSUER, _NO_ISSUER_OF_LEAF) and len(chain) == 1:
            return "certificate-chain", seen
        return "certificate-untrusted", seen

    def _record(self, verdict: str, seen: str, diagnosis: str = "") -> None:
        known = DIAGNOSES.get(diagnosis)
        component = known.component if known and known.component else self.COMPONENT
        self.records.append(
            Record(
                self.SERVICE, self._step, component, "%s:%d" % (self.settings.address, self.port), self.port,
                verdict, self._without_secrets(seen), diagnosis,
            )
        )  # fmt: skip

    def _without_secrets(self, text: str) -> str:
        """A server may echo what it was told."""
        secrets = [self.settings.password]
        if self.settings.password:
            secrets.append(plain_token(self.settings.login, self.settings.password))
        for secret in secrets:
            if secret:
                text = text.replace(secret, "********")
        return "".join(char if char.isprintable() else " " for char in text)[:300]

    def _skip_the_rest(self) -> None:
        done = {record.step for record in self.records}
        because = next((record.step for record in self.records if record.verdict == "fail"), self._step)
        for step in self.STEPS:
            if step not in done:
                self._step = step
                self.skip(f"not tried, because of: {because}")


_BROKEN = {
    "timeout": "service-stalls",
    "closed": "service-confused",
    "protocol": "service-confused",
    "tls": "tls-broken",
    "refused": "service-confused",
    "filtered": "service-stalls",
    "unreachable": "service-confused",
}


def _common_name(name: t.Iterable[t.Iterable[t.Tuple[str, str]]]) -> str:
    for part in name:
        for key, value in part:
            if key == "commonName":
                return value
    return "?"
