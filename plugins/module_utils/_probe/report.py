# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# May run on any vantage host: Python 3.6 and the standard library only.

"""The text report: the verdict, and the settings for a mail client."""

import hashlib
import ssl
import textwrap
import typing as t

from ansible_collections.port587.mail.plugins.module_utils._probe.autoconfig import Autoconfig
from ansible_collections.port587.mail.plugins.module_utils._probe.dns import Dns
from ansible_collections.port587.mail.plugins.module_utils._probe.probe import WALKS
from ansible_collections.port587.mail.plugins.module_utils._probe.records import INSIDE, ON_THE_SERVER

_WIDTH = 100


class Inside:
    """The line for what was seen on the server itself."""

    COMPONENT = ""
    LABEL = "inside the server"
    #: Descriptions of good results, by a word in the steps: only checked parts are named.
    KINDS = (
        ("programs", "runs"),
        ("sockets", "socket"),
        ("tables", "tables"),
        ("queue", "queue"),
        ("disks", "disk"),
        ("clock", "clock"),
    )

    @classmethod
    def well(cls, steps: t.Sequence[str]) -> str:
        """In a report, when every step was good."""
        *first, last = [kind for kind, word in cls.KINDS if any(word in step for step in steps)] or [
            "what was looked at"
        ]
        return f"{', '.join(first)} and {last} are in order" if first else f"{last} is in order"


_SERVICES: t.Dict[str, t.Any] = dict([("dns", Dns)], **WALKS, autoconfig=Autoconfig, **{INSIDE: Inside})


def sentence(finding: t.Dict[str, t.Any]) -> str:
    """The finding, its part of the mail system first."""
    return f"{finding['component']}: {finding['cause']}. Seen: {seen(finding)}. Cure: {finding['cure']}."


def seen(finding: t.Dict[str, t.Any]) -> str:
    """The observation and its place: the address once, and its ports."""
    ports: t.Dict[str, t.List[str]] = {}
    for endpoint in finding["endpoints"]:
        address, _sep, port = (endpoint, "", "") if endpoint == ON_THE_SERVER else endpoint.rpartition(":")
        ports.setdefault(address, []).append(port)
    where = "; ".join(
        address if address == ON_THE_SERVER else f"{address} port {', '.join(numbers)}"
        for address, numbers in ports.items()
    )
    return f"{finding['seen']} ({where})"


def more(finding: t.Dict[str, t.Any]) -> t.List[t.Tuple[str, str]]:
    """Further details, each with a label."""
    parts = [("inside", text) for text in finding.get("inside", ())[:3]]
    parts += [("hence", text) for text in finding.get("hence", ())[:3]]
    return parts + ([("log", finding["log"])] if finding.get("log") else [])


class Headline(t.NamedTuple):
    """The words of the first line, in one language."""

    well: str
    warnings: str
    not_well: str
    steps: str
    not_tried: str


ENGLISH = Headline("well", "well, with {} warning(s)", "NOT WELL", "{}: {}, {} steps in {:.1f} s", ", {} not tried")
JAPANESE = Headline("正常", "正常（警告 {} 件）", "異常あり", "{}: {}、{} 項目を {:.1f} 秒で確認", "、未実施 {} 項目")


def headline(result: t.Dict[str, t.Any], words: Headline = ENGLISH) -> str:
    server = result["host"]
    if result["address"] != server:
        server += f" ({result['address']})"
    failures = sum(finding["verdict"] == "fail" for finding in result["findings"])
    warnings = len(result["findings"]) - failures
    state = words.well
    if failures:
        state = words.not_well
    elif warnings:
        state = words.warnings.format(warnings).replace("(s)", "s" if warnings > 1 else "")
    skipped = sum(record["verdict"] == "skip" for record in result["records"])
    line = words.steps.format(server, state, len(result["records"]) - skipped, result["seconds"])
    return line + (words.not_tried.format(skipped) if skipped else "")


def verdict(result: t.Dict[str, t.Any]) -> str:
    """A table, after the findings if there are any."""
    lines = [headline(result), ""]
    for finding in result["findings"]:
        lines += _finding(finding)
    for row in rows(result):
        said = textwrap.shorten(row.seen, _WIDTH - 22, placeholder=" ...")
        lines.append(f"  {row.component:4} {row.label:20} {row.state:6}  {said}")
    return "\n".join(lines)


