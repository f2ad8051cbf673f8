# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every process of the server is killed while mail comes in: what was answered with 250 is there afterwards."""

import contextlib
import smtplib
import threading
import time
import typing as t

import mailclient
from conftest import Vps

KILLS = 3
CLIENTS = 4


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


def test_nothing_accepted_is_lost(vps: Vps, record_property: t.Any) -> None:
    accepted: t.List[str] = []
    for kill in range(KILLS):
        clients = [Client(vps, accepted) for _ in range(CLIENTS)]
        for client in clients:
            client.start()
        time.sleep(1 + 0.37 * kill)
        # all but init and this shell
        vps.run("sh", "-c", "kill -KILL -1")
        for client in clients:
            client.join()
        vps.run("systemctl", "reset-failed")
        vps.run("systemctl", "restart", "dovecot", "postfix")
    record_property("killed", f"{len(accepted)} mails accepted, {KILLS} times everything killed")
    assert len(accepted) > KILLS * CLIENTS
    vps.run("postqueue", "-f")
    for lost in mailclient.until(lambda: set(accepted) - arrived(vps)):
        if not lost:
            break
    assert not lost
