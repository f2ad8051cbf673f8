# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The probe against a mail server that answers as a test wants: each diagnosis from the words that real servers use."""

import pathlib
import re
import sys
import time
import types
import typing as t

import pytest
from ansible_collections.port587.mail.plugins.module_utils._probe import smtp
from ansible_collections.port587.mail.plugins.module_utils._probe import walk as walking
from ansible_collections.port587.mail.plugins.module_utils._probe.autoconfig import Autoconfig
from ansible_collections.port587.mail.plugins.module_utils._probe.diagnoses import DIAGNOSES
from ansible_collections.port587.mail.plugins.module_utils._probe.dns import Addresses, resolve
from ansible_collections.port587.mail.plugins.module_utils._probe.probe import WALKS, names_of, probe, trust
from ansible_collections.port587.mail.plugins.module_utils._probe.records import Record, findings
from ansible_collections.port587.mail.plugins.module_utils._probe.walk import Settings, Shared, renewal_is_late
from ansible_collections.port587.mail.plugins.module_utils._wire.connection import connect
from authority import HOST, Certificates
from probe_server import (
    HANG_UP,
    LOGIN,
    PASSWORD,
    SILENCE,
    Answers,
    Conversation,
    Http,
    Mailbox,
    MailServer,
    Service,
    close_all,
    ssl,
)
from repository import ROOT


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: t.Any) -> Certificates:
    return Certificates(pathlib.Path(str(tmp_path_factory.mktemp("tls"))))


@pytest.fixture(scope="module")
def tls(certificates: Certificates) -> ssl.SSLContext:
    return certificates.server()


@pytest.fixture(autouse=True)
def short_patience(monkeypatch: t.Any) -> None:
    monkeypatch.setattr(smtp, "GREETING_IN_CLEAR", 0.1)


@pytest.fixture(autouse=True)
def close_the_servers() -> t.Iterator[None]:
    yield
    close_all()


def walk(
    server: MailServer, certificates: Certificates, services: t.Sequence[str] = tuple(WALKS), **different: t.Any
) -> t.List[Record]:
    settings = Settings(
        host=HOST,
        address="127.0.0.1",
        ports=server.ports,
        context=trust(certificates.ca, None),
        timeout=2.0,
        delivery_timeout=0.5,
        login=LOGIN,
        password=PASSWORD,
        mailbox=LOGIN,
        domain="example.test",
    )
    records = probe(settings._replace(**different), services, Addresses([], [])).records
    assert PASSWORD not in repr(records)
    return records


def found(records: t.Sequence[Record]) -> t.List[t.Tuple[str, str, str]]:
    return [(finding["verdict"], finding["component"], finding["diagnosis"]) for finding in findings(records)]


def test_healthy(tls: ssl.SSLContext, certificates: Certificates) -> None:
    server = MailServer(tls, {})
    start = time.monotonic()
    records = walk(server, certificates)
    assert [record for record in records if record.verdict != "ok"] == []
    assert time.monotonic() - start < 15
    # every step that is promised was made, and no other
    steps = {(record.service, record.step) for record in records}
    assert steps == {(name, step) for name, kind in WALKS.items() for step in kind.STEPS}
    assert server.mailbox.messages == []


def test_who_signed_the_certificate_is_known(tls: ssl.SSLContext, certificates: Certificates) -> None:
    server = MailServer(tls, {})
    settings = Settings(HOST, "127.0.0.1", server.ports, trust(certificates.ca, None), timeout=2.0)
    issuers = probe(settings, ["submission"], Addresses([], [])).issuers
    assert names_of(certificates.ca, None)[0] in issuers
    assert names_of(None, None) == []
    certificates.sign("other", "basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign")
    assert names_of(None, str(certificates.folder / "other.pem"))[0] not in issuers


def test_no_more_connections_than_needed(tls: ssl.SSLContext, certificates: Certificates) -> None:
    server = MailServer(tls, {})
    walk(server, certificates)
    # 587: one per mechanism and the wrong setting; 465: one and the wrong setting
    expected = {"submission": 3, "submissions": 2}
    assert {name: service.connections for name, service in server.services.items()} == {
        name: expected.get(name, 1) for name in server.services
    }


