# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# May run on any vantage host: Python 3.6 and the standard library only.

"""Compare the wanted records with the world's DNS.

The zone's own name servers show what is published; recursive ones show what other networks still have in their caches.
"""

import re
import typing as t
from concurrent.futures import ThreadPoolExecutor

from ansible_collections.port587.mail.plugins.module_utils._dns import client
from ansible_collections.port587.mail.plugins.module_utils._dns.records import (
    SPF_LOOKUPS,
    Record,
    spf_lookups,
)

#: Queries a server: address, name, type, whether it may recurse.
Ask = t.Callable[[str, str, str, bool], t.Optional[client.Answer]]

PRESENT, MISSING, DIFFERENT, WAITING, UNKNOWN = "present", "missing", "different", "waiting", "unknown"

#: Number of a zone's name servers to query. They should all agree.
_NAME_SERVERS = 4


class _Group(t.NamedTuple):
    """Records of one name and type, which belong together."""

    name: str
    kind: str
    records: t.List[Record]


def look(wanted: t.Sequence[Record], resolvers: t.Sequence[str], ask: Ask = client.ask) -> t.List[Record]:
    """The records, each with its state, the present values, and mistakes to correct by hand first."""
    groups: t.Dict[t.Tuple[str, str, str], _Group] = {}
    for record in wanted:
        key = record["name"], record["type"], _kind(record)
        groups.setdefault(key, _Group(record["name"], record["type"], [])).records.append(record)
    with ThreadPoolExecutor(max_workers=16) as pool:
        zones = sorted({record["zone"] or record["name"] for record in wanted})
        servers = dict(zip(zones, pool.map(lambda zone: name_servers(zone, resolvers, ask), zones)))

        def judge(group: _Group) -> t.Tuple[str, str, str]:
            first = group.records[0]
            return _Sight(group, servers[first["zone"] or first["name"]], resolvers, ask).state()

        states = dict(zip(groups, pool.map(judge, groups.values())))
    found = []
    for record in wanted:
        state, seen, problem = states[record["name"], record["type"], _kind(record)]
        found.append(dict(record, state=state, seen=seen, problem=problem))
    return found


def name_servers(zone: str, resolvers: t.Sequence[str], ask: Ask) -> t.List[str]:
    """Addresses of the name servers that are authoritative for the zone, or for its parent zone."""
    name = zone
    while "." in name:
        hosts = _first(resolvers, name, "NS", ask)
        if hosts:
            return [
                address for host in sorted(hosts)[:_NAME_SERVERS] for address in _first(resolvers, host, "A", ask)[:1]
            ]
        name = name.partition(".")[2]
    return []


def _first(resolvers: t.Sequence[str], name: str, kind: str, ask: Ask) -> t.List[str]:
    """The values in the first answer."""
    answer = next(filter(None, (ask(resolver, name, kind, True) for resolver in resolvers)), None)
    return answer.values if answer else []


