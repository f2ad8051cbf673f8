# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures: the servers of this collection, a foreign one, and the DNS of their network."""

import json
import os
import pathlib
import subprocess
import time
import typing as t

import controller
import killing
import pytest
import testinfra
from mailclient import Account, Server, until
from testinfra.host import Host

SCENARIO = pathlib.Path(os.environ["MOLECULE_SCENARIO_DIRECTORY"])
PASSWORDS = {"alice": "alice's own", "bob": "bob's own"}


class Site(t.NamedTuple):
    """A server of ours."""

    host: Host
    server: Server
    domain: str
    name: str

    def account(self, who: str) -> Account:
        return Account(f"{who}@{self.domain}", PASSWORDS[who])

    def queued(self, word: str) -> t.List[str]:
        """Recipients and reasons of what waits with this subject."""
        waiting = [json.loads(line) for line in self.host.check_output("postqueue -j").splitlines()]
        # it may be on its way by now
        known = [one for one in waiting if word in self.host.run(f"postcat -qh {one['queue_id']}").stdout]
        return [f"{to['address']}: {to.get('delay_reason', '')}" for one in known for to in one["recipients"]]

    def waits(self, word: str) -> t.List[str]:
        """The same, once it has been tried."""
        for waiting in until(lambda: self.queued(word), 90):
            if waiting and not waiting[0].endswith(": "):
                return waiting
        raise AssertionError(waiting)

    def flush(self, word: str) -> None:
        """Until what has waited is gone: a resolver that was down remembers that for a moment."""
        for waiting in until(lambda: self.queued(word), 90):
            if not waiting:
                return
            self.host.check_output("postqueue -f")
            time.sleep(2)
        raise AssertionError(waiting)


def comes_back(here: Site, **asked: t.Tuple[t.Union[int, str], str, str]) -> None:
    """Daemons, by their names with _ for -, that are killed again and again."""
    container = here.host.ansible.get_variables()["vps_container"]
    by_unit = {name.replace("_", "-"): question for name, question in asked.items()}
    for unit, took in killing.seconds_away(container, by_unit).items():
        print(here.name, unit, took)
        assert killing.came_back(took), (unit, took)


def machine(name: str) -> Host:
    return testinfra.get_host(f"ansible://{name}?ansible_inventory={controller.INVENTORY}")


def site(name: str) -> Site:
    host = machine(name)
    known = host.ansible.get_variables()
    server = Server(known["mail_hostname"], known["ansible_host"], known["certificates_ca_file"])
    return Site(host, server, known["mail_domains"][0], name)


MAIL_HOSTS = json.loads(subprocess.check_output([controller.INVENTORY]))["mail"]["hosts"]
#: From here to there: each way. On one platform alone there is only its own domain to write to.
WAYS = [(MAIL_HOSTS[0], MAIL_HOSTS[-1]), (MAIL_HOSTS[-1], MAIL_HOSTS[0])]


@pytest.fixture(scope="module", params=WAYS, ids=lambda way: f"{way[0]} to {way[1]}")
def way(request: pytest.FixtureRequest) -> t.Tuple[Site, Site]:
    return site(request.param[0]), site(request.param[1])


@pytest.fixture(scope="module", params=MAIL_HOSTS)
def here(request: pytest.FixtureRequest) -> Site:
    return site(request.param)


@pytest.fixture(scope="module")
def exim() -> Host:
    return machine("exim")


@pytest.fixture(scope="module")
def dns() -> Host:
    return machine("dns")
