# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Runs on the server: Python 3.6 and the standard library only.

"""Recent warnings and errors in the journal."""

import json
import re
import typing as t

from ansible_collections.port587.mail.plugins.module_utils._transaction.commands import has_command, run_command

#: Seconds of the log to read for errors.
SECONDS = 900
#: Number of lines to read: enough to find the cause, and a limit for a busy log.
LINES = 500

#: systemd's catalog of messages: a process of a unit has been killed by the OOM killer.
OUT_OF_MEMORY = "fe6faa94e7774663a0da52717891d8ef"

Facts = t.Dict[str, t.Any]


def parse_log(text: str) -> t.List[Facts]:
    """The output of `journalctl -o json`, oldest first."""
    lines = []
    for row in text.splitlines():
        try:
            entry = json.loads(row)
        except (ValueError, RecursionError):
            continue
        message = entry.get("MESSAGE") if isinstance(entry, dict) else None
        if isinstance(message, str):
            lines.append(
                {
                    "time": int(entry.get("__REALTIME_TIMESTAMP", 0)) / 1e6,
                    "program": entry.get("SYSLOG_IDENTIFIER", ""),
                    "text": message,
                }
            )
    return lines


def warnings() -> t.List[Facts]:
    """The warnings and errors that Postfix and Dovecot logged within SECONDS, oldest first."""
    if not has_command("journalctl"):
        return []
    # 2 is syslog's mail facility: both daemons log with it, under many names
    argv = ["journalctl", "--quiet", "--no-pager", "--output=json", "--since=-%ds" % SECONDS, "--priority=warning"]
    return parse_log(run_command(argv + ["--lines=%d" % LINES, "SYSLOG_FACILITY=2"])[1])


def killed() -> t.List[str]:
    """Processes that the kernel killed within the last day because memory ran out."""
    if not has_command("journalctl"):
        return []
    argv = ["journalctl", "--quiet", "--no-pager", "--output=cat", "--since=-1d"]
    found = parse_killed(run_command(argv + ["--dmesg", "--priority=err"])[1])
    if not found:
        # in a container the kernel's words are not to be had; systemd (from 243 on) says which unit it was
        said = run_command(argv[:3] + ["--output=json", "--since=-1d", "MESSAGE_ID=" + OUT_OF_MEMORY])[1]
        found = [str(entry.get("UNIT", "")) for entry in map(json.loads, said.splitlines())]
    return found


def parse_killed(said: str) -> t.List[str]:
    """Linux before 5.0 writes "Kill process"."""
    return re.findall(r"ut of memory: Kill(?:ed)? process \d+ \(([^)]+)\)", said)
