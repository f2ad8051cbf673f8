# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Runs on the server: Python 3.6 and the standard library only.

"""The passwords that were changed on the server (port587-passwd), which a run names before it replaces one of them."""

import hashlib
import typing as t

from ansible_collections.port587.mail.plugins.module_utils._transaction.files import read_file

#: Lines of an address and a digest of its stored hash. Whoever reads it learns no password; it may be lost at any time.
PATH = "/etc/port587/accounts/own_passwords"


def digest(stored: str) -> str:
    return hashlib.sha256(stored.encode("utf-8")).hexdigest()


def read(path: str) -> t.Dict[str, str]:
    """The digest of each account; none from lines that are damaged."""
    lines = (read_file(path) or b"").decode("utf-8", "replace").splitlines()
    return {line.partition(" ")[0]: line.partition(" ")[2] for line in lines if " " in line}


def text(digests: t.Dict[str, str]) -> str:
    return "".join("%s %s\n" % one for one in sorted(digests.items()))


def replaced(digests: t.Dict[str, str], before: t.Dict[str, str], after: t.Dict[str, str]) -> t.List[str]:
    """The accounts that have a password of their own ``before``, and another one ``after``."""
    return sorted(
        login
        for login, stored in before.items()
        if digests.get(login) == digest(stored) and after.get(login, stored) != stored
    )
