# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this plugin util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""Explain why a module could not run as root, and the cure. Ansible shows sudo's message as invalid output."""

from __future__ import annotations

import re
import typing as t

from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.plugins.action import ActionBase

#: Messages of sudo, the shell, or Ansible, and their meaning.
REASONS = [
    (
        r"sudo: sorry, you must have a tty",
        "sudo wants a terminal (requiretty in /etc/sudoers), and Ansible has none while pipelining is on. Write "
        "`ansible_pipelining: false` for this host into the inventory; or `Defaults:{user} !requiretty` on the server, "
        "with visudo",
    ),
    (
        r"Missing sudo password|sudo: a password is required|sudo-rs: interactive authentication is required",
        "sudo asks {user} for a password. Add --ask-become-pass to the command; or log in as root (ansible_user)",
    ),
    (
        r"Incorrect sudo password|sudo: \d+ incorrect password attempt",
        "sudo refuses the password. It is that of {user} on the server, not the one of the SSH key or the vault",
    ),
    (
        r"Timeout \(\d+s\) waiting for privilege escalation prompt",
        "Ansible does not recognise how this server's sudo asks for the password. sudo-rs, Ubuntu's sudo since 25.10, "
        "words it in its own way. Write `ansible_become_exe: sudo.ws` for this host into the inventory, which is the "
        "other sudo that Ubuntu has; or log in as root (ansible_user)",
    ),
    (
        r"is not in the sudoers file|is not allowed to (execute|run sudo)",
        "{user} may not use sudo. Run `adduser {user} sudo` on the server as root; or log in as root (ansible_user)",
    ),
    (
        r"\bsudo: (command )?not found",
        "there is no sudo on the server. Install it there as root (apt-get install sudo); or log in as root "
        "(ansible_user)",
    ),
]

#: The shell's messages if there is no Python.
NO_PYTHON = re.compile(r"(/\S*python[0-9.]*): (?:not found|No such file or directory)")

#: Missing in the result of a module that did run.
NOTHING = {"module_stderr": "", "module_stdout": ""}


def reason(said: str, user: str) -> str | None:
    """The explanation of a message, if it is known."""
    missing = NO_PYTHON.search(said)
    if missing:
        return (
            f"python: {missing[1]!r} is not on this server, and Ansible needs Python 3.6 or later there; "
            "install it as root: apt-get update && apt-get install -y python3."
        )
    for pattern, sentence in REASONS:
        if re.search(pattern, said):
            return "become: " + sentence.format(user=user) + "."
    return None


class AsRoot(ActionBase):
    """Base class of actions that may be the first to run as root on a server."""

    TRANSFERS_FILES = False
    _requires_connection = True

    def _run_as_root(self, arguments: dict[str, t.Any], task_vars: dict[str, t.Any] | None) -> dict[str, t.Any]:
        user = str((task_vars or {}).get("ansible_user") or "the user who logs in")
        try:
            result = self._execute_module(module_args=arguments, task_vars=task_vars)
        except AnsibleError as error:
            known = reason(str(error), user)
            if known:
                raise AnsibleActionFail(known) from error
            raise
        known = reason("{module_stderr}\n{module_stdout}".format_map({**NOTHING, **result}), user)
        return {"changed": False, "failed": True, "msg": known} if known else t.cast("dict[str, t.Any]", result)


class RunAsRoot(AsRoot):
    """Only runs the module of the same name."""

    def run(self, tmp: t.Any = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        super().run(tmp, task_vars)
        return self._run_as_root(self._task.args, task_vars)
