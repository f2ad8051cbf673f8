# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Accounts of other mail servers, in their formats, become variables that the role accounts takes."""

from __future__ import annotations

import pathlib
import sqlite3
import typing as t

import pytest

pytest.importorskip("ansible.errors")

from ansible_collections.port587.mail.plugins.module_utils._accounts import read
from ansible_collections.port587.mail.plugins.plugin_utils._take_over import TakeOverError
from ansible_collections.port587.mail.plugins.plugin_utils._take_over_sources import READERS

SHA512 = "$6$saltsaltsalt$" + "A" * 86
BCRYPT = "$2y$05$" + "a" * 53
SSHA512 = "{SSHA512}" + "QUJD" * 24
MD5 = "$1$saltsalt$" + "b" * 22


def take_over(path: pathlib.Path, system: str, domain: str = "") -> dict[str, t.Any]:
    found = READERS[system](path, domain).variables()
    data = {key.partition("_")[2]: value for key, value in found.items() if key != "left_out"}
    problems = read.read(**data, hostname="mail.example.com", postmaster="")[1]
    assert problems == []
    return found


def write(folder: pathlib.Path, **files: str) -> pathlib.Path:
    for name, content in files.items():
        (folder / name.replace("__", "-").replace("_cf", ".cf")).write_text(content, encoding="utf-8")
    return folder


def test_docker_mailserver(tmp_path: pathlib.Path) -> None:
    write(
        tmp_path,
        postfix__accounts_cf=(
            f"# people\nEve@example.com|{{SHA512-CRYPT}}{SHA512}\r\nbob@example.org|{{BLF-CRYPT}}{BCRYPT}|userdb_x=1\n"
            f"old@example.org|{{MD5-CRYPT}}{MD5}\n"
        ),
        postfix__virtual_cf=(
            "info@example.com eve@example.com\n@example.org bob@example.org\n"
            "team@example.com eve@example.com,\n  kim@example.net\n"
        ),
        dovecot__quotas_cf="Eve@example.com:5G\nbob@example.org:0\n",
        postfix__regexp_cf="/^test[0-9]@/ eve@example.com\n",
    )
    found = take_over(tmp_path, "docker-mailserver")
    assert found["mail_domains"] == ["example.com", "example.org"]
    assert found["mail_accounts"] == [
        {
            "address": "eve@example.com",
            "password_hash": "{SHA512-CRYPT}" + SHA512,
            "quota": "5G",
            "aliases": ["info@example.com"],
        },
        {"address": "bob@example.org", "password_hash": "{BLF-CRYPT}" + BCRYPT, "quota": "0"},
    ]
    assert found["mail_aliases"] == [
        {"address": "@example.org", "to": ["bob@example.org"]},
        {"address": "team@example.com", "to": ["eve@example.com", "kim@example.net"], "senders": ["eve@example.com"]},
    ]
    assert [sentence.partition(":")[0] for sentence in found["left_out"]] == [
        "bob@example.org",
        "old@example.org",
        "postfix-regexp.cf",
    ]
    assert "MD5-CRYPT, which Dovecot 2.4 refuses" in found["left_out"][1]


