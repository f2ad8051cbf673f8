#!/usr/bin/python
# Copyright (c) The port587.mail contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

DOCUMENTATION = r"""
module: accounts
short_description: Manage the mailboxes, aliases and send permissions of a mail server
version_added: 1.0.0
author: The port587.mail contributors (@port587)
description:
  - Writes Dovecot's passwd-file and the lookup tables of Postfix under C(/etc/port587/accounts), all of them in one
    transaction. Accounts and aliases that are not in the data are removed from the server.
  - Removed and disabled accounts, and those that have lost a password, are logged out of Dovecot.
  - Passwords are hashed on the server. A password that has not changed keeps its hash, so the second run changes
    nothing. Dovecot and Postfix see the new files without a reload.
  - All mistakes in the data are reported at once, before anything is written.
  - The mail of a removed account or shared mailbox is kept, unless O(purge) is set.
options:
  domains:
    description: The domains for which this server accepts mail.
    type: list
    elements: str
    required: true
  accounts:
    description: The accounts that can log in.
    type: list
    elements: dict
    default: []
    suboptions:
      address:
        description: The address, which is also the login.
        type: str
        required: true
      password:
        description: The password. Any text of up to 511 bytes without control characters, so put numbers in quotes. It
          is hashed as given, without Unicode normalisation.
        type: raw
      password_hash:
        description: The hash of the password as C({SCHEME}data), instead of O(accounts[].password). Any scheme that
          this server's Dovecot supports.
        type: str
      name:
        description: The person's name.
        type: str
      aliases:
        description: Further addresses that deliver to this account, and that it may send from.
        type: list
        elements: str
      senders:
        description: Further addresses that the account may send from. V(@example.com) stands for all addresses in that
          domain that do not belong to another entry.
        type: list
        elements: str
      quota:
        description: The size limit of the mailbox with K, M, G or T, such as V(1G). V(0) means no limit. By default the
          server's limit.
        type: raw
      enabled:
        description: Whether the account can log in. A disabled account gets the same answer as for a wrong password,
          and still receives mail.
        type: bool
        default: true
      update_password:
        description: As O(update_password), for this account.
        type: str
        choices: [always, on_create]
      language:
        description: The language in which the server writes to this person, of a mailbox that is nearly full.
        type: str
        choices: [en, ja, de]
        default: en
      app_passwords:
        description:
          - Further passwords, each for one program or device. They are set as given in every run, whatever
            O(update_password) says.
          - Removing one ends the account's IMAP, POP3 and ManageSieve sessions; programs with another password log in
            again by themselves.
          - Those that people have made on the server with C(port587-passwd) stay, except with the name of a given one.
          - A CSV file can't hold them.
        type: list
        elements: dict
        suboptions:
          name:
            description: What uses the password. Up to 32 small letters, digits, dots, underscores and hyphens.
            type: str
            required: true
          password:
            description: The password, of 18 characters or more. The first 6, letters and digits, are stored readable,
              and differ from those of the account's other app passwords. C(openssl rand -hex 12) makes one.
            type: raw
          password_hash:
            description: The hash of the password as C({SCHEME}data), instead of O(accounts[].app_passwords[].password).
            type: str
          begins:
            description: The first 6 characters of the password. Required with
              O(accounts[].app_passwords[].password_hash), else not allowed.
            type: str
          protocols:
            description: What the password is for. V(smtp) sends, V(sieve) changes filters (ManageSieve). By default
              V(imap), V(pop3) and V(smtp).
            type: list
            elements: str
            choices: [imap, pop3, smtp, sieve]
          expires:
            description: The day on which it stops working, at 00:00 UTC, as V(2027-03-31). By default never.
            type: str
      send_only:
        description: Whether the account only sends. It then has no mailbox, can't read mail, and mail to it is refused.
        type: bool
        default: false
  accounts_file:
    description:
      - A file on the controller with more accounts. It is read entry by entry, and may be encrypted with
        C(ansible-vault) as a whole. The file extension determines the format.
      - A CSV file (C(.csv)) has comma-separated cells. The first line names the columns, which are the keys of
        O(accounts), in any order; C(address) is required. A cell of C(aliases) or C(senders) holds addresses separated
        by blanks. An empty cell means that the key is not set.
      - A YAML file (C(.yml), C(.yaml)) is a list of mappings as in O(accounts).
    type: path
  aliases:
    description: Addresses that forward, to accounts here or to other servers.
    type: list
    elements: dict
    default: []
    suboptions:
      address:
        description: The address. V(@example.com) gets the mail to all addresses in that domain that no other entry has.
        type: str
        required: true
      to:
        description: The addresses that its mail is forwarded to.
        type: list
        elements: str
        required: true
      senders:
        description: The accounts that may send from this address.
        type: list
        elements: str
  shared:
    description:
      - Mailboxes that several accounts share, each a folder below C(Shared) in its members' mail clients. Nobody logs
        in to one.
      - Whether a mail is read is each member's own. Members that lose a right are logged out of Dovecot; their clients
        log in again by themselves.
      - The mail of a removed one is kept in C(shared/NAME) below O(mail_root), unless O(purge) is set.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: The name of the folder. Up to 32 small letters, digits, underscores and hyphens.
        type: str
        required: true
      address:
        description: The address whose mail is delivered into it. By default none.
        type: str
      members:
        description: What accounts may do with it, by their addresses. V(read) is to read it. V(write) is also to
          change, delete and add mail and folders, and to send from the address.
        type: dict
        required: true
      quota:
        description: The size limit with K, M, G or T, such as V(1G). V(0) means no limit. By default the server's.
        type: raw
  hostname:
    description: The server's own name, which can't be one of O(domains).
    type: str
    default: ""
  postmaster:
    description: The address that gets mail to C(postmaster@) and C(abuse@) of each domain, unless there is an account
      or alias of that name. By default the first account that receives mail.
    type: str
    default: ""
  password_scheme:
    description:
      - How passwords are hashed. V(auto) uses the best scheme that this server's Dovecot supports.
      - V(ARGON2ID) uses 19 MB and 2 passes, V(SHA512-CRYPT) 50000 rounds. Neither truncates long passwords.
    type: str
    choices: [auto, ARGON2ID, SHA512-CRYPT]
    default: auto
  update_password:
    description: V(always) sets the given password; if it replaces one that was changed on the server with
      C(port587-passwd), a warning says so before. V(on_create) sets it for new accounts only, so that passwords that
      were changed on the server are kept; the given password of an existing account is ignored.
    type: str
    choices: [always, on_create]
    default: always
  purge:
    description: Whether to delete the mail of accounts that this run removes.
    type: bool
    default: false
  mail_root:
    description: The directory of all mailboxes, each as DOMAIN/USER below it.
    type: path
    default: /var/vmail
  variables:
    description:
      - The names of the variables behind O(domains), O(accounts), O(aliases), O(shared), O(hostname) and O(postmaster),
        for error messages. By default messages name the options.
    type: dict
    default: {}
  fingerprint_key:
    description: A secret by which the controller recognises unchanged passwords. By default the controller generates
      and keeps one. No server stores it.
    type: str
  watched:
    description: Set by the action plugin. Addresses for which the module reports whether the password is new.
    type: list
    elements: str
    default: []
  replace_own:
    description: Set by the action plugin once it has warned. Until then the module changes nothing if it would replace
      a password that was changed on the server.
    type: bool
    default: false
extends_documentation_fragment:
  - port587.mail.attributes
  - port587.mail.attributes.server
attributes:
  check_mode:
    support: full
    details: RV(not_validated) names what could not be checked.
  diff_mode:
    support: full
    details: Password hashes are masked.
  idempotent:
    support: full
notes:
  - Packages C(postfix) and C(dovecot-core) have to be installed.
"""

