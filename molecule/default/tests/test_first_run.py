# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The first run makes the changes that check mode predicted on the bare host; those after it have nothing to do."""

import typing as t

from conftest import Site, play
from snapshot import SNAPSHOT

testinfra_hosts = ["ansible://mail"]


def snapshot(host: t.Any) -> str:
    return t.cast(str, host.check_output("python3 -c %s", SNAPSHOT))


def test_check_mode_on_the_bare_host_predicts_it(site: Site, host: t.Any) -> None:
    before = snapshot(host)
    predicted = play(site, {}, "--check")
    assert predicted.code == 0, predicted.output
    assert snapshot(host) == before
    applied = play(site, {})
    assert applied.code == 0, applied.output
    # the same tasks, with the same diff
    assert predicted.changes() == applied.changes()
    assert {"port587.mail.postfix : Configure Postfix", "port587.mail.dovecot : Configure Dovecot"} <= set(
        applied.changes()
    )


def test_the_second_run_changes_nothing_and_asks_little(site: Site) -> None:
    again = play(site, {}, "-vvv")
    assert again.code == again.changed == 0, again.output
    # fit and what is there, certificate, accounts, the walk from outside, the look inside: half a second each
    assert again.output.count("Using module file") == 5


def test_check_mode_finds_nothing_to_do(site: Site) -> None:
    again = play(site, {}, "--check")
    assert again.code == again.changed == 0, again.output