def test_mailinabox(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "users.sqlite"
    with sqlite3.connect(path) as database:
        database.executescript(
            "CREATE TABLE users (id INTEGER PRIMARY KEY, email, password, extra, privileges, quota TEXT);"
            "CREATE TABLE aliases (id INTEGER PRIMARY KEY, source TEXT, destination TEXT, permitted_senders TEXT);"
        )
        people = [("eve@example.com", "20G"), ("bob@example.com", "0")]
        for address, quota in people:
            stored = "{SHA512-CRYPT}" + SHA512
            database.execute("INSERT INTO users VALUES (NULL, ?, ?, NULL, '', ?)", (address, stored, quota))
        for source, targets, senders in [
            ("hi@example.com", "eve@example.com", None),
            ("all@example.com", "eve@example.com,bob@example.com", "bob@example.com"),
            ("@example.org", "@example.com", None),
        ]:
            database.execute("INSERT INTO aliases VALUES (NULL, ?, ?, ?)", (source, targets, senders))
    database.close()
    found = take_over(path, "mailinabox")
    assert [account.get("quota") for account in found["mail_accounts"]] == ["20G", "0"]
    assert found["mail_accounts"][0]["aliases"] == ["hi@example.com", "eve@example.org"]
    assert found["mail_aliases"] == [
        {
            "address": "all@example.com",
            "to": ["eve@example.com", "bob@example.com"],
            "senders": ["bob@example.com"],
        },
        {"address": "hi@example.org", "to": ["hi@example.com"]},
        {"address": "all@example.org", "to": ["all@example.com"]},
    ]
    assert found["left_out"] == []


def a_dump(**tables: tuple[str, str]) -> str:
    """Columns and rows of tables, as mysqldump writes them."""
    parts = ["-- MariaDB dump 10.19\n/*!40101 SET NAMES utf8mb4 */;\n"]
    for name, (columns, rows) in tables.items():
        lines = "".join(f"  `{column}` varchar(255) NOT NULL DEFAULT '',\n" for column in columns.split())
        parts.append(f"CREATE TABLE `{name}` (\n{lines}  PRIMARY KEY (`{columns.split()[0]}`)\n) ENGINE=InnoDB;\n")
        parts.append(f"LOCK TABLES `{name}` WRITE;\nINSERT INTO `{name}` VALUES {rows};\nUNLOCK TABLES;\n")
    return "\n".join(parts)


def test_mailcow(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "mailcow.sql"
    path.write_text(
        a_dump(
            domain=("domain backupmx active", "('example.com',0,1),\n('gone.example',0,0)"),
            mailbox=(
                "username password name quota kind active",
                rf"('eve@example.com','{{BLF-CRYPT}}{BCRYPT}','Eve O\'Hara (Mrs), \"x\"',3221225472,'',1),"
                f"('bob@example.com','{SSHA512}','',0,'',0),('room@example.com','x','',0,'location',1)",
            ),
            alias=(
                "id address goto active",
                "(1,'eve@example.com','eve@example.com',1),(2,'info@example.com','eve@example.com',1),"
                "(3,'@example.com','bob@example.com',1),(4,'no@example.com','null@localhost',1),"
                "(5,'off@example.com','eve@example.com',0),(6,'bob@example.com','bob@example.com,kim@example.org',1)",
            ),
            alias_domain=("alias_domain target_domain active", "('example.net','example.com',1)"),
            sender_acl=("logged_in_as send_as", "('eve@example.com','sales@example.com'),('eve@example.com','*')"),
        ),
        encoding="utf-8",
    )
    found = take_over(path, "mailcow")
    eve, bob = found["mail_accounts"]
    assert eve == {
        "address": "eve@example.com",
        "password_hash": "{BLF-CRYPT}" + BCRYPT,
        "name": 'Eve O\'Hara (Mrs), "x"',
        "quota": "3G",
        "senders": ["sales@example.com"],
        "aliases": ["info@example.com", "eve@example.net"],
    }
    assert (bob["enabled"], bob["quota"], bob["aliases"]) == (False, "0", ["bob@example.net"])
    assert {"address": "@example.com", "to": ["bob@example.com"]} in found["mail_aliases"]
    left_out = "\n".join(found["left_out"])
    for what in ("gone.example: ", "room@example.com: is a resource", "no@example.com: the target 'null@localhost'"):
        assert what in left_out
    for what in ("off@example.com: is switched off", "bob@example.com: forwards to kim@example.org and keeps a copy"):
        assert what in left_out


def test_iredmail(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "vmail.sql"
    path.write_text(
        a_dump(
            mailbox=(
                "username password name quota active",
                f"('eve@example.com','{SSHA512}','',1024,1),('bob@example.com','{{CRYPT}}{MD5}','',NULL,1)",
            ),
            forwardings=(
                "id address forwarding is_maillist is_list is_forwarding is_alias active",
                "(1,'eve@example.com','eve@example.com',0,0,1,0,1),(2,'e@example.com','eve@example.com',0,0,0,1,1),"
                "(3,'team@example.com','eve@example.com',0,1,0,0,1),(4,'team@example.com','k@example.org',0,1,0,0,1),"
                "(5,'example.com','eve@example.com',0,0,0,0,1),(6,'list@example.com','x@example.org',1,0,0,0,1)",
            ),
        ),
        encoding="utf-8",
    )
    found = take_over(path, "iredmail")
    assert found["mail_accounts"] == [
        {"address": "eve@example.com", "password_hash": SSHA512, "quota": "1G", "aliases": ["e@example.com"]}
    ]
    assert found["mail_aliases"] == [
        {"address": "team@example.com", "to": ["eve@example.com", "k@example.org"]},
        {"address": "@example.com", "to": ["eve@example.com"]},
    ]
    assert ["MD5-CRYPT" in found["left_out"][0], "is a mailing list" in found["left_out"][1]] == [True, True]


def test_plain_files(tmp_path: pathlib.Path) -> None:
    write(
        tmp_path,
        users=(
            f"eve@example.com:{{SHA512-CRYPT}}{SHA512}:5000:5000::/home/eve::userdb_quota_rule=*:storage=500M\n"
            "kim@example.com:{PLAIN}in clear:::::\n"
        ),
        virtual="info@example.com\teve@example.com\nroot eve@example.com\n",
        passwd="ann:x:1000:1000:Ann Other,,,:/home/ann:/bin/sh\n",
        shadow=f"root:*:1:0:9:7:::\nann:{SHA512}:1:0:9:7:::\nmax:!{SHA512}:1::::::\nyes:$y$j9T$salt$hash:1::::::\n",
    )
    found = take_over(tmp_path, "plain", domain="example.com")
    assert {account["address"]: account for account in found["mail_accounts"]} == {
        "eve@example.com": {
            "address": "eve@example.com",
            "password_hash": "{SHA512-CRYPT}" + SHA512,
            "quota": "500M",
        },
        "kim@example.com": {"address": "kim@example.com", "password": "in clear"},
        "ann@example.com": {
            "address": "ann@example.com",
            "password_hash": "{SHA512-CRYPT}" + SHA512,
            "name": "Ann Other",
        },
        "max@example.com": {"address": "max@example.com", "password_hash": "{SHA512-CRYPT}" + SHA512, "enabled": False},
        "yes@example.com": {"address": "yes@example.com", "password_hash": "{CRYPT}$y$j9T$salt$hash"},
    }
    # whether eve may send from it, the table does not say
    assert found["mail_aliases"] == [{"address": "info@example.com", "to": ["eve@example.com"]}]
    assert found["left_out"] == ["virtual: root: is no whole address"]


@pytest.mark.parametrize(
    ("system", "files", "complaint"),
    [
        ("docker-mailserver", {}, "has no file postfix-accounts.cf; name the folder that has it"),
        ("plain", {"shadow": f"ann:{SHA512}:1::::::\n"}, "'ann' has no domain; say which these logins belong to"),
    ],
)
def test_the_wrong_folder(tmp_path: pathlib.Path, system: str, files: dict[str, str], complaint: str) -> None:
    write(tmp_path, **files)
    with pytest.raises(TakeOverError, match=complaint):
        take_over(tmp_path, system)


@pytest.mark.parametrize(
    ("system", "content", "complaint"),
    [
        ("mailinabox", "no database", "is not users.sqlite of Mail-in-a-Box"),
        ("mailcow", "-- empty", "has no table mailbox and no alias; is it the dump of that database"),
        ("mailcow", a_dump(mailbox=("username password", "('a@x.example','b'"), alias=("id", "(1)")), "was it cut off"),
        ("mailcow", a_dump(mailbox=("username password", "('a')"), alias=("id", "(1)")), "has 1 values for 2 columns"),
    ],
)
def test_the_wrong_file(tmp_path: pathlib.Path, system: str, content: str, complaint: str) -> None:
    (tmp_path / "file").write_text(content, encoding="utf-8")
    with pytest.raises(TakeOverError, match=complaint):
        take_over(tmp_path / "file", system)
