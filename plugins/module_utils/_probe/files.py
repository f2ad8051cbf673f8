# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Runs on the controller.

"""What a probe found, as files: JSON for programs, JUnit XML for CI, and a page for people."""

import base64
import html
import json
import typing as t
import xml.etree.ElementTree as ET

from ansible_collections.port587.mail.plugins.module_utils._probe import report
from ansible_collections.port587.mail.plugins.module_utils._probe.records import INSIDE

_FACTS = ("host", "address", "ports", "login", "verdict", "seconds", "findings", "records")


def to_json(result: t.Dict[str, t.Any], when: str) -> str:
    facts = {name: result[name] for name in _FACTS}
    return json.dumps(dict(facts, when=when), indent=2, ensure_ascii=False) + "\n"


def to_junit(result: t.Dict[str, t.Any], when: str) -> str:
    """One test case per step. JUnit knows no warnings; they pass, and say so in their output."""
    records = result["records"]
    suite = ET.Element(
        "testsuite",
        name=f"port587.mail.verify {result['host']}",
        timestamp=when,
        time=str(result["seconds"]),
        tests=str(len(records)),
        failures=str(sum(record["verdict"] == "fail" for record in records)),
        skipped=str(sum(record["verdict"] == "skip" for record in records)),
        errors="0",
    )
    for record in records:
        case = ET.SubElement(suite, "testcase", classname=record["service"], name=record["step"])
        if record["verdict"] == "fail":
            message = f"{record['component']}: {record['cause']}"
            ET.SubElement(case, "failure", message=message).text = f"Seen: {record['seen']}\nCure: {record['cure']}"
        elif record["verdict"] == "skip":
            ET.SubElement(case, "skipped", message=record["seen"])
        elif record["verdict"] == "warn":
            ET.SubElement(case, "system-out").text = f"Warning: {record['cause']}\nSeen: {record['seen']}"
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(suite, encoding="unicode") + "\n"


_PAGE = """<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; --line: #8884; --ok: #1a7f37; --warn: #9a6700; --fail: #cf222e; --skip: #6e7781 }}
@media (prefers-color-scheme: dark) {{ :root {{ --ok: #3fb950; --warn: #d29922; --fail: #f85149; --skip: #8b949e }} }}
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 66rem; margin: 2rem auto; padding: 0 1rem }}
h1 {{ font-size: 1.5rem; margin-bottom: 0 }}
h2 {{ font-size: 1.15rem; margin-top: 2rem }}
.when {{ color: var(--skip); margin-top: 0 }}
.scroll {{ overflow-x: auto }}
table {{ border-collapse: collapse; width: 100% }}
th, td {{ text-align: left; vertical-align: top; padding: .25rem .75rem .25rem 0 }}
tr {{ border-bottom: 1px solid var(--line) }}
td:last-child {{ overflow-wrap: anywhere }}
.ok, .warn, .fail, .skip {{ font-weight: 600 }}
.ok {{ color: var(--ok) }} .warn {{ color: var(--warn) }} .fail {{ color: var(--fail) }} .skip {{ color: var(--skip) }}
.finding {{ border-left: .3rem solid; padding-left: 1rem; margin: 1rem 0 }}
.finding p {{ color: CanvasText; font-weight: 400; margin: .25rem 0 }}
pre {{ overflow-x: auto; padding: 1rem; border: 1px solid var(--line); border-radius: .5rem }}
summary {{ cursor: pointer }}
</style>
<h1>{title}</h1>
<p class="when">{when}, as a mail client sees it{inside}</p>
{findings}
<h2>Services</h2>
<div class="scroll"><table><tr><th>Part<th>Service<th>State<th>Seen</tr>
{services}
</table></div>
{settings}
<h2>Every step</h2>
<details><summary>{count} steps</summary>
<div class="scroll"><table><tr><th>Service<th>Step<th>State<th>Seen</tr>
{steps}
</table></div></details>
<h2>Words</h2>
<p>MUA: the mail client. MSA: takes mail from clients that log in (587, 465). MTA: takes mail from other servers (25).
MDA: puts mail into the mailbox. MRA: hands it to clients (IMAP, POP3).</p>
</html>
"""


def to_html(result: t.Dict[str, t.Any], when: str, server: str, authority: t.Optional[report.Authority] = None) -> str:
    """A page that needs nothing else."""
    settings = ""
    if result["verdict"] != "fail":
        title, _sep, text = report.client_settings(result, server, authority).partition(":\n\n")
        settings = f"<h2>{_escape(title)}</h2>\n<pre>{_escape(text)}</pre>"
    if settings and authority:
        data = base64.b64encode(authority.pem.encode("ascii")).decode("ascii")
        settings += f'\n<p><a download="{_escape(server)}-ca.crt" href="data:application/x-x509-ca-cert;base64,{data}">'
        settings += "The authority&rsquo;s certificate, to be imported</a></p>"
    return _PAGE.format(
        title=_escape(report.headline(result)),
        when=_escape(when),
        inside=", and as the server sees itself" if any(r["service"] == INSIDE for r in result["records"]) else "",
        findings="\n".join(_finding(finding) for finding in result["findings"]),
        services="\n".join(_row(row.state, row.component, row.label, row.seen) for row in report.rows(result)),
        settings=settings,
        count=len(result["records"]),
        steps="\n".join(_row(r["verdict"], r["service"], r["step"], r["seen"]) for r in result["records"]),
    )


def _finding(finding: t.Dict[str, t.Any]) -> str:
    return (
        f'<div class="finding {finding["verdict"]}">{_escape(finding["component"])}: {_escape(finding["cause"])}\n'
        f"<p>Seen: {_escape(report.seen(finding))}</p>\n"
        + "".join(f"<p>{word.capitalize()}: {_escape(text)}</p>\n" for word, text in report.more(finding))
        + f"<p>Cure: {_escape(finding['cure'])}</p>\n"
        f"<p>More: {_escape(finding['doc'])}</p></div>"
    )


def _row(state: str, first: str, second: str, seen: str) -> str:
    cells = f"<td>{_escape(first)}<td>{_escape(second)}"
    return f'<tr>{cells}<td class="{state}">{state}<td>{_escape(seen)}</tr>'


def _escape(text: str) -> str:
    return html.escape(text)
