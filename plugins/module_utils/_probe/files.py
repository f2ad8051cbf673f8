# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Runs on the controller.

"""Reports of a probe: JSON for programs, JUnit XML for CI, and an HTML page."""

import base64
import html
import json
import typing as t
import xml.etree.ElementTree as ET

from ansible_collections.port587.mail.plugins.module_utils._probe import report
from ansible_collections.port587.mail.plugins.module_utils._probe.page import STYLE
from ansible_collections.port587.mail.plugins.module_utils._probe.records import INSIDE

_FACTS = ("host", "address", "ports", "login", "verdict", "seconds", "findings", "records")


def to_json(result: t.Dict[str, t.Any], when: str) -> str:
    facts = {name: result[name] for name in _FACTS}
    return json.dumps(dict(facts, when=when), indent=2, ensure_ascii=False) + "\n"


def to_junit(result: t.Dict[str, t.Any], when: str) -> str:
    """One test case per step. JUnit has no warnings; these pass, with the warning in their output."""
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


#: The page's own texts, in English and in Japanese. Findings and cures are in English.
_WORDS = {
    "from outside": ("As a mail client sees it.", "メールソフトから見た結果です。"),
    "from both": (
        "As a mail client sees it, and as the server sees itself.",
        "メールソフトから見た結果と、サーバー内部の状態です。",
    ),
    "services": ("Services", "サービス"),
    "steps": ("Every step", "すべての手順"),
    "part": ("Part", "担当"),
    "service": ("Service", "サービス"),
    "step": ("Step", "手順"),
    "state": ("State", "状態"),
    "seen": ("Seen", "確認した内容"),
    "log": ("Log", "ログ"),
    "hence": ("Hence", "その影響"),
    "inside": ("Inside", "サーバー内部"),
    "cure": ("Cure", "対処"),
    "more": ("More", "詳しい説明（英語）"),
    "ok": ("ok", "正常"),
    "warn": ("warn", "警告"),
    "fail": ("fail", "異常"),
    "skip": ("not tried", "未実施"),
    "partly": ("partly tried", "一部未実施"),
    "settings": ("What to type into a mail client", "メールソフトに入力する内容"),
    "Incoming": ("Incoming", "受信"),
    "Outgoing": ("Outgoing", "送信"),
    "or": ("or", "または"),
    "kind": ("Kind", "種類"),
    "server": ("Server", "サーバー"),
    "port": ("Port", "ポート"),
    "security": ("Security", "接続の保護"),
    "authentication": ("Authentication", "認証方式"),
    "password": ("normal password", "通常のパスワード認証"),
    "user": ("User name for both", "ユーザー名（受信と送信とも）"),
    "full address": ("the full mail address", "メールアドレス全体"),
    "authority": (
        "First of all, import the certificate of the server's own authority (CA) into the client",
        "まず、このサーバー独自の認証局（CA）の証明書をメールソフトに取り込んでください",
    ),
    "words": ("Words", "用語"),
    "glossary": (
        "MUA: the mail client. MSA: takes mail from clients that log in (587, 465). MTA: takes mail from other servers "
        "(25). MDA: puts mail into the mailbox. MRA: hands it to clients (IMAP, POP3).",
        "MUA: メールソフト。MSA: ログインしたメールソフトからメールを受け付けます（587、465）。"
        "MTA: ほかのサーバーからメールを受け取ります（25）。MDA: メールをメールボックスに配送します。"
        "MRA: メールをメールソフトに渡します（IMAP、POP3）。",
    ),
}

_PAGE = """<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<script>if (/^ja/.test(navigator.language)) document.documentElement.lang = "ja"</script>
<style>
{style}:root:lang(en) [lang=ja], :root:lang(ja) [lang=en] {{ display: none }}
tr {{ border-bottom: 1px solid var(--line) }}
.ok, .warn, .fail, .skip, .partly {{ font-weight: 600; white-space: nowrap }}
.ok {{ color: var(--ok) }} .warn {{ color: var(--warn) }} .fail {{ color: var(--fail) }}
.skip, .partly {{ color: var(--skip) }}
.finding {{ border-left: .3rem solid; padding-left: 1rem; margin: 1rem 0; white-space: normal }}
.finding p {{ color: CanvasText; font-weight: 400; margin: .25rem 0 }}
summary {{ cursor: pointer }}
@media (max-width: 40rem) {{
  .head {{ display: none }}
  tr {{ display: flex; flex-wrap: wrap; padding: .25rem 0 }}
  td:last-child {{ flex-basis: 100% }}
}}
</style>
<h1><span lang="en">{title}</span><span lang="ja">{japanese_title}</span></h1>
<p class="when">{when}. {viewpoint}</p>
{findings}
<h2>{services_title}</h2>
<table>{services_head}
{services}
</table>
{settings}
<h2>{steps_title}</h2>
<details><summary>{count}</summary>
<table>{steps_head}
{steps}
</table></details>
<h2>{words_title}</h2>
<p>{glossary}</p>
</html>
"""


