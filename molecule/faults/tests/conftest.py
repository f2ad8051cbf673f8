# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures: a mail host, playbooks that change it, and a check that mail still flows."""

import pathlib
import subprocess
import typing as t

import mailclient
import pytest
import yaml
from by_host import host_of
from by_host import pytest_xdist_make_scheduler as pytest_xdist_make_scheduler
from controller import Played, Running, begin, end
from mailclient import Account, Server

SCENARIO = pathlib.Path(__file__).parent.parent
PEOPLE = yaml.safe_load((SCENARIO / "converge.yml").read_text(encoding="utf-8"))[0]["vars"]["mail_accounts"]

#: In this order: the first of them sets the servers up.
ORDER = [
    "first_run",
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

#: One line for each file and directory that transactions look after, with all there is to it; and what the daemons do.
SNAPSHOT = """
import glob, hashlib, os, stat
for top in ("/etc/postfix", "/etc/dovecot", "/etc/port587", "/var/lib/port587", "/var/vmail"):
    for directory, _names, files in sorted(os.walk(top)):
        for path in [directory] + [os.path.join(directory, name) for name in sorted(files)]:
            if top == "/var/vmail" and path != top or path.endswith("/run.lock"):
                continue
            s = os.lstat(path)
            line = "%s %o %d %d" % (path, s.st_mode, s.st_uid, s.st_gid)
            if stat.S_ISREG(s.st_mode):
                line += " %d %s" % (s.st_mtime_ns, hashlib.sha256(open(path, "rb").read()).hexdigest())
            print(line)
for unit in ("postfix", "dovecot"):
    print(unit, os.popen("systemctl is-active %s; systemctl is-enabled %s" % (unit, unit)).read().split())
"""


class Vps:
    """A mail host under test."""

    def __init__(self, name: str, inventory: t.Dict[str, t.Any]) -> None:
        self.name = name
        self.container = inventory["vps_container"]
        self.domain = inventory["mail_domains"][0]
        self.server = Server(inventory["mail_hostname"], inventory["ansible_host"], inventory["certificates_ca_file"])
        self.alice, self.bob = (
            Account(person["address"].partition("@")[0] + "@" + self.domain, person["password"]) for person in PEOPLE
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

    def python(self, code: str, *arguments: str) -> str:
        """A program on the host itself."""
        return self.run("python3", "-", *arguments, stdin=code)

    def snapshot(self) -> t.List[str]:
        """All that transactions look after."""
        return self.python(SNAPSHOT).splitlines()

    def start(self, playbook: str, *options: str, **variables: t.Any) -> Running:
        """A playbook of this scenario, begun."""
        return begin(SCENARIO / playbook, self.name, *options, **{"mail_accounts": PEOPLE, **variables})

    def play(self, playbook: str, *options: str, **variables: t.Any) -> Played:
        """A playbook of this scenario, to its end."""
        outcome = end(self.start(playbook, *options, **variables))
        print(outcome.output)
        return outcome

    def apply(self, *parts: str, **variables: t.Any) -> Played:
        """Roles alone, which have to succeed."""
        outcome = self.play("parts.yml", parts=parts, **variables)
        assert outcome.code == 0
        return outcome

    def serves(self) -> None:
        """Log in on 587, send, and read it over IMAP."""
        word = mailclient.token()
        mailclient.submit(
            self.server, self.alice, self.bob.address, mailclient.mail(self.alice.address, self.bob.address, word)
        )
        assert len(mailclient.received(self.server, self.bob, word)) == 1


def pytest_collection_modifyitems(items: t.List[pytest.Item]) -> None:
    """One host after the other where there is one worker only; its tests in ORDER."""
    items.sort(key=lambda item: (host_of(item.nodeid), ORDER.index(item.path.stem[len("test_") :])))


def pytest_terminal_summary(terminalreporter: t.Any) -> None:
    """What the tests found out besides."""
    for report in terminalreporter.stats.get("passed", []):
        for name, value in report.user_properties:
            terminalreporter.write_line(f"{host_of(report.nodeid)}: {name}: {value}")


@pytest.fixture(scope="module")
def vps(host: t.Any) -> Vps:
    """The mail host under test."""
    return Vps(host.backend.host, host.ansible.get_variables())
