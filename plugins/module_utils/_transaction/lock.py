# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Runs on the server: Python 3.6 and the standard library only.

"""One lock for all transactions of a host."""

import contextlib
import errno
import fcntl
import os
import time
import typing as t

from ansible_collections.port587.mail.plugins.module_utils._transaction.errors import TransactionError
from ansible_collections.port587.mail.plugins.module_utils._transaction.files import sync_directories


@contextlib.contextmanager
def lock(state_directory: str, timeout: float, check_mode: bool) -> t.Iterator[None]:
    """One lock for all transactions of a host: they share daemons. Check mode waits too, and leaves no trace."""
    path = os.path.join(state_directory, "run.lock")
    if check_mode and not os.path.exists(path):
        yield
        return
    if not check_mode and not os.path.isdir(state_directory):
        # not only for root: other programs, such as a web server, read files below it
        os.makedirs(state_directory, 0o711)
        sync_directories([state_directory])
    with open(path, "r" if check_mode else "a") as handle:
        deadline = time.monotonic() + timeout
        while True:
            try:
                fcntl.flock(handle, (fcntl.LOCK_SH if check_mode else fcntl.LOCK_EX) | fcntl.LOCK_NB)
                break
            except OSError as exc:
                if exc.errno not in (errno.EAGAIN, errno.EACCES):
                    raise
                if time.monotonic() >= deadline:
                    raise TransactionError(
                        "another run is changing this server (it holds %s); this change was not made, try again later"
                        % path
                    ) from exc
                time.sleep(0.1)
        yield
