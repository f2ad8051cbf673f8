# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Runs on the controller.

"""Reports about a domain's mail in a mail's attachments: DMARC (RFC 7489, appendix C) and TLS (RFC 8460).

Anybody can send such a mail. What is read is limited in size, depth and number; XML with a document type, which could
define entities, is refused; an archive in an archive is not opened.
"""

import datetime
import email
import email.policy
import io
import ipaddress
import json
import re
import typing as t
import xml.parsers.expat
import zipfile
import zlib
from xml.etree import ElementTree as ET

#: Bytes of an attachment, also when it is unpacked. A large provider's report on a million mails has 5 MB.
LARGEST = 20000000
#: Files of an archive, and how deep elements lie in each other.
MOST_FILES, DEEPEST = 20, 20
#: Rows of one report.
MOST_ROWS = 100000


class ReportError(Exception):
    """Why something that looks like a report could not be read."""


class Row(t.NamedTuple):
    """Mails of one kind in one report. For TLS these are sessions."""

    kind: str  # dmarc | tls
    domain: str
    reporter: str
    #: what marks one report, however often it arrives
    identity: str
    #: the first second that it covers, since the epoch
    begin: int
    #: DMARC: the address that sent; TLS: the sending server's, if it is known
    source: str
    number: int
    good: bool
    #: DMARC: what the receiver did, and which check failed; TLS: the type of failure
    reason: str


def of_mail(data: bytes) -> t.List[Row]:
    """The rows of all reports in a mail. Empty if it has none. Raises ReportError."""
    found: t.List[Row] = []
    try:
        for part in email.message_from_bytes(data, policy=email.policy.compat32).walk():
            payload = part.get_payload(decode=True)
            if isinstance(payload, bytes):
                found += of_attachment(payload)
    except RecursionError as exc:
        raise ReportError("its parts lie too deep in each other") from exc
    return found


def of_attachment(data: bytes) -> t.List[Row]:
    """The content decides, not its type: senders write many. Raises ReportError."""
    if data[:2] == b"\x1f\x8b":
        return _of_text(gunzip(data))
    if data[:4] == b"PK\x03\x04":
        return [row for text in unzip(data) for row in _of_text(text)]
    return _of_text(data)


def gunzip(data: bytes) -> bytes:
    """Raises ReportError, also if it becomes too large."""
    unpacking = zlib.decompressobj(wbits=31)
    try:
        text = unpacking.decompress(data, LARGEST + 1)
    except zlib.error as exc:
        raise ReportError(f"the gzip file is damaged: {exc}") from exc
    if len(text) > LARGEST:
        raise ReportError(f"the gzip file has more than {LARGEST} bytes when it is unpacked")
    if not unpacking.eof:
        raise ReportError("the gzip file is cut off")
    return text


def unzip(data: bytes) -> t.List[bytes]:
    """Raises ReportError, also if the files become too large together."""
    left = LARGEST
    texts = []
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = [entry for entry in archive.infolist() if not entry.is_dir()]
            if len(entries) > MOST_FILES:
                raise ReportError(f"the zip file has more than {MOST_FILES} files")
            for entry in entries:
                with archive.open(entry) as file:
                    text = file.read(left + 1)
                left -= len(text)
                if left < 0:
                    raise ReportError(f"the zip file has more than {LARGEST} bytes when it is unpacked")
                texts.append(text)
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, OSError, EOFError, ValueError) as exc:
        # RuntimeError: it is encrypted
        raise ReportError(f"the zip file can't be unpacked: {exc}") from exc
    return texts


def _of_text(text: bytes) -> t.List[Row]:
    start = text[:200].lstrip(b"\xef\xbb\xbf \t\r\n")
    if text[:2] == b"\x1f\x8b" or text[:4] == b"PK\x03\x04":
        raise ReportError("an archive in an archive is not opened")
    if start[:1] == b"{":
        return tls(text)
    if start[:1] == b"<":
        return dmarc(text)
    return []


# -- DMARC --------------------------------------------------------------------------------------------------------


