# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Runs on the server: Python 3.6 and the standard library only.

"""What can't be seen from outside: looked up on the server, nothing is changed, nothing is judged."""

import collections
import contextlib
import glob
import json
import os
import pwd
import re
import socket
import time
import typing as t

from ansible_collections.port587.mail.plugins.module_utils._certificate import acme as acme_client
from ansible_collections.port587.mail.plugins.module_utils._daemons import arguments, kernel
from ansible_collections.port587.mail.plugins.module_utils._daemons.daemons import (
    Dovecot,
    Postfix,
    RenewalTimer,
    SystemdDaemon,
)
from ansible_collections.port587.mail.plugins.module_utils._daemons.prove import Proof, prove
from ansible_collections.port587.mail.plugins.module_utils._server import firewall, preflight
from ansible_collections.port587.mail.plugins.module_utils._transaction.files import (
    ProofError,
    has_command,
    run_command,
)
from ansible_collections.port587.mail.plugins.module_utils._transaction.journal import load_json

#: How far back the log is read for what went wrong, in seconds.
LOG_SECONDS = 900
#: Lines of it, and messages of the queue, that are looked at: enough to see why, and bounded where there are many.
LOG_LINES = 500
QUEUE_MESSAGES = 2000

#: The sockets of the role postfix's policy services, and the settings of the one that asks Dovecot.
SEND_LIMITS = "/var/spool/postfix/port587/send-limits"
RECIPIENTS = "/var/spool/postfix/port587/recipients"
RECIPIENTS_SETTINGS = "/etc/port587/recipients.json"

_COMPILED = {"hash": ".db", "btree": ".db", "lmdb": ".lmdb", "cdb": ".cdb", "dbm": ".pag"}
_TABLE = re.compile(r"(?<![\w$}-])(?:proxy:)?(hash|btree|lmdb|cdb|dbm):(/[^\s,;{}]+)")
_POLICY = re.compile(r"check_policy_service\s+(?:\{\s*)?unix:([^\s,;{}]+)")
_STAGES = ("client", "helo", "sender", "relay", "recipient", "data", "end_of_data")
_DELIVERY = ("virtual_transport", "mailbox_transport", "local_transport", "default_transport")

Facts = t.Dict[str, t.Any]


class Service(t.NamedTuple):
    """A line of master.cf with its own settings."""

    name: str
    kind: str
    chroot: bool
    program: str
    settings: t.Dict[str, str]


def look() -> Facts:
    """Everything, as plain data. What does not apply, because a program is not there, is left out."""
    facts: Facts = {
        "time": time.time(),
        "listeners": listeners("/"),
        "log": log(LOG_SECONDS),
        "killed": killed(),
        "restarts": restarts(),
        "too_low": [limit._asdict() for limit in kernel.too_low()],
        "daemons": {one.name: state(one) for one in (Postfix(), Dovecot()) if one.installed()},
    }
    facts["firewall"] = [dict(one._asdict()) for one in firewall.look(reachable(facts["listeners"]))]
    disks = ["/"]
    tls: t.Dict[str, t.List[str]] = {}
    if "postfix" in facts["daemons"]:
        main, services = postfix_settings()
        queue_directory = main["queue_directory"]
        disks.append(queue_directory)
        facts["message_size_limit"] = int(main["message_size_limit"])
        facts["tables"] = tables(main, services)
        facts["queue"] = queue()
        facts["resolver"] = resolver(queue_directory, services)
        facts["at_limit"] = at_limit()
        if facts["daemons"]["postfix"]["running"]:
            facts["sockets"] = sockets(main, services)
            tls["submissions"] = postfix_certificates(main)
    if "dovecot" in facts["daemons"]:
        configuration = run_command(["doveconf", "-n"])[1]
        store = mail_store(configuration)
        if store:
            disks.append(store)
            facts["mailboxes"] = {"path": store, "foreign": foreign(store)}
        if facts["daemons"]["dovecot"]["running"]:
            tls["imaps"] = dovecot_certificates(configuration)
    if os.path.exists(acme_client.SETTINGS):
        facts["renewal"] = dict(load_json(acme_client.STATE), timer=RenewalTimer().running())
    facts["disks"] = {path: disk(path) for path in disks if os.path.isdir(path)}
    facts["certificates"] = {service: served(service, paths) for service, paths in tls.items() if paths}
    return facts


