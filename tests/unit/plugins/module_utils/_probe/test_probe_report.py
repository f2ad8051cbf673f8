# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A probe's result as a text, for programs, and for CI."""

import base64
import hashlib
import json
import re
import typing as t
import xml.etree.ElementTree as ET

import pytest
from ansible_collections.port587.mail.plugins.module_utils._probe import files, report
from ansible_collections.port587.mail.plugins.module_utils._probe.diagnoses import DIAGNOSES, DOC
from ansible_collections.port587.mail.plugins.module_utils._probe.join import join
from ansible_collections.port587.mail.plugins.module_utils._probe.probe import STANDARD_PORTS, WALKS
from ansible_collections.port587.mail.plugins.module_utils._probe.records import (
    INSIDE,
    ON_THE_SERVER,
    Record,
    findings,
    overall,
)
from repository import ROOT

WHEN = "2026-01-02T03:04:05+0000"


def result(**wrong: t.Tuple[str, str, str]) -> t.Dict[str, t.Any]:
    """All well, but for these services: verdict, diagnosis and what was seen at their first step."""
    records = []
    for service, walk in WALKS.items():
        for number, step in enumerate(walk.STEPS):
            verdict, diagnosis, seen = wrong.get(service, ("ok", "", "fine")) if number == 0 else ("ok", "", "fine")
            port = STANDARD_PORTS.get(service, 465)
            records.append(Record(service, step, walk.COMPONENT, "192.0.2.1", port, verdict, seen, diagnosis))
    return {
        "host": "mail.example.test",
        "address": "192.0.2.1",
        "ports": STANDARD_PORTS,
        "login": "eve@example.test",
        "verdict": overall(records),
        "findings": findings(records),
        "records": [record.to_dict() for record in records],
        "seconds": 1.23,
    }


CLOSED = ("fail", "submission-closed", "connection refused")
HTML = ("fail", "mail-refused", "<script>alert('you')</script> & so on")


def test_all_well_fits_on_a_screen() -> None:
    text = report.verdict(result()) + "\n\n" + report.client_settings(result(), "mail.example.test")
    assert text.startswith("mail.example.test (192.0.2.1): well, ")
    assert len(text.splitlines()) <= 24
    assert max(len(line) for line in text.splitlines()) <= 100


def test_what_fails_comes_first_with_its_cure() -> None:
    text = report.verdict(result(submission=CLOSED))
    head, blank, finding, *_rest = text.splitlines()
    assert "NOT WELL" in head
    assert not blank
    assert finding.startswith("  FAIL MSA ")
    assert "docs/troubleshooting.md#submission-closed" in text
    assert text.index("cure") < text.index("  MRA  993 IMAP")


def test_one_sentence() -> None:
    sentence = report.sentence(result(submission=CLOSED)["findings"][0])
    assert sentence.startswith("MSA: Postfix's service on port 587 is not enabled")
    assert "Seen: connection refused (192.0.2.1 port 587). Cure: enable the service" in sentence


def test_a_warning_is_no_failure() -> None:
    found = result(pop3s=("warn", "retrieval-closed", "connection refused"))
    assert found["verdict"] == "warn"
    assert ": well, with 1 warning, " in report.headline(found)


@pytest.mark.parametrize(
    "line",
    [
        "Incoming  IMAP  mail.example.test  port 993   SSL/TLS   normal password",
        "Outgoing  SMTP  mail.example.test  port 587   STARTTLS  normal password",
        "or  SMTP  mail.example.test  port 465   SSL/TLS   normal password",
        "or  POP3  mail.example.test  port 995   SSL/TLS   normal password",
        "User name for both: eve@example.test.",
    ],
)
def test_what_to_type_into_a_mail_client(line: str) -> None:
    assert line in report.client_settings(result(), "mail.example.test")


def test_only_what_works_is_offered() -> None:
    found = result(pop3s=("warn", "retrieval-closed", "connection refused"))
    assert "POP3" not in report.client_settings(found, "mail.example.test")


def test_json() -> None:
    facts = json.loads(files.to_json(dict(result(submission=CLOSED), invocation="a secret"), WHEN))
    assert facts["verdict"] == "fail"
    assert facts["findings"][0]["diagnosis"] == "submission-closed"
    assert "invocation" not in facts


