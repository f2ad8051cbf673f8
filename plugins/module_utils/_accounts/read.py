# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Runs on the controller and on the server: Python 3.6 and the standard library only.

"""Read a site's accounts from the user's data: mailboxes, forwarding, and permissions to send.

Reading never stops at the first mistake: all of them are reported at once, each with the variable's path and what would
be right. No message repeats a value that may be a password.
"""

import datetime
import difflib
import itertools
import re
import typing as t

from ansible_collections.port587.mail.plugins.module_utils._accounts import app_passwords, checks
from ansible_collections.port587.mail.plugins.module_utils._accounts.faults import (
    BEGINS,
    CONTROL,
    QUOTA,
    app_password_fault,
    begins_fault,
    domain_fault,
    foreign_fault,
    hash_fault,
    key_fault,
    kind,
    login_fault,
    password_fault,
    show,
)
from ansible_collections.port587.mail.plugins.module_utils._accounts.problems import Problems
from ansible_collections.port587.mail.plugins.module_utils._accounts.site import (
    PROTOCOLS,
    READ,
    WRITE,
    Account,
    Alias,
    AppPassword,
    Shared,
    Site,
)

ACCOUNT_KEYS = (
    "address",
    "password",
    "password_hash",
    "name",
    "aliases",
    "senders",
    "quota",
    "enabled",
    "send_only",
    "update_password",
    "language",
    "app_passwords",
)
#: The variables of the role accounts, and the options of its module, that hold a site's data.
OPTIONS = ("domains", "accounts", "aliases", "shared", "hostname", "postmaster")
APP_PASSWORD_KEYS = ("name", "password", "password_hash", "begins", "protocols", "expires")
ALIAS_KEYS = ("address", "to", "senders")
SHARED_KEYS = ("name", "address", "members", "quota")
#: The name of a shared mailbox: a folder in mail clients, and a user without a domain for Dovecot.
SHARED_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}\Z")

UPDATE_PASSWORD = ("always", "on_create")
#: In which the server writes to people.
LANGUAGES = ("en", "ja", "de")

_WORDS = {"true": True, "yes": True, "false": False, "no": False}

#: A value from the user's data, with its place there.
Entries = t.Iterable[t.Tuple[str, t.Any]]


def read(
    domains: t.Any,
    accounts: t.Any,
    aliases: t.Any,
    hostname: t.Any,
    postmaster: t.Any,
    more: Entries = (),
    update_password: str = "always",
    variables: t.Optional[t.Mapping[str, str]] = None,
    shared: t.Any = (),
) -> t.Tuple[Site, t.List[str]]:
    """The site, and all its problems. Entries with problems are left out of the site.

    ``more``: further accounts besides ``accounts``, each with its place; ``update_password``: the default for accounts
    without this key. ``variables``: names for the options domains, accounts, aliases, shared, hostname, postmaster in
    messages.
    """
    problems = Problems(variables)
    own = _read_domains(domains, hostname, problems)
    place = problems.name("accounts")
    listed = _list(place, accounts, "[{address: eve@example.com, password: ...}]", problems)
    entries = (("%s[%d]" % (place, number), entry) for number, entry in enumerate(listed))
    read_accounts = _read_accounts(itertools.chain(entries, more), set(own), update_password, problems)
    read_aliases = _read_aliases(aliases, set(own), problems)
    people = [account for _index, account in read_accounts]
    read_shared = _read_shared(shared, set(own), problems)
    site = Site(
        own,
        people,
        [alias for _index, alias in read_aliases],
        _read_postmaster(postmaster, people, problems),
        [one for _index, one in read_shared],
    )
    checks.check_owners(read_accounts, read_aliases, read_shared, problems)
    checks.check_logins(read_accounts, read_aliases, read_shared, problems)
    checks.check_routes(site, read_aliases, problems)
    return site, problems.all()


def _read_domains(domains: t.Any, hostname: t.Any, problems: Problems) -> t.List[str]:
    own = []  # type: t.List[str]
    place = problems.name("domains")
    entries = _list(place, domains, "[example.com]", problems)
    if domains in (None, [], ()):
        problems.say(place, "is empty; name at least one domain, as in [example.com]")
    for number, domain in enumerate(entries):
        where = "%s[%d]" % (place, number)
        wrong = domain_fault(domain)
        if wrong:
            problems.say(where, "%s %s" % (show(domain), wrong))
        elif domain.lower() in own:
            problems.say(where, "%s is in the list twice; write it once" % show(domain))
        else:
            own.append(domain.lower())
            if isinstance(hostname, str) and domain.lower() == hostname.lower():
                problems.say(
                    where,
                    "%s is also %s; Postfix can't have one name both as its own and as a mail domain; "
                    "give the host another name, or leave this one out of %s"
                    % (show(domain), problems.name("hostname"), place),
                )
    return own


