# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Vacation replies: once per sender, and never to lists or programs."""

import re

import pytest
from conftest import Site
from mailclient import Account, Imap, Sieve, Smtp, mail, received, token

testinfra_hosts = ["ansible://mail"]


def send(site: Site, person: Account, recipient: str, shown: str = "", envelope: str = "own", headers: str = "") -> str:
    """To a recipient; the header may show another one, and the envelope may have no sender. Its word."""
    word = token()
    with Smtp(site.server, 587) as smtp:
        smtp.authenticate(person)
        text = mail(person.address, shown or recipient, word, headers=headers)
        smtp.sendmail(person.address if envelope == "own" else "", [recipient], text)
    return word


@pytest.fixture
def answer(site: Site) -> str:
    """What the answers of somebody who is away have in their subject; the server has to answer anew each time."""
    word = token()
    script = f"""
        require "vacation";
        vacation :days 7 :handle "{word}" :subject "Away {word}" "On the beach.";
    """
    with Sieve(site.server).log_in(site.account("away")) as sieve:
        sieve.put("away", script)
        sieve.say(b'SETACTIVE "away"')
    return word


@pytest.mark.parametrize(
    "recipient", ["away@{domain}", "AWAY+shop@{domain}", "far.away@{second_domain}", "Far.Away+x@{second_domain}"]
)
def test_answers_what_is_sent_to_a_person(site: Site, answer: str, recipient: str) -> None:
    alice, away = site.account("alice"), site.account("away")
    to = recipient.format(domain=site.domain, second_domain=site.second_domain)
    send(site, alice, to)
    (reply,) = received(site.server, alice, answer)
    # from the address that was written to
    assert f"From: <{to}>".lower().encode() in reply.lower(), reply
    assert b"Auto-Submitted: auto-replied" in reply

    # once for each sender
    again = send(site, alice, away.address)
    received(site.server, away, again)
    send(site, site.account("bob"), to)
    received(site.server, site.account("bob"), answer)
    with Imap(site.server).log_in(alice) as imap:
        assert len(imap.search_subject(answer)) == 1


def test_answers_no_lists_and_no_programs(site: Site, answer: str) -> None:
    alice, away = site.account("alice"), site.account("away")
    words = [
        send(site, alice, f"travellers@{site.domain}"),
        send(site, alice, f"traveller@{site.domain}"),
        send(site, alice, f"travellers+x@{site.domain}"),
        # a blind copy
        send(site, alice, away.address, shown=f"bob@{site.domain}"),
        send(site, alice, away.address, envelope="none"),
        send(site, alice, away.address, headers="List-Id: <list.elsewhere.example>\r\n"),
        send(site, alice, away.address, headers="Precedence: bulk\r\n"),
        send(site, alice, away.address, headers="Auto-Submitted: auto-generated\r\n"),
    ]
    for word in words:
        received(site.server, away, word)
    # had one of these been answered, this one would not be
    (last,) = received(site.server, away, send(site, alice, away.address))
    (reply,) = received(site.server, alice, answer)
    (number,) = re.findall(rb"^Message-ID: (<\S+>)", last, re.MULTILINE)
    assert b"In-Reply-To: " + number in reply, reply
