# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# May run on any vantage host and on the server: Python 3.6 and the standard library only.

"""Encodings that all protocols share."""

import base64


def text(line: bytes) -> str:
    """A line for people, and to be compared with words of the protocol."""
    return line.decode("utf-8", "replace")


def printable(said: str) -> str:
    """Untrusted text, made safe for a terminal, a page and XML."""
    return "".join(char if char.isprintable() else " " for char in said)


def plain_token(login: str, password: str, owner: str = "") -> str:
    """The answer to SASL PLAIN (RFC 4616)."""
    return base64.b64encode((f"{owner}\0{login}\0{password}").encode()).decode("ascii")
