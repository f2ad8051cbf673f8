# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The files that Dovecot and Postfix read, from a site that has been read without problems."""

import random
import typing as t

import pytest
from ansible_collections.port587.mail.plugins.module_utils._accounts import app_passwords, sessions
from ansible_collections.port587.mail.plugins.module_utils._accounts import files as accounts_files
from ansible_collections.port587.mail.plugins.module_utils._accounts import read as read_accounts
from ansible_collections.port587.mail.plugins.module_utils._accounts.site import Site, routes, senders


def site(
    accounts: t.List[t.Dict[str, t.Any]],
    aliases: t.Any = (),
    domains: t.Any = ("example.com",),
    postmaster: str = "",
    shared: t.Any = (),
) -> Site:
    complete = [dict({"password": "secret"}, **account) for account in accounts]
    read, problems = read_accounts.read(domains, complete, aliases, "mail.example.com", postmaster, shared=shared)
    assert problems == []
    return read


def table(text: str) -> t.Dict[str, str]:
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    assert lines == sorted(lines)
    return dict(line.split(" ", 1) for line in lines)


EVE = {
    "address": "Eve@Example.com",
    "aliases": ["Info@example.com"],
    "senders": ["@example.com", "eve@elsewhere.example"],
}
BOB = {"address": "bob@example.com", "enabled": False, "quota": "1g"}
PRINTER = {"address": "printer@example.com", "send_only": True, "quota": 0}


def test_domains_and_mailboxes() -> None:
    maps = accounts_files.maps(site([EVE, BOB, PRINTER], domains=["Example.com", "example.net"]))
    assert table(maps["domains"]) == {"example.com": "OK", "example.net": "OK"}
    # a disabled account still receives, a send-only one never did
    assert table(maps["mailboxes"]) == {"eve@example.com": "OK", "bob@example.com": "OK"}


def test_aliases() -> None:
    aliases = [
        {"address": "team@example.com", "to": ["EVE@example.com", "bob@example.com", "X@Elsewhere.example"]},
        {"address": "printer@example.com", "to": ["bob@example.com"]},
        {"address": "abuse@example.com", "to": ["bob@example.com"]},
    ]
    assert table(accounts_files.maps(site([EVE, BOB, PRINTER], aliases))["aliases"]) == {
        "info@example.com": "eve@example.com",
        "team@example.com": "eve@example.com,bob@example.com,x@elsewhere.example",
        "printer@example.com": "bob@example.com",
        "abuse@example.com": "bob@example.com",
        "postmaster@example.com": "eve@example.com",
    }


def test_own_aliases() -> None:
    """Postfix leaves them as they are, and Dovecot finds the mailbox; nobody logs in with them."""
    kim = {"address": "kim@example.com", "aliases": ["k@example.com"], "quota": "2G"}
    found = site([EVE, kim])
    assert table(accounts_files.maps(found)["own_aliases"]) == {
        "info@example.com": "info@example.com",
        "k@example.com": "k@example.com",
    }
    assert accounts_files.own_aliases(found, "/var/vmail").splitlines()[1:] == [
        "info@example.com:::::::userdb_user=eve@example.com",
        "k@example.com:::::::userdb_user=kim@example.com userdb_quota_rule=*:storage=2G userdb_quota_storage_size=2G",
    ]


def test_catch_all_leaves_the_mailboxes_alone() -> None:
    aliases = [{"address": "@example.com", "to": ["bob@example.com"]}]
    accounts = [EVE, BOB, PRINTER, {"address": "kim@example.net"}]
    found = table(accounts_files.maps(site(accounts, aliases, ["example.com", "example.net"]))["aliases"])
    assert found["@example.com"] == "bob@example.com"
    assert found["eve@example.com"] == "eve@example.com"
    assert found["bob@example.com"] == "bob@example.com"
    assert "printer@example.com" not in found
    assert "kim@example.net" not in found


def test_postmaster_who_has_a_mailbox_needs_no_alias() -> None:
    found = table(accounts_files.maps(site([{"address": "postmaster@example.com"}]))["aliases"])
    assert found == {"abuse@example.com": "postmaster@example.com"}


def test_senders() -> None:
    aliases = [
        {"address": "team@example.com", "to": ["eve@example.com"], "senders": ["Bob@example.com", "eve@example.com"]},
        {"address": "all@example.com", "to": ["eve@example.com"]},
    ]
    assert table(accounts_files.maps(site([EVE, BOB, PRINTER], aliases))["senders"]) == {
        "eve@example.com": "eve@example.com",
        "info@example.com": "eve@example.com",
        "@example.com": "eve@example.com",
        "eve@elsewhere.example": "eve@example.com",
        "bob@example.com": "bob@example.com",
        "printer@example.com": "printer@example.com",
        "team@example.com": "bob@example.com,eve@example.com",
        "postmaster@example.com": "eve@example.com",
        "abuse@example.com": "eve@example.com",
    }


