# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each daemon's main process is killed ten times in a row, and the daemon is back within five seconds every time."""

import json
import typing as t

import pytest
from conftest import Vps

TIMES = 10
SECONDS = 5.0

#: Units, and what each is asked: a TCP port or a UNIX socket, what to send there, and how the answer begins.
ASKED = {
    "postfix": (25, "", "220 "),
    "dovecot": (143, "", "* OK"),
    "nginx": (80, "GET / HTTP/1.0\r\n\r\n", "HTTP/"),
    "rspamd": ("/var/spool/postfix/rspamd/milter.sock", "", ""),
    "port587-login-limits": (8587, "GET / HTTP/1.0\r\n\r\n", "HTTP/"),
    "port587-send-limits": ("/var/spool/postfix/port587/send-limits", "request=smtpd_access_policy\n\n", "action="),
}

#: On the host: kill each, two at the same time, and say for each how long it took to be there again.
KILLER = """
import concurrent.futures, glob, json, os, signal, socket, subprocess, sys, time
asked, times, patience = json.loads(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
took = {name: [] for name in asked}
def main_process(name):
    # whichever is the real one
    pattern = "/etc/systemd/system/%s.service.d/port587-restart.conf"
    (drop_in,) = glob.glob(pattern % name.replace("postfix", "postfix*"))
    unit = os.path.basename(os.path.dirname(drop_in))[:-2]
    return int(subprocess.check_output(["systemctl", "show", "--value", "--property=MainPID", unit]))
def serves(where, said, answer):
    try:
        tcp = isinstance(where, int)
        with socket.socket(socket.AF_INET if tcp else socket.AF_UNIX) as client:
            client.settimeout(2)
            client.connect(("127.0.0.1", where) if tcp else where)
            client.sendall(said.encode())
            return not answer or client.recv(100).decode().startswith(answer)
    except OSError:
        return False
def try_one(name):
    for _ in range(times):
        old = main_process(name)
        began = time.time()
        os.kill(old, signal.SIGKILL)
        while main_process(name) in (0, old) or not serves(*asked[name]):
            if time.time() > began + patience:
                took[name].append(None)
                return
            time.sleep(0.05)
        took[name].append(round(time.time() - began, 2))
with concurrent.futures.ThreadPoolExecutor(2) as pool:
    list(pool.map(try_one, asked))
print(json.dumps(took))
"""


@pytest.fixture(scope="module")
def took(vps: Vps) -> t.Dict[str, t.List[t.Optional[float]]]:
    """Seconds until it served again, each time; None where that was never."""
    return t.cast(t.Any, json.loads(vps.python(KILLER, json.dumps(ASKED), str(TIMES), str(4 * SECONDS))))


@pytest.mark.parametrize("daemon", ASKED)
def test_comes_back(took: t.Dict[str, t.List[t.Optional[float]]], daemon: str, record_property: t.Any) -> None:
    record_property("back after seconds", f"{daemon} {took[daemon]}")
    assert len(took[daemon]) == TIMES
    assert all(seconds is not None and seconds < SECONDS for seconds in took[daemon]), took[daemon]


def test_serves_afterwards(vps: Vps) -> None:
    vps.serves()


def test_what_systemctl_stops_stays_down(vps: Vps) -> None:
    vps.run("systemctl", "stop", "dovecot")
    assert vps.run("sh", "-c", "sleep 2; systemctl is-active dovecot", check=False).strip() == "inactive"
    vps.run("systemctl", "start", "dovecot")
    vps.serves()
