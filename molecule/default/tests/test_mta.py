# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Port 25: accepts mail from other servers for local recipients only."""

import typing as t

import pytest
from conftest import Site
from mailclient import Smtp, deliver, mail, received, token

testinfra_hosts = ["ansible://mail"]


@pytest.mark.parametrize("starttls", [True, False], ids=["TLS", "clear"])
def test_no_login(site: Site, starttls: bool) -> None:
    with Smtp(site.server, 25, starttls=starttls) as smtp:
        assert "auth" not in smtp.esmtp_features
        for mechanism in ("PLAIN", "LOGIN"):
            reply = smtp.authenticate(site.account("alice"), mechanism)
            assert reply.code in (502, 503, 530), reply


@pytest.mark.parametrize("family", ["IPv4", "IPv6"])
@pytest.mark.parametrize("starttls", [True, False], ids=["TLS", "clear"])
@pytest.mark.parametrize(
    "recipient",
    [
        "victim@elsewhere.example",
        "victim@[192.0.2.1]",
        # all other ways of saying it that ever opened a relay
        "victim%elsewhere.example@{domain}",
        "victim%elsewhere.example@{hostname}",
        "victim@elsewhere.example@{domain}",
        '"victim@elsewhere.example"@{domain}',
        '"victim@elsewhere.example"@{hostname}',
        "@{domain}:victim@elsewhere.example",
        "elsewhere.example!victim@{hostname}",
        "elsewhere.example!victim",
    ],
)
def test_no_open_relay(site: Site, family: str, starttls: bool, recipient: str) -> None:
    server = site.over_ipv6() if family == "IPv6" else site.server
    with Smtp(server, 25, starttls=starttls) as smtp:
        for sender in (
            "somebody@elsewhere.example",
            f"alice@{site.domain}",
            f"root@{server.name}",
            "",
        ):
            reply = smtp.ask(sender, recipient.format(domain=site.domain, hostname=server.name))
            assert 500 <= reply.code < 600, (sender, reply)
            # refused was the recipient, and neither this client nor this sender
            assert smtp.ask(sender, f"alice@{site.domain}").code == 250
        reply = smtp.ask("root@localhost", recipient.format(domain=site.domain, hostname=server.name))
        assert 500 <= reply.code < 600, reply


@pytest.mark.parametrize("family", ["IPv4", "IPv6"])
@pytest.mark.parametrize("sender", ["somebody@elsewhere.example", ""])
def test_delivers_to_people_here(site: Site, family: str, sender: str) -> None:
    word, alice = token(), site.account("alice")
    server = site.over_ipv6() if family == "IPv6" else site.server
    deliver(server, alice.address, mail(sender, alice.address, word), sender)
    received(site.server, alice, word)


def test_strict_syntax(site: Site) -> None:
    with Smtp(site.server, 25) as smtp:
        assert smtp.say("MAIL FROM:somebody@elsewhere.example").code == 501


@pytest.mark.parametrize("sender", ["bounce", "bounce@server", "root@localhost"])
def test_sender_without_a_domain(site: Site, sender: str) -> None:
    with Smtp(site.server, 25) as smtp:
        assert smtp.ask(sender, site.account("alice").address).code == 504


def test_sender_whose_domain_does_not_exist(site: Site) -> None:
    with Smtp(site.server, 25) as smtp:
        reply = smtp.ask("somebody@no-such-domain.invalid", site.account("alice").address)
        # whether there is none can only be known where the world's name servers can be asked
        assert reply.code in (550, 450), reply


#: Postfix reads resolv.conf when a process starts; after a reload the old processes answer until they have noticed.
RELOAD = """
old=$(pgrep -x smtpd)
postfix reload
for pid in $old; do timeout 20 tail -s 0.1 --pid=$pid -f /dev/null || exit; done
"""


def test_mail_waits_while_dns_does_not_answer(site: Site, host: t.Any) -> None:
    alice = site.account("alice").address
    copy = "/var/spool/postfix/etc/resolv.conf"
    host.check_output(f"cp {copy} /root/resolv.conf && echo nameserver 127.0.0.1 >{copy} && {{ {RELOAD} }}")
    try:
        with Smtp(site.server, 25) as smtp:
            assert smtp.ask("somebody@elsewhere.example", alice).code == 450
            # what needs no answer goes on
            assert smtp.ask("somebody@elsewhere.example", f"nobody@{site.domain}").code == 550
            assert smtp.ask("", alice).code == 250
        with Smtp(site.server, 587) as smtp:
            smtp.authenticate(site.account("alice"))
            assert smtp.ask(alice, "somebody@elsewhere.example").code == 250
    finally:
        host.check_output(f"cat /root/resolv.conf >{copy} && {{ {RELOAD} }}")
    with Smtp(site.server, 25) as smtp:
        assert smtp.ask("somebody@elsewhere.example", alice).code == 250


@pytest.mark.parametrize(
    "recipient",
    ["nobody@{domain}", "nobody+shop@{domain}", "printer@{domain}", "nosuch@{hostname}", "www-data@{hostname}"],
)
def test_unknown_recipient(site: Site, recipient: str) -> None:
    with Smtp(site.server, 25) as smtp:
        reply = smtp.ask("somebody@elsewhere.example", recipient.format(domain=site.domain, hostname=site.server.name))
        assert reply.code == 550, reply


@pytest.mark.parametrize(
    ("recipient", "people"),
    [
        pytest.param("ALICE@{domain}", ["alice"], id="other case"),
        pytest.param("alice+shop@{domain}", ["alice"], id="extension"),
        pytest.param("alice.liddell@{second_domain}", ["alice"], id="alias"),
        pytest.param("team@{domain}", ["alice", "bob"], id="alias to several"),
        pytest.param("whoever@{second_domain}", ["bob"], id="catch-all"),
        pytest.param("postmaster@{domain}", ["alice"], id="postmaster"),
        pytest.param("abuse@{second_domain}", ["alice"], id="abuse"),
        pytest.param("root@{hostname}", ["alice"], id="root"),
    ],
)
def test_delivers_where_it_belongs(site: Site, recipient: str, people: list[str]) -> None:
    word = token()
    address = recipient.format(domain=site.domain, second_domain=site.second_domain, hostname=site.server.name)
    deliver(site.server, address, mail("somebody@elsewhere.example", address, word))
    for name in people:
        assert len(received(site.server, site.account(name), word)) == 1
