# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run costs, and what the server carries: each figure beside a reference that was measured in the same run.

Usage: scripts/bench [setup|hosts|accounts|mail|tuning|sessions|durability|memory|backup]...
       all of them if none is named
From the environment:
  BENCH_ROUNDS    how often subject and reference take turns; medians are reported. Default 3
  BENCH_ACCOUNTS  numbers of accounts, default "10 1000 10000 100000"
  BENCH_KEEP      anything: leave the containers, and take those that are there
"""

import contextlib
import functools
import json
import os
import pathlib
import platform
import random
import statistics
import subprocess
import sys
import threading
import time
import typing as t

import life
import load
from load import Server
from machines import DOMAIN, PASSWORD, PLATFORM, PREFIX, ROOT, STATE, Machine, Play, docker, play, site
from report import Figure, table, write

ROUNDS = int(os.environ.get("BENCH_ROUNDS", "3"))
COUNTS = [int(count) for count in os.environ.get("BENCH_ACCOUNTS", "10 1000 10000 100000").split()]
KEEP = bool(os.environ.get("BENCH_KEEP"))
LEAN = {"mail_rspamd": False, "mail_autoconfig": False}
MESSAGES = {"submissions": 80, "reused": 160, "deliveries": 160, "logins": 80}
HOSTS = (1, 2, 4, 8)
HANDSHAKES = 100
LIMITS = (96, 128, 160, 192, 256, 320, 384, 512)
#: The image of a server that is set up.
COPY = f"{PREFIX}-bench-copy"
OWNERS = ("certificates", "accounts", "dovecot", "rspamd", "postfix", "autoconfig")
#: What could be tuned, as lines for main.cf or dovecot.conf, and what each should make faster.
SETTINGS: t.Tuple[t.Tuple[str, str, t.Callable[[Server, int], float]], ...] = (
    ("dovecot", "auth_cache_size = 10M", load.logins),
    ("dovecot", "service lmtp {\n  process_min_avail = 4\n}", load.reused),
    ("dovecot", "service lmtp {\n  restart_request_count = 200\n}", load.reused),
    ("postfix", "lmtp_destination_concurrency_limit = 5", load.reused),
    ("postfix", "lmtp_destination_concurrency_limit = 50", load.reused),
    ("postfix", "in_flow_delay = 0", load.reused),
    ("postfix", "max_use = 1000", load.submissions),
)
GIVEN_HASH = "{SHA512-CRYPT}$6$aThousandSalts$" + "x" * 86

Figures = t.Iterator[Figure]


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def in_turns(*measures: t.Callable[[], float]) -> t.List[float]:
    """The median of each, measured one after the other in each round: what else the machine does hits all of them."""
    rounds = [[measure() for measure in measures] for _ in range(ROUNDS)]
    return [statistics.median(values) for values in zip(*rounds)]


class Bench:
    def __init__(self) -> None:
        self.ours, self.lean, self.default = Machine("ours"), Machine("lean"), Machine("default")
        self.copies: t.List[Machine] = []
        self._ready: t.Set[str] = set()

    def ready(self, machine: Machine, **variables: t.Any) -> t.Optional[float]:
        """A machine with our site on it, and the seconds that took, if it was not there before."""
        if machine.role in self._ready:
            return None
        self._ready.add(machine.role)
        if KEEP and machine.exists():
            return None
        say(f"bench: setting up {machine.container}")
        machine.start()
        return machine.play("site.yml", **site(**variables)).seconds

    def lean_server(self) -> Server:
        self.ready(self.lean, **LEAN)
        return Server(self.lean, f"u%d@{DOMAIN}", "/var/vmail")

    def servers(self) -> t.Dict[str, Server]:
        lean = self.lean_server()
        self.ready(self.ours)
        if not (KEEP and self.default.exists()) and "default" not in self._ready:
            say(f"bench: setting up {self.default.container}")
            self.default.start()
            self.default.sh("umask 077; cat > /root/combined.pem", self.lean.sh("cat /etc/port587/tls/combined.pem"))
            self.default.sh(f"sh -s '{PASSWORD}'", (ROOT / "bench/default.sh").read_text())
        self._ready.add("default")
        return {
            "default": Server(self.default, "u%d", "/home"),
            "lean": lean,
            "ours": Server(self.ours, f"u%d@{DOMAIN}", "/var/vmail"),
        }

    # -- what a run costs -------------------------------------------------------------------------------------------

    def setup(self) -> Figures:
        part = "A run of the site"
        bare = Machine("bare")
        bare.start()
        manual = "apt-mark showmanual | sort"
        before = bare.sh(manual)
        first = self.ready(self.ours)
        packages = sorted(set(self.ours.sh(manual).split()) - set(before.split()))
        began = time.monotonic()
        bare.sh(
            "printf '#!/bin/sh\nexit 101\n' > /usr/sbin/policy-rc.d; chmod +x /usr/sbin/policy-rc.d; "
            "export DEBIAN_FRONTEND=noninteractive; apt-get -q update; "
            f"apt-get -q -y --no-install-recommends install {' '.join(packages)}"
        )
        installed = time.monotonic() - began
        bare.remove()
        if first:
            yield Figure(part, "first run, with the proof", first, "s", installed, "bare apt-get install")
        plain = self._plain(packages)
        self.ours.play("bench/plain.yml", **plain)
        times = in_turns(
            lambda: self.ours.play("site.yml", **site()).seconds,
            lambda: self.ours.play("bench/plain.yml", **plain).seconds,
        )
        counted = [
            self.ours.play(book, count=True, **more)
            for book, more in (("site.yml", site()), ("bench/plain.yml", plain))
        ]
        for run in counted:
            if "changed=0" not in run.output:
                raise RuntimeError("a run that should change nothing did")
        yield Figure(part, "no-change run, with the proof", times[0], "s", times[1], "plain tasks")
        modules = [run.modules for run in counted]
        yield Figure(part, "module runs of a no-change run", modules[0], "", modules[1], "plain tasks")

    def _plain(self, packages: t.List[str]) -> t.Dict[str, t.Any]:
        """What plain.yml has to do, read off a server that is set up."""
        files = []
        folder = self.ours.folder / "files"
        folder.mkdir(exist_ok=True)
        for owner in OWNERS:
            manifest = json.loads(self.ours.sh(f"cat /var/lib/port587/{owner}/manifest.json"))
            for dest in manifest["files"]:
                if dest.endswith((".db", ".lmdb", ".svbin")):
                    continue
                user, group, mode = self.ours.sh(f"stat -c '%U %G %a' {dest}").split()
                source = folder / str(len(files))
                source.write_text(self.ours.sh(f"cat {dest}"), encoding="utf-8")
                files.append({"src": str(source), "dest": dest, "owner": user, "group": group, "mode": mode.zfill(4)})
        services = ["postfix", "dovecot", "rspamd", "nginx"]
        return {"bench_packages": packages, "bench_files": files, "bench_services": services}

    def hosts(self) -> Figures:
        """More than one: copies of one, which all have nothing to change."""
        part = "A run that changes nothing, with several hosts at once"
        self.ready(self.ours)
        docker("commit", self.ours.container, COPY)
        self.copies = [Machine(f"copy{number}") for number in range(max(HOSTS))]
        for machine in self.copies:
            machine.start(COPY)

        def run(count: int) -> float:
            return play(self.copies[:count], "site.yml", **site()).seconds

        times = in_turns(*(functools.partial(run, count) for count in HOSTS))
        for count, seconds in zip(HOSTS, times):
            yield Figure(part, f"{count} host{'s' * (count > 1)}", seconds, "s", times[0], f"{HOSTS[0]} host")
        for machine in self.copies:
            machine.remove()

    def accounts(self) -> Figures:
        part = "Accounts from a CSV file (playbooks/accounts.yml)"
        self.ready(self.lean, **LEAN)
        least: t.Dict[str, Play] = {}
        for count in COUNTS:
            rounds = 1 if count > 10_000 else ROUNDS
            for what, runs in self._accounts(count, rounds).items():
                own = Play(*(statistics.median(run[field] for run in runs) for field in range(4)), "")
                other, against = least.setdefault(what, own), f"{COUNTS[0]} accounts"
                label = f"{count} accounts, {what}"
                yield Figure(part, label, own.seconds, "s", other.seconds, against)
                yield Figure(part, f"{label}: processors", own.processor, "s", other.processor, against)
                yield Figure(part, f"{label}: controller's memory", own.megabytes, "MB", other.megabytes, against)
        # back to those who log in
        self.lean.play("playbooks/accounts.yml", **site())

    def _accounts(self, count: int, rounds: int) -> t.Dict[str, t.List[Play]]:
        file = self.lean.folder / "people.csv"
        variables = site(mail_accounts_file=str(file))
        lines = [f"p{n}@{DOMAIN},,{GIVEN_HASH},Person {n},p{n}.alias@{DOMAIN}" for n in range(count)]

        def run(*more: str) -> Play:
            file.write_text("\n".join(["address,password,password_hash,name,aliases", *lines, *more]) + "\n")
            return self.lean.play("playbooks/accounts.yml", **variables)

        found = {"all new, hashes given": [run()], "one added": [], "no change": []}
        for number in range(rounds):
            for what in ("one added", "no change"):
                found[what].append(run(f"new{number}@{DOMAIN},a password,,,"))
        return found

    # -- what the server carries ------------------------------------------------------------------------------------

    def mail(self) -> Figures:
        part = "Mail"
        servers = self.servers()
        names = {"lean": "ours", "ours": "ours with rspamd and nginx"}
        against = "the distribution's default"
        for server in servers.values():
            server.machine.sh(
                "systemctl restart postfix dovecot; systemctl try-restart rspamd nginx 2>/dev/null || true"
            )
        time.sleep(5)
        idle = {name: server.machine.megabytes() for name, server in servers.items()}
        measures = (
            ("submissions on 587, new connections", load.submissions),
            ("submissions on 587, connections reused", load.reused),
            ("deliveries on 25, new connections", load.deliveries),
            ("logins on 993", load.logins),
        )
        for what, measure in measures:
            say(f"bench: {what}")
            # a stranger's mail without SPF and DKIM is what rspamd has its own opinion of
            asked = dict(list(servers.items())[: 2 if measure is load.deliveries else None])
            spent: t.Dict[str, t.List[float]] = {name: [] for name in asked}
            turns = [functools.partial(self._spending, measure, server, spent[name]) for name, server in asked.items()]
            values = in_turns(*turns)
            for name, value in list(zip(asked, values))[1:]:
                yield Figure(part, f"{what}, {names[name]}", value, "/s", values[0], against)
                own, other = statistics.median(spent[name]), statistics.median(spent["default"])
                yield Figure(part, f"{what}: processor time of each, {names[name]}", own, "ms", other, against)
        say("bench: until visible")
        visible = {name: load.until_visible(server) for name, server in servers.items()}
        for name in names:
            for number, what in enumerate(("median", "99 of 100")):
                yield Figure(
                    part, f"DATA to visible in IMAP, {what}, {names[name]}", visible[name][number], "ms",
                    visible["default"][number], against,
                )  # fmt: skip
        busy = {name: self._under_load(server) for name, server in servers.items()}
        for name in names:
            yield Figure(part, f"memory idle, {names[name]}", idle[name], "MB", idle["default"], against)
            yield Figure(part, f"memory under load, {names[name]}", busy[name], "MB", busy["default"], against)

    @staticmethod
    def _spending(measure: t.Callable[[Server, int], float], server: Server, spent: t.List[float]) -> float:
        """What is measured, and the milliseconds of a processor for each, which depend less on what else runs."""
        count = MESSAGES[measure.__name__]
        before = server.machine.processor()
        rate = measure(server, count)
        spent.append((server.machine.processor() - before) * 1000 / count)
        return rate

    @staticmethod
    def _under_load(server: Server) -> float:
        with contextlib.ExitStack() as stack:
            # ten at once who stay, as mail clients do
            for number in range(10):
                stack.enter_context(load.submission(server, number))
            worker = threading.Thread(target=load.reused, args=(server, 160))
            worker.start()
            most = 0.0
            while worker.is_alive():
                most = max(most, server.machine.megabytes())
        return most

    def tuning(self) -> Figures:
        """Settings that the roles leave alone, or could have otherwise."""
        server = self.lean_server()
        for daemon, lines, measure in SETTINGS:
            say(f"bench: {lines}")
            file = {"postfix": "/etc/postfix/main.cf", "dovecot": "/etc/dovecot/dovecot.conf"}[daemon]
            kept = self.lean.sh(f"cat {file}")
            without: t.List[float] = []
            having: t.List[float] = []
            rates = in_turns(
                functools.partial(self._configured, server, daemon, file, kept, measure, without),
                functools.partial(self._configured, server, daemon, file, f"{kept}{lines}\n", measure, having),
            )
            self._configure(daemon, file, kept)
            what = f"{measure.__name__}, {' '.join(lines.split())}"
            yield Figure("Settings", what, rates[1], "/s", rates[0], "without")
            of_each = [statistics.median(spent) for spent in (having, without)]
            yield Figure("Settings", f"{what}: processor time of each", of_each[0], "ms", of_each[1], "without")

    def _configure(self, daemon: str, file: str, content: str) -> None:
        self.lean.sh(f"cat > {file}; systemctl restart {daemon}", content)

    def _configured(
        self,
        server: Server,
        daemon: str,
        file: str,
        content: str,
        measure: t.Callable[[Server, int], float],
        spent: t.List[float],
    ) -> float:
        self._configure(daemon, file, content)
        time.sleep(2)
        return self._spending(measure, server, spent)

    def sessions(self) -> Figures:
        part = "IMAP sessions that wait (IDLE), and TLS"
        servers = self.servers()
        # Dovecot lets a person have ten from one address
        count = 10 * load.USERS
        each = {}
        for name in ("default", "lean"):
            machine = servers[name].machine
            machine.sh("systemctl restart postfix dovecot")
            time.sleep(3)
            before = machine.megabytes()
            clients = load.sessions(servers[name], count)
            each[name] = (machine.megabytes() - before) * 1024 / count
            for client in clients:
                client.sock.close()
        against = "the distribution's default"
        yield Figure(part, f"memory of each of {count} sessions", each["lean"], "KB", each["default"], against)
        for port in (465, 993):
            spent: t.List[float] = []
            resumed = 0
            for resume in (False, True):
                before = servers["lean"].machine.processor()
                resumed = load.handshakes(servers["lean"], port, HANDSHAKES, resume)
                spent.append((servers["lean"].machine.processor() - before) * 1000 / HANDSHAKES)
            yield Figure(
                part, f"port {port}: processor time of a resumed session", spent[1], "ms", spent[0], "a new one"
            )
            yield Figure(part, f"port {port}: sessions that could be resumed", 100 * resumed / (HANDSHAKES - 1), "%")

    def memory(self) -> Figures:
        """The smallest limit with which a server starts, is proved, and takes mail from all its users at once."""
        part = "Memory limit of the whole container"
        for name, server in list(self.servers().items())[1:]:
            # what works with some amount works with more
            fails, works = -1, len(LIMITS)
            while works - fails > 1:
                middle = (fails + works) // 2
                say(f"bench: {server.machine.container} with {LIMITS[middle]} MB")
                if self._works_within(server, LIMITS[middle]):
                    works = middle
                else:
                    fails = middle
            server.machine.limit(4096)
            if works == len(LIMITS):
                raise RuntimeError(f"{server.machine.container} does not work within {LIMITS[-1]} MB")
            yield Figure(part, {"lean": "ours", "ours": "ours with rspamd and nginx"}[name], LIMITS[works], "MB")

    def _works_within(self, server: Server, limit: int) -> bool:
        try:
            server.machine.limit(limit)
            less = {"preflight_skip": ["memory", "swap"], **({} if server.machine is self.ours else LEAN)}
            server.machine.play("site.yml", **site(**less))
            load.submissions(server, MESSAGES["submissions"])
        except (RuntimeError, OSError, load.smtplib.SMTPException) as error:
            say(f"bench: {str(error)[-500:]}")
            return False
        return True

    def durability(self) -> Figures:
        """Kill everything under load: what was answered with 250 has to be in a mailbox afterwards."""
        server = self.lean_server()
        accepted: t.List[str] = []
        over = threading.Event()

        def one(number: int) -> None:
            with contextlib.suppress(OSError, load.smtplib.SMTPException):
                client = load.submission(server, number)
                while not over.is_set():
                    accepted.append(load.send(client, number))

        for _ in range(ROUNDS):
            over.clear()
            workers = [threading.Thread(target=one, args=(number,)) for number in range(8)]
            for worker in workers:
                worker.start()
            time.sleep(random.uniform(2, 5))
            docker("kill", "--signal=KILL", self.lean.container)
            over.set()
            for worker in workers:
                worker.join()
            docker("start", self.lean.container)
            self.lean.wait()
        lost = self._missing(accepted)
        if lost:
            raise RuntimeError(
                f"{len(lost)} of {len(accepted)} messages that were answered with 250 are nowhere: {lost[:3]}"
            )
        part = "Killed under load (SIGKILL to all processes)"
        yield Figure(part, f"messages answered with 250, {ROUNDS} kills", len(accepted), "")
        yield Figure(part, "of them not in a mailbox afterwards", len(lost), "")

    def _missing(self, accepted: t.List[str]) -> t.List[str]:
        lost = list(accepted)
        self.lean.sh("postqueue -f")
        for _ in range(60):
            there = set(self.lean.sh("grep -rhoiE '^message-id: <[^>]+' /var/vmail | cut -d'<' -f2").split())
            lost = [identity for identity in lost if identity not in there]
            if not lost:
                break
            time.sleep(1)
        return lost

    # -- a server's life --------------------------------------------------------------------------------------------

    def backup(self) -> Figures:
        """Mails and megabytes per second, of a whole server whose mails are the greatest part by far."""
        part = f"Backup and restore of {life.MAILS} mails, on one disk"
        self.lean_server()
        taken = {(one, program): values for one, program, values in life.backup(self.lean, ROUNDS)}
        megabytes = int(self.lean.sh("du -sb --apparent-size /var/vmail").split()[0]) / 1e6
        yield Figure(part, "size of the mail", megabytes, "MB")
        median = {key: statistics.median(values) for key, values in taken.items()}
        for operation in life.OPERATIONS:
            for other in ("tar", "rsync"):
                for unit, amount in (("mails/s", life.MAILS), ("MB/s", megabytes)):
                    own, reference = (amount / median[operation, program] for program in ("ours", other))
                    yield Figure(part, operation, own, unit, reference, other)
        self.lean.remove()
        self._ready.discard("lean")


PARTS = ("setup", "hosts", "accounts", "mail", "tuning", "sessions", "durability", "memory", "backup")


def main(wanted: t.Sequence[str]) -> int:
    if set(wanted) - set(PARTS):
        say(__doc__ or "")
        return 2
    STATE.mkdir(parents=True, exist_ok=True)
    bench = Bench()
    figures: t.List[Figure] = []
    failed = []
    began = time.time()
    try:
        for part in [one for one in PARTS if one in (wanted or PARTS)]:
            say(f"bench: {part}")
            try:
                for figure in getattr(bench, part)():
                    figures.append(figure)
                    say(table([figure]).splitlines()[-1])
            except RuntimeError as error:
                failed.append(part)
                say(f"bench: {part} failed: {error}")
    finally:
        if not KEEP:
            for machine in (bench.ours, bench.lean, bench.default, Machine("bare"), *bench.copies):
                machine.remove()
            subprocess.run(["docker", "image", "rm", COPY], capture_output=True, check=False)
    about = {
        "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(began)),
        "seconds": round(time.time() - began),
        "platform": PLATFORM,
        "processors": os.cpu_count(),
        "load before": round(LOAD, 1),
        "python": platform.python_version(),
        "commit": subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
        ).stdout.strip(),
        "rounds": ROUNDS,
    }
    print(table(figures))
    print("\n" + "\n".join(str(path.relative_to(pathlib.Path.cwd())) for path in write(figures, about)))
    return 1 if failed else 0


LOAD = os.getloadavg()[0]

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
