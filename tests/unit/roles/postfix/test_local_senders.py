# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The policy service for the machine's own programs: whose connection it is, and as whom they may send."""

import contextlib
import ipaddress
import os
import pwd
import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from repository import program

local_senders = program("postfix", "local-senders")
answer, user_of, Settings = local_senders.answer, local_senders.user_of, local_senders.Settings

NAME = pwd.getpwuid(os.getuid()).pw_name
#: In the tests root is a user like others.
OWN = NAME + "@mail.example.com"


def request(client, server, sender="alice@example.com"):
    (client_address, client_port), (server_address, server_port) = client[:2], server[:2]
    return {
        "client_address": client_address,
        "client_port": str(client_port),
        "server_address": server_address,
        "server_port": str(server_port),
        "sender": sender,
    }


def end(pair):
    return ipaddress.ip_address(pair[0]), pair[1]


@pytest.mark.parametrize(("family", "address"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_the_kernel_says_whose_connection_it_is(family, address):
    with socket.socket(family) as listening:
        listening.bind((address, 0))
        listening.listen(1)
        with socket.create_connection(listening.getsockname()[:2]) as client:
            ends = [end(client.getsockname()), end(listening.getsockname())]
            assert user_of(*ends, local_senders.TABLES) == os.getuid()
            assert user_of(*reversed(ends), []) is None
            # the server's own end is not the client's
            assert user_of(ends[1], ends[1], local_senders.TABLES) is None


#: A line of /proc/net/tcp: 10.0.0.1:1000 to 10.0.0.1:25 of user 33; and what is left of it after the program has gone.
OPEN = "   1: 0100000A:03E8 0100000A:0019 01 00000000:00000000 00:00000000 00000000    33        0 4711 1 x\n"
GONE = "   1: 0100000A:03E8 0100000A:0019 05 00000000:00000000 03:00000000 00000000     0        0 0 3 x\n"
ROOT = OPEN.replace("    33 ", "     0 ")
OURS, MAIL = ("10.0.0.1", 1000), ("10.0.0.1", 25)


@pytest.fixture
def said(tmp_path, monkeypatch):
    """What is answered to a sender, when the kernel's table has this line."""
    monkeypatch.setattr(local_senders, "name_of", lambda uid: {33: "www-data", 0: "root", -1: "nobody"}[uid])

    def ask(line, sender, client=OURS, trusted=()):
        (tmp_path / "tcp").write_text(line)
        settings = Settings("mail.example.com", list(trusted))
        return answer(request(client, MAIL, sender), settings, [str(tmp_path / "tcp"), str(tmp_path / "none")])

    return ask


@pytest.mark.parametrize("sender", ["www-data@mail.example.com", "WWW-data+form@Mail.Example.com"])
def test_everybody_sends_as_himself(said, sender):
    assert said(OPEN, sender) == "DUNNO"


@pytest.mark.parametrize(
    "sender",
    ["", "www-data", "alice@example.com", "root@mail.example.com", "+@mail.example.com", "www-data@x@mail.example.com"],
)
def test_and_as_nobody_else(said, sender):
    assert said(OPEN, sender).startswith("550 5.7.1 ")
    assert said(OPEN, sender, trusted=["www-data"]) == "DUNNO"
    assert said(ROOT, sender) == "DUNNO"


def test_of_a_socket_that_was_closed_the_kernel_says_root_which_counts_for_nothing(said):
    assert said(GONE, "root@mail.example.com").startswith("550 ")
    assert said("", "alice@example.com").startswith("550 ")


def test_other_machines_pass(said):
    assert said(OPEN, "kim@elsewhere.example", client=("192.0.2.1", 1000)) == "DUNNO"


@given(st.text(alphabet="0123456789ABCDEF: ", max_size=60))
def test_a_line_of_another_form_raises_only_what_is_caught(line):
    with contextlib.suppress(ValueError, struct.error):
        local_senders._end(line)