def _read_accounts(
    entries: Entries, own: t.Container[str], update_password: str, problems: Problems
) -> t.List[t.Tuple[str, Account]]:
    found = []
    for where, entry in entries:
        if not _is_entry(where, entry, ACCOUNT_KEYS, "{address: eve@example.com, password: ...}", problems):
            continue
        address = _own_address(where + ".address", entry.get("address"), own, login_fault, problems)
        password, password_hash = _read_password(where, entry, problems)
        account = Account(
            address or "",
            password,
            password_hash,
            _read_name(where + ".name", entry.get("name"), problems),
            _read_account_aliases(where + ".aliases", entry.get("aliases"), own, problems),
            _addresses(where + ".senders", entry.get("senders"), key_fault, problems, whole_domain=True),
            _read_quota(where + ".quota", entry.get("quota"), problems),
            _read_flag(where + ".enabled", entry.get("enabled"), True, problems),
            _read_flag(where + ".send_only", entry.get("send_only"), False, problems),
            _read_choice(
                where + ".update_password", entry.get("update_password"), update_password, UPDATE_PASSWORD, problems
            ),
            _read_choice(where + ".language", entry.get("language"), LANGUAGES[0], LANGUAGES, problems),
            _read_app_passwords(where + ".app_passwords", entry.get("app_passwords"), problems),
        )
        if account.send_only and account.aliases:
            problems.say(
                where + ".aliases",
                "%s is send_only and receives nothing; to send as these addresses put them into senders, "
                "to receive their mail elsewhere into %s"
                % (show(address or entry.get("address")), problems.name("aliases")),
            )
            account = account._replace(aliases=[])
        if address:
            found.append((where, account))
    return found


def _read_account_aliases(where: str, value: t.Any, own: t.Container[str], problems: Problems) -> t.List[str]:
    found = []
    for number, entry in enumerate(_list(where, value, "[info@example.com]", problems)):
        place = "%s[%d]" % (where, number)
        if isinstance(entry, str) and entry.startswith("@"):
            problems.say(
                place, "%s is a whole domain; a catch-all is an entry of %s" % (show(entry), problems.name("aliases"))
            )
            continue
        address = _own_address(place, entry, own, key_fault, problems)
        if address:
            found.append(address)
    return found


def _read_aliases(aliases: t.Any, own: t.Container[str], problems: Problems) -> t.List[t.Tuple[str, Alias]]:
    found = []
    example = "{address: info@example.com, to: [eve@example.com]}"
    place = problems.name("aliases")
    for where, entry in _entries(place, aliases, ALIAS_KEYS, example, problems):
        address = _own_address(where + ".address", entry.get("address"), own, key_fault, problems, whole_domain=True)
        targets = entry.get("to")
        to = _addresses(where + ".to", targets, foreign_fault, problems)
        if targets is None or targets == []:
            problems.say(where + ".to", "%s has no target; write to: [eve@example.com]" % show(entry.get("address")))
        senders = _addresses(where + ".senders", entry.get("senders"), login_fault, problems)
        if address:
            found.append((where, Alias(address, to, senders)))
    return found


def _read_shared(shared: t.Any, own: t.Container[str], problems: Problems) -> t.List[t.Tuple[str, Shared]]:
    found = []  # type: t.List[t.Tuple[str, Shared]]
    example = "{name: team, address: team@example.com, members: {eve@example.com: write}}"
    place = problems.name("shared")
    for where, entry in _entries(place, shared, SHARED_KEYS, example, problems):
        name, address = entry.get("name"), entry.get("address")
        if not isinstance(name, str) or not SHARED_NAME.match(name):
            problems.say(
                where + ".name",
                "is missing; write what its folder is called in mail clients, as in team"
                if name is None
                else "%s is not a name; use up to 32 small letters, digits and _ -, as in team" % show(name),
            )
            continue
        if any(name == other.name for _where, other in found):
            problems.say(where + ".name", "%s is in the list twice; give each its own name" % show(name))
            continue
        if address is not None:
            address = _own_address(where + ".address", address, own, key_fault, problems)
        members = _read_members(where + ".members", name, entry.get("members"), problems)
        quota = _read_quota(where + ".quota", entry.get("quota"), problems)
        found.append((where, Shared(name, address or "", members, quota)))
    return found


