# SPDX-License-Identifier: GPL-3.0-or-later
"""The machines of the benchmark, containers as in the scenarios, and Ansible on them over SSH."""

import contextlib
import json
import os
import pathlib
import resource
import subprocess
import threading
import time
import typing as t

ROOT = pathlib.Path(__file__).resolve().parent.parent
STATE = ROOT / ".cache/bench"
PREFIX = os.environ.get("PORT587_PREFIX", "port587")
PLATFORM = os.environ.get("BENCH_PLATFORM", "debian13")
DOMAIN = "bench.example"
PASSWORD = "correct horse battery staple"
USERS = 8
V1_MEMORY = pathlib.Path("/sys/fs/cgroup/memory")
V1_MEMORY = pathlib.Path("/sys/fs/cgroup/memory")
DAEMONS = ("postfix", "dovecot", "rspam", "nginx")


class Play(t.NamedTuple):
    """One run of ansible-playbook."""

    seconds: float
    megabytes: float  # the most that all its processes had at one time (PSS)
    processor: float  # seconds of a processor, the controller's and the server's
    modules: int  # runs on the server; only counted in a run that was asked to
    output: str


class Machine:
    """A VPS in a container. ``role`` says what it is for."""

    def __init__(self, role: str) -> None:
        self.role = role
        self.container = f"{PREFIX}-bench-{role}"
        self.folder = STATE / role
        self.address = ""

    def start(self, image: str = f"port587/vps:{PLATFORM}") -> None:
        """From nothing to a machine that answers SSH."""
        self.remove()
        self.folder.mkdir(parents=True, exist_ok=True)
        key = STATE / "id_ed25519"
        if not key.exists():
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
        docker("run", "--detach", "--tty", "--name", self.container, f"--hostname=mail.{DOMAIN}",
               "--cap-add=SYS_ADMIN", "--cap-add=NET_ADMIN", "--security-opt=seccomp=unconfined",
               "--security-opt=apparmor=unconfined", "--cgroupns=host", "--volume=/sys/fs/cgroup:/sys/fs/cgroup:rw",
               "--tmpfs=/run", "--tmpfs=/tmp", image)  # fmt: skip
        self.sh(
            "install -d -m 0700 /root/.ssh && cat > /root/.ssh/authorized_keys", (STATE / "id_ed25519.pub").read_text()
        )
        self.wait()
        self._learn()

    def _learn(self) -> None:
        """Its address and its key."""
        self.address = docker(
            "inspect", "--format", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", self.container
        ).strip()
        host_key = self.sh("cat /etc/ssh/ssh_host_ed25519_key.pub").split()[:2]
        (self.folder / "known_hosts").write_text(" ".join([self.address, *host_key]) + "\n")

    def wait(self) -> None:
        for _ in range(120):
            done = subprocess.run(
                ["docker", "exec", self.container, "systemctl", "is-system-running"],
                capture_output=True,
                text=True,
                check=False,
            )
            if done.stdout.strip() in ("running", "degraded"):
                return
            time.sleep(0.5)
        raise RuntimeError(f"{self.container} does not boot")

    def exists(self) -> bool:
        done = subprocess.run(["docker", "inspect", self.container], capture_output=True, check=False)
        if done.returncode == 0:
            self._learn()
        return done.returncode == 0

    def remove(self) -> None:
        subprocess.run(["docker", "rm", "--force", "--volumes", self.container], capture_output=True, check=False)
        with contextlib.suppress(OSError):
            (V1_MEMORY / self.container).rmdir()

    def limit(self, megabytes: int) -> None:
        """Start it anew with so much memory, and nothing to swap to."""
        docker("stop", self.container)
        if docker("info", "--format", "{{.MemoryLimit}}").strip() == "true":
            docker("update", f"--memory={megabytes}m", f"--memory-swap={megabytes}m", self.container)
            docker("start", self.container)
        else:
            # an engine that can't use the kernel's memory controller
            group = V1_MEMORY / self.container
            group.mkdir(exist_ok=True)
            (group / "memory.limit_in_bytes").write_text(f"{megabytes}M")
            docker("start", self.container)
            init = docker("inspect", "--format", "{{.State.Pid}}", self.container).strip()
            (group / "cgroup.procs").write_text(init)
        self.wait()
        self._learn()

    def sh(self, command: str, stdin: str = "") -> str:
        return docker("exec", "--interactive", self.container, "sh", "-c", command, stdin=stdin)

    def megabytes(self) -> float:
        """What the mail server's processes take of memory (PSS). Only this machine's root can see it."""
        init = docker("inspect", "--format", "{{.State.Pid}}", self.container).strip()
        inside = os.readlink(f"/proc/{init}/ns/pid")
        total = 0.0
        for pid in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError):
                program = os.readlink(f"/proc/{pid}/exe")
                if os.readlink(f"/proc/{pid}/ns/pid") == inside and any(name in program for name in DAEMONS):
                    total += pss(pid)
        return total

    def processor(self) -> float:
        """Seconds of a processor that all processes have used so far; what has ended is in its parent's sum."""
        lines = self.sh("cat /proc/[0-9]*/stat 2>/dev/null; true").splitlines()
        ticks = sum(int(field) for line in lines for field in line.rpartition(") ")[2].split()[11:15])
        return ticks / os.sysconf("SC_CLK_TCK")

    # -- Ansible ----------------------------------------------------------------------------------------------------

    def play(self, playbook: str, count: bool = False, **variables: t.Any) -> Play:
        return play([self], playbook, count, **variables)

    def variables(self) -> t.Dict[str, t.Any]:
        """How to reach it, and what is kept of it here."""
        return {
            "ansible_host": self.address,
            "ansible_user": "root",
            "ansible_ssh_private_key_file": str(STATE / "id_ed25519"),
            "ansible_ssh_common_args": f"-o UserKnownHostsFile={self.folder}/known_hosts -o IdentitiesOnly=yes",
            "verify_report_dir": str(self.folder),
            "certificates_ca_file": str(self.folder / "ca.pem"),
        }


