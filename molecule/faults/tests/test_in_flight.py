# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Mail is sent and read all the time while a server changes: none is refused, lost or doubled, no session dropped."""

import collections
import threading
import time
import typing as t

import mailclient
from captured import captured
from conftest import Vps

A_SECOND = 5
CHANGES = 5


class Submitter(threading.Thread):
    """Sends five mails a second, each with a connection and a login of its own, and keeps what went wrong."""

    def __init__(self, vps: Vps, word: str, stop: threading.Event) -> None:
        super().__init__()
        self.vps, self.word, self.stopped = vps, word, stop
        self.sent: t.List[str] = []
        self.failed: t.List[str] = []

    def run(self) -> None:
        number = 0
        began = time.monotonic()
        while not self.stopped.is_set():
            number += 1
            subject = f"{self.word} {number}"
            message = mailclient.mail(self.vps.alice.address, self.vps.bob.address, subject)
            try:
                mailclient.submit(self.vps.server, self.vps.alice, self.vps.bob.address, message)
                self.sent.append(subject)
            except Exception as exc:
                self.failed.append(f"{subject}: {exc!r}")
            time.sleep(max(0.0, began + number / A_SECOND - time.monotonic()))


class Reader(threading.Thread):
    """Reads over IMAP, in one session, as long as it is let."""

    def __init__(self, vps: Vps, stop: threading.Event) -> None:
        super().__init__()
        self.vps, self.stopped = vps, stop
        self.asked = 0
        self.failed = ""

    def run(self) -> None:
        try:
            with mailclient.Imap(self.vps.server).log_in(self.vps.bob) as imap:
                while not self.stopped.is_set():
                    imap.search_subject("anything")
                    self.asked += 1
                    time.sleep(0.2)
        except Exception as exc:
            self.failed = repr(exc)


def test_mail_in_flight(vps: Vps, record_property: t.Any) -> None:
    with mailclient.Imap(vps.server).log_in(vps.bob) as imap:
        imap.empty()
    modules = [captured(vps.name, vps.container, part) for part in ("dovecot", "postfix")]
    stop = threading.Event()
    word = mailclient.token()
    submitter = Submitter(vps, word, stop)
    reader = Reader(vps, stop)
    serial = vps.run("openssl", "x509", "-noout", "-serial", "-in", "/etc/port587/tls/fullchain.pem")
    for thread in (submitter, reader):
        thread.start()
    try:
        changes = [
            module.run(postfix_message_size=20000000 + number, dovecot_quota=f"{number + 20}G")
            for number in range(CHANGES)
            for module in modules
        ]
        exchanged = vps.apply("certificates", certificates_names=["smtp.{{ mail_domains[0] }}"])
    finally:
        stop.set()
        for thread in (submitter, reader):
            thread.join()
    assert [(change.code, change.changed) for change in changes] == [(0, True)] * 2 * CHANGES
    assert exchanged.changes()
    assert serial != vps.run("openssl", "x509", "-noout", "-serial", "-in", "/etc/port587/tls/fullchain.pem")

    sent = submitter.sent
    record_property("in flight", f"{len(sent)} mails submitted, {reader.asked} questions in one IMAP session")
    assert submitter.failed == []
    assert reader.failed == ""
    assert len(sent) > 5 * CHANGES
    assert reader.asked > CHANGES

    # what Dovecot could not take in the moment of a change is tried again by and by, and now
    vps.run("postqueue", "-f")
    with mailclient.Imap(vps.server).log_in(vps.bob) as imap:
        for numbers in mailclient.until(lambda: imap.search_subject(word)):
            if len(numbers) >= len(sent):
                break
        heads = imap.fetch("1:*", "(BODY.PEEK[HEADER.FIELDS (SUBJECT)])")[1]
    arrived = collections.Counter(
        head[1].decode().partition(":")[2].strip() for head in heads if isinstance(head, tuple)
    )
    assert arrived == collections.Counter(sent)
    vps.apply("certificates", "dovecot", "postfix")