def test_nothing_is_sent_and_nobody_logs_in_without_a_password(tls: ssl.SSLContext, certificates: Certificates) -> None:
    server = MailServer(tls, {})
    records = walk(server, certificates, login="", password="", mailbox="", domain="")
    assert found(records) == []
    heard = " ".join(said for service in server.services.values() for said in service.heard)
    assert not re.search("AUTH |LOGIN|PASS|DATA|AUTHENTICATE", heard)
    why = {record.seen for record in records if record.verdict == "skip"}
    assert why == {"no password given", "no account given", "no domain given", "not logged in"}


IN_TROUBLE: t.List[t.Tuple[str, t.Dict[str, Answers], t.Tuple[str, str, str]]] = [
    # what Postfix says
    (
        "refuses to talk",
        {"submission": {"greeting": "421 4.7.0 too many connections"}},
        ("fail", "MSA", "service-busy"),
    ),
    ("dies at once", {"smtp": {"greeting": HANG_UP}}, ("fail", "MTA", "service-dies")),
    ("dies with AUTH", {"submissions": {"EHLO": HANG_UP}}, ("fail", "MSA", "login-socket")),
    ("says nothing", {"smtp": {"greeting": SILENCE}}, ("fail", "MTA", "service-stalls")),
    ("is a web server", {"submission": {"greeting": "HTTP/1.1 400 Bad Request"}}, ("fail", "MSA", "service-confused")),
    ("no EHLO", {"smtp": {"EHLO": "502 what"}}, ("fail", "MTA", "service-confused")),
    ("no STARTTLS", {"smtp": {"EHLO": "250 mail.example.test"}}, ("fail", "MTA", "starttls-missing")),
    ("TLS not available", {"submission": {"STARTTLS": "454 4.7.0 TLS not available"}}, ("fail", "MSA", "tls-broken")),
    ("AUTH on 25", {"smtp": {"EHLO": "250-x\n250-STARTTLS\n250 AUTH PLAIN"}}, ("fail", "MTA", "login-on-25")),
    (
        "AUTH in clear",
        {"submission": {"EHLO": "250-x\n250-STARTTLS\n250-AUTH=PLAIN LOGIN\n250 AUTH PLAIN LOGIN"}},
        ("fail", "MSA", "login-in-clear"),
    ),
    ("only PLAIN", {"submissions": {"EHLO": "250-x\n250 AUTH PLAIN"}}, ("warn", "MSA", "login-only-plain")),
    ("only NTLM", {"submissions": {"EHLO": "250-x\n250 AUTH NTLM"}}, ("fail", "MSA", "login-not-offered")),
    (
        "no socket",
        {"submission": {"AUTH PLAIN": "454 4.7.0 Temporary authentication failure"}},
        ("fail", "MSA", "login-socket"),
    ),
    ("Cyrus", {"submission": {"AUTH PLAIN": "535 5.7.8 no"}}, ("fail", "MSA", "login-wrong-backend")),
    ("open", {"submissions": {"RCPT": "250 ok"}}, ("fail", "MSA", "open-without-login")),
    ("open relay", {"smtp": {"RCPT.*example.net": "250 ok"}}, ("fail", "MTA", "open-relay")),
    ("perhaps a relay", {"smtp": {"RCPT.*example.net": "450 4.7.1 later"}}, ("warn", "MTA", "relay-unclear")),
    ("takes all", {"smtp": {"RCPT.*no-such-user": "250 ok"}}, ("warn", "MTA", "unknown-user-accepted")),
    ("is blocked", {"smtp": {"RCPT.*eve": "554 5.7.1 blocked using a list"}}, ("fail", "MTA", "mail-in-refused")),
    ("no such table", {"smtp": {"RCPT.*eve": "451 4.3.0 Temporary lookup failure"}}, ("fail", "MTA", "lookup-failed")),
    (
        "not the owner",
        {"submission": {"MAIL FROM:<eve": "553 5.7.1 not owned by user"}},
        ("fail", "MSA", "sender-refused"),
    ),
    (
        "disk full",
        {"submission": {"MAIL FROM:<eve": "452 4.3.1 Insufficient system storage"}},
        ("fail", "MSA", "disk-full"),
    ),
    # what Dovecot says
    ("auth broken", {"imaps": {"greeting": "* BYE Auth process broken"}}, ("fail", "MRA", "dovecot-auth-broken")),
    ("POP3 busy", {"pop3s": {"greeting": "-ERR [SYS/TEMP] too many"}}, ("fail", "MRA", "service-busy")),
    ("no greeting", {"imaps": {"greeting": "220 ftp"}}, ("fail", "MRA", "service-confused")),
    (
        "reading refused",
        {"imaps": {"^[A-Za-z0-9+/=]{20,}$": "p2 NO [AUTHENTICATIONFAILED] no"}},
        ("fail", "MRA", "login-not-for-reading"),
    ),
    (
        "internal error",
        {"imaps": {"SELECT": "{tag} NO [SERVERBUG] Internal error occurred"}},
        ("fail", "MRA", "mailbox-unreadable"),
    ),
    (
        "clear IMAP",
        {"imap": {"CAPABILITY": "* CAPABILITY AUTH=PLAIN STARTTLS\n{tag} OK"}},
        ("fail", "MRA", "login-in-clear"),
    ),
    ("clear POP3", {"pop3": {"CAPA": "+OK\nUSER\nSTLS\n."}}, ("fail", "MRA", "login-in-clear")),
    ("no STLS", {"pop3": {"CAPA": "+OK\nTOP\n."}}, ("fail", "MRA", "starttls-missing")),
    ("Sieve without TLS", {"sieve": {"greeting": '"SASL" "PLAIN"\nOK'}}, ("fail", "MDA", "starttls-missing")),
    ("no UIDPLUS", {"imaps": {"EXPUNGE": "{tag} BAD what"}}, ("warn", "MRA", "not-removed")),
    ("POP3 sees nothing", {"pop3s": {"STAT": "+OK 0 0"}}, ("fail", "MDA", "not-delivered")),
    ("odd numbers", {"pop3s": {"STAT": "+OK many"}}, ("fail", "MRA", "service-confused")),
]