EXAMPLES = r"""
- name: Create a school's mailboxes, and keep passwords that their owners change later
  port587.mail.accounts:
    domains: [example.org]
    accounts_file: ~/port587/pupils.csv
    update_password: on_create

- name: Create a mailbox for Eve
  port587.mail.accounts:
    domains: [example.com]
    accounts:
      - {address: eve@example.com, password: "{{ vault_eve }}", aliases: [info@example.com]}
    aliases:
      - {address: team@example.com, to: [eve@example.com, bob@example.org]}
"""

RETURN = r"""
added:
  description: New accounts, and the names of new shared mailboxes.
  returned: success
  type: list
  elements: str
  sample: [eve@example.com]
changed_accounts:
  description: Existing accounts that changed, such as in their password or quota.
  returned: success
  type: list
  elements: str
removed:
  description: Removed accounts, and the names of removed shared mailboxes.
  returned: success
  type: list
  elements: str
mail:
  description: Mail directories of removed accounts and shared mailboxes, as far as they exist, or existed before
    O(purge) deleted them.
  returned: success
  type: list
  elements: str
  sample: [/var/vmail/example.com/eve]
not_validated:
  description: Values that check mode could not check because the programs are not installed yet.
  returned: success
  type: list
  elements: str
"""

import collections
import json
import os
import shutil
import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.port587.mail.plugins.module_utils._accounts import app_passwords, own, sessions
from ansible_collections.port587.mail.plugins.module_utils._accounts import files as accounts_files
from ansible_collections.port587.mail.plugins.module_utils._accounts import passwords as account_passwords
from ansible_collections.port587.mail.plugins.module_utils._accounts import read as read_accounts
from ansible_collections.port587.mail.plugins.module_utils._accounts.app_passwords import NOBODY, app_key
from ansible_collections.port587.mail.plugins.module_utils._accounts.checks import check_schemes
from ansible_collections.port587.mail.plugins.module_utils._accounts.faults import is_login
from ansible_collections.port587.mail.plugins.module_utils._accounts.problems import Problems, as_message
from ansible_collections.port587.mail.plugins.module_utils._accounts.site import PROTOCOLS, Account, AppPassword, Site
from ansible_collections.port587.mail.plugins.module_utils._daemons import kinds
from ansible_collections.port587.mail.plugins.module_utils._daemons.tables import POSTMAP
from ansible_collections.port587.mail.plugins.module_utils._transaction import change as transaction
from ansible_collections.port587.mail.plugins.module_utils._transaction.lock import lock

