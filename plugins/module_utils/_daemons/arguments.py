# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Runs on the controller and on the server: Python 3.6 and the standard library only.

"""The arguments of port587.mail.transaction, and what they ask for."""

import typing as t

from ansible_collections.port587.mail.plugins.module_utils._daemons import daemons
from ansible_collections.port587.mail.plugins.module_utils._transaction.files import (
    Activation,
    Directory,
    File,
    TransactionError,
)

_FILE: t.Dict[str, t.Dict[str, t.Any]] = {
    # rendered on the controller by the action plugin, which sends content instead, or one of the secrets
    "src": {"type": "str"},
    "content": {"type": "str"},
    "generate": {"type": "str", "choices": ["dkim-rsa-2048", "dkim-rsa-4096", "dkim-ed25519"]},
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
        "choices": [
            "smtp",
            "imap",
            "pop3",
            "sieve",
            "sasl",
            "lmtp",
            "policy",
            "http",
            "milter",
            "socketmap",
            "dns",
            "redis",
        ],
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
}

ARGUMENTS: t.Dict[str, t.Dict[str, t.Any]] = {
    "name": {"type": "str", "required": True},
    "files": {"type": "list", "elements": "dict", "options": _FILE, "required": True},
    "secrets": {"type": "dict", "default": {}, "no_log": True},
    "directories": {"type": "list", "elements": "dict", "options": _DIRECTORY, "default": []},
    "daemon": {
        "type": "str",
        "choices": [
            "postfix",
            "dovecot",
            "nginx",
            "rspamd",
            "unbound",
            "postfix-mta-sts-resolver",
            "port587-recipients",
            "port587-send-limits",
            "port587-login-limits",
            "port587-redis",
            "postgrey",
        ],
    },
    "units": {"type": "list", "elements": "str", "default": []},
    "prove": {"type": "list", "elements": "dict", "options": _PROOF, "default": []},
    "certificate": {"type": "path"},
    "keep": {"type": "str", "default": ""},
    "lock_timeout": {"type": "int", "default": 120},
    # for the action plugin, which keeps it
    "known": {"type": "dict"},
}


#: The drop-in by which a unit is started again.
RESTART = "/etc/systemd/system/%s.d/port587-restart.conf"
#: As shipped, most daemons stay down when they are killed, and the others after five times in ten seconds.
_RESTART_TEXT = b"""\
# Written by port587.mail: it is started again whatever ended it, and however often. Only systemctl stop ends it.
[Unit]
StartLimitIntervalSec=0

[Service]
Restart=always
RestartSec=1
"""


class Wanted(t.NamedTuple):
    """The tree, and the daemon that takes it over, if there is one."""

    files: t.List[File]
    directories: t.List[Directory]
    activations: t.List[Activation]


def wanted(params: t.Dict[str, t.Any], content: t.Callable[[t.Dict[str, t.Any]], bytes]) -> Wanted:
    """What the arguments ask for; ``content`` gives that of one of the files."""
    files = [
        File(
            f["dest"],
            content(f),
            _mode(f["mode"], f["dest"]),
            f["owner"],
            f["group"],
            f["secret"] or bool(f["generate"]),
            f["map"],
        )
        for f in params["files"]
    ]
    files += [File(RESTART % unit, _RESTART_TEXT) for unit in params["units"]]
    directories = [
        Directory(d["path"], _mode(d["mode"], d["path"]), d["owner"], d["group"]) for d in params["directories"]
    ]
    activations = []
    if params["daemon"]:
        activations.append(daemons.activation(params["daemon"], params["prove"], params["certificate"]))
    return Wanted(files, directories, activations)


def _mode(text: str, path: str) -> int:
    try:
        return int(text, 8)
    except ValueError:
        raise TransactionError('mode of %s: %r is not octal; write it as "0644"' % (path, text)) from None
