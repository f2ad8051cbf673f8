# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Runs on the server: Python 3.6 and the standard library only.

"""Remove everything that runs have set up: each transaction, then the records, then what has no other owner.

It can be stopped anywhere and run again: a transaction is removed or it is not, and the records go last.
"""

import glob
import os
import pwd
import shutil
import typing as t

from ansible_collections.port587.mail.plugins.module_utils._certificate import acme, renewal
from ansible_collections.port587.mail.plugins.module_utils._daemons import kinds
from ansible_collections.port587.mail.plugins.module_utils._removal import packages
from ansible_collections.port587.mail.plugins.module_utils._transaction import change as transaction
from ansible_collections.port587.mail.plugins.module_utils._transaction import record as records
from ansible_collections.port587.mail.plugins.module_utils._transaction.commands import run_command
from ansible_collections.port587.mail.plugins.module_utils._transaction.files import (
    copy,
    edited_name,
    private_directory,
    remove,
)
from ansible_collections.port587.mail.plugins.module_utils._transaction.journal import Journal
from ansible_collections.port587.mail.plugins.module_utils._transaction.manifest import (
    manifests,
    path_of,
    refuse_damaged,
)
from ansible_collections.port587.mail.plugins.module_utils._transaction.state import STATE_DIRECTORY

#: The transactions of this collection's roles, in the order of their removal: first no more mail is accepted, and none
#: loses what it still needs.
TRANSACTIONS = (
    "backup",
    "firewall",
    "bans",
    "postfix",
    "postfix-mta-sts-resolver",
    "port587-send-limits",
    "port587-local-senders",
    "port587-recipients",
    "postgrey",
    "postsrsd",
    "rspamd",
    "port587-redis",
    "dovecot",
    "port587-login-limits",
    "autoconfig",
    "webmail",
    "unbound",
    "certificates",
    "port587-app-passwords",
    "port587-passwd",
    "accounts",
)

DKIM = "/var/lib/rspamd/dkim"
CA = "/etc/port587/ca"
ACCOUNTS = "/etc/port587/accounts"
LEARNED = "/var/lib/port587-redis"
#: The second, where the service has a user of its own (DynamicUser); then the first is a link to it.
WEBMAIL = ("/var/lib/port587-webmail", "/var/lib/private/port587-webmail")
#: Where the DKIM keys are while the package rspamd is purged, which deletes /var/lib/rspamd.
_DKIM_ASIDE = STATE_DIRECTORY + "/dkim"
#: Kept with the mail: what clients, other servers and authorities know this server by, and what it has learned.
_KEPT = {
    DKIM: "DKIM keys",
    CA: "the CA",
    ACCOUNTS: "passwords, also those that people have changed",
    acme.CERTBOT: "ACME account and certificates",
    LEARNED: "what rspamd has learned",
    WEBMAIL[0]: "people's settings and address books of webmail",
    WEBMAIL[1]: "people's settings and address books of webmail",
}
_KEPT_FILES = "(%s)/|%s/(passwd|own_passwords|app_passwords\\.passwd)$" % (
    "|".join(path for path in _KEPT if path != ACCOUNTS),
    ACCOUNTS,
)
#: State of helper services, of no use to anybody else, sessions of webmail, and certbot's logs.
_COUNTERS = (
    "/var/lib/private/port587-send-limits",
    "/var/lib/port587-send-limits",
    "/var/cache/private/port587-webmail",
    "/var/cache/port587-webmail",
    "/var/log/letsencrypt/port587",
)
_EDITED = os.path.dirname(edited_name(STATE_DIRECTORY, "/name"))

#: The role dovecot gives this comment to the user that it adds.
USER, COMMENT = "vmail", "Owner of all mail (port587.mail)"


class Wanted(t.NamedTuple):
    """The options of port587.mail.remove."""

    packages: bool
    mail: bool
    mail_root: str
    check_mode: bool