DIRECTORY = "/etc/port587/accounts"
PASSWD = DIRECTORY + "/passwd"
OWN_ALIASES = DIRECTORY + "/own_aliases.passwd"
SHARED_ACL = DIRECTORY + "/shared.acl"
SHARED_MEMBERS = DIRECTORY + "/shared.members"
#: Seconds to wait for another run, or for a person who changes a password.
LOCK_TIMEOUT = 120.0
RECOGNISED = account_passwords.STATE + "/fingerprints"

#: A passwd-file: the hash and the rest of each line, by its key.
Lines = t.Dict[str, t.Tuple[str, str]]

ARGUMENTS = {
    "domains": {"type": "list", "elements": "str", "required": True},
    "accounts": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "address": {"type": "str", "required": True},
            # raw: with str, Ansible would silently convert a number to text
            "password": {"type": "raw", "no_log": True},
            "password_hash": {"type": "str", "no_log": True},
            "name": {"type": "str"},
            "aliases": {"type": "list", "elements": "str"},
            "senders": {"type": "list", "elements": "str"},
            "quota": {"type": "raw"},
            "enabled": {"type": "bool", "default": True},
            "send_only": {"type": "bool", "default": False},
            "update_password": {"type": "str", "choices": list(read_accounts.UPDATE_PASSWORD), "no_log": False},
            "language": {"type": "str", "choices": list(read_accounts.LANGUAGES), "default": "en"},
            "app_passwords": {
                "type": "list",
                "elements": "dict",
                "no_log": False,
                "options": {
                    "name": {"type": "str", "required": True},
                    "password": {"type": "raw", "no_log": True},
                    "password_hash": {"type": "str", "no_log": True},
                    "begins": {"type": "str"},
                    "protocols": {"type": "list", "elements": "str", "choices": list(PROTOCOLS)},
                    "expires": {"type": "str"},
                },
            },
        },
    },
    "accounts_file": {"type": "path"},
    "aliases": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "address": {"type": "str", "required": True},
            "to": {"type": "list", "elements": "str", "required": True},
            "senders": {"type": "list", "elements": "str"},
        },
    },
    "shared": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "name": {"type": "str", "required": True},
            "address": {"type": "str"},
            "members": {"type": "dict", "required": True},
            "quota": {"type": "raw"},
        },
    },
    "hostname": {"type": "str", "default": ""},
    "postmaster": {"type": "str", "default": ""},
    "password_scheme": {
        "type": "str",
        "choices": ["auto"] + account_passwords.NAMES,
        "default": "auto",
        "no_log": False,
    },
    "update_password": {
        "type": "str",
        "choices": list(read_accounts.UPDATE_PASSWORD),
        "default": "always",
        "no_log": False,
    },
    "purge": {"type": "bool", "default": False},
    "mail_root": {"type": "path", "default": "/var/vmail"},
    "variables": {"type": "dict", "default": {}},
    "fingerprint_key": {"type": "str", "no_log": True},
    "watched": {"type": "list", "elements": "str", "default": []},
    "replace_own": {"type": "bool", "default": False},
}  # type: t.Dict[str, t.Dict[str, t.Any]]


