# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs that go on at the same time, or that are cut off: the server is never a mix of their values."""

import typing as t

from conftest import Tries, Vps
from controller import end

#: By number of a run what it sets: the size of a mail, and the quota of a mailbox.
VALUES = {str(number): (number * 10000000, f"{number}G") for number in range(1, 6)}
ROLES = "dovecot,postfix"


#: On the host: kills the processes of all SSH sessions as soon as a run holds the lock.
CUTTER = r"""
import fcntl, glob, json, os, re, signal, time
def held():
    with open("/var/lib/port587/run.lock") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return False
        except OSError:
            return True
end = time.time() + 120
while not held() and time.time() < end:
    time.sleep(0.02)
killed = 0
for path in glob.glob("/proc/[0-9]*/cmdline"):
    try:
        with open(path) as file:
            if re.match("sshd(-session)?: ", file.read()) and "listener" not in open(path).read():
                os.kill(int(path.split("/")[2]), signal.SIGKILL)
                killed += 1
    except OSError:
        pass
print(json.dumps(killed))
"""


def apply(vps: Vps, number: str) -> t.Any:
    """A run, begun."""
    size, quota = VALUES[number]
    return vps.start("converge.yml", f"--tags={ROLES}", postfix_message_size=size, dovecot_quota=quota)


def values(vps: Vps) -> t.Tuple[int, str]:
    """What the server has of them."""
    quota = vps.run("grep", "-Eo", "[0-9]+G", "/etc/dovecot/dovecot.conf").split()
    return int(vps.run("postconf", "-h", "message_size_limit")), quota[0]


def test_five_runs_end_in_the_values_of_one(vps: Vps, tries: Tries) -> None:
    runs = {number: apply(vps, number) for number in VALUES}
    outcomes = {number: end(run) for number, run in runs.items()}
    there = values(vps)
    for number, (code, output) in outcomes.items():
        noticed = "another run has changed this server" in output
        tries.add(f"run {number}", code == 0 or noticed, output)
    tries.add("one has won", there in [VALUES[number] for number, (code, _) in outcomes.items() if code == 0], there)
    vps.serves()


def test_a_run_whose_connection_is_cut(vps: Vps, tries: Tries) -> None:
    """As by a network that fails: sshd's processes for it are gone. The next run does all."""
    run = apply(vps, "1")
    cut = vps.python(CUTTER)
    tries.add("cut", cut and end(run).code != 0)
    after = end(apply(vps, "2"))
    tries.add("the next", (after.code, values(vps)) == (0, VALUES["2"]), after.output)
    # and as the other tests expect it
    assert vps.play("converge.yml", f"--tags={ROLES}").code == 0
    vps.serves()
