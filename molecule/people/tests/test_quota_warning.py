# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A person hears that the mailbox is nearly full: once for each limit, in the account's language."""

import email
import email.policy
import typing as t

import pytest
from conftest import Vps
from mailclient import Account, Imap, deliver, mail, received, token, until

testinfra_hosts = ["ansible://mail"]

SUBJECTS = {
    "english": "Your mailbox is {} % full",
    "japanese": "メールボックスの使用量が {} % に達しました",
    "german": "Ihr Postfach ist zu {} % voll",
}


def warnings(vps: Vps, account: Account) -> t.List[str]:
    """The subjects of the mails that the server itself has written."""
    with Imap(vps.server).log_in(account) as imap:
        imap.select("INBOX")
        numbers = imap.search(None, "HEADER", "Auto-Submitted", "auto-generated")[1][0].decode().split()
        read = [email.message_from_bytes(imap.mail(number), policy=email.policy.default) for number in numbers]
    for one in read:
        assert account.address in one.get_content()
    return [str(one["Subject"]) for one in read]


def fill(vps: Vps, account: Account, kilobytes: int) -> None:
    word, body = token(), (b"x" * 70 + b"\r\n") * (kilobytes * 1024 // 72)
    deliver(vps.server, account.address, mail("kim@elsewhere.example", account.address, word, body))
    received(vps.server, account, word)


@pytest.mark.parametrize("name", SUBJECTS)
def test_once_for_each_limit(vps: Vps, name: str) -> None:
    """The mailbox takes 1 MB. Mail comes from outside, and at the end goes into a mailbox that is full."""
    account, subject = vps.account(name), SUBJECTS[name]
    fill(vps, account, 700)
    assert warnings(vps, account) == []
    fill(vps, account, 150)
    for found in until(lambda: warnings(vps, account)):
        if found:
            break
    assert found == [subject.format(80)]
    # further above, nothing new
    fill(vps, account, 20)
    fill(vps, account, 120)
    for found in until(lambda: warnings(vps, account)):
        if len(found) > 1:
            break
    assert found == [subject.format(80), subject.format(95)]
    # below and above again
    with Imap(vps.server).log_in(account) as imap:
        imap.empty()
    fill(vps, account, 850)
    for found in until(lambda: warnings(vps, account)):
        if found:
            break
    assert found == [subject.format(80)]
