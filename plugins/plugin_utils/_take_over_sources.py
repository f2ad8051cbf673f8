# Copyright (c) The port587.mail contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this plugin util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""Read the accounts of other mail servers: docker-mailserver's files, Mail-in-a-Box's database, dumps of mailcow's and
iRedMail's, and the files of a plain Postfix and Dovecot. plugins/lookup/take_over.py says which they are."""

from __future__ import annotations

import contextlib
import pathlib
import re
import sqlite3
import typing as t

from ansible_collections.port587.mail.plugins.plugin_utils._take_over import Found, TakeOverError

Row = t.Dict[str, t.Optional[str]]

MIB = 1024 * 1024


def lines(path: pathlib.Path) -> list[str]:
    """The lines of a file that need not exist, without comments, and with continued lines joined as Postfix does."""
    if not path.is_file():
        return []
    text = path.read_text(encoding="utf-8", errors="replace")
    kept = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    return re.sub(r"\n[ \t]+", " ", "\n".join(kept)).splitlines()


def one_of(folder: pathlib.Path, *names: str) -> None:
    if not any((folder / name).is_file() for name in names):
        raise TakeOverError(f"{str(folder)!r} has no file {' or '.join(names)}; name the folder that has it")


def docker_mailserver(folder: pathlib.Path, _domain: str) -> Found:
    found = Found()
    one_of(folder, "postfix-accounts.cf")
    quotas = dict(line.strip().partition(":")[::2] for line in lines(folder / "dovecot-quotas.cf"))
    for line in lines(folder / "postfix-accounts.cf"):
        address, _bar, rest = line.strip().partition("|")
        stored, _bar, attributes = rest.partition("|")
        found.account(address, stored, quota=quotas.get(address, ""))
        if attributes:
            found.leave_out(address, f"its attributes for Dovecot: {attributes}")
    virtual_aliases(found, folder / "postfix-virtual.cf", may_send=True)
    for name, what in {
        "postfix-regexp.cf": "an alias by a pattern",
        "postfix-aliases.cf": "an alias of the machine's own mail",
        "postfix-receive-access.cf": "an address that may not receive",
        "postfix-send-access.cf": "an address that may not send",
        "dovecot-masters.cf": "a master login",
    }.items():
        for line in lines(folder / name):
            found.leave_out(f"{name}: {line.split('|')[0].strip()}", what)
    return found


def virtual_aliases(found: Found, path: pathlib.Path, may_send: bool = False) -> None:
    """A table of virtual aliases (man 5 virtual)."""
    for line in lines(path):
        address, _blank, targets = line.strip().partition(" " if " " in line.strip() else "\t")
        if address.startswith("@") and targets.strip().startswith("@"):
            found.domain_alias(address[1:], targets.strip()[1:])
        elif "@" in address:
            found.alias(address, re.split(r"[,\s]+", targets.strip()), may_send)
        else:
            found.leave_out(f"{path.name}: {address}", "is no whole address")


def mailinabox(path: pathlib.Path, _domain: str) -> Found:
    found = Found()
    with contextlib.closing(sqlite3.connect(f"file:{path.resolve()}?mode=ro", uri=True)) as database:
        database.row_factory = sqlite3.Row
        try:
            users = [dict(row) for row in database.execute("SELECT * FROM users")]
            aliases = [dict(row) for row in database.execute("SELECT * FROM aliases")]
        except sqlite3.Error as error:
            raise TakeOverError(f"{str(path)!r} is not users.sqlite of Mail-in-a-Box: {error}") from error
    for user in users:
        found.account(user["email"], user["password"], quota=str(user.get("quota") or "0"))
    for alias in aliases:
        targets = re.split(r"[,\s]+", alias["destination"].strip())
        if alias["source"].startswith("@") and targets[0].startswith("@"):
            found.domain_alias(alias["source"][1:], targets[0][1:])
            continue
        permitted = alias.get("permitted_senders")
        found.alias(
            alias["source"], targets, senders=permitted.split(",") if permitted else None, may_send=not permitted
        )
    return found


def mailcow(path: pathlib.Path, _domain: str) -> Found:
    found, tables = Found(), dump(path, "mailbox", "alias")
    domains(found, tables)
    for row in tables["mailbox"]:
        address = row["username"] or ""
        if row.get("kind"):
            found.leave_out(address, "is a resource of a calendar, not a person")
            continue
        quota = in_bytes(row.get("quota") or "0")
        found.account(address, row["password"] or "", row.get("name") or "", quota, row.get("active") != "0")
    for row in tables["alias"]:
        address, targets = row["address"] or "", (row["goto"] or "").split(",")
        if targets == [address]:
            continue
        if row.get("active") == "0":
            found.leave_out(address, "is switched off")
        else:
            found.alias(address, targets, may_send=True)
    for row in tables.get("sender_acl", []):
        found.sender(row["logged_in_as"] or "", row["send_as"] or "")
    for table, what in {"app_passwd": "an app password", "sieve_filters": "a filter of mailcow"}.items():
        for row in tables.get(table, []):
            found.leave_out(row.get("mailbox") or row.get("username") or "", what)
    return found


