# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Runs on the server: Python 3.6 and the standard library only.

"""The Debian packages that runs have installed: recorded, and purged on request."""

import hashlib
import os
import re
import typing as t

from ansible_collections.port587.mail.plugins.module_utils._server import apt, facts, proc
from ansible_collections.port587.mail.plugins.module_utils._transaction.commands import run_command
from ansible_collections.port587.mail.plugins.module_utils._transaction.errors import DamagedError, TransactionError
from ansible_collections.port587.mail.plugins.module_utils._transaction.files import copy, read_file
from ansible_collections.port587.mail.plugins.module_utils._transaction.state import (
    FORMAT,
    STATE_DIRECTORY,
    damaged_name,
    load_record,
    write_json,
)

RECORD = STATE_DIRECTORY + "/packages.json"
_REMEDY = "Move it away, or let site.yml install a package: then a removal purges none of the earlier packages"

#: Packages that are removed with others' packages, and never by this collection: Ansible needs the first.
_NEVER = ("python3",)
#: Files that the packages' own scripts write, and that are no loss.
_GENERATED = re.compile(
    r"/etc/postfix/(main\.cf|master\.cf|dynamicmaps\.cf|(main|master)\.cf\.proto)$|/etc/dovecot/private/"
)
#: The mail servers of Debian that give way to Postfix, each with the package to install.
OTHER_MTAS = {
    "exim4-config": "exim4",
    "sendmail-bin": "sendmail-bin",
    "opensmtpd": "opensmtpd",
    "nullmailer": "nullmailer",
    "dma": "dma",
}


def installed() -> t.List[str]:
    """The recorded packages."""
    if not os.path.exists(RECORD):
        return []
    return [str(name) for name in load_record(RECORD, {"packages": list}, _REMEDY)["packages"]]


def note(names: t.Iterable[str]) -> str:
    """Add packages to the record. Returns a warning if the record is damaged, and is begun anew."""
    said = ""
    try:
        known = installed()
    except DamagedError as exc:
        known = []
        copy(RECORD, damaged_name(RECORD))
        said = "%s was damaged (%s; a copy is %s): a removal purges none of the packages that it named" % (
            RECORD,
            exc.why,
            damaged_name(RECORD),
        )
    new = sorted(set(names) - set(known) - set(_NEVER))
    if new:
        if not os.path.isdir(STATE_DIRECTORY):
            os.makedirs(STATE_DIRECTORY, 0o711)
        write_json(RECORD, {"version": FORMAT, "packages": known + new})
    return said


def _states(names: t.Sequence[str]) -> t.Dict[str, str]:
    """The state of each package that dpkg knows, such as ``ii`` or ``rc``."""
    said = run_command(["dpkg-query", "-W", "-f", "${Package} ${db:Status-Abbrev}\n", "--", *names])[1]
    return {line.split()[0]: line.split()[1] for line in said.splitlines() if len(line.split()) > 1}


def to_purge() -> t.Tuple[t.List[str], t.Dict[str, str]]:
    """(packages, those that stay: by name, the packages that need them)"""
    names = installed()
    there = [name for name, state in sorted(_states(names).items()) if state[1:2] != "n"] if names else []
    needed = {}  # type: t.Dict[str, str]
    while there and _would_take(there) - set(there):
        before = list(there)
        for name in before:
            others = _would_take([name]) - set(before)
            if others:
                needed[name] = ", ".join(sorted(others))
                there.remove(name)
        if there == before:
            raise TransactionError("apt would remove further packages with %s; nothing was purged" % ", ".join(there))
    return there, needed


def _would_take(names: t.Sequence[str]) -> t.Set[str]:
    """The packages that apt would remove with these."""
    code, out, err = run_command(["apt-get", "--simulate", "--quiet", "purge", "--", *names])
    if code:
        raise TransactionError("apt-get --simulate purge: %s" % (err or out).strip())
    return set(re.findall(r"^(?:Purg|Remv) ([^\s:]+)", out, re.MULTILINE))


def in_use() -> str:
    """The programs that use apt now, in words; empty if there are none."""
    return ", ".join(map(str, apt.users()))


def purge(names: t.Sequence[str]) -> None:
    # not apt-get: it removes all packages first, and then Dovecot is restarted with configuration of those that went
    code, out, err = run_command(["env", "DEBIAN_FRONTEND=noninteractive", "dpkg", "--purge", "--", *names])
    if code:
        raise TransactionError("dpkg --purge %s: %s" % (" ".join(names), (err or out).strip()))


def others_files(names: t.Sequence[str]) -> t.List[str]:
    """Files that a purge of these packages would delete, and that somebody has written: new ones, and changed ones."""
    owned = set()  # type: t.Set[str]
    for folder, _folders, files in os.walk("/var/lib/dpkg/info"):
        for file in files:
            if file.endswith(".list"):
                lines = (read_file(os.path.join(folder, file)) or b"").decode("utf-8", "replace").splitlines()
                owned.update(line for line in lines if line.startswith("/etc/"))
    found = [
        path
        for folder in sorted({"/etc/" + name.split("-")[0] for name in names})
        for path in _files_below(folder)
        if path not in owned and not _GENERATED.match(path)
    ]
    said = run_command(["dpkg-query", "-W", "-f", "${Conffiles}\n", "--", *names])[1]
    for path, known in re.findall(r"^ (/\S+) ([0-9a-f]{32})$", said, re.MULTILINE):
        content = read_file(path)
        # the checksum that dpkg keeps
        if content is not None and hashlib.md5(content).hexdigest() != known:
            found.append(path)
    return found


def _files_below(folder: str) -> t.Iterator[str]:
    for place, _folders, files in os.walk(folder):
        for name in sorted(files):
            path = os.path.join(place, name)
            if not os.path.islink(path):
                yield path


def earlier_mtas() -> t.List[str]:
    """Mail servers that apt has removed for Postfix, and whose configuration is still there."""
    states = _states(list(OTHER_MTAS))
    return [OTHER_MTAS[name] for name, state in sorted(states.items()) if state[1:2] == "c" or _unused(name, state)]


def _unused(name: str, state: str) -> bool:
    # exim4-config stays installed when exim itself is removed
    others = facts.parse_other_mtas(proc.read_text("/var/lib/dpkg/status"))
    return name == "exim4-config" and state[1:2] == "i" and not others
