# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# May run on any vantage host and on the server: Python 3.6 and the standard library only.

"""One GET in HTTP/1.0, after which the server closes the connection.

The request asks for neither compression nor chunks, and redirects are not followed.
"""

import re
import typing as t

from ansible_collections.port587.mail.plugins.module_utils._wire.connection import Wire
from ansible_collections.port587.mail.plugins.module_utils._wire.errors import WireError
from ansible_collections.port587.mail.plugins.module_utils._wire.limits import LARGEST_PAGE
from ansible_collections.port587.mail.plugins.module_utils._wire.words import text


class Status(t.NamedTuple):
    """The first line of the answer."""

    code: int
    line: str


def get(wire: Wire, host: str, path: str) -> Status:
    """Request the page and read the status line. ``body`` reads the rest."""
    wire.send(f"GET {path} HTTP/1.0\r\nHost: {host}\r\n\r\n".encode())
    line = text(wire.line())
    found = re.match(r"HTTP/1\.[01] ([1-5][0-9]{2})( |$)", line)
    if found is None:
        raise WireError("protocol", f"not an answer in HTTP: {line[:80]}")
    return Status(int(found.group(1)), line)


def body(wire: Wire) -> str:
    """The page, without the header before it."""
    header_and_page = re.split(rb"\r?\n\r?\n", b"\n" + wire.until_closed(LARGEST_PAGE), maxsplit=1)
    return text(header_and_page[1]) if len(header_and_page) > 1 else ""
