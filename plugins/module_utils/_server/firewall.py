# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Runs on the server: Python 3.6 and the standard library only.

"""The ports that the server's own firewall blocks for all clients.

Read from the rules in the kernel, whichever program wrote them: ufw, firewalld, nftables, iptables. A rule that depends
on more than the port (an address, an interface, a rate) may let some connections in, so a port counts as shut only if
no rule on the way could let a new connection in.
"""

import contextlib
import json
import shlex
import typing as t

from ansible_collections.port587.mail.plugins.module_utils._transaction.commands import has_command, run_command

#: The fate of a new connection, as far as the rules are certain.
OPEN, SHUT, ON = "open", "shut", "on"  # on: undecided, the next rule decides
#: Whether a rule is about it.
YES, MAYBE, NO = 2, 1, 0


class Rule(t.NamedTuple):
    #: whether it is about a new connection from outside to the port
    about: t.Callable[[int], int]
    verdict: str  # OPEN, SHUT, ON (counts, logs), return, jump or goto
    target: str = ""


class Chains(t.NamedTuple):
    """A table: the rules of each chain; and of those in which packets to this machine start, what the rest become."""

    rules: t.Dict[str, t.List[Rule]]
    policies: t.Dict[str, str]


class Shut(t.NamedTuple):
    ports: t.List[int]
    by: str  # the usual name of the firewall
    cure: str


#: The table of the role firewall, which a run of site.yml writes anew.
OURS = "inet port587"


def look(ports: t.Sequence[int], without: t.Container[str] = ()) -> t.List[Shut]:
    """The ports that are blocked for all over IPv4, and the commands that open them. ``without``: tables to ignore."""
    found: t.Dict[t.Tuple[int, ...], Shut] = {}
    for read in (_iptables, _legacy_iptables, _nft):
        # rules in an unknown form are left out
        with contextlib.suppress(ValueError, LookupError, TypeError, AttributeError):
            for name, table in read().items():
                shut = [] if name in without else closed(table, ports)
                # rules that iptables wrote into nftables are seen twice
                if shut:
                    found.setdefault(tuple(shut), _described(name, table, shut))
    return list(found.values())


def _iptables() -> t.Dict[str, Chains]:
    return {"iptables": parse_iptables(_said(["iptables-save"]))}


def _legacy_iptables() -> t.Dict[str, Chains]:
    return {"iptables-legacy": parse_iptables(_said(["iptables-legacy-save"]))}


def _nft() -> t.Dict[str, Chains]:
    return parse_nft(_said(["nft", "-j", "list", "ruleset"]))


def _said(command: t.List[str]) -> str:
    return run_command(command)[1] if has_command(command[0]) else ""


def _described(name: str, table: Chains, ports: t.List[int]) -> Shut:
    listed = ",".join(map(str, ports))
    if name == OURS:
        return Shut(ports, "the role firewall", "run site.yml, without these ports in firewall_close")
    if any(chain.startswith("ufw-") for chain in table.rules):
        return Shut(ports, "ufw", "ufw allow %s/tcp" % listed)
    if name.endswith(" firewalld") or "INPUT_ZONES" in table.rules:
        options = " ".join("--add-port=%d/tcp" % port for port in ports)
        return Shut(ports, "firewalld", "firewall-cmd --permanent %s; firewall-cmd --reload" % options)
    if name.startswith("iptables"):
        command = "iptables -I INPUT -p tcp -m multiport --dports %s -j ACCEPT" % listed
        return Shut(ports, "iptables", command + ", the same with ip6tables, and both wherever the rules are kept")
    chain = next(
        chain for chain in table.policies if closed(Chains(table.rules, {chain: table.policies[chain]}), ports)
    )
    command = "nft insert rule %s %s tcp dport '{ %s }' accept" % (name, chain, listed)
    return Shut(ports, "nftables", command + ", and the same rule in /etc/nftables.conf")


def closed(table: Chains, ports: t.Iterable[int]) -> t.List[int]:
    """The ports that are certainly blocked for a packet to this machine."""
    return [port for port in ports if any(_start(table, chain, port) == SHUT for chain in table.policies)]


def _start(table: Chains, chain: str, port: int) -> str:
    decided = _walk(table, chain, port, 0)
    return table.policies[chain] if decided == ON else decided


