# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Real messages of sudo, and their explanations."""

from __future__ import annotations

import pytest

pytest.importorskip("ansible.plugins.action")

from ansible_collections.port587.mail.plugins.plugin_utils import _become

SAID = [
    ("sudo: sorry, you must have a tty to run sudo\n", "become: sudo wants a terminal"),
    ("Missing sudo password", "become: sudo asks carol for a password. Add --ask-become-pass"),
    ("Task failed: Incorrect sudo password", "become: sudo refuses the password. It is that of carol on the server"),
    ("carol is not in the sudoers file.\n", "become: carol may not use sudo. Run `adduser carol sudo`"),
    (
        "Sorry, user carol is not allowed to execute '/bin/sh' as root on mail.",
        "become: carol may not use sudo. Run `adduser carol sudo`",
    ),
    (
        "sudo-rs: interactive authentication is required\n",
        "become: sudo asks carol for a password. Add --ask-become-pass",
    ),
    (
        "Task failed: Timeout (12s) waiting for privilege escalation prompt: ",
        "become: Ansible does not recognise how this server's sudo asks for the password.",
    ),
    ("/bin/sh: 1: sudo: not found\n", "become: there is no sudo on the server"),
    ("bash: sudo: command not found\n", "become: there is no sudo on the server"),
    ("/bin/sh: 1: /usr/bin/python3: not found\n", "python: '/usr/bin/python3' is not on this server"),
    ("bash: /usr/bin/python: No such file or directory\n", "python: '/usr/bin/python' is not on this server"),
]


@pytest.mark.parametrize(("said", "sentence"), SAID)
def test_known(said: str, sentence: str) -> None:
    told = _become.reason(said, "carol")
    assert told
    assert told.startswith(sentence)


@pytest.mark.parametrize("said", ["", "Traceback (most recent call last):", "sudo make me a sandwich: ok"])
def test_nothing_else_is_taken_for_it(said: str) -> None:
    assert _become.reason(said, "carol") is None