class Refused(Exception):
    """The server or the data don't allow the change; the message gives the reason."""


def known_schemes(module: AnsibleModule) -> t.Set[str]:
    """The hash schemes that this server's Dovecot accepts; none without Dovecot."""
    doveadm, doveconf = module.get_bin_path("doveadm"), module.get_bin_path("doveconf")
    if not doveadm or not doveconf:
        return set()
    # -O: without the configuration, which may be that of another version after an upgrade of the release
    listed = set(module.run_command([doveadm, "-O", "pw", "-l"], check_rc=True)[1].split())
    # 2.4 lists the weak ones and refuses every login with them; older versions don't have the parameter
    code, said, _err = module.run_command([doveconf, "-h", "auth_allow_weak_schemes"])
    if code:
        said = module.run_command([doveconf, "-d", "-h", "auth_allow_weak_schemes"])[1]
    refused = said.strip() == "no"
    return listed - account_passwords.WEAK if refused else listed


def sent(path: t.Optional[str]) -> t.Iterator[t.Tuple[str, t.Any]]:
    """The accounts that the controller has sent as a file, each with its place in the user's data."""
    if path:
        with open(path, encoding="ascii") as handle:
            # clear text passwords stay on the disk only as long as necessary
            os.unlink(path)
            for line in handle:
                where, entry = json.loads(line)
                yield where, entry


def hash_all(
    site: Site,
    wanted: str,
    known: t.Set[str],
    existing: t.Dict[str, str],
    recognised: account_passwords.Recognised,
    problems: Problems,
) -> t.Dict[str, str]:
    """The hash of each account and of each app password: given, kept or new."""
    check_schemes(site, known, problems)
    if problems.all():
        raise Refused(as_message(problems.all()))
    scheme = account_passwords.choose(wanted, known)
    if scheme is None:
        raise Refused("password_scheme: this server can't hash with %s; it has %s" % (wanted, ", ".join(sorted(known))))
    kept = {
        a.address: existing[a.address]
        for a in site.accounts
        if a.update_password == "on_create" and a.address in existing
    }
    given = {a.address: a.password_hash for a in site.accounts if a.password_hash is not None}
    passwords = {a.address: a.password for a in site.accounts if a.password is not None and a.address not in kept}
    for key, one in ((app_key(a.address, one), one) for a in site.accounts for one in a.app_passwords):
        if one.password_hash is not None:
            given[key] = one.password_hash
        elif one.password is not None:
            passwords[key] = one.password
    return dict(account_passwords.hashes(scheme, passwords, existing, recognised), **dict(given, **kept))


def app_passwords_of(site: Site, before: t.Dict[str, t.List[AppPassword]]) -> Site:
    """The site without expired app passwords, and with those that its people have made on the server."""
    day = app_passwords.today()

    def of(account: Account) -> t.List[AppPassword]:
        given = {one.name for one in account.app_passwords}
        own_ones = [one for one in before.get(account.address, []) if one.own and one.name not in given]
        return [one for one in account.app_passwords + own_ones if not app_passwords.expired(one, day)]

    return site._replace(accounts=[account._replace(app_passwords=of(account)) for account in site.accounts])


