# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Runs on the server: Python 3.6 and the standard library only.

"""Read and write the parts of IMAP that a copy of a mailbox needs (RFC 3501, RFC 2342, RFC 4315)."""

import base64
import hashlib
import imaplib
import re
import typing as t

_QUOTED = rb'"(?:[^"\\]|\\.)*"'
_LIST = re.compile(rb"\* LIST \(([^)]*)\) (NIL|" + _QUOTED + rb") (.*)\Z", re.IGNORECASE | re.DOTALL)
_NAMESPACES = re.compile(rb"NIL|\((?:\((?:[^()\"]|" + _QUOTED + rb")*\) ?)+\)", re.IGNORECASE)
_PREFIX = re.compile(rb"\((" + _QUOTED + rb") ")
_FETCH = re.compile(rb"\* \d+ FETCH \(", re.IGNORECASE)
_BODY = re.compile(rb"\bBODY\[[^\]]*\] (?:\{(\d+)\}\r\n|(" + _QUOTED + rb")|NIL)", re.IGNORECASE)
_UID = re.compile(rb"\bUID (\d+)", re.IGNORECASE)
_FLAGS = re.compile(rb"\bFLAGS \(([^)]*)\)", re.IGNORECASE)
_SIZE = re.compile(rb"\bRFC822\.SIZE (\d+)", re.IGNORECASE)
_DATE = re.compile(rb"\bINTERNALDATE (\"[^\"]*\")", re.IGNORECASE)
_APPENDED = re.compile(r"\[APPENDUID \d+ ([\d:,]+)\]", re.IGNORECASE)
_SHIFTED = re.compile(rb"&([^-]*)-")
_PRINTABLE = re.compile(r"[^ -~]+|&")

#: Flags that a client can't set.
_SERVERS_OWN = {"\\recent", "\\*"}


class Listed(t.NamedTuple):
    """A folder as LIST shows it. ``name``: as bytes, as the server spells it; ``delimiter``: empty if it has none."""

    attributes: t.Set[str]
    delimiter: str
    name: bytes


class Mail(t.NamedTuple):
    """What FETCH told of a mail; what was not asked for is empty. ``date``: quoted, as the server writes it."""

    uid: int
    flags: t.FrozenSet[str] = frozenset()
    size: int = 0
    date: bytes = b""
    body: bytes = b""

    def identity(self) -> t.Tuple[t.Any, int, str]:
        """Equal for two copies of a mail: its date of arrival, size and header fields (the body asked for)."""
        arrived = imaplib.Internaldate2tuple(b"INTERNALDATE " + self.date)
        fields = sorted(re.sub(rb"\s+", b" ", line).strip() for line in re.split(rb"\r?\n(?![ \t])", self.body))
        return arrived, self.size, hashlib.sha256(b"\n".join(field for field in fields if field)).hexdigest()


def listed(line: bytes) -> t.Optional[Listed]:
    """A line of LIST's answer."""
    match = _LIST.match(line)
    if not match:
        return None
    attributes, delimiter, name = match.groups()
    if name.startswith(b"{"):
        name = name.partition(b"\r\n")[2]
    return Listed(
        {word.lower() for word in attributes.decode("ascii", "replace").split()},
        "" if delimiter.upper() == b"NIL" else unquote(delimiter).decode("ascii", "replace"),
        unquote(name),
    )


def namespaces(line: bytes) -> t.Tuple[t.List[bytes], t.List[bytes]]:
    """The prefixes of a person's own folders, and of those of others and shared ones."""
    found = _NAMESPACES.findall(line[len(b"* NAMESPACE ") :])
    prefixes = [[unquote(prefix) for prefix in _PREFIX.findall(part)] for part in found]
    return (prefixes[0] if prefixes else []), [prefix for part in prefixes[1:] for prefix in part]


def unquote(word: bytes) -> bytes:
    if len(word) >= 2 and word.startswith(b'"') and word.endswith(b'"'):
        return re.sub(rb"\\(.)", rb"\1", word[1:-1], flags=re.DOTALL)
    return word


def quote(word: bytes) -> bytes:
    return b'"' + word.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'


def fetched(line: bytes) -> t.Optional[Mail]:
    """A line of FETCH's answer, with its literals in place."""
    if not _FETCH.match(line):
        return None
    body = _BODY.search(line)
    rest, content = line, b""
    if body:
        end = body.end() + int(body.group(1) or 0)
        content = line[body.end() : end] if body.group(1) else unquote(body.group(2) or b"")
        rest = line[: body.start()] + line[end:]
    uid, flags, size, date = (form.search(rest) for form in (_UID, _FLAGS, _SIZE, _DATE))
    if not uid:
        # the server tells of a change that another client has made
        return None
    words = flags.group(1).decode("utf-8", "replace").split() if flags else []
    return Mail(
        int(uid.group(1)),
        frozenset(word for word in words if word.lower() not in _SERVERS_OWN),
        int(size.group(1)) if size else 0,
        date.group(1) if date else b"",
        content,
    )


def appended(text: str) -> t.List[int]:
    """The UIDs that APPEND's answer names, in the order of the mails."""
    match = _APPENDED.search(text)
    found = []  # type: t.List[int]
    for part in match.group(1).split(",") if match else []:
        first, _colon, last = part.partition(":")
        found += range(int(first), int(last or first) + 1)
    return found


def decode(name: bytes) -> str:
    """A folder's name: modified UTF-7 (RFC 3501, 5.1.3), or UTF-8 from servers that do not keep to it."""
    if any(byte > 126 for byte in name):
        return name.decode("utf-8", "replace")

    def one(match: t.Match[bytes]) -> bytes:
        shifted = match.group(1)
        return (b"+" + shifted.replace(b",", b"/") + b"-").decode("utf-7").encode("utf-8") if shifted else b"&"

    try:
        return _SHIFTED.sub(one, name).decode("utf-8")
    except UnicodeError:
        return name.decode("ascii")


def encode(name: str) -> bytes:
    """A folder's name in modified UTF-7."""

    def one(match: t.Match[str]) -> str:
        if match.group() == "&":
            return "&-"
        coded = base64.b64encode(match.group().encode("utf-16-be", "surrogatepass")).decode("ascii")
        return "&%s-" % coded.rstrip("=").replace("/", ",")

    return _PRINTABLE.sub(one, name).encode("ascii")