def at_limit() -> t.Optional[t.List[str]]:
    """Logins that may not send more now, as the service that counts says; None where it does not run."""
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as connection:
        connection.settimeout(5)
        try:
            connection.connect(SEND_LIMITS)
            connection.sendall(b"request=port587_status\n\n")
            with connection.makefile() as answers:
                said = answers.readline()
            return json.loads(said.partition("=")[2])
        except (OSError, ValueError):
            return None


# -- programs -----------------------------------------------------------------------------------------------------


def state(daemon: SystemdDaemon) -> Facts:
    return {"running": daemon.running(), "at_boot": daemon.enabled()}


def restarts() -> t.List[Facts]:
    """How often systemd has started a daemon again by itself since somebody started it, and when that was last."""
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
        said = _parameters(paragraph)
        times = int(said.get("NRestarts") or 0)
        if times:
            began = int(said["InactiveExitTimestampMonotonic"]) / 1e6
            found.append({"unit": said["Id"], "times": times, "ago": now - began})
    return found


def parse_listeners(text: str) -> t.Dict[str, t.Tuple[int, bool]]:
    """The listening sockets of /proc/net/tcp or tcp6: inode -> port, and whether only this machine reaches it."""
    found = {}
    for line in text.splitlines()[1:]:
        field = line.split()
        if len(field) > 9 and field[3] == "0A":
            address, _sep, port = field[1].rpartition(":")
            # in the machine's byte order, which on all that run Debian is the one with the last byte first
            loopback = address.endswith("7F") if len(address) == 8 else address == "0" * 24 + "01000000"
            found[field[9]] = (int(port, 16), loopback)
    return found


def listeners(root: str) -> t.List[Facts]:
    """Who listens on a mail port."""
    sockets_: t.Dict[str, t.Tuple[int, bool]] = {}
    for table in ("tcp", "tcp6"):
        try:
            with open(root + "proc/net/" + table) as handle:
                sockets_.update(parse_listeners(handle.read()))
        except OSError:
            continue  # a kernel without IPv6
    wanted = {
        "socket:[%s]" % inode: (port, loopback)
        for inode, (port, loopback) in sockets_.items()
        if port in preflight.PORTS
    }
    holders = preflight.holders(root, wanted) if wanted else {}
    return [
        {
            "port": port,
            "loopback": loopback,
            "program": ", ".join(str(process) for process in holders[target]),
            # where several may be meant, it is enough that one of them is ours
            "ours": any(process.is_ours(port) for process in holders[target]),
        }
        for target, (port, loopback) in sorted(wanted.items(), key=lambda item: item[1])
    ]


def reachable(seen: t.Sequence[Facts]) -> t.List[int]:
    """The ports on which somebody listens for the world."""
    return sorted({one["port"] for one in seen if not one["loopback"]})


# -- Postfix ------------------------------------------------------------------------------------------------------


def _parameters(text: str) -> t.Dict[str, str]:
    pairs = (line.split("=", 1) for line in text.splitlines() if "=" in line)
    return {pair[0].strip(): pair[1].strip() for pair in pairs}


def parse_services(master: str, overrides: str, chroot_by_default: bool = False) -> t.List[Service]:
    """The output of `postconf -M` and `postconf -Px`."""
    settings: t.Dict[str, t.Dict[str, str]] = collections.defaultdict(dict)
    for line in overrides.splitlines():
        found = re.match(r"(\S+/\S+)/(\w+) = ?(.*)", line)
        if found:
            settings[found.group(1)][found.group(2)] = found.group(3).strip()
    services = []
    for line in master.splitlines():
        field = line.split()
        if len(field) >= 8 and not line[0].isspace():
            chroot = field[4] == "y" or (field[4] == "-" and chroot_by_default)
            key = field[0] + "/" + field[1]
            services.append(Service(field[0], field[1], chroot, field[7], settings[key]))
    return services


