# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Runs on the server: Python 3.6 and the standard library only.

"""The server's memory."""

import re
import typing as t

from ansible_collections.port587.mail.plugins.module_utils._server.proc import read_text


def parse_meminfo(text: str) -> t.Dict[str, int]:
    return {name: int(kib) * 1024 for name, kib in re.findall(r"^(\w+):\s+(\d+) kB$", text, re.MULTILINE)}


def limit_files(cgroup: str) -> t.List[str]:
    """Where the memory limits of the control groups in /proc/self/cgroup are, the innermost first."""
    files = []
    for line in cgroup.splitlines():
        controllers, path = line.split(":", 2)[1:]
        if controllers == "":
            base, name = "sys/fs/cgroup", "memory.max"
        elif "memory" in controllers.split(","):
            base, name = "sys/fs/cgroup/memory", "memory.limit_in_bytes"
        else:
            continue
        parts = [part for part in path.split("/") if part and part != ".."]
        files += ["/".join([base] + parts[:depth] + [name]) for depth in range(len(parts), -1, -1)]
    return files


def memory(root: str) -> t.Tuple[int, int]:
    """Usable memory, and swap. A container's limit counts if it is below the machine's memory."""
    machine = parse_meminfo(read_text(f"{root}proc/meminfo"))
    limits = [read_text(root + name).strip() for name in limit_files(read_text(f"{root}proc/self/cgroup"))]
    amount = min([machine["MemTotal"]] + [int(limit) for limit in limits if limit.isdigit()])
    return amount, machine.get("SwapTotal", 0)