def iredmail(path: pathlib.Path, _domain: str) -> Found:
    found, tables = Found(), dump(path, "mailbox", "forwardings")
    domains(found, tables)
    for row in tables["mailbox"]:
        quota = in_bytes(str(int(row.get("quota") or 0) * MIB))
        active = row.get("active") != "0"
        found.account(row["username"] or "", row["password"] or "", row.get("name") or "", quota, active)
    targets: dict[tuple[str, bool], list[str]] = {}
    for row in tables["forwardings"]:
        address, target = row["address"] or "", row["forwarding"] or ""
        if row.get("is_maillist") == "1":
            found.leave_out(address, "is a mailing list")
        elif row.get("active") == "0":
            found.leave_out(address, "is switched off")
        elif address != target:
            # a catch-all has the name of its domain
            address = address if "@" in address else f"@{address}"
            targets.setdefault((address, row.get("is_alias") == "1"), []).append(target)
    for (address, may_send), those in targets.items():
        found.alias(address, those, may_send)
    return found


def plain(folder: pathlib.Path, domain: str) -> Found:
    found = Found()
    one_of(folder, "users", "shadow", "virtual")
    for line in lines(folder / "users"):
        fields = line.strip().split(":")
        quota = re.search(r"quota_rule=\*:(?:storage|bytes)=(\w+)|quota_storage_size=(\w+)", line)
        found.account(at(fields[0], domain), (fields + [""])[1], quota=(quota[1] or quota[2]) if quota else "")
    names = {fields[0]: fields[4].split(",")[0] for fields in map(passwd_line, lines(folder / "passwd"))}
    for line in lines(folder / "shadow"):
        login, stored = line.strip().split(":")[:2]
        # the machine's own users have none
        if stored.strip("!*x"):
            found.account(
                at(login, domain), stored.lstrip("!"), names.get(login, ""), enabled=not stored.startswith("!")
            )
    virtual_aliases(found, folder / "virtual")
    return found


def at(login: str, domain: str) -> str:
    if "@" not in login and not domain:
        raise TakeOverError(f"{login!r} has no domain; say which these logins belong to, with take_over_domain")
    return login if "@" in login else f"{login}@{domain}"


def passwd_line(line: str) -> list[str]:
    return (line.strip().split(":") + [""] * 5)[:7]


def in_bytes(number: str) -> str:
    return number if number == "0" else f"{number}B"


def domains(found: Found, tables: dict[str, list[Row]]) -> None:
    """The domains of mailcow and iRedMail, and those whose addresses are the same as another's."""
    for row in tables.get("domain", []):
        found.domain(row["domain"] or "", row.get("active") == "1" and row.get("backupmx") != "1")
    for row in tables.get("alias_domain", []):
        if row.get("active") != "0":
            found.domain_alias(row["alias_domain"] or "", row["target_domain"] or "")


READERS: dict[str, t.Callable[[pathlib.Path, str], Found]] = {
    "docker-mailserver": docker_mailserver,
    "mailinabox": mailinabox,
    "mailcow": mailcow,
    "iredmail": iredmail,
    "plain": plain,
}


# -- SQL ----------------------------------------------------------------------------------------------------------

_TABLE = re.compile(r"CREATE TABLE (?:IF NOT EXISTS )?[`\"]?(\w+)[`\"]? \((.*?)\n\)", re.IGNORECASE | re.DOTALL)
_COLUMN = re.compile(r"^\s+[`\"]([^`\"]+)[`\"] ", re.MULTILINE)
_INSERT = re.compile(r"INSERT (?:IGNORE )?INTO [`\"]?(\w+)[`\"]?\s*(\([^()]*\))?\s*VALUES\s*", re.IGNORECASE)
_VALUE = re.compile(r"'((?:[^'\\]|\\.|'')*)'|([^\s,()']+)", re.DOTALL)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "0": "\0", "Z": "\x1a"}


def dump(path: pathlib.Path, *needed: str) -> dict[str, list[Row]]:
    """The tables of a dump that mysqldump or mariadb-dump has written."""
    text = path.read_text(encoding="utf-8", errors="replace")
    columns = {match[1]: _COLUMN.findall(match[2]) for match in _TABLE.finditer(text)}
    tables: dict[str, list[Row]] = {table: [] for table in columns}
    for match in _INSERT.finditer(text):
        named = re.findall(r"[`\"]?(\w+)[`\"]?", match[2]) if match[2] else columns.get(match[1], [])
        for values in _rows(text, match.end()):
            if len(values) != len(named):
                raise TakeOverError(f"a row of the table {match[1]} has {len(values)} values for {len(named)} columns")
            tables.setdefault(match[1], []).append(dict(zip(named, values)))
    missing = [table for table in needed if table not in tables]
    if missing:
        raise TakeOverError(f"{str(path)!r} has no table {' and no '.join(missing)}; is it the dump of that database?")
    return tables


def _rows(text: str, position: int) -> t.Iterator[list[str | None]]:
    """The rows after VALUES: (1,'a',NULL),(2,'b','c');"""
    while text[position : position + 1] == "(":
        row: list[str | None] = []
        position += 1
        while True:
            match = _VALUE.match(text, position)
            if not match:
                raise TakeOverError(f"the dump has no value at character {position}; was it cut off?")
            row.append(_unescape(match[1]) if match[1] is not None else None if match[2] == "NULL" else match[2])
            position = match.end() + 1
            if text[match.end() : position] == ")":
                break
        yield row
        following = re.compile(r"\s*,\s*(?=\()").match(text, position)
        position = following.end() if following else position


def _unescape(text: str) -> str:
    return re.sub(
        r"\\(.)|''", lambda match: _ESCAPES.get(match[1], match[1]) if match[1] else "'", text, flags=re.DOTALL
    )
