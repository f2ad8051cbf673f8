# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Helpers for the checks of several daemons."""

import socket

from ansible_collections.port587.mail.plugins.module_utils._daemons.checks import is_pending, is_taken


def test_port_of_another_program() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        port = other.getsockname()[1]
        other.listen(1)
        assert is_taken(port)
        assert not is_taken(port, "127.0.0.53")
        assert not is_taken(port, "127.0.0.1", socket.SOCK_DGRAM)
    assert not is_taken(port)


def test_what_another_part_makes() -> None:
    assert is_pending("/etc/port587/accounts/none.db")
    assert is_pending("vmail")
    assert not is_pending("/etc/postfix/none.db")
    assert not is_pending(None)
