# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests on several hosts: a conftest.py imports the hooks from here."""

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


def pytest_collection_modifyitems(config: pytest.Config, items: t.List[pytest.Item]) -> None:
    """A test with the mark `one_host` runs on one of the hosts: the first one on the first host, and so on in turn.

    It is for what no version of Postfix, Dovecot or another program makes different: our own code, on a server that is
    the same for it everywhere.
    """
    marked = [item for item in items if item.get_closest_marker("one_host")]
    hosts = list(dict.fromkeys(host_of(item.nodeid) for item in marked))
    names = {item: item.nodeid.replace(f"ansible://{host_of(item.nodeid)}", "") for item in marked}
    turns = {name: hosts[number % len(hosts)] for number, name in enumerate(dict.fromkeys(names.values()))}
    elsewhere = [item for item in marked if turns[names[item]] != host_of(item.nodeid)]
    config.hook.pytest_deselected(items=elsewhere)
    items[:] = [item for item in items if item not in elsewhere]