@pytest.mark.parametrize(("trouble", "finding"), [row[1:] for row in IN_TROUBLE], ids=[row[0] for row in IN_TROUBLE])
def test_trouble(
    trouble: t.Dict[str, Answers],
    finding: t.Tuple[str, str, str],
    tls: ssl.SSLContext,
    certificates: Certificates,
) -> None:
    assert found(walk(MailServer(tls, trouble), certificates)) == [finding]


def test_an_answer_that_makes_no_sense_is_shown_as_it_is(tls: ssl.SSLContext, certificates: Certificates) -> None:
    """And not what Python says of it."""
    records = walk(MailServer(tls, {"pop3s": {"STAT": "+OK many"}}), certificates)
    assert [record.seen for record in records if record.verdict == "fail"] == [
        "an answer that makes no sense: '+OK many'"
    ]


CLOSED: t.List[t.Tuple[t.List[str], t.List[t.Tuple[str, str, str]]]] = [
    (["submission"], [("fail", "MSA", "submission-closed")]),
    (["smtp"], [("fail", "MTA", "smtp-closed")]),
    (["imaps"], [("fail", "MRA", "retrieval-closed")]),
    (["pop3s"], [("warn", "MRA", "retrieval-closed")]),
    (["sieve"], [("warn", "MDA", "sieve-closed")]),
    (["imap", "pop3"], []),
    (["smtp", "submission", "submissions"], [("fail", "MTA", "postfix-stopped")]),
    (["imaps", "pop3s", "imap", "pop3", "sieve"], [("fail", "MRA", "dovecot-stopped")]),
    (list(MailServer.KINDS), [("fail", "network", "server-unreachable")]),
]


@pytest.mark.parametrize(("closed", "finding"), CLOSED, ids=["+".join(row[0]) for row in CLOSED])
def test_closed(
    closed: t.List[str],
    finding: t.List[t.Tuple[str, str, str]],
    tls: ssl.SSLContext,
    certificates: Certificates,
) -> None:
    assert found(walk(MailServer(tls, {}, closed), certificates)) == finding


def test_dovecot_stopped_explains_that_nobody_can_log_in(tls: ssl.SSLContext, certificates: Certificates) -> None:
    trouble = {"submission": {"AUTH PLAIN": "454 4.7.0 no"}, "submissions": {"EHLO": HANG_UP}}
    server = MailServer(tls, trouble, ["imaps", "pop3s", "imap", "pop3", "sieve"])
    assert found(walk(server, certificates)) == [("fail", "MRA", "dovecot-stopped")]


