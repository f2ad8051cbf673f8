# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every process of the server is killed while mail comes in: all come back, and all accepted mail is there."""

import contextlib
import imaplib
import smtplib
import threading
import time
import typing as t

import mailclient
import pytest
from conftest import Vps

KILLS = 3
CLIENTS = 4
#: Dovecot takes its time, so that this shows whether Postfix waits for it.
SLOW = "[Service]\nExecStartPre=/bin/sleep 2\n"
#: for all of them together to come back, by themselves
SECONDS = 10.0


class Client(threading.Thread):
    """Sends one mail after the other until the server is gone."""

    def __init__(self, vps: Vps, accepted: t.List[str]) -> None:
        super().__init__()
        self.vps, self.accepted = vps, accepted

    def run(self) -> None:
        sender, recipient = self.vps.alice.address, self.vps.bob.address
        with contextlib.suppress(OSError, smtplib.SMTPException), mailclient.Smtp(self.vps.server, 587) as smtp:
            smtp.authenticate(self.vps.alice)
            while True:
                word = mailclient.token()
                smtp.sendmail(sender, [recipient], mailclient.mail(sender, recipient, word))
                self.accepted.append(word)


def arrived(vps: Vps) -> t.Set[str]:
    """What can be seen; nothing where the server is too busy delivering to answer in time."""
    heads: t.Sequence[t.Any] = []
    with contextlib.suppress(TimeoutError), mailclient.Imap(vps.server).log_in(vps.bob) as imap:
        imap.select()
        heads = imap.fetch("1:*", "(BODY.PEEK[HEADER.FIELDS (SUBJECT)])")[1]
    return {head[1].decode().partition(":")[2].strip() for head in heads if isinstance(head, tuple)}


def serves_again(vps: Vps) -> float:
    """Seconds until somebody can log in and send, and read it: Postfix, rspamd, the limits and Dovecot are there."""
    began = time.monotonic()
    while True:
        with contextlib.suppress(OSError, smtplib.SMTPException, imaplib.IMAP4.error, AssertionError):
            with mailclient.Smtp(vps.server, 587) as smtp:
                assert smtp.authenticate(vps.alice).code == 235
                assert smtp.ask(vps.alice.address, vps.bob.address).code == 250
            with mailclient.Imap(vps.server).log_in(vps.bob):
                return time.monotonic() - began
        assert time.monotonic() < began + 60
        time.sleep(0.1)


@pytest.fixture
def slow_dovecot(vps: Vps) -> t.Iterator[None]:
    """Dovecot starts after Postfix would have."""
    folder = "/run/systemd/system/dovecot.service.d"
    vps.run("sh", "-c", f"mkdir -p {folder} && cat >{folder}/slow.conf && systemctl daemon-reload", stdin=SLOW)
    yield
    vps.run("sh", "-c", f"rm -r {folder} && systemctl daemon-reload")


@pytest.mark.usefixtures("slow_dovecot")
def test_nothing_accepted_is_lost(vps: Vps, record_property: t.Any) -> None:
    accepted: t.List[str] = []
    back: t.List[float] = []
    for kill in range(KILLS):
        clients = [Client(vps, accepted) for _ in range(CLIENTS)]
        for client in clients:
            client.start()
        time.sleep(1 + 0.37 * kill)
        # all but init and this shell
        vps.run("sh", "-c", "kill -KILL -1")
        for client in clients:
            client.join()
        back.append(serves_again(vps))
    record_property("back after seconds", str(back))
    assert max(back) < SECONDS
    record_property("killed", f"{len(accepted)} mails accepted, {KILLS} times everything killed")
    assert len(accepted) > KILLS * CLIENTS
    # a lock of a killed process, whose number another one has by now, holds up a mailbox for two minutes
    for lost in mailclient.until(lambda: set(accepted) - arrived(vps), 180):
        if not lost:
            break
        # what was under way when Dovecot went waits for five minutes otherwise
        vps.run("postqueue", "-f")
    assert not lost, vps.run("postqueue", "-p")


def test_submission_is_back_as_soon_as_dovecot_is(vps: Vps) -> None:
    """Nobody gets an answer on 587 while Dovecot is away, as during an upgrade of its package."""
    vps.run("systemctl", "stop", "dovecot.service")
    # a process of before may still answer; new ones end
    for _number in range(3):
        with contextlib.suppress(OSError, smtplib.SMTPException), mailclient.Smtp(vps.server, 587):
            pass
    vps.run("systemctl", "start", "dovecot.service")
    assert serves_again(vps) < SECONDS
