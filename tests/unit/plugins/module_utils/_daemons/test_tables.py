# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Postfix's lookup tables, as postmap(1) makes them."""

from ansible_collections.port587.mail.plugins.module_utils._daemons import tables
from ansible_collections.port587.mail.plugins.module_utils._transaction.tree import Problem


def test_postmap_complaint_names_file_and_line() -> None:
    line = "postmap: warning: /tmp/port587-x/table, line 3: expected format: key whitespace value"
    assert tables._complaint(line, "/tmp/port587-x/table", "/etc/postfix/map") == Problem(
        "/etc/postfix/map", "expected format: key whitespace value", 3
    )


def test_where_a_compiled_table_lies() -> None:
    assert tables.compiled_path("/etc/postfix/x", "hash") == "/etc/postfix/x.db"
    assert tables.compiled_path("/etc/postfix/x", "lmdb") == "/etc/postfix/x.lmdb"
