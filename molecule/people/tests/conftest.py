# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures: a mail host whose people help themselves."""

import pathlib
import typing as t

import pytest
import vps as vps_under_test
import yaml
from by_host import pytest_collection_modifyitems as pytest_collection_modifyitems
from by_host import pytest_xdist_make_scheduler as pytest_xdist_make_scheduler
from mailclient import Account

SCENARIO = pathlib.Path(__file__).parent.parent
VARIABLES = yaml.safe_load((SCENARIO / "converge.yml").read_text(encoding="utf-8"))[0]["vars"]
PEOPLE, SHARED = VARIABLES["mail_accounts"], VARIABLES["mail_shared"]


class Vps(vps_under_test.Vps):
    """A mail host whose people help themselves."""

    def account(self, name: str, password: str = "") -> Account:
        """The account with this local part, with its own password or an app password."""
        own = next(person["password"] for person in PEOPLE if person["address"].startswith(f"{name}@"))
        return Account(f"{name}@{self.domain}", password or own)


@pytest.fixture(scope="module")
def vps(host: t.Any) -> Vps:
    """The mail host under test."""
    return Vps(host.backend.host, host.ansible.get_variables(), PEOPLE, SCENARIO, mail_shared=SHARED)
