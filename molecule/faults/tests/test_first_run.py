# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The first run makes the changes that check mode predicted on the bare host: the same tasks, with the same diff."""

from conftest import Vps


def test_check_mode_on_the_bare_host_predicts_the_first_run(vps: Vps) -> None:
    before = vps.snapshot()
    predicted = vps.play("converge.yml", "--check")
    assert predicted.code == 0
    assert vps.snapshot() == before
    applied = vps.play("converge.yml")
    assert applied.code == 0
    assert predicted.changes() == applied.changes()
    assert {"port587.mail.postfix : Configure Postfix", "port587.mail.dovecot : Configure Dovecot"} <= set(
        applied.changes()
    )
    vps.serves()


def test_the_second_run_changes_nothing_and_asks_little(vps: Vps) -> None:
    again = vps.play("converge.yml", "-vvv")
    assert again.code == again.changed == 0
    # fit and what is there, certificate, accounts, the walk from outside, the look inside: half a second each
    assert again.output.count("Using module file") == 5