def test_a_postmaster_elsewhere_may_not_send_from_here() -> None:
    senders = table(accounts_files.maps(site([EVE], postmaster="x@elsewhere.example"))["senders"])
    assert "postmaster@example.com" not in senders


def test_passwd() -> None:
    hashes = {"eve@example.com": "{A}1", "bob@example.com": "{A}2", "printer@example.com": "{A}3"}
    text = accounts_files.passwd(site([dict(EVE, name="Eve Müller"), BOB, PRINTER]), hashes)
    assert text.splitlines()[1:] == [
        "bob@example.com:{A}2::::::"
        "userdb_quota_rule=*:storage=1G userdb_quota_storage_size=1G allow_nets=255.255.255.255/32",
        "eve@example.com:{A}1:::Eve Müller:::",
        "printer@example.com:{A}3::::::userdb_quota_rule=*:storage=0 userdb_quota_storage_size=0 nologin=y",
    ]


APPS = [
    {"name": "phone", "password": "phone1-and-a-secret"},
    {"name": "desk", "password": "desk01-and-a-secret", "protocols": ["sieve"], "expires": "2027-03-31"},
]


def test_app_passwords() -> None:
    read = site([dict(EVE, app_passwords=APPS), dict(BOB, app_passwords=APPS[1:])])
    hashes = {"eve@example.com/phone": "{A}1", "eve@example.com/desk": "{A}2", "bob@example.com/desk": "{A}3"}
    text = accounts_files.app_passwords(read, hashes)
    assert text.splitlines()[1:] == [
        "bob@example.com/sieve/desk01:{A}3:::desk 2027-03-31 given:::app=desk allow_nets=255.255.255.255/32",
        "eve@example.com/imap/phone1:{A}1:::phone never given:::app=phone",
        "eve@example.com/pop3/phone1:{A}1:::phone never given:::app=phone",
        "eve@example.com/sieve/desk01:{A}2:::desk 2027-03-31 given:::app=desk",
        "eve@example.com/smtp/phone1:{A}1:::phone never given:::app=phone",
    ]
    phone, desk = read.accounts[0].app_passwords
    there = app_passwords.read(text + "nonsense\na/b:c:d\na/b/c:d:e:f:g\n")
    assert sorted(there) == ["bob@example.com", "eve@example.com"]
    assert there["eve@example.com"] == [
        phone._replace(password=None, password_hash="{A}1"),
        desk._replace(password=None, password_hash="{A}2"),
    ]
    kept, logins = app_passwords.without(text, lambda _address, one: app_passwords.expired(one, "2027-03-31"))
    assert logins == ["bob@example.com", "eve@example.com"]
    assert kept == "".join(line for line in text.splitlines(True) if "desk" not in line)
    assert app_passwords.without(text, lambda _address, one: app_passwords.expired(one, "2027-03-30")) == (text, [])


def test_diff_shows_that_a_password_changed_and_not_which() -> None:
    before = {"eve@example.com": ("{A}old", ":::"), "bob@example.com": ("{A}same", ":::")}
    after = {
        "eve@example.com": ("{A}new", ":::"),
        "bob@example.com": ("{A}same", ":::x"),
        "kim@example.com": ("{A}k", ""),
    }
    shown = accounts_files.masked(before, after)
    assert shown["before"] == "bob@example.com:{masked}::::\neve@example.com:{masked}::::\n"
    assert shown["after"] == (
        "bob@example.com:{masked}::::x\neve@example.com:{masked, changed}::::\nkim@example.com:{masked}:\n"
    )


def test_a_file_that_is_no_passwd_file_is_read_as_far_as_it_goes() -> None:
    assert accounts_files.read_passwd("") == {}
    assert accounts_files.read_passwd("#a:b:c\n\nnonsense\na:b\nx@y:{A}1:::\n") == {"x@y": ("{A}1", "::")}


def problems(accounts: t.List[t.Dict[str, t.Any]], aliases: t.List[t.Dict[str, t.Any]]) -> t.List[str]:
    return read_accounts.read(["example.com"], accounts, aliases, "", "x@elsewhere.example")[1]