def _finding(finding: t.Dict[str, t.Any]) -> t.List[str]:
    parts = [
        (f"{finding['verdict'].upper()} {finding['component']}", finding["cause"]),
        ("seen", seen(finding)),
        *more(finding),
        ("cure", finding["cure"]),
        ("more", finding["doc"]),
    ]
    lines: t.List[str] = []
    for label, text in parts:
        # a link stays in one piece
        lines += textwrap.wrap(
            text,
            _WIDTH,
            initial_indent=f"  {label:13}",
            subsequent_indent=" " * 15,
            break_long_words=False,
            break_on_hyphens=False,
        )
    return lines + [""]


class Row(t.NamedTuple):
    """One service in one line."""

    component: str
    label: str
    state: str
    seen: str


def rows(result: t.Dict[str, t.Any]) -> t.List[Row]:
    found = []
    for service, walk in _SERVICES.items():
        records = [record for record in result["records"] if record["service"] == service]
        if records:
            port = result["ports"].get(service)
            label = f"{port} {walk.LABEL}" if port else walk.LABEL
            found.append(Row(walk.COMPONENT, label, *_in_one_line(walk, records)))
    return found


def _in_one_line(walk: t.Any, records: t.List[t.Dict[str, t.Any]]) -> t.Tuple[str, str]:
    """The state of a service, and its most important detail."""
    worst = min(records, key=lambda record: ("fail", "warn", "skip", "ok").index(record["verdict"]))
    state = worst["verdict"]
    if state == "ok":
        return state, Inside.well([record["step"] for record in records]) if walk is Inside else walk.WELL
    if state == "skip" and any(record["verdict"] == "ok" for record in records):
        skipped = [record["step"] for record in records if record["verdict"] == "skip"]
        return "partly", f"not tried: {', '.join(skipped)} ({worst['seen']})"
    return state, f"{worst['step']}: {worst['seen']}"


#: The label in mail clients, the protocol, the service, and the kind of security.
_OFFERS = (
    ("Incoming", "IMAP", "imaps", "SSL/TLS"),
    ("or", "POP3", "pop3s", "SSL/TLS"),
    ("Outgoing", "SMTP", "submission", "STARTTLS"),
    ("or", "SMTP", "submissions", "SSL/TLS"),
)


class Offer(t.NamedTuple):
    """One way to read or send mail."""

    what: str
    protocol: str
    port: int
    security: str


class Authority(t.NamedTuple):
    """A CA that mail clients do not know."""

    path: str
    pem: str

    def fingerprint(self) -> str:
        digest = hashlib.sha256(ssl.PEM_cert_to_DER_cert(self.pem)).hexdigest().upper()
        return ":".join(digest[at : at + 2] for at in range(0, len(digest), 2))


def offers(result: t.Dict[str, t.Any]) -> t.List[Offer]:
    """The working services for a mail client."""
    steps = result["records"]
    works = {step["service"] for step in steps if step["step"] == "connect" and step["verdict"] == "ok"}
    return [
        Offer(what, protocol, result["ports"][service], security)
        for what, protocol, service, security in _OFFERS
        if service in works
    ]


def client_settings(result: t.Dict[str, t.Any], server: str, authority: t.Optional[Authority] = None) -> str:
    """The settings for a mail client, and the CA to import first."""
    user = result["login"] or "the full mail address"
    lines = ["What to type into a mail client:", ""]
    for offer in offers(result):
        where = f"{server}  port {offer.port:<5} {offer.security:8}"
        lines.append(f"  {offer.what:>8}  {offer.protocol}  {where}  normal password")
    lines += ["", f"  User name for both: {user}. Password: the account's."]
    if authority:
        lines += ["", "  First of all, import the certificate of the server's own authority (CA) into the client:"]
        # as a client shows it; in two lines, since it is long
        digest = authority.fingerprint()
        lines += [f"  {authority.path}", f"  SHA-256 fingerprint: {digest[:48]}", f"{digest[48:]:>71}"]
    return "\n".join(lines)
