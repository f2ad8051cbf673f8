# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Runs on the server: Python 3.6 and the standard library only.

"""Dovecot's mail store and certificates, seen from inside."""

import os
import pwd
import re
import typing as t

Facts = t.Dict[str, t.Any]


def mail_store(configuration: str) -> t.Optional[str]:
    """The directory of all mailboxes. None if they are in the users' home directories."""
    for name in ("mail_home", "mail_path", "mail_location"):
        found = re.search(r"^%s = (?:\w+:)?(/[^%%~\s]*)%%" % name, configuration, re.MULTILINE)
        path = found.group(1).rstrip("/") if found else ""
        if path and path != "/home" and os.path.isdir(path) and os.stat(path).st_uid != 0:
            return path
    return None


def foreign_mailboxes(store: str) -> t.List[Facts]:
    """Directories of domains and mailboxes with an owner that differs from all others; at most three."""
    owner = os.stat(store).st_uid
    found: t.List[Facts] = []
    with os.scandir(store) as domains:
        for domain in domains:
            if not domain.is_dir(follow_symlinks=False):
                continue
            with os.scandir(domain.path) as users:
                for entry in [domain] + [one for one in users if one.is_dir(follow_symlinks=False)]:
                    other = entry.stat(follow_symlinks=False).st_uid
                    if other != owner:
                        found.append({"path": entry.path, "owner": _user(other), "wanted": _user(owner)})
            if len(found) >= 3:
                break
    return found[:3]


def _user(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def certificates(configuration: str) -> t.List[str]:
    """The files with the certificates that it should serve. The syntax differs between 2.3 and 2.4."""
    written = (
        re.search(
            r"^[ \t]*(?:ssl_%scert = <|ssl_server_%scert_file = |%scert_file = )(/\S+)$" % (alt, alt, alt),
            configuration,
            re.MULTILINE,
        )
        for alt in ("", "alt_")
    )
    return [found.group(1) for found in written if found]
