# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures: a mail host, playbooks that change it, and a check that mail still flows."""

import pathlib
import typing as t

import by_host
import pytest
import vps as vps_under_test
import yaml
from by_host import pytest_xdist_make_scheduler as pytest_xdist_make_scheduler
from controller import Played
from snapshot import SNAPSHOT

SCENARIO = pathlib.Path(__file__).parent.parent
PEOPLE = yaml.safe_load((SCENARIO / "converge.yml").read_text(encoding="utf-8"))[0]["vars"]["mail_accounts"]

#: In this order: the last ones leave the most behind.
ORDER = [
    "bad_changes",
    "check_mode",
    "own_files",
    "two_runs",
    "full",
    "killed",
    "in_flight",
    "comes_back",
    "all_killed",
]


class Vps(vps_under_test.Vps):
    """A mail host under test."""

    def python(self, code: str, *arguments: str) -> str:
        """A program on the host itself."""
        return self.run("python3", "-", *arguments, stdin=code)

    def snapshot(self) -> t.List[str]:
        """All that transactions look after."""
        return self.python(SNAPSHOT).splitlines()

    def apply(self, *parts: str, **variables: t.Any) -> Played:
        """Roles alone, which have to succeed."""
        outcome = self.play("parts.yml", parts=parts, **variables)
        assert outcome.code == 0
        return outcome


def pytest_collection_modifyitems(config: pytest.Config, items: t.List[pytest.Item]) -> None:
    """One host after the other where there is one worker only; its tests in ORDER."""
    by_host.pytest_collection_modifyitems(config, items)
    items.sort(key=lambda item: (by_host.host_of(item.nodeid), ORDER.index(item.path.stem[len("test_") :])))


def pytest_terminal_summary(terminalreporter: t.Any) -> None:
    """What the tests found out besides."""
    for report in terminalreporter.stats.get("passed", []):
        for name, value in report.user_properties:
            terminalreporter.write_line(f"{by_host.host_of(report.nodeid)}: {name}: {value}")


@pytest.fixture(scope="module")
def vps(host: t.Any) -> Vps:
    """The mail host under test."""
    return Vps(host.backend.host, host.ansible.get_variables(), PEOPLE, SCENARIO, mail_accounts=PEOPLE)
