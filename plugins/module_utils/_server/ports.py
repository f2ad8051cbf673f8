# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Runs on the server: Python 3.6 and the standard library only.

"""The ports of a mail server, and the processes that listen on them."""

import re
import typing as t

from ansible_collections.port587.mail.plugins.module_utils._server import proc
from ansible_collections.port587.mail.plugins.module_utils._server.proc import Holders, Process
from ansible_collections.port587.mail.plugins.module_utils._transaction.commands import has_command, run_command

PORTS = (25, 110, 143, 465, 587, 993, 995, 4190)
#: Where mail clients look for their configuration, and where certificate authorities verify the host's names.
WEB_PORTS = (80, 443)

# Postfix and Dovecot, by what they run and, if that can't be seen, by their unit (postfix@-.service as well).
_PROGRAMS = (
    "/usr/lib/postfix/",
    "/usr/libexec/postfix/",
    "/usr/sbin/dovecot",
    "/usr/lib/dovecot/",
    "/usr/libexec/dovecot/",
)
_UNITS = ("postfix.", "postfix@", "dovecot.")
# It may serve other sites, too.
_WEB_PROGRAM, _WEB_UNIT = "/usr/sbin/nginx", "nginx."


class Listener(t.NamedTuple):
    port: int
    address: str
    processes: Holders


def is_expected(process: Process, port: int) -> bool:
    """Whether a process belongs to the daemon that this collection puts on the port."""
    if port in WEB_PORTS:
        return process.program == _WEB_PROGRAM or process.unit.startswith(_WEB_UNIT)
    return process.program.startswith(_PROGRAMS) or process.unit.startswith(_UNITS)


def listeners(root: str, ports: t.Sequence[int]) -> t.List[Listener]:
    """The processes that listen on these ports, over IPv4 and IPv6."""
    sockets = [one for one in proc.listening(root) if one.port in ports]
    seen = proc.holders(root, {one.target for one in sockets}) if sockets else {}
    units = socket_units() if any(len(found) > 1 for found in seen.values()) else {}
    return [Listener(one.port, one.address, of_unit(seen[one.target], units.get(one.port, ""))) for one in sockets]


def parse_socket_units(text: str) -> t.Dict[int, str]:
    """Port -> systemd service, as ss(8) prints the listening sockets with `--cgroup`."""
    found = re.findall(r"^LISTEN\s.*?:(\d+)\s.*\scgroup:(\S+)", text, re.MULTILINE)
    return {int(port): proc.parse_unit(f"0::{path}") for port, path in found}


def socket_units() -> t.Dict[int, str]:
    """The service that opened each socket, as the kernel remembers it. Empty without ss(8), or with one before 2020."""
    command = ["ss", "--no-header", "--listening", "--tcp", "--numeric", "--cgroup"]
    return parse_socket_units(run_command(command)[1]) if has_command("ss") else {}


def of_unit(processes: Holders, unit: str) -> Holders:
    """Those of the unit; all if it has none of them."""
    return tuple(process for process in processes if process.unit == unit) or processes


def as_text(processes: Holders) -> str:
    return " or ".join(map(str, processes)) or "a program outside this container"
