# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Runs on the server: Python 3.6 and the standard library only.

"""A lock for the passwd-file, which runs and people change."""

import contextlib
import fcntl
import os
import time
import typing as t

from ansible_collections.port587.mail.plugins.module_utils._transaction.files import private_directory

#: Below the directory of the transactions' state, which only root can write to.
LOCK = "/var/lib/port587/accounts/passwd.lock"


class Busy(Exception):
    """Another process holds the lock."""


@contextlib.contextmanager
def locked(timeout: float, path: str = LOCK) -> t.Iterator[None]:
    """Hold the lock from reading the passwd-file until the new one is in its place; wait for ``timeout`` seconds."""
    private_directory(os.path.dirname(path))
    with open(path, "a") as handle:
        deadline = time.monotonic() + timeout
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise Busy("another run is changing the accounts (it holds %s); try again later" % path) from None
                time.sleep(0.1)
        yield
