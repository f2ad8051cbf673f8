# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Runs on the server: Python 3.6 and the standard library only.

"""End sessions of Dovecot: whoever knows an old password only, or had more rights, is out."""

import contextlib
import os
import re
import signal
import time
import typing as t

from ansible_collections.port587.mail.plugins.module_utils._transaction.commands import run_command

#: Seconds to wait for Dovecot.
WAIT = 20


def await_dovecot() -> None:
    """Dovecot looks at a file at most once in each second of the clock: in this one it may know the old one only."""
    time.sleep(1.05 - time.time() % 1)


def end(logins: t.Collection[str]) -> None:
    """Close the accounts' connections. Without a running Dovecot there are none."""
    if not logins:
        return
    await_dovecot()
    _code, who, _err = run_command(["timeout", str(WAIT), "doveadm", "-f", "tab", "who"])
    # each process has one session. `doveadm kick` of 2.4 ends none that has opened a shared mailbox
    for pid in processes(who, logins):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)


def processes(who: str, logins: t.Container[str]) -> t.List[int]:
    """The processes of these accounts in Dovecot's list: lines of an account, a number, a protocol, (processes), ..."""
    found = []  # type: t.List[int]
    for line in who.splitlines():
        fields = line.split("\t")
        if len(fields) > 3 and fields[0] in logins:
            found += [int(pid) for pid in re.findall(r"\d+", fields[3])]
    return found
