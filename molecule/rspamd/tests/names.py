# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A name server that knows a few names only. Runs on the mail host, as root."""

import socket

# from here comes partner.example's mail, and 192.0.2.99 is on a block list
TXT = {"partner.example": b"v=spf1 ip4:192.0.2.55 -all"}
A = {"99.2.0.192.zen.spamhaus.org": bytes([127, 0, 0, 2])}

server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("127.0.0.53", 53))
while True:
    query, client = server.recvfrom(4096)
    labels, at = [], 12
    while query[at]:
        labels.append(query[at + 1 : at + 1 + query[at]].decode().lower())
        at += 1 + query[at]
    kind, name = query[at + 2], ".".join(labels)
    data = b""
    if kind == 16 and name in TXT:
        data = bytes([len(TXT[name])]) + TXT[name]
    elif kind == 1 and name in A:
        data = A[name]
    answer = (
        b"\xc0\x0c\x00" + bytes([kind]) + b"\x00\x01\x00\x00\x00\x3c" + len(data).to_bytes(2, "big") + data
        if data
        else b""
    )
    # NXDOMAIN without one; EDNS and the rest of the question are left out
    head = (
        query[:2]
        + (b"\x81\x80" if data else b"\x81\x83")
        + b"\x00\x01"
        + (b"\x00\x01" if data else b"\x00\x00")
        + b"\x00" * 4
    )
    server.sendto(head + query[12 : at + 5] + answer, client)
