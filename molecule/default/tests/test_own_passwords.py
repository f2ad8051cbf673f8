# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A person changes the password of the mailbox, as webmail does it for them; and the administrator does."""

import concurrent.futures
import imaplib
import json
import pathlib
import socket
import typing as t

import controller
import pytest
from conftest import Site, play
from mailclient import Account, Imap
from test_logins import ALL, ONE_OF_EACH

testinfra_hosts = ["ansible://mail"]

VERIFY = pathlib.Path(__file__).parents[3] / "playbooks" / "verify.yml"
OLD = "from the administrator"
#: What the person takes instead, one after the other: words that other programs stumble over.
SECOND, THIRD, FOURTH = 'Zwei "große" Hüte: 漢字', "three; hats $(id) 100%", "four hats of the administrator"

#: Speaks poppassd's protocol, to the port or as an unprivileged user to the socket.
TALK = """
import json, socket, sys
where, lines = json.loads(sys.argv[1])
link = socket.create_connection(("127.0.0.1", 106)) if where == "port" else socket.socket(socket.AF_UNIX)
if where != "port":
    link.connect(where)
link.sendall("".join(line + "\\r\\n" for line in lines + ["quit"]).encode())
print(json.dumps(link.makefile(encoding="utf-8").read().splitlines()))
"""


def change(host: t.Any, address: str, old: str, new: str, where: str = "port") -> str:
    """The service's last words before it says goodbye."""
    lines = [f"user {address}", f"pass {old}", f"newpass {new}"]
    command = "setpriv --reuid=nobody --clear-groups python3 -c %s %s"
    said = json.loads(host.check_output(command, TALK, json.dumps([where, lines])))
    assert len(said) == 5, said
    return str(said[-2])


def stay(session: Imap) -> None:
    for _number in range(100):
        session.noop()


def assert_only(site: Site, account: Account, *wrong: str) -> None:
    """The account's password is let in everywhere, and none of the wrong ones anywhere."""
    for protocol in ONE_OF_EACH:
        assert ALL[protocol](site.server, account) == ""
    # each of them has to wait for its answer
    tries = [(protocol, account._replace(password=password)) for protocol in ONE_OF_EACH for password in wrong]
    with concurrent.futures.ThreadPoolExecutor(len(tries)) as pool:
        assert "" not in list(pool.map(lambda one: ALL[one[0]](site.server, one[1]), tries))


@pytest.fixture(scope="module")
def mailbox(site: Site, host: t.Any) -> t.Iterator[Account]:
    """The account, as the first change left it. Afterwards it has the password of the inventory again."""
    account = site.account("self")
    session = Imap(site.server).log_in(account)
    assert change(host, account.address.upper(), OLD, SECOND).startswith("200 ")
    # whoever was logged in with the old one is out
    with pytest.raises((imaplib.IMAP4.abort, OSError)):
        stay(session)
    session.shutdown()
    yield account._replace(password=SECOND)
    host.check_output("printf '%%s\\n' %s | port587-passwd %s", OLD, account.address)


def test_the_new_password_and_only_it(site: Site, mailbox: Account) -> None:
    assert_only(site, mailbox, OLD)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("wrong", THIRD, "the old password is wrong"),
        (SECOND, "hats", "less than 8 characters"),
        (SECOND, "Self2026", "the account's own name"),
        (SECOND, "elephants", "easily guessed"),
        (SECOND, SECOND, "is the old one"),
        ("x" * 3000, THIRD, ""),
    ],
)
def test_refused(site: Site, host: t.Any, mailbox: Account, old: str, new: str, words: str) -> None:
    if words:
        said = change(host, mailbox.address, old, new)
        assert said.startswith("500 Not changed: "), said
        assert words in said
    else:
        lines = [f"user {mailbox.address}", f"pass {old}", f"newpass {new}"]
        assert len(json.loads(host.check_output("python3 -c %s %s", TALK, json.dumps(["port", lines])))) == 2
    assert ALL["993 LOGIN"](site.server, mailbox) == ""


def test_two_at_the_same_moment(site: Site, host: t.Any, mailbox: Account) -> None:
    """One of them wins, as a whole; here over the socket."""
    path = "/run/port587-passwd/socket"
    new = {"first of the two hats", "second of the two hats"}
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        said = dict(zip(new, pool.map(lambda one: change(host, mailbox.address, SECOND, one, path), new)))
    won = [one for one in new if said[one].startswith("200 ")]
    assert len(won) == 1, said
    assert_only(site, mailbox._replace(password=won[0]), SECOND, *(new - set(won)))
    assert change(host, mailbox.address, won[0], SECOND).startswith("200 ")


