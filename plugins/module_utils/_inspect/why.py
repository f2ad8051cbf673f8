# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Runs on the server: Python 3.6 and the standard library only.

"""What became of one mail, and why, in words: from the lines of Postfix, rspamd and Dovecot in the journal."""

import re
import typing as t

Line = t.Dict[str, t.Any]
Event = t.Dict[str, t.Any]

#: rspamd's line about a mail: action, points, limit, and the rules.
_VERDICT = re.compile(r"\(default: \S+ \(([^)]*)\): \[(-?[\d.]+)/(-?[\d.]+|nan)\] \[(.*)\]\)")
_RULE = re.compile(r"([A-Z][A-Z0-9_]*)\((-?[\d.]+)\)\{([^}]*)\}")
_QUEUE_ID = re.compile(r"([0-9A-F]{6,}|[0-9B-DF-HJ-NP-TV-Zb-df-hj-np-tv-y]{10,}): ")

#: What Postfix has done for a recipient.
_STATES = {
    "sent": "delivered it to %s",
    "deferred": "could not deliver it to %s yet, and tries again",
    "bounced": "could not deliver it to %s, and told the sender",
}
#: What rspamd's actions mean.
ACTIONS = {
    "no action": "took the mail as wanted",
    "add header": "marked the mail as spam, so that it is delivered into Junk",
    "rewrite subject": "marked the mail as spam",
    "greylist": "asked the sender to come again later (greylisting)",
    "soft reject": "put the mail off, the sender tries again",
    "reject": "refused the mail",
}
#: Rules whose names do not speak for themselves.
RULES = {
    "ALLOWED_SENDER": "the sender is on the site's list rspamd_allow",
    "DENIED_SENDER": "the sender is on the site's list rspamd_deny",
    "OWN_DOMAIN_FORGED": "it claims to come from a domain of this server, without proof",
    "DMARC_POLICY_ALLOW": "DMARC: the domain in From is proved",
    "DMARC_POLICY_REJECT": "DMARC: the domain in From is not proved, and its owner wants such mail refused",
    "DMARC_POLICY_QUARANTINE": "DMARC: the domain in From is not proved, and its owner wants such mail in Junk",
    "DMARC_POLICY_SOFTFAIL": "DMARC: the domain in From is not proved; its owner asks for nothing",
    "DMARC_NA": "DMARC: the domain in From has no policy",
    "DMARC_DNSFAIL": "DMARC: DNS did not answer for the domain in From",
    "R_SPF_ALLOW": "SPF: this machine may send for the domain",
    "R_SPF_FAIL": "SPF: this machine may not send for the domain",
    "R_SPF_SOFTFAIL": "SPF: this machine probably may not send for the domain",
    "R_SPF_NA": "SPF: the domain has no record",
    "R_DKIM_ALLOW": "DKIM: the signature is good",
    "R_DKIM_REJECT": "DKIM: the signature is wrong",
    "R_DKIM_NA": "DKIM: no signature",
    "BAYES_SPAM": "resembles what people here have moved into Junk",
    "BAYES_HAM": "resembles what people here have moved out of Junk",
    "GREYLIST": "greylisting",
    "RDNS_NONE": "the sending machine has no name in DNS",
    "HFILTER_HOSTNAME_UNKNOWN": "the sending machine has no name in DNS",
}


def look(lines: t.Sequence[Line], message_id: str) -> t.Tuple[t.List[Event], t.List[str]]:
    """The events of a mail, and its queue IDs. ``lines``: time, program and text of the mail facility, oldest first."""
    wanted = "<" + message_id.strip().strip("<>") + ">"
    named = [line for line in lines if wanted in line["text"]]
    queue_ids = []  # type: t.List[str]
    for line in named:
        queue_ids += [one for one in _queue_ids(line["text"]) if one not in queue_ids]
    events = []
    for line in lines:
        first = _QUEUE_ID.match(line["text"])
        if line in named or first and first.group(1) in queue_ids:
            said = told(line)
            if said:
                events.append({"time": line["time"], "program": line["program"], "text": said})
    return events, queue_ids


def _queue_ids(text: str) -> t.List[str]:
    """Postfix begins its lines with it; rspamd has it behind qid."""
    first = _QUEUE_ID.match(text)
    return ([first.group(1)] if first else []) + re.findall(r"\bqid: <(\w+)>", text)


def told(line: Line) -> str:
    """One line in words; empty if it says nothing to a person."""
    program, text = line["program"], line["text"]
    if program == "rspamd":
        return _rspamd(text)
    if program.startswith("dovecot"):
        return "Dovecot: " + text
    return _postfix(program.rpartition("/")[2], _QUEUE_ID.sub("", text, 1) if _QUEUE_ID.match(text) else text)


def _postfix(part: str, text: str) -> str:
    if part == "smtpd" and text.startswith("client="):
        login = re.search(r"sasl_username=([^,\s]+)", text)
        by = "after a login as %s" % login.group(1) if login else "without a login"
        return "Postfix began to receive it from %s, %s" % (text.split("=", 1)[1].split(",")[0], by)
    answer = re.search(r"milter-\w+: END-OF-MESSAGE from (\S+): (.*?); from=", text)
    if answer:
        return "Postfix answered %s: %s" % answer.groups()
    size = re.search(r"size=(\d+), nrcpt=(\d+)", text)
    if size:
        return "Postfix queued it: %s bytes, for %s recipient(s)" % size.groups()
    found = re.search(r"to=<([^>]*)>.*?relay=([^,]+),.*?dsn=([\d.]+), status=(\w+) \((.*)\)$", text)
    if found:
        to, relay, dsn, status, said = found.groups()
        return "Postfix %s (%s, through %s): %s" % (_STATES.get(status, status + " for %s") % to, dsn, relay, said)
    return "Postfix is done with it" if text == "removed" else ""


def _rspamd(text: str) -> str:
    verdict = _VERDICT.search(text)
    if not verdict:
        return ""
    action, points, limit, rules = verdict.groups()
    said = "rspamd %s: %s points" % (ACTIONS.get(action, action), points)
    if limit != "nan" and float(limit) < 90:
        said += ", from %s on it refuses mail" % limit
    forced = re.search(r"forced: ([^;]*); ", text)
    if forced:
        said += "; by a rule that decides alone (%s)" % forced.group(1)
    found = [(name, float(score), options) for name, score, options in _RULE.findall(rules)]
    always = ("DMARC_", "R_SPF_", "R_DKIM_", "GREYLIST")
    counted = [one for one in found if abs(one[1]) >= 0.05 or one[0].startswith(always)]
    shown = []
    for name, score, _options in sorted(counted, key=lambda one: -one[1]):
        meaning = RULES.get(name, "")
        shown.append("  %+.1f %s%s" % (score, name, ": " + meaning if meaning else ""))
    return "\n".join([said] + shown)
