# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# May run on any vantage host: Python 3.6 and the standard library only.

"""The test message, and whether it came back as it was sent."""

import re
import time
from email.utils import formatdate, mktime_tz, parsedate_tz

from ansible_collections.port587.mail.plugins.module_utils._wire.limits import LONGEST_LINE, LONGEST_TEXT

#: Lines that careless software changes: dots, trailing blanks, characters outside ASCII, the look of an mbox separator.
_BODY = [
    "This message was sent by port587.mail.verify to see whether it comes back unchanged.",
    "It is removed again at once; if you read it, you can delete it.",
    "",
    ".",
    "..",
    ".a line that begins with a dot",
    "From a line that looks like the start of a message",
    "trailing blanks  ",
    "Grüße, 日本語, smile 😀",
    "a long line: " + "0123456789" * 90,
    "",
]


def compose(mailbox: str, token: str) -> bytes:
    domain = mailbox.rpartition("@")[2]
    head = [
        f"Date: {formatdate()}",
        f"From: <{mailbox}>",
        f"To: <{mailbox}>",
        f"Subject: port587 verify {token}",
        f"Message-ID: <{token}@{domain}>",
        # no vacation reply, please
        "Auto-Submitted: auto-generated",
        "MIME-Version: 1.0",
        "Content-Type: text/plain; charset=utf-8",
        "Content-Transfer-Encoding: 8bit",
        "",
    ]
    return "\r\n".join(head + _BODY).encode()


def difference(sent: bytes, received: bytes) -> str:
    """The difference between the received and the sent message. Empty if only headers were added at the top."""
    sent_head, _sep, sent_body = sent.partition(b"\r\n\r\n")
    head, _sep, body = received.partition(b"\r\n\r\n")
    if body != sent_body:
        common = zip(sent_body, body)
        at = next((at for at, (one, other) in enumerate(common) if one != other), min(len(sent_body), len(body)))
        return f"the body came back with {len(body)} bytes instead of {len(sent_body)}, different from byte {at} on"
    lines = head.split(b"\r\n")
    missing = [line for line in sent_head.split(b"\r\n") if line not in lines]
    return f"header missing or changed: {missing[0].decode()}" if missing else ""


def clock_difference(received: bytes) -> float:
    """Seconds by which the server's clock is ahead, by its latest Received line. 0 without such a line."""
    begin = re.search(rb"(?m)^Received:", received)
    # the text before the date has only a few lines
    line = re.search(rb";\s*([^\r\n]*)", received[begin.end() :][:LONGEST_LINE]) if begin else None
    try:
        date = parsedate_tz(line.group(1)[:LONGEST_TEXT].decode("ascii", "replace")) if line else None
        return mktime_tz(date) - time.time() if date else 0.0
    except (ValueError, OverflowError, IndexError, TypeError):  # text that only resembles a date
        return 0.0
