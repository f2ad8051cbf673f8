# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Runs on the server: Python 3.6 and the standard library only.

"""One GET of a script over FastCGI, as a web server asks php-fpm (FastCGI specification, version 1)."""

import re
import struct
import typing as t

from ansible_collections.port587.mail.plugins.module_utils._wire.connection import Wire
from ansible_collections.port587.mail.plugins.module_utils._wire.errors import WireError
from ansible_collections.port587.mail.plugins.module_utils._wire.words import text

#: Types of records, the role of a program that answers requests, and the number of the only request.
BEGIN, END, PARAMS, STDIN, STDOUT, STDERR = 1, 3, 4, 5, 6, 7
RESPONDER, REQUEST = 1, 1
_HEADER = struct.Struct(">BBHHBx")


def _record(kind: int, content: bytes = b"") -> bytes:
    return _HEADER.pack(1, kind, REQUEST, len(content), 0) + content


def _length(value: bytes) -> bytes:
    return struct.pack(">B", len(value)) if len(value) < 128 else struct.pack(">I", len(value) | 1 << 31)


def request(script: str, host: str) -> bytes:
    """``script``: the file's absolute path. ``host``: the web server's name."""
    parameters = {
        "GATEWAY_INTERFACE": "CGI/1.1",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "SERVER_SOFTWARE": "port587",
        "SERVER_NAME": host,
        "SERVER_PORT": "443",
        "SERVER_ADDR": "127.0.0.1",
        "REMOTE_ADDR": "127.0.0.1",
        "REQUEST_METHOD": "GET",
        "REQUEST_URI": "/",
        "SCRIPT_NAME": "/index.php",
        "SCRIPT_FILENAME": script,
        "QUERY_STRING": "",
        "HTTPS": "on",
        "HTTP_HOST": host,
    }
    pairs = [(name.encode("ascii"), value.encode("utf-8")) for name, value in sorted(parameters.items())]
    content = b"".join(_length(name) + _length(value) + name + value for name, value in pairs)
    begin = struct.pack(">HB5x", RESPONDER, 0)
    return _record(BEGIN, begin) + _record(PARAMS, content) + _record(PARAMS) + _record(STDIN)


class Answer(t.NamedTuple):
    """``status``: that of HTTP. ``errors``: what the program has to say to the web server's log."""

    status: int
    errors: str


def get(wire: Wire, script: str, host: str) -> Answer:
    """Request the script, and read all of its answer. Raises WireError."""
    wire.send(request(script, host))
    said = {STDOUT: b"", STDERR: b""}
    while True:
        version, kind, _number, size, padding = _HEADER.unpack(wire.exactly(_HEADER.size))
        if version != 1:
            raise WireError("protocol", "not an answer in FastCGI")
        content = wire.exactly(size + padding)[:size]
        if kind == END:
            break
        if kind in said:
            said[kind] += content
    header = re.split(r"\r?\n\r?\n", text(said[STDOUT]), maxsplit=1)[0]
    found = re.search(r"^Status: ([1-5][0-9]{2})\b", header, re.MULTILINE)
    return Answer(int(found.group(1)) if found else 200, text(said[STDERR]).strip())