def test_a_refused_password_is_tried_twice_at_most(tls: ssl.SSLContext, certificates: Certificates) -> None:
    server = MailServer(tls, {})
    records = walk(server, certificates, password="not that of eve")
    assert found(records) == [("fail", "MUA", "login-refused")]
    heard = [said for service in server.services.values() for said in service.heard]
    assert len([said for said in heard if re.match("AUTH|p. AUTHENTICATE|USER|PASS", said)]) == 2


def test_the_password_is_kept_from_who_has_no_good_certificate(tls: ssl.SSLContext, certificates: Certificates) -> None:
    server = MailServer(tls, {})
    records = walk(server, certificates, host="other.example.test")
    assert found(records) == [("fail", "MSA", "certificate-wrong-name")]
    heard = " ".join(said for service in server.services.values() for said in service.heard)
    assert not re.search("AUTH|PASS", heard)
    # and yet the questions that need no TLS were asked
    assert "relay refused" in {record.step for record in records if record.verdict == "ok"}


def test_an_echo_of_the_password_is_not_repeated(tls: ssl.SSLContext, certificates: Certificates) -> None:
    records = walk(MailServer(tls, {"submission": {"AUTH PLAIN": f"554 what is {PASSWORD}?"}}), certificates)
    assert "554 what is ********?" in [record.seen for record in records]


CERTIFICATES: t.List[t.Tuple[str, t.Dict[str, t.Any], t.Tuple[str, str]]] = [
    ("expired", {"days": -1}, ("fail", "certificate-expired")),
    ("of another name", {"name": "other.example.test"}, ("fail", "certificate-wrong-name")),
    ("of nobody", {"issuer": ""}, ("fail", "certificate-untrusted")),
]


#: For how many days certificates live, how many are left when they are renewed (825: by a play), and when it is late.
@pytest.mark.parametrize(
    ("lifetime", "renewed", "late"),
    [(6, 3, 1.5), (45, 15, 11.25), (64, 64 / 3, 16), (90, 30, 21), (398, 30, 21), (825, 30, 21)],
)
def test_when_renewal_is_late(lifetime: float, renewed: float, late: float) -> None:
    now = time.time()

    def judged(left: float) -> bool:
        return renewal_is_late(now - (lifetime - left) * 86400, now + left * 86400)

    assert [judged(left) for left in (lifetime, renewed, late + 0.1)] == [False] * 3
    assert judged(late - 0.1)


def test_certificate_that_should_have_been_renewed(
    tls: ssl.SSLContext, certificates: Certificates, monkeypatch: t.Any
) -> None:
    """It is valid for 60 days."""
    for days, finding in ((44, []), (46, [("warn", "MSA", "certificate-expires-soon")])):
        later = time.time() + days * 86400
        monkeypatch.setattr(walking, "time", types.SimpleNamespace(**{**vars(time), "time": lambda at=later: at}))
        assert found(walk(MailServer(tls, {}), certificates)) == finding


@pytest.mark.parametrize(("how", "finding"), [row[1:] for row in CERTIFICATES], ids=[row[0] for row in CERTIFICATES])
def test_certificate(how: t.Dict[str, t.Any], finding: t.Tuple[str, str], certificates: Certificates) -> None:
    if sys.version_info < (3, 7) and finding[1] == "certificate-expired":
        finding = ("fail", "certificate-untrusted")  # that Python does not say more
    records = walk(MailServer(certificates.server(**how), {}), certificates)
    assert [(verdict, diagnosis) for verdict, _component, diagnosis in found(records)] == [finding]


def test_certificate_with_a_weak_key(certificates: Certificates) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificates.sign("weak", f"subjectAltName=DNS:{HOST}", issuer="ca", key="1024")
    context.set_ciphers("DEFAULT@SECLEVEL=0")
    context.load_cert_chain(str(certificates.folder / "weak.pem"), str(certificates.folder / "weak.key"))
    accepts_it = trust(certificates.ca, None)
    accepts_it.set_ciphers("DEFAULT@SECLEVEL=0")
    records = walk(MailServer(context, {}), certificates, context=accepts_it)
    assert found(records) == [("warn", "MSA", "key-weak")]


def test_chain_without_the_intermediate(certificates: Certificates) -> None:
    ca = ("basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign")
    certificates.sign("intermediate", *ca, issuer="ca")
    whole = MailServer(certificates.server(issuer="intermediate", chain=["intermediate"]), {})
    assert found(walk(whole, certificates)) == []
    records = walk(MailServer(certificates.server(issuer="intermediate"), {}), certificates)
    diagnoses = {diagnosis for _verdict, _component, diagnosis in found(records)}
    # an older Python can't see what was sent
    assert diagnoses <= {"certificate-chain", "certificate-untrusted"}