def content_of(path: str) -> str:
    return (transaction.read_file(path) or b"").decode("utf-8", "replace")


def stored_hashes(before: Lines, there: t.Dict[str, t.List[AppPassword]]) -> t.Dict[str, str]:
    """The hashes on the server, but those of app passwords that people have made: a run never sets these."""
    given = {app_key(login, one): one.password_hash or "" for login in there for one in there[login] if not one.own}
    return dict({login: line[0] for login, line in before.items()}, **given)


def changed_logins(before: t.Iterable[Lines], after: t.Iterable[Lines]) -> t.Set[str]:
    """The accounts of which some line differs."""
    return {
        key.partition("/")[0]
        for old, new in zip(before, after)
        for key in set(old) | set(new)
        if old.get(key) != new.get(key)
    }


def new_passwords(watched: t.Iterable[str], before: Lines, after: Lines) -> t.Dict[str, bool]:
    """For the action plugin. As keys: Ansible hides passwords in values, and a short one may be part of an address."""
    return {login: True for login in watched if login in after and after[login][0] != before.get(login, ("", ""))[0]}


def locked_out(before: t.Iterable[Lines], after: t.Iterable[Lines]) -> t.Set[str]:
    """The accounts of which a password, or the account itself, was good before and is not any more."""
    found = set()
    for old, new in zip(before, after):
        for key, (stored, rest) in old.items():
            there = new.get(key)
            if there is None or there[0] != stored or (NOBODY in there[1] and NOBODY not in rest):
                found.add(key.partition("/")[0])
    return found


def lost_rights(before: str, after: str) -> t.Set[str]:
    """The members of shared mailboxes who may do less than before."""
    new = accounts_files.read_shared_acl(after)
    old = accounts_files.read_shared_acl(before)
    return {login for (name, login), rights in old.items() if set(rights) - set(new.get((name, login), ""))}


def shared_before(text: str) -> t.Set[str]:
    """The names of the shared mailboxes in the file of aliases: what is no address."""
    return {name for name in accounts_files.read_passwd(text) if "@" not in name}


def mail_of(removed: t.Iterable[str], shared: t.Iterable[str], root: str) -> t.List[str]:
    """The mail directories of removed accounts and shared mailboxes."""
    # the names come from a file that a person may have edited
    paths = [os.path.join(root, *address.split("@")[::-1]) for address in removed if is_login(address)]
    names = [name for name in shared if read_accounts.SHARED_NAME.match(name)]
    paths += [accounts_files.shared_home(root, name) for name in names]
    return [path for path in paths if os.path.isdir(path)]


def tree(site: Site, text: str, apps: str, mail_root: str) -> t.List[transaction.File]:
    """The files of Dovecot and Postfix. ``text`` and ``apps``: the passwd-files of accounts and of app passwords."""
    files = [
        transaction.File(path, content.encode("utf-8"), 0o640, "root", "dovecot", secret=True)
        for path, content in ((PASSWD, text), (app_passwords.PATH, apps))
    ]
    own_aliases = accounts_files.own_aliases(site, mail_root).encode("utf-8")
    files.append(transaction.File(OWN_ALIASES, own_aliases, 0o640, "root", "dovecot"))
    # once Dovecot reads them, they stay: its configuration may name them longer than there are shared mailboxes
    if site.shared or os.path.exists(SHARED_ACL):
        files += [
            transaction.File(path, content.encode("utf-8"), 0o640, "root", "vmail")
            for path, content in (
                (SHARED_ACL, accounts_files.shared_acl(site)),
                (SHARED_MEMBERS, accounts_files.shared_members(site)),
            )
        ]
    return files + [
        transaction.File("%s/%s" % (DIRECTORY, name), table.encode("utf-8"), 0o640, "root", "postfix", compiler=POSTMAP)
        for name, table in sorted(accounts_files.maps(site).items())
    ]


