# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Limits: mail per login, greylisting of unknown senders, wrong passwords, connections.

The tests' own address does the work of many in all other tests, so floods don't count there. Here they do; they come
over IPv6, and whoever is in the right comes over IPv4.
"""

import concurrent.futures
import contextlib
import re
import smtplib
import socket
import time
import typing as t

import pytest
from conftest import MAIL_HOSTS, SCENARIO, Site, comes_back, site
from exposure import too_exposed
from mailclient import Account, Imap, Smtp, mail, submit, token, until
from test_internet import bring, play, read

LIMITED = {
    "postfix_main": {},
    "postfix_send_limits": {"hour": 5, "day": 100},
    "postfix_send_limits_by_login": [{"login": "bob@{{ mail_domains[0] }}", "hour": 50}],
    "postfix_greylisting": True,
    "postfix_greylisting_delay": 2,
}
STRANGER = "eve@none.test"
#: Seconds within which a client gets its turn, on a machine where other scenarios run as well. It waits for a minute.
PATIENCE = 15.0


def apply(**values: t.Any) -> str:
    """The role postfix alone, on all servers of ours at once."""
    sites = [site(name) for name in dict.fromkeys(MAIL_HOSTS)]
    return play(SCENARIO / "part.yml", *sites, parts=["postfix"], **values).output


@pytest.fixture(scope="module", autouse=True)
def limited() -> t.Iterator[None]:
    apply(**LIMITED)
    for one in map(site, dict.fromkeys(MAIL_HOSTS)):
        # what was counted in other tests, or an hour ago
        database = "/var/lib/port587-send-limits/sent.sqlite"
        one.host.check_output(f"rm {database}*; systemctl restart port587-send-limits")
    yield
    # test_off has done it, unless it was not asked for
    apply()


@pytest.fixture
def attacked(here: Site) -> Site:
    """The same, as who floods it sees it."""
    return here._replace(server=here.server._replace(address=here.host.ansible.get_variables()["vps_ipv6"]))


def send(here: Site, who: str, count: int) -> t.Tuple[int, str]:
    """A mail to so many recipients of the own domain."""
    account = here.account(who)
    recipients = [f"bob+{number}@{here.domain}" for number in range(count)]
    with Smtp(here.server, 587) as smtp:
        assert smtp.authenticate(account).code == 235
        try:
            smtp.sendmail(account.address, recipients, mail(account.address, recipients[0], token()), ["BODY=8BITMIME"])
        except smtplib.SMTPDataError as refused:
            return refused.smtp_code, str(refused.smtp_error)
    return 250, ""


# -- a stolen password ------------------------------------------------------------------------------------------------


def test_a_login_at_its_limit(here: Site) -> None:
    assert send(here, "alice", 6)[0] == 550
    assert send(here, "alice", 3)[0] == 250
    code, text = send(here, "alice", 3)
    assert code == 450
    assert re.search(
        rf"alice@{here.domain} may send to 5 recipients within one hour; try again in (59|60) min", text
    ), text
    assert send(here, "alice", 2)[0] == 250
    here.host.check_output("systemctl restart port587-send-limits")
    assert send(here, "alice", 1)[0] == 450
    # others send on, and this one may be allowed more
    assert send(here, "bob", 6)[0] == 250
    # and mail for the one at the limit comes in
    word = token()
    message = mail(f"bob@{here.domain}", f"alice@{here.domain}", word)
    submit(here.server, here.account("bob"), f"alice@{here.domain}", message, port=465)
    assert read(here, "alice", word)


@pytest.mark.parametrize("trouble", ["stop", "kill --signal=STOP"])
def test_nobody_counts(here: Site, trouble: str) -> None:
    """Mail goes on, and the limit is there again afterwards."""
    here.host.check_output(f"systemctl {trouble} port587-send-limits")
    try:
        began = time.monotonic()
        assert send(here, "alice", 1)[0] == 250
        assert time.monotonic() - began < 20
    finally:
        here.host.check_output(
            "systemctl kill --signal=CONT port587-send-limits; systemctl restart port587-send-limits"
        )
    for code, _text in until(lambda: send(here, "alice", 1)):
        if code == 450:
            return
    raise AssertionError(code)


# -- strangers --------------------------------------------------------------------------------------------------------


def test_greylisting(here: Site) -> None:
    """A pair of sender and recipient that nobody has seen."""
    word = token()
    sender = f"{word}@none.test"
    message = mail(sender, f"bob@{here.domain}", word)
    code, text = bring(here, sender, message)
    assert (code, "Greylisted, try again in 2 seconds" in text) == (450, True), text
    assert bring(here, sender, message)[0] == 450
    time.sleep(2)
    assert bring(here, sender, message)[0] == 250
    assert read(here, "bob", word)
    # whoever does not exist is refused at once, and leaves nothing behind
    assert bring(here, sender, message, "nobody")[0] == 550


def test_what_greylists_is_restricted(here: Site) -> None:
    assert too_exposed(here.host, "postgrey") == {}


def test_nobody_greylists(here: Site) -> None:
    here.host.check_output("systemctl stop postgrey")
    try:
        assert bring(here, f"{token()}@none.test", mail(STRANGER, f"bob@{here.domain}", token()))[0] == 250
    finally:
        here.host.check_output("systemctl start postgrey")


def test_what_greylists_comes_back(here: Site) -> None:
    comes_back(here, postgrey=(10023, "request=smtpd_access_policy\nclient_address=192.0.2.1\n\n", "action="))


# -- brute force and floods -------------------------------------------------------------------------------------------


def try_submission(site: Site, seconds: float) -> t.List[int]:
    """As fast as it goes over one connection after the other, with a wrong password."""
    codes: t.List[int] = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with contextlib.suppress(OSError, smtplib.SMTPException), Smtp(site.server, 587) as smtp:
            while time.monotonic() < end:
                codes.append(smtp.authenticate(Account(f"alice@{site.domain}", token())).code)
                if codes[-1] == 450:
                    time.sleep(0.2)
    return codes


def try_imap(site: Site, seconds: float) -> t.List[int]:
    codes: t.List[int] = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with contextlib.suppress(OSError, Imap.abort), Imap(site.server) as imap:
            while time.monotonic() < end:
                try:
                    imap.log_in(Account(f"alice@{site.domain}", token()))
                except Imap.error as exc:
                    # what is not even looked at is no try
                    codes.append(0 if "Too many wrong logins" in str(exc) else 1)
    return codes


@pytest.mark.parametrize(("port", "attempt", "most"), [(587, try_submission, 30), (993, try_imap, 80)])
def test_brute_force(
    here: Site, attacked: Site, port: int, attempt: t.Callable[[Site, float], t.List[int]], most: int
) -> None:
    """Twenty at once for six seconds try out passwords; what counts is how many were tried.

    Each is another one, as Dovecot bears with a client that tries an old password again and again.
    """
    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        running = [pool.submit(attempt, attacked, 6) for _ in range(20)]
        time.sleep(4)
        began = time.monotonic()
        with Smtp(here.server, 587) as smtp, Imap(here.server).log_in(here.account("alice")):
            assert smtp.authenticate(here.account("alice")).code == 235
        took = time.monotonic() - began
        tried = [code for one in running for code in one.result()]
    counts = {code: tried.count(code) for code in set(tried)}
    print(here.name, port, counts, took)
    assert counts.get(535, 0) + counts.get(1, 0) in range(1, most + 1)
    assert took < PATIENCE


@contextlib.contextmanager
def silent(site: Site, port: int, count: int) -> t.Iterator[t.List[socket.socket]]:
    """So many connections that say nothing."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(socket.create_connection((site.server.address, port), 10)) for _ in range(count)]


