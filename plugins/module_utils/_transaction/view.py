# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Runs on the server: Python 3.6 and the standard library only.

"""The file system as it will be after a change."""

import os
import typing as t

from ansible_collections.port587.mail.plugins.module_utils._transaction.files import read_file
from ansible_collections.port587.mail.plugins.module_utils._transaction.tree import File


class View:
    """The file system as it will be after the swap: what checks read, so that the live files need not be touched.

    ``beneath`` says where the present content of a path lies, if that is not the path itself (None: it has none): check
    mode sees there what an interrupted run will be taken back to.
    """

    def __init__(
        self,
        files: t.Iterable[File] = (),
        removed: t.Iterable[str] = (),
        beneath: t.Optional[t.Mapping[str, t.Optional[str]]] = None,
    ) -> None:
        self.files = {f.path: f for f in files}
        self.removed = set(removed)
        self.beneath = dict(beneath or {})

    def where(self, path: str) -> t.Optional[str]:
        """Where the content lies that the path has before the change; None where it has none."""
        return self.beneath.get(path, path)

    def present(self, path: str) -> bool:
        """Whether there is something before the change, be it a link that leads nowhere."""
        where = self.where(path)
        return where is not None and os.path.lexists(where)

    def before(self, path: str) -> t.Optional[bytes]:
        where = self.where(path)
        return None if where is None else read_file(where)

    def read(self, path: str) -> t.Optional[bytes]:
        if path in self.files:
            return self.files[path].content
        return None if path in self.removed else self.before(path)

    def exists(self, path: str) -> bool:
        if path in self.files:
            return True
        where = self.where(path)
        return path not in self.removed and where is not None and os.path.exists(where)

    def line_of(self, path: str, matches: t.Callable[[str], bool]) -> t.Optional[int]:
        """The number of the first line of a new file that matches, for a message that can say where."""
        text = self.files[path].content.decode("utf-8", "replace") if path in self.files else ""
        return next((n for n, line in enumerate(text.split("\n"), 1) if matches(line)), None)
