# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Relaying: every combination of sender, recipient and port, compared with one short rule."""

import itertools
import typing as t

import pytest
from conftest import Site
from mailclient import Smtp

testinfra_hosts = ["ansible://mail"]

#: Refusals that Postfix answers at once; with more in one session it waits (smtpd_soft_error_limit).
PATIENCE = 8


class Door(t.NamedTuple):
    """A way in. `login` is tried, and works only where it is offered."""

    port: int
    tls: bool
    login: bool
    family: str

    @property
    def logged_in(self) -> bool:
        return self.login and self.tls and self.port != 25


#: Address, and whether alice may send as that.
SENDERS = {
    "alice@{domain}": True,
    "alice+shop@{domain}": True,
    "alice.liddell@{second}": True,
    "alice@private.example": True,
    "": True,
    "bob@{domain}": False,
    "nobody@{domain}": False,
    "root@{hostname}": False,
    "somebody@elsewhere.example": False,
}

#: Address, and where it is: here, nowhere or outside.
RECIPIENTS = {
    "alice@{domain}": "here",
    "BOB@{domain}": "here",
    "bob+shop@{domain}": "here",
    "team@{domain}": "here",
    "whoever@{second}": "here",
    "postmaster@{domain}": "here",
    "root@{hostname}": "here",
    "nobody@{domain}": "nowhere",
    "printer@{domain}": "nowhere",
    "victim%elsewhere.example@{domain}": "nowhere",
    "somebody@elsewhere.example": "outside",
    "somebody@[192.0.2.1]": "outside",
}

DOORS = [
    Door(port, tls, login, family)
    for port, tls, login, family in itertools.product((25, 587, 465), (False, True), (False, True), ("IPv4", "IPv6"))
    if tls or port != 465
]
CELLS = len(SENDERS) * len(RECIPIENTS)


def is_taken(door: Door, hers: bool, where: str) -> bool:
    """The rule. From the world only for people here; from her whatever is hers, for everybody there is."""
    if door.port == 25:
        return where == "here"
    return door.logged_in and hers and where != "nowhere"


def name(door: Door) -> str:
    how = f"{'TLS' if door.tls else 'clear'}, {'login' if door.login else 'no login'}"
    return f"{door.port}, {how}, {door.family}: {CELLS} of {CELLS * len(DOORS)} cells"


@pytest.fixture(scope="module")
def unhurried(host: t.Any) -> t.Iterator[None]:
    """Postfix takes a second for each mail once a hundred were begun and not sent (in_flow_delay)."""
    change = "cp -p /etc/postfix/main.cf /root/ && postconf in_flow_delay=0s && postfix reload"
    assert host.run(change).rc == 0
    yield
    assert host.run("cp -p /root/main.cf /etc/postfix/ && postfix reload").rc == 0


@pytest.mark.usefixtures("unhurried")
@pytest.mark.parametrize("door", DOORS, ids=name)
def test_relay_matrix(site: Site, door: Door) -> None:
    names = {"domain": site.domain, "second": site.second_domain, "hostname": site.server.name}
    left = list(itertools.product(SENDERS.items(), RECIPIENTS.items()))
    wrong = []
    while left:
        # a login that is refused is one more
        refusals = int(door.login and not door.logged_in)
        with open_door(site, door) as smtp:
            while left and refusals < PATIENCE:
                (sender, hers), (recipient, where) = left.pop()
                code = smtp.ask(sender.format(**names), recipient.format(**names)).code
                # before STARTTLS even RSET is refused
                refusals += {250: 0, 530: 2}.get(code, 1)
                # never "later": what is refused for good is not tried again
                if (code == 250) != is_taken(door, hers, where) or 400 <= code < 500:
                    wrong.append((sender, recipient, code))
    assert wrong == []


def open_door(site: Site, door: Door) -> Smtp:
    smtp = Smtp(site.over_ipv6() if door.family == "IPv6" else site.server, door.port, starttls=door.tls)
    if door.login:
        assert (smtp.authenticate(site.account("alice")).code == 235) == door.logged_in
    return smtp
