# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Runs on the server: Python 3.6 and the standard library only.

"""Limits of the kernel that a transaction raises: the lines of its files in /etc/sysctl.d, which are read at boot.

None is ever lowered: somebody else may need more. A container shares its kernel with others, and may not be let.
"""

import contextlib
import glob
import re
import typing as t

from ansible_collections.port587.mail.plugins.module_utils._transaction.files import read_file

DIRECTORY = "/etc/sysctl.d/"
#: Those of this collection. The names begin with a number so low that the files of others have the last word.
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
    """Empty where it is not there, or must not be read."""
    try:
        return (read_file(path) or b"").decode("utf-8", "replace")
    except OSError:
        return ""


def _path(name: str) -> str:
    return PARAMETERS + name.replace(".", "/")


def limits(paths: t.Iterable[str]) -> t.List[Limit]:
    """What is in these files, and what the kernel says."""
    found = []
    for path in paths:
        for name, wanted in re.findall(r"^([a-z][a-z0-9_.]*) = (\d+)$", _read(path), re.MULTILINE):
            said = _read(_path(name)).strip()
            found.append(Limit(name, int(wanted), int(said) if said.isdigit() else None))
    return found


def raise_limits(paths: t.Iterable[str]) -> t.List[str]:
    """As the boot will do it with those of the files that lie in /etc/sysctl.d; in words, what can't be raised."""
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
    """Limits that are lower than a transaction of this server wants them."""
    return [limit for limit in limits(sorted(glob.glob(FILES))) if limit.too_low]
