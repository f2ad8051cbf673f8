#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Start a scenario's hosts, or remove them: at once, since a task of Ansible for each step costs more than the step.

Usage: containers.py create|destroy   within Molecule, which says which scenario it is (see the file inventory)

A VPS is a container that is reached over SSH with a key, as one is. No --privileged: systemd needs no more than this.
"""

import concurrent.futures
import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import time
import typing as t

INVENTORY = pathlib.Path(__file__).with_name("inventory")
EPHEMERAL = pathlib.Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"])
KEY = EPHEMERAL / "id_ed25519"
#: Seconds in which a host has to boot.
PATIENCE = 120

#: How a container is started.
START = [
    "--detach",
    # what systemd says when it can't start is seen with `docker logs` only if it has a terminal
    "--tty",
    "--cap-add=SYS_ADMIN",
    # a VPS has a packet filter
    "--cap-add=NET_ADMIN",
    # init scripts look which program a process runs: exim's can't stop it otherwise
    "--cap-add=SYS_PTRACE",
    "--security-opt=seccomp=unconfined",
    "--security-opt=apparmor=unconfined",
    "--cgroupns=host",
    "--volume=/sys/fs/cgroup:/sys/fs/cgroup:rw",
    "--tmpfs=/run",
    "--tmpfs=/tmp",
]
# This host need not outlive a power cut, so dpkg does not wait for the disk.
AUTHORIZE = (
    "echo force-unsafe-io > /etc/dpkg/dpkg.cfg.d/test-host"
    " && install -d -m 0700 /root/.ssh && cat > /root/.ssh/authorized_keys"
)
# The processes of a container are in the cgroup of `docker exec`, or below it.
USED = (
    "sed -n 's/^usage_usec //p'"
    ' "/sys/fs/cgroup$(sed -n "/^0::/{s///; s|/init.scope$||; p}" /proc/self/cgroup)/cpu.stat"'
)

Hosts = t.Dict[str, t.Dict[str, t.Any]]


def run(*command: str, stdin: str = "", may_fail: bool = False) -> "subprocess.CompletedProcess[str]":
    """A command, whose failure ends everything unless it may fail."""
    done = subprocess.run(command, check=False, capture_output=True, text=True, input=stdin)
    if done.returncode and not may_fail:
        sys.exit(f"{' '.join(command)} failed with {done.returncode}: {done.stdout}{done.stderr}")
    return done


def told() -> t.Tuple[Hosts, t.Dict[str, t.Any]]:
    """The hosts in the inventory, and what is the same for all of them."""
    inventory = json.loads(run(str(INVENTORY)).stdout)
    return inventory["_meta"]["hostvars"], inventory["all"]["vars"]


def each(action: t.Callable[[t.Dict[str, t.Any]], str], hosts: Hosts) -> t.List[str]:
    """Do this with all hosts at the same time."""
    with concurrent.futures.ThreadPoolExecutor() as pool:
        return list(pool.map(action, hosts.values()))


def create() -> None:
    """Start the hosts, and wait until they have booted."""
    hosts, shared = told()
    if not any("vps_platform" in host for host in hosts.values()):
        sys.exit("There is no image of any platform that this scenario wants. Build one with scripts/image PLATFORM.")
    network = shared["vps_network"]
    # an IPv6 subnet that no other scenario's network has: the name decides
    subnet = f"fd00:587:{hashlib.sha1(network.encode()).hexdigest()[:4]}::/64"
    made = run("docker", "network", "create", "--ipv6", "--subnet", subnet, network, may_fail=True)
    if made.returncode and "already exists" not in made.stderr:
        sys.exit(made.stderr)
    os.makedirs(shared["vps_control_directory"], mode=0o700, exist_ok=True)
    if not KEY.exists():
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", network, "-f", str(KEY))

    def start(host: t.Dict[str, t.Any]) -> str:
        container = host["vps_container"]
        if "ansible_host" not in host:
            names = [f"--network-alias={name}" for name in (host["vps_hostname"], *host.get("vps_aliases", []))]
            where = [f"--name={container}", f"--hostname={host['vps_hostname']}", f"--network={network}"]
            run("docker", "run", *START, *where, *names, host["vps_image"])
        public = KEY.with_suffix(".pub").read_text(encoding="utf-8")
        run("docker", "exec", "--interactive", container, "sh", "-c", AUTHORIZE, stdin=public)
        end = time.monotonic() + PATIENCE
        state = ""
        while state not in ("running", "degraded"):
            if time.monotonic() > end:
                sys.exit(f"{container} has not booted within {PATIENCE} s: systemctl is-system-running says {state!r}")
            time.sleep(0.3)
            state = run("docker", "exec", container, "systemctl", "is-system-running", may_fail=True).stdout.strip()
        return run("docker", "exec", container, "cat", "/etc/ssh/ssh_host_ed25519_key.pub").stdout

    keys = each(start, hosts)
    addresses = [host["ansible_host"] for host in told()[0].values()]
    known = [" ".join([address, *key.split()[:2]]) + "\n" for address, key in zip(addresses, keys)]
    (EPHEMERAL / "known_hosts").write_text("".join(known), encoding="utf-8")


def destroy() -> None:
    """Remove the hosts and what belongs to them. What they used of the processors is for the table of scripts/test."""
    hosts, shared = told()
    present = {name: host for name, host in hosts.items() if "ansible_host" in host}
    used = each(
        lambda host: run("docker", "exec", host["vps_container"], "sh", "-c", USED, may_fail=True).stdout, present
    )
    if any(used):
        print(f"the containers used {sum(int(one or 0) for one in used) // 1000000} s of processor time")
    if hosts:
        run("docker", "rm", "--force", "--volumes", *(host["vps_container"] for host in hosts.values()))
    run("docker", "network", "rm", shared["vps_network"], may_fail=True)
    shutil.rmtree(shared["vps_control_directory"], ignore_errors=True)


if __name__ == "__main__":
    {"create": create, "destroy": destroy}[sys.argv[1]]()
