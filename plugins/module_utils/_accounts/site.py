# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Runs on the controller and on the server: Python 3.6 and the standard library only.

"""A site's accounts, and the routes of its mail."""

import typing as t

# Mailbox names that every domain must have (RFC 2142).
ROLES = ("postmaster", "abuse")


# Services of Dovecot, by the names that these have in its configuration; smtp is Postfix.
PROTOCOLS = ("imap", "pop3", "smtp", "sieve")


#: The rights of a member of a shared mailbox.
READ, WRITE = "read", "write"


class AppPassword(t.NamedTuple):
    """A further password of an account. ``begins``: its first characters, by which Dovecot finds it.

    ``expires``: the day on which it stops working, as YYYY-MM-DD; empty for never. ``own``: made on the server.
    """

    name: str
    password: t.Optional[str]
    password_hash: t.Optional[str]
    begins: str
    protocols: t.List[str]
    expires: str
    own: bool = False


class Account(t.NamedTuple):
    address: str
    password: t.Optional[str]
    password_hash: t.Optional[str]
    name: str
    aliases: t.List[str]
    senders: t.List[str]
    quota: t.Optional[str]
    enabled: bool
    send_only: bool
    update_password: str
    language: str
    app_passwords: t.List[AppPassword]


class Alias(t.NamedTuple):
    address: str
    to: t.List[str]
    senders: t.List[str]


class Shared(t.NamedTuple):
    """A mailbox of several accounts. ``address``: whose mail it gets, or empty. ``members``: the right of each."""

    name: str
    address: str
    members: t.Dict[str, str]
    quota: t.Optional[str]


class Site(t.NamedTuple):
    domains: t.List[str]
    accounts: t.List[Account]
    aliases: t.List[Alias]
    postmaster: str
    shared: t.Sequence[Shared] = ()


def without_extension(address: str) -> str:
    local, _sep, domain = address.rpartition("@")
    return "%s@%s" % (local[:1] + local[1:].split("+")[0], domain)


def receiving(site: Site) -> t.Set[str]:
    """The addresses with a mailbox. A disabled account keeps it, a send-only account has none."""
    own = {account.address for account in site.accounts if not account.send_only}
    return own.union(shared.address for shared in site.shared if shared.address)


def routes(site: Site) -> t.Dict[str, t.List[str]]:
    """virtual_alias_maps: the targets of each address."""
    table = {}  # type: t.Dict[str, t.List[str]]
    for account in site.accounts:
        table.update({alias: [account.address] for alias in account.aliases})
    table.update({alias.address: alias.to for alias in site.aliases})
    table.update({address: [site.postmaster] for address in undefined_roles(site)})
    # Postfix looks up @domain before mailboxes: without its own entry, a mailbox would lose its mail to the catch-all
    for address in receiving(site):
        if "@" + address.rpartition("@")[2] in table:
            table[address] = [address]
    return table


def undefined_roles(site: Site) -> t.List[str]:
    """The addresses that every domain must have and that the site does not define."""
    defined = receiving(site).union(alias.address for alias in site.aliases)
    defined.update(alias for account in site.accounts for alias in account.aliases)
    roles = ["%s@%s" % (role, domain) for domain in site.domains for role in ROLES]
    return [address for address in roles if address not in defined]


def senders(site: Site) -> t.Dict[str, t.List[str]]:
    """smtpd_sender_login_maps: which logins may send as an address."""
    table = {}  # type: t.Dict[str, t.Set[str]]
    for account in site.accounts:
        for address in [account.address] + account.aliases + account.senders:
            table.setdefault(address, set()).add(account.address)
    for alias in site.aliases:
        for login in alias.senders:
            table.setdefault(alias.address, set()).add(login)
    for shared in site.shared:
        for login, right in shared.members.items():
            if shared.address and right == WRITE:
                table.setdefault(shared.address, set()).add(login)
    # whoever is postmaster may send from these addresses
    if site.postmaster in receiving(site):
        for address in undefined_roles(site):
            table.setdefault(address, set()).update(table.get(site.postmaster, ()))
    return {address: sorted(allowed) for address, allowed in table.items()}


def route(table: t.Dict[str, t.List[str]], mailboxes: t.Set[str], address: str) -> t.Optional[str]:
    """The entry that forwards an address's mail, in Postfix's lookup order; None if it is delivered here or leaves."""
    for key in (address, without_extension(address), "@" + address.rpartition("@")[2]):
        if key in mailboxes:
            return None
        if key in table:
            return key
    return None


def ends_nowhere(
    table: t.Dict[str, t.List[str]], mailboxes: t.Set[str], domains: t.Container[str], address: str
) -> bool:
    here = address.rpartition("@")[2] in domains
    return here and without_extension(address) not in mailboxes and route(table, mailboxes, address) is None


def loops(table: t.Dict[str, t.List[str]], mailboxes: t.Set[str]) -> t.List[t.List[str]]:
    """Forwarding loops, each once."""
    found = []
    done = set()  # type: t.Set[str]
    for start in sorted(set(table) - mailboxes):
        # an explicit stack: a chain of aliases may exceed Python's recursion limit
        path = []  # type: t.List[str]
        stack = [(start, False)]
        while stack:
            address, leaving = stack.pop()
            if leaving:
                done.add(path.pop())
            elif address in path:
                found.append(path[path.index(address) :] + [address])
            elif address not in done:
                path.append(address)
                stack.append((address, True))
                following = [route(table, mailboxes, target) for target in reversed(table[address])]
                stack.extend((key, False) for key in following if key)
    return found
