# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests on several hosts at the same time: a conftest.py imports the hook from here."""

import re
import typing as t

import pytest
from xdist.scheduler import LoadScopeScheduling


def host_of(nodeid: str) -> str:
    """test_killed.py::test_killed[ansible://debian11-postfix-3-12] -> debian11."""
    return re.findall(r"ansible://(\w+)", nodeid)[0]


class HostScheduling(LoadScopeScheduling):
    """Gives all tests of a host to one worker, so that they follow each other."""

    def _split_scope(self, nodeid: str) -> str:
        return host_of(nodeid)


def pytest_xdist_make_scheduler(config: pytest.Config, log: t.Any) -> HostScheduling:
    """The hosts at the same time."""
    return HostScheduling(config, log)
