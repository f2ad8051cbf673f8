# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The machine's own mail: mail to root, to local users and to the postmaster reaches a mailbox."""

import contextlib
import typing as t

import pytest
from conftest import Site
from mailclient import Smtp, deliver, mail, received, token, until

testinfra_hosts = ["ansible://mail"]

SMTP = """
import smtplib, sys
with smtplib.SMTP("localhost") as smtp:
    smtp.sendmail(sys.argv[1], [sys.argv[2]], "Subject: %s\\n\\nDone.\\n" % sys.argv[3])
"""


def send(host: t.Any, user: str, recipient: str, subject: str, *options: str) -> None:
    """As cron does, in the user's name."""
    command = ["runuser", "-u", user, "--", "sendmail", "-i", *options, recipient]
    host.run_expect([0], f"printf 'To: {recipient}\\nSubject: {subject}\\n\\nDone.\\n' | {' '.join(command)}")


def only_trusted_users_send(host: t.Any) -> bool:
    """Postfix compares the user and the sender since 3.6."""
    major, minor = host.check_output("postconf -h mail_version").split(".")[:2]
    return (int(major), int(minor)) < (3, 6)


def wait_for(host: t.Any, files: str, word: str) -> None:
    """Until the word lies in one of the files."""
    for lying in until(lambda: host.run(f"cat {files}").stdout):
        if word in lying:
            return
    raise AssertionError(lying)


#: Postfix takes a table of the same second for the one that it has open.
NEW = "while [ $(stat -c %Y /etc/aliases.*) = $(date +%s) ]; do sleep 0.1; done; newaliases"


@contextlib.contextmanager
def aliases(host: t.Any, lines: str) -> t.Iterator[None]:
    """What a person, or a package, writes into /etc/aliases."""
    host.run_expect([0], f"cp -p /etc/aliases /root/aliases && echo '{lines}' >>/etc/aliases && {NEW}")
    try:
        yield
    finally:
        host.run_expect([0], f"cp -p /root/aliases /etc/aliases && {NEW}")


@pytest.mark.parametrize("user", ["root", "www-data"])
@pytest.mark.parametrize("recipient", ["root", "www-data", "postmaster", "root@localhost", "postmaster@[{address}]"])
def test_programs(site: Site, host: t.Any, user: str, recipient: str) -> None:
    if user != "root" and only_trusted_users_send(host):
        pytest.skip("before Postfix 3.6, only programs of root and of trusted users may use sendmail")
    word = token()
    send(host, user, recipient.format(address=site.server.address), word)
    received(site.server, site.account("alice"), word)


@pytest.mark.parametrize("recipient", ["root", "root@localhost", "postmaster@{hostname}"])
@pytest.mark.parametrize("sender", ["root", "www-data@localhost", ""])
def test_programs_that_speak_smtp(site: Site, host: t.Any, sender: str, recipient: str) -> None:
    word = token()
    host.check_output("python3 -c %s %s %s %s", SMTP, sender, recipient.format(hostname=site.server.name), word)
    received(site.server, site.account("alice"), word)


@pytest.mark.parametrize("family", ["IPv4", "IPv6"])
def test_postmaster_at_the_address(site: Site, family: str) -> None:
    word = token()
    literal = f"[{site.server.address}]" if family == "IPv4" else f"[IPv6:{site.ipv6}]"
    server = site.over_ipv6() if family == "IPv6" else site.server
    deliver(server, f"postmaster@{literal}", mail("somebody@elsewhere.example", f"postmaster@{literal}", word))
    received(site.server, site.account("alice"), word)


@pytest.mark.parametrize("recipient", ["root", "root@localhost"])
def test_names_without_a_domain_are_for_this_machine(site: Site, recipient: str) -> None:
    with Smtp(site.server, 25) as smtp:
        assert smtp.ask("somebody@elsewhere.example", recipient).code == 504


def test_etc_aliases_counts_first(site: Site, host: t.Any) -> None:
    bob, alice = site.account("bob"), site.account("alice")
    words = {name: token() for name in ("www-data", "logcheck", "root")}
    with aliases(host, f"www-data: {bob.address}\nlogcheck: root"):
        for name in ("www-data", "logcheck"):
            send(host, "root", name, words[name])
        received(site.server, bob, words["www-data"])
        received(site.server, alice, words["logcheck"])
    with aliases(host, f"root: {bob.address}"):
        send(host, "root", "root", words["root"])
        received(site.server, bob, words["root"])


def test_a_user_s_forward_counts(host: t.Any) -> None:
    """This one reads what lies in /var/mail."""
    word = token()
    host.run_expect([0], "useradd -m kim && echo '\\kim' >/home/kim/.forward && chown kim /home/kim/.forward")
    try:
        send(host, "root", "kim", word)
        wait_for(host, "/var/mail/kim", word)
    finally:
        host.run_expect([0], "userdel -r kim; rm -f /var/mail/kim")


def test_nothing_lies_unread(host: t.Any) -> None:
    assert host.check_output("ls -A /var/mail") == ""


def test_bounce_of_a_header_that_is_not_ascii(site: Site, host: t.Any) -> None:
    word, alice = token(), site.account("alice")
    send(host, "root", f"nobody@{site.domain}", f"Prüfung {word}", "-f", alice.address)
    for bounces in until(lambda: received(site.server, alice, "Undelivered")):
        if any(word.encode() in bounce for bounce in bounces):
            return
    raise AssertionError(f"{len(bounces)} other bounces")


def test_program_whose_header_is_not_ascii(site: Site, host: t.Any) -> None:
    word, alice = token(), site.account("alice")
    send(host, "root", alice.address, f"Prüfung {word}")
    (delivered,) = received(site.server, alice, word)
    assert f"Subject: Prüfung {word}\r\n".encode() in delivered
