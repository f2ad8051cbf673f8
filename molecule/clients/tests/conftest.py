# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures: the mail server, its users, and a desktop in the same network."""

import base64
import pathlib
import typing as t

import jinja2
import pytest
import yaml
from mailclient import Account, Server
from testinfra.host import Host

CONVERGE = pathlib.Path(__file__).parent.parent / "converge.yml"
#: Kept to be looked at.
PICTURES = pathlib.Path(__file__).parents[3] / ".cache" / "clients"


class Site(t.NamedTuple):
    """A mail host and the people on it."""

    server: Server
    domain: str
    passwords: t.Dict[str, str]

    def account(self, name: str) -> Account:
        """The account with this local part."""
        address = f"{name}@{self.domain}"
        return Account(address, self.passwords[address])


class Desktop(t.NamedTuple):
    """Somebody's computer."""

    machine: Host
    variables: t.Dict[str, t.Any]

    def write(self, path: str, text: str, owner: str = "root") -> None:
        self.machine.check_output("install -d -o %s $(dirname %s)", owner, path)
        self.machine.check_output("printf %%s %s > %s && chown %s %s && chmod 0600 %s", text, path, owner, path, path)

    def keep(self, path: str, name: str) -> None:
        """Keep a picture that is on the desktop."""
        PICTURES.mkdir(parents=True, exist_ok=True)
        encoded = self.machine.check_output("base64 %s", path)
        (PICTURES / name).write_bytes(base64.b64decode(encoded))


@pytest.fixture(scope="session")
def inventory(request: pytest.FixtureRequest) -> str:
    return str(request.config.option.ansible_inventory)


@pytest.fixture(scope="module")
def site(host: Host) -> Site:
    variables = host.ansible.get_variables()
    text = CONVERGE.read_text(encoding="utf-8")
    people = yaml.safe_load(jinja2.Template(text).render(variables))[0]["vars"]["mail_accounts"]
    return Site(
        Server(variables["mail_hostname"], variables["ansible_host"], variables["certificates_ca_file"]),
        variables["mail_domains"][0],
        {person["address"]: person["password"] for person in people},
    )


@pytest.fixture(scope="module")
def desktop(site: Site, host: Host, inventory: str) -> Desktop:
    """The computer trusts the server's authority, as docs/clients.md says how."""
    machine = host.get_host("ansible://desktop", ansible_inventory=inventory)
    desktop = Desktop(machine, machine.ansible.get_variables())
    ca = pathlib.Path(site.server.ca_file).read_text(encoding="ascii")
    desktop.write(f"/usr/local/share/ca-certificates/{site.server.name}.crt", ca)
    machine.check_output("update-ca-certificates")
    return desktop


@pytest.fixture(scope="module")
def trusted(site: Site, desktop: Desktop) -> None:
    """Chromium has a list of authorities of its own."""
    policy = '{"CACertificates": ["%s"]}'
    ca = desktop.machine.check_output(
        "openssl x509 -in /usr/local/share/ca-certificates/%s.crt -outform DER | base64 -w0", site.server.name
    )
    desktop.write("/etc/chromium/policies/managed/ca.json", policy % ca)
