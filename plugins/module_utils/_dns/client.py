# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# May run on any vantage host: Python 3.6 and the standard library only.

"""A question to one name server (RFC 1035, EDNS of RFC 6891), and the answer in the words of zone files."""

import base64
import os
import socket
import struct
import typing as t
from ipaddress import ip_address

TYPES = {"A": 1, "NS": 2, "CNAME": 5, "SOA": 6, "PTR": 12, "MX": 15, "TXT": 16, "AAAA": 28, "SRV": 33}
TYPES.update({"DNSKEY": 48, "TLSA": 52, "CAA": 257})

#: Seconds for one server. A lost packet is asked for a second time.
PATIENCE = 2.0
#: What fits into a packet everywhere (RFC 9715); longer answers come over TCP.
PAYLOAD = 1232


class Answer(t.NamedTuple):
    """``values``: of the type that was asked for, at the end of the CNAMEs on the way. ``name`` is that end.

    ``validated``: whether the server says that it has validated them with DNSSEC.
    """

    values: t.List[str]
    name: str
    authoritative: bool
    validated: bool = False


def ask(
    server: str, name: str, kind: str, recursive: bool = True, patience: float = PATIENCE, port: int = 53
) -> t.Optional[Answer]:
    """None where the server does not answer, or says that it can't."""
    number = struct.unpack("!H", os.urandom(2))[0]
    try:
        question = _question(name, kind, number, recursive)
        for _attempt in range(2):
            message = _over_udp((server, port), question, number, patience / 2)
            if message is not None:
                break
        if message is None:
            return None
        if message[2] & 0x02:
            message = _over_tcp((server, port), question, patience)
        return _parse(message, name, kind)
    except (OSError, UnicodeError, ValueError, IndexError, struct.error):
        return None


def _question(name: str, kind: str, number: int, recursive: bool) -> bytes:
    labels = [label.encode("ascii") for label in name.rstrip(".").split(".") if label]
    if any(len(label) > 63 for label in labels):
        raise ValueError(name)
    packed = b"".join(bytes([len(label)]) + label for label in labels) + b"\0"
    # AD in a question: the answer may say so, too (RFC 6840 5.7)
    head = struct.pack("!6H", number, (0x0100 if recursive else 0) | 0x0020, 1, 0, 0, 1)
    # OPT: the root as name, 41, and how long an answer over UDP may be
    return head + packed + struct.pack("!2H", TYPES[kind], 1) + b"\0" + struct.pack("!2HIH", 41, PAYLOAD, 0, 0)


def _family(server: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in server else socket.AF_INET


def _over_udp(server: t.Tuple[str, int], question: bytes, number: int, patience: float) -> t.Optional[bytes]:
    with socket.socket(_family(server[0]), socket.SOCK_DGRAM) as asked:
        asked.settimeout(patience)
        asked.connect(server)
        asked.send(question)
        try:
            while True:
                message = asked.recv(65535)
                if len(message) >= 12 and struct.unpack_from("!H", message)[0] == number and message[2] & 0x80:
                    return message
        except socket.timeout:
            return None


def _over_tcp(server: t.Tuple[str, int], question: bytes, patience: float) -> bytes:
    with socket.create_connection(server, patience) as asked:
        asked.sendall(struct.pack("!H", len(question)) + question)
        with asked.makefile("rb") as reader:
            return reader.read(struct.unpack("!H", reader.read(2))[0])


def name_at(message: bytes, at: int) -> t.Tuple[str, int]:
    """The name at this offset, and the offset behind it (RFC 1035 4.1.4). Pointers lead backwards only, so it ends."""
    labels: t.List[str] = []
    behind = None
    limit = at
    while message[at]:
        if message[at] >= 0xC0:
            target = struct.unpack_from("!H", message, at)[0] & 0x3FFF
            if target >= limit:
                raise ValueError("a name that points forwards")
            behind = at + 2 if behind is None else behind
            at = limit = target
        else:
            labels.append(message[at + 1 : at + 1 + message[at]].decode("ascii", "replace"))
            at += 1 + message[at]
    return ".".join(labels), (at + 1 if behind is None else behind)


def _parse(message: bytes, name: str, kind: str) -> t.Optional[Answer]:
    _number, flags, questions, answers = struct.unpack_from("!4H", message)
    # NXDOMAIN (3) is an answer too: there is none
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
        found.append((owner.lower(), number, _value(message, at, length, number)))
        at += length
    end = name.rstrip(".").lower()
    # in whatever order they came; a loop has no more links than there are answers
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