def _read_members(where: str, name: str, value: t.Any, problems: Problems) -> t.Dict[str, str]:
    """The right of each member."""
    if not isinstance(value, dict) or not value:
        problems.say(
            where,
            "%s has no members; write {eve@example.com: write, bob@example.com: read}" % show(name)
            if value is None or value == {}
            else "is %s, not a mapping; write {eve@example.com: write, bob@example.com: read}" % kind(value),
        )
        return {}
    found = {}
    for login, right in value.items():
        wrong = login_fault(login)
        if wrong:
            problems.say(where, "%s %s" % (show(login), wrong))
        elif right not in (READ, WRITE):
            problems.say("%s.%s" % (where, login), "%s is not one of %s, %s" % (show(right), READ, WRITE))
        else:
            found[_fold(login)] = str(right)
    return found


def _read_postmaster(postmaster: t.Any, accounts: t.List[Account], problems: Problems) -> str:
    if postmaster not in (None, ""):
        wrong = foreign_fault(postmaster)
        if wrong:
            problems.say(problems.name("postmaster"), "%s %s" % (show(postmaster), wrong))
            return ""
        return _fold(postmaster)
    receiving = [account.address for account in accounts if not account.send_only]
    if not receiving:
        place = problems.name("postmaster")
        problems.say(place, "is not set, and no account receives mail in its place; write an address that does")
        return ""
    return receiving[0]


def _read_password(
    where: str,
    entry: t.Mapping[str, t.Any],
    problems: Problems,
    key: str = "address",
    fault: t.Callable[[t.Any], t.Optional[str]] = password_fault,
) -> t.Tuple[t.Optional[str], t.Optional[str]]:
    """``key``: the one that names the entry in messages."""
    password, password_hash = entry.get("password"), entry.get("password_hash")
    if password is None and password_hash is None:
        problems.say(where, "%s has neither password nor password_hash; give it one of them" % show(entry.get(key)))
    elif password is not None and password_hash is not None:
        problems.say(where, "%s has both password and password_hash; give it one of them" % show(entry.get(key)))
    if password is not None:
        wrong = fault(password)
        if wrong:
            problems.say(where + ".password", wrong)
            password = None
    if password_hash is not None:
        wrong = hash_fault(password_hash)
        if wrong:
            problems.say(where + ".password_hash", wrong)
            password_hash = None
    return password, password_hash


def _read_name(where: str, value: t.Any, problems: Problems) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        problems.say(where, "%s is %s; put it in quotes" % (show(value), kind(value)))
        return ""
    if ":" in value or CONTROL.search(value):
        problems.say(
            where, "%s holds a colon, a newline or a control character; write the name without it" % show(value)
        )
        return ""
    return value


def _read_quota(where: str, value: t.Any, problems: Problems) -> t.Optional[str]:
    if value is None:
        return None
    if not isinstance(value, bool) and value in (0, "0"):
        return "0"
    if isinstance(value, str) and QUOTA.match(value):
        return value.upper()
    problems.say(
        where, "%s is not a size; write a whole number with K, M, G or T, as in 500M, or 0 for no limit" % show(value)
    )
    return None


def _read_flag(where: str, value: t.Any, default: bool, problems: Problems) -> bool:
    if value is None:
        return default
    if isinstance(value, bool):
        return value
    # a templated boolean is text under older Ansible
    if isinstance(value, str) and value.lower() in _WORDS:
        return _WORDS[value.lower()]
    problems.say(where, "%s is neither true nor false" % show(value))
    return default


def _read_choice(where: str, value: t.Any, default: str, choices: t.Sequence[str], problems: Problems) -> str:
    if value is None:
        return default
    if value in choices:
        return str(value)
    problems.say(where, "%s is not one of %s" % (show(value), ", ".join(choices)))
    return default


def _read_app_passwords(where: str, value: t.Any, problems: Problems) -> t.List[AppPassword]:
    found = []  # type: t.List[AppPassword]
    example = "{name: phone, password: ...}"
    for place, entry in _entries(where, value, APP_PASSWORD_KEYS, example, problems):
        name = entry.get("name")
        if not isinstance(name, str) or not app_passwords.NAME.match(name):
            problems.say(
                place + ".name",
                "%s is not a name; use up to 32 small letters, digits and . _ -, as in phone" % show(name)
                if name is not None
                else "is missing; write what uses this password, as in phone",
            )
            continue
        password, password_hash = _read_password(place, entry, problems, "name", app_password_fault)
        one = AppPassword(
            name,
            password,
            password_hash,
            _read_begins(place, entry, password, problems),
            _read_protocols(place + ".protocols", entry.get("protocols"), problems),
            _read_expires(place + ".expires", entry.get("expires"), problems),
        )
        if any(one.name == other.name for other in found):
            problems.say(place + ".name", "%s is in the list twice; give each its own name" % show(name))
        elif one.begins and any(one.begins == other.begins for other in found):
            problems.say(place, "begins with the same %d characters as another app password of the account" % BEGINS)
        else:
            found.append(one)
    return found