def xml_tree(text: bytes) -> ET.Element:
    """The document without namespaces. Raises ReportError."""
    if len(text) > LARGEST:
        raise ReportError(f"the XML has more than {LARGEST} bytes")
    builder = ET.TreeBuilder()
    parser = xml.parsers.expat.ParserCreate(namespace_separator="}")
    depth = 0

    def start(tag: str, attributes: t.Dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > DEEPEST:
            raise ReportError(f"the XML has elements that lie more than {DEEPEST} deep in each other")
        builder.start(tag.rpartition("}")[2], attributes)

    def end(tag: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(tag.rpartition("}")[2])

    def refuse(*_arguments: t.Any) -> None:
        raise ReportError("the XML has a document type, which no report needs")

    parser.buffer_text = True
    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler = builder.data
    parser.StartDoctypeDeclHandler = parser.EntityDeclHandler = refuse
    try:
        parser.Parse(text, True)
        return builder.close()
    except (xml.parsers.expat.ExpatError, LookupError, ValueError, AssertionError) as exc:
        raise ReportError(f"the XML is broken: {exc}") from exc


def dmarc(text: bytes) -> t.List[Row]:
    """The rows of an aggregate report; none if the XML is something else. Raises ReportError."""
    try:
        root = xml_tree(text)
    except ReportError:
        if b"<feedback" in text[:1000]:
            raise
        return []
    if root.tag != "feedback":
        return []
    records = root.findall("record")
    if len(records) > MOST_ROWS:
        raise ReportError(f"the report has more than {MOST_ROWS} rows")
    try:
        begin = _moment(int(_text(root, "report_metadata/date_range/begin")))
        reporter = _short(_text(root, "report_metadata/org_name"))
        identity = _short(_text(root, "report_metadata/report_id"))
        domain = _short(_text(root, "policy_published/domain")).lower()
        return [_dmarc_row(record, domain, reporter, identity, begin) for record in records]
    except ValueError as exc:
        raise ReportError(f"the report lacks something, or has an unusual value: {exc}") from exc


def _dmarc_row(record: ET.Element, domain: str, reporter: str, identity: str, begin: int) -> Row:
    source = str(ipaddress.ip_address(_text(record, "row/source_ip")))
    count = max(int(_text(record, "row/count")), 0)
    results = {name: record.findtext(f"row/policy_evaluated/{name}", "").strip() for name in ("dkim", "spf")}
    good = "pass" in results.values()
    did = _short(record.findtext("row/policy_evaluated/disposition", "none").strip())
    reason = ", ".join([f"{name} {result or 'none'}" for name, result in results.items()] + [did])
    return Row("dmarc", domain, reporter, identity, begin, source, count, good, "" if good else _short(reason))


def _text(element: ET.Element, path: str) -> str:
    found = element.findtext(path)
    if not found or not found.strip():
        raise ValueError(f"{path.rpartition('/')[2]} is missing")
    return found.strip()


def _short(text: str) -> str:
    """Text of strangers for one line of a terminal."""
    return "".join(letter for letter in text[:100] if letter.isprintable())


def _moment(seconds: int) -> int:
    if not 0 < seconds < 32000000000:
        raise ValueError(f"{seconds} is no time")
    return seconds


# -- TLS ----------------------------------------------------------------------------------------------------------


def tls(text: bytes) -> t.List[Row]:
    """The rows of a report about TLS; none if the JSON is something else. Raises ReportError."""
    try:
        report = json.loads(text)
    except (ValueError, RecursionError) as exc:
        if b"policies" in text[:10000]:
            raise ReportError(f"the JSON is broken: {exc}") from exc
        return []
    if not isinstance(report, dict) or "policies" not in report:
        return []
    try:
        begin = _moment(_seconds(str(report["date-range"]["start-datetime"])))
        head = (_short(str(report.get("organization-name", ""))), _short(str(report["report-id"])), begin)
        return [row for policy in report["policies"][:MOST_ROWS] for row in _tls_rows(policy, *head)]
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError) as exc:
        raise ReportError(f"the report lacks something, or has an unusual value: {exc!r}") from exc


def _seconds(moment: str) -> int:
    """A moment of RFC 3339 in seconds since 1970. Raises ValueError."""
    found = re.match(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.\d+)?(?:Z|([-+]\d\d):(\d\d))$", moment, re.IGNORECASE)
    if not found:
        raise ValueError(f"no moment: {moment[:50]}")
    time, hours, minutes = found.groups()
    # Python 3.6 knows zones without a colon only
    with_zone = f"{time.upper()}{hours or '+00'}{minutes or '00'}"
    return int(datetime.datetime.strptime(with_zone, "%Y-%m-%dT%H:%M:%S%z").timestamp())


def _tls_rows(policy: t.Dict[str, t.Any], reporter: str, identity: str, begin: int) -> t.Iterator[Row]:
    domain = _short(str(policy["policy"]["policy-domain"])).lower()
    good = int(policy["summary"]["total-successful-session-count"])
    if good > 0:
        yield Row("tls", domain, reporter, identity, begin, "", good, True, "")
    told = 0
    for failure in list(policy.get("failure-details") or [])[:MOST_ROWS]:
        count = max(int(failure.get("failed-session-count", 0)), 0)
        told += count
        source = _short(str(failure.get("sending-mta-ip", "")))
        yield Row("tls", domain, reporter, identity, begin, source, count, False, _short(str(failure["result-type"])))
    rest = int(policy["summary"]["total-failure-session-count"]) - told
    if rest > 0:
        yield Row("tls", domain, reporter, identity, begin, "", rest, False, "no reason given")