def test_junit() -> None:
    suite = ET.fromstring(files.to_junit(result(submission=CLOSED, smtp=HTML), WHEN))
    cases = suite.findall("testcase")
    assert (suite.get("failures"), suite.get("tests")) == ("2", str(len(cases)))
    failed = [case.get("classname") for case in cases if case.find("failure") is not None]
    assert failed == ["submission", "smtp"]


def test_html() -> None:
    page = files.to_html(result(smtp=HTML), WHEN, "mail.example.test")
    assert "<script>alert" not in page
    assert "&lt;script&gt;" in page
    # it stands alone, so that it can be mailed: all that it names are pages to read
    assert "src=" not in page
    assert "<link" not in page
    assert set(re.findall(r'href="([^"]*)"', page)) == {DOC + "mail-refused"}


def test_html_of_a_healthy_server_says_what_to_type_in() -> None:
    assert "<td>993<td>SSL/TLS" in files.to_html(result(), WHEN, "mail.example.test")
    assert "<td>993<td>SSL/TLS" not in files.to_html(result(smtp=HTML), WHEN, "mail.example.test")


def test_html_says_its_own_words_in_both_languages() -> None:
    page = files.to_html(result(smtp=HTML, imap=("skip", "", "no password")), WHEN, "mail.example.test")
    assert page.count('<span lang="en">') == page.count('<span lang="ja">')
    for word in ("Services", "サービス", "partly tried", "一部未実施", "異常あり"):
        assert word in page


def test_the_pages_that_are_named_can_be_reached() -> None:
    """Not by a path in a checkout, which an installed collection is not."""
    galaxy = (ROOT / "galaxy.yml").read_text(encoding="utf-8")
    documentation = re.search(r"^documentation: (\S+)$", galaxy, re.MULTILINE)
    assert documentation
    assert documentation.group(1) + "/troubleshooting.md#" == DOC
    headings = re.findall(
        r"^#+ (\S+)$", (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert set(DIAGNOSES) <= {heading.strip("`") for heading in headings}


def test_ok_is_not_said_of_what_was_not_tried() -> None:
    found = result(imaps=("skip", "", "no password"))
    assert report.headline(found).endswith(f": well, {len(found['records']) - 1} steps in 1.2 s, 1 not tried")
    row = next(row for row in report.rows(found) if "993" in row.label)
    assert (row.state, row.seen) == ("partly", "not tried: connect (no password)")


def test_a_server_that_nobody_could_look_into() -> None:
    found = join(result(), [{"unreachable": True, "msg": "Failed to connect to the host via ssh: Permission denied"}])
    row = report.rows(found)[-1]
    assert (row.label, row.state) == ("inside the server", "skip")
    assert "Permission denied" in row.seen


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        (
            ["postfix runs", "socket lmtp", "tables", "queue", "disk", "clock"],
            "programs, sockets, tables, queue, disks and clock are in order",
        ),
        (["postfix runs", "disk"], "programs and disks are in order"),
        (["memory"], "what was looked at is in order"),
    ],
)
def test_only_what_was_looked_at_is_in_order(steps: t.List[str], said: str) -> None:
    records = [Record(INSIDE, step, "", ON_THE_SERVER, 0, "ok", "").to_dict() for step in steps]
    assert report.rows(join(result(), [{"records": records}]))[-1].seen == said


AUTHORITY = report.Authority(
    "/home/eve/port587/mail.example.test/ca.crt", "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
)


def test_a_ca_that_nobody_knows_has_to_be_imported() -> None:
    text = report.client_settings(result(), "mail.example.test", AUTHORITY)
    assert "import the certificate of the server's own authority (CA)" in text
    assert "\n  /home/eve/port587/mail.example.test/ca.crt\n" in text
    shown = "".join(text.partition("SHA-256 fingerprint: ")[2].split())
    assert shown == AUTHORITY.fingerprint()
    # of the three bytes that stand there in Base64
    assert shown.replace(":", "").lower() == hashlib.sha256(b"\x30\x82\x01").hexdigest()
    assert "import" not in report.client_settings(result(), "mail.example.test")


def test_html_has_the_ca_in_it() -> None:
    page = files.to_html(result(), WHEN, "mail.example.test", AUTHORITY)
    data = re.search('download="mail.example.test-ca.crt" href="data:application/x-x509-ca-cert;base64,([^"]+)"', page)
    assert data
    assert base64.b64decode(data.group(1)).decode("ascii") == AUTHORITY.pem
    assert "x509" not in files.to_html(result(submission=CLOSED), WHEN, "mail.example.test", AUTHORITY)
