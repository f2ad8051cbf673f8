# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whole walks into servers that say anything, and reports of anything that was seen."""

import ssl
import typing as t
import xml.etree.ElementTree as ET

import pytest
from ansible_collections.port587.mail.plugins.module_utils._probe import files, report
from ansible_collections.port587.mail.plugins.module_utils._probe.autoconfig import Autoconfig, offers
from ansible_collections.port587.mail.plugins.module_utils._probe.diagnoses import DIAGNOSES
from ansible_collections.port587.mail.plugins.module_utils._probe.dns import Addresses
from ansible_collections.port587.mail.plugins.module_utils._probe.join import join
from ansible_collections.port587.mail.plugins.module_utils._probe.message import clock_difference, compose, difference
from ansible_collections.port587.mail.plugins.module_utils._probe.probe import STANDARD_PORTS, WALKS
from ansible_collections.port587.mail.plugins.module_utils._probe.records import Record
from ansible_collections.port587.mail.plugins.module_utils._probe.walk import Settings, Shared, Walk
from authority import HOST
from fuzzing import bytes_of, text_of, wire
from hypothesis import given, settings
from hypothesis import strategies as st

TOKEN = "0123456789abcdef"
SETTINGS = Settings(
    host=HOST,
    address="192.0.2.1",
    ports=STANDARD_PORTS,
    context=ssl.create_default_context(),
    delivery_timeout=0.0,
    login="eve@example.test",
    password="s3cret of eve",
    mailbox="eve@example.test",
    domain="example.test",
)
MESSAGE = compose(SETTINGS.mailbox, TOKEN)

