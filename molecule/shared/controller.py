# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run Ansible's commands as a user does, for the scenarios' tests: on one host, without colours, all output joined."""

import functools
import json
import os
import pathlib
import re
import subprocess
import typing as t

from ready_ansible import Ready, Running

INVENTORY = pathlib.Path(__file__).parent / "inventory"


@functools.lru_cache(maxsize=None)
def ready(**environment: str) -> Ready:
    """Ansible, imported once for all plays of a test process."""
    return Ready({**os.environ, "ANSIBLE_FORCE_COLOR": "0", "ANSIBLE_NOCOLOR": "1", **environment})


@functools.lru_cache(maxsize=None)
def inventory() -> str:
    """What the inventory says while the tests run, in a file: asking Docker for it costs as much as a task."""
    file = pathlib.Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]) / f"inventory-{os.getpid()}.json"
    told = json.loads(subprocess.run([INVENTORY], check=True, capture_output=True).stdout)
    hosts = told.pop("_meta")["hostvars"]
    groups = {name: {"hosts": {host: hosts[host] for host in told[name]["hosts"]}} for name in ("mail", "clients")}
    file.write_text(json.dumps({"all": {"vars": told["all"]["vars"], "children": groups}}), encoding="utf-8")
    return str(file)


def start(program: str, name: str, *arguments: t.Any, **environment: str) -> Running:
    """`ansible` or `ansible-playbook`, on the host with this name."""
    return ready(**environment).start(program, "--inventory", inventory(), "--limit", name, *arguments)


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
                # a warning is no change; and what apt could upgrade depends on how old its lists are
                shown = re.sub(r"^\[WARNING\]:.*\n|(?<=to remove) and \d+ not upgraded", "", block, flags=re.MULTILINE)
                found[name[1]] = shown.partition("\n")[2].strip()
        return found


def end(running: Running) -> Played:
    """A playbook that was begun, to its end."""
    output = running.communicate()
    return Played(running.returncode, output)


def begin(playbook: pathlib.Path, name: str, *options: t.Any, **variables: t.Any) -> Running:
    """A playbook, with these variables set otherwise."""
    return start("ansible-playbook", name, "--diff", *options, "--extra-vars", json.dumps(variables), playbook)


def play(playbook: pathlib.Path, name: str, *options: t.Any, **variables: t.Any) -> Played:
    """A playbook, with these variables set otherwise, to its end."""
    return end(begin(playbook, name, *options, **variables))
