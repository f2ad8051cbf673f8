# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Runs on the server: Python 3.6 and the standard library only.

"""The wanted files and directories of a transaction, and the problems that checks find in them."""

import typing as t


class Compiler:
    """A program of the server that makes a second file out of a file. Both are replaced together."""

    #: Check mode's message about the files if the program is not installed yet.
    not_installed = ""

    def installed(self) -> bool:
        raise NotImplementedError

    def path(self, source: str) -> str:
        """The path of a file's compiled form."""
        raise NotImplementedError

    def compile(self, sources: t.Sequence["File"]) -> t.Tuple[t.List["File"], t.List["Problem"]]:
        """The compiled files, and the problems in the sources. No live file is touched."""
        raise NotImplementedError


class File(t.NamedTuple):
    """A wanted file. ``compiler`` makes a second file from it, such as the compiled form of a Postfix lookup table."""

    path: str
    content: bytes
    mode: int = 0o644
    owner: str = "root"
    group: str = "root"
    secret: bool = False
    compiler: t.Optional[Compiler] = None


class Directory(t.NamedTuple):
    """A wanted directory. It is never removed."""

    path: str
    mode: int = 0o755
    owner: str = "root"
    group: str = "root"


class Problem(t.NamedTuple):
    """A mistake that a check found. ``line`` counts from 1 in the rendered file; None if the line is unknown.

    ``pending``: something is missing that another part of the play makes. Check mode, which only predicts that part,
    does not count it as a mistake.
    """

    path: str
    text: str
    line: t.Optional[int] = None
    pending: bool = False

    def __str__(self) -> str:
        return "%s%s: %s" % (self.path, "" if self.line is None else " line %d" % self.line, self.text)