def test_tls_where_starttls_belongs(tls: ssl.SSLContext, certificates: Certificates) -> None:
    server = MailServer(tls, {})
    server.services["submission"].implicit = True
    assert found(walk(server, certificates, timeout=2.0)) == [("fail", "MSA", "tls-from-the-start")]


@pytest.mark.parametrize("service", ["submissions", "imaps", "pop3s"])
def test_no_tls_where_it_belongs(service: str, tls: ssl.SSLContext, certificates: Certificates) -> None:
    server = MailServer(tls, {})
    server.services[service].implicit = False
    assert [diagnosis for _v, _c, diagnosis in found(walk(server, certificates))] == ["tls-not-from-the-start"]


class TestDelivery:
    @pytest.fixture
    def server(self, tls: ssl.SSLContext) -> MailServer:
        return MailServer(tls, {})

    def test_lost(self, server: MailServer, certificates: Certificates) -> None:
        server.mailbox.loses_mail = True
        assert found(walk(server, certificates)) == [("fail", "MDA", "not-delivered")]

    def test_changed(self, server: MailServer, certificates: Certificates) -> None:
        server.mailbox.change = lambda message: message.replace(b"\r\n.\r\n", b"\r\n\r\n")
        assert found(walk(server, certificates)) == [("fail", "MDA", "message-changed")]

    def test_header_changed(self, server: MailServer, certificates: Certificates) -> None:
        server.mailbox.change = lambda message: message.replace(b"Subject: ", b"Subject: [SPAM] ")
        assert found(walk(server, certificates)) == [("fail", "MDA", "message-changed")]

    def test_clock(self, server: MailServer, certificates: Certificates) -> None:
        server.mailbox.clock = -3600
        records = walk(server, certificates)
        assert found(records) == [("fail", "MRA", "clock-wrong")]
        assert "behind" in next(record.seen for record in records if record.step == "clock")

    def test_filtered(self, tls: ssl.SSLContext, certificates: Certificates) -> None:
        # the inbox stays empty; the folder Junk has it
        server = MailServer(tls, {"imaps": {"UID SEARCH UID": "* SEARCH\n{tag} OK"}})
        assert found(walk(server, certificates)) == [("warn", "MDA", "delivered-elsewhere")]
        assert server.mailbox.messages == []

    def test_not_sent_where_it_could_not_be_removed(self, tls: ssl.SSLContext, certificates: Certificates) -> None:
        server = MailServer(tls, {"imaps": {"SELECT": "{tag} NO [SERVERBUG] Internal error occurred"}})
        records = walk(server, certificates)
        assert server.mailbox.messages == []
        send = next(record for record in records if record.step == "send")
        assert send.verdict == "skip"


class TestOdd:
    """Whatever a server says, the probe ends in time and says so."""

    @pytest.mark.parametrize("service", list(MailServer.KINDS))
    @pytest.mark.parametrize("greeting", ["", "x" * 70000, "\x00\x1b[31m\xff", "220", "* OK", "+OK", "OK"])
    def test_greeting(self, service: str, greeting: str, tls: ssl.SSLContext, certificates: Certificates) -> None:
        server = MailServer(tls, {service: {"greeting": greeting}})
        start = time.monotonic()
        records = walk(server, certificates, [service], timeout=0.5)
        assert time.monotonic() - start < 15
        assert all(record.seen.isprintable() or not record.seen for record in records)

    def test_drops_of_an_answer(self, tls: ssl.SSLContext, certificates: Certificates) -> None:
        """A byte now and then must not keep the clock from running out."""

        class Drip(Conversation):
            def run(self) -> None:
                for _ in range(100):
                    self.file.write(b"2")
                    time.sleep(0.1)

        server = MailServer(tls, {})
        server.services["smtp"].talk = Drip
        start = time.monotonic()
        assert found(walk(server, certificates, ["smtp"], timeout=0.5)) == [("fail", "MTA", "service-stalls")]
        assert time.monotonic() - start < 10

    def test_commands_smuggled_in_before_tls(self, tls: ssl.SSLContext, certificates: Certificates) -> None:
        server = MailServer(tls, {"smtp": {"STARTTLS": "220 go on\n250 smuggled"}})
        assert found(walk(server, certificates, ["smtp"])) == [("fail", "MTA", "tls-broken")]


