# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sender addresses: the headers of mail after a login, and all of them in mail without one.

A table of mails, each with the answer that it gets, and the domains whose DKIM signatures are on it where it arrives.
"""

import email.message
import re
import typing as t

import pytest
from conftest import Site
from mailclient import Account, Imap, Reply, Smtp, token, until

testinfra_hosts = ["ansible://mail"]


class Case(t.NamedTuple):
    """In braces d and s are the domains here, D the first in capitals, and h the host."""

    envelope: str
    head: str
    code: int = 250
    signed: t.Tuple[str, ...] = ()


OWN, ALIAS, NOBODY = "writer@{d}", "writer.alias@{s}", ""


def refused(head: str, envelope: str = OWN) -> Case:
    return Case(envelope, head, 554)


# what stands in From, and where the signature is from: as any of these the login may send
MINE = {
    "own": ("From: writer@{d}", "{d}"),
    "own alias": ("From: Writer <writer.alias@{s}>", "{s}"),
    "team": ("From: The desk <desk@{d}>", "{d}"),
    "elsewhere": ("From: <writer@private.example>", ""),
    "whole domain": ("From: <anybody@wild.example>", ""),
}
# spellings of the own address
SPELLINGS = {
    "brackets": "From: <writer@{d}>",
    "name": "From: Writer of Letters <writer@{d}>",
    "quoted name": 'From: "Letters, Writer (of)" <writer@{d}>',
    "quoted name with another address": 'From: "bob@{d}" <writer@{d}>',
    "encoded name": "From: =?utf-8?Q?Schr=C3=A4iber?= =?utf-8?B?5ryi5a2X?= <writer@{d}>",
    "name with a dot": "From: W. R. Iter <writer@{d}>",
    "name in bytes": "From: Schr\xe4iber <writer@{d}>",
    "address as name": "From: writer@{d} <writer@{d}>",
    "comment": "From: writer@{d} (Writer)",
    "comments everywhere": r"From: (a (b) \) c) writer (d) @ (e) {d} (bob@{d})",
    "upper case": "FROM: WRITER@{D}",
    "blank before the colon": "From : writer@{d}",
    "quoted local part": 'From: "writer"@{d}',
    "extension": "From: writer+shop@{d}",
    "folded": "From:\r\n Writer\r\n\t<writer\r\n @{d}>",
    "group": "From: Writers: Writer <writer@{d}>, desk@{d};",
    "source route": "From: <@{s},@{h}:writer@{d}>",
    "empty members": "From: , writer@{d}, ,",
    "no blank": "From:writer@{d}",
    "two of them": "From: writer@{d}, desk@{d}",
    "two headers": "From: writer@{d}\r\nFrom: desk@{d}",
}
# not the login's to use
OTHERS = {
    "another person": "bob@{d}",
    "another person with extension": "bob+shop@{d}",
    "nobody": "nobody@{d}",
    "another domain here": "anything@{s}",
    "root of the host": "root@{h}",
    "mailer-daemon of the host": "mailer-daemon@{h}",
    "foreign": "somebody@elsewhere.example",
    "another's in the whole domain": "bob@wild.example",
    "no domain": "writer",
    "domain in brackets": "writer@[127.0.0.1]",
    "other local part with the own inside": '"writer@{d} writer"@{d}',
}
# ways to write it
FORGERIES = {
    "brackets": "From: Writer <{a}>",
    "bare": "From: {a}",
    "quoted name with the own address": 'From: "writer@{d}" <{a}>',
    "own address as name": "From: writer@{d} <{a}>",
    "as name of the own address": "From: {a} <writer@{d}>",
    "comment with the own address": "From: (writer@{d}) {a} (writer@{d})",
    "upper case": "FROM: <{A}>",
    "folded": "From: Writer\r\n\t<\r\n {a}\r\n >",
    "group": "From: writer@{d}, Writers: {a};",
    "source route": "From: <@{d}:{a}>",
    "second of two": "From: writer@{d}, {a}",
    "first of two": "From: {a}, writer@{d}",
    "second header": "From: writer@{d}\r\nFrom: {a}",
    "first header": "From: {a}\r\nFrom: writer@{d}",
    "Sender": "From: writer@{d}\r\nSender: {a}",
    "Resent-From": "From: writer@{d}\r\nResent-From: <{a}>",
    "Resent-Sender": "From: writer@{d}\r\nResent-From: writer@{d}\r\nResent-Sender: {a}",
    "From of what is resent": "From: {a}\r\nResent-From: writer@{d}",
}
# what might end the header for one program and not for another, so that the second From is seen by the recipient alone
HIDDEN = {
    "two carriage returns": "X-A: a\r\rb",
    "carriage return": "X-A: a\rb",
    "carriage returns at the end": "X-A: a\r\r\r\r",
    "NUL": "X-A: a\0b",
    "blanks": " \t",
    "other blanks": "X-A:\f\v\x85",
    "empty values": "X-A:\r\nX-B:\r\n\t",
    "many lines": "\r\n".join(f"X-{number}: {'x' * 900}" for number in range(110)),
    "long name": f"X-{'y' * 2000}: z",
}
UNCLEAR = {
    "encoded address": "From: =?utf-8?Q?writer=40{d}?=",
    "name alone": "From: Writer",
    "empty": "From: ",
    "empty brackets": "From: <>",
    "group without members": "From: nobody:;",
    "no end": "From: <writer@{d}",
    "quotes without end": 'From: "Writer <writer@{d}>',
    "comment without end": "From: writer@{d} (bob",
    "more behind it": "From: <writer@{d}> bob",
    "two without a comma": "From: <writer@{d}> <bob@{d}>",
    "two at signs": "From: writer@{d}@{d}",
    "comma in an encoded name": "From: =?utf-8?Q?a,b?= <writer@{d}>",
    "a colon in the name": "From: Re: Writer <writer@{d}>",
}

CASES = {
    **{
        f"{name} from {envelope or 'nobody'}": Case(envelope, head, 250, (domain,) if domain else ())
        for name, (head, domain) in MINE.items()
        for envelope in (OWN, NOBODY, ALIAS)
    },
    **{f"spelling: {name}": Case(OWN, head, 250, ("{d}",)) for name, head in SPELLINGS.items()},
    # rspamd can't read it, so nothing is signed
    "spelling: comments everywhere": Case(OWN, SPELLINGS["comments everywhere"]),
    # of two authors, no domain vouches
    "spelling: two of them": Case(OWN, SPELLINGS["two of them"]),
    "spelling: two headers": Case(OWN, SPELLINGS["two headers"]),
    "spelling: group": Case(OWN, SPELLINGS["group"]),
    "no From at all": Case(OWN, "X-Nothing: 1", 250, ("{d}",)),
    "no From at all, as the alias": Case(ALIAS, "X-Nothing: 1", 250, ("{s}",)),
    # Postfix makes it MAILER-DAEMON's
    "no From at all, from nobody": Case(NOBODY, "X-Nothing: 1", 554),
    "Sender": Case(OWN, "From: desk@{d}\r\nSender: writer@{d}", 250, ("{d}",)),
    "resent": Case(OWN, "From: writer@{d}\r\nResent-From: desk@{d}\r\nResent-Sender: writer@{d}", 250, ("{d}",)),
    **{
        f"{name} from {envelope or 'nobody'}": refused(f"From: <{address}>", envelope)
        for name, address in OTHERS.items()
        for envelope in (OWN, NOBODY, ALIAS)
    },
    **{
        f"forgery: {name}": refused(head.replace("{a}", "bob@{d}").replace("{A}", "BOB@{D}"))
        for name, head in FORGERIES.items()
    },
    **{
        f"hidden by: {name}": refused(f"From: writer@{{d}}\r\n{line}\r\nFrom: bob@{{d}}")
        for name, line in HIDDEN.items()
    },
    "hidden by: mailbox's line": refused("From bob\r\nFrom: bob@{d}"),
    **{f"unclear: {name}": refused(head) for name, head in UNCLEAR.items()},
}


def filled(site: Site, text: str) -> str:
    names = {"d": site.domain, "D": site.domain.upper(), "s": site.second_domain, "h": site.server.name}
    return re.sub(r"\{([dDsh])\}", lambda found: names[found[1]], text)


def send(smtp: Smtp, envelope: str, recipient: str, head: str, word: str) -> Reply:
    """What is answered to the mail as a whole."""
    assert smtp.say(f"MAIL FROM:<{envelope}>").code == 250
    assert smtp.say(f"RCPT TO:<{recipient}>").code == 250
    reply = smtp.say("DATA")
    if reply.code != 354:
        return reply
    # not data(), which mends what it sends
    smtp.send(f"{head}\r\nTo: <{recipient}>\r\nSubject: {word}\r\n\r\nHello.\r\n.\r\n".encode("latin-1"))
    return Reply(*smtp.getreply())


def send_all(
    site: Site, port: int, cases: t.Mapping[str, Case], recipient: str, word: str, login: t.Optional[Account] = None
) -> t.Iterator[t.Tuple[int, str, Case, Reply]]:
    """Each mail and its answer. Who is refused ten times in a session is answered late (smtpd_soft_error_limit)."""
    left = list(enumerate(cases.items()))
    while left:
        with Smtp(site.server, port, helo="mx.elsewhere.example") as smtp:
            assert not login or smtp.authenticate(login).code == 235
            refusals = 0
            while left and refusals < 9:
                number, (name, case) = left.pop(0)
                head = filled(site, case.head)
                reply = send(smtp, filled(site, case.envelope), recipient, head, f"{word} {number}")
                refusals += reply.code != 250
                yield number, name, case, reply


def arrived(site: Site, account: Account, word: str, count: int) -> t.Dict[str, email.message.Message]:
    """The mails with this word in their subject, by the number behind it."""
    with Imap(site.server).log_in(account) as imap:
        for numbers in until(lambda: imap.search_subject(word)):
            if len(numbers) >= count:
                break
        mails = [email.message_from_bytes(imap.mail(number)) for number in numbers]
    return {str(mail["Subject"]).rpartition(" ")[2]: mail for mail in mails}


def signed(mail: email.message.Message) -> t.Set[str]:
    """The domains that have signed it."""
    return {re.findall(r"\bd=([^;\s]+)", str(value))[0] for value in mail.get_all("DKIM-Signature", [])}


def test_a_login_writes_in_no_other_s_name(site: Site) -> None:
    word, writer = token(), site.account("writer")
    wrong, accepted = [], {}
    for number, name, case, reply in send_all(site, 587, CASES, writer.address, word, writer):
        if reply.code != case.code:
            wrong.append(f"{name}: {reply}")
        elif reply.code == 250:
            accepted[str(number)] = (name, {filled(site, domain) for domain in case.signed})
    mails = arrived(site, writer, word, len(accepted))
    for number, (name, domains) in accepted.items():
        if number not in mails:
            wrong.append(f"{name}: did not arrive")
        elif signed(mails[number]) != domains:
            wrong.append(f"{name}: signed by {signed(mails[number])}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("port", [587, 465])
def test_a_person_is_told_why(site: Site, port: int) -> None:
    writer = site.account("writer")
    with Smtp(site.server, port) as smtp:
        smtp.authenticate(writer)
        reply = send(smtp, "", writer.address, f"From: Bob <bob@{site.domain}>", token())
        assert reply.text.decode() == (
            f"5.7.1 you are logged in as {writer.address}, who may not send as bob@{site.domain} (in From)"
        )
        reply = send(smtp, "", writer.address, "From: Bob", token())
        assert reply.text.decode() == (
            "5.7.1 the header From has to be an address such as: Eve Example <eve@example.com>"
        )


# without a login, from another machine. No record is published of any domain here.
STRANGERS = {
    "envelope": Case("alice@{d}", "From: x@elsewhere.example", 554),
    "envelope of the other domain": Case("nobody@{s}", "From: x@elsewhere.example", 554),
    "envelope of the host": Case("root@{h}", "From: x@elsewhere.example", 554),
    "From": Case("x@elsewhere.example", "From: Alice <alice@{d}>", 554),
    "From, from nobody": Case("", "From: alice@{d}", 554),
    "From of the host": Case("x@elsewhere.example", "From: root@{h}", 554),
    "upper case": Case("x@elsewhere.example", "FROM: ALICE@{D}", 554),
    "second of two": Case("x@elsewhere.example", "From: x@elsewhere.example, alice@{d}", 554),
    "second header": Case("x@elsewhere.example", "From: x@elsewhere.example\r\nFrom: alice@{d}", 554),
    "group": Case("x@elsewhere.example", "From: we: alice@{d};", 554),
    "folded": Case("x@elsewhere.example", "From: Alice\r\n <alice\r\n @{d}>", 554),
    "source route": Case("x@elsewhere.example", "From: <@elsewhere.example:alice@{d}>", 554),
    "encoded as a whole": Case("x@elsewhere.example", "From: =?utf-8?Q?alice=40{d}?=", 554),
    "unclear": Case("x@elsewhere.example", "From: alice@{d} bob", 554),
    "unquoted as a name": Case("x@elsewhere.example", "From: alice@{d} <x@elsewhere.example>", 554),
    "not ours, but similar": Case("x@not-{d}", "From: alice@{d}.example, x@sub.{d}, {d}@elsewhere.example"),
    "a name that is quoted": Case("x@elsewhere.example", 'From: "alice@{d}" <x@elsewhere.example>'),
    "no From": Case("x@elsewhere.example", "X-Nothing: 1"),
    "unclear, but nothing of ours": Case("x@elsewhere.example", "From: taro..y.@docomo.example bob"),
}


def test_a_stranger_is_nobody_here(site: Site) -> None:
    word, writer = token(), site.account("writer")
    wrong, count = [], 0
    for _number, name, case, reply in send_all(site, 25, STRANGERS, writer.address, word):
        if reply.code != case.code or (reply.code != 250) is (b"domain of this server" not in reply.text):
            wrong.append(f"{name}: {reply}")
        count += reply.code == 250
    assert not wrong, "\n".join(wrong)
    assert count


FORGED = {
    "X-Spam": "No",
    "X-Spam-Status": "No, score=-100",
    "x-spam-FLAG": "NO",
    "X-Spamd-Bar": "---",
    "X-Bogosity": "Ham",
    "X-Rspamd-Server": "{h}",
    "Received-SPF": "pass",
    "Authentication-Results": "{h}; spf=pass; dkim=pass header.d=bank.example; dmarc=pass",
    "Delivered-To": "writer+bank@{d}",
    "X-Original-To": "<writer+bank@{d}>",
}
#: of others: what does no harm, and what a later server has to see
KEPT = {
    "X-Wanted": "no",
    "ARC-Authentication-Results": "i=1; elsewhere.example; spf=pass",
    "Envelope-To": "me@elsewhere.example",
}


@pytest.mark.parametrize("who", ["stranger", "login"])
def test_forged_verdicts_are_removed(site: Site, who: str) -> None:
    word, writer = token(), site.account("writer")
    sender = writer.address if who == "login" else "x@elsewhere.example"
    head = "\r\n".join(f"{name}: {filled(site, value)}" for name, value in {"From": sender, **FORGED, **KEPT}.items())
    with Smtp(site.server, 587 if who == "login" else 25) as smtp:
        if who == "login":
            smtp.authenticate(writer)
        assert send(smtp, sender, writer.address, head, f"{word} 0").code == 250
    mail = arrived(site, writer, word, 1)["0"]
    for name, value in FORGED.items():
        assert filled(site, value) not in [str(one) for one in mail.get_all(name, [])], name
    for name, value in KEPT.items():
        # a seal of our own may come beside one of others
        assert [one for one in mail.get_all(name) if site.server.name not in one] == [value], name
    assert len(mail.get_all("Authentication-Results", [])) == (0 if who == "login" else 1)
