# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Runs on the server: Python 3.6 and the standard library only.

"""The addresses that fail2ban has banned (role bans), and whether the controller's is one of them."""

import ipaddress
import os
import re
import typing as t

from ansible_collections.port587.mail.plugins.module_utils._server import proc
from ansible_collections.port587.mail.plugins.module_utils._transaction.commands import run_command

#: The settings of role bans, and its jails.
SETTINGS = "/etc/fail2ban/jail.d/port587.conf"
JAILS = ("port587-logins", "port587-web")


def look(root: str = "/") -> t.Optional[t.Dict[str, t.Any]]:
    """None without the role bans."""
    if not os.path.exists(SETTINGS):
        return None
    said = [run_command(["fail2ban-client", "status", jail]) for jail in JAILS]
    banned = [address for _code, out, _err in said for address in parse_status(out)]
    return {"running": said[0][0] == 0, "banned": banned, "here": here(banned, proc.peers(root))}


def parse_status(text: str) -> t.List[str]:
    """The addresses in the output of `fail2ban-client status JAIL`."""
    found = re.search(r"Banned IP list:(.*)", text)
    return found.group(1).split() if found else []


def here(banned: t.Sequence[str], peers: t.Sequence[str]) -> t.List[str]:
    """The bans of addresses that are connected now. Bans spare SSH, so the controller is connected."""
    connected = {network_of(peer) for peer in peers}
    return [address for address in banned if network_of(address) in connected]


def network_of(text: str) -> str:
    """What a ban shuts out: an IPv4 address, or the /64 of an IPv6 address."""
    address = ipaddress.ip_address(text)
    mapped = getattr(address, "ipv4_mapped", None) or address
    return str(mapped) if mapped.version == 4 else str(ipaddress.ip_network((int(mapped) >> 64 << 64, 64)))