def to_html(result: t.Dict[str, t.Any], when: str, server: str, authority: t.Optional[report.Authority] = None) -> str:
    """A self-contained page. The browser's language selects English or Japanese."""
    settings = ""
    if result["verdict"] != "fail":
        settings = _settings(result, server, authority)
    looked_inside = any(record["service"] == INSIDE for record in result["records"])
    return _PAGE.format(
        style=STYLE,
        title=_escape(report.headline(result)),
        japanese_title=_escape(report.headline(result, report.JAPANESE)),
        when=_escape(when),
        viewpoint=_both("from both" if looked_inside else "from outside"),
        findings="\n".join(_finding(finding) for finding in result["findings"]),
        services_title=_both("services"),
        services_head=_head("part", "service", "state", "seen"),
        services="\n".join(_row(row.state, row.component, row.label, row.seen) for row in report.rows(result)),
        settings=settings,
        steps_title=_both("steps"),
        count=len(result["records"]),
        steps_head=_head("service", "step", "state", "seen"),
        steps="\n".join(_row(r["verdict"], r["service"], r["step"], r["seen"]) for r in result["records"]),
        words_title=_both("words"),
        glossary=_both("glossary"),
    )


def _settings(result: t.Dict[str, t.Any], server: str, authority: t.Optional[report.Authority]) -> str:
    """The settings for a mail client, as a table, and the CA to import first."""
    rows = [
        f"<tr><td>{_both(offer.what)}<td>{offer.protocol}<td>{_escape(server)}<td>{offer.port}<td>{offer.security}"
        f"<td>{_both('password')}</tr>"
        for offer in report.offers(result)
    ]
    user = _escape(result["login"]) if result["login"] else _both("full address")
    head = _head("kind", "service", "server", "port", "security", "authentication")
    lines = [f"<h2>{_both('settings')}</h2>"]
    if authority:
        data = base64.b64encode(authority.pem.encode("ascii")).decode("ascii")
        link = f'<a download="{_escape(server)}-ca.crt" href="data:application/x-x509-ca-cert;base64,{data}">'
        lines.append(f"<p>{link}{_both('authority')}</a><br>SHA-256: {authority.fingerprint()}</p>")
    lines += [f"<table>{head}", *rows, "</table>", f"<p>{_both('user')}: <b>{user}</b></p>"]
    return "\n".join(lines)


def _finding(finding: t.Dict[str, t.Any]) -> str:
    parts = [("seen", report.seen(finding)), *report.more(finding), ("cure", finding["cure"])]
    link = _escape(finding["doc"])
    return (
        f'<div class="finding {finding["verdict"]}">{_escape(finding["component"])}: {_escape(finding["cause"])}\n'
        + "".join(f"<p>{_both(word)}: {_escape(text)}</p>\n" for word, text in parts)
        + f'<p><a href="{link}">{_both("more")}</a></p></div>'
    )


def _head(*names: str) -> str:
    return f'<tr class="head">{"".join(f"<th>{_both(name)}" for name in names)}</tr>'


def _row(state: str, first: str, second: str, seen: str) -> str:
    cells = f"<td>{_escape(first)}<td>{_escape(second)}"
    return f'<tr>{cells}<td class="{state}">{_both(state)}<td>{_escape(seen)}</tr>'


def _both(word: str) -> str:
    """One of the page's own words in both languages, of which the browser shows one."""
    english, japanese = _WORDS[word]
    return f'<span lang="en">{english}</span><span lang="ja">{japanese}</span>'


def _escape(text: str) -> str:
    return html.escape(text)
