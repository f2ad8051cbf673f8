# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Runs on the controller and on the server: Python 3.6 and the standard library only.

"""A site's accounts, and the files that Dovecot and Postfix read of them."""

import typing as t

from ansible_collections.port587.mail.plugins.module_utils._transaction.change import shortened

MADE_BY = "# Made by the role port587.mail.accounts: what is changed here by hand is lost at its next run.\n"

# What every domain has to answer (RFC 2142).
ROLES = ("postmaster", "abuse")


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


class Alias(t.NamedTuple):
    address: str
    to: t.List[str]
    senders: t.List[str]


class Site(t.NamedTuple):
    domains: t.List[str]
    accounts: t.List[Account]
    aliases: t.List[Alias]
    postmaster: str


# -- the tables ---------------------------------------------------------------------------------------------------


def without_extension(address: str) -> str:
    local, _sep, domain = address.rpartition("@")
    return "%s@%s" % (local[:1] + local[1:].split("+")[0], domain)


def receiving(site: Site) -> t.Set[str]:
    """The addresses that have a mailbox. A disabled account keeps it, a send-only one never had it."""
    return {account.address for account in site.accounts if not account.send_only}


def routes(site: Site) -> t.Dict[str, t.List[str]]:
    """virtual_alias_maps: which address goes where."""
    table = {}  # type: t.Dict[str, t.List[str]]
    for account in site.accounts:
        table.update({alias: [account.address] for alias in account.aliases})
    table.update({alias.address: alias.to for alias in site.aliases})
    table.update({address: [site.postmaster] for address in undefined_roles(site)})
    # Postfix asks for @domain before it looks for a mailbox: one without an entry of its own would be swallowed
    for address in receiving(site):
        if "@" + address.rpartition("@")[2] in table:
            table[address] = [address]
    return table


def undefined_roles(site: Site) -> t.List[str]:
    """The addresses that every domain has to have and that the site says nothing of."""
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
    # who answers for the site may say so
    if site.postmaster in receiving(site):
        for address in undefined_roles(site):
            table.setdefault(address, set()).add(site.postmaster)
    return {address: sorted(allowed) for address, allowed in table.items()}


def route(table: t.Dict[str, t.List[str]], mailboxes: t.Set[str], address: str) -> t.Optional[str]:
    """The entry that sends an address's mail on, in the order in which Postfix asks; None where it stays or leaves."""
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
    """Ways that lead back to where they began, each once."""
    found = []
    done = set()  # type: t.Set[str]
    for start in sorted(set(table) - mailboxes):
        # a stack of its own: a chain of aliases may be longer than Python's
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


# -- the files ----------------------------------------------------------------------------------------------------


def maps(site: Site) -> t.Dict[str, str]:
    """The Postfix tables, by file name."""
    return {
        "domains": _map({domain: ["OK"] for domain in site.domains}),
        "mailboxes": _map({address: ["OK"] for address in receiving(site)}),
        # asked before `aliases`: these stay as they are, since Dovecot knows whose they are
        "own_aliases": _map({alias: [alias] for account in site.accounts for alias in account.aliases}),
        "aliases": _map(routes(site)),
        "senders": _map(senders(site)),
    }


def _map(table: t.Dict[str, t.List[str]]) -> str:
    return MADE_BY + "".join("%s %s\n" % (key, ",".join(table[key])) for key in sorted(table))


def passwd_line(account: Account, password_hash: str) -> str:
    """A line of Dovecot's passwd-file."""
    extra = _quota(account)
    if not account.enabled:
        # no client has this address, so the answer is that to a wrong password; the hash stays for another day
        extra.append("allow_nets=255.255.255.255/32")
    if account.send_only:
        # honoured by Dovecot's own services, not by Postfix's question for SASL
        extra.append("nologin=y")
    return "%s:%s:::%s:::%s\n" % (account.address, password_hash, account.name, " ".join(extra))


def _quota(account: Account) -> t.List[str]:
    if account.quota is None:
        return []
    # one spelling for 2.2 and 2.3, one for 2.4; each ignores the other's, so that an upgrade finds its own
    return ["userdb_quota_rule=*:storage=" + account.quota, "userdb_quota_storage_size=" + account.quota]


def own_aliases(site: Site) -> str:
    """A passwd-file for Dovecot's userdb alone, so that nobody logs in with these addresses: whose they are."""
    lines = []
    for account in site.accounts:
        extra = ["userdb_user=" + account.address] + _quota(account)
        lines += ["%s:::::::%s\n" % (alias, " ".join(extra)) for alias in account.aliases]
    return MADE_BY + "".join(sorted(lines))


def passwd(site: Site, hashes: t.Dict[str, str]) -> str:
    lines = sorted(passwd_line(account, hashes[account.address]) for account in site.accounts)
    return MADE_BY + "".join(lines)


def read_passwd(text: str) -> t.Dict[str, t.Tuple[str, str]]:
    """(hash, everything after it) of each line, by address."""
    found = {}
    # not splitlines(): a name may hold what Unicode calls a line end, a line of the file ends with \n alone
    for line in text.split("\n"):
        fields = line.split(":", 2)
        if len(fields) == 3 and not line.startswith("#"):
            found[fields[0]] = (fields[1], fields[2])
    return found


def masked(before: t.Dict[str, t.Tuple[str, str]], after: t.Dict[str, t.Tuple[str, str]]) -> t.Dict[str, str]:
    """The passwd-file before and after, for a diff that shows that a password changed, and nothing of it."""

    def text(lines: t.Dict[str, t.Tuple[str, str]], other: t.Dict[str, t.Tuple[str, str]], mark: str) -> str:
        def hidden(login: str) -> str:
            same = login not in other or other[login][0] == lines[login][0]
            return "{masked}" if same else mark

        return "".join("%s:%s:%s\n" % (login, hidden(login), lines[login][1]) for login in sorted(lines))

    shown = shortened(text(before, after, "{masked}"), text(after, before, "{masked, changed}"))
    return {"before": shown[0], "after": shown[1]}
