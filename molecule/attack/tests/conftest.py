# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures: a mail host under attack, and the count of what was tried and what held."""

import json
import pathlib
import subprocess
import typing as t

import mailclient
import pytest
import yaml
from by_host import host_of
from by_host import pytest_xdist_make_scheduler as pytest_xdist_make_scheduler
from controller import Played, Running, begin, end
from mailclient import Account, Server, until

SCENARIO = pathlib.Path(__file__).parent.parent
VARIABLES = yaml.safe_load((SCENARIO / "converge.yml").read_text(encoding="utf-8"))[0]["vars"]


class Vps:
    """A mail host under attack."""

    def __init__(self, name: str, inventory: t.Dict[str, t.Any]) -> None:
        self.name = name
        self.container = inventory["vps_container"]
        self.hostname = inventory["mail_hostname"]
        self.domain = inventory["mail_domains"][0]
        self.server = Server(self.hostname, inventory["ansible_host"], inventory["certificates_ca_file"])
        self.alice, self.bob = (
            Account(person["address"].partition("@")[0] + "@" + self.domain, person["password"])
            for person in VARIABLES["mail_accounts"]
        )

    def run(self, *command: str, stdin: str = "", check: bool = True) -> str:
        """A command on the host itself."""
        done = subprocess.run(
            ["docker", "exec", "--interactive", self.container, *command],
            input=stdin,
            text=True,
            capture_output=True,
            check=False,
        )
        assert not check or done.returncode == 0, done
        return done.stdout

    def python(self, code: str, given: t.Any = None) -> t.Any:
        """A program on the host itself, which reads and prints JSON."""
        return json.loads(self.run("python3", "-", json.dumps(given), stdin=code))

    def start(self, playbook: str, *options: str, **variables: t.Any) -> Running:
        """A playbook of this scenario, begun."""
        return begin(SCENARIO / playbook, self.name, *options, **variables)

    def play(self, playbook: str, *options: str, **variables: t.Any) -> Played:
        """A playbook of this scenario, to its end."""
        outcome = end(self.start(playbook, *options, **variables))
        print(outcome.output)
        return outcome

    def serves(self) -> None:
        """Log in on 587, send, and read it over IMAP."""
        word = mailclient.token()
        mailclient.submit(
            self.server, self.alice, self.bob.address, mailclient.mail(self.alice.address, self.bob.address, word)
        )
        assert len(mailclient.received(self.server, self.bob, word)) == 1

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
    return Vps(host.backend.host, host.ansible.get_variables())
