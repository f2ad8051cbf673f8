# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Runs on the controller and on the server: Python 3.6 and the standard library only.

"""The contents of the files with a site's accounts, for Dovecot and Postfix."""

import typing as t

from ansible_collections.port587.mail.plugins.module_utils._accounts import app_passwords as app_passwords_file
from ansible_collections.port587.mail.plugins.module_utils._accounts.app_passwords import restrictions
from ansible_collections.port587.mail.plugins.module_utils._accounts.site import (
    Account,
    Site,
    receiving,
    routes,
    senders,
)
from ansible_collections.port587.mail.plugins.module_utils._transaction.diff import shortened

MADE_BY = "# Made by the role port587.mail.accounts: what is changed here by hand is lost at its next run.\n"


def maps(site: Site) -> t.Dict[str, str]:
    """The Postfix tables, by file name."""
    return {
        "domains": _map({domain: ["OK"] for domain in site.domains}),
        "mailboxes": _map({address: ["OK"] for address in receiving(site)}),
        # looked up before `aliases`: maps these to themselves, since Dovecot resolves them
        "own_aliases": _map({alias: [alias] for account in site.accounts for alias in account.aliases}),
        "aliases": _map(routes(site)),
        "senders": _map(senders(site)),
    }


def _map(table: t.Dict[str, t.List[str]]) -> str:
    return MADE_BY + "".join("%s %s\n" % (key, ",".join(table[key])) for key in sorted(table))


def passwd_line(account: Account, password_hash: str) -> str:
    """A line of Dovecot's passwd-file."""
    extra = _user(account) + restrictions(account)
    return "%s:%s:::%s:::%s\n" % (account.address, password_hash, account.name, " ".join(extra))


def _user(account: Account) -> t.List[str]:
    """Extra fields of a mailbox."""
    return _quota(account) + (["userdb_language=" + account.language] if account.language != "en" else [])


def _quota(account: Account) -> t.List[str]:
    if account.quota is None:
        return []
    # one spelling for 2.2 and 2.3, one for 2.4; each ignores the other, so an upgrade finds its own
    return ["userdb_quota_rule=*:storage=" + account.quota, "userdb_quota_storage_size=" + account.quota]


def own_aliases(site: Site) -> str:
    """A passwd-file that maps each alias to its account, for Dovecot's userdb only: an alias can't log in."""
    lines = []
    for account in site.accounts:
        extra = ["userdb_user=" + account.address] + _user(account)
        lines += ["%s:::::::%s\n" % (alias, " ".join(extra)) for alias in account.aliases]
    return MADE_BY + "".join(sorted(lines))


def passwd(site: Site, hashes: t.Dict[str, str]) -> str:
    lines = sorted(passwd_line(account, hashes[account.address]) for account in site.accounts)
    return MADE_BY + "".join(lines)


def app_passwords(site: Site, hashes: t.Dict[str, str]) -> str:
    return MADE_BY + app_passwords_file.text(site, hashes)


def read_passwd(text: str) -> t.Dict[str, t.Tuple[str, str]]:
    """(hash, everything after it) of each line, by address."""
    found = {}
    # not splitlines(): a name may contain Unicode line separators; lines of the file end with \n only
    for line in text.split("\n"):
        fields = line.split(":", 2)
        if len(fields) == 3 and not line.startswith("#"):
            found[fields[0]] = (fields[1], fields[2])
    return found


def masked(before: t.Dict[str, t.Tuple[str, str]], after: t.Dict[str, t.Tuple[str, str]]) -> t.Dict[str, str]:
    """The passwd-file before and after, for a diff that shows that a password changed, but no hash."""

    def text(lines: t.Dict[str, t.Tuple[str, str]], other: t.Dict[str, t.Tuple[str, str]], mark: str) -> str:
        def hidden(login: str) -> str:
            same = login not in other or other[login][0] == lines[login][0]
            return "{masked}" if same else mark

        return "".join("%s:%s:%s\n" % (login, hidden(login), lines[login][1]) for login in sorted(lines))

    shown = shortened(text(before, after, "{masked}"), text(after, before, "{masked, changed}"))
    return {"before": shown[0], "after": shown[1]}