def test_wrong_ones_are_limited(host: t.Any, site: Site, mailbox: Account) -> None:
    """Here of somebody else, since whoever tries too often has to wait, and logins do not."""
    bob = site.account("bob")
    said = [change(host, bob.address, f"wrong {number}", THIRD) for number in range(20)]
    assert sum("the old password is wrong" in one for one in said) <= 5
    assert "too many wrong passwords; try again in" in change(host, bob.address, bob.password, THIRD)
    assert ALL["993 LOGIN"](site.server, bob) == ""
    assert "wrong 1" not in host.check_output("journalctl -u port587-passwd")


@pytest.mark.parametrize("account", ["gone", "nobody"])
def test_no_login_no_change(host: t.Any, site: Site, account: str) -> None:
    password = site.account(account).password if account == "gone" else "anything"
    assert "the old password is wrong" in change(host, f"{account}@{site.domain}", password, THIRD)


START = "systemctl start port587-passwd && until ss -Hlnt | grep -q ':106 '; do sleep 0.1; done"


def test_a_full_disk(host: t.Any, site: Site, mailbox: Account) -> None:
    """The passwd-file stays as it is. The disk is full where its new version would be written."""
    there, before = "/etc/port587/accounts", "/run/accounts-before"
    host.check_output(f"systemctl stop port587-passwd && cp -a {there} {before}")
    host.check_output(f"mount -t tmpfs -o size=1M,mode=755 tmpfs {there} && cp -a {before}/. {there}")
    host.check_output(f"{START} && ! dd if=/dev/zero of={there}/filler")
    try:
        assert "No space left on device" in change(host, mailbox.address, SECOND, THIRD)
        assert_only(site, mailbox, THIRD)
        assert "staged" not in host.check_output(f"ls -A {there}")
    finally:
        host.check_output(f"systemctl stop port587-passwd && umount {there} && rm -r {before}")
        host.check_output(START)


def test_nobody_reaches_it_from_elsewhere(site: Site) -> None:
    for server in (site.server, site.over_ipv6()):
        with pytest.raises(ConnectionRefusedError), socket.create_connection((server.address, 106), 5):
            pass


def test_the_administrator_sets_one(host: t.Any, site: Site, mailbox: Account) -> None:
    command = "printf '%%s\\n' %s | port587-passwd %s"
    host.check_output(command, FOURTH, mailbox.address)
    assert_only(site, mailbox._replace(password=FOURTH), SECOND)
    for password, address, words in (
        ("hats", mailbox.address, "less than 8 characters"),
        (THIRD, f"nobody@{site.domain}", "has no account on this server"),
    ):
        refused = host.run(command, password, address)
        assert refused.rc == 1
        assert words in refused.stderr
    refused = host.run("setpriv --reuid=nobody --clear-groups port587-passwd %s", mailbox.address)
    assert refused.rc == 1
    assert "only root" in refused.stderr
    host.check_output(command, SECOND, mailbox.address)


def test_a_run_leaves_it_alone(site: Site, mailbox: Account) -> None:
    done = play(site, {}, "--tags", "accounts")
    assert done.code == 0
    assert done.changed == 0
    assert_only(site, mailbox, OLD)


@pytest.mark.one_host
def test_verify_does_not_take_the_old_password_for_a_fault(site: Site, mailbox: Account) -> None:
    name = site.inventory["inventory_hostname"]
    done = controller.play(VERIFY, name, verify_address=mailbox.address, verify_password=OLD)
    assert done.code == 0, done.output
    assert "#password-changed" in done.output
    assert "#login-refused" not in done.output


def test_a_run_that_would_replace_it_says_so_before(site: Site, mailbox: Account) -> None:
    done = play(site, {"accounts_update_password": "always"}, "--check", "--tags", "accounts")
    assert done.code == 0
    said = " ".join(done.output.split())
    assert "passwords that were changed on the server are replaced with the given ones" in said
    assert mailbox.address in said.partition("given ones: ")[2].partition(";")[0]
    assert ALL["993 LOGIN"](site.server, mailbox) == ""
