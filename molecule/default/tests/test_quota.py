# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Mail to a full mailbox is refused at RCPT, under any address; accepted mail is delivered."""

import typing as t

import pytest
from conftest import Site
from mailclient import Imap, Smtp, deliver, mail, received, token

testinfra_hosts = ["ansible://mail"]

OUTSIDE = "somebody@elsewhere.example"
#: All ways to the same mailbox; the catch-all is made to lead there.
WAYS = [
    "brim@{domain}",
    "BRIM+shop@{domain}",
    "well@{second_domain}",
    "Well+shop@{second_domain}",
    "brimful@{domain}",
    "brimful+shop@{domain}",
    "twice@{domain}",
    "whoever@{second_domain}",
]


def address(site: Site, written: str) -> str:
    return written.format(domain=site.domain, second_domain=site.second_domain)


@pytest.fixture(scope="module")
def full(site: Site, host: t.Any) -> t.Iterator[None]:
    """A mailbox of 1 MB with more than that in it, which is what the catch-all leads to."""
    brim, table = site.account("brim"), "/etc/port587/accounts/aliases"
    with Imap(site.server).log_in(brim) as imap:
        imap.empty()
        # the last one may end above the limit
        for size in (900_000, 200_000):
            imap.append(
                "INBOX", None, None, mail(OUTSIDE, brim.address, "big", b"x" * 70 + b"\r\n" + b"y\r\n" * (size // 3))
            )
    word = token()
    deliver(site.server, brim.address, mail(OUTSIDE, brim.address, word, (b"x" * 70 + b"\r\n") * 3000))
    received(site.server, brim, word)
    # the text alone is enough: Postfix itself takes the mail either way, and warns of a text newer than its table
    line = f"@{site.second_domain}"
    host.check_output(f"cp -p {table} /root/ && sed -i 's/^{line} .*/{line} {brim.address}/' {table}")
    host.check_output(f"touch -r /root/aliases {table}")
    yield
    host.check_output(f"mv /root/aliases {table}")
    with Imap(site.server).log_in(brim) as imap:
        imap.empty()


@pytest.mark.usefixtures("full")
@pytest.mark.parametrize("way", WAYS)
def test_full_by_every_way(site: Site, way: str) -> None:
    with Smtp(site.server, 25) as smtp:
        assert smtp.ask(OUTSIDE, address(site, way)).code == 552
        assert smtp.ask("", address(site, way)).code == 552
        # the same client goes on with others
        assert smtp.ask(OUTSIDE, site.account("alice").address).code == 250


@pytest.mark.usefixtures("full")
@pytest.mark.parametrize("port", [587, 465])
def test_full_for_people_here_too(site: Site, port: int) -> None:
    alice = site.account("alice")
    with Smtp(site.server, port) as smtp:
        smtp.authenticate(alice)
        assert smtp.ask(alice.address, address(site, "brimful@{domain}")).code == 552
        assert smtp.ask(alice.address, address(site, "mixed@{domain}")).code == 250


@pytest.mark.usefixtures("full")
def test_a_full_one_among_several(site: Site, host: t.Any) -> None:
    """The others get the mail, and so does the one who has no room, since the sender may be forged."""
    word, mixed = token(), address(site, "mixed@{domain}")
    deliver(site.server, mixed, mail(OUTSIDE, mixed, word))
    for name in ("clients", "brim"):
        assert len(received(site.server, site.account(name), word)) == 1
    with Smtp(site.server, 25) as smtp:
        assert smtp.ask(OUTSIDE, address(site, "forwarded@{domain}")).code == 250
    assert (
        host.run("journalctl --quiet -u 'postfix*' | grep -E 'status=(bounced|deferred)' | grep -F brim@").stdout == ""
    )


@pytest.mark.usefixtures("full")
@pytest.mark.parametrize(
    ("trouble", "cure"),
    [
        ("systemctl stop port587-recipients", "systemctl start port587-recipients"),
        ("systemctl kill --signal=STOP port587-recipients", "systemctl kill --signal=CONT port587-recipients"),
        ("chmod 0000 /var/spool/postfix/private/quota-status", "chmod 0600 /var/spool/postfix/private/quota-status"),
    ],
)
def test_who_does_not_answer_stops_no_mail(site: Site, host: t.Any, trouble: str, cure: str) -> None:
    host.check_output(trouble)
    try:
        with Smtp(site.server, 25) as smtp:
            assert smtp.ask(OUTSIDE, address(site, "brimful@{domain}")).code == 250
    finally:
        host.check_output(cure)
    with Smtp(site.server, 25) as smtp:
        assert smtp.ask(OUTSIDE, address(site, "brimful@{domain}")).code == 552


def test_a_disabled_account_is_the_same_by_its_alias(site: Site, host: t.Any) -> None:
    for recipient in ("gone@{domain}", "left@{domain}"):
        word = token()
        deliver(site.server, address(site, recipient), mail(OUTSIDE, address(site, recipient), word))
        mails = f"/var/vmail/{site.domain}/gone/Maildir/new"
        host.check_output(f"for i in $(seq 100); do ! grep -rqs {word} {mails} || exit 0; sleep 0.1; done; exit 1")
