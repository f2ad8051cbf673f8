# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The mails of molecule/rspamd/mails, made as mail programs make them."""

import email.message
import pathlib
import typing as t
import uuid

import yaml

Entry = t.Dict[str, t.Any]

MAILS = pathlib.Path(__file__).parent.parent / "mails"
GTUBE = "XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"
EVENT = """BEGIN:VCALENDAR
VERSION:2.0
PRODID:-//Calendar//EN
METHOD:REQUEST
BEGIN:VEVENT
UID:%s
DTSTAMP:20261101T090000Z
DTSTART:20261110T100000Z
DTEND:20261110T110000Z
SUMMARY:Meeting
END:VEVENT
END:VCALENDAR
"""


def mails(name: str) -> t.List[Entry]:
    return t.cast(t.List[Entry], yaml.safe_load((MAILS / f"{name}.yml").read_text(encoding="utf-8")))


def sender(entry: Entry) -> str:
    return str(entry["from"].partition("<")[2].rstrip(">"))


def made(entry: Entry, recipient: str) -> bytes:
    """As it comes over the wire."""
    word, domain = uuid.uuid4().hex, sender(entry).partition("@")[2]
    mail = email.message.EmailMessage()
    mail["From"], mail["To"], mail["Subject"] = entry["from"], recipient, entry["subject"]
    mail["Date"], mail["Message-ID"] = "Fri, 27 Nov 2026 10:00:00 +0000", f"<{word}@{domain}>"
    if "reply-to" in entry:
        mail["Reply-To"] = entry["reply-to"]
    if entry.get("reply"):
        mail["References"] = mail["In-Reply-To"] = f"<{uuid.uuid4().hex}@{recipient.partition('@')[2]}>"
    if entry.get("newsletter"):
        mail["List-Id"] = f"<news.{domain}>"
        mail["List-Unsubscribe"] = f"<https://{domain}/unsubscribe/{word}>"
        mail["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"
    if "text" in entry:
        mail.set_content(" ".join(entry["text"].split()) + "\n" + (GTUBE + "\n" if entry.get("gtube") else ""))
        if "html" in entry:
            mail.add_alternative(page(entry), subtype="html")
    else:
        mail.set_content(page(entry), subtype="html")
    if entry.get("calendar"):
        mail.add_alternative(EVENT % word, subtype="calendar", params={"method": "REQUEST"})
    for name, kind in entry.get("attach", {}).items():
        main, _slash, sub = kind.partition("/")
        mail.add_attachment(f"%PDF-1.4 {word}".encode(), maintype=main, subtype=sub, filename=name)
    return mail.as_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


def page(entry: Entry) -> str:
    return (
        f"<html><head><title>{entry['subject']}</title></head><body>{' '.join(entry['html'].split())}</body></html>\n"
    )