class TestNames:
    @staticmethod
    def name(addresses: Addresses, address: str, certificates: Certificates, server: MailServer) -> t.List[t.Any]:
        settings = Settings(HOST, address, server.ports, trust(certificates.ca, None), timeout=1.0)
        return found(probe(settings, ["dns"], addresses).records)

    @pytest.mark.parametrize(
        ("addresses", "finding"),
        [
            (Addresses(["192.0.2.1"], []), []),
            (Addresses([], []), [("warn", "DNS", "name-unknown")]),
            (Addresses(["192.0.2.9"], []), [("warn", "DNS", "name-elsewhere")]),
        ],
    )
    def test_name(
        self, addresses: Addresses, finding: t.List[t.Any], tls: ssl.SSLContext, certificates: Certificates
    ) -> None:
        assert self.name(addresses, "192.0.2.1", certificates, MailServer(tls, {})) == finding

    def test_ipv6_that_is_silent(self, tls: ssl.SSLContext, certificates: Certificates) -> None:
        addresses = Addresses(["192.0.2.1"], ["::1"])
        assert self.name(addresses, "192.0.2.1", certificates, MailServer(tls, {})) == [("fail", "DNS", "ipv6-silent")]

    def test_this_machine_has_no_name_to_look_at(self, tls: ssl.SSLContext, certificates: Certificates) -> None:
        assert self.name(Addresses([], []), "127.0.0.1", certificates, MailServer(tls, {})) == []

    def test_a_server_without_an_address(self, tls: ssl.SSLContext, certificates: Certificates) -> None:
        server = MailServer(tls, {})
        records = walk(server, certificates, ["dns", *WALKS], address=HOST)
        assert found(records) == [("fail", "DNS", "name-unknown")]
        assert [service.connections for service in server.services.values()] == [0] * 8

    def test_a_resolver_that_hangs(self) -> None:
        start = time.monotonic()
        found_addresses = resolve("mail.example.test", 0.2, lambda name, family: time.sleep(30) or [])
        assert found_addresses == Addresses([], [])
        assert time.monotonic() - start < 10