class Removed(t.NamedTuple):
    """What was removed, or would be; and what is left."""

    changed: bool
    diff: t.List[t.Dict[str, str]]
    #: sentences about what is done, in order
    done: t.List[str]
    #: sentences about what stays, and why
    left: t.List[str]


def run(wanted: Wanted) -> Removed:
    """Raises TransactionError. What was done up to there stays done, and the next run goes on."""
    refuse_damaged()
    if not wanted.check_mode:
        _dkim_back()
    purged, needed = packages.to_purge() if wanted.packages else ([], {})
    _refuse(wanted, purged)
    done, left, diff = [], [], []  # type: t.List[str], t.List[str], t.List[t.Dict[str, str]]
    known = manifests()
    for name in TRANSACTIONS:
        if name in known:
            _remove_transaction(name, wanted, done, left, diff)
    done += _purge(purged, wanted) if purged else []
    left += ["The package %s stays: %s needs it" % pair for pair in sorted(needed.items())]
    for path in _state(known, wanted) + list(_COUNTERS):
        if os.path.lexists(path):
            done.append("Delete %s" % path)
            _delete(path, wanted)
    done += _mail(wanted)
    if not wanted.check_mode:
        _remove_directory(STATE_DIRECTORY)
    left += _kept(wanted, known)
    return Removed(bool(done), diff, done, left)


def _refuse(wanted: Wanted, purged: t.Sequence[str]) -> None:
    """Raise TransactionError, before anything changes, if a purge could lose mail or can't be made."""
    queued = _queued()
    if "postfix" in purged and queued and not wanted.mail:
        raise transaction.TransactionError(
            "remove_packages: %d mails wait in Postfix's queue, and a purge would delete them; nothing was removed. "
            "Deliver them (postqueue -f), delete them (postsuper -d ALL), or set remove_mail: true" % queued
        )
    users = packages.in_use() if purged else ""
    if users:
        raise transaction.TransactionError(
            "remove_packages: apt is in use by %s; nothing was removed. Run again when it is through" % users
        )


def queues() -> t.List[str]:
    return ["/var/spool/postfix/" + name for name in ("maildrop", "incoming", "active", "deferred", "hold")]


def _queued() -> int:
    """The mails in Postfix's queue."""
    return sum(len(files) for folder in queues() for _place, _folders, files in os.walk(folder))


def _remove_transaction(
    name: str, wanted: Wanted, done: t.List[str], left: t.List[str], diff: t.List[t.Dict[str, str]]
) -> None:
    if name == "certificates" and not wanted.check_mode:
        renewal.retire()
    keep = "" if wanted.mail else _KEPT_FILES
    made = transaction.run(name, [], check_mode=wanted.check_mode, keep=keep, daemon_of=kinds.of)
    diff += made.diff
    for daemon, how in sorted(made.activated.items()):
        done.append("%s is %s" % (daemon, how if how == "stopped" else "restarted without this collection's files"))
    if made.restored:
        done.append("The originals return: %s" % ", ".join(made.restored))
    gone = [entry["before_header"] for entry in made.diff if not entry["after"]]
    if gone:
        done.append("Files of %s go: %s" % (name, ", ".join(gone)))
    left += ["Changed by somebody else; this copy is kept: %s" % path for path in made.edited]


def _purge(names: t.Sequence[str], wanted: Wanted) -> t.List[str]:
    kept = packages.others_files(names)
    if not wanted.check_mode:
        for path in kept:
            private_directory(os.path.dirname(edited_name(STATE_DIRECTORY, path)))
            copy(path, edited_name(STATE_DIRECTORY, path))
        if os.path.isdir(DKIM):
            shutil.move(DKIM, _DKIM_ASIDE)
        packages.purge(names)
        _dkim_back()
    return ["Purge the packages %s" % ", ".join(names)]


