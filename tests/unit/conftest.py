# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) The port587.mail contributors
"""The unit tests run on this machine's Pythons, and those of what runs on a server on Python 3.6 too."""

import pathlib
import sys

HERE = pathlib.Path(__file__).parent

# What is the controller's says so with an import that Python 3.6 doesn't know.
collect_ignore = [
    str(path)
    for path in HERE.rglob("test_*.py")
    if sys.version_info < (3, 7) and "\nfrom __future__ import annotations\n" in path.read_text(encoding="utf-8")
]
