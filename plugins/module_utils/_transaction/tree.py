# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Runs on the server: Python 3.6 and the standard library only.

"""What a transaction is asked for: files and directories as they have to be, and what can be wrong with them."""

import typing as t


class Compiler:
    """A program of the server that makes a second file out of a file. Both are replaced together."""

    #: What check mode says of the files where the program is not installed yet.
    not_installed = ""

    def installed(self) -> bool:
        raise NotImplementedError

    def path(self, source: str) -> str:
        """Where the compiled form of a file lies."""
        raise NotImplementedError

    def compile(self, sources: t.Sequence["File"]) -> t.Tuple[t.List["File"], t.List["Problem"]]:
        """The compiled files, and what is wrong with the sources. No live file is touched."""
        raise NotImplementedError


class File(t.NamedTuple):
    """A file as it has to be. ``compiler`` makes a second file of it, such as Postfix's form of a lookup table."""

    path: str
    content: bytes
    mode: int = 0o644
    owner: str = "root"
    group: str = "root"
    secret: bool = False
    compiler: t.Optional[Compiler] = None


class Directory(t.NamedTuple):
    """A directory as it has to be. It is never removed."""

    path: str
    mode: int = 0o755
    owner: str = "root"
    group: str = "root"


class Problem(t.NamedTuple):
    """What a check found wrong: ``line`` counts from 1 in the file as rendered; None where no line can be named.

    ``pending``: something is missing that another part of a play makes. Check mode, which has only predicted that
    part, does not count it as wrong.
    """

    path: str
    text: str
    line: t.Optional[int] = None
    pending: bool = False

    def __str__(self) -> str:
        return "%s%s: %s" % (self.path, "" if self.line is None else " line %d" % self.line, self.text)
