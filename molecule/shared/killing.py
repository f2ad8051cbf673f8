# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Kill the main process of daemons ten times in a row, and measure how long each is down."""

import json
import subprocess
import typing as t

TIMES = 10
#: In which a daemon has to be back.
SECONDS = 5.0

#: By unit what a daemon is asked: a TCP port or a UNIX socket, what to send there, and how the answer begins.
Asked = t.Dict[str, t.Tuple[t.Union[int, str], str, str]]

#: On the host: two at the same time. None stands for a daemon that does not come back.
KILLER = """
import concurrent.futures, glob, json, os, signal, socket, subprocess, sys, time
asked, times, patience = json.loads(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
def main_process(name):
    # of Postfix's two units whichever is the real one
    pattern = "/etc/systemd/system/%s.service.d/port587-restart.conf"
    (drop_in,) = glob.glob(pattern % name) or glob.glob(pattern % (name + "@-"))
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
    took = []
    for _ in range(times):
        old, began = main_process(name), time.time()
        if not old:
            return took + [None]
        os.kill(old, signal.SIGKILL)
        while not serves(*asked[name]) or main_process(name) in (0, old):
            if time.time() > began + patience:
                return took + [None]
            time.sleep(0.05)
        took.append(round(time.time() - began, 2))
    return took
with concurrent.futures.ThreadPoolExecutor(2) as pool:
    print(json.dumps(dict(zip(asked, pool.map(try_one, asked)))))
"""


def seconds_away(container: str, asked: Asked) -> t.Dict[str, t.List[t.Optional[float]]]:
    """By unit how long it was away, each time."""
    command = ["docker", "exec", "--interactive", container, "python3", "-", json.dumps(asked)]
    done = subprocess.run(
        [*command, str(TIMES), str(4 * SECONDS)], input=KILLER, text=True, capture_output=True, check=False
    )
    assert done.returncode == 0, done
    return t.cast(t.Any, json.loads(done.stdout))


def came_back(took: t.List[t.Optional[float]]) -> bool:
    """Every time, and soon."""
    return len(took) == TIMES and all(seconds is not None and seconds < SECONDS for seconds in took)
