# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Runs on the controller and on the server: Python 3.6 and the standard library only.

"""Dovecot's passwd-file of app passwords: a line for each protocol of each.

Dovecot looks for ADDRESS/PROTOCOL/BEGINNING, where BEGINNING are the first characters of the password that a client
sends. So at most one entry fits a login, and only its hash is computed, however many app passwords there are.
"""

import re
import time
import typing as t

from ansible_collections.port587.mail.plugins.module_utils._accounts.site import Account, AppPassword, Site

PATH = "/etc/port587/accounts/app_passwords.passwd"
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,31}\Z")
#: ManageSieve is left out: filters can forward all mail, and few programs need it.
DEFAULT_PROTOCOLS = ("imap", "pop3", "smtp")
#: The extra field of a disabled account, and that of one that only sends.
NOBODY, ONLY_SENDS = "allow_nets=", "nologin="


def restrictions(account: Account) -> t.List[str]:
    """Extra fields that restrict all logins of an account."""
    extra = []
    if not account.enabled:
        # no client has this address, so Dovecot answers as to a wrong password; the hash is kept
        extra.append(NOBODY + "255.255.255.255/32")
    if account.send_only:
        # applies to Dovecot's own services, not to Postfix's SASL requests
        extra.append(ONLY_SENDS + "y")
    return extra


def app_key(address: str, app_password: AppPassword) -> str:
    """What distinguishes an app password from all others of the site."""
    return "%s/%s" % (address, app_password.name)


def today() -> str:
    """The day in UTC, to compare with ``expires``."""
    return time.strftime("%Y-%m-%d", time.gmtime())


def expired(one: AppPassword, day: str) -> bool:
    return bool(one.expires) and one.expires <= day


def lines(address: str, one: AppPassword, password_hash: str, restricted: t.Iterable[str]) -> t.List[str]:
    # the fifth field, elsewhere a person's name, has what Dovecot does not need
    notes = " ".join([one.name, one.expires or "never", "own" if one.own else "given"])
    extra = " ".join(["app=" + one.name] + list(restricted))
    return [
        "%s/%s/%s:%s:::%s:::%s\n" % (address, protocol, one.begins, password_hash, notes, extra)
        for protocol in one.protocols
    ]


def restrictions_in(rest: str) -> t.List[str]:
    """The same, from the end of the account's line in its passwd-file."""
    return [word for word in rest.rpartition(":")[2].split() if word.startswith((NOBODY, ONLY_SENDS))]


def text(site: Site, hashes: t.Dict[str, str]) -> str:
    found = []  # type: t.List[str]
    for account in site.accounts:
        for one in account.app_passwords:
            found += lines(account.address, one, hashes[app_key(account.address, one)], restrictions(account))
    return "".join(sorted(found))


def read(content: str) -> t.Dict[str, t.List[AppPassword]]:
    """The app passwords of each account. Damaged lines are passed over."""
    found = {}  # type: t.Dict[str, t.Dict[str, AppPassword]]
    for line in content.split("\n"):
        parsed = read_line(line)
        if parsed:
            login, one = parsed
            found.setdefault(login, {}).setdefault(one.begins, one._replace(protocols=[])).protocols.extend(
                one.protocols
            )
    return {login: list(of.values()) for login, of in found.items()}


def read_line(line: str) -> t.Optional[t.Tuple[str, AppPassword]]:
    """An account and its app password for one protocol."""
    fields = line.split(":")
    key, notes = fields[0].split("/"), fields[4].split(" ") if len(fields) > 4 else []
    if len(key) != 3 or len(notes) != 3:
        return None
    name, expires, made = notes
    return key[0], AppPassword(
        name, None, fields[1], key[2], [key[1]], "" if expires == "never" else expires, made == "own"
    )


def with_lines(content: str, new: t.Iterable[str]) -> str:
    """The file with more lines, in the order in which a run writes it."""
    there = [line + "\n" for line in content.split("\n") if line]
    comments = [line for line in there if line.startswith("#")]
    return "".join(comments + sorted([line for line in there if not line.startswith("#")] + list(new)))


def without(content: str, ends: t.Callable[[str, AppPassword], bool]) -> t.Tuple[str, t.List[str]]:
    """The file without some entries, and the accounts that these belong to. ``ends`` gets an account and its entry."""
    kept, logins = [], set()
    for line in content.split("\n"):
        parsed = read_line(line)
        if parsed and ends(*parsed):
            logins.add(parsed[0])
        else:
            kept.append(line)
    return "\n".join(kept), sorted(logins)
