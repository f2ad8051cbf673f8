# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Runs on the server: Python 3.6 and the standard library only.

"""What the backup notes on the server: its outcome, for verify, and who had which number."""

import grp
import json
import os
import pwd
import tempfile
import typing as t

STATE = "/var/lib/port587-backup"
STATUS = STATE + "/status.json"
#: Who had which number, for the restore on a server that gives other numbers.
NAMES = STATE + "/names.json"


def read_status() -> t.Dict[str, t.Any]:
    try:
        with open(STATUS) as handle:
            return dict(json.load(handle))
    except (OSError, ValueError):
        return {}


def write_json(path: str, data: t.Any) -> None:
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=os.path.dirname(path), delete=False) as handle:
        json.dump(data, handle, indent=1, sort_keys=True)
        handle.flush()
        os.fsync(handle.fileno())
    os.rename(handle.name, path)


def remember_names() -> None:
    users = {str(one.pw_uid): one.pw_name for one in pwd.getpwall()}
    groups = {str(one.gr_gid): one.gr_name for one in grp.getgrall()}
    write_json(NAMES, {"users": users, "groups": groups})
