# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Runs on the server: Python 3.6 and the standard library only.

"""Judge the facts: one record for each of them."""

import re
import typing as t

from ansible_collections.port587.mail.plugins.module_utils._probe.diagnoses import DIAGNOSES
from ansible_collections.port587.mail.plugins.module_utils._probe.records import INSIDE, ON_THE_SERVER, Record

#: Seconds that a message may wait before that is a warning. Greylisting takes minutes, a short outage an hour.
QUEUE_PATIENCE = 4 * 3600
#: Seconds by which two clocks may differ before certificates and one-time passwords suffer.
CLOCK_TOLERANCE = 120.0
#: Number of automatic restarts, and seconds since the last one, that mean that a daemon has a fault.
RESTARTS, RESTARTED = 3, 3600
#: Share of a disk's space and inodes below which that is a warning.
SCARCE = 0.05

#: Age in seconds of the last good backup from which on that is a warning: a day, the random delay, and the duration.
BACKUP_AGE = 26 * 3600
#: The diagnoses of failed backups, by the kind that /usr/local/lib/port587/backup stores.
_BACKUPS = {
    "password": "backup-password",
    "locked": "backup-locked",
    "full": "backup-full",
    "unreachable": "backup-unreachable",
    "missing": "backup-unreachable",
    "damaged": "backup-damaged",
    "foreign": "backup-foreign",
    "shrunk": "backup-shrunk",
}

#: Ports that mail needs. The others may be closed on purpose.
NEEDED = (25, 465, 587, 993)

#: The part of the mail system behind each port, if it is not the MRA.
_COMPONENTS = {25: "MTA", 465: "MSA", 587: "MSA", 4190: "MDA"}

_SOCKETS = {"sasl": "login-socket", "lmtp": "delivery-socket", "policy": "policy-socket", "milter": "milter-socket"}


