# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two people who are both away, each with an answer that they switch on over ManageSieve.

To lists, bounces and programs: molecule/default/tests/test_vacation.py.
"""

import re
import typing as t

import pytest
from conftest import Vps
from mailclient import Account, Imap, Sieve, deliver, mail, received, submit, token, until

testinfra_hosts = ["ansible://mail"]


@pytest.fixture
def away(vps: Vps) -> t.Iterator[str]:
    """A word in the subjects of both people's answers."""
    word = token()
    for person in (vps.alice, vps.bob):
        script = f'require "vacation"; vacation :days 7 :handle "{word}" :subject "Away {word}" "On the beach.";'
        with Sieve(vps.server).log_in(person) as sieve:
            sieve.put("away", script)
            sieve.say(b'SETACTIVE "away"')
    yield word
    for person in (vps.alice, vps.bob):
        with Sieve(vps.server).log_in(person) as sieve:
            sieve.say(b'SETACTIVE ""')


def answers(vps: Vps, person: Account, word: str) -> int:
    """How many answers a person has got."""
    with Imap(vps.server).log_in(person) as imap:
        return len(imap.search_subject(word))


def send(vps: Vps, sender: Account, recipient: Account, folder: str = "INBOX", headers: str = "") -> None:
    """A mail that arrives."""
    word = token()
    submit(vps.server, sender, recipient.address, mail(sender.address, recipient.address, word, headers=headers))
    received(vps.server, recipient, word, folder)


def test_two_who_are_away(vps: Vps, away: str) -> None:
    send(vps, vps.alice, vps.bob, "Junk", "X-Spam: Yes\r\n")
    send(vps, vps.alice, vps.alice)
    assert answers(vps, vps.alice, away) == 0
    send(vps, vps.alice, vps.bob)
    received(vps.server, vps.alice, away)
    # the answer is not answered, and a second mail isn't
    send(vps, vps.alice, vps.bob)
    assert answers(vps, vps.alice, away) == 1
    assert answers(vps, vps.bob, away) == 0
    # each of them answers the other once
    send(vps, vps.bob, vps.alice)
    received(vps.server, vps.bob, away)
    send(vps, vps.bob, vps.alice)
    assert answers(vps, vps.alice, away) == answers(vps, vps.bob, away) == 1


NO_PERSON = [
    "no-reply",
    "NoReply",
    "no.reply-4711",
    "donotreply",
    "do_not_reply+x",
    "bounces+eve=example.com",
    "list-bounces",
]


def test_who_does_not_read_answers_gets_none(vps: Vps, away: str) -> None:
    """Without any of the headers that say so."""
    senders = [f"{name}@elsewhere.example" for name in (*NO_PERSON, "norbert.reply")]
    for sender in senders:
        word = token()
        deliver(vps.server, vps.alice.address, mail(sender, vps.alice.address, word), sender)
        received(vps.server, vps.alice, word)
    # the last one is a person
    for answered in until(lambda: sent_to(vps, "elsewhere.example")):
        if senders[-1] in answered:
            break
    assert answered & set(senders) == {senders[-1]}


def sent_to(vps: Vps, domain: str) -> t.Set[str]:
    """The addresses to which Postfix has tried to send mail."""
    said = vps.run("journalctl", "--identifier=postfix/smtp", "--output=cat")
    return set(re.findall(rf"to=<([^>]*@{re.escape(domain)})>", said))