def _dkim_back() -> None:
    if os.path.isdir(_DKIM_ASIDE) and not os.path.isdir(DKIM):
        os.makedirs(os.path.dirname(DKIM), exist_ok=True)
        shutil.move(_DKIM_ASIDE, DKIM)
        # the group of the package is gone, and its number may become another's
        for path in [DKIM, *glob.glob(DKIM + "/*")]:
            os.chown(path, 0, 0)
            os.chmod(path, 0o700 if path == DKIM else 0o600)


def _state(known: t.Iterable[str], wanted: Wanted) -> t.List[str]:
    """The records that nothing needs any more. Transactions of other roles go on needing theirs."""
    paths = [os.path.dirname(path_of(STATE_DIRECTORY, name)) for name in known if name in TRANSACTIONS]
    if set(known) <= set(TRANSACTIONS):
        journal = Journal(STATE_DIRECTORY)
        paths += [journal.staging, journal.swapping, journal.done]
        paths += [STATE_DIRECTORY + "/" + name for name in ("run.lock", "last-change")]
        paths += [records.path_of(STATE_DIRECTORY)]
    return paths + [acme.STATE, acme.WEBROOT] + ([packages.RECORD] if wanted.packages else [])


def _mail(wanted: Wanted) -> t.List[str]:
    done = []
    if wanted.mail:
        for path in [wanted.mail_root, *_KEPT]:
            if os.path.lexists(path):
                done.append("Delete %s" % path)
                _delete(path, wanted)
        if not wanted.check_mode:
            _remove_directory(os.path.dirname(CA))
    if _is_ours() and (wanted.mail or not os.path.isdir(wanted.mail_root)):
        done.append("Remove the user %s" % USER)
        if not wanted.check_mode:
            code, out, err = run_command(["userdel", USER])
            if code:
                raise transaction.TransactionError("userdel %s: %s" % (USER, (err or out).strip()))
            run_command(["groupdel", USER])
    return done


def _is_ours() -> bool:
    try:
        return pwd.getpwnam(USER).pw_gecos == COMMENT
    except KeyError:
        return False


def _kept(wanted: Wanted, known: t.Iterable[str]) -> t.List[str]:
    """Sentences about what is there after the removal."""
    left = []
    for path, what in [(wanted.mail_root, "the mail"), *_KEPT.items()]:
        # a link leads to another of them
        has_files = os.path.isdir(path) and not os.path.islink(path) and os.listdir(path)
        if has_files and not (wanted.mail and wanted.check_mode):
            left.append("%s: %s; remove_mail: true deletes it" % (path, what))
    queued = _queued()
    if queued:
        left.append("/var/spool/postfix: %d mails wait in Postfix's queue" % queued)
    if os.path.isdir(_EDITED):
        left.append("%s: copies of files that somebody else has written or changed" % _EDITED)
    others = sorted(set(known) - set(TRANSACTIONS))
    if others:
        left.append("%s: what other roles have set up with port587.mail.transaction" % ", ".join(others))
    if not wanted.check_mode:
        left += ["%s: has files of others" % path for path in _folders_of_others()]
    if packages.installed() and not wanted.packages:
        left.append("Installed packages stay; remove_packages: true purges them")
    for name in packages.earlier_mtas():
        left.append("The earlier mail server's configuration is there; `apt-get install %s` brings it back" % name)
    return left


def _folders_of_others() -> t.List[str]:
    """Folders of this collection that still have something in them."""
    kept = {os.path.basename(CA), os.path.basename(ACCOUNTS)}
    folders = ("/etc/port587", "/usr/local/lib/port587")
    return [path for path in folders if os.path.isdir(path) and set(os.listdir(path)) - kept]


def _delete(path: str, wanted: Wanted) -> None:
    if wanted.check_mode:
        return
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    else:
        remove(path)


def _remove_directory(path: str) -> None:
    try:
        os.rmdir(path)
    except OSError:
        # somebody else's files, or kept ones
        return