SMTP = [
    b"220 hello\r\n",
    b"250-x\r\n",
    b"250-STARTTLS\r\n",
    b"250 AUTH PLAIN LOGIN\r\n",
    b"250 ok\r\n",
    b"354 go on\r\n",
    b"334 \r\n",
    b"235 in\r\n",
    b"454 4.7.0 no\r\n",
    b"554 no\r\n",
    b"\0\x1b[31m",
    b"s3cret of eve",
]
IMAP = [
    b"* OK [CAPABILITY IMAP4rev1] x\r\n",
    b"* CAPABILITY STARTTLS LOGINDISABLED\r\n",
    b"* 3 EXISTS\r\n",
    b"* SEARCH 7 8\r\n",
    b"* SEARCH x\r\n",
    b"* OK [UIDNEXT 99999999999999] x\r\n",
    b'* LIST () "/" "a"\r\n',
    b"* LIST () NIL {3}\r\nabc\r\n",
    b"+ \r\n",
    b"* 1 FETCH (BODY[] {%d}\r\n%s)\r\n" % (len(MESSAGE), MESSAGE),
]
IMAP += [b"p%d OK done\r\n" % number for number in range(1, 8)] + [b"p3 NO no\r\n"]
POP3 = [
    b"+OK 3 99\r\n",
    b"+OK\r\n",
    b"+ \r\n",
    b"-ERR no\r\n",
    b".\r\n",
    b"USER\r\n",
    b"STLS\r\n",
    b"SASL PLAIN\r\n",
    MESSAGE,
]
SIEVE = [b'"STARTTLS"\r\n', b'"SASL" "PLAIN"\r\n', b'OK "x"\r\n', b'NO "x"\r\n']
HTTP = [b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 404 no\r\n", b'<incomingServer type="imap">', b"<port>993</port>"]
SAID = {
    "submission": SMTP,
    "submissions": SMTP,
    "smtp": SMTP,
    "imaps": IMAP,
    "imap": IMAP,
    "pop3s": POP3,
    "pop3": POP3,
    "sieve": SIEVE,
    "autoconfig": HTTP,
}


def through(kind: t.Callable[[Shared], Walk], said: bytes) -> Walk:
    """A walk in which the server says this on each connection, and the other walks have found all well."""
    shared = Shared(TOKEN, MESSAGE)
    for promise, answer in (
        (shared.smtp_login, "accepted"),
        (shared.imap_login, "accepted"),
        (shared.mailbox, "open"),
        (shared.sending, "sent"),
        (shared.imap_found, "found"),
        (shared.pop3_done, "done"),
    ):
        promise.tell(answer)
    one: t.Any = kind(shared)
    one.connect = lambda: wire(said)
    one.start_tls = lambda wire: one.begin("certificate", wire) or one.ok()
    one.get = one.get if isinstance(one, Autoconfig) else None
    one.run()
    return t.cast(Walk, one)


@pytest.mark.parametrize("service", list(SAID))
def test_a_walk(service: str) -> None:
    kind: t.Any = WALKS.get(service, Autoconfig)
    more = [Addresses([], [])] if kind is Autoconfig else []

    @settings(max_examples=settings.default.max_examples // 2)
    @given(bytes_of(*SAID[service]))
    def check(said: bytes) -> None:
        one = through(lambda shared: kind(SETTINGS, shared, *more), said)
        assert one.crash is None
        assert {record.step for record in one.records} == set(one.STEPS)
        for record in one.records:
            assert len(record.seen) <= 300
            assert record.seen.isprintable()
            assert SETTINGS.password not in record.seen
            assert record.to_dict()["doc"] or record.verdict in ("ok", "skip")

    check()


@given(
    text_of(
        '<incomingServer type="imap">', "<outgoingServer ", "<port>", "</port>", " ", "993", "</incomingServer>", "<a"
    )
)
def test_a_document_of_settings(document: str) -> None:
    for _kind, _host, port, _security in offers(document):
        assert 0 <= port <= 99999


WORD = st.text("abc.", min_size=1, max_size=9)


@given(st.lists(st.tuples(st.sampled_from(["imap", "smtp"]), WORD, st.integers(1, 65535), WORD), max_size=5))
def test_a_document_that_is_as_it_should_be(wanted: t.List[t.Tuple[str, str, int, str]]) -> None:
    document = "<clientConfig>"
    for kind, host, port, security in wanted:
        tag = "outgoingServer" if kind == "smtp" else "incomingServer"
        document += f'\n<{tag} type="{kind}">\n <hostname> {host} </hostname><port>{port}</port>\n'
        document += f"<socketType>{security}</socketType></{tag}>"
    assert offers(document) == wanted


@given(
    bytes_of(
        b"Received:", b"Received: x; ", b"Mon, 1 Jan 2024 00:00:00 +0000", b"; ", b" ", b"99999999999", b"\r\n", MESSAGE
    )
)
def test_a_message_that_came_back(received: bytes) -> None:
    assert isinstance(clock_difference(received), float)
    assert difference(MESSAGE, b"Received: x\r\n" + MESSAGE) == ""
    assert isinstance(difference(MESSAGE, received), str)


ANYTHING = st.text(max_size=30)


@given(
    st.lists(
        st.builds(
            Record,
            service=st.sampled_from([*WALKS, "dns", "inside", "autoconfig"]),
            step=st.sampled_from(["connect", "greeting", "login"]),
            component=st.sampled_from(["MSA", "MRA"]),
            address=st.sampled_from(["192.0.2.1", "2001:db8::1", "on the server"]),
            port=st.integers(0, 65535),
            verdict=st.sampled_from(["ok", "warn", "fail", "skip"]),
            seen=ANYTHING,
            diagnosis=st.sampled_from(list(DIAGNOSES)),
        ),
        min_size=1,
        max_size=6,
    ),
    ANYTHING,
)
def test_a_report(records: t.List[Record], log: str) -> None:
    """JUnit's XML and the page can be read, whatever was seen, and can be written to files."""
    # what is well or was not tried has no diagnosis
    well = [one._replace(diagnosis="") if one.verdict in ("ok", "skip") else one for one in records]
    result = {
        "host": HOST,
        "address": "192.0.2.1",
        "ports": STANDARD_PORTS,
        "login": "",
        "seconds": 1.0,
        "records": [record.to_dict() for record in well],
    }
    lines = [{"time": 1.0, "program": "postfix", "text": f"fatal: warning: TLS SASL lmtp {log}"}]
    whole = join(result, [{"records": [], "log": lines}])
    assert report.verdict(whole).encode()
    assert ET.fromstring(files.to_junit(whole, "now").partition("\n")[2])
    for text in (files.to_html(whole, "now", HOST), files.to_json(whole, "now")):
        assert text.encode()
