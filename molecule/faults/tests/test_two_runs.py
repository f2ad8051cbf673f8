# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two runs on one host: the second waits, and makes no change on top of what it has not seen."""

import re

import pytest
from conftest import Vps


@pytest.mark.one_host
def test_each_ends_well_or_says_why_not(vps: Vps) -> None:
    sizes = [11000000, 12000000]
    runs = [
        vps.start(
            "parts.yml", parts=["postfix", "dovecot"], rounds=[{"postfix_message_size": size, "dovecot_quota": quota}]
        )
        for size, quota in zip(sizes, ("2G", "3G"))
    ]
    outputs = [re.sub(r"\s+", " ", run.communicate()) for run in runs]
    failed = [output for run, output in zip(runs, outputs) if run.returncode]
    assert len(failed) < 2, outputs
    assert all("another run has changed this server since this run looked at it" in output for output in failed), failed
    assert int(vps.run("postconf", "-h", "message_size_limit")) in sizes
    assert "journal" not in vps.run("ls", "/var/lib/port587")
    vps.serves()
    vps.apply("postfix", "dovecot")


@pytest.mark.one_host
def test_one_that_can_not_wait_says_who_holds_it_up(vps: Vps) -> None:
    hold = "import fcntl; f = open('/var/lib/port587/run.lock', 'a'); fcntl.flock(f, 2); import time; time.sleep(99)"
    vps.run("systemd-run", "--quiet", "--unit=holder", "--collect", "python3", "-c", hold)
    before = vps.snapshot()
    try:
        outcome = vps.play("transaction.yml", files=[{"dest": "/etc/postfix/x", "content": "x"}], lock_timeout=2)
    finally:
        vps.run("systemctl", "stop", "holder")
    assert outcome.code != 0
    assert "another run is changing this server" in outcome.output
    assert vps.snapshot() == before
