# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""App passwords: each for its protocols, until its day, until it is removed; whoever made it."""

import concurrent.futures
import imaplib
import json
import poplib
import re
import typing as t

import pytest
from conftest import PEOPLE, Vps
from mailclient import Account, Imap, Pop3, Server, Sieve, SieveError, Smtp, mail, received, submit, token, until

testinfra_hosts = ["ansible://mail"]

PHONE, READER = "phone1-is-alices-own-one", "reader-is-alices-own-one"
FILE = "/etc/port587/accounts/app_passwords.passwd"
#: Speaks the service's protocol as an unprivileged user.
TALK = """
import json, socket, sys
link = socket.create_connection(("127.0.0.1", 106))
link.sendall("".join(line + "\\r\\n" for line in json.loads(sys.argv[1]) + ["quit"]).encode())
print(json.dumps(link.makefile(encoding="utf-8").read().splitlines()))
"""


def imap(server: Server, account: Account) -> bool:
    try:
        Imap(server).log_in(account).logout()
    except imaplib.IMAP4.error:
        return False
    return True


def pop3(server: Server, account: Account) -> bool:
    try:
        with Pop3(server) as session:
            session.log_in(account)
    except poplib.error_proto:
        return False
    return True


def smtp(server: Server, account: Account) -> bool:
    with Smtp(server, 587) as session:
        return session.authenticate(account).code == 235


def sieve(server: Server, account: Account) -> bool:
    try:
        with Sieve(server) as session:
            session.log_in(account)
    except SieveError:
        return False
    return True


LOGINS: t.Dict[str, t.Callable[[Server, Account], bool]] = {"imap": imap, "pop3": pop3, "smtp": smtp, "sieve": sieve}


def works_for(vps: Vps, account: Account) -> t.Set[str]:
    # the server lets whoever is wrong wait for two seconds
    with concurrent.futures.ThreadPoolExecutor(len(LOGINS)) as pool:
        let_in = pool.map(lambda login: login(vps.server, account), LOGINS.values())
        return {protocol for protocol, good in zip(LOGINS, let_in) if good}


def ask(vps: Vps, *lines: str) -> str:
    """The service's last words before it says goodbye."""
    command = ("setpriv", "--reuid=nobody", "--clear-groups", "python3", "-c", TALK, json.dumps(lines))
    return str(json.loads(vps.run(*command))[-2])


@pytest.mark.parametrize(
    ("name", "password", "protocols"),
    [
        ("alice", "alice's own", {"imap", "pop3", "smtp", "sieve"}),
        ("alice", PHONE, {"imap", "pop3", "smtp"}),
        ("alice", READER, {"imap"}),
        ("alice", "hashed elsewhere", {"sieve"}),
        # expired
        ("alice", "expired-long-before-now", set()),
        # the beginning of one, and less than that
        ("alice", "phone1-is-alices-own-on", set()),
        ("alice", "phone", set()),
        # of somebody else
        ("bob", PHONE, set()),
        ("printer", "tray01-of-the-printer", {"smtp"}),
        ("locked", "phone1-of-one-locked-out", set()),
    ],
)
def test_works_for_its_protocols_alone(vps: Vps, name: str, password: str, protocols: t.Set[str]) -> None:
    assert works_for(vps, vps.account(name, password)) == protocols


def test_a_device_sends_and_reads_as_the_account(vps: Vps) -> None:
    """The sender check sees the account, and so does the mailbox."""
    phone, word = vps.account("alice", PHONE), token()
    submit(
        vps.server,
        phone._replace(address=phone.address.upper()),
        vps.bob.address,
        mail(phone.address, vps.bob.address, word),
    )
    received(vps.server, vps.bob, word)
    with Smtp(vps.server, 587) as session:
        session.authenticate(phone)
        assert session.ask(vps.bob.address, vps.bob.address).code == 553


def test_the_log_says_which_one(vps: Vps) -> None:
    since = vps.run("date", "+%F %T").strip()
    assert imap(vps.server, vps.account("alice", READER))
    assert smtp(vps.server, vps.account("alice", PHONE))
    wanted = [
        r"imap-login: .*user=<alice@.* app=<reader>",
        r"alice@\S+ logged in from \S+ by smtp with the app password phone",
    ]
    for log in until(lambda: vps.run("journalctl", "--no-pager", "--since", since), 10):
        if all(re.search(line, log) for line in wanted):
            break
    assert all(re.search(line, log) for line in wanted), log
    assert "-alices-own" not in vps.run("journalctl", "--no-pager")


