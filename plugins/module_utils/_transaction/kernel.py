# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Runs on the server: Python 3.6 and the standard library only.

"""Limits of the kernel that a transaction raises: the lines of its files in /etc/sysctl.d, which are read at boot.

No limit is lowered, since other programs may need more. A container shares its kernel, and may lack the permission.
"""

import contextlib
import glob
import re
import typing as t

from ansible_collections.port587.mail.plugins.module_utils._transaction.files import read_file

DIRECTORY = "/etc/sysctl.d/"
#: Files of this collection. Their names begin with a low number, so that other files override them.
FILES = DIRECTORY + "10-port587-*.conf"
PARAMETERS = "/proc/sys/"


class Limit(t.NamedTuple):
    name: str
    wanted: int
    #: None where this kernel has no such limit
    present: t.Optional[int]

    @property
    def too_low(self) -> bool:
        return self.present is not None and self.present < self.wanted


def _read(path: str) -> str:
    """The content; empty if the file is missing or not readable."""
    try:
        return (read_file(path) or b"").decode("utf-8", "replace")
    except OSError:
        return ""


def _path(name: str) -> str:
    return PARAMETERS + name.replace(".", "/")


def limits(paths: t.Iterable[str]) -> t.List[Limit]:
    """The limits in these files, and the kernel's present values."""
    found = []
    for path in paths:
        for name, wanted in re.findall(r"^([a-z][a-z0-9_.]*) = (\d+)$", _read(path), re.MULTILINE):
            said = _read(_path(name)).strip()
            found.append(Limit(name, int(wanted), int(said) if said.isdigit() else None))
    return found


def raise_limits(paths: t.Iterable[str]) -> t.List[str]:
    """Raise the limits of those files that are in /etc/sysctl.d, as a boot does. Returns what can't be raised."""
    mine = [path for path in paths if path.startswith(DIRECTORY)]
    for limit in limits(mine):
        if limit.too_low:
            with contextlib.suppress(OSError), open(_path(limit.name), "w") as handle:
                handle.write("%d\n" % limit.wanted)
    return [
        "%(name)s is %(present)d and should be %(wanted)d, but this server may not raise it (a container?)"
        % one._asdict()
        for one in limits(mine)
        if one.too_low
    ]


def too_low() -> t.List[Limit]:
    """Limits that are lower than a transaction of this server needs."""
    return [limit for limit in limits(sorted(glob.glob(FILES))) if limit.too_low]
