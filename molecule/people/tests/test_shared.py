# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Mailboxes that several people share: what each member sees, may do, and may send as."""

import imaplib
import typing as t

import pytest
from conftest import PEOPLE, Vps
from mailclient import Account, Imap, Smtp, deliver, mail, received, submit, token

testinfra_hosts = ["ansible://mail"]

TEAM, ARCHIVE = "Shared/team", "Shared/archive"
HELLO = mail("kim@elsewhere.example", "team@elsewhere.example", "hello")


@pytest.fixture
def alice(vps: Vps) -> t.Iterator[Imap]:
    """May write to the team's mailbox."""
    with Imap(vps.server).log_in(vps.alice) as session:
        yield session


@pytest.fixture
def bob(vps: Vps) -> t.Iterator[Imap]:
    """May read it."""
    with Imap(vps.server).log_in(vps.bob) as session:
        yield session


def folders(session: Imap, subscribed: bool = False) -> t.Set[str]:
    """The names below Shared that can be opened."""
    lines = (session.lsub if subscribed else session.list)('""', "Shared*")[1]
    shown = [line.decode() for line in lines if line and b"\\Noselect" not in line]
    return {line.rpartition(' "/" ')[2].strip('"') for line in shown}


def to_team(vps: Vps, name: str = "team") -> str:
    """A mail from outside for a shared mailbox. Its word."""
    word = token()
    deliver(vps.server, f"{name}@{vps.domain}", mail("kim@elsewhere.example", f"{name}@{vps.domain}", word))
    return word


def flags(session: Imap, word: str, folder: str = TEAM) -> str:
    (number,) = session.search_subject(word, folder)
    return str(session.fetch(number, "(FLAGS)")[1])


@pytest.mark.parametrize(("name", "sees"), [("alice", {TEAM}), ("bob", {TEAM, ARCHIVE}), ("english", set())])
def test_in_the_folder_list_of_members(vps: Vps, name: str, sees: t.Set[str]) -> None:
    """Without doing anything: clients show the folders that are subscribed."""
    with Imap(vps.server).log_in(vps.account(name)) as session:
        assert folders(session, subscribed=True) == sees
        assert {folder for folder in folders(session) if folder.count("/") == 1} == sees
        for folder in {TEAM, ARCHIVE} - sees:
            assert session.select(folder)[0] == "NO"
            assert session.append(folder, "", "", HELLO)[0] == "NO"


def test_mail_from_outside_is_read_by_each_on_its_own(vps: Vps, alice: Imap, bob: Imap) -> None:
    word = to_team(vps)
    received(vps.server, vps.bob, word, TEAM)
    (number,) = bob.search_subject(word, TEAM)
    assert bob.store(number, "+FLAGS", r"(\Seen)")[0] == "OK"
    assert r"\Seen" in flags(bob, word)
    assert r"\Seen" not in flags(alice, word)
    # it stays so
    with Imap(vps.server).log_in(vps.bob) as again:
        assert r"\Seen" in flags(again, word)


def test_whoever_may_only_read_changes_nothing(vps: Vps, alice: Imap, bob: Imap) -> None:
    word = to_team(vps)
    received(vps.server, vps.bob, word, TEAM)
    (number,) = bob.search_subject(word, TEAM)
    bob.store(number, "+FLAGS", r"(\Flagged \Deleted)")
    bob.expunge()
    (number,) = bob.search_subject(word, TEAM)
    # imaplib knows no MOVE
    imaplib.Commands["MOVE"] = ("SELECTED",)
    assert bob._simple_command("MOVE", number, "Trash")[0] == "NO"
    assert bob.append(TEAM, "", "", HELLO)[0] == "NO"
    assert bob.create(f"{TEAM}/his")[0] == "NO"
    assert bob.delete(TEAM)[0] == "NO"
    assert r"\Flagged" not in flags(alice, word)
    assert r"\Deleted" not in flags(alice, word)