def test_people_make_and_remove_their_own(vps: Vps) -> None:
    alice = vps.account("alice")
    me = (f"user {alice.address}", f"pass {alice.password}")
    said = ask(vps, *me, "app tablet")
    assert re.fullmatch(r"200 [a-z0-9]{6}(-[a-z0-9]{5}){3}", said), said
    tablet = alice._replace(password=said[4:])
    assert works_for(vps, tablet) == {"imap", "pop3", "smtp"}
    assert "tablet (imap pop3 smtp, does not expire, made here)" in ask(vps, *me, "apps")
    for line, answer in {
        "app tablet": "there is one with the name tablet already",
        "app Tab let": "is not a name",
        "removeapp phone": "given by the administrator",
        "removeapp other": "there is no app password",
    }.items():
        assert answer in ask(vps, *me, line)
    # it is good for mail, not for making others
    assert "the old password is wrong" in ask(vps, me[0], f"pass {tablet.password}", "app another")

    # a run leaves it alone, and changes nothing
    assert vps.play("converge.yml", "--tags=accounts").changed == 0
    session = Imap(vps.server).log_in(tablet)
    assert ask(vps, *me, "removeapp tablet") == "200 App password removed"
    assert session.is_ended()
    assert works_for(vps, tablet) == set()
    assert imap(vps.server, alice)


def test_the_administrator_makes_one(vps: Vps) -> None:
    desk = vps.account("bob", vps.run("port587-passwd", "--app", "desk", vps.bob.address).strip())
    assert imap(vps.server, desk)
    assert vps.run("port587-passwd", "--apps", vps.bob.address).startswith("desk (")
    vps.run("port587-passwd", "--remove-app", "desk", vps.bob.address)
    assert not imap(vps.server, desk)


def test_expires_without_a_run(vps: Vps) -> None:
    """As its timer does at midnight: here the day in the file is another one."""
    reader = vps.account("alice", READER)
    session = Imap(vps.server).log_in(reader)
    vps.run("sed", "-i", "s/2099-12-31/2026-01-01/", FILE)
    vps.run("systemctl", "start", "port587-app-passwords.service")
    assert session.is_ended()
    assert works_for(vps, reader) == set()
    assert imap(vps.server, vps.account("alice", PHONE))
    assert "00:00:00 UTC" in vps.run("systemctl", "cat", "port587-app-passwords.timer")
    assert vps.run("systemctl", "is-active", "port587-app-passwords.timer").strip() == "active"


def accounts(apps: t.List[t.Dict[str, t.Any]]) -> t.List[t.Dict[str, t.Any]]:
    """All of converge.yml, the first of them with these app passwords."""
    return [{**PEOPLE[0], "app_passwords": apps}, *PEOPLE[1:]]


#: Prints the processor time of Dovecot's authentication in ticks: its hashes, above all.
TICKS = """awk '{print $14 + $15}' /proc/$(pgrep -n -f '^dovecot/auth')/stat"""
LOGINS_MEASURED = 15


def cost(vps: Vps, account: Account) -> int:
    """Processor time of so many logins, in hundredths of a second."""
    before = int(vps.run("sh", "-c", TICKS))
    for _number in range(LOGINS_MEASURED):
        assert imap(vps.server, account)
    return int(vps.run("sh", "-c", TICKS)) - before


def test_the_number_does_not_matter(vps: Vps) -> None:
    """A login computes one hash, with fifty app passwords too. And removing one in the data ends its sessions."""
    many = [{"name": f"app{number}", "password": f"app{number:03}-and-a-secret-{number}"} for number in range(50)]
    costs: t.Dict[str, int] = {}
    for number in (0, 5, 50):
        assert vps.play("accounts.yml", mail_accounts=accounts(many[:number])).code == 0
        costs[f"own password, {number}"] = cost(vps, vps.alice)
        if number:
            costs[f"app password, {number}"] = cost(vps, vps.alice._replace(password=many[number - 1]["password"]))
    print(vps.name, costs)
    # a second hash would double it
    assert max(costs.values()) < 1.7 * min(costs.values()), costs

    last = vps.alice._replace(password=many[49]["password"])
    session = Imap(vps.server).log_in(last)
    shown = vps.play("accounts.yml", mail_accounts=accounts(many[:49]))
    assert shown.changed == 1
    assert "app49" in shown.output
    assert "secret" not in shown.output
    assert "$argon2" not in shown.output
    assert session.is_ended()
    assert not imap(vps.server, last)