class _Judge:
    """Collects records."""

    def __init__(self, facts: t.Dict[str, t.Any]) -> None:
        self.facts = facts
        self.records: t.List[Record] = []

    def ok(self, step: str, seen: str = "", port: int = 0) -> None:
        self._record(step, "ok", seen, "", port)

    def fail(self, step: str, diagnosis: str, seen: str, port: int = 0) -> None:
        self._record(step, "fail", seen, diagnosis, port)

    def warn(self, step: str, diagnosis: str, seen: str) -> None:
        self._record(step, "warn", seen, diagnosis, 0)

    def _record(self, step: str, verdict: str, seen: str, diagnosis: str, port: int) -> None:
        component = (DIAGNOSES[diagnosis].component if diagnosis else "") or _COMPONENTS.get(
            port, "MRA" if port else "MTA"
        )
        self.records.append(Record(INSIDE, step, component, ON_THE_SERVER, port, verdict, seen, diagnosis))

    def daemons(self) -> None:
        for name, state in self.facts["daemons"].items():
            step = "%s runs" % name
            if not state["running"]:
                self.fail(step, name + "-stopped", "%s does not run" % name.capitalize())
            elif not state["at_boot"]:
                self.warn(step, "not-at-boot", "%s runs, but is not enabled" % name.capitalize())
            else:
                self.ok(step)

    def restarts(self) -> None:
        often = [one for one in self.facts["restarts"] if one["times"] >= RESTARTS and one["ago"] < RESTARTED]
        for one in often:
            seen = "systemd has started %(unit)s again %(times)d times" % one
            self.warn("restarts", "restarts-often", "%s, the last time %s ago" % (seen, _duration(one["ago"])))
        if not often:
            self.ok("restarts")

    def kernel(self) -> None:
        low = ["%(name)s is %(present)d, and should be %(wanted)d" % one for one in self.facts["too_low"]]
        # in a container this may be permanent, and few servers need more
        if low and "Inotify instance limit" in self._log():
            self.warn("kernel", "kernel-limit", "; ".join(low))
        else:
            self.ok("kernel", "; ".join(low))

    def sessions(self) -> None:
        """From what Dovecot's master process writes of those that it drops."""
        said = re.findall(r"service\(([\w-]+)\): process_limit \((\d+)\) reached", self._log())
        if said:
            self.warn(
                "sessions", "sessions-full", "; ".join("%s: all %s were in use" % one for one in sorted(set(said)))
            )
        else:
            self.ok("sessions")

    def _log(self) -> str:
        return "\n".join(line["text"] for line in self.facts["log"])

    def listeners(self) -> None:
        ports: t.Dict[int, t.List[t.Dict[str, t.Any]]] = {}
        for listener in self.facts["listeners"]:
            ports.setdefault(listener["port"], []).append(listener)
        for port, there in sorted(ports.items()):
            step = "listens on %d" % port
            strangers = [one["program"] for one in there if not one["ours"]]
            if strangers:
                self.fail(step, "port-taken", "port %d is held by %s" % (port, strangers[0]), port)
            elif all(one["loopback"] for one in there):
                self.fail(
                    step, "loopback-only", "%s listens on port %d of 127.0.0.1 only" % (_program(port), port), port
                )
            else:
                self.ok(step, _program(port), port)

    def firewall(self) -> None:
        for one in self.facts["firewall"]:
            for port in one["ports"]:
                seen = "%s lets nobody in on port %d; to open all that it shuts: %s" % (one["by"], port, one["cure"])
                verdict = "fail" if port in NEEDED else "warn"
                self._record("firewall", verdict, seen, "host-firewall", port)
        if not self.facts.get("own_firewall", {"loaded": True})["loaded"]:
            self.warn("firewall", "firewall-off", "the kernel does not have the rules of the role firewall")

    def bans(self) -> None:
        state = self.facts.get("bans")
        if state is None:
            return
        if not state["running"]:
            self.warn("bans", "bans-stopped", "fail2ban does not run")
        elif state["here"]:
            address = state["here"][0]
            seen = "fail2ban has banned %s; sudo fail2ban-client unban %s" % (address, address)
            self.fail("bans", "address-banned", seen)
        else:
            self.ok("bans", "%d addresses are banned" % len(state["banned"]))

    def sockets(self) -> None:
        for one in self.facts.get("sockets", ()):
            step = "socket %s" % one["protocol"]
            if one["trouble"]:
                seen = "%s, and %s: %s" % (one["setting"], one["path"], one["trouble"])
                self.fail(step, _SOCKETS[one["protocol"]], seen)
            else:
                self.ok(step, one["path"])

    def tables(self) -> None:
        known = self.facts.get("tables", ())
        for one in known:
            if one["trouble"].endswith("does not exist"):
                self.fail("tables", "lookup-failed", one["trouble"])
            elif one["trouble"]:
                self.warn("tables", "table-stale", one["trouble"])
        if known and not any(one["trouble"] for one in known):
            self.ok("tables", "%d, all compiled" % len(known))

    def certificates(self) -> None:
        for one in self.facts["certificates"].values():
            step = "certificate on %d" % one["port"]
            if one["other"]:
                seen = "port %d does not serve what is in %s" % (one["port"], one["file"])
                self.fail(step, "certificate-not-loaded", seen, one["port"])
            elif one["other"] is not None:
                self.ok(step, one["file"])

    def renewal(self) -> None:
        state = self.facts.get("renewal")
        if state is None:
            return
        trouble = state.get("not_installed") or state.get("error")
        if state.get("stand_in"):
            self.warn("renewal", "certificate-not-issued", "another certificate stands in: %s" % trouble)
        elif trouble:
            self.warn("renewal", "renewal-failed", trouble)
        lacking = state.get("lacking", {})
        if lacking:
            seen = "; ".join("%s: %s" % pair for pair in sorted(lacking.items()))
            self.warn("renewal", "certificate-not-issued", "of names with one of their own: %s" % seen)
        if not state["timer"]:
            self.warn("renewal", "renewal-off", "port587-certificates.timer is not active")
        elif not (trouble or lacking):
            lacks = ", ".join("%s: %s" % pair for pair in sorted(state.get("missing", {}).items()))
            self.ok("renewal", "the certificate lacks %s" % lacks if lacks else "")

    def backup(self) -> None:
        state = self.facts.get("backup")
        if state is None:
            return
        good = state.get("good")
        age = self.facts["time"] - (good or state.get("since", 0))
        seen = "the last good backup is %s old" % _duration(age) if good else "there is no backup yet"
        if state.get("problem"):
            diagnosis = _BACKUPS.get(state.get("kind", ""), "backup-old")
            self.warn("backup", diagnosis, "%s; %s" % (seen, state["problem"]))
        elif not state["timer"]:
            self.warn("backup", "backup-old", "port587-backup.timer is not active; %s" % seen)
        elif age > BACKUP_AGE:
            self.warn("backup", "backup-old", seen)
        else:
            self.ok("backup", seen)

    def queue(self) -> None:
        queue = self.facts.get("queue")
        if queue is None:
            return
        reasons = queue["reasons"]
        seen = "%d waiting, the oldest for %s" % (queue["messages"], _duration(queue["oldest"]))
        if reasons:
            seen += "; %d because of: %s" % (reasons[0]["count"], reasons[0]["reason"])
        blocked = [one for one in reasons if "timed out" in one["reason"] and "]:25:" in one["reason"]]
        stale = self._stale_resolver()
        if stale and any(_is_lookup(one["reason"]) for one in reasons):
            self.fail("queue", "resolver-in-chroot", "%s; %s" % (stale, seen))
        elif blocked and len(blocked) == len(reasons) and not queue.get("sent"):
            self.fail("queue", "outgoing-25-blocked", seen)
        elif queue["oldest"] > QUEUE_PATIENCE:
            self.warn("queue", "queue-stuck", seen)
        else:
            self.ok("queue", seen if queue["messages"] else "empty")

    def forwarding(self) -> None:
        refused = self.facts.get("refused_forwards")
        if refused:
            seen = ["%(domain)s refused %(count)d within the last day: %(said)s" % one for one in refused]
            self.warn("forwarding", "forward-refused", "; ".join(seen))
        elif refused is not None:
            self.ok("forwarding", "no forwarded mail was refused because of its sender")

    def sending(self) -> None:
        logins = self.facts.get("at_limit")
        if logins:
            self.warn("sending limit", "send-limit", "; ".join(logins))
        elif logins is not None:
            self.ok("sending limit", "no login has reached it")

    def resolver(self) -> None:
        stale = self._stale_resolver()
        for address, trouble in self.facts.get("resolver", {}).get("trouble", {}).items():
            if trouble:
                self.fail("resolver", "resolver-fails", "%s: %s" % (address, trouble))
                return
        if stale and not any(record.diagnosis == "resolver-in-chroot" for record in self.records):
            self.warn("resolver", "resolver-in-chroot", stale)
        elif not stale:
            self.ok("resolver")

    def _stale_resolver(self) -> str:
        resolver = self.facts.get("resolver")
        if not resolver or not resolver["chroot"] or resolver["seen"] == resolver["real"]:
            return ""
        seen, real = (", ".join(lines) or "nothing" for lines in (resolver["seen"], resolver["real"]))
        return "Postfix's copy of resolv.conf says %s, and would say %s today" % (seen, real)

    def disks(self) -> None:
        # smtpd(8) refuses mail if the free space is less than one and a half times the largest message
        needed = 1.5 * self.facts.get("message_size_limit", 0)
        scarce = False
        for path, disk in self.facts["disks"].items():
            seen = "%s: %d MB of %d MB free" % (path, disk["free"] // 10**6, disk["size"] // 10**6)
            if disk["inodes"] < SCARCE:
                seen = "%s: %.1f %% of its inodes free" % (path, 100 * disk["inodes"])
            if disk["free"] < needed or not disk["inodes"]:
                self.fail("disk", "disk-full", seen)
            elif disk["share"] < SCARCE or disk["inodes"] < SCARCE:
                self.warn("disk", "disk-nearly-full", seen)
            else:
                continue
            scarce = True
        if not scarce:
            self.ok("disk")

    def memory(self) -> None:
        killed = self.facts["killed"]
        if killed:
            self.warn("memory", "memory-short", "killed within the last day: %s" % ", ".join(sorted(set(killed))))
        else:
            self.ok("memory")

    def mailboxes(self) -> None:
        mailboxes = self.facts.get("mailboxes")
        if mailboxes is None:
            return
        for one in mailboxes["foreign"]:
            seen = "%s belongs to %s and not to %s" % (one["path"], one["owner"], one["wanted"])
            self.fail("mailboxes", "mailbox-unreadable", seen)
        if not mailboxes["foreign"]:
            self.ok("mailboxes", mailboxes["path"])

    def clock(self, controller: t.Optional[float]) -> None:
        if controller is None:
            return
        ahead = self.facts["time"] - controller
        if abs(ahead) > CLOCK_TOLERANCE:
            seen = "the server is %.0f s %s" % (abs(ahead), "ahead" if ahead > 0 else "behind")
            self.fail("clock", "clock-wrong", seen)
        else:
            self.ok("clock")


def judge(facts: t.Dict[str, t.Any], controller: t.Optional[float] = None) -> t.List[Record]:
    """Records for the facts of :func:`look`. ``controller``: the controller's time, in seconds since the epoch."""
    judging = _Judge(facts)
    judging.daemons()
    judging.restarts()
    judging.kernel()
    judging.sessions()
    judging.listeners()
    judging.firewall()
    judging.bans()
    judging.sockets()
    judging.tables()
    judging.certificates()
    judging.renewal()
    judging.backup()
    judging.queue()
    judging.forwarding()
    judging.sending()
    judging.resolver()
    judging.disks()
    judging.memory()
    judging.mailboxes()
    judging.clock(controller)
    return judging.records


def _program(port: int) -> str:
    return "Postfix" if port in (25, 465, 587) else "Dovecot"


def _is_lookup(reason: str) -> bool:
    return "Host or domain name not found" in reason or "Name service error" in reason


def _duration(seconds: float) -> str:
    if seconds < 120:
        return "%d s" % seconds
    if seconds < 7200:
        return "%d min" % (seconds // 60)
    return "%d h" % (seconds // 3600)
