# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reports in the shapes that providers give them, and mails that only look like reports."""

import email.message
import gzip
import io
import json
import time
import tracemalloc
import typing as t
import zipfile
import zlib

import pytest
from ansible_collections.port587.mail.plugins.module_utils._reports import parse, summary

#: 2026-11-20, 00:00 UTC
BEGIN = 1795132800

ROW = """  <record>
    <row>
      <source_ip>{ip}</source_ip>
      <count>{count}</count>
      <policy_evaluated><disposition>{did}</disposition><dkim>{dkim}</dkim><spf>{spf}</spf></policy_evaluated>
    </row>
    <identifiers><header_from>example.com</header_from></identifiers>
    <auth_results><spf><domain>example.com</domain><result>{spf}</result></spf></auth_results>
  </record>
"""
GOOD = ROW.format(ip="192.0.2.1", count=3, did="none", dkim="pass", spf="pass")
FORGED = ROW.format(ip="2001:DB8::1", count=2, did="quarantine", dkim="fail", spf="fail")

REPORT = """<?xml version="1.0" encoding="UTF-8" ?>
<feedback{attributes}>
  <report_metadata>
    <org_name>{reporter}</org_name>
    <email>noreply@example.net</email>
    <report_id>{identity}</report_id>
    <date_range><begin>{begin}</begin><end>{end}</end></date_range>
  </report_metadata>
  <policy_published><domain>example.com</domain><adkim>r</adkim><p>quarantine</p><pct>100</pct></policy_published>
{rows}</feedback>
"""


def dmarc(rows: str = GOOD + FORGED, attributes: str = "", reporter: str = "google.com", begin: int = BEGIN) -> bytes:
    values = {"attributes": attributes, "reporter": reporter, "identity": "17", "begin": begin, "end": begin + 86399}
    return REPORT.format(rows=rows, **values).encode()


TLS = {
    "organization-name": "Company-X",
    "date-range": {"start-datetime": "2026-11-20T00:00:00Z", "end-datetime": "2026-11-20T23:59:59Z"},
    "contact-info": "sts-reporting@company-x.example",
    "report-id": "5065427c-23d3-47ca-b6e0-946ea0e8c4be",
    "policies": [
        {
            "policy": {"policy-type": "sts", "policy-domain": "example.com"},
            "summary": {"total-successful-session-count": 5326, "total-failure-session-count": 303},
            "failure-details": [
                {"result-type": "certificate-expired", "sending-mta-ip": "2001:db8::2", "failed-session-count": 100},
                {"result-type": "starttls-not-supported", "failed-session-count": 200},
            ],
        }
    ],
}


def zipped(**files: bytes) -> bytes:
    with io.BytesIO() as file:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in files.items():
                archive.writestr(name + ".xml", content)
        return file.getvalue()


def mail(attachment: bytes, kind: str = "application/zip", alone: bool = False) -> bytes:
    message = email.message.EmailMessage()
    message["Subject"] = "Report domain: example.com Submitter: google.com Report-ID: 17"
    main, _slash, sub = kind.partition("/")
    if alone:
        message.set_content(attachment, main, sub, filename="google.com!example.com!1!2.zip")
    else:
        message.set_content("This is an aggregate report.\n")
        message.add_attachment(attachment, main, sub, filename="report")
    return message.as_bytes()


WANTED = [("192.0.2.1", 3, True, ""), ("2001:db8::1", 2, False, "dkim fail, spf fail, quarantine")]


def told(rows: t.Sequence[parse.Row]) -> t.List[t.Tuple[str, int, bool, str]]:
    return [(row.source, row.number, row.good, row.reason) for row in rows]


@pytest.mark.parametrize(
    "data",
    [
        # Google: the mail is the zip file
        mail(zipped(report=dmarc()), alone=True),
        # Microsoft: gzip, attached, and attributes for a schema
        mail(gzip.compress(dmarc(attributes=' xmlns:xsd="http://www.w3.org/2001/XMLSchema"')), "application/gzip"),
        # a default namespace, as the next version of DMARC has it
        mail(gzip.compress(dmarc(attributes=' xmlns="urn:ietf:params:xml:ns:dmarc-2.0"'))),
        # ours (rspamd): gzip
        mail(gzip.compress(dmarc(reporter="mail.example.org")), "application/gzip"),
        # plain, with a byte order mark; the type says nothing
        mail(b"\xef\xbb\xbf" + dmarc(), "application/octet-stream"),
        mail(zipped(report=dmarc()), "application/x-gzip"),
        mail(dmarc(), "image/png"),
    ],
)
def test_dmarc(data: bytes) -> None:
    rows = parse.of_mail(data)
    assert told(rows) == WANTED
    assert {(row.kind, row.domain, row.identity, row.begin) for row in rows} == {("dmarc", "example.com", "17", BEGIN)}


@pytest.mark.parametrize("pack", [gzip.compress, bytes])
def test_tls(pack: t.Callable[[bytes], bytes]) -> None:
    rows = parse.of_mail(mail(pack(json.dumps(TLS).encode()), "application/tlsrpt+gzip"))
    assert told(rows) == [
        ("", 5326, True, ""),
        ("2001:db8::2", 100, False, "certificate-expired"),
        ("", 200, False, "starttls-not-supported"),
        ("", 3, False, "no reason given"),
    ]
    assert {(row.kind, row.domain, row.begin) for row in rows} == {("tls", "example.com", BEGIN)}


