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
    """The file system as it will be after the swap. Checks read this view instead of the live files.

    ``beneath``: the file with a path's present content, if that is not the path itself (None: no content). With it,
    check mode sees the files to which an interrupted run will be rolled back.
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
        """The file with the path's content before the change; None if there is none."""
        return self.beneath.get(path, path)

    def present(self, path: str) -> bool:
        """Whether the path exists before the change, even as a broken link."""
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
