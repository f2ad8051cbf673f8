# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Logins: every protocol accepts and refuses the same ones."""

import concurrent.futures
import imaplib
import poplib
import time
import typing as t

import pytest
from conftest import Site
from mailclient import Account, Imap, Pop3, Server, Sieve, SieveError, Smtp

testinfra_hosts = ["ansible://mail"]

#: What the server says to a login: "" if it lets in.
Login = t.Callable[[Server, Account], str]


def smtp_login(port: int, mechanism: str) -> Login:
    def login(server: Server, account: Account) -> str:
        with Smtp(server, port) as smtp:
            reply = smtp.authenticate(account, mechanism)
            return "" if reply.code == 235 else f"{reply.code} {reply.text.decode()}"

    return login


def imap_login(port: int, command: str) -> Login:
    def login(server: Server, account: Account) -> str:
        with Imap(server, port) as imap:
            try:
                if command == "AUTHENTICATE":
                    imap.log_in(account)
                else:
                    # as a quoted string with UTF-8 in it, since that is what clients send
                    setattr(imap, "_encoding", "utf-8")  # noqa: B010
                    imap.login(account.address, account.password)
            except imaplib.IMAP4.error as error:
                return str(error)
            return ""

    return login


def pop3_login(port: int) -> Login:
    def login(server: Server, account: Account) -> str:
        with Pop3(server, port) as pop:
            try:
                pop.log_in(account)
            except poplib.error_proto as error:
                return str(error)
            return ""

    return login


def sieve_login(server: Server, account: Account) -> str:
    with Sieve(server) as sieve:
        try:
            sieve.log_in(account)
        except SieveError as error:
            return str(error)
        return ""


SENDING: t.Dict[str, Login] = {
    "587 PLAIN": smtp_login(587, "PLAIN"),
    "587 LOGIN": smtp_login(587, "LOGIN"),
    "465 PLAIN": smtp_login(465, "PLAIN"),
    "465 LOGIN": smtp_login(465, "LOGIN"),
}
READING: t.Dict[str, Login] = {
    "993 AUTHENTICATE": imap_login(993, "AUTHENTICATE"),
    "993 LOGIN": imap_login(993, "LOGIN"),
    "143": imap_login(143, "AUTHENTICATE"),
    "995": pop3_login(995),
    "110": pop3_login(110),
    "4190": sieve_login,
}
ALL = {**SENDING, **READING}
#: Enough to see that the answers are the same.
ONE_OF_EACH = ["587 PLAIN", "465 LOGIN", "993 LOGIN", "995", "4190"]

everywhere = pytest.mark.parametrize("protocol", ALL)
reading = pytest.mark.parametrize("protocol", READING)


@everywhere
@pytest.mark.parametrize("name", ["alice", "odd", "hashed"])
def test_logs_in(site: Site, name: str, protocol: str) -> None:
    assert ALL[protocol](site.server, site.account(name)) == ""


def test_odd_password_is_odd(site: Site) -> None:
    password = site.account("odd").password
    assert all(piece in password for piece in (" ", "%", '"', "\\"))
    assert not password.isascii()
    assert len(password.encode()) > 72


@pytest.mark.parametrize("port", [143, 110, 4190])
def test_no_login_in_clear(site: Site, port: int) -> None:
    alice = site.account("alice")
    if port == 143:
        with Imap(site.server, 143, starttls=False) as imap:
            assert "LOGINDISABLED" in imap.capabilities
            assert not [word for word in imap.capabilities if word.startswith("AUTH=")]
            for attempt in (lambda: imap.login(*alice), lambda: imap.log_in(alice)):
                with pytest.raises(imaplib.IMAP4.error, match="(?i)cleartext|plaintext|disabled|unsupported|TLS"):
                    attempt()
    elif port == 110:
        with Pop3(site.server, 110, starttls=False) as pop:
            assert "SASL" not in pop.capa() or not pop.capa()["SASL"]
            with pytest.raises(poplib.error_proto, match="(?i)cleartext|plaintext|TLS"):
                pop.log_in(alice)
    else:
        with Sieve(site.server, starttls=False) as sieve:
            assert '"SASL" ""' in sieve.capabilities
            with pytest.raises(SieveError):
                sieve.log_in(alice)


# Each failed login is answered two seconds late, so they all come at once. They come from an address of their own, and
# the tests look at what each was answered.

NOT_LET_IN = [
    "wrong password",
    "unknown user",
    "unknown domain",
    "disabled",
    "differs after byte 72",
    "cut off at byte 72",
]


def refused_accounts(site: Site) -> t.Dict[str, Account]:
    alice, odd = site.account("alice"), site.account("odd")
    return {
        "wrong password": alice._replace(password="wrong"),
        "unknown user": Account(f"nobody@{site.domain}", alice.password),
        "unknown domain": Account("alice@elsewhere.example", alice.password),
        "disabled": site.account("gone"),
        "differs after byte 72": odd._replace(password=odd.password[:-2] + "x" + odd.password[-1:]),
        "cut off at byte 72": odd._replace(password=odd.password.encode()[:72].decode()),
        "send-only": site.account("printer"),
    }


@pytest.fixture(scope="module")
def answers(site: Site) -> t.Dict[t.Tuple[str, str], str]:
    """What each of the refused is told on each protocol."""
    attempts = [(who, protocol) for who in NOT_LET_IN for protocol in ONE_OF_EACH]
    attempts += [("send-only", protocol) for protocol in READING]
    accounts = refused_accounts(site)
    with concurrent.futures.ThreadPoolExecutor(len(attempts)) as pool:
        said = pool.map(lambda attempt: ALL[attempt[1]](site.over_ipv6(), accounts[attempt[0]]), attempts)
        return dict(zip(attempts, said))


@pytest.mark.parametrize("who", NOT_LET_IN)
@pytest.mark.parametrize("protocol", ONE_OF_EACH)
def test_is_not_let_in(answers: t.Dict[t.Tuple[str, str], str], who: str, protocol: str) -> None:
    """And hears the same, whatever the reason: nobody learns who has an account here."""
    answer = answers[who, protocol]
    assert answer != ""
    if protocol in SENDING:
        assert answer.startswith("535 "), answer
    assert answer == answers["wrong password", protocol]


@reading
def test_send_only_account_does_not_read(answers: t.Dict[t.Tuple[str, str], str], protocol: str) -> None:
    assert answers["send-only", protocol] != ""


def test_an_old_password_keeps_nobody_out(site: Site) -> None:
    """A phone tries what was right once, all day long, and people behind the same router log in at once."""
    alice, here = site.account("alice"), site.over_ipv6()
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        tries = [(protocol, f"{n} years old") for protocol in SENDING for n in (1, 2)]
        said = pool.map(lambda one: SENDING[one[0]](here, alice._replace(password=one[1])), tries)
        assert {answer[:4] for answer in said} == {"535 "}
    for protocol in ONE_OF_EACH:
        began = time.monotonic()
        assert ALL[protocol](here, alice) == ""
        assert time.monotonic() - began < 5
