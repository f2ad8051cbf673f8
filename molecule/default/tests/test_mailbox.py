# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Mail arrives unchanged; folders, filters and quota."""

import base64
import os
import re
import smtplib

import pytest
from conftest import Site
from mailclient import Imap, Pop3, Sieve, SieveError, Smtp, deliver, mail, received, submit, token

testinfra_hosts = ["ansible://mail"]

BODIES = {
    "dot lines": b".\r\n..\r\n.hidden\r\n...\r\nend.\r\n.\r\n\r\n.\r\n",
    "UTF-8": "Grün, ελληνικά, 漢字, 🥷\r\n\u2028\u00a0\r\n".encode() * 20,
    "whitespace": b" leading\r\ntrailing \t\r\n\r\n\r\n\tFrom here\r\nFrom me\r\n>From you\r\n\x0c\r\n",
    "long lines": (b"x" * 990 + b"\r\n") * 10,
    "10 MB attachment": base64.encodebytes(os.urandom(10_000_000)).replace(b"\n", b"\r\n"),
}


@pytest.mark.parametrize("port", [587, 465])
@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
def test_is_read_byte_for_byte(site: Site, port: int, body: bytes) -> None:
    word, reader = token(), site.account("pop")
    message = mail(site.account("alice").address, reader.address, word, body)
    submit(site.server, site.account("alice"), reader.address, message, port)

    (over_imap,) = received(site.server, reader, word)
    added, _, rest = over_imap.partition(b"From: <alice@")
    assert b"From: <alice@" + rest == message
    assert added.startswith(b"Return-Path: <alice@"), added

    with Pop3(site.server).log_in(reader) as pop:
        newest = pop.stat()[0]
        assert b"\r\n".join(pop.retr(newest)[1]) + b"\r\n" == over_imap
        pop.dele(newest)


def test_mail_from_outside_is_read_byte_for_byte(site: Site) -> None:
    word, alice = token(), site.account("alice")
    message = mail("somebody@elsewhere.example", alice.address, word, BODIES["UTF-8"] + BODIES["dot lines"])
    deliver(site.server, alice.address, message)
    (delivered,) = received(site.server, alice, word)
    assert without_results(delivered).endswith(message)


def without_results(delivered: bytes) -> bytes:
    """Without the headers of rspamd, which stand first, or after all others up to rspamd 2."""
    header = rb"^(Authentication-Results|ARC-[A-Za-z-]+):.*\r\n([ \t].*\r\n)*"
    return re.sub(header, b"", delivered, flags=re.MULTILINE)


def test_long_lines_stay_whole(site: Site) -> None:
    """A break inside one would break the signature, too."""
    alice, bob = site.account("alice"), site.account("bob")
    word, headers = token(), f"X-Long: {'x' * 5000}\r\n"
    for sender, send in (
        (alice.address, lambda message: submit(site.server, alice, bob.address, message)),
        ("somebody@elsewhere.example", lambda message: deliver(site.server, bob.address, message)),
    ):
        message = mail(sender, bob.address, word + sender[:1], b"<p>" + b"0123456789" * 10_000 + b"\r\n", headers)
        send(message)
        (delivered,) = received(site.server, bob, word + sender[:1])
        assert without_results(delivered).endswith(message)


@pytest.mark.parametrize("port", [25, 587, 465])
def test_headers_that_are_not_ascii(site: Site, port: int) -> None:
    """Old programs write them as they are. SMTPUTF8 would be another thing, and Dovecot does not take it."""
    word, alice, bob = token(), site.account("alice"), site.account("bob")
    with Smtp(site.server, port) as smtp:
        assert "8bitmime" in smtp.esmtp_features
        assert "smtputf8" not in smtp.esmtp_features
    sender = "somebody@elsewhere.example" if port == 25 else alice.address
    message = mail(sender, bob.address, word).replace(b"Subject: ", "Subject: Prüfung 試験 ".encode())
    if port == 25:
        deliver(site.server, bob.address, message)
    else:
        submit(site.server, alice, bob.address, message, port)
    (delivered,) = received(site.server, bob, word)
    assert without_results(delivered).endswith(message)


def test_has_the_folders_that_clients_look_for(site: Site) -> None:
    with Imap(site.server).log_in(site.account("bob")) as imap:
        flags = {}
        for line in imap.list()[1]:
            assert isinstance(line, bytes)
            words, _, name = line.decode().partition(') "/" ')
            flags[name] = words.lstrip("(").split()
        for folder in ("Drafts", "Sent", "Junk", "Trash", "Archive"):
            assert f"\\{folder}" in flags[folder], flags
        subscribed = {line.decode().rpartition(" ")[2] for line in imap.lsub()[1]}
        assert {"Drafts", "Sent", "Junk", "Trash", "Archive"} <= subscribed
        # there once, not again for every login
        assert sorted(flags) == sorted(set(flags))


def test_sieve_files_the_next_mail(site: Site) -> None:
    word, owner = token(), site.account("sieve")
    script = f"""
        require ["fileinto", "mailbox"];
        if header :contains "subject" "{word}" {{ fileinto :create "Lists/{word}"; }}
    """
    with Sieve(site.server).log_in(owner) as sieve:
        with pytest.raises(SieveError, match="unknown command"):
            sieve.put("broken", "no such thing;")
        sieve.put("test", script)
        sieve.say(b'SETACTIVE "test"')
    deliver(site.server, owner.address, mail("somebody@elsewhere.example", owner.address, word))
    received(site.server, owner, word, folder=f"Lists/{word}")
    with Imap(site.server).log_in(owner) as imap:
        assert imap.search_subject(word) == []


def test_full_mailbox_is_refused_at_rcpt(site: Site) -> None:
    """The quota is 1 MB."""
    full = site.account("full")
    with Imap(site.server).log_in(full) as imap:
        imap.empty()
        assert imap.quota() == (0, 1024)
    body = (b"x" * 70 + b"\r\n") * 4000
    # the fourth mail goes beyond the limit. Dovecot 2.4 takes that one still, 2.3 doesn't
    for _ in range(4):
        word = token()
        try:
            deliver(site.server, full.address, mail("somebody@elsewhere.example", full.address, word, body))
        except smtplib.SMTPRecipientsRefused:
            break
        received(site.server, full, word)
    with Imap(site.server).log_in(full) as imap:
        assert 3 * 280 <= imap.quota()[0] <= 4 * 290
    with Smtp(site.server, 25) as smtp:
        assert smtp.ask("somebody@elsewhere.example", full.address, size=290_000).code == 552
        assert smtp.ask("somebody@elsewhere.example", site.account("alice").address).code == 250
    for port in (587, 465):
        with Smtp(site.server, port) as smtp:
            smtp.authenticate(site.account("alice"))
            assert smtp.ask(site.account("alice").address, full.address, size=290_000).code == 552
    with Imap(site.server).log_in(full) as imap:
        imap.empty()
    deliver(site.server, full.address, mail("somebody@elsewhere.example", full.address, token()))


def test_mail_above_the_whole_quota_is_refused_at_rcpt(site: Site) -> None:
    full = site.account("full")
    with Imap(site.server).log_in(full) as imap:
        imap.empty()
    with Smtp(site.server, 25) as smtp:
        assert smtp.ask("somebody@elsewhere.example", full.address, size=20_000_000).code == 552
        assert smtp.ask("somebody@elsewhere.example", full.address, size=200_000).code == 250
