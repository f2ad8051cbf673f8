# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures: a mail host as its clients know it, and the accounts from converge.yml."""

import pathlib
import typing as t

import by_host
import controller
import jinja2
import pytest
import yaml
from by_host import pytest_xdist_make_scheduler as pytest_xdist_make_scheduler
from mailclient import Account, Server

CONVERGE = pathlib.Path(__file__).parent.parent / "converge.yml"


class Site(t.NamedTuple):
    """A mail host and the people on it."""

    server: Server
    ipv6: str
    domain: str
    second_domain: str
    passwords: t.Dict[str, str]
    inventory: t.Dict[str, t.Any]

    def account(self, name: str) -> Account:
        """The account with this local part."""
        address = f"{name}@{self.domain}"
        return Account(address, self.passwords[address])

    def over_ipv6(self) -> Server:
        """The same server, at its other address."""
        return self.server._replace(address=self.ipv6)


def pytest_collection_modifyitems(config: pytest.Config, items: t.List[pytest.Item]) -> None:
    """The first run sets the host up; its journal is read when all else is done."""
    by_host.pytest_collection_modifyitems(config, items)
    order = {"test_first_run.py": 0, "test_journal.py": 2}
    items.sort(key=lambda item: order.get(item.path.name, 1))


@pytest.fixture(scope="module")
def site(host: t.Any) -> Site:
    """The mail host under test."""
    inventory = host.ansible.get_variables()
    text = CONVERGE.read_text(encoding="utf-8")
    people = yaml.safe_load(jinja2.Template(text).render(inventory))[0]["vars"]["mail_accounts"]
    return Site(
        Server(inventory["mail_hostname"], inventory["ansible_host"], inventory["certificates_ca_file"]),
        inventory["vps_ipv6"],
        inventory["mail_domains"][0],
        inventory["mail_domains"][1],
        {person["address"]: person.get("password", "hashed elsewhere") for person in people},
        inventory,
    )


def play(site: Site, variables: t.Dict[str, t.Any], *arguments: str) -> controller.Played:
    """Run the play again on one host, with some variables set otherwise."""
    return controller.play(CONVERGE, site.inventory["inventory_hostname"], *arguments, **variables)