def test_other_mails_have_no_reports() -> None:
    for attachment in (b"\x89PNG", b"", b"<html></html>", b"<html>&nbsp;<br>", b"{}", b'["policies"]', b"{broken"):
        assert parse.of_mail(mail(attachment)) == []
    assert parse.of_mail(b"\xff\x00 no mail at all") == []


def bomb(size: int = 50000000) -> bytes:
    packing = zlib.compressobj(9, wbits=31)
    chunk = b"<feedback>" + b" " * 999990
    return b"".join(packing.compress(chunk) for _ in range(size // len(chunk))) + packing.flush()


ENTITIES = (
    b'<?xml version="1.0"?>\n<!DOCTYPE feedback [<!ENTITY a "ha"><!ENTITY b "&a;&a;">]>\n<feedback>&b;</feedback>'
)


@pytest.mark.parametrize(
    ("attachment", "said"),
    [
        (dmarc()[:700], "the XML is broken"),
        (dmarc().replace(b"<source_ip>192.0.2.1", b"<source_ip>nobody"), "unusual value: 'nobody'"),
        (dmarc().replace(b"<count>3", b"<count>many"), "unusual value"),
        (dmarc().replace(b"<begin>1795132800</begin>", b""), "begin is missing"),
        (dmarc(begin=10**20), "is no time"),
        (ENTITIES, "document type"),
        (b"<feedback>" + b"<a>" * 100000, "lie more than 20 deep"),
        (gzip.compress(dmarc())[:-20], "cut off"),
        (gzip.compress(dmarc())[:40] + b"\x07" * 400, "damaged"),
        (zipped(report=dmarc())[:200], "can't be unpacked"),
        (zipped(report=zipped(report=dmarc())), "an archive in an archive"),
        (gzip.compress(gzip.compress(dmarc())), "an archive in an archive"),
        (zipped(**{"file%d" % number: b"" for number in range(21)}), "more than 20 files"),
        (json.dumps(TLS).encode()[:-3], "the JSON is broken"),
        (json.dumps({"policies": [1], "report-id": 1}).encode(), "lacks something"),
        (b'{"policies":' + b"[" * 200000, "the JSON is broken"),
    ],
)
def test_what_is_broken_is_refused(attachment: bytes, said: str) -> None:
    with pytest.raises(parse.ReportError, match=said):
        parse.of_mail(mail(attachment))


@pytest.mark.parametrize("attachment", [bomb(), zipped(report=b"<feedback>" + b" " * 50000000)], ids=["gzip", "zip"])
def test_a_bomb_takes_little_memory_and_time(attachment: bytes) -> None:
    tracemalloc.start()
    began = time.process_time()
    try:
        with pytest.raises(parse.ReportError, match="more than 20000000 bytes when it is unpacked"):
            parse.of_attachment(attachment)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # not the 50 MB that it would become
    assert most < 45000000
    assert time.process_time() - began < 30


def test_parts_in_parts() -> None:
    deep = b"".join(b'Content-Type: multipart/mixed; boundary="%d"\n\n--%d\n' % (n, n) for n in range(3000))
    with pytest.raises(parse.ReportError, match="too deep"):
        parse.of_mail(deep)


# -- what they say together ---------------------------------------------------------------------------------------


def test_a_summary() -> None:
    first, later = parse.dmarc(dmarc()), parse.dmarc(dmarc(FORGED, begin=BEGIN + 5 * 86400).replace(b">17<", b">18<"))
    found = summary.summary([first, later, first, parse.tls(json.dumps(TLS).encode())], ["192.0.2.1"])
    # a report that comes twice counts once
    assert found.reports == 3
    assert [(line.what, line.number, line.failed, line.own) for line in found.dmarc] == [
        ("2001:db8::1", 4, 4, False),
        ("192.0.2.1", 3, 0, True),
    ]
    assert found.days == {BEGIN: (3, 2), BEGIN + 5 * 86400: (0, 2)}
    text = summary.text(found, "mail.example.com")
    assert "2001:db8::1: 4 of 4 failed since 2026-11-20, last 2026-11-25: dkim fail, spf fail, quarantine" in text
    assert "192.0.2.1 (this server): 3 passed" in text
    assert "starttls-not-supported: 200 of 200 failed since 2026-11-20" in text
    assert "Mail of this server failed" not in text
    assert "Mail of this server failed" in summary.text(summary.summary([first], ["2001:db8::1"]), "mail.example.com")
    assert "no reports yet" in summary.text(summary.summary([], []), "mail.example.com")


def test_the_page_holds_no_markup_of_strangers() -> None:
    evil = "&lt;script&gt;alert(1)&lt;/script&gt;"
    rows = parse.dmarc(dmarc(reporter=evil, rows=GOOD.replace("<disposition>none", "<disposition>" + evil) + FORGED))
    found = summary.summary([rows], [], [("<b>Report domain</b>", "<i>broken</i>")])
    page = summary.page(found, "mail.example.com", "today")
    assert "<script>" not in page
    assert "<b>" not in page
    assert "<i>" not in page
    assert page.count('<rect class="ok"') == page.count('<rect class="fail"') == 1
    assert "2026-11-20: 3 passed, 2 failed" in page


def test_words_of_strangers_do_not_steer_a_terminal() -> None:
    rows = parse.dmarc(dmarc(reporter="a\u202eb\u009b2Jc"))
    assert {row.reporter for row in rows} == {"ab2Jc"}
