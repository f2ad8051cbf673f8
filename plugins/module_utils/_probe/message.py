# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# May run on any vantage host: Python 3.6 and the standard library only.

"""The test message, and whether it came back as it was sent."""

from email.utils import formatdate

#: Lines that careless software changes: dots, trailing blanks, characters outside ASCII, the look of an mbox separator.
_BODY = """This message was sent by port587.mail.verify to see whether it comes back unchanged.
It is removed again at once; if you read it, it can be deleted.

.
..
.a line that begins with a dot
From a line that looks like the start of a message
trailing blanks  
Grüße, 日本語, smile 😀
a long line: """ + "0123456789" * 90 + "\n"  # noqa: W291


def compose(mailbox: str, token: str) -> bytes:
    domain = mailbox.rpartition("@")[2]
    head = [
        "Date: " + formatdate(localtime=False),
        f"From: <{mailbox}>",
        f"To: <{mailbox}>",
        f"Subject: port587 verify {token}",
        f"Message-ID: <{token}@{domain}>",
        # no vacation reply, please
        "Auto-Submitted: auto-generated",
        "MIME-Version: 1.0",
        "Content-Type: text/plain; charset=utf-8",
        "Content-Transfer-Encoding: 8bit",
    ]
    return ("\n".join(head) + "\n\n" + _BODY).replace("\n", "\r\n").encode("utf-8")


def difference(sent: bytes, received: bytes) -> str:
    """How what came back differs from what was sent. Empty: not at all, apart from what servers write on top."""
    sent_head, _, sent_body = sent.partition(b"\r\n\r\n")
    head, _, body = received.partition(b"\r\n\r\n")
    if body != sent_body:
        return "the body came back with %d bytes instead of %d, first different %s" % (
            len(body), len(sent_body), _first_difference(sent_body, body),
        )  # fmt: skip
    lines = head.split(b"\r\n")
    missing = [line for line in sent_head.split(b"\r\n") if line not in lines]
    return "header missing or changed: {}".format(missing[0].decode("utf-8", "replace")) if missing else ""


def _first_difference(one: bytes, other: bytes) -> str:
    at = next((at for at, pair in enumerate(zip(one, other)) if pair[0] != pair[1]), None)
    return "at byte %d" % (min(len(one), len(other)) if at is None else at)
