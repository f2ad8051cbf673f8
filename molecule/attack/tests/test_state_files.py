# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Damaged files in which daemons and runs keep their state: each begins anew, says so, and keeps nobody out."""

import re
import typing as t

import mailclient
import pytest
from conftest import Tries, Vps
from controller import end
from mailclient import until

COUNTS = "/var/lib/private/port587-send-limits/sent.sqlite"
FINGERPRINTS = "/var/lib/port587/accounts/fingerprints"
REDIS = ["redis-cli", "-s", "/run/port587-redis/redis.sock"]

#: On the host: damages files. Prints those that were there.
DAMAGE = r"""
import glob, json, os, sys
patterns, damage = json.loads(sys.argv[1])
paths = [path for pattern in patterns for path in glob.glob(pattern)]
for path in paths:
    with open(path, "rb+") as file:
        content = file.read()
        new = {
            "half": content[: len(content) // 2],
            "zeros": bytes(len(content)),
            "garbage": os.urandom(max(len(content), 5000)),
            # the number of the format, in a head of text or of bytes
            "another version": b"REDIS9999" + content[9:]
            if content[:5] == b"REDIS"
            else content[:90] + b"\xff" * 8 + content[98:],
        }[damage]
        file.seek(0)
        file.truncate()
        file.write(new)
print(json.dumps(paths))
"""

DAMAGES = ["half", "zeros", "garbage", "another version"]


#: On the host: kills the module that holds the lock, as soon as it has begun to replace files.
KILLER = r"""
import glob, json, os, signal, time
end = time.time() + 40
while not os.path.exists("/var/lib/port587/journal.swapping") and time.time() < end:
    time.sleep(0.002)
killed = 0
for link in glob.glob("/proc/[0-9]*/fd/*"):
    try:
        if os.readlink(link) == "/var/lib/port587/run.lock":
            os.kill(int(link.split("/")[2]), signal.SIGKILL)
            killed += 1
    except OSError:
        pass
print(json.dumps(killed))
"""


def comes_up(vps: Vps, *command: str, answer: str) -> bool:
    """Whether a command gets this answer within a while."""
    return any(answer in said for said in until(lambda: vps.run(*command, check=False), 15))


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_rspamd_has_learned(vps: Vps, tries: Tries, damage: str) -> None:
    top = "/var/lib/port587-redis/"
    for pattern in ("appendonly.aof", "appendonlydir/*.manifest", "appendonlydir/*.rdb", "appendonlydir/*.aof"):
        vps.run(*REDIS, "mset", *(word for number in range(300) for word in (f"key{number}", "value")))
        vps.run(*REDIS, "bgrewriteaof")
        vps.run(*REDIS, "set", "last", "value")
        vps.run("systemctl", "stop", "port587-redis")
        if not vps.python(DAMAGE, [[top + pattern], damage]):
            vps.run("systemctl", "start", "port587-redis")
            assert comes_up(vps, *REDIS, "ping", answer="PONG")
            continue
        before = vps.run("find", top, "-name", "damaged-*").split()
        vps.run("systemctl", "start", "port587-redis")
        name = f"{pattern}: {damage}"
        tries.add(name, comes_up(vps, *REDIS, "set", "new", "value", answer="OK"))
        aside = set(vps.run("find", top, "-name", "damaged-*").split()) - set(before)
        said = vps.run("journalctl", "--quiet", "--output=cat", "--unit=port587-redis")
        # what Redis could repair itself is not put aside
        tries.add(f"{name}, said", all(one in said for one in aside), said)


@pytest.mark.parametrize("damage", [*DAMAGES, "from the future"])
def test_counts_of_sent_mail(vps: Vps, tries: Tries, damage: str) -> None:
    vps.run("systemctl", "stop", "port587-send-limits")
    if damage == "from the future":
        vps.python(
            "import json, sqlite3, sys, time; path, login = json.loads(sys.argv[1]); db = sqlite3.connect(path);"
            "db.execute('CREATE TABLE IF NOT EXISTS sent (login TEXT, at REAL, recipients INTEGER)');"
            "db.execute('INSERT INTO sent VALUES (?, ?, 1000)', (login, time.time() + 3e7)); db.commit(); print(1)",
            [COUNTS, vps.bob.address],
        )
    else:
        assert vps.python(DAMAGE, [[COUNTS], damage])
    vps.run("systemctl", "start", "port587-send-limits")
    word = mailclient.token()
    message = mailclient.mail(vps.bob.address, vps.alice.address, word)
    mailclient.submit(vps.server, vps.bob, vps.alice.address, message)
    tries.add(damage, len(mailclient.received(vps.server, vps.alice, word)) == 1)


def test_a_run_is_not_held_up(vps: Vps, tries: Tries) -> None:
    """Nor on a server without D-Bus: systemctl does not need it."""
    vps.run("systemctl", "stop", "port587-redis", "port587-send-limits", "dbus.socket", "dbus.service")
    state = "/var/lib/port587/"
    paths = [COUNTS, FINGERPRINTS, "/var/lib/port587-redis/appendonly.aof", "/var/lib/port587-redis/appendonlydir/*"]
    stored = [state + "*/manifest.json", state + "record.json", state + "last-change", state + "packages.json"]
    assert len(t.cast(t.List[str], vps.python(DAMAGE, [[*paths, *stored], "garbage"]))) >= 8
    try:
        # a unit that is changed, and a daemon that is restarted for it
        outcome = vps.play("converge.yml", dovecot_login_limit=61)
        tries.add("site.yml", outcome.code == 0, outcome.output)
        for name in ("dovecot/manifest.json", "accounts/manifest.json", "record.json"):
            said = f"{state}{name}: is damaged, and is begun anew"
            # warnings are wrapped
            tries.add(name, said in re.sub(r"\s+", " ", outcome.output), outcome.output)
        vps.serves()
        again = vps.play("converge.yml")
        tries.add("again", again.code == 0 and "is damaged" not in again.output, again.output)
    finally:
        vps.run("systemctl", "start", "dbus.socket")


def test_an_interrupted_run_without_its_journal(vps: Vps, tries: Tries) -> None:
    """A run that is killed in the middle, and whose journal is zeros then."""
    run = vps.start("converge.yml", "--tags=dovecot,postfix", postfix_message_size=25000000)
    killed = vps.python(KILLER)
    begun = end(run)
    assert killed, begun.output
    vps.python(DAMAGE, [["/var/lib/port587/journal.swapping"], "zeros"])
    outcome = vps.play("converge.yml")
    tries.add("site.yml", outcome.code == 0 and "journal.swapping was damaged" in outcome.output, outcome.output)
    left = vps.run("find", "/etc", "/var/lib/port587", "-name", ".port587-*", "-o", "-name", "journal.swapping")
    tries.add("nothing is left", not left, left)
    size = vps.run("postconf", "-h", "message_size_limit").strip()
    tries.add("no mixture", size != "25000000", size)
    vps.serves()
