# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Runs on the controller and on the server: Python 3.6 and the standard library only.

"""The contents of the files with a site's accounts, for Dovecot and Postfix."""

import typing as t

from ansible_collections.port587.mail.plugins.module_utils._accounts import app_passwords as app_passwords_file
from ansible_collections.port587.mail.plugins.module_utils._accounts.app_passwords import restrictions
from ansible_collections.port587.mail.plugins.module_utils._accounts.site import (
    READ,
    WRITE,
    Account,
    Shared,
    Site,
    receiving,
    routes,
    senders,
)
from ansible_collections.port587.mail.plugins.module_utils._transaction.diff import shortened

#: Dovecot's letters for the rights of members. Whether a mail is read is each person's own: s changes nothing for
#: others.
RIGHTS = {READ: "lrs", WRITE: "lrswtipekx"}

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


def _quota(mailbox: t.Union[Account, Shared]) -> t.List[str]:
    if mailbox.quota is None:
        return []
    # one spelling for 2.2 and 2.3, one for 2.4; each ignores the other, so an upgrade finds its own
    return ["userdb_quota_rule=*:storage=" + mailbox.quota, "userdb_quota_storage_size=" + mailbox.quota]


def own_aliases(site: Site, mail_root: str) -> str:
    """A passwd-file for Dovecot's userdb only, so that none of it can log in: each alias with its account, and the
    shared mailboxes, each by its name and by its address."""
    lines = []
    for shared in site.shared:
        # folders as directories in each other: with Maildir's flat ones, 2.3 does not find a shared namespace's INBOX
        extra = ["userdb_mail=maildir:~/Maildir:LAYOUT=fs", "userdb_mailbox_list_layout=fs"] + _quota(shared)
        home = shared_home(mail_root, shared.name)
        lines.append("%s:::::%s::%s\n" % (shared.name, home, " ".join(extra)))
        if shared.address:
            lines.append("%s:::::%s::%s\n" % (shared.address, home, " ".join(["userdb_user=" + shared.name] + extra)))
    for account in site.accounts:
        extra = ["userdb_user=" + account.address] + _user(account)
        lines += ["%s:::::::%s\n" % (alias, " ".join(extra)) for alias in account.aliases]
    return MADE_BY + "".join(sorted(lines))


def shared_home(mail_root: str, name: str) -> str:
    """The directory of a shared mailbox, where no mail domain is: each of them has a dot."""
    return "%s/shared/%s" % (mail_root, name)


def shared_acl(site: Site) -> str:
    """Dovecot's ACL file: what members may do in a shared mailbox and in its folders. Others see nothing of it."""
    lines = []
    for shared in site.shared:
        for login, right in shared.members.items():
            for folder in ("Shared/%s", "Shared/%s/*"):
                lines.append("%s user=%s %s\n" % (folder % shared.name, login, RIGHTS[right]))
    return MADE_BY + "".join(sorted(lines))


def shared_members(site: Site) -> str:
    """Dovecot's dictionary of which member sees which shared mailboxes: lines of keys and of values."""
    pairs = [(login, shared.name) for shared in site.shared for login in shared.members]
    return "".join("shared/shared-boxes/user/%s/%s\n1\n" % pair for pair in sorted(pairs))


def read_shared_acl(text: str) -> t.Dict[t.Tuple[str, str], str]:
    """The rights of each member (name, login)."""
    found = {}
    for line in text.split("\n"):
        fields = line.split(" ")
        if len(fields) == 3 and fields[0].startswith("Shared/") and not fields[0].endswith("/*"):
            found[fields[0][len("Shared/") :], fields[1][len("user=") :]] = fields[2]
    return found


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
