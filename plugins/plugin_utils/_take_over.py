# Copyright (c) The port587.mail contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this plugin util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""Turn the accounts of another mail server into this collection's variables, and list what can't be taken over."""

from __future__ import annotations

import math
import re
import typing as t

from ansible_collections.port587.mail.plugins.module_utils._accounts import faults
from ansible_collections.port587.mail.plugins.module_utils._accounts.passwords import WEAK

_UNITS = {"": 1, "B": 1, "K": 1024, "M": 1024**2, "G": 1024**3, "T": 1024**4}
_QUOTA = re.compile(r"(\d+) ?([BKMGT]?)i?B?", re.IGNORECASE)
#: Forms of crypt(3), which stand without a scheme in shadow files; yescrypt is one that only crypt(3) knows.
_CRYPT = {"$6$": "SHA512-CRYPT", "$5$": "SHA256-CRYPT", "$2": "BLF-CRYPT", "$y$": "CRYPT", "$1$": "MD5-CRYPT"}
_SCHEME = re.compile(r"\{([^}]+)\}(.*)", re.DOTALL)
#: What Ansible would take for a template.
_TEMPLATE = re.compile(r"\{[{%#]")


class TakeOverError(Exception):
    """The files are not what they should be."""


class Alias(t.NamedTuple):
    """``senders``: who may send from it, if ``may_send`` does not say that all local targets may."""

    targets: list[str]
    may_send: bool
    senders: list[str]


class Found:
    """What a reader finds. Addresses are kept in lower case."""

    def __init__(self) -> None:
        self.accounts: dict[str, dict[str, t.Any]] = {}
        self.aliases: dict[str, Alias] = {}
        self.left_out: list[str] = []
        self._domains: dict[str, None] = {}
        self._domain_aliases: list[tuple[str, str]] = []

    def leave_out(self, what: str, why: str) -> None:
        self.left_out.append(f"{what}: {why}")

    def domain(self, name: str, active: bool) -> None:
        if active:
            self._domains[name.lower()] = None
        else:
            self.leave_out(name, "the domain is switched off, or only a backup MX")

    def account(self, address: str, stored: str, name: str = "", quota: str = "", enabled: bool = True) -> None:
        address = address.lower()
        wrong = faults.login_fault(address)
        secret, why = password(stored)
        if wrong or address in self.accounts or not secret:
            reason = wrong or why or "is there twice"
            self.leave_out(address, f"the account is missing: {reason}")
            return
        self.accounts[address] = {"address": address, **secret}
        if name and not _TEMPLATE.search(name) and not faults.CONTROL.search(name):
            self.accounts[address]["name"] = name
        if quota:
            self._quota(address, quota)
        if not enabled:
            self.accounts[address]["enabled"] = False

    def _quota(self, address: str, quota: str) -> None:
        size = _QUOTA.fullmatch(quota)
        if not size:
            self.leave_out(address, f"its quota {quota!r}")
            return
        self.accounts[address]["quota"] = in_units(int(size[1]) * _UNITS[size[2].upper()])

    def alias(self, address: str, targets: list[str], may_send: bool = False, senders: list[str] | None = None) -> None:
        address = address.lower()
        wrong = faults.domain_fault(address[1:]) if address.startswith("@") else faults.key_fault(address)
        if wrong:
            self.leave_out(address, f"the alias is missing: {wrong}")
            return
        kept = []
        for target in dict.fromkeys(one.strip().lower() for one in targets if one.strip()):
            wrong = faults.foreign_fault(target)
            if wrong:
                self.leave_out(address, f"the target {target!r} is missing: {wrong}")
            else:
                kept.append(target)
        before = self.aliases.get(address, Alias([], may_send, []))
        if kept:
            senders = before.senders + [one.strip().lower() for one in senders or []]
            self.aliases[address] = Alias(list(dict.fromkeys(before.targets + kept)), may_send, senders)

    def domain_alias(self, domain: str, target: str) -> None:
        """All addresses of ``target`` exist in ``domain`` too."""
        self._domain_aliases.append((domain.lower(), target.lower()))

    def sender(self, login: str, address: str) -> None:
        account = self.accounts.get(login.lower())
        if account and address != "*" and (address.startswith("@") or not faults.key_fault(address)):
            account.setdefault("senders", []).append(address.lower())
        else:
            self.leave_out(login, f"may send as {address}")

    def variables(self) -> dict[str, t.Any]:
        """``mail_domains``, ``mail_accounts``, ``mail_aliases``, and ``left_out``, a list of sentences."""
        accounts = {address: dict(account) for address, account in self.accounts.items()}
        aliases: list[dict[str, t.Any]] = []
        for address, alias in self._expanded().items():
            self._place(address, alias, accounts, aliases)
        domains = dict(self._domains)
        for address in [*accounts, *(one for account in accounts.values() for one in account.get("aliases", []))]:
            domains[address.partition("@")[2]] = None
        for entry in aliases:
            domains[entry["address"].partition("@")[2]] = None
        return {
            "mail_domains": list(domains),
            "mail_accounts": list(accounts.values()),
            "mail_aliases": aliases,
            "left_out": self.left_out,
        }

    def _expanded(self) -> dict[str, Alias]:
        """The aliases, with those of domains that stand for another."""
        aliases = dict(self.aliases)
        for domain, target in self._domain_aliases:
            for address in [*self.accounts, *self.aliases]:
                local, _at, own = address.partition("@")
                if own == target and f"{local}@{domain}" not in aliases:
                    # a catch-all is no target
                    targets = [address] if local else self.aliases[address].targets
                    aliases[f"{local}@{domain}"] = Alias(targets, may_send=address in self.accounts, senders=[])
        return aliases

    def _place(
        self, address: str, alias: Alias, accounts: dict[str, dict[str, t.Any]], aliases: list[dict[str, t.Any]]
    ) -> None:
        others = [target for target in alias.targets if target != address]
        if address in accounts:
            if others:
                copy = "and keeps" if address in alias.targets else "without keeping"
                self.leave_out(address, f"forwards to {', '.join(others)} {copy} a copy; write that as a Sieve script")
            return
        if alias.may_send and len(others) == 1 and others[0] in accounts and not address.startswith("@"):
            accounts[others[0]].setdefault("aliases", []).append(address)
            return
        entry: dict[str, t.Any] = {"address": address, "to": others}
        senders = [one for one in (others if alias.may_send else alias.senders) if one in accounts]
        aliases.append({**entry, "senders": senders} if senders and not address.startswith("@") else entry)


