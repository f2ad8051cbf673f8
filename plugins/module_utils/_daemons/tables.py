# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Runs on the server: Python 3.6 and the standard library only.

"""Postfix's lookup tables: a text file, and next to it the table that postmap(1) compiles."""

import functools
import os
import re
import typing as t

from ansible_collections.port587.mail.plugins.module_utils._transaction.commands import has_command, run_command
from ansible_collections.port587.mail.plugins.module_utils._transaction.files import (
    read_file,
    remove,
    temporary_directory,
    write_settled,
)
from ansible_collections.port587.mail.plugins.module_utils._transaction.tree import Compiler, File, Problem


@functools.lru_cache(maxsize=None)
def database_type() -> str:
    """The table type of this machine's Postfix (hash, lmdb, ...)."""
    return run_command(["postconf", "-dh", "default_database_type"])[1].strip() or "hash"


def compiled_path(path: str, kind: str) -> str:
    return path + {"hash": ".db", "btree": ".db"}.get(kind, "." + kind)


class Postmap(Compiler):
    not_installed = "lookup tables: Postfix is not installed yet"

    def installed(self) -> bool:
        return has_command("postmap")

    def path(self, source: str) -> str:
        return compiled_path(source, database_type())

    def compile(self, sources: t.Sequence[File]) -> t.Tuple[t.List[File], t.List[Problem]]:
        """postmap(1) only warns of a malformed line and exits with 0, so its warnings count as errors."""
        kind = database_type()
        compiled = []
        problems = []  # type: t.List[Problem]
        with temporary_directory() as directory:
            # with a temporary main.cf: the live one may not exist yet, and must not affect the result
            write_settled(os.path.join(directory, "main.cf"), b"compatibility_level = 2\n")
            text = os.path.join(directory, "table")
            for source in sources:
                write_settled(text, source.content)
                code, out, err = run_command(["postmap", "-c", directory, "%s:%s" % (kind, text)])
                table = read_file(compiled_path(text, kind))
                complaints = [_complaint(line, text, source.path) for line in (out + err).splitlines()]
                if code or complaints or table is None:
                    problems += complaints or [Problem(source.path, "postmap ends with %d" % code)]
                else:
                    path = compiled_path(source.path, kind)
                    compiled.append(File(path, table, source.mode, source.owner, source.group, secret=True))
                remove(compiled_path(text, kind))
        return compiled, problems


#: For File.compiler.
POSTMAP = Postmap()


def _complaint(line: str, text: str, path: str) -> Problem:
    # "postmap: warning: FILE, line N: expected format: key whitespace value"
    found = re.search(r"(?:%s)(?:\.\w+)?, line (\d+): (.*)" % re.escape(text), line)
    if found:
        return Problem(path, found.group(2), int(found.group(1)))
    return Problem(path, re.sub(r"^postmap: (warning|fatal|error): ", "", line.replace(text, path)))
