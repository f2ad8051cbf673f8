# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Runs on the controller.

"""Join the findings from outside, from inside and from DNS."""

import re
import typing as t

from ansible_collections.port587.mail.plugins.module_utils._probe.records import (
    INSIDE,
    ON_THE_SERVER,
    Record,
    findings,
    overall,
)
from ansible_collections.port587.mail.plugins.module_utils._wire.limits import LONGEST_TEXT
from ansible_collections.port587.mail.plugins.module_utils._wire.words import printable

#: Seconds at the end of the log in which a walk leaves its traces.
RECENT = 60.0

#: Patterns of log lines about each fault.
_WORDS = {
    "postfix-stopped": r"fatal",
    "dovecot-stopped": r"Fatal|Error",
    "dovecot-auth-broken": r"auth: (Fatal|Error)",
    "service-dies": r"fatal|panic",
    "service-stalls": r"fatal|throttling",
    "tls-broken": r"TLS|SSL|certificate|chain file|private key",
    "login-socket": r"SASL",
    "login-refused": r"authentication fail|password|auth failed|unknown user",
    "lookup-failed": r"lookup error|unknown smtpd restriction|open database|lookup table|table lookup",
    "disk-full": r"[Nn]o space|insufficient|not enough free space",
    "not-delivered": r"lmtp|sieve",
    "delivery-socket": r"lmtp",
    "policy-socket": r"policy|access table|connect to",
    "milter-socket": r"[Mm]ilter",
    "mailbox-unreadable": r"[Pp]ermission denied|chdir|Initialization failed|mkdir",
    "mail-refused": r"warning|error",
}


def join(result: t.Dict[str, t.Any], also: t.Sequence[t.Dict[str, t.Any]]) -> t.Dict[str, t.Any]:
    """Join the result of :mod:`probe` with those of other modules about the same server."""
    known = [dict(one, seen=printable(one["seen"])) for part in (result, *also) for one in part.get("records", ())]
    known += [_unreachable(one).to_dict() for one in also if one.get("unreachable")]
    records = [Record.from_dict(record) for record in known]
    if any(one.get("own_password") for one in also):
        records = [_with_own_password(record) for record in records]
        known = [record.to_dict() for record in records]
    log = [line for one in also for line in one.get("log", ())]
    found = [dict(finding, log=_words(finding["diagnosis"], log)) for finding in findings(records)]
    return dict(result, records=known, findings=found, verdict=overall(records))


def _with_own_password(record: Record) -> Record:
    """Where a person has changed the password, a refused login with the old one is no fault of the server."""
    if record.diagnosis != "login-refused":
        return record
    return record._replace(diagnosis="password-changed", verdict="warn")


def _unreachable(one: t.Dict[str, t.Any]) -> Record:
    """The record of an inspection that could not log in, so the server's state is unknown."""
    why = " ".join(str(one.get("msg", "")).split())[:200]
    return Record(INSIDE, "login", "", ON_THE_SERVER, 0, "skip", f"not looked at, as Ansible can't log in: {why}")


def _words(diagnosis: str, log: t.Sequence[t.Dict[str, t.Any]]) -> str:
    """The last line of the server's log on this fault. What ended a program counts more than a warning."""
    about = [line for line in log if diagnosis in _WORDS and re.search(_WORDS[diagnosis], line["text"])]
    # what the walk itself has caused, if there is any
    recent = [line for line in about if line["time"] > log[-1]["time"] - RECENT] or about
    last = [line for line in recent if re.search(r"fatal|panic", line["text"], re.IGNORECASE)] or recent
    return printable("{program}: {text}".format(**last[-1]))[:LONGEST_TEXT] if last else ""
