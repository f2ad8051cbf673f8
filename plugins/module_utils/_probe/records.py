# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# May run on any vantage host: Python 3.6 and the standard library only.

"""Records of the single steps, and the findings from all of them together."""

import typing as t

from ansible_collections.port587.mail.plugins.module_utils._probe.diagnoses import DIAGNOSES, DOC

#: The service, and the address, of what was seen on the server itself.
INSIDE = "inside"
ON_THE_SERVER = "on the server"


class Record(t.NamedTuple):
    """One step of a walk, or one inspected fact."""

    service: str
    step: str
    component: str
    address: str
    port: int
    verdict: str  #: ok, warn, fail or skip
    seen: str
    diagnosis: str = ""

    def endpoint(self) -> str:
        if self.address == ON_THE_SERVER:
            return self.address
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"

    def to_dict(self) -> t.Dict[str, t.Any]:
        known = DIAGNOSES.get(self.diagnosis)
        return {
            "service": self.service,
            "step": self.step,
            "component": self.component,
            "endpoint": self.endpoint(),
            "port": self.port,
            "verdict": self.verdict,
            "seen": self.seen,
            "diagnosis": self.diagnosis,
            "cause": known.cause.format(port=self.port) if known else "",
            "cure": known.cure.format(port=self.port) if known else "",
            "doc": DOC + self.diagnosis if known else "",
        }

    @classmethod
    def from_dict(cls, known: t.Mapping[str, t.Any]) -> "Record":
        address, port = known["endpoint"], ""
        if address != ON_THE_SERVER:
            address, _colon, port = address.rpartition(":")
        return cls(
            service=known["service"],
            step=known["step"],
            component=known["component"],
            address=address.strip("[]"),
            port=int(port or known["port"]),
            verdict=known["verdict"],
            seen=known["seen"],
            diagnosis=known["diagnosis"],
        )


def overall(records: t.Sequence[Record]) -> str:
    verdicts = {record.verdict for record in records}
    return "fail" if "fail" in verdicts else "warn" if "warn" in verdicts else "ok"


def findings(records: t.Sequence[Record]) -> t.List[t.Dict[str, t.Any]]:
    """The faults, root causes first. A consequence is not listed, but mentioned with its cause."""
    records = _with_open_ports(records)
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
        if found is None:
            entry = record.to_dict()
            merged[record.diagnosis] = dict(entry, endpoints=[entry.pop("endpoint")], inside=[], hence=[])
        elif record.address == ON_THE_SERVER:
            found["inside"].append(record.seen)
        elif record.endpoint() not in found["endpoints"]:
            found["endpoints"].append(record.endpoint())
    return _without_consequences(merged)


def _without_consequences(merged: t.Dict[str, t.Dict[str, t.Any]]) -> t.List[t.Dict[str, t.Any]]:
    follows = set()
    for diagnosis, cause in merged.items():
        for name in _CONSEQUENCES.get(diagnosis, ()):
            consequence = merged.get(name)
            if consequence:
                follows.add(name)
                cause["hence"].append(consequence["seen"])
                # a warning that explains a failure
                if consequence["verdict"] == "fail":
                    cause["verdict"] = "fail"
    left = [finding for diagnosis, finding in merged.items() if diagnosis not in follows]
    return sorted(left, key=lambda finding: finding["verdict"] != "fail")


def _with_open_ports(records: t.Sequence[Record]) -> t.List[Record]:
    """If the daemon serves a port that is refused from outside, something else refuses it."""
    inside = [record for record in records if record.service == INSIDE]
    served = {record.port for record in inside if record.verdict == "ok" and record.port}
    shut = {record.port for record in inside if record.diagnosis == "host-firewall"}
    found = []
    for record in records:
        if record.diagnosis in _CLOSED + _IN_BETWEEN and record.port in shut:
            record = record._replace(diagnosis="host-firewall", component="network")
        elif record.diagnosis in _CLOSED and record.port in served:
            record = record._replace(diagnosis="port-rejected", component="network")
        found.append(record)
    return found


_CLOSED = ["submission-closed", "smtp-closed", "retrieval-closed", "sieve-closed"]
_IN_BETWEEN = ["port-filtered", "port-25-filtered", "port-rejected"]
_REFUSED = ["recipient-unknown", "sender-refused", "mail-in-refused", "mail-refused"]

