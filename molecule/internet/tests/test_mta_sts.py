# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""MTA-STS: mail to domains whose policy over HTTPS names their servers and requires valid certificates."""

import re
import typing as t

import pytest
from conftest import MAIL_HOSTS, SCENARIO, Site, comes_back, machine, site
from mailclient import token, until
from test_internet import play, read_at_exim, write

PROGRAM = "postfix-mta-sts-resolver"

#: By domain, why mail stays here; None: it does not. Later versions of Postfix have other words for the same.
DOMAINS = {
    "enforce": None,
    "testing": None,
    "invalid": "certificate not (trusted|verified)",
    # the certificate is good for the host that DNS says, but the policy has another one
    "other": "certificate not verified|unable to receive mail",
}


@pytest.fixture(scope="module")
def sites() -> t.List[Site]:
    sites = [site(name) for name in sorted(set(MAIL_HOSTS))]
    certificate = machine("exim").check_output("cat /etc/exim4/valid.crt")
    for one in sites:
        one.host.check_output(
            f"echo '{certificate}' >/usr/local/share/ca-certificates/exim.crt && update-ca-certificates 2>&1"
        )
    play(SCENARIO / "part.yml", *sites, parts=["postfix"], postfix_dane=False, postfix_mta_sts=True)
    return sites


def waits(here: Site, word: str) -> str:
    """Why this mail was not sent at the first try."""
    for waiting in until(lambda: here.queued(word)):
        if waiting and not waiting[0].endswith(": "):
            return waiting[0]
    raise AssertionError(waiting)


def test_what_policies_ask_for(sites: t.List[Site]) -> None:
    words = {(here, domain): token() for here in sites for domain in DOMAINS}
    for (here, domain), word in words.items():
        write(here, f"reader@{domain}.exim.test", word)
    for (here, domain), word in words.items():
        reason = DOMAINS[domain]
        if reason:
            assert re.search(reason, waits(here, word)), domain
        else:
            read_at_exim(machine("exim"), word)
    for here in sites:
        log = here.host.check_output("journalctl --since=-60s -q -o cat -t postfix/smtp")
        assert "Verified TLS connection established to valid.exim.test" in log


def test_what_knows_the_policies_comes_back(sites: t.List[Site]) -> None:
    for here in sites:
        comes_back(here, postfix_mta_sts_resolver=(8461, "17:postfix 192.0.2.1,", "9:NOTFOUND ,"))


def test_mail_waits_while_nobody_knows_the_policies(sites: t.List[Site]) -> None:
    here, word = sites[0], token()
    here.host.check_output(f"systemctl stop {PROGRAM}")
    try:
        write(here, "reader@enforce.exim.test", word)
        assert "TLS configuration problem" in waits(here, word)
    finally:
        here.host.check_output(f"systemctl start {PROGRAM}")
    here.flush(word)
    read_at_exim(machine("exim"), word)
