# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Runs on the server: Python 3.6 and the standard library only.

"""The state of apt and dpkg, and the processes that use them now."""

import re
import typing as t

from ansible_collections.port587.mail.plugins.module_utils._server.proc import Holders, lock_holders

LOCKS = ("/var/lib/dpkg/lock-frontend", "/var/lib/dpkg/lock", "/var/lib/apt/lists/lock")


def users(root: str = "/") -> Holders:
    """The processes that hold a lock of dpkg or apt."""
    return lock_holders(root, LOCKS)


def parse_broken(status: str) -> t.List[str]:
    """The packages of /var/lib/dpkg/status whose installation was interrupted, or failed."""
    found = re.findall(r"^Package: (\S+)\nStatus: \S+ (\S+) (\S+)$", status, re.MULTILINE)
    unfinished = ("half-installed", "half-configured", "unpacked")
    return [name for name, error, state in found if error != "ok" or state in unfinished]


def parse_sources(status: str) -> t.Dict[str, str]:
    """The source package of each package in /var/lib/dpkg/status."""
    sources = {}  # type: t.Dict[str, str]
    for entry in status.split("\n\n"):
        fields = dict(re.findall(r"^(Package|Source): (\S+)", entry, re.MULTILINE))
        if "Package" in fields:
            sources[fields["Package"]] = fields.get("Source") or fields["Package"]
    return sources


def of_same_source(status: str, names: t.Iterable[str], wanted: t.Iterable[str]) -> t.List[str]:
    """Those of ``names`` that are ``wanted``, or built from the same source as one of them."""
    sources = parse_sources(status)
    ours = {sources.get(name, name) for name in wanted}
    return [name for name in names if sources.get(name, name) in ours]
