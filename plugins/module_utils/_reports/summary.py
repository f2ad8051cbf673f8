# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Runs on the controller.

"""What reports say together: who sends in a domain's name, what fails and since when; as text and as a page."""

import html
import time
import typing as t

from ansible_collections.port587.mail.plugins.module_utils._probe.page import STYLE
from ansible_collections.port587.mail.plugins.module_utils._reports.parse import Row

DAY = 86400
#: Lines of a table; the rest is counted.
MOST_LINES = 50


class Line(t.NamedTuple):
    """One sender of a domain's mail (DMARC), or one type of failure of TLS to it."""

    domain: str
    what: str  # an IP address, or the type of failure
    number: int
    failed: int
    #: first and last day on which mails failed, in seconds; 0 if none did
    since: int
    until: int
    reasons: t.List[str]
    reporters: t.List[str]
    #: whether it is this mail server
    own: bool


class Summary(t.NamedTuple):
    dmarc: t.List[Line]
    tls: t.List[Line]
    #: by day (seconds since the epoch), mails that passed DMARC and that failed
    days: t.Dict[int, t.Tuple[int, int]]
    reports: int
    #: (subject, reason) of what could not be read
    unreadable: t.List[t.Tuple[str, str]]


def summary(
    reports: t.Iterable[t.Sequence[Row]], own: t.Collection[str], unreadable: t.Sequence[t.Tuple[str, str]] = ()
) -> Summary:
    """``reports``: the rows of each mail. A report that came twice counts once."""
    seen: t.Set[t.Tuple[str, ...]] = set()
    rows: t.List[Row] = []
    for mail in reports:
        new = {(row.kind, row.reporter, row.identity, row.domain) for row in mail} - seen
        rows += [row for row in mail if (row.kind, row.reporter, row.identity, row.domain) in new]
        seen |= new
    days: t.Dict[int, t.Tuple[int, int]] = {}
    for row in rows:
        if row.kind == "dmarc":
            passed, failed = days.get(row.begin // DAY * DAY, (0, 0))
            days[row.begin // DAY * DAY] = (passed + row.number * row.good, failed + row.number * (not row.good))
    return Summary(_lines(rows, "dmarc", own), _lines(rows, "tls", own), days, len(seen), list(unreadable))


def _lines(rows: t.Sequence[Row], kind: str, own: t.Collection[str]) -> t.List[Line]:
    groups: t.Dict[t.Tuple[str, str], t.List[Row]] = {}
    for row in rows:
        if row.kind == kind:
            what = row.source if kind == "dmarc" else row.reason or "TLS worked"
            groups.setdefault((row.domain, what), []).append(row)
    lines = []
    for (domain, what), group in groups.items():
        bad = [row for row in group if not row.good]
        lines.append(
            Line(
                domain,
                what,
                sum(row.number for row in group),
                sum(row.number for row in bad),
                min((row.begin for row in bad), default=0),
                max((row.begin for row in bad), default=0),
                sorted({row.reason for row in bad}),
                sorted({row.reporter for row in group}),
                what in own,
            )
        )
    # what an owner has to act on comes first
    return sorted(lines, key=lambda line: (line.domain, not (line.own and line.failed), -line.failed, -line.number))


def day(seconds: int) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(seconds))


def _span(line: Line) -> str:
    if not line.failed:
        return ""
    first, last = day(line.since), day(line.until)
    return f"since {first}" + (f", last {last}" if last != first else "")


def text(found: Summary, host: str) -> str:
    """For a terminal."""
    if not found.reports and not found.unreadable:
        return f"{host}: no reports yet. Receivers send them once a day; the DMARC record has to name the address (rua)"
    span = f", {day(min(found.days))} to {day(max(found.days))}" if found.days else ""
    lines = [f"{host}: {found.reports} reports{span}"]
    for title, table in (("Who sends in the domain's name (DMARC)", found.dmarc), ("TLS on the way here", found.tls)):
        if table:
            lines += ["", title]
        for line in table[:MOST_LINES]:
            own = " (this server)" if line.own else ""
            words = f"{line.failed} of {line.number} failed {_span(line)}: {'; '.join(line.reasons)}"
            good = f"{line.number} passed" if table is found.dmarc else str(line.number)
            lines.append(f"  {line.domain}  {line.what}{own}: {words if line.failed else good}")
        if len(table) > MOST_LINES:
            lines.append(f"  and {len(table) - MOST_LINES} more")
    if found.unreadable:
        lines += ["", "Could not be read, and stay where they are"]
        lines += [f"  {subject}: {reason}" for subject, reason in found.unreadable[:MOST_LINES]]
    if any(line.own and line.failed for line in found.dmarc):
        lines += [
            "",
            "Mail of this server failed: run playbooks/dns.yml, which compares SPF and DKIM with what is published",
        ]
    return "\n".join(lines)


_PAGE = """<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
{style}tr {{ border-bottom: 1px solid var(--line) }}
.ok {{ color: var(--ok); font-weight: 600 }} .fail {{ color: var(--fail); font-weight: 600 }}
svg {{ width: 100%; height: auto }} .ok rect, rect.ok {{ fill: var(--ok) }} rect.fail {{ fill: var(--fail) }}
svg text {{ fill: currentColor; font-size: 11px }}
</style>
<h1>{title}</h1>
<p class="when">{when}. {reports} reports.</p>
{plot}
{tables}
</html>
"""


def page(found: Summary, host: str, when: str) -> str:
    """A self-contained page, with a plot."""
    tables = _table("Who sends in the domain's name (DMARC)", "Sender", found.dmarc)
    tables += _table("TLS on the way here", "Outcome", found.tls)
    if found.unreadable:
        rows = "".join(f"<tr><td>{html.escape(a)}<td>{html.escape(b)}</tr>\n" for a, b in found.unreadable)
        tables += f"<h2>Could not be read</h2>\n<table><tr><th>Subject<th>Reason</tr>\n{rows}</table>\n"
    title = html.escape(f"{host}: reports about its mail")
    return _PAGE.format(
        style=STYLE, title=title, when=html.escape(when), reports=found.reports, plot=plot(found.days), tables=tables
    )


def _table(title: str, first: str, lines: t.Sequence[Line]) -> str:
    if not lines:
        return ""
    rows = []
    for line in lines[: MOST_LINES * 10]:
        verdict = (
            f'<td class="fail">{line.failed} of {line.number} failed'
            if line.failed
            else f'<td class="ok">{line.number}'
        )
        what = html.escape(line.what) + (" (this server)" if line.own else "")
        rest = [_span(line), "; ".join(line.reasons), ", ".join(line.reporters)]
        cells = "".join("<td>" + html.escape(cell) for cell in rest)
        rows.append(f"<tr><td>{html.escape(line.domain)}<td>{what}{verdict}{cells}</tr>")
    head = "".join(f"<th>{name}" for name in ("Domain", first, "Count", "Failed", "Why", "Reported by"))
    return f"<h2>{html.escape(title)}</h2>\n<table><tr>{head}</tr>\n" + "\n".join(rows) + "\n</table>\n"


def plot(days: t.Mapping[int, t.Tuple[int, int]]) -> str:
    """A bar for each day: mails that passed, and on top of them those that failed."""
    if not days:
        return ""
    first, last = min(days), max(days)
    # years of reports would not fit
    first = max(first, last - 119 * DAY)
    number = (last - first) // DAY + 1
    most = max(sum(pair) for when, pair in days.items() if when >= first) or 1
    width = 900 / max(number, 14)
    bars = []
    for when in sorted(one for one in days if one >= first):
        passed, failed = days[when]
        left, high, low = (when - first) / DAY * width, 160 * passed / most, 160 * failed / most
        tip = f"<title>{day(when)}: {passed} passed, {failed} failed</title>"
        for kind, top, height in (("ok", 180 - high, high), ("fail", 180 - high - low, low)):
            shape = f'x="{left:.1f}" y="{top:.1f}" width="{width * 0.8:.1f}" height="{height:.1f}"'
            bars.append(f'<rect class="{kind}" {shape}>{tip}</rect>' if height else "")
    until = f'<text x="{max((number - 1) * width, 120):.1f}" y="196">{day(last)}</text>' if last > first else ""
    return (
        f'<h2>Mails by day</h2>\n<svg viewBox="0 0 900 200" role="img" aria-label="mails by day">'
        f'<text x="0" y="12">{most}</text>{"".join(bars)}'
        f'<text x="0" y="196">{day(first)}</text>{until}</svg>'
        '\n<p><span class="ok">passed</span>, <span class="fail">failed</span></p>\n'
    )