def _walk(table: Chains, chain: str, port: int, depth: int) -> str:
    """The chain's decision. A rule that may accept counts as accepting; a rule that may drop is skipped."""
    if depth > 64:
        return OPEN
    left = False
    for rule in table.rules.get(chain, ()):
        about, verdict = rule.about(port), rule.verdict
        if about == NO or verdict == ON:
            continue
        if verdict in ("jump", "goto"):
            verdict = _walk(table, rule.target, port, depth + 1)
            if verdict == ON and rule.verdict == "goto":
                verdict = "return"
        if verdict == OPEN:
            return OPEN
        if about == YES and verdict in (SHUT, "return"):
            # a packet that may have left the chain before is decided by the next one
            return SHUT if verdict == SHUT and not left else ON
        left = left or verdict == "return"
    return ON


# -- iptables -----------------------------------------------------------------------------------------------------

_TARGETS = {"ACCEPT": OPEN, "DROP": SHUT, "REJECT": SHUT, "RETURN": "return"}
#: Targets that leave the packet where it is.
_PASSING = ("LOG", "NFLOG", "ULOG", "MARK", "CONNMARK", "SET", "AUDIT", "TRACE", "CT", "NOTRACK", "TCPMSS")


def parse_iptables(text: str) -> Chains:
    """The table `filter` of the output of iptables-save."""
    rules: t.Dict[str, t.List[Rule]] = {}
    policies = {}
    filters = False
    for line in text.splitlines():
        if line.startswith("*"):
            filters = line == "*filter"
        elif filters and line.startswith(":"):
            chain, policy = line[1:].split()[:2]
            rules[chain] = []
            if chain == "INPUT":
                policies[chain] = _TARGETS.get(policy, OPEN)
        elif filters and line.startswith("-A "):
            words = shlex.split(line)
            rules.setdefault(words[1], []).append(_iptables_rule(words[2:], rules))
    return Chains(rules, policies)


def _iptables_rule(words: t.List[str], chains: t.Container[str]) -> Rule:
    target = verdict = ""
    conditions = []
    while words and words[0] not in ("-j", "-g"):
        # an option with its values, "!" in front where it is upside down
        end = 2 if words[0] == "!" else 1
        while end < len(words) and not (words[end].startswith("-") or words[end] == "!"):
            end += 1
        conditions.append(words[:end])
        words = words[end:]
    if words:
        # what follows are the target's own options
        verdict, target = ("jump" if words[0] == "-j" else "goto"), words[1]
    if target in _PASSING or not target:
        verdict = ON
    elif target not in chains:
        # a queue, a redirection: unknown
        verdict = _TARGETS.get(target, OPEN)
    return Rule(lambda port: min([_iptables_condition(one, port) for one in conditions] or [YES]), verdict, target)


def _iptables_condition(words: t.List[str], port: int) -> int:
    if words[0] == "!":
        return YES + NO - _iptables_condition(words[1:], port)
    option, values = words[0], words[1].split(",") if len(words) > 1 else []
    if option == "-m" or (option == "--dst-type" and values == ["LOCAL"]):
        return YES
    if option == "-p":
        return YES if values[0] in ("tcp", "6", "all") else NO
    if option == "-i":
        return NO if values == ["lo"] else MAYBE
    if option in ("--dport", "--dports"):
        return YES if any(_in_range(value, port, ":") for value in values) else NO
    if option in ("--ctstate", "--state"):
        return YES if "NEW" in values else NO
    if option in ("--comment", "--syn") or words == ["--tcp-flags", "FIN,SYN,RST,ACK", "SYN"]:
        return YES
    return MAYBE


def _in_range(value: str, port: int, dash: str) -> bool:
    first, _dash, last = value.partition(dash)
    return first.isdigit() and int(first) <= port <= int(last if last.isdigit() else first)


# -- nftables -----------------------------------------------------------------------------------------------------

_STATEMENTS = {"accept": OPEN, "drop": SHUT, "reject": SHUT, "return": "return", "jump": "jump", "goto": "goto"}
_SAYS_NOTHING = ("counter", "log", "notrack", "mangle", "set", "ct helper", "ct timeout", "comment", "meter")

Json = t.Any


