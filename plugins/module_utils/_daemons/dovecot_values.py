# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Runs on the server: Python 3.6 and the standard library only.

"""Mistakes in settings that doveconf(1) accepts."""

import grp
import os
import pwd
import re
import typing as t

from ansible_collections.port587.mail.plugins.module_utils._daemons.checks import is_taken
from ansible_collections.port587.mail.plugins.module_utils._daemons.key_pairs import key_pair_trouble
from ansible_collections.port587.mail.plugins.module_utils._transaction.files import read_file
from ansible_collections.port587.mail.plugins.module_utils._transaction.view import View

_KEYS = ("ssl_key", "ssl_server_key_file")
_CERTIFICATES = ("ssl_cert", "ssl_server_cert_file")
_ACCOUNTS = ("user", "group", "mail_uid", "mail_gid", "default_internal_user", "default_login_user")


def doveconf(output: str) -> t.List[t.Tuple[str, str]]:
    """Names and values in the output of doveconf(1). Blocks of 2.4 get the names of 2.3's settings."""
    values = []
    blocks = []  # type: t.List[str]
    for line in output.splitlines():
        name, equals, value = (part.strip() for part in line.partition("="))
        if name == "}":
            blocks.pop()
        elif name.endswith("{"):
            blocks.append(name.split()[0])
        elif equals and blocks[-1:] == ["mail_plugins"]:
            values.append(("mail_plugins", name))
        elif equals:
            values.append(("ssl_server_" + name if blocks[-1:] == ["ssl_server"] else name, value.strip('"')))
    return values


def wrong(
    name: str, value: str, view: View, served: t.Optional[t.Sequence[str]]
) -> t.Iterator[t.Tuple[str, t.Optional[str]]]:
    """The mistake in a value, and the missing path or user, if that is the mistake.

    ``served``: the ports that Dovecot uses already; None if that is unknown.
    """
    for path in _files_in(name, value):
        if not view.exists(path):
            yield "%s does not exist" % path, path
    if name == "auth_mechanisms":
        for mechanism in value.split():
            if not _knows_mechanism(mechanism):
                yield "this Dovecot has no mechanism %s" % mechanism, None
    elif name == "mail_plugins":
        for plugin in value.split():
            if not _has_plugin(plugin):
                yield "plugin %s is not installed" % plugin, None
    elif name == "port" and value.isdigit() and served is not None and value not in served and is_taken(int(value)):
        yield "another program listens on port %s" % value, None
    elif name in _ACCOUNTS and value and not _has_account(name, value):
        yield "this server has no user or group %s" % value, value


def key_troubles(values: t.Sequence[t.Tuple[str, str]], view: View) -> t.Iterator[str]:
    """Mistakes in pairs of keys and certificates."""
    # the first pair is for all names, those of local_name blocks follow
    keys, chains = ([v.lstrip("<") for n, v in values if n in names] for names in (_KEYS, _CERTIFICATES))
    for pair in zip(keys, chains) if len(keys) == len(chains) else [keys[:1] + chains[:1]]:
        if pair and all(view.exists(path) for path in pair):
            trouble = key_pair_trouble(list(dict.fromkeys(pair)), view)
            if trouble:
                yield trouble


def _files_in(name: str, value: str) -> t.List[str]:
    if name in ("ssl_dh", "ssl_cert", "ssl_key", "ssl_ca") and value.startswith("<"):
        return [value[1:]]
    if name in ("ssl_server_cert_file", "ssl_server_key_file", "ssl_server_dh_file", "passwd_file_path"):
        return [value] if value.startswith("/") and "%" not in value else []
    if name == "args":
        # passdb passwd-file: options, then the path
        last = value.split()[-1:]
        return [p for p in last if p.startswith("/") and "%" not in p and not p.endswith(".conf.ext")]
    return []


def _knows_mechanism(mechanism: str) -> bool:
    # read from the program itself, so no list can go out of date; plugins may bring others, such as APOP
    program = read_file("/usr/lib/dovecot/auth") or read_file("/usr/libexec/dovecot/auth")
    return program is None or mechanism.upper().encode() in program


def _has_plugin(plugin: str) -> bool:
    pattern = re.compile(r"lib(\d+_)?%s_plugin\.so$" % re.escape(plugin))
    for directory in ("/usr/lib/dovecot/modules", "/usr/lib/dovecot"):
        if os.path.isdir(directory) and any(pattern.match(name) for name in os.listdir(directory)):
            return True
    return False


def _has_account(kind: str, name: str) -> bool:
    if name.isdigit() or "$" in name:
        return True
    try:
        if kind in ("group", "mail_gid"):
            grp.getgrnam(name)
        else:
            pwd.getpwnam(name)
    except KeyError:
        return False
    return True