def postfix_settings() -> t.Tuple[t.Dict[str, str], t.List[Service]]:
    main = _parameters(run_command(["postconf", "-x"])[1])
    # master(5): up to compatibility level 0 a dash in the column means yes
    chroot = main.get("compatibility_level", "0").startswith("0")
    return main, parse_services(run_command(["postconf", "-M"])[1], run_command(["postconf", "-Px"])[1], chroot)


def socket_path(written: str, queue_directory: str, chroot: bool) -> str:
    """Where a socket is that Postfix is told of: below its queue directory, wherever Postfix is shut in there."""
    path = os.path.join(queue_directory, written)
    return queue_directory + written if chroot and written.startswith("/") else path


def sockets(main: t.Mapping[str, str], services: t.Sequence[Service]) -> t.List[Facts]:
    """The sockets of other programs that Postfix needs, and whether the user postfix gets an answer there."""
    directory = main["queue_directory"]
    wanted: t.Dict[t.Tuple[str, str], str] = {}
    for service in services:
        if service.program != "smtpd":
            continue
        settings = dict(main, **service.settings)

        def needs(protocol: str, path: str, setting: str, chroot: bool = service.chroot) -> None:
            wanted[protocol, socket_path(path, directory, chroot)] = setting

        sasl = settings["smtpd_sasl_path"]
        asks_dovecot = settings["smtpd_sasl_auth_enable"] == "yes" and settings["smtpd_sasl_type"] == "dovecot"
        if asks_dovecot and not sasl.startswith("inet:"):
            needs("sasl", sasl[5:] if sasl.startswith("unix:") else sasl, "smtpd_sasl_path = " + sasl)
        for path in re.findall(r"unix:([^\s,;{}]+)", settings["smtpd_milters"]):
            needs("milter", path, "smtpd_milters = " + settings["smtpd_milters"])
        for stage in _STAGES:
            for path in _POLICY.findall(settings.get("smtpd_%s_restrictions" % stage, "")):
                needs("policy", path, "check_policy_service unix:" + path)
    if ("policy", RECIPIENTS) in wanted:
        quota = str(load_json(RECIPIENTS_SETTINGS).get("quota", ""))
        if quota.startswith("unix:"):
            wanted["policy", os.path.join(directory, quota[5:])] = "%s: %s" % (RECIPIENTS_SETTINGS, quota)
    delivers = [service for service in services if service.program == "lmtp"]
    for name in _DELIVERY:
        found = re.match(r"(\S+?):unix:(\S+)", main.get(name, ""))
        by = [service for service in delivers if found and service.name == found.group(1)]
        if found and by:
            path = socket_path(found.group(2), directory, by[0].chroot)
            wanted["lmtp", path] = "%s = %s" % (name, main[name])
    return [
        {"protocol": protocol, "path": path, "setting": setting, "trouble": _socket_trouble(protocol, path)}
        for (protocol, path), setting in sorted(wanted.items())
    ]


def _socket_trouble(protocol: str, path: str) -> str:
    if not os.path.exists(path):
        return "does not exist"
    try:
        prove([Proof(protocol, path=path, user="postfix", recipient="postmaster@localhost")], deadline=0)
    except ProofError as exc:
        return str(exc).partition(": ")[2]
    return ""


def tables(main: t.Mapping[str, str], services: t.Sequence[Service]) -> t.List[Facts]:
    """The compiled lookup tables that are in use."""
    found: t.Dict[str, str] = {}
    text = run_command(["postconf", "-nx"])[1]
    values = list(_parameters(text).values()) + [value for one in services for value in one.settings.values()]
    for value in values:
        for kind, path in _TABLE.findall(value):
            found[path] = path + _COMPILED[kind]
    return [{"path": path, "trouble": _table_trouble(path, compiled)} for path, compiled in sorted(found.items())]