class TestAutoconfig:
    """What mail clients ask for that know an address and nothing else."""

    DOCUMENT = (
        '<clientConfig version="1.1"><emailProvider id="example.test">'
        '<incomingServer type="imap"><hostname>mail.example.test</hostname><port>993</port>'
        "<socketType>SSL</socketType></incomingServer>"
        '<outgoingServer type="smtp"><hostname>mail.example.test</hostname><port>587</port>'
        "<socketType>STARTTLS</socketType></outgoingServer>"
        '<outgoingServer type="smtp"><hostname>mail.example.test</hostname><port>465</port>'
        "<socketType>SSL</socketType></outgoingServer></emailProvider></clientConfig>"
    )
    WELL = {"^/$": "HTTP/1.1 200 OK\n\nPage.", "config-v1.1.xml": f"HTTP/1.1 200 OK\n\n{DOCUMENT}"}

    def ask(
        self,
        tls: ssl.SSLContext,
        certificates: Certificates,
        answers: t.Dict[str, str],
        names: t.Sequence[str] = ("192.0.2.1",),
        own: str = "192.0.2.1",
        further: t.Sequence[str] = (),
        webmail: bool = False,
    ) -> t.List[Record]:
        server = Service(Http, "", Mailbox(), answers, tls, True)
        settings = Settings(
            host=HOST,
            address="127.0.0.1",
            ports={"autoconfig": server.port},
            context=trust(certificates.ca, None),
            timeout=2.0,
            mailbox=LOGIN,
            names=further,
            webmail=webmail,
        )
        one = Autoconfig(settings, Shared("", b""), Addresses([own], []), lambda name, _family: list(names))
        # the connection goes to this machine all the same
        one.connect = lambda: connect("127.0.0.1", server.port, 2.0)  # type: ignore[method-assign]
        one.settings = settings._replace(address="192.0.2.1")
        one.start()
        one.join()
        assert one.crash is None
        return one.records

    def test_well(self, tls: ssl.SSLContext, certificates: Certificates) -> None:
        records = self.ask(tls, certificates, self.WELL)
        assert [(record.step, record.verdict) for record in records] == [(step, "ok") for step in Autoconfig.STEPS]
        assert records[3].seen == "imap 993, smtp 587, smtp 465"

    @pytest.mark.parametrize(
        ("answer", "verdict"),
        [
            ('200 OK\n\n<input type="password" name="_pass">', ("ok", "")),
            ("502 Bad Gateway\n\n<h1>502</h1>", ("fail", "webmail-down")),
            # another site, or an error page that says that all is well
            ("200 OK\n\nOops", ("fail", "webmail-down")),
        ],
    )
    def test_webmail(
        self, tls: ssl.SSLContext, certificates: Certificates, answer: str, verdict: t.Tuple[str, str]
    ) -> None:
        last = self.ask(tls, certificates, {**self.WELL, "/webmail/": f"HTTP/1.1 {answer}"}, webmail=True)[-1]
        assert (last.step, last.verdict, last.diagnosis) == ("webmail", *verdict)

    @pytest.mark.parametrize(
        "document",
        [
            DOCUMENT.replace("mail.example.test", "old.example.test"),
            DOCUMENT.replace("587", "25"),
            DOCUMENT.replace("STARTTLS", "plain"),
            "<html>Welcome to nginx!</html>",
            "",
        ],
    )
    def test_something_else_is_said(self, tls: ssl.SSLContext, certificates: Certificates, document: str) -> None:
        answers = {**self.WELL, "config-v1.1.xml": f"HTTP/1.1 200 OK\n\n{document}"}
        assert found(self.ask(tls, certificates, answers)) == [("fail", "MUA", "autoconfig-wrong")]

    def test_another_name_of_the_server(self, tls: ssl.SSLContext, certificates: Certificates) -> None:
        document = self.DOCUMENT.replace("mail.example.test", "mail.example.org")
        answers = {**self.WELL, "config-v1.1.xml": f"HTTP/1.1 200 OK\n\n{document}"}
        assert found(self.ask(tls, certificates, answers, further=["imap.example.org", "mail.example.org"])) == []

    def test_nothing_is_said(self, tls: ssl.SSLContext, certificates: Certificates) -> None:
        assert found(self.ask(tls, certificates, {})) == [("fail", "MUA", "autoconfig-wrong")]

    def test_it_is_not_http(self, tls: ssl.SSLContext, certificates: Certificates) -> None:
        records = self.ask(tls, certificates, {"/": "220 mail ESMTP"})
        assert found(records) == [("fail", "MUA", "service-confused")]

    @pytest.mark.parametrize("names", [[], ["198.51.100.7"]])
    def test_the_name_leads_nowhere(self, tls: ssl.SSLContext, certificates: Certificates, names: t.List[str]) -> None:
        records = self.ask(tls, certificates, self.WELL, names)
        assert found(records) == [("warn", "DNS", "autoconfig-name")]
        assert "autoconfig.example.test" in records[-1].seen

    def test_without_a_name_of_its_own_no_other_is_asked_for(
        self, tls: ssl.SSLContext, certificates: Certificates
    ) -> None:
        records = self.ask(tls, certificates, self.WELL, [], own="198.51.100.7")
        assert records[-1].verdict == "skip"

    def test_nginx_does_not_run(self, certificates: Certificates, tls: ssl.SSLContext) -> None:
        server = MailServer(tls, {}, closed=["autoconfig"])
        records = walk(server, certificates, ["autoconfig"])
        assert found(records) == [("warn", "MUA", "autoconfig-closed")]


def test_every_diagnosis_is_explained() -> None:
    explained = re.findall(r"(?m)^### (.+)$", (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8"))
    assert sorted(explained) == sorted(DIAGNOSES)


def test_every_link_leads_somewhere() -> None:
    text = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    assert set(re.findall(r"\(#([a-z0-9-]+)\)", text)) <= set(DIAGNOSES)


def test_every_diagnosis_can_be_made() -> None:
    utils = ROOT / "plugins/module_utils"
    sources = [*utils.glob("_probe/*.py"), *utils.glob("_inspect/*.py"), utils / "_dns" / "seen.py"]
    code = " ".join(path.read_text(encoding="utf-8") for path in sources if path.name != "diagnoses.py")
    assert [name for name in DIAGNOSES if f'"{name}"' not in code] == []


def test_components_are_the_words_of_the_field() -> None:
    words = {"", "MUA", "MSA", "MTA", "MDA", "MRA", "DNS", "network"}
    assert {diagnosis.component for diagnosis in DIAGNOSES.values()} <= words
