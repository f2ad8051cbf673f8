# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Runs on the server: Python 3.6 and the standard library only.

"""The end of security updates for a release.

The package distro-info-data has the dates if it is installed, else the table here.
"""

import glob
import re
import typing as t

from ansible_collections.port587.mail.plugins.module_utils._server.proc import read_text

#: The last day for all; and for servers with Ubuntu Pro (ESM) or Freexian's updates (ELTS).
#: From distro-info-data 0.66+deb13u2 of 2026: debian.csv (eol-lts, eol-elts), ubuntu.csv (eol, eol-esm).
ENDS = {
    ("debian", "11"): ("2026-08-31", "2031-06-30"),
    ("debian", "12"): ("2028-06-30", "2033-06-30"),
    ("debian", "13"): ("2030-06-30", "2035-06-30"),
    ("ubuntu", "18.04"): ("2023-05-31", "2028-04-26"),
    ("ubuntu", "20.04"): ("2025-05-29", "2030-04-23"),
    ("ubuntu", "22.04"): ("2027-06-01", "2032-04-21"),
    ("ubuntu", "24.04"): ("2029-05-31", "2034-04-25"),
    ("ubuntu", "26.04"): ("2031-05-29", "2036-04-23"),
}
_COLUMNS = {"debian": ("eol-lts", "eol-elts"), "ubuntu": ("eol", "eol-esm")}
#: Active lines in apt's sources that provide the extended updates.
_EXTENDED = re.compile(r"^[^#\n]*\b(esm\.ubuntu\.com/infra|deb\.freexian\.com/extended-lts)\b", re.MULTILINE)


class Support(t.NamedTuple):
    release: t.Tuple[str, str]
    end: str  # the last day, for this server
    extended: str  # the last day with extended support; empty if unknown
    has_extended: bool


def look(release: t.Tuple[str, str], root: str = "/") -> t.Optional[Support]:
    """None for an unknown release."""
    table = read_text("%susr/share/distro-info/%s.csv" % (root, release[0]))
    end, extended = ENDS.get(release, ("", ""))
    known = parse(table, release)
    end, extended = known[0] or end, known[1] or extended
    if not end:
        return None
    sources = glob.glob(root + "etc/apt/sources.list") + glob.glob(root + "etc/apt/sources.list.d/*")
    has_extended = bool(extended) and any(_EXTENDED.search(read_text(path)) for path in sources)
    return Support(release, extended if has_extended else end, extended, has_extended)


def parse(table: str, release: t.Tuple[str, str]) -> t.Tuple[str, str]:
    """(end, extended end) of a release in a table of distro-info-data; empty where it says nothing."""
    rows = [line.split(",") for line in table.splitlines()]
    for row in rows[1:]:
        # "11", "18.04 LTS"
        if row[0].split()[:1] == [release[1]]:
            known = dict(zip(rows[0], row))
            end, extended = (known.get(column, "") for column in _COLUMNS[release[0]])
            return end, extended
    return "", ""