def _table_trouble(path: str, compiled: str) -> str:
    try:
        made = os.stat(compiled).st_mtime
    except OSError:
        return "%s does not exist" % compiled
    try:
        changed = os.stat(path).st_mtime
    except OSError:
        return ""  # Postfix only needs the compiled one
    if changed > made:
        return "%s was changed at %s, after it was compiled" % (path, time.strftime("%H:%M", time.localtime(changed)))
    return ""


def parse_queue(text: str, now: float) -> Facts:
    """The output of `postqueue -j`: how much waits, since when and why, without addresses."""
    messages, oldest = 0, 0.0
    reasons: collections.Counter[str] = collections.Counter()
    for line in text.splitlines()[:QUEUE_MESSAGES]:
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        messages += 1
        oldest = max(oldest, now - entry.get("arrival_time", now))
        for recipient in entry.get("recipients", ()):
            reason = recipient.get("delay_reason")
            if reason:
                reasons[reason] += 1
    return {
        "messages": messages,
        "oldest": round(oldest),
        "reasons": [{"reason": reason, "count": count} for reason, count in reasons.most_common(20)],
    }


def queue() -> Facts:
    facts = parse_queue(run_command(["postqueue", "-j"])[1], time.time())
    # asked only where it matters whether anything at all went out: this reads a day's log
    if any("timed out" in reason["reason"] for reason in facts["reasons"]):
        argv = ["journalctl", "--quiet", "--no-pager", "--output=cat", "--since=-1d", "--identifier=postfix/smtp"]
        facts["sent"] = "status=sent" in run_command(argv)[1]
    return facts


def resolver(queue_directory: str, services: t.Sequence[Service]) -> Facts:
    """Whether a shut-in smtp(8) sees the resolv.conf that it should see, and whether a resolver of its own works."""

    def servers(path: str) -> t.List[str]:
        try:
            with open(path) as handle:
                return re.findall(r"^\s*(?:nameserver|search|domain)\s+(.*?)\s*$", handle.read(), re.MULTILINE)
        except OSError:
            return []

    chroot = any(service.chroot for service in services if service.program == "smtp")
    own = all(os.path.exists(path) for path in Postfix.drop_ins)
    real = servers(Postfix.resolver if own else "/etc/resolv.conf")
    seen = servers(queue_directory + "/etc/resolv.conf")
    if own:
        # mounted where only Postfix sees it; in a container even root may not look there
        seen = servers("/proc/%s/root%s/etc/resolv.conf" % (Postfix().pid(), queue_directory)) or real
    here = [address for address in real if own and re.match(r"127\.|::1$", address)]
    return {"chroot": chroot, "seen": seen, "real": real, "trouble": {one: _resolver_trouble(one) for one in here}}


def _resolver_trouble(address: str) -> str:
    try:
        prove([Proof("dns", address=address, port=53)], deadline=0)
    except ProofError as exc:
        return str(exc).partition(": ")[2]
    return ""


def postfix_certificates(main: t.Mapping[str, str]) -> t.List[str]:
    """The files with the certificates that it has to serve, one for each kind of key."""
    files = main.get("smtpd_tls_chain_files", "")
    if not files:
        files = "%s %s" % (main.get("smtpd_tls_cert_file", ""), main.get("smtpd_tls_eccert_file", ""))
    return [path for path in re.split(r"[\s,]+", files) if path.startswith("/")]


# -- Dovecot ------------------------------------------------------------------------------------------------------


def mail_store(configuration: str) -> t.Optional[str]:
    """The directory that holds everybody's mail. None where each has it at home."""
    for name in ("mail_home", "mail_path", "mail_location"):
        found = re.search(r"^%s = (?:\w+:)?(/[^%%~\s]*)%%" % name, configuration, re.MULTILINE)
        path = found.group(1).rstrip("/") if found else ""
        if path and path != "/home" and os.path.isdir(path) and os.stat(path).st_uid != 0:
            return path
    return None