class _Sight:
    def __init__(self, group: _Group, servers: t.Sequence[str], resolvers: t.Sequence[str], ask: Ask) -> None:
        self.group = group
        self.ask = ask
        self.resolvers = resolvers
        self.published = [self._values(server, False) for server in servers]
        self.remembered = [self._values(resolver, True) for resolver in resolvers]

    def _values(self, server: str, recursive: bool) -> t.Optional[t.List[str]]:
        """This server's values for the group; None if it does not answer."""
        answer = self.ask(server, self.group.name, self.group.kind, recursive)
        if answer is None:
            return None
        if self.group.kind == "CNAME" and not answer.values:
            # addresses instead of a CNAME, if they are correct
            addresses: t.List[str] = []
            for kind in ("A", "AAAA"):
                found = self.ask(server, self.group.name, kind, recursive)
                addresses += found.values if found else []
            right = self.group.records[0].get("addresses", ())
            return self._wanted() if addresses and set(addresses) <= set(right) else addresses
        # the same name may have TXT records for other purposes
        first = self.group.records[0]
        return [
            value
            for value in answer.values
            if self.group.kind != "TXT" or _kind(dict(first, value=value)) == _kind(first)
        ]

    def _wanted(self) -> t.List[str]:
        return [record["value"] for record in self.group.records]

    def _right(self, values: t.Sequence[str]) -> bool:
        wanted, seen = ({_plain(self.group.kind, one) for one in side} for side in (self._wanted(), values))
        # further CAA records are fine; two SPF records are an error, even if one of them is correct
        return wanted <= seen if self.group.kind == "CAA" else wanted == seen and len(values) == len(self._wanted())

    def state(self) -> t.Tuple[str, str, str]:
        """The state, the present values, and the mistake that publishing a further record would not cure."""
        state, seen = self._state()
        problem = self._problem()
        if not problem:
            return state, seen, ""
        name = "%s %s: " % (self.group.name, self.group.kind)
        return DIFFERENT if state == PRESENT else state, problem, name + problem

    def _state(self) -> t.Tuple[str, str]:
        published = [one for one in self.published if one is not None]
        remembered = [one for one in self.remembered if one is not None]
        if not published and not remembered:
            return UNKNOWN, "no name server answers"
        reference = published or remembered
        right = [self._right(values) for values in reference]
        others = sorted({value for values in reference for value in values})
        if all(right):
            if all(map(self._right, remembered)):
                return PRESENT, ""
            return WAITING, "published, but not everywhere yet: others remember what was there before"
        if any(right):
            return WAITING, "not on all name servers of the zone yet"
        if not others:
            return MISSING, ""
        return DIFFERENT, " | ".join(others)

    def _problem(self) -> str:
        if self.group.kind != "TXT":
            return ""
        for values in filter(None, self.published if any(self.published) else self.remembered):
            # of SPF, DMARC, DKIM, MTA-STS and TLS reports alike
            if len(values) > len(self.group.records):
                those = " | ".join(sorted(values))
                return "there are %d of them, and receivers take none then: %s" % (len(values), those)
        text = self._wanted()[0]
        if text.lower().startswith("v=spf1") and self._lookups(text, 0) > SPF_LOOKUPS:
            return "with what it includes, it causes more than %d look-ups, and receivers stop there" % SPF_LOOKUPS
        return ""

    def _lookups(self, text: str, depth: int) -> int:
        """Look-ups of an SPF record with its includes, as far as these are available."""
        count = spf_lookups(text)
        if count > SPF_LOOKUPS:
            return count  # whatever else it includes
        for name in re.findall(r"(?:include:|redirect=)([^\s%]+)", text, re.IGNORECASE):
            for value in _first(self.resolvers, name, "TXT", self.ask) if depth < SPF_LOOKUPS else ():
                if value.lower().startswith("v=spf1"):
                    count += self._lookups(value, depth + 1)
                if count > SPF_LOOKUPS:
                    return count
        return count


def _kind(record: t.Mapping[str, t.Any]) -> str:
    """The purpose of a TXT record, among several at one name. Below _domainkey there are only keys."""
    if record["type"] != "TXT" or "._domainkey." in record["name"]:
        return ""
    return re.split(r"[\s;]", str(record["value"]).strip().lower())[0]


def _plain(kind: str, value: str) -> str:
    """Normalise a value, so that equivalent values are equal."""
    if kind == "TXT":
        return re.sub(r"\s*([;=])\s*", r"\1", " ".join(value.split())).rstrip(";")
    return value.lower()


# -- for verify -----------------------------------------------------------------------------------------------------

#: The report of each state: verdict, diagnosis.
_REPORTED = {
    MISSING: ("warn", "dns-record-missing"),
    DIFFERENT: ("warn", "dns-record-different"),
    WAITING: ("ok", ""),
    UNKNOWN: ("skip", ""),
    PRESENT: ("ok", ""),
}


def as_records(found: t.Sequence[Record]) -> t.Iterator[t.Tuple[str, str, str, str]]:
    """One record for each state that occurs: step, verdict, diagnosis, observation."""
    for state, (verdict, diagnosis) in _REPORTED.items():
        those = [record for record in found if record["state"] == state]
        if those:
            names = ", ".join("%s %s" % (record["name"], record["type"]) for record in those[:3])
            more = " and %d more" % (len(those) - 3) if len(those) > 3 else ""
            yield "records that are %s" % state, verdict, diagnosis, "%s%s: %s" % (names, more, state)
