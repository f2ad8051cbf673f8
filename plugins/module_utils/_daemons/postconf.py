# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Runs on the server: Python 3.6 and the standard library only.

"""Parsers of postconf(1)'s output: the parameters of main.cf, and the services of master.cf."""

import collections
import re
import typing as t


class Service(t.NamedTuple):
    """A line of master.cf with its own settings."""

    name: str
    kind: str
    chroot: bool
    program: str
    settings: t.Dict[str, str]


def parse_parameters(text: str) -> t.Dict[str, str]:
    """The output of `postconf`, with any of its options for main.cf: `name = value` lines."""
    pairs = (line.partition("=") for line in text.splitlines() if "=" in line)
    return {name.strip(): value.strip() for name, _sign, value in pairs}


def parse_services(master: str, overrides: str, chroot_by_default: bool = False) -> t.List[Service]:
    """The output of `postconf -M` and `postconf -Px`."""
    settings: t.Dict[str, t.Dict[str, str]] = collections.defaultdict(dict)
    for line in overrides.splitlines():
        found = re.match(r"(\S+/[a-z-]+)/(\w+) = ?(.*)", line)
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
