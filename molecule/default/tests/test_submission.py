# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ports 587 and 465: a login may send from its own addresses only; without a login, nothing is sent."""

import base64
import typing as t

import pytest
from conftest import Site
from mailclient import Smtp, mail, received, submit, token

testinfra_hosts = ["ansible://mail"]

ports = pytest.mark.parametrize("port", [587, 465])


@ports
@pytest.mark.parametrize("mechanism", ["PLAIN", "PLAIN in steps", "LOGIN", "LOGIN in steps"])
def test_logs_in(site: Site, port: int, mechanism: str) -> None:
    with Smtp(site.server, port) as smtp:
        if mechanism == "PLAIN in steps":
            assert smtp.say("AUTH PLAIN").code == 334
            alice = site.account("alice")
            reply = smtp.say(base64.b64encode(f"\0{alice.address}\0{alice.password}".encode()).decode())
        else:
            reply = smtp.authenticate(site.account("alice"), mechanism)
        assert reply.code == 235, reply


@ports
def test_logs_in_over_ipv6(site: Site, port: int) -> None:
    with Smtp(site.over_ipv6(), port) as smtp:
        assert smtp.authenticate(site.account("alice")).code == 235


@ports
def test_login_ignores_case_of_address(site: Site, port: int) -> None:
    alice = site.account("alice")
    with Smtp(site.server, port) as smtp:
        assert smtp.authenticate(alice._replace(address=alice.address.title())).code == 235


@ports
def test_offers_plain_and_login_and_nothing_else(site: Site, port: int) -> None:
    with Smtp(site.server, port) as smtp:
        assert set(smtp.esmtp_features["auth"].split()) == {"PLAIN", "LOGIN"}


def test_no_login_before_starttls(site: Site) -> None:
    with Smtp(site.server, 587, starttls=False) as smtp:
        assert "starttls" in smtp.esmtp_features
        assert "auth" not in smtp.esmtp_features
        for mechanism in ("PLAIN", "LOGIN", "LOGIN in steps"):
            reply = smtp.authenticate(site.account("alice"), mechanism)
            assert reply.code in (503, 530, 538), reply
        assert smtp.ask(site.account("alice").address, site.account("bob").address).code == 530


@ports
@pytest.mark.parametrize("recipient", ["bob", "team", "postmaster", "nobody", "somebody@elsewhere.example"])
@pytest.mark.parametrize("sender", ["alice", "somebody@elsewhere.example", ""])
def test_takes_nothing_without_login(site: Site, port: int, sender: str, recipient: str) -> None:
    with Smtp(site.server, port) as smtp:
        reply = smtp.ask(local(site, sender), local(site, recipient))
        assert reply.code in (530, 550, 553, 554), reply


@ports
@pytest.mark.parametrize(
    "sender",
    [
        pytest.param("alice@{domain}", id="own"),
        pytest.param("Alice@{domain}", id="own in other case"),
        pytest.param("alice+shop@{domain}", id="own with extension"),
        pytest.param("alice.liddell@{second_domain}", id="own alias"),
        pytest.param("alice.liddell+shop@{second_domain}", id="own alias with extension"),
        pytest.param("team@{domain}", id="alias she may send as"),
        pytest.param("alice@private.example", id="own elsewhere"),
        pytest.param("", id="nobody, as read receipts have it"),
    ],
)
@pytest.mark.parametrize("recipient", ["bob", "somebody@elsewhere.example"])
def test_sends_as_herself(site: Site, port: int, sender: str, recipient: str) -> None:
    with Smtp(site.server, port) as smtp:
        smtp.authenticate(site.account("alice"))
        assert smtp.ask(filled(site, sender), local(site, recipient)).code == 250


