# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Runs on the controller and on the server: Python 3.6 and the standard library only.

"""The arguments of port587.mail.transaction, and their translation into the engine's objects."""

import typing as t

from ansible_collections.port587.mail.plugins.module_utils._daemons import kinds, prove, tables
from ansible_collections.port587.mail.plugins.module_utils._dns import dkim
from ansible_collections.port587.mail.plugins.module_utils._transaction.daemon import Activation
from ansible_collections.port587.mail.plugins.module_utils._transaction.errors import TransactionError
from ansible_collections.port587.mail.plugins.module_utils._transaction.tree import Directory, File

_FILE: t.Dict[str, t.Dict[str, t.Any]] = {
    # the action plugin renders it on the controller, and sends content or secrets instead
    "src": {"type": "str"},
    "content": {"type": "str"},
    "generate": {"type": "str", "choices": list(dkim.KINDS)},
    "dest": {"type": "path"},
    "owner": {"type": "str", "default": "root"},
    "group": {"type": "str", "default": "root"},
    "mode": {"type": "str", "default": "0644"},
    "secret": {"type": "bool", "default": False},
    "map": {"type": "bool", "default": False},
}

_DIRECTORY: t.Dict[str, t.Dict[str, t.Any]] = {
    "path": {"type": "path", "required": True},
    "owner": {"type": "str", "default": "root"},
    "group": {"type": "str", "default": "root"},
    "mode": {"type": "str", "default": "0755"},
}

_PROOF: t.Dict[str, t.Dict[str, t.Any]] = {
    "protocol": {
        "type": "str",
        "required": True,
        "choices": [*prove.PROTOCOLS, "command"],
    },
    "port": {"type": "int"},
    "address": {"type": "str", "default": "127.0.0.1"},
    "tls": {"type": "str", "choices": ["implicit", "starttls", "none"], "default": "none"},
    "auth": {"type": "bool"},
    "recipient": {"type": "str"},
    "answer": {"type": "str", "choices": ["accepted", "refused"]},
    "path": {"type": "path"},
    "user": {"type": "str"},
    "host": {"type": "str"},
    "certificate": {"type": "path"},
    "rsa": {"type": "bool", "default": False},
    "uri": {"type": "str", "default": "/"},
    "signatures": {"type": "list", "elements": "str", "default": []},
    "command": {"type": "list", "elements": "str"},
}

_DAEMON: t.Dict[str, t.Dict[str, t.Any]] = {
    "unit": {"type": "str", "required": True},
    "program": {"type": "str"},
    "kind": {"type": "str", "choices": list(kinds.KINDS), "default": "service"},
    "check": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "file": {"type": "path", "required": True},
            "command": {"type": "list", "elements": "str", "required": True},
        },
    },
    "listens": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {"port": {"type": "int", "required": True}, "address": {"type": "str", "default": "127.0.0.1"}},
    },
    "refuse_foreign": {"type": "bool", "default": False},
    "replaces": {"type": "list", "elements": "str", "default": []},
}
#: Kinds with their own file set these themselves.
_FOR_SERVICES = ("check", "listens", "refuse_foreign", "replaces")

ARGUMENTS: t.Dict[str, t.Dict[str, t.Any]] = {
    "name": {"type": "str", "required": True},
    "files": {"type": "list", "elements": "dict", "options": _FILE, "required": True},
    "secrets": {"type": "dict", "default": {}, "no_log": True},
    "directories": {"type": "list", "elements": "dict", "options": _DIRECTORY, "default": []},
    "daemon": {"type": "dict", "options": _DAEMON},
    "units": {"type": "list", "elements": "str", "default": []},
    "prove": {
        "type": "list",
        "elements": "dict",
        "options": _PROOF,
        "required_if": [("protocol", "command", ("command",))],
        "default": [],
    },
    "certificate": {"type": "path"},
    "keep": {"type": "str", "default": ""},
    "lock_timeout": {"type": "int", "default": 120},
    # for the action plugin, which does not send it
    "known": {"type": "dict"},
}


#: The drop-in that makes systemd restart a unit.
RESTART = "/etc/systemd/system/%s.d/port587-restart.conf"
#: By default most daemons stay down after they are killed, and the others after five restarts in ten seconds.
_RESTART_TEXT = b"""\
# Written by port587.mail: it is started again whatever ended it, and however often. Only systemctl stop ends it.
[Unit]
StartLimitIntervalSec=0

[Service]
Restart=always
RestartSec=1
# when the kernel kills one of its processes for lack of memory, the others go on
OOMPolicy=continue
"""


class Wanted(t.NamedTuple):
    """The wanted files, and the daemon that loads them, if there is one."""

    files: t.List[File]
    directories: t.List[Directory]
    activations: t.List[Activation]


def wanted(params: t.Dict[str, t.Any], content: t.Callable[[t.Dict[str, t.Any]], bytes]) -> Wanted:
    """The wanted files and daemon; ``content`` returns the content of one file."""
    files = [
        File(
            f["dest"],
            content(f),
            _mode(f["mode"], f["dest"]),
            f["owner"],
            f["group"],
            f["secret"] or bool(f["generate"]),
            tables.POSTMAP if f["map"] else None,
        )
        for f in params["files"]
    ]
    files += [File(RESTART % unit, _RESTART_TEXT) for unit in params["units"]]
    directories = [
        Directory(d["path"], _mode(d["mode"], d["path"]), d["owner"], d["group"]) for d in params["directories"]
    ]
    activations = [_activation(params)] if params["daemon"] else []
    return Wanted(files, directories, activations)


def _activation(params: t.Dict[str, t.Any]) -> Activation:
    description = params["daemon"]
    given = [key for key in _FOR_SERVICES if description[key]]
    if given and description["kind"] != "service":
        raise TransactionError(
            "daemon: %s is for kind service; kind %s has checks of its own" % (given[0], description["kind"])
        )
    return Activation(kinds.of(description), {"proofs": params["prove"], "certificate": params["certificate"]})


def _mode(text: str, path: str) -> int:
    try:
        return int(text, 8)
    except ValueError:
        raise TransactionError('mode of %s: %r is not octal; write it as "0644"' % (path, text)) from None
