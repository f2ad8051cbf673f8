# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Runs on the server: Python 3.6 and the standard library only.

"""Recent warnings and errors in the journal."""

import contextlib
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

#: Number of log lines of a day to read in search of refused forwards.
DELIVERIES = 20000
_FROM = re.compile(r"([0-9A-Za-z]+): from=<([^>]*)>")
_REFUSED = re.compile(r"([0-9A-Za-z]+): to=<[^>]*@([^>@]+)>, (orig_to=<)?.*status=bounced \((?:host \S+ said: )?(.*)\)")
#: What servers say of mail whose sender they do not believe, and the codes of Gmail and Microsoft for that.
_UNBELIEVED = re.compile(r"\b(SPF|DKIM|DMARC)\b|\b5\.7\.(2[0-7]|509)\b")

Facts = t.Dict[str, t.Any]


def _journal(*arguments: str) -> str:
    """The output of journalctl(1), which some servers lack."""
    if not has_command("journalctl"):
        return ""
    return run_command(["journalctl", "--quiet", "--no-pager"] + list(arguments))[1]


def _newest(lines: int, *arguments: str) -> str:
    """The last lines of that output, oldest first. Each entry has to be one line."""
    # without --reverse, journalctl of old versions of systemd prints the first lines since a moment
    said = _journal("--reverse", "--lines=%d" % lines, *arguments)
    return "\n".join(said.splitlines()[::-1])


def _entries(text: str) -> t.Iterator[Facts]:
    """The entries in the output of `journalctl -o json`. Damaged ones are passed over."""
    for row in text.splitlines():
        with contextlib.suppress(ValueError, RecursionError):
            entry = json.loads(row)
            if isinstance(entry, dict):
                yield entry


def parse_log(text: str) -> t.List[Facts]:
    """The output of `journalctl -o json`, in its order."""
    return [
        {
            "time": int(entry.get("__REALTIME_TIMESTAMP", 0)) / 1e6,
            "program": entry.get("SYSLOG_IDENTIFIER", ""),
            "text": entry["MESSAGE"],
        }
        for entry in _entries(text)
        if isinstance(entry.get("MESSAGE"), str)
    ]


def warnings() -> t.List[Facts]:
    """The warnings and errors that Postfix and Dovecot logged within SECONDS, oldest first."""
    chosen = ["--output=json", "--since=-%ds" % SECONDS, "--priority=warning"]
    # 2 is syslog's mail facility: both daemons log with it, under many names
    return parse_log(_newest(LINES, *chosen, "SYSLOG_FACILITY=2"))


def mail(days: int) -> t.List[Facts]:
    """All that the mail system logged within some days, oldest first."""
    # 2 is syslog's mail facility, with which rspamd logs, too
    return parse_log(_journal("--output=json", "--since=-%dd" % days, "SYSLOG_FACILITY=2"))


def killed() -> t.List[str]:
    """Processes that the kernel killed within the last day because memory ran out."""
    found = parse_killed(_journal("--output=cat", "--since=-1d", "--dmesg", "--priority=err"))
    if found:
        return found
    # in a container the kernel's words are not to be had; systemd (from 243 on) says which unit it was
    said = _journal("--output=json", "--since=-1d", "MESSAGE_ID=" + OUT_OF_MEMORY)
    return [str(entry.get("UNIT", "")) for entry in _entries(said)]


def parse_killed(said: str) -> t.List[str]:
    """Linux before 5.0 writes "Kill process"."""
    return re.findall(r"ut of memory: Kill(?:ed)? process \d+ \(([^)]+)\)", said)


def refused_forwards() -> t.List[Facts]:
    """The domains that refused forwarded mail within a day because of its sender, and the last answer of each."""
    chosen = ["--output=cat", "--since=-1d", "--identifier=postfix/qmgr", "--identifier=postfix/smtp"]
    return parse_refused(_newest(DELIVERIES, *chosen))


def parse_refused(text: str) -> t.List[Facts]:
    """Mail is forwarded if an alias led there, or if its sender is an SRS address."""
    found: t.Dict[str, Facts] = {}
    senders: t.Dict[str, str] = {}
    for line in text.splitlines():
        active = _FROM.match(line)
        if active:
            senders[active.group(1)] = active.group(2)
        refused = _REFUSED.match(line)
        if not refused or not _UNBELIEVED.search(refused.group(4)):
            continue
        if refused.group(3) or re.match("SRS[01][-+=]", senders.get(refused.group(1), ""), re.IGNORECASE):
            one = found.setdefault(refused.group(2), {"domain": refused.group(2), "count": 0})
            one.update(count=one["count"] + 1, said=refused.group(4))
    return list(found.values())
