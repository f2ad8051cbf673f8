# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""How much of the system the services of a host can reach, as systemd counts it."""

import re
import typing as t

import pytest
from testinfra.host import Host

#: From 0 to 10. docs/security.md has the figures of each service.
LIMIT = 4.0

#: The units of transactions, and those that the collection wrote itself.
_UNITS = r"""
cd /etc/systemd/system
for path in *.service.d/port587-restart.conf port587-*.service; do
    [ -e "$path" ] && basename "${path%.d/*}"
done | sort -u
"""


def exposures(host: Host) -> t.Dict[str, float]:
    """What `systemd-analyze security` says, by unit."""
    if host.run("systemd-analyze security --no-pager systemd-journald.service").rc:
        pytest.skip("systemd up to 239 does not count it")
    found = {}
    for unit in host.check_output(_UNITS).split():
        said = host.check_output("systemd-analyze security --no-pager %s", unit)
        found[unit] = float(re.findall(r"Overall exposure level for \S+: ([\d.]+)", said)[0])
    return found


def too_exposed(host: Host, *services: str) -> t.Dict[str, float]:
    """The units above the limit. ``services``: the beginnings of names of units that the host has."""
    found = exposures(host)
    assert [name for name in services if not any(unit.startswith(name) for unit in found)] == []
    return {unit: value for unit, value in found.items() if value > LIMIT}
