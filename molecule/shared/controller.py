# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible as a person types it, for the scenarios' tests: on one host, without colours, all output in one."""

import json
import os
import pathlib
import re
import subprocess
import typing as t

INVENTORY = pathlib.Path(__file__).parent / "inventory"


def start(program: str, name: str, *arguments: t.Any, **environment: str) -> "subprocess.Popen[str]":
    """`ansible` or `ansible-playbook`, on the host with this name."""
    return subprocess.Popen(
        [program, "--inventory", INVENTORY, "--limit", name, *arguments],
        env={**os.environ, "ANSIBLE_FORCE_COLOR": "0", "ANSIBLE_NOCOLOR": "1", **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


class Played(t.NamedTuple):
    """What became of a playbook."""

    code: int
    output: str

    @property
    def changed(self) -> int:
        """The number of tasks that changed something on the host; -1 where it did not come to that."""
        found = re.search(r"^(?!localhost)\S+ .*\bchanged=(\d+)", self.output, re.MULTILINE)
        return int(found[1]) if found else -1

    def changes(self) -> t.Dict[str, str]:
        """What each task that changed something showed of it."""
        found = {}
        for block in re.split(r"^(?=TASK \[|PLAY )", self.output, flags=re.MULTILINE):
            name = re.match(r"TASK \[(.*?)\]", block)
            if name and re.search(r"^changed: ", block, re.MULTILINE):
                found[name[1]] = block.partition("\n")[2].strip()
        return found


def begin(playbook: pathlib.Path, name: str, *options: t.Any, **variables: t.Any) -> "subprocess.Popen[str]":
    """A playbook, with these variables set otherwise."""
    return start("ansible-playbook", name, "--diff", *options, "--extra-vars", json.dumps(variables), playbook)


def play(playbook: pathlib.Path, name: str, *options: t.Any, **variables: t.Any) -> Played:
    """A playbook, with these variables set otherwise, to its end."""
    process = begin(playbook, name, *options, **variables)
    output = process.communicate()[0]
    return Played(process.returncode, output)