@pytest.mark.parametrize("port", [25, 587])
def test_a_flood_of_smtp(here: Site, attacked: Site, port: int) -> None:
    with silent(attacked, port, 60) as connections:
        greetings = []
        for one in connections:
            one.settimeout(10)
            greetings.append(one.recv(4))
        assert 0 < greetings.count(b"220 ") <= 30
        assert greetings.count(b"421 ") == 60 - greetings.count(b"220 ")
        with Smtp(here.server, port) as smtp:
            assert smtp.say("NOOP").code == 250


@pytest.mark.parametrize("port", [143, 993])
def test_a_flood_of_imap(here: Site, attacked: Site, port: int) -> None:
    """Who says nothing does not keep others out, however many there are of it."""
    with silent(attacked, port, 300):
        time.sleep(1)
        began = time.monotonic()
        with Imap(here.server, port).log_in(here.account("bob")):
            took = time.monotonic() - began
    print(here.name, port, took)
    assert took < PATIENCE


# -- and back ---------------------------------------------------------------------------------------------------------


def test_off() -> None:
    """What is wanted no more is ended; and then there is nothing to do. On all servers, after all that is above."""
    nothing: t.Dict[str, t.Any] = {"postfix_send_limits": {}, "postfix_send_limits_by_login": [], "postfix_main": {}}
    apply(**nothing)
    assert set(re.findall(r"changed=(\d+)", apply(**nothing))) == {"0"}
    for here in map(site, dict.fromkeys(MAIL_HOSTS)):
        for unit in ("postgrey", "port587-send-limits"):
            assert not here.host.service(unit).is_running
            assert here.host.run(f"systemctl is-enabled {unit}").stdout.strip() != "enabled"
        assert bring(here, f"{token()}@none.test", mail(STRANGER, f"bob@{here.domain}", token()))[0] == 250
        assert send(here, "bob", 60)[0] == 250