def hashes_of(
    module: AnsibleModule, site: Site, existing: t.Dict[str, str], recognised: account_passwords.Recognised
) -> t.Tuple[t.Dict[str, str], t.List[str]]:
    """The hash of each account and of each app password, and what check mode could not check."""
    p = module.params
    known = known_schemes(module)
    if known:
        return hash_all(site, p["password_scheme"], known, existing, recognised, Problems(p["variables"])), []
    if module.check_mode:
        unknown = "passwords: Dovecot is not installed yet, so the hashes it knows are unknown"
        return collections.defaultdict(lambda: "{not hashed yet}"), [unknown]
    raise Refused("Dovecot is not installed, so the hashes it knows are unknown; install dovecot-core first")


def run(module: AnsibleModule) -> t.Dict[str, t.Any]:
    p = module.params
    entries = sent(p["accounts_file"])
    data = {name: p[name] for name in read_accounts.OPTIONS}
    site, wrong = read_accounts.read(
        more=entries, update_password=p["update_password"], variables=p["variables"], **data
    )
    if wrong:
        raise Refused(as_message(wrong))

    before, apps_before = (accounts_files.read_passwd(content_of(path)) for path in (PASSWD, app_passwords.PATH))
    there = app_passwords.read(content_of(app_passwords.PATH))
    acl_before, names_before = content_of(SHARED_ACL), shared_before(content_of(OWN_ALIASES))
    site = app_passwords_of(site, there)
    recognised = account_passwords.Recognised(RECOGNISED, p["fingerprint_key"])
    hashes, not_validated = hashes_of(module, site, stored_hashes(before, there), recognised)
    replaces = own.replaced(own.read(own.PATH), {login: line[0] for login, line in before.items()}, hashes)
    if replaces and not (p["replace_own"] or module.check_mode):
        return {"changed": False, "replaces_own": replaces}
    text = accounts_files.passwd(site, hashes)
    apps = accounts_files.app_passwords(site, hashes)
    after, apps_after = accounts_files.read_passwd(text), accounts_files.read_passwd(apps)

    # no daemon is reloaded: Dovecot and Postfix notice when these files change
    directories = [transaction.Directory(DIRECTORY)]
    result = transaction.run(
        "accounts",
        tree(site, text, apps, p["mail_root"]),
        directories,
        check_mode=module.check_mode,
        daemon_of=kinds.of,
    )
    masked = {
        PASSWD: lambda: accounts_files.masked(before, after),
        app_passwords.PATH: lambda: accounts_files.masked(apps_before, apps_after),
    }
    changed = changed_logins((before, apps_before), (after, apps_after))
    names = {shared.name for shared in site.shared}
    removed = sorted(set(before) - set(after))
    removed_names = sorted(names_before - names)
    mail = mail_of(removed, removed_names, p["mail_root"])
    if not module.check_mode:
        recognised.save()
        ended = locked_out((before, apps_before), (after, apps_after))
        sessions.end(ended | lost_rights(acl_before, accounts_files.shared_acl(site)))
        for path in mail if p["purge"] else []:
            shutil.rmtree(path)
    return {
        "changed": result.changed,
        "diff": [dict(d, **masked.get(d["after_header"].partition(" ")[0], dict)()) for d in result.diff],
        "added": sorted(set(after) - set(before)) + sorted(names - names_before),
        "changed_accounts": sorted(changed & set(before) & set(after)),
        "new_passwords": new_passwords(p["watched"], before, after),
        "replaces_own": replaces,
        "removed": removed + removed_names,
        "mail": mail,
        "not_validated": not_validated + result.not_validated,
        "warnings": result.warnings,
    }


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    try:
        # port587-passwd changes the same file
        with lock(account_passwords.STATE, LOCK_TIMEOUT, module.check_mode):
            result = run(module)
    except transaction.TransactionError as error:
        module.fail_json(msg=str(error), **error.details)
    except (Refused, account_passwords.HashError, OSError) as error:
        module.fail_json(msg=str(error))
    for line in result.pop("warnings", []):
        module.warn(line)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
