# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""On an installed server, a run makes the changes that check mode predicted: the same tasks, with the same diff.

That it predicts nothing where nothing changes, `default` shows.
"""

import typing as t

import pytest
from conftest import Vps

PARTS = ["certificates", "accounts", "dovecot", "postfix"]
ALICE = {"address": "alice@{{ mail_domains[0] }}", "password": "alice's own"}
BOB = {"address": "bob@{{ mail_domains[0] }}", "password": "bob's own"}
CAROL = {"address": "carol@{{ mail_domains[0] }}", "password": "carol's own", "quota": "1G"}


@pytest.mark.parametrize(
    ("variables", "changing"),
    [
        ({"mail_accounts": [ALICE, BOB, CAROL]}, {"accounts"}),
        # carol is gone again, and this time Dovecot and Postfix change as well
        ({"dovecot_pop3": False, "postfix_main": {"smtpd_banner": "hello"}}, {"accounts", "dovecot", "postfix"}),
        ({"certificates_names": ["imap.{{ mail_domains[0] }}"]}, {"certificates", "dovecot", "postfix"}),
        ({}, {"certificates"}),
    ],
    ids=["a new account", "values changed and an account removed", "a new certificate", "back again"],
)
def test_predicts(vps: Vps, variables: t.Dict[str, t.Any], changing: t.Set[str]) -> None:
    before = vps.snapshot()
    predicted = vps.play("parts.yml", "--check", parts=PARTS, **variables)
    assert predicted.code == 0
    assert vps.snapshot() == before
    applied = vps.apply(*PARTS, **variables)
    assert predicted.changes() == applied.changes()
    assert {task.split()[0].rpartition(".")[2] for task in applied.changes()} == changing
    vps.serves()
