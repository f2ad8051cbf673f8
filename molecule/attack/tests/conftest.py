# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures: a mail host under attack, and the count of what was tried and what held."""

import json
import pathlib
import typing as t

import pytest
import vps as vps_under_test
import yaml
from by_host import host_of
from by_host import pytest_xdist_make_scheduler as pytest_xdist_make_scheduler
from mailclient import until

SCENARIO = pathlib.Path(__file__).parent.parent
PEOPLE = yaml.safe_load((SCENARIO / "converge.yml").read_text(encoding="utf-8"))[0]["vars"]["mail_accounts"]


class Vps(vps_under_test.Vps):
    """A mail host under attack."""

    def python(self, code: str, given: t.Any = None) -> t.Any:
        """A program on the host itself, which reads and prints JSON."""
        return json.loads(self.run("python3", "-", json.dumps(given), stdin=code))

    def idle(self) -> None:
        """Wait until Postfix has nothing to do: no mail in its queues, and none that waits to be picked up."""
        for left in until(self.queued):
            if not left:
                return
        raise AssertionError(left)

    def queued(self, *queues: str) -> t.List[str]:
        """The mails in these queues. What postdrop(1) has refused stays there for a day, and is not executable."""
        directories = [f"/var/spool/postfix/{queue}" for queue in queues or ("maildrop", "incoming", "active")]
        return self.run("find", *directories, "-type", "f", "-perm", "-100").split()


class Tries:
    """What an attack tried, and what came of it."""

    def __init__(self) -> None:
        self.tried = 0
        self.through: t.List[str] = []

    def add(self, name: str, held: bool, seen: object = "") -> None:
        """One more."""
        self.tried += 1
        if not held:
            self.through.append(f"{name}: {seen}")


@pytest.fixture
def tries(record_property: t.Callable[[str, object], None]) -> t.Iterator[Tries]:
    """Counts the tries of a test, which has to end without one that got through."""
    counted = Tries()
    yield counted
    record_property("tries", [counted.tried, counted.tried - len(counted.through)])
    assert counted.tried
    assert not counted.through, "\n".join(counted.through)


def pytest_terminal_summary(terminalreporter: t.Any) -> None:
    """How many tries held, by host."""
    sums: t.Dict[str, t.List[int]] = {}
    for reports in terminalreporter.stats.values():
        for report in reports:
            # of a test's reports the last one has all properties
            if getattr(report, "when", "") != "teardown":
                continue
            for tried, held in (value for name, value in report.user_properties if name == "tries"):
                total = sums.setdefault(host_of(report.nodeid), [0, 0])
                total[0] += tried
                total[1] += held
    for host, (tried, held) in sorted(sums.items()):
        terminalreporter.write_line(f"{host}: tried {tried}, held {held}")


@pytest.fixture(scope="module")
def vps(host: t.Any) -> Vps:
    """The mail host under attack."""
    return Vps(host.backend.host, host.ansible.get_variables(), PEOPLE, SCENARIO)