@ports
@pytest.mark.parametrize(
    "sender",
    [
        pytest.param("bob@{domain}", id="somebody else"),
        pytest.param("bob+shop@{domain}", id="somebody else with extension"),
        pytest.param("bob@private.example", id="somebody else elsewhere"),
        pytest.param("hashed@{domain}", id="one with a password hash"),
        pytest.param("gone@{domain}", id="a disabled account"),
        pytest.param("nobody@{domain}", id="nobody here"),
        pytest.param("anything@{second_domain}", id="another's catch-all"),
        pytest.param("postmaster@{hostname}", id="the host"),
        pytest.param("alice@elsewhere.example", id="a foreign domain"),
    ],
)
@pytest.mark.parametrize("recipient", ["bob", "somebody@elsewhere.example"])
def test_sends_as_nobody_else(site: Site, port: int, sender: str, recipient: str) -> None:
    with Smtp(site.server, port) as smtp:
        smtp.authenticate(site.account("alice"))
        reply = smtp.ask(filled(site, sender), local(site, recipient))
        assert reply.code in (550, 553), reply
        # the same session may still send as herself: it was the sender that was refused
        assert smtp.ask(site.account("alice").address, local(site, recipient)).code == 250


@ports
def test_unknown_recipient_is_refused_at_once(site: Site, port: int) -> None:
    with Smtp(site.server, port) as smtp:
        smtp.authenticate(site.account("alice"))
        assert smtp.ask(site.account("alice").address, f"nobody@{site.domain}").code == 550


@ports
@pytest.mark.parametrize("verb", ["EHLO", "HELO"])
@pytest.mark.parametrize(
    "name",
    [
        pytest.param("太郎のPC".encode("cp932"), id="Japanese Windows"),
        pytest.param("КОМПЬЮТЕР".encode("cp1251"), id="Russian Windows"),
        pytest.param("太郎のPC".encode(), id="UTF-8"),
        pytest.param(b"Eve's PC", id="blank"),
        pytest.param(b"EVE_PC", id="underscore"),
    ],
)
def test_sends_whatever_the_computer_is_called(site: Site, port: int, verb: str, name: bytes) -> None:
    word = token()
    alice, bob = site.account("alice"), site.account("bob")
    with Smtp(site.server, port, starttls=False) as smtp:
        assert smtp.greet(verb, name).code == 250
        if port == 587:
            smtp.starttls(context=site.server.context())
            assert smtp.greet(verb, name).code == 250
        assert smtp.authenticate(alice).code == 235
        for command in (f"MAIL FROM:<{alice.address}>", f"RCPT TO:<{bob.address}>"):
            assert smtp.say(command).code == 250
        assert smtp.data(mail(alice.address, bob.address, word))[0] == 250
    received(site.server, bob, word)


@ports
@pytest.mark.parametrize("form", ["%s", " %s", " <%s>"])
def test_syntax_of_scanners_and_scripts(site: Site, port: int, form: str) -> None:
    with Smtp(site.server, port) as smtp:
        smtp.authenticate(site.account("alice"))
        assert smtp.say("MAIL FROM:" + form % site.account("alice").address).code == 250
        assert smtp.say("RCPT TO:" + form % site.account("bob").address).code == 250


def test_send_only_account_sends(site: Site) -> None:
    word = token()
    printer, bob = site.account("printer"), site.account("bob")
    submit(site.server, printer, bob.address, mail(printer.address, bob.address, word))
    received(site.server, bob, word)


@ports
@pytest.mark.parametrize("family", ["IPv4", "IPv6"])
def test_leaks_nothing_of_the_submitter(site: Site, port: int, family: str) -> None:
    word, leak = token(), token()
    alice, bob = site.account("alice"), site.account("bob")
    headers = f"User-Agent: Shuriken/{leak}\r\nX-Mailer: Outlook {leak}\r\nX-Originating-IP: [10.1.2.3]\r\n"
    server = site.over_ipv6() if family == "IPv6" else site.server
    with Smtp(server, port, helo=f"laptop.{leak}.example") as smtp:
        own_address = t.cast(t.Any, smtp.sock).getsockname()[0]
        smtp.authenticate(alice)
        smtp.sendmail(alice.address, [bob.address], mail(alice.address, bob.address, word, headers=headers))
    (delivered,) = received(site.server, bob, word)
    for secret in (leak, own_address, "10.1.2.3", "Authenticated sender"):
        assert secret.encode() not in delivered, delivered.decode()


def local(site: Site, address: str) -> str:
    return address if "@" in address or not address else f"{address}@{site.domain}"


def filled(site: Site, address: str) -> str:
    return address.format(domain=site.domain, second_domain=site.second_domain, hostname=site.server.name)