def foreign(store: str) -> t.List[Facts]:
    """Directories of domains and of mailboxes that do not belong to the owner of all others; three of them at most."""
    owner = os.stat(store).st_uid
    found: t.List[Facts] = []
    with os.scandir(store) as domains:
        for domain in domains:
            if not domain.is_dir(follow_symlinks=False):
                continue
            with os.scandir(domain.path) as users:
                for entry in [domain] + [one for one in users if one.is_dir(follow_symlinks=False)]:
                    other = entry.stat(follow_symlinks=False).st_uid
                    if other != owner:
                        found.append({"path": entry.path, "owner": _user(other), "wanted": _user(owner)})
            if len(found) >= 3:
                break
    return found[:3]


def _user(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def dovecot_certificates(configuration: str) -> t.List[str]:
    """The files with the certificates that it has to serve. 2.3 and 2.4 write it differently."""
    written = (
        re.search(
            r"^\s*(?:ssl_%scert = <|ssl_server_%scert_file = |%scert_file = )(/\S+)$" % (alt, alt, alt),
            configuration,
            re.MULTILINE,
        )
        for alt in ("", "alt_")
    )
    return [found.group(1) for found in written if found]


# -- both ---------------------------------------------------------------------------------------------------------


def served(service: str, paths: t.Sequence[str]) -> Facts:
    """Whether the port with TLS from the first byte serves the certificates that are in the files."""
    port, protocol = {"submissions": (465, "smtp"), "imaps": (993, "imap")}[service]
    other: t.Optional[bool] = False
    for path in paths:
        try:
            prove([Proof(protocol, port=port, tls="implicit", rsa=len(paths) > 1)], path, deadline=0)
        except (ProofError, OSError) as exc:
            # everything else that can be wrong there is seen from outside
            other = True if "serves another certificate" in str(exc) else None
            break
    return {"file": path, "port": port, "other": other}


def disk(path: str) -> Facts:
    status = os.statvfs(path)
    size = status.f_blocks * status.f_frsize
    return {
        "free": status.f_bavail * status.f_frsize,
        "share": status.f_bavail / status.f_blocks if status.f_blocks else 1.0,
        # some file systems have no fixed number of inodes, and say 0
        "inodes": status.f_favail / status.f_files if status.f_files else 1.0,
        "size": size,
    }


def parse_log(text: str) -> t.List[Facts]:
    """The output of `journalctl -o json`, oldest first."""
    lines = []
    for row in text.splitlines():
        try:
            entry = json.loads(row)
        except ValueError:
            continue
        message = entry.get("MESSAGE")
        if isinstance(message, str):
            lines.append(
                {
                    "time": int(entry.get("__REALTIME_TIMESTAMP", 0)) / 1e6,
                    "program": entry.get("SYSLOG_IDENTIFIER", ""),
                    "text": message,
                }
            )
    return lines


def log(seconds: float) -> t.List[Facts]:
    """The warnings and errors that Postfix and Dovecot logged lately."""
    if not has_command("journalctl"):
        return []
    # 2 is syslog's mail facility: both daemons log with it, under many names
    argv = ["journalctl", "--quiet", "--no-pager", "--output=json", "--since=-%ds" % seconds, "--priority=warning"]
    return parse_log(run_command(argv + ["--lines=%d" % LOG_LINES, "SYSLOG_FACILITY=2"])[1])


def killed() -> t.List[str]:
    """What the kernel killed within the last day because memory ran out."""
    if not has_command("journalctl"):
        return []
    argv = ["journalctl", "--quiet", "--no-pager", "--output=cat", "--dmesg", "--since=-1d", "--priority=err"]
    return parse_killed(run_command(argv)[1])


def parse_killed(said: str) -> t.List[str]:
    """Linux before 5.0 writes "Kill process"."""
    return re.findall(r"ut of memory: Kill(?:ed)? process \d+ \(([^)]+)\)", said)
