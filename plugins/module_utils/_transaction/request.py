# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Runs on the server: Python 3.6 and the standard library only.

"""The arguments of run()."""

import os
import re
import typing as t

from ansible_collections.port587.mail.plugins.module_utils._transaction.daemon import Activation, DaemonOf
from ansible_collections.port587.mail.plugins.module_utils._transaction.errors import TransactionError
from ansible_collections.port587.mail.plugins.module_utils._transaction.tree import Directory, File, Problem
from ansible_collections.port587.mail.plugins.module_utils._transaction.view import View


class Request(t.NamedTuple):
    """The arguments of run(), see there. No step changes them."""

    name: str
    files: t.Sequence[File]
    directories: t.Sequence[Directory]
    activations: t.Sequence[Activation]
    daemon_of: DaemonOf
    validate: t.Optional[t.Callable[[View], t.List[Problem]]]
    keep_others: bool
    keep: str
    state_directory: str

    def check(self) -> None:
        """Raises TransactionError if the arguments are invalid."""
        if not re.match(r"[a-z][a-z0-9_-]*$", self.name):
            raise TransactionError(
                "name: %r is not a name for a transaction; write one in small letters, such as postfix" % self.name
            )
        paths = [f.path for f in self.files]
        for path in paths:
            if paths.count(path) > 1 or not os.path.isabs(path):
                raise TransactionError(
                    "%s: %s" % (path, "is given twice" if os.path.isabs(path) else "is not an absolute path")
                )
