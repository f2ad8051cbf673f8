# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures: a mail host, playbooks that change it, and a check that mail still flows."""

import pathlib
import typing as t

import pytest
import vps as vps_under_test
import yaml
from by_host import host_of
from by_host import pytest_xdist_make_scheduler as pytest_xdist_make_scheduler
from controller import Played

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
    return Vps(host.backend.host, host.ansible.get_variables(), PEOPLE, SCENARIO, mail_accounts=PEOPLE)