def password(stored: str) -> tuple[dict[str, str], str]:
    """The key of an account, or why there is none."""
    match = _SCHEME.fullmatch(stored)
    if match:
        scheme, data = match[1].upper(), match[2]
    else:
        scheme, data = next((known for start, known in _CRYPT.items() if stored.startswith(start)), ""), stored
    base = scheme.partition(".")[0]
    if base == "CRYPT":
        # what crypt(3) hashes, by its form; Dovecot 2.4 refuses the weak ones by their own names only
        base = next((known for start, known in _CRYPT.items() if data.startswith(start)), "DES-CRYPT")
    cure = "give the account a new password"
    if not stored or not scheme:
        return {}, f"has no password, or one of an unknown form; {cure}"
    if base in WEAK:
        return {}, f"its password is hashed with {base}, which Dovecot 2.4 refuses as weak; {cure}"
    if base in faults.CLEAR_SCHEMES:
        wrong = faults.password_fault(data)
        if wrong or _TEMPLATE.search(data):
            return {}, f"its password, in clear, {wrong or 'looks like a template of Ansible'}; {cure}"
        return {"password": data}, ""
    value = f"{{{scheme}}}{data}"
    wrong = faults.hash_fault(value)
    return ({}, f"its hash {wrong}; {cure}") if wrong else ({"password_hash": value}, "")


def in_units(size: int) -> str:
    """A size as quotas are written: in the largest unit that keeps it, rounded up. 0 means no limit."""
    if size == 0:
        return "0"
    for unit in "TGM":
        if size % _UNITS[unit] == 0:
            return f"{size // _UNITS[unit]}{unit}"
    return f"{math.ceil(size / 1024)}K" if size < 100000 * 1024 else f"{math.ceil(size / 1024**2)}M"
