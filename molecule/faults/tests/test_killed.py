# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module is killed at twenty points while it changes the server."""

import imaplib
import random
import smtplib
import subprocess
import typing as t

import pytest
from captured import captured
from conftest import Vps
from mailclient import until

#: On the host: waits for the process that holds the lock, which is the module while it works, or until that begins to
#: replace files, and then for the delay; kills it, and says what was left. Without a delay it says how long the lock
#: was held.
KILLER = """
import fcntl, glob, os, signal, sys, time
def holder():
    for link in glob.glob("/proc/[0-9]*/fd/*"):
        try:
            if os.readlink(link) == "/var/lib/port587/run.lock":
                return int(link.split("/")[2])
        except OSError:
            pass
print("ready", flush=True)
end = time.time() + 120
while not holder() and time.time() < end:
    time.sleep(0.002)
began, pid = time.time(), holder()
if sys.argv[1] == "measure":
    while os.path.exists("/proc/%d" % pid):
        time.sleep(0.002)
    print(time.time() - began)
else:
    while sys.argv[2] == "change" and os.path.exists("/proc/%d" % pid) and not glob.glob("/var/lib/port587/journal.*"):
        time.sleep(0.002)
    time.sleep(float(sys.argv[1]))
    try:
        os.kill(pid, signal.SIGKILL)
        print("killed", sorted(os.path.basename(j) for j in glob.glob("/var/lib/port587/journal.*")))
    except ProcessLookupError:
        print("too late")
"""


class Watch:
    """The program above, running on the host."""

    def __init__(self, vps: Vps, delay: str, since: str = "lock") -> None:
        self.process = subprocess.Popen(
            ["docker", "exec", "--interactive", vps.container, "python3", "-u", "-c", KILLER, delay, since],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout
        assert self.process.stdout.readline() == "ready\n"

    def result(self) -> str:
        return self.process.communicate(timeout=150)[0].strip()


def rounds(number: int) -> t.Dict[str, t.Any]:
    """A tree that differs from that of any other number, in main.cf, master.cf and dovecot.conf."""
    return {
        "postfix_message_size": 10000000 + number,
        "postfix_master": f"{3000 + number} inet n - y - - smtpd",
        "dovecot_quota": f"{number + 2}G",
    }


#: Twelve for Postfix, eight for Dovecot.
POINTS = [("postfix", number, 12) for number in range(12)] + [("dovecot", number, 8) for number in range(8)]


@pytest.fixture(scope="module")
def took(vps: Vps) -> t.Dict[str, float]:
    """How long the module holds the lock when it is left alone."""
    found = {}
    for part in ("postfix", "dovecot"):
        module = captured(vps.name, vps.container, part)
        watch = Watch(vps, "measure")
        assert module.run(**rounds(100)).code == 0
        found[part] = float(watch.result())
    return found


@pytest.fixture(scope="module")
def hit(vps: Vps) -> t.List[str]:
    """What was hit on this host."""
    return []


@pytest.mark.parametrize(("part", "number", "of"), POINTS)
def test_killed(
    vps: Vps, took: t.Dict[str, float], hit: t.List[str], part: str, number: int, of: int, record_property: t.Any
) -> None:
    # every other one while files are being replaced, which is a short time at the end
    since, share = (("lock", 1.0), ("change", 0.2))[number % 2]
    delay = took[part] * share * (number + random.random()) / of
    module = captured(vps.name, vps.container, part)
    watch = Watch(vps, f"{delay:.3f}", since)
    outcome = module.run(**rounds(number))
    what = watch.result()
    record_property("killed", f"{part} {delay:.3f} s after {since}, of {took[part]:.3f} s: {what}")
    # it may have said its last word before it was killed
    assert outcome.code == 0 or what.startswith("killed")
    hit.append(what)
    # what it has told systemd to do goes on without it
    for jobs in until(lambda: vps.run("systemctl", "list-jobs", "--no-legend")):
        if "start" not in jobs:
            break
    for failure in until(lambda: momentary_failure(vps)):
        if not failure:
            break
    assert not failure

    # the next run of the module brings the server in order; once for each daemon, that of a play
    if number:
        assert module.run(**rounds(number)).code == 0
    else:
        vps.apply(part, rounds=[rounds(number)])
    if part == "postfix":
        assert vps.run("postconf", "-h", "message_size_limit").strip() == str(10000000 + number)
        assert f"{3000 + number} " in vps.run("postconf", "-M")
    assert "journal" not in vps.run("ls", "/var/lib/port587")
    assert ".port587" not in vps.run("ls", "-A", "/etc/postfix", "/etc/dovecot")


def momentary_failure(vps: Vps) -> str:
    """Use the server. A reload that the killed run has begun ends the sessions of the moment, of mail clients and of
    Postfix with Dovecot's auth service; mail clients come again, and so may the caller."""
    try:
        vps.serves()
    except (imaplib.IMAP4.abort, smtplib.SMTPServerDisconnected) as failure:
        return repr(failure)
    except smtplib.SMTPAuthenticationError as failure:
        if failure.smtp_code != 454:
            raise
        return repr(failure)
    return ""


def test_the_middle_of_changes_was_hit(hit: t.List[str]) -> None:
    assert len(hit) == len(POINTS)
    assert sum("journal" in what for what in hit) >= 4, hit


def test_nothing_is_left_to_do(vps: Vps) -> None:
    vps.apply("postfix", "dovecot")
    vps.serves()
    assert vps.apply("postfix", "dovecot").changes() == {}
