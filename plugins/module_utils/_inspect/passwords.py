# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Runs on the server: Python 3.6 and the standard library only.

"""Whether a person has changed the password."""

from ansible_collections.port587.mail.plugins.module_utils._accounts import own
from ansible_collections.port587.mail.plugins.module_utils._accounts.files import read_passwd
from ansible_collections.port587.mail.plugins.module_utils._transaction.files import read_file

#: Dovecot's accounts, with the hashes.
PASSWD = "/etc/port587/accounts/passwd"


def has_own(address: str, path: str = own.PATH, passwd: str = PASSWD) -> bool:
    """Whether the account's present password was set on the server, and not by a run."""
    accounts = read_passwd((read_file(passwd) or b"").decode("utf-8", "replace"))
    return address in accounts and own.read(path).get(address) == own.digest(accounts[address][0])