@pytest.mark.parametrize("seed", range(20))
def test_whatever_is_accepted_comes_back_from_the_files_as_it_was(seed: int) -> None:
    """Hostile text either is refused, or stays in its own field of its own line."""
    dice = random.Random(seed)
    accounts: t.List[t.Dict[str, t.Any]] = []
    aliases: t.List[t.Dict[str, t.Any]] = []

    def text(most: int) -> str:
        letters = "abcdefgh" if dice.random() < 0.5 else "ab+.-_:@ ,#{}*%'\"\\|\n\r\t\0\x85\u2028é=/~&!"
        return "".join(dice.choice(letters) for _ in range(dice.randint(1, most)))

    for _ in range(200):
        account = {
            "address": text(4) + "@example.com",
            "password": "secret",
            "name": text(6),
            "aliases": [text(4) + "@example.com"],
            "senders": [text(4) + "@elsewhere.example"],
            "quota": dice.choice(["1G", "0", text(3)]),
        }
        alias = {"address": text(4) + "@example.com", "to": [text(5) + "@elsewhere.example"]}
        if not problems([*accounts, account], aliases):
            accounts.append(account)
        if not problems(accounts, [*aliases, alias]):
            aliases.append(alias)
    assert accounts
    assert aliases

    read, _ = read_accounts.read(["example.com"], accounts, aliases, "", "x@elsewhere.example")
    written = accounts_files.passwd(read, {account.address: "{X}h" for account in read.accounts})
    lines = accounts_files.read_passwd(written)
    # what any reader may take for the end of a line
    assert len(written.splitlines()) == len(accounts) + 1
    assert sorted(lines) == sorted(account["address"].lower() for account in accounts)
    for account in accounts:
        assert lines[account["address"].lower()][1].split(":", 5)[:3] == ["", "", account["name"]]
    maps = accounts_files.maps(read)
    assert set(table(maps["mailboxes"])) == set(lines)
    assert table(maps["aliases"]) == {key: ",".join(to) for key, to in routes(read).items()}
    assert table(maps["senders"]) == {key: ",".join(to) for key, to in senders(read).items()}
    for alias in aliases:
        assert table(maps["aliases"])[alias["address"].lower()] == alias["to"][0].lower()


TEAM = {
    "name": "team",
    "address": "Team@example.com",
    "quota": "2g",
    "members": {"Eve@example.com": "write", "bob@example.com": "read"},
}
ARCHIVE = {"name": "archive", "members": {"bob@example.com": "write"}}


def test_shared_mailboxes() -> None:
    read = site([EVE, BOB], shared=[TEAM, ARCHIVE])
    maps = accounts_files.maps(read)
    assert table(maps["mailboxes"])["team@example.com"] == "OK"
    assert table(maps["senders"])["team@example.com"] == "eve@example.com"
    own = [line for line in accounts_files.own_aliases(read, "/srv/mail").splitlines() if ":/srv/" in line]
    # neither has a password
    assert [line.split(":")[:2] for line in own] == [["archive", ""], ["team", ""], ["team@example.com", ""]]
    assert ":/srv/mail/shared/team::userdb_user=team " in own[2]
    assert own[2].endswith("userdb_quota_storage_size=2G")
    acl = accounts_files.shared_acl(read)
    assert accounts_files.read_shared_acl(acl) == {
        ("team", "eve@example.com"): "lrswtipekx",
        ("team", "bob@example.com"): "lrs",
        ("archive", "bob@example.com"): "lrswtipekx",
    }
    assert "Shared/team/* user=bob@example.com lrs\n" in acl
    assert accounts_files.shared_members(read).splitlines()[::2] == [
        "shared/shared-boxes/user/bob@example.com/archive",
        "shared/shared-boxes/user/bob@example.com/team",
        "shared/shared-boxes/user/eve@example.com/team",
    ]


def test_a_shared_mailbox_is_postmaster() -> None:
    maps = accounts_files.maps(site([EVE, BOB], postmaster="team@example.com", shared=[TEAM]))
    assert table(maps["aliases"])["postmaster@example.com"] == "team@example.com"
    assert table(maps["senders"])["postmaster@example.com"] == "eve@example.com"


def test_the_sessions_of_accounts() -> None:
    who = (
        "username\t#\tservice\t(pids)\t(ips)\n"
        "eve@example.com\t2\timap\t(12 34)\t(192.0.2.5)\n"
        "bob@example.com\t1\tpop3\t(56)\t(192.0.2.6)\n"
    )
    assert sessions.processes(who, {"eve@example.com"}) == [12, 34]
    assert sessions.processes(who, {"kim@example.com", "username"}) == []
    assert sessions.processes("", {"eve@example.com"}) == []
