# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# May run on any vantage host: Python 3.6 and the standard library only.

"""What was found: one record per step, and the findings that follow from all of them together."""

import typing as t

from ansible_collections.port587.mail.plugins.module_utils._probe.diagnoses import DIAGNOSES, DOC


class Record(t.NamedTuple):
    """One step of the walk."""

    service: str
    step: str
    component: str
    address: str
    port: int
    verdict: str  #: ok, warn, fail or skip
    seen: str
    diagnosis: str = ""

    def endpoint(self) -> str:
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"

    def to_dict(self) -> t.Dict[str, t.Any]:
        known = DIAGNOSES.get(self.diagnosis)
        return {
            "service": self.service,
            "step": self.step,
            "component": self.component,
            "endpoint": self.endpoint(),
            "verdict": self.verdict,
            "seen": self.seen,
            "diagnosis": self.diagnosis,
            "cause": known.cause.format(port=self.port) if known else "",
            "cure": known.cure.format(port=self.port) if known else "",
            "doc": DOC + self.diagnosis if known else "",
        }


def overall(records: t.Sequence[Record]) -> str:
    verdicts = {record.verdict for record in records}
    return "fail" if "fail" in verdicts else "warn" if "warn" in verdicts else "ok"


def findings(records: t.Sequence[Record]) -> t.List[t.Dict[str, t.Any]]:
    """What is wrong, the root first. What only follows from something else is not listed."""
    bad = [record for record in records if record.verdict in ("fail", "warn")]
    root = _root(records)
    if root:
        diagnosis, explained, because = root
        bad = [record for record in bad if record not in explained]
        bad.insert(0, because._replace(verdict="fail", diagnosis=diagnosis, component=DIAGNOSES[diagnosis].component))
    # failures first, and one entry per diagnosis: an expired certificate is one fault on seven ports
    merged: t.Dict[str, t.Dict[str, t.Any]] = {}
    for record in sorted(bad, key=lambda record: record.verdict != "fail"):
        found = merged.get(record.diagnosis)
        if found:
            if record.endpoint() not in found["endpoints"]:
                found["endpoints"].append(record.endpoint())
            continue
        entry = record.to_dict()
        entry["endpoints"] = [entry.pop("endpoint")]
        merged[record.diagnosis] = entry
    follows = {consequence for diagnosis in merged for consequence in _CONSEQUENCES.get(diagnosis, ())}
    return [finding for diagnosis, finding in merged.items() if diagnosis not in follows]


#: What follows from a fault, and is none of its own.
_CONSEQUENCES = {
    "submission-closed": ["ipv6-silent"],
    "port-filtered": ["ipv6-silent"],
    "postfix-stopped": ["ipv6-silent"],
    "server-unreachable": ["ipv6-silent"],
    "dovecot-stopped": ["login-socket"],
    # Dovecot also answers Postfix's question whether a mailbox is full
    "dovecot-auth-broken": ["login-socket", "mail-in-refused"],
    # an account that only sends has no mailbox
    "login-not-for-reading": ["recipient-unknown"],
}


_POSTFIX = ("smtp", "submission", "submissions")
_DOVECOT = ("imaps", "pop3s", "imap", "pop3", "sieve")

Root = t.Tuple[str, t.List[Record], Record]


def _root(records: t.Sequence[Record]) -> t.Optional[Root]:
    """One fault that explains several: its diagnosis, what it explains, and the record that shows it best."""
    connects = {record.service: record for record in records if record.step == "connect"}
    if any(record.diagnosis == "name-unknown" for record in connects.values()):
        return None
    postfix = [connects[service] for service in _POSTFIX if service in connects]
    dovecot = [connects[service] for service in _DOVECOT if service in connects]
    # a closed 143, 110 or 4190 is no fault by itself, but then its verdict is not ok either
    postfix_down = len(postfix) > 1 and all(record.verdict != "ok" for record in postfix)
    dovecot_down = len(dovecot) > 1 and all(record.verdict != "ok" for record in dovecot)
    if postfix_down and dovecot_down:
        return "server-unreachable", list(connects.values()), postfix[-1]
    if postfix_down and not _filtered(postfix):
        return "postfix-stopped", postfix, postfix[-1]
    if dovecot_down and not _filtered(dovecot):
        return "dovecot-stopped", dovecot, dovecot[0]
    broken = [record for record in records if record.diagnosis == "dovecot-auth-broken"]
    if broken:
        return "dovecot-auth-broken", [record for record in records if record.service in _DOVECOT], broken[0]
    return None


def _filtered(connects: t.List[Record]) -> bool:
    return any(record.diagnosis in ("port-filtered", "port-25-filtered") for record in connects)
