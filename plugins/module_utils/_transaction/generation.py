# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Runs on the server: Python 3.6 and the standard library only.

"""Notice that another run has changed the server meanwhile.

A run is several transactions, and the lock is held for one of them. So each change leaves a name for itself, which no
other change has. A run knows the name that it saw when it looked at the server; when it finds one that is neither this
nor its own, it stops before it changes anything more. Nothing has to be released when a run is killed.

The roles hand the run's name and the change that it saw to the modules in an environment variable. A run that has not
looked (accounts.yml, a single change) says so: it compares nothing, and others notice it. Without the variable, as in
renewals of certificates, nothing is compared or noticed.
"""

import os
import re
import typing as t
import uuid

from ansible_collections.port587.mail.plugins.module_utils._transaction.errors import TransactionError
from ansible_collections.port587.mail.plugins.module_utils._transaction.files import read_file
from ansible_collections.port587.mail.plugins.module_utils._transaction.state import STATE_DIRECTORY
from ansible_collections.port587.mail.plugins.module_utils._transaction.tree import File

VARIABLE = "PORT587_RUN"
#: Instead of a change, in the variable of a run that has not looked.
NOT_LOOKED = "*"


def _path(state_directory: str) -> str:
    return os.path.join(state_directory, "last-change")


def _last(state_directory: str) -> str:
    try:
        content = (read_file(_path(state_directory)) or b"").decode("ascii", "replace").strip()
    except OSError:
        return ""
    # a damaged one is as good as none; any bytes could not be handed on in a variable
    return content if re.match(r"[\w.-]+\Z", content) else ""


def look(state_directory: str = STATE_DIRECTORY) -> str:
    """A value for the variable: a name for the run that looks now, and the last change that it sees."""
    return "%s/%s" % (uuid.uuid4().hex, _last(state_directory))


def mark(state_directory: str) -> t.List[File]:
    """The file that names this change, to be swapped in with it. Raises TransactionError if another run has changed
    the server meanwhile."""
    run, _slash, seen = os.environ.get(VARIABLE, "").partition("/")
    if not run:
        return []
    last = _last(state_directory)
    if seen not in (last, NOT_LOOKED) and not last.startswith(run + "."):
        raise TransactionError(
            "another run has changed this server since this run looked at it; this change was not made, and what this "
            "run changed before may be overwritten. Wait until the other run has ended, and start this one again"
        )
    return [File(_path(state_directory), ("%s.%s\n" % (run, uuid.uuid4().hex)).encode("ascii"), 0o600)]
