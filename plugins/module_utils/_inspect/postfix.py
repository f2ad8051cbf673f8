# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Runs on the server: Python 3.6 and the standard library only.

"""Postfix's services, sockets, tables, queue and resolver, seen from inside."""

import collections
import contextlib
import json
import os
import re
import socket
import time
import typing as t

from ansible_collections.port587.mail.plugins.module_utils._daemons.postconf import (
    Service,
    parse_parameters,
    parse_services,
)
from ansible_collections.port587.mail.plugins.module_utils._daemons.postfix import Postfix
from ansible_collections.port587.mail.plugins.module_utils._daemons.prove import Proof, prove
from ansible_collections.port587.mail.plugins.module_utils._transaction.commands import run_command
from ansible_collections.port587.mail.plugins.module_utils._transaction.errors import ProofError
from ansible_collections.port587.mail.plugins.module_utils._transaction.state import load_json

#: Number of queued messages to read: enough to find the cause, and a limit for a long queue.
QUEUE_MESSAGES = 2000

#: The sockets of role postfix's policy services, and the parameter of the one that queries Dovecot.
SEND_LIMITS = "/var/spool/postfix/port587/send-limits"
RECIPIENTS = "/var/spool/postfix/port587/recipients"
RECIPIENTS_SETTINGS = "/etc/port587/recipients.json"

_COMPILED = {"hash": ".db", "btree": ".db", "lmdb": ".lmdb", "cdb": ".cdb", "dbm": ".pag"}
_TABLE = re.compile(r"(?<![\w$}-])(?:proxy:)?(hash|btree|lmdb|cdb|dbm):(/[^\s,;{}]+)")
_POLICY = re.compile(r"check_policy_service\s+(?:\{\s*)?unix:([^\s,;{}]+)")
_STAGES = ("client", "helo", "sender", "relay", "recipient", "data", "end_of_data")
_DELIVERY = ("virtual_transport", "mailbox_transport", "local_transport", "default_transport")

Facts = t.Dict[str, t.Any]
#: protocol, path
_Socket = t.Tuple[str, str]


def at_limit() -> t.Optional[t.List[str]]:
    """Logins that have reached their send limit, according to the policy service; None if it does not run."""
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as connection:
        connection.settimeout(5)
        try:
            connection.connect(SEND_LIMITS)
            connection.sendall(b"request=port587_status\n\n")
            with connection.makefile() as answers:
                said = answers.readline()
            return json.loads(said.partition("=")[2])
        except (OSError, ValueError, RecursionError):
            return None


def configuration() -> t.Tuple[t.Dict[str, str], t.List[Service]]:
    """main.cf and master.cf."""
    main = parse_parameters(run_command(["postconf", "-x"])[1])
    # master(5): up to compatibility level 0 a dash in the column means yes
    chroot = main.get("compatibility_level", "0").startswith("0")
    return main, parse_services(run_command(["postconf", "-M"])[1], run_command(["postconf", "-Px"])[1], chroot)


def socket_path(written: str, queue_directory: str, chroot: bool) -> str:
    """The path of a socket in a parameter: a chrooted service sees the queue directory as /."""
    path = os.path.join(queue_directory, written)
    return queue_directory + written if chroot and written.startswith("/") else path


def sockets(main: t.Mapping[str, str], services: t.Sequence[Service]) -> t.List[Facts]:
    """The sockets of other programs that Postfix needs, and whether the user postfix gets an answer there."""
    wanted = dict(pair for service in services if service.program == "smtpd" for pair in _smtpd_sockets(main, service))
    if ("policy", RECIPIENTS) in wanted:
        quota = str(load_json(RECIPIENTS_SETTINGS).get("quota", ""))
        if quota.startswith("unix:"):
            path = os.path.join(main["queue_directory"], quota[5:])
            wanted["policy", path] = "%s: %s" % (RECIPIENTS_SETTINGS, quota)
    wanted.update(_delivery_sockets(main, services))
    return [
        {"protocol": protocol, "path": path, "setting": setting, "trouble": _socket_trouble(protocol, path)}
        for (protocol, path), setting in sorted(wanted.items())
    ]


