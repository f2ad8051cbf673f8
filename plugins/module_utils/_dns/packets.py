# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# May run on any vantage host: Python 3.6 and the standard library only.

"""DNS packets: make queries (RFC 1035, EDNS of RFC 6891), and parse answers into the notation of zone files."""

import base64
import struct
import typing as t
from ipaddress import ip_address

from ansible_collections.port587.mail.plugins.module_utils._wire.limits import LONGEST_NAME, MOST_POINTERS

TYPES = {"A": 1, "NS": 2, "CNAME": 5, "SOA": 6, "PTR": 12, "MX": 15, "TXT": 16, "AAAA": 28, "SRV": 33}
TYPES.update({"DNSKEY": 48, "TLSA": 52, "CAA": 257})

#: The size that fits into a packet everywhere (RFC 9715); longer answers use TCP.
PAYLOAD = 1232

#: Errors of parsing an invalid packet: a truncated one, or one with a pointer past its end.
MALFORMED = (ValueError, IndexError, struct.error)


class Answer(t.NamedTuple):
    """``values``: those of the requested type, after following CNAMEs. ``name``: the last name of that chain.

    ``validated``: whether the server reports that it has validated them with DNSSEC.
    """

    values: t.List[str]
    name: str
    authoritative: bool
    validated: bool = False


def question(name: str, kind: str, number: int, recursive: bool = True, edns: bool = True) -> bytes:
    """``edns``: without it even the oldest name server answers, but with at most 512 bytes."""
    labels = [label.encode("ascii") for label in name.rstrip(".").split(".") if label]
    if any(len(label) > 63 for label in labels):
        raise ValueError(name)
    packed = b"".join(bytes([len(label)]) + label for label in labels) + b"\0" + struct.pack("!2H", TYPES[kind], 1)
    flags = 0x0100 if recursive else 0
    if not edns:
        return struct.pack("!6H", number, flags, 1, 0, 0, 0) + packed
    # AD in a query: requests the same flag in the answer (RFC 6840 5.7)
    head = struct.pack("!6H", number, flags | 0x0020, 1, 0, 0, 1)
    # OPT: the root as name, type 41, and the maximum size of an answer over UDP
    return head + packed + b"\0" + struct.pack("!2HIH", 41, PAYLOAD, 0, 0)


def is_answer(message: bytes, number: int) -> bool:
    """Whether this answers the query with this ID."""
    return len(message) >= 12 and struct.unpack_from("!H", message)[0] == number and bool(message[2] & 0x80)


def is_truncated(message: bytes) -> bool:
    """Whether the answer is truncated, so that the query must be repeated over TCP."""
    return bool(message[2] & 0x02)


def name_at(message: bytes, at: int) -> t.Tuple[str, int]:
    """The name at this offset, and the offset behind it (RFC 1035 4.1.4)."""
    labels: t.List[str] = []
    behind = None
    limit = at
    length = pointers = 0
    while message[at]:
        if message[at] >= 0xC0:
            target = struct.unpack_from("!H", message, at)[0] & 0x3FFF
            pointers += 1
            # pointers must lead backwards, so the loop ends; the limit keeps thousands of such names fast
            if target >= limit or pointers > MOST_POINTERS:
                raise ValueError("a name that points forwards, or that has too many pointers")
            behind = at + 2 if behind is None else behind
            at = limit = target
        else:
            length += 1 + message[at]
            if length >= LONGEST_NAME:
                raise ValueError("a name that is too long")
            labels.append(message[at + 1 : at + 1 + message[at]].decode("ascii", "replace"))
            at += 1 + message[at]
    return ".".join(labels), (at + 1 if behind is None else behind)


def parse(message: bytes, name: str, kind: str) -> t.Optional[Answer]:
    """The answer to a query for ``name`` and ``kind``. None if the server reports a failure."""
    _number, flags, questions, answers = struct.unpack_from("!4H", message)
    # NXDOMAIN (3) is an answer, too: the name does not exist
    if flags & 0xF not in (0, 3):
        return None
    at = 12
    for _one in range(questions):
        at = name_at(message, at)[1] + 4
    found: t.List[t.Tuple[str, int, str]] = []
    for _one in range(answers):
        owner, at = name_at(message, at)
        number, _class, _ttl, length = struct.unpack_from("!2HIH", message, at)
        at += 10
        if at + length > len(message):
            raise ValueError("a record that ends behind the packet")
        found.append((owner.lower(), number, _value(message, at, length, number)))
        at += length
    end = name.rstrip(".").lower()
    # CNAMEs may come in any order; the number of answers limits a loop
    aliases = {owner: value.rstrip(".").lower() for owner, number, value in found if number == TYPES["CNAME"]}
    for _one in range(len(aliases) if kind != "CNAME" else 0):
        end = aliases.get(end, end)
    values = [value for owner, number, value in found if owner == end and number == TYPES[kind]]
    return Answer(values, end, bool(flags & 0x0400), bool(flags & 0x0020))


def _value(message: bytes, at: int, length: int, number: int) -> str:
    data = message[at : at + length]
    if number in (TYPES["A"], TYPES["AAAA"]):
        return str(ip_address(data))
    if number in (TYPES["NS"], TYPES["CNAME"], TYPES["PTR"], TYPES["SOA"]):
        return name_at(message, at)[0].lower() + "."
    if number == TYPES["MX"]:
        return "%d %s." % (struct.unpack_from("!H", data)[0], name_at(message, at + 2)[0].lower())
    if number == TYPES["SRV"]:
        return "%d %d %d %s." % (struct.unpack_from("!3H", data) + (name_at(message, at + 6)[0].lower(),))
    if number == TYPES["TXT"]:
        pieces, here = [], 0
        while here < length:
            pieces.append(data[here + 1 : here + 1 + data[here]])
            here += 1 + data[here]
        return b"".join(pieces).decode("utf-8", "replace")
    if number == TYPES["TLSA"]:
        return "%d %d %d %s" % (data[0], data[1], data[2], data[3:].hex())
    if number == TYPES["CAA"]:
        end = 2 + data[1]
        return '%d %s "%s"' % (data[0], data[2:end].decode("ascii", "replace"), data[end:].decode("ascii", "replace"))
    return base64.b64encode(data).decode("ascii")
