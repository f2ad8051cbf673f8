# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures: the new user, the same in all tests."""

import pathlib
import sys
import tempfile
import typing as t

import pytest

sys.path[:0] = [str(pathlib.Path(__file__).parents[2] / "shared"), str(pathlib.Path(__file__).parent)]

from newcomer import Newcomer


@pytest.fixture(scope="session")
def newcomer() -> t.Iterator[Newcomer]:
    # a short path: SSH's sockets are below it
    with tempfile.TemporaryDirectory(prefix="home-", dir="/tmp") as home:
        yield Newcomer(pathlib.Path(home))