def _smtpd_sockets(main: t.Mapping[str, str], service: Service) -> t.Iterator[t.Tuple[_Socket, str]]:
    """The sockets that an smtpd(8) uses, and the setting that names each."""
    settings = dict(main, **service.settings)

    def needs(protocol: str, path: str, setting: str) -> t.Tuple[_Socket, str]:
        return (protocol, socket_path(path, main["queue_directory"], service.chroot)), setting

    sasl = settings["smtpd_sasl_path"]
    asks_dovecot = settings["smtpd_sasl_auth_enable"] == "yes" and settings["smtpd_sasl_type"] == "dovecot"
    if asks_dovecot and not sasl.startswith("inet:"):
        yield needs("sasl", sasl[5:] if sasl.startswith("unix:") else sasl, "smtpd_sasl_path = " + sasl)
    for path in re.findall(r"unix:([^\s,;{}]+)", settings["smtpd_milters"]):
        yield needs("milter", path, "smtpd_milters = " + settings["smtpd_milters"])
    for stage in _STAGES:
        for path in _POLICY.findall(settings.get("smtpd_%s_restrictions" % stage, "")):
            yield needs("policy", path, "check_policy_service unix:" + path)


def _delivery_sockets(main: t.Mapping[str, str], services: t.Sequence[Service]) -> t.Iterator[t.Tuple[_Socket, str]]:
    """The sockets that an lmtp(8) delivers to."""
    delivers = [service for service in services if service.program == "lmtp"]
    for name in _DELIVERY:
        found = re.match(r"(\S+?):unix:(\S+)", main.get(name, ""))
        by = [service for service in delivers if found and service.name == found.group(1)]
        if found and by:
            path = socket_path(found.group(2), main["queue_directory"], by[0].chroot)
            yield ("lmtp", path), "%s = %s" % (name, main[name])


def _socket_trouble(protocol: str, path: str) -> str:
    if not os.path.exists(path):
        return "does not exist"
    try:
        prove([Proof(protocol, path=path, user="postfix", recipient="postmaster@localhost")], deadline=0)
    except ProofError as exc:
        return str(exc).partition(": ")[2]
    return ""


def tables(services: t.Sequence[Service]) -> t.List[Facts]:
    """The compiled lookup tables that are in use."""
    found: t.Dict[str, str] = {}
    text = run_command(["postconf", "-nx"])[1]
    values = list(parse_parameters(text).values()) + [value for one in services for value in one.settings.values()]
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
        except (ValueError, RecursionError):
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
    # reads a day's log, so only if it matters whether any mail was sent
    if any("timed out" in reason["reason"] for reason in facts["reasons"]):
        argv = ["journalctl", "--quiet", "--no-pager", "--output=cat", "--since=-1d", "--identifier=postfix/smtp"]
        facts["sent"] = "status=sent" in run_command(argv)[1]
    return facts


def resolver(queue_directory: str, services: t.Sequence[Service]) -> Facts:
    """Whether a chrooted smtp(8) sees today's resolv.conf, and whether Postfix's own resolver works."""

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
        seen = servers("/proc/%s/root%s/etc/resolv.conf" % (Postfix.pid(), queue_directory)) or real
    here = [address for address in real if own and re.match(r"127\.|::1$", address)]
    return {"chroot": chroot, "seen": seen, "real": real, "trouble": {one: _resolver_trouble(one) for one in here}}


def _resolver_trouble(address: str) -> str:
    try:
        prove([Proof("dns", address=address, port=53)], deadline=0)
    except ProofError as exc:
        return str(exc).partition(": ")[2]
    return ""


def certificates(main: t.Mapping[str, str]) -> t.List[str]:
    """The files with the certificates that it should serve, one for each kind of key."""
    files = main.get("smtpd_tls_chain_files", "")
    if not files:
        files = "%s %s" % (main.get("smtpd_tls_cert_file", ""), main.get("smtpd_tls_eccert_file", ""))
    return [path for path in re.split(r"[\s,]+", files) if path.startswith("/")]
