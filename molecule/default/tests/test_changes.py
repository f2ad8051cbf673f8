# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Changed values are applied while the daemons run; and mail is sent through relays."""

import json
import pathlib
import typing as t

import pytest
from conftest import Site, play
from mailclient import Imap, Smtp, deliver, mail, submit, token, until

testinfra_hosts = ["ansible://mail"]

RELAY_NAME = "client.test"
RELAY_PORTS = {"everything": 2587, "partner.example": 3587}


class Change(t.NamedTuple):
    """What the play was run again with, and what was seen before."""

    processes: str
    session: Imap
    relay: t.Any
    folders: t.Dict[str, str]


def processes(host: t.Any) -> str:
    return t.cast(str, host.check_output("cat /var/spool/postfix/pid/master.pid /run/dovecot/master.pid"))


@pytest.fixture(scope="module")
def relay(site: Site, host: t.Any, request: pytest.FixtureRequest) -> t.Iterator[t.Tuple[t.Any, t.Dict[str, str]]]:
    """Two relays on the machine with the clients, and the folders in which they keep what they get."""
    machine = host.get_host("ansible://client", ansible_inventory=request.config.option.ansible_inventory)
    # each mail host has relays of its own, at ports of their own
    name = site.inventory["inventory_hostname"]
    number = site.inventory["groups"]["mail"].index(name)
    home = f"/var/tmp/relay-{name}"
    script = (pathlib.Path(__file__).parent / "relay.py").read_text(encoding="utf-8")
    machine.check_output("rm -rf %s && mkdir %s && printf %%s %s > %s/relay.py", home, home, script, home)
    machine.check_output(
        f"openssl req -x509 -newkey rsa:2048 -nodes -days 2 -keyout {home}/key -out {home}/certificate"
        f" -subj /CN={RELAY_NAME} -addext subjectAltName=DNS:{RELAY_NAME}"
    )
    host.check_output("printf %%s %s > /etc/ssl/relay.pem", machine.check_output("cat %s/certificate", home))
    folders = {}
    for domain, port in RELAY_PORTS.items():
        folders[domain] = f"{home}/{domain}"
        login = f"user-of-{domain} 'pass: {domain}'"
        program = f"python3 {home}/relay.py {port + number} {home}/certificate {home}/key {login} {folders[domain]}"
        machine.check_output(f"mkdir {folders[domain]} && systemd-run --collect --unit=relay-{name}-{port} {program}")
    yield machine, folders
    for port in RELAY_PORTS.values():
        machine.check_output(f"systemctl stop relay-{name}-{port}")


@pytest.fixture(scope="module")
def change(site: Site, host: t.Any, relay: t.Tuple[t.Any, t.Dict[str, str]]) -> t.Iterator[Change]:
    """The play was run again with some values changed. They are put back afterwards."""
    session = Imap(site.server).log_in(site.account("bob"))
    before = processes(host)
    number = site.inventory["groups"]["mail"].index(site.inventory["inventory_hostname"])
    done = play(
        site,
        {
            "postfix_message_size": 31457280,
            "dovecot_quota": "300M",
            "postfix_main": {"smtp_tls_CAfile": "/etc/ssl/relay.pem"},
            "postfix_relays": [
                {
                    "host": RELAY_NAME,
                    "port": port + number,
                    "username": f"user-of-{domain}",
                    "password": f"pass: {domain}",
                    **({} if domain == "everything" else {"domains": [domain]}),
                }
                for domain, port in RELAY_PORTS.items()
            ],
        },
    )
    assert done.code == 0, done.output
    for domain in RELAY_PORTS:
        assert f"pass: {domain}" not in done.output
    yield Change(before, session, *relay)
    done = play(site, {})
    assert done.code == 0, done.output


def test_daemons_are_the_same(host: t.Any, change: Change) -> None:
    """Reloaded, not restarted."""
    assert processes(host) == change.processes


def test_session_goes_on(change: Change) -> None:
    """Who is logged in notices nothing."""
    assert change.session.noop()[0] == "OK"
    assert change.session.select("INBOX")[0] == "OK"


@pytest.mark.usefixtures("change")
@pytest.mark.parametrize("port", [25, 587, 465])
def test_message_size(site: Site, port: int) -> None:
    with Smtp(site.server, port) as smtp:
        assert smtp.esmtp_features["size"] == "31457280"


@pytest.mark.usefixtures("change")
def test_quota(site: Site) -> None:
    with Imap(site.server).log_in(site.account("ordinary")) as imap:
        assert imap.quota()[1] == 300 * 1024


def kept_by(change: Change, domain: str, word: str, recipients: int = 1) -> t.List[t.Dict[str, t.Any]]:
    """The mails with this word that a relay has taken, once there are so many recipients."""
    for found in until(lambda: change.relay.run("cat %s/*", change.folders[domain]).stdout):
        entries = [json.loads(line) for line in found.replace("}{", "}\n{").splitlines()]
        mails = [entry for entry in entries if word in entry["content"]]
        if sum(len(entry["recipients"]) for entry in mails) >= recipients:
            break
    return mails


@pytest.mark.parametrize(
    ("recipient", "domain"),
    [("somebody@elsewhere.example", "everything"), ("somebody@partner.example", "partner.example")],
)
def test_leaves_through_relay(site: Site, change: Change, recipient: str, domain: str) -> None:
    """After TLS with the relay's certificate verified, and with the login that belongs to this relay."""
    word, alice = token(), site.account("alice")
    message = mail(alice.address, recipient, word)
    submit(site.server, alice, recipient, message)
    (kept,) = kept_by(change, domain, word)
    assert kept["login"] == f"user-of-{domain}"
    assert kept["sender"] == alice.address
    assert kept["recipients"] == [recipient]
    assert kept["content"].encode().endswith(message)


def test_addresses_elsewhere_in_any_form(site: Site, change: Change) -> None:
    """An alias leads to addresses that no mailbox here could have. They are quoted on the way, as RFC 5321 wants it."""
    word, phones = token(), f"phones@{site.domain}"
    deliver(site.server, phones, mail("somebody@elsewhere.example", phones, word))
    kept = kept_by(change, "everything", word, 4)
    assert sorted(recipient for entry in kept for recipient in entry["written"]) == [
        '".abc"@ezweb.example',
        '"taro..y."@docomo.example',
        '"two, words"@quoted.example',
        "c.d@quoted.example",
    ]