def play(machines: t.Sequence[Machine], playbook: str, count: bool = False, **variables: t.Any) -> Play:
    """A run of ansible-playbook with all of these, which get the same variables."""
    folder = machines[0].folder
    hosts = {machine.container: {**machine.variables(), **variables} for machine in machines}
    inventory = folder / "inventory.json"
    inventory.write_text(json.dumps({"mail": {"hosts": hosts}}))
    command = ["ansible-playbook", "--inventory", str(inventory), str(ROOT / playbook), *(["-vvv"] if count else [])]

    def used() -> float:
        return sum(machine.processor() for machine in machines) + children()

    with open(folder / "ansible.log", "w+", encoding="utf-8") as log:
        spent, began = used(), time.monotonic()
        process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT)
        with Watch(process.pid) as watch:
            code = process.wait()
        seconds = time.monotonic() - began
        processor = used() - spent
        log.seek(0)
        output = log.read()
    if code:
        raise RuntimeError(f"{playbook} failed on {machines[0].role}:\n{output[-3000:]}")
    return Play(seconds, watch.most, processor, output.count("Using module file"), output)


class Watch:
    """The most memory that a process and its descendants have at one time: looked at several times a second."""

    def __init__(self, process: int) -> None:
        self.most = 0.0
        self._family = {str(process)}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(0.2):
            # a child's number is nearly always the higher one
            for pid in sorted(filter(str.isdigit, os.listdir("/proc")), key=int):
                with contextlib.suppress(OSError), open(f"/proc/{pid}/stat", encoding="utf-8") as file:
                    if file.read().rpartition(") ")[2].split()[1] in self._family:
                        self._family.add(pid)
            self.most = max(self.most, sum(map(pss, self._family)))


def children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def pss(pid: str) -> float:
    try:
        with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
            return sum(int(line.split()[1]) for line in file if line.startswith("Pss:")) / 1024
    except OSError:
        return 0.0


def docker(*arguments: str, stdin: str = "") -> str:
    done = subprocess.run(["docker", *arguments], input=stdin, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"docker {arguments[0]} {arguments[-1][:200]}: {done.stderr[-2000:]}")
    return done.stdout


def site(**more: t.Any) -> t.Dict[str, t.Any]:
    """The variables of a site with the benchmark's users."""
    accounts = [{"address": f"u{n}@{DOMAIN}", "password": PASSWORD} for n in range(USERS)]
    return {
        "mail_hostname": f"mail.{DOMAIN}",
        "mail_domains": [DOMAIN],
        "mail_accounts": accounts,
        # one address does the work of many, and each login sends without end, but is counted
        "postfix_main": {"smtpd_client_event_limit_exceptions": "0.0.0.0/0, [::]/0"},
        "postfix_send_limits": {"hour": 1000000},
        **more,
    }