def parse_nft(text: str) -> t.Dict[str, Chains]:
    """The tables of `nft -j list ruleset` that filter what comes in over IPv4, by family and name."""
    tables: t.Dict[str, Chains] = {}
    for entry in json.loads(text or '{"nftables": []}')["nftables"]:
        chain, rule = entry.get("chain"), entry.get("rule")
        one = chain or rule
        if not one or one["family"] not in ("ip", "inet"):
            continue
        table = tables.setdefault("%s %s" % (one["family"], one["table"]), Chains({}, {}))
        if chain:
            table.rules.setdefault(chain["name"], [])
            if chain.get("hook") in ("prerouting", "input") and chain.get("type") == "filter":
                table.policies[chain["name"]] = SHUT if chain.get("policy") == "drop" else OPEN
        else:
            table.rules.setdefault(rule["chain"], []).extend(_nft_rules(rule["expr"]))
    return tables


Condition = t.Callable[[int], int]


def _nft_rules(statements: t.List[Json]) -> t.List[Rule]:
    """A rule, or one for each verdict of its map."""
    conditions: t.List[Condition] = []
    for statement in statements:
        # "return", or {"jump": {...}}
        name: str = statement if isinstance(statement, str) else next(iter(statement))
        value: Json = None if isinstance(statement, str) else statement[name]
        if name == "match":
            conditions.append(_nft_condition(value))
        elif name in _STATEMENTS:
            return [_nft_rule(conditions, name, value)]
        elif name == "vmap" and isinstance(value["data"], dict):
            return [
                _nft_rule([*conditions, _nft_condition({"op": "==", "left": value["key"], "right": key})], *one)
                for key, verdict in value["data"]["set"]
                for one in verdict.items()
            ]
        elif name == "limit":
            conditions.append(lambda _port: MAYBE)
        elif name not in _SAYS_NOTHING:
            # a queue, a map with a name, what iptables wrote: it may let it in
            return [Rule(_all(conditions), OPEN)]
    return []


def _nft_rule(conditions: t.List[Condition], name: str, value: Json) -> Rule:
    return Rule(_all(conditions), _STATEMENTS.get(name, OPEN), value["target"] if name in ("jump", "goto") else "")


def _all(conditions: t.List[Condition]) -> Condition:
    return lambda port: min([one(port) for one in conditions] or [YES])


def _nft_condition(match: Json) -> Condition:
    return lambda port: _nft_match(match, port)


def _nft_match(match: Json, port: int) -> int:
    left = match["left"] if isinstance(match["left"], dict) else {}
    payload, meta, conntrack = (left.get(kind) or {} for kind in ("payload", "meta", "ct"))
    protocol, field = payload.get("protocol"), payload.get("field")
    if protocol in ("udp", "icmp", "icmpv6", "ip6", "sctp", "udplite"):
        return NO
    mine: t.Any = None
    masked = left.get("&")
    if masked and (masked[0].get("payload") or {}).get("field") == "flags":
        # tcp flags & (fin | syn | rst | ack) == syn
        return _upside_down(_among("syn", match["right"]), match)
    if field == "dport":
        mine = port
    elif (protocol == "ip" and field == "protocol") or meta.get("key") == "l4proto":
        mine = "tcp"
    elif meta.get("key") == "nfproto":
        mine = "ipv4"
    elif conntrack.get("key") == "state":
        mine = "new"
    elif conntrack.get("key") == "status" and match["right"] == "dnat":
        # a redirected packet does not reach the port
        return _upside_down(NO, match)
    elif meta.get("key") in ("iif", "iifname", "iiftype"):
        # not these, but which one is not known
        return _upside_down(NO, match) if match["right"] in ("lo", "loopback") else MAYBE
    return MAYBE if mine is None else _upside_down(_among(mine, match["right"]), match)


def _upside_down(about: int, match: Json) -> int:
    return YES + NO - about if match["op"] == "!=" else about


def _among(mine: t.Any, right: Json) -> int:
    if isinstance(right, dict) and "range" in right:
        first, last = right["range"]
        return YES if isinstance(mine, int) and first <= mine <= last else NO
    if isinstance(right, dict) and "set" in right:
        right = right["set"]
    if isinstance(right, dict) and "elem" in right:
        right = right["elem"]["val"]
    if isinstance(right, list):
        return max([_among(mine, one) for one in right] or [NO])
    if isinstance(right, dict) or str(right).startswith("@"):
        return MAYBE
    return YES if right in (mine, "*") else NO