def test_whoever_may_write_tidies_up_for_all(vps: Vps, alice: Imap, bob: Imap) -> None:
    word, folder = to_team(vps), f"{TEAM}/{token()}"
    received(vps.server, vps.alice, word, TEAM)
    assert alice.create(folder)[0] == "OK"
    (number,) = alice.search_subject(word, TEAM)
    assert alice.store(number, "+FLAGS", r"(\Flagged)")[0] == "OK"
    assert alice.copy(number, folder)[0] == "OK"
    alice.store(number, "+FLAGS", r"(\Deleted)")
    alice.expunge()
    assert folder in folders(bob)
    assert r"\Flagged" in flags(bob, word, folder)
    assert bob.search_subject(word, TEAM) == []
    assert alice.select(TEAM)[0] == "OK"
    assert alice.delete(folder)[0] == "OK"
    assert folder not in folders(bob)


def test_junk_is_a_folder_of_it(vps: Vps, alice: Imap) -> None:
    word = token()
    submit(
        vps.server,
        vps.bob,
        f"team@{vps.domain}",
        mail(vps.bob.address, f"team@{vps.domain}", word, headers="X-Spam: Yes\r\n"),
    )
    received(vps.server, vps.alice, word, f"{TEAM}/Junk")


def test_sends_from_its_address(vps: Vps) -> None:
    team, word = f"team@{vps.domain}", token()
    with Smtp(vps.server, 587) as smtp:
        smtp.authenticate(vps.alice)
        smtp.sendmail(team, [vps.bob.address], mail(team, vps.bob.address, word))
    received(vps.server, vps.bob, word)
    for person, sender in ((vps.bob, team), (vps.alice, f"archive@{vps.domain}")):
        with Smtp(vps.server, 587) as smtp:
            smtp.authenticate(person)
            assert smtp.ask(sender, vps.alice.address).code == 553


@pytest.mark.parametrize("name", ["team", "team@{domain}"])
def test_nobody_logs_in_to_it(vps: Vps, name: str) -> None:
    with Imap(vps.server) as session, pytest.raises(imaplib.IMAP4.error):
        session.log_in(Account(name.format(domain=vps.domain), "team"))


def test_is_refused_when_full(vps: Vps, bob: Imap) -> None:
    """The archive takes 1 MB. What members put into it counts, but Dovecot refuses it to nobody."""
    address = f"archive@{vps.domain}"
    large = mail(vps.bob.address, address, "large", (b"x" * 70 + b"\r\n") * 15000)
    assert bob.append(ARCHIVE, "", "", large)[0] == "OK"
    with Smtp(vps.server, 25, starttls=False) as smtp:
        assert smtp.ask("kim@elsewhere.example", address).code == 552
        bob.empty(ARCHIVE)
        assert smtp.ask("kim@elsewhere.example", address).code == 250


def test_a_member_leaves_and_a_mailbox_too(vps: Vps) -> None:
    """Both at once, and back. The mail of the removed mailbox stays; its address is refused."""
    word, kept = to_team(vps), to_team(vps, "archive")
    received(vps.server, vps.bob, word, TEAM)
    received(vps.server, vps.bob, kept, ARCHIVE)
    open_one = Imap(vps.server).log_in(vps.bob)
    open_one.select(TEAM)
    less = [{"name": "team", "address": f"team@{vps.domain}", "members": {vps.alice.address: "write"}}]
    people = [{**PEOPLE[0], "app_passwords": []}, *PEOPLE[1:]]
    shown = vps.play("accounts.yml", mail_accounts=people, mail_shared=less)
    assert shown.code == 0
    assert "/var/vmail/shared/archive" in shown.output
    assert open_one.is_ended()
    with Imap(vps.server).log_in(vps.bob) as bob:
        assert folders(bob) == folders(bob, subscribed=True) == set()
        assert bob.select(TEAM)[0] == "NO"
    with Imap(vps.server).log_in(vps.alice) as alice:
        assert alice.search_subject(word, TEAM)
    with Smtp(vps.server, 25, starttls=False) as smtp:
        assert smtp.ask("kim@elsewhere.example", f"archive@{vps.domain}").code == 550
    assert kept in vps.run("grep", "-r", kept, "/var/vmail/shared/archive")

    assert vps.play("accounts.yml", mail_accounts=people).code == 0
    with Imap(vps.server).log_in(vps.bob) as bob:
        assert folders(bob, subscribed=True) == {TEAM, ARCHIVE}
        assert bob.search_subject(kept, ARCHIVE)
    assert vps.play("accounts.yml", mail_accounts=people).changed == 0
