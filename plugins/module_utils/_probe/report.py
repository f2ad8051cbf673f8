# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# May run on any vantage host: Python 3.6 and the standard library only.

"""What a person reads: the verdict, and what to type into a mail client."""

import textwrap
import typing as t

from ansible_collections.port587.mail.plugins.module_utils._probe.dns import Dns
from ansible_collections.port587.mail.plugins.module_utils._probe.probe import WALKS

_WIDTH = 100


def sentence(finding: t.Dict[str, t.Any]) -> str:
    """The finding, its part of the mail system first."""
    return "{}: {}. Seen: {} ({}). Cure: {}.".format(
        finding["component"], finding["cause"], finding["seen"], ", ".join(finding["endpoints"]), finding["cure"],
    )  # fmt: skip


def verdict(result: t.Dict[str, t.Any]) -> str:
    """A table, after the findings if there are any."""
    lines = [_headline(result), ""]
    for finding in result["findings"]:
        lines += _finding(finding)
    for service, walk in [("dns", Dns)] + list(WALKS.items()):
        records = [record for record in result["records"] if record["service"] == service]
        if records:
            lines.append(_row(walk, records, result["ports"].get(service)))
    return "\n".join(lines)


def _headline(result: t.Dict[str, t.Any]) -> str:
    server = result["host"]
    if result["address"] != server:
        server += " ({})".format(result["address"])
    failures = sum(finding["verdict"] == "fail" for finding in result["findings"])
    warnings = len(result["findings"]) - failures
    if failures:
        state = "NOT WELL"
    elif warnings:
        state = "well, with %d %s" % (warnings, "warning" if warnings == 1 else "warnings")
    else:
        state = "well"
    return "%s: %s, %d steps in %.1f s" % (server, state, len(result["records"]), result["seconds"])


def _finding(finding: t.Dict[str, t.Any]) -> t.List[str]:
    what = "{} {}".format({"fail": "FAIL", "warn": "WARN"}[finding["verdict"]], finding["component"])
    parts = [
        (what, finding["cause"]),
        ("seen", "{} ({})".format(finding["seen"], ", ".join(finding["endpoints"]))),
        ("cure", finding["cure"]),
        ("more", finding["doc"]),
    ]
    lines = []
    for label, text in parts:
        lines += textwrap.wrap(text, _WIDTH, initial_indent="  %-13s" % label, subsequent_indent=" " * 15)
    return lines + [""]


def _row(walk: t.Any, records: t.List[t.Dict[str, t.Any]], port: t.Optional[int]) -> str:
    worst = min(records, key=lambda record: ("fail", "warn", "skip", "ok").index(record["verdict"]))
    state = worst["verdict"]
    if state == "ok":
        seen = walk.WELL
    elif state == "skip" and any(record["verdict"] == "ok" for record in records):
        state = "ok"
        skipped = [record["step"] for record in records if record["verdict"] == "skip"]
        seen = "not tried: {} ({})".format(", ".join(skipped), worst["seen"])
    else:
        seen = "{}: {}".format(worst["step"], worst["seen"])
    label = walk.LABEL if port is None else "%d %s" % (port, walk.LABEL)
    return "  %-4s %-20s %-4s  %s" % (walk.COMPONENT, label, state, textwrap.shorten(seen, _WIDTH - 20, placeholder=" ..."))


def client_settings(result: t.Dict[str, t.Any], server: str) -> str:
    """What to type into a mail client."""
    working = {
        record["service"] for record in result["records"] if record["step"] == "connect" and record["verdict"] == "ok"
    }
    rows = [
        (what, protocol, result["ports"][service], security)
        for what, protocol, service, security in (
            ("Incoming", "IMAP", "imaps", "SSL/TLS"),
            ("or", "POP3", "pop3s", "SSL/TLS"),
            ("Outgoing", "SMTP", "submission", "STARTTLS"),
            ("or", "SMTP", "submissions", "SSL/TLS"),
        )
        if service in working
    ]
    lines = ["What to type into a mail client:", ""]
    lines += ["  %8s  %s  %s  port %-5d %-8s  normal password" % (row[0], row[1], server, row[2], row[3]) for row in rows]
    user = result["login"] or "the full mail address"
    lines += ["", f"  User name, incoming and outgoing: {user}. The password is the account's."]
    return "\n".join(lines)