#: The consequences of each fault, which are not faults themselves.
_CONSEQUENCES = {
    "submission-closed": ["ipv6-silent"],
    "port-filtered": ["ipv6-silent"],
    "port-rejected": ["ipv6-silent"],
    "host-firewall": ["ipv6-silent"],
    "address-banned": [
        *_CLOSED,
        *_IN_BETWEEN,
        "ipv6-silent",
        "server-unreachable",
        "dovecot-stopped",
        "autoconfig-closed",
    ],
    # Dovecot checks Postfix's logins, takes its mail, and knows whether a mailbox is full
    "dovecot-stopped": ["login-socket", "delivery-socket", "policy-socket", "server-unreachable", "restarts-often"],
    "dovecot-auth-broken": ["login-socket", "policy-socket", "mail-in-refused"],
    "postfix-stopped": ["ipv6-silent", "server-unreachable", "restarts-often"],
    "server-unreachable": ["ipv6-silent"],
    "loopback-only": [*_CLOSED, "ipv6-silent", "postfix-stopped", "dovecot-stopped", "server-unreachable"],
    "port-taken": [
        *_CLOSED,
        "ipv6-silent",
        "port-filtered",
        "service-confused",
        "service-stalls",
        "service-dies",
        "restarts-often",
    ],
    # an account that only sends has no mailbox
    "login-not-for-reading": ["recipient-unknown"],
    "certificate-not-loaded": [
        "certificate-expired",
        "certificate-expires-soon",
        "certificate-wrong-name",
        "certificate-chain",
        "certificate-untrusted",
    ],
    "certificate-not-issued": ["certificate-untrusted", "certificate-wrong-name", "certificate-chain"],
    "renewal-failed": ["certificate-expired", "certificate-expires-soon"],
    "renewal-off": ["certificate-expired", "certificate-expires-soon"],
    "table-stale": _REFUSED,
    "policy-socket": _REFUSED,
    # smtpd then says "try again later" to STARTTLS, AUTH and RCPT alike
    "milter-socket": [*_REFUSED, "tls-broken", "login-socket", "relay-unclear", "lookup-failed"],
    "disk-full": [*_REFUSED, "not-delivered"],
    "delivery-socket": ["not-delivered"],
    "sessions-full": ["service-confused", "service-dies", "not-delivered"],
    "resolver-in-chroot": ["queue-stuck"],
    "resolver-fails": ["queue-stuck"],
    "outgoing-25-blocked": ["queue-stuck"],
}


_POSTFIX = ("smtp", "submission", "submissions")
_DOVECOT = ("imaps", "pop3s", "imap", "pop3", "sieve")

Root = t.Tuple[str, t.List[Record], Record]


def _root(records: t.Sequence[Record]) -> t.Optional[Root]:
    """A root cause: its diagnosis, the faults that it explains, and the record that shows it best."""
    connects = {record.service: record for record in records if record.step == "connect"}
    if any(record.diagnosis in ("name-unknown", "host-firewall") for record in connects.values()):
        return None
    postfix = [connects[service] for service in _POSTFIX if service in connects]
    dovecot = [connects[service] for service in _DOVECOT if service in connects]
    # a closed 143, 110 or 4190 is not a fault by itself, but its verdict is not ok either
    postfix_down = len(postfix) > 1 and all(record.verdict != "ok" for record in postfix)
    dovecot_down = len(dovecot) > 1 and all(record.verdict != "ok" for record in dovecot)
    if postfix_down and dovecot_down:
        return "server-unreachable", list(connects.values()), postfix[-1]
    if postfix_down and not _in_between(postfix):
        return "postfix-stopped", postfix, postfix[-1]
    if dovecot_down and not _in_between(dovecot):
        return "dovecot-stopped", dovecot, dovecot[0]
    broken = [record for record in records if record.diagnosis == "dovecot-auth-broken"]
    if broken:
        return "dovecot-auth-broken", [record for record in records if record.service in _DOVECOT], broken[0]
    return None


def _in_between(connects: t.List[Record]) -> bool:
    """Whether something other than the daemon, such as a firewall, blocks clients."""
    return any(record.diagnosis in _IN_BETWEEN for record in connects)