def _read_begins(where: str, entry: t.Mapping[str, t.Any], password: t.Optional[str], problems: Problems) -> str:
    """The characters by which Dovecot finds an app password."""
    begins = entry.get("begins")
    if entry.get("password") is not None or entry.get("password_hash") is None:
        if begins is not None:
            problems.say(where + ".begins", "is for a password_hash only; leave it out, the password says it")
        return (password or "")[:BEGINS]
    wrong = begins_fault(begins)
    if wrong:
        # not shown: the whole password perhaps
        problems.say(
            where + ".begins",
            "is missing; with a password_hash write the first %d characters of the password" % BEGINS
            if begins is None
            else wrong,
        )
        return ""
    return str(begins)


def _read_protocols(where: str, value: t.Any, problems: Problems) -> t.List[str]:
    if value is None:
        return list(app_passwords.DEFAULT_PROTOCOLS)
    found = []  # type: t.List[str]
    for number, entry in enumerate(_list(where, value, "[imap, smtp]", problems)):
        found.append(_read_choice("%s[%d]" % (where, number), entry, "", PROTOCOLS, problems))
    if value == []:
        problems.say(where, "is empty; name what the password is for, as in [imap, smtp], or leave it out")
    return sorted(set(found))


def _read_expires(where: str, value: t.Any, problems: Problems) -> str:
    if value is None:
        return ""
    try:
        return datetime.datetime.strptime(str(value), "%Y-%m-%d").date().isoformat()
    except ValueError:
        problems.say(where, "%s is not a day; write it as in 2027-03-31" % show(value))
        return ""


# -- helpers of the readers ---------------------------------------------------------------------------------------


def _fold(address: str) -> str:
    """Addresses are compared case-insensitively, as Dovecot and Postfix do here."""
    return address.lower()


def _list(where: str, value: t.Any, example: str, problems: Problems) -> t.Sequence[t.Any]:
    if value is None:
        return []
    if isinstance(value, (list, tuple)):
        return value
    # the value isn't shown: in accounts it may hold passwords
    problems.say(where, "is %s, not a list; write %s" % (kind(value), example))
    return []


def _entries(
    where: str, value: t.Any, keys: t.Sequence[str], example: str, problems: Problems
) -> t.Iterator[t.Tuple[str, t.Dict[str, t.Any]]]:
    """The entries of a list that are mappings, each with its place."""
    for number, entry in enumerate(_list(where, value, "[%s]" % example, problems)):
        place = "%s[%d]" % (where, number)
        if _is_entry(place, entry, keys, example, problems):
            yield place, entry


def _is_entry(where: str, entry: t.Any, keys: t.Sequence[str], example: str, problems: Problems) -> bool:
    if not isinstance(entry, dict):
        problems.say(where, "is %s, not a mapping; write %s" % (kind(entry), example))
        return False
    for key in entry:
        if key not in keys:
            close = difflib.get_close_matches(str(key), keys, 1)
            hint = "did you mean %s?" % close[0] if close else "there are: %s" % ", ".join(keys)
            problems.say("%s.%s" % (where, CONTROL.sub("?", str(key))), "is unknown; %s" % hint)
    return True


def _own_address(
    where: str,
    value: t.Any,
    own: t.Container[str],
    fault: t.Callable[[t.Any], t.Optional[str]],
    problems: Problems,
    whole_domain: bool = False,
) -> t.Optional[str]:
    """An address on this server, so its domain must be one of the server's."""
    catch_all = whole_domain and isinstance(value, str) and value.startswith("@")
    wrong = domain_fault(value[1:]) if catch_all else fault(value)
    if wrong:
        problems.say(where, "is missing; write local-part@domain" if value is None else "%s %s" % (show(value), wrong))
        return None
    domain = value.rpartition("@")[2].lower()
    if domain not in own:
        domains = problems.name("domains")
        problems.say(
            where, "%s is in none of %s; add %s to them, or correct the address" % (show(value), domains, domain)
        )
        return None
    return _fold(value)


def _addresses(
    where: str,
    value: t.Any,
    fault: t.Callable[[t.Any], t.Optional[str]],
    problems: Problems,
    whole_domain: bool = False,
) -> t.List[str]:
    found = []  # type: t.List[str]
    for number, entry in enumerate(_list(where, value, "[eve@example.com]", problems)):
        catch_all = whole_domain and isinstance(entry, str) and entry.startswith("@")
        wrong = domain_fault(entry[1:]) if catch_all else fault(entry)
        if wrong:
            problems.say("%s[%d]" % (where, number), "%s %s" % (show(entry), wrong))
        elif _fold(entry) not in found:
            found.append(_fold(entry))
    return found
