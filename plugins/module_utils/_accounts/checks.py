# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Runs on the controller and on the server: Python 3.6 and the standard library only.

"""Checks across all of a site's accounts."""

import typing as t

from ansible_collections.port587.mail.plugins.module_utils._accounts.app_passwords import app_key
from ansible_collections.port587.mail.plugins.module_utils._accounts.faults import show
from ansible_collections.port587.mail.plugins.module_utils._accounts.problems import Problems
from ansible_collections.port587.mail.plugins.module_utils._accounts.site import (
    Account,
    Alias,
    Shared,
    Site,
    ends_nowhere,
    loops,
    receiving,
    routes,
)

_Entry = t.TypeVar("_Entry")
#: Entries, each with its place in the user's data.
Placed = t.Sequence[t.Tuple[str, _Entry]]


def check_owners(accounts: Placed[Account], aliases: Placed[Alias], shared: Placed[Shared], problems: Problems) -> None:
    """Each address belongs to one entry. A send-only account receives nothing, so an alias may have its address."""
    owner = {}  # type: t.Dict[str, t.Tuple[str, bool]]

    def claim(where: str, address: str, alias: bool, cure: str, receives: bool = True) -> None:
        if address in owner and (not alias or owner[address][1]):
            problems.say(where, "%s is already that of %s; %s" % (show(address), owner[address][0], cure))
        else:
            owner[address] = (where, receives)

    for where, account in accounts:
        claim(where + ".address", account.address, False, "an address is one account's", not account.send_only)
    several = "for several targets write one entry of %s" % problems.name("aliases")
    for where, account in accounts:
        for number, address in enumerate(account.aliases):
            claim("%s.aliases[%d]" % (where, number), address, True, several)
    for where, alias in aliases:
        claim(where + ".address", alias.address, True, several)
    for where, one in shared:
        if one.address:
            claim(where + ".address", one.address, True, "give the shared mailbox another address, or none")


def check_logins(accounts: Placed[Account], aliases: Placed[Alias], shared: Placed[Shared], problems: Problems) -> None:
    """Those that other entries name have an account."""
    logins = {account.address for _index, account in accounts}
    for where, alias in aliases:
        for number, login in enumerate(alias.senders):
            if login not in logins:
                problems.say(
                    "%s.senders[%d]" % (where, number),
                    "%s is not an account; name the address of one, with which it logs in" % show(login),
                )
    for where, one in shared:
        for login in sorted(set(one.members) - logins):
            problems.say(where + ".members", "%s is not an account; name the address of one, or add it" % show(login))


def check_routes(site: Site, aliases: Placed[Alias], problems: Problems) -> None:
    """Every target in a domain of this server leads to a mailbox, and none forms a loop."""
    table = routes(site)
    mailboxes = receiving(site)
    domains = set(site.domains)
    places = {alias.address: where + ".to" for where, alias in aliases}
    for address in sorted(table):
        for target in table[address]:
            if ends_nowhere(table, mailboxes, domains, target):
                only_sends = any(target == account.address for account in site.accounts)
                problems.say(
                    places.get(address, problems.name("postmaster")),
                    "%s is send_only and receives nothing; name another address" % show(target)
                    if only_sends
                    else "%s is neither an account nor an alias; correct it, or add the account" % show(target),
                )
    for loop in loops(table, mailboxes):
        where = next((places[address] for address in loop if address in places), problems.name("postmaster"))
        problems.say(where, "mail would go round in a loop: %s" % " -> ".join(loop))


def check_schemes(site: Site, known: t.Iterable[str], problems: Problems) -> None:
    """Each given hash has a scheme that this server's Dovecot supports."""
    given = {account.address: account.password_hash for account in site.accounts}
    for account in site.accounts:
        given.update({app_key(account.address, one): one.password_hash for one in account.app_passwords})
    for name, password_hash in given.items():
        scheme = (password_hash or "{}")[1:].split("}")[0].split(".")[0]
        if password_hash is not None and scheme.upper() not in known:
            problems.say(
                problems.name("accounts"),
                "the password_hash of %s has the scheme {%s}; this server's Dovecot takes %s"
                % (show(name), scheme, ", ".join(sorted(known))),
            )
