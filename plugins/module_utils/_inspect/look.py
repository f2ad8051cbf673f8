# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Runs on the server: Python 3.6 and the standard library only.

"""Collect facts on the server that are not visible from outside. Changes nothing and judges nothing."""

import glob
import ipaddress
import os
import time
import typing as t

from ansible_collections.port587.mail.plugins.module_utils._certificate import acme, renewal
from ansible_collections.port587.mail.plugins.module_utils._daemons import arguments, kinds
from ansible_collections.port587.mail.plugins.module_utils._daemons.prove import Proof, prove
from ansible_collections.port587.mail.plugins.module_utils._daemons.systemd import SystemdDaemon
from ansible_collections.port587.mail.plugins.module_utils._inspect import bans, dovecot, log, postfix
from ansible_collections.port587.mail.plugins.module_utils._server import firewall, inbound, ports
from ansible_collections.port587.mail.plugins.module_utils._transaction import kernel
from ansible_collections.port587.mail.plugins.module_utils._transaction.commands import run_command
from ansible_collections.port587.mail.plugins.module_utils._transaction.errors import ProofError
from ansible_collections.port587.mail.plugins.module_utils._transaction.state import load_json

Facts = t.Dict[str, t.Any]

#: The settings and the outcome of role backup.
BACKUP_SETTINGS, BACKUP_STATUS = "/etc/port587/backup.json", "/var/lib/port587-backup/status.json"
BACKUP_TIMER = {"unit": "port587-backup.timer", "program": "restic", "kind": "service"}

_DAEMONS = ({"unit": "postfix", "kind": "postfix"}, {"unit": "dovecot", "kind": "dovecot"})


def look() -> Facts:
    """All facts, as plain data. Facts about programs that are not installed are left out."""
    facts: Facts = {
        "time": time.time(),
        "listeners": listeners("/"),
        "log": log.warnings(),
        "killed": log.killed(),
        "restarts": restarts(),
        "too_low": [limit._asdict() for limit in kernel.too_low()],
        "bans": bans.look(),
        "daemons": {one.name: state(one) for one in map(kinds.of, _DAEMONS) if one.installed()},
    }
    facts["firewall"] = [dict(one._asdict()) for one in firewall.look(reachable(facts["listeners"]))]
    disks = ["/"]
    tls: t.Dict[str, t.List[str]] = {}
    if "postfix" in facts["daemons"]:
        main, services = postfix.configuration()
        queue_directory = main["queue_directory"]
        disks.append(queue_directory)
        facts["message_size_limit"] = int(main["message_size_limit"])
        facts["tables"] = postfix.tables(services)
        facts["queue"] = postfix.queue()
        facts["resolver"] = postfix.resolver(queue_directory, services)
        facts["refused_forwards"] = log.refused_forwards()
        facts["at_limit"] = postfix.at_limit()
        if facts["daemons"]["postfix"]["running"]:
            facts["sockets"] = postfix.sockets(main, services)
            tls["submissions"] = postfix.certificates(main)
    if "dovecot" in facts["daemons"]:
        configuration = run_command(["doveconf", "-n"])[1]
        store = dovecot.mail_store(configuration)
        if store:
            disks.append(store)
            facts["mailboxes"] = {"path": store, "foreign": dovecot.foreign_mailboxes(store)}
        if facts["daemons"]["dovecot"]["running"]:
            tls["imaps"] = dovecot.certificates(configuration)
    if os.path.exists(inbound.RULES):
        facts["own_firewall"] = {"loaded": inbound.loaded()}
    if os.path.exists(acme.SETTINGS):
        facts["renewal"] = dict(load_json(acme.STATE), timer=kinds.of(renewal.TIMER).running())
    if os.path.exists(BACKUP_SETTINGS):
        facts["backup"] = dict(load_json(BACKUP_STATUS), timer=kinds.of(BACKUP_TIMER).running())
    facts["disks"] = {path: disk(path) for path in disks if os.path.isdir(path)}
    facts["certificates"] = {service: served(service, paths) for service, paths in tls.items() if paths}
    return facts


def state(daemon: SystemdDaemon) -> Facts:
    return {"running": daemon.running(), "at_boot": daemon.enabled()}


def restarts() -> t.List[Facts]:
    """The number of automatic restarts of a daemon since its last manual start, and the time of the latest."""
    before, after = arguments.RESTART.split("%s")
    units = {path[len(before) : -len(after)] for path in glob.glob(arguments.RESTART % "*.service")}
    units |= {"postfix.service", "postfix@-.service", "dovecot.service"}
    shown = "--property=Id,NRestarts,InactiveExitTimestampMonotonic"
    said = run_command(["systemctl", "show", shown] + sorted(units))[1]
    return parse_restarts(said, time.clock_gettime(time.CLOCK_MONOTONIC))


def parse_restarts(text: str, now: float) -> t.List[Facts]:
    """The output of `systemctl show`: a paragraph for each unit. systemd counts from its version 235 on."""
    found = []
    for paragraph in text.split("\n\n"):
        said = dict(line.split("=", 1) for line in paragraph.splitlines() if "=" in line)
        times = int(said.get("NRestarts") or 0)
        if times:
            began = int(said["InactiveExitTimestampMonotonic"]) / 1e6
            found.append({"unit": said["Id"], "times": times, "ago": now - began})
    return found


def listeners(root: str) -> t.List[Facts]:
    """The processes that listen on mail ports."""
    return [
        {
            "port": one.port,
            "loopback": ipaddress.ip_address(one.address).is_loopback,
            "program": ", ".join(map(str, one.processes)),
            # if several processes are possible, one expected process is enough
            "ours": any(ports.is_expected(process, one.port) for process in one.processes),
        }
        for one in sorted(ports.listeners(root, ports.PORTS))
    ]


def reachable(seen: t.Sequence[Facts]) -> t.List[int]:
    """The ports that other machines can connect to."""
    return sorted({one["port"] for one in seen if not one["loopback"]})


def served(service: str, paths: t.Sequence[str]) -> Facts:
    """Whether the ports with TLS from the first byte serve the certificates in the files."""
    port, protocol = {"submissions": (465, "smtp"), "imaps": (993, "imap")}[service]
    other: t.Optional[bool] = False
    for path in paths:
        try:
            prove([Proof(protocol, port=port, tls="implicit", rsa=len(paths) > 1)], path, deadline=0)
        except (ProofError, OSError) as exc:
            # all other faults there are visible from outside
            other = True if "serves another certificate" in str(exc) else None
            break
    return {"file": path, "port": port, "other": other}


def disk(path: str) -> Facts:
    status = os.statvfs(path)
    size = status.f_blocks * status.f_frsize
    return {
        "free": status.f_bavail * status.f_frsize,
        "share": status.f_bavail / status.f_blocks if status.f_blocks else 1.0,
        # some file systems have no fixed number of inodes, and report 0
        "inodes": status.f_favail / status.f_files if status.f_files else 1.0,
        "size": size,
    }
