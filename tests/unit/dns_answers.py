# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Answers of name servers, byte by byte."""

import struct

A = bytes([192, 0, 2, 5])


def name(text: str) -> bytes:
    return b"".join(bytes([len(label)]) + label.encode() for label in text.split(".")) + b"\0"


def answer(number: int, *records: bytes, code: int = 0, question: str = "mail.example.com", kind: int = 1) -> bytes:
    header = struct.pack("!6H", number, 0x8180 | code, 1, len(records), 0, 0)
    return header + name(question) + struct.pack("!2H", kind, 1) + b"".join(records)


def record(kind: int, data: bytes) -> bytes:
    """A record of the name in the question, by pointer."""
    return b"\xc0\x0c" + struct.pack("!2HIH", kind, 1, 60, len(data)) + data
