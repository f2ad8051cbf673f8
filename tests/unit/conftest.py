# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) The port587.mail contributors
"""The unit tests run on this machine's Pythons, and those of what runs on a server on Python 3.6 too."""

import os
import pathlib
import sys

import hypothesis

HERE = pathlib.Path(__file__).parent

# What is the controller's says so with an import that Python 3.6 doesn't know.
collect_ignore = [
    str(path)
    for path in HERE.rglob("test_*.py")
    if sys.version_info < (3, 7) and "\nfrom __future__ import annotations\n" in path.read_text(encoding="utf-8")
]

# The fuzz tests try the same few inputs at each run of the suite; PORT587_FUZZ=20000 tries so many new ones per test.
# Each input has a few seconds, since machines are slow at times; what is quadratic takes longer.
_MANY = int(os.environ.get("PORT587_FUZZ", "0"))
hypothesis.settings.register_profile(
    "port587",
    max_examples=_MANY or 40,
    derandomize=not _MANY,
    database=None,
    deadline=3000,
    suppress_health_check=[hypothesis.HealthCheck.too_slow, hypothesis.HealthCheck.data_too_large],
)
hypothesis.settings.load_profile("port587")
