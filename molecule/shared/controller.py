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

import yaml
from ready_ansible import Ready, Running

INVENTORY = pathlib.Path(__file__).parent / "inventory"


@functools.lru_cache(maxsize=None)
def ready(**environment: str) -> Ready:
    """Ansible, imported once for all plays of a test process."""
    return Ready({**os.environ, "ANSIBLE_FORCE_COLOR": "0", "ANSIBLE_NOCOLOR": "1", **environment})


@functools.lru_cache(maxsize=None)
def told() -> t.Dict[str, t.Any]:
    """What the inventory says while the tests run."""
    return t.cast(t.Any, json.loads(subprocess.run([INVENTORY], check=True, capture_output=True).stdout))


def written(name: str, groups: t.Mapping[str, t.Mapping[str, t.Any]]) -> str:
    """An inventory file: by group, the hosts and their variables."""
    file = pathlib.Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]) / f"{name}-{os.getpid()}.json"
    children = {group: {"hosts": hosts} for group, hosts in groups.items()}
    file.write_text(json.dumps({"all": {"vars": told()["all"]["vars"], "children": children}}), encoding="utf-8")
    return str(file)


@functools.lru_cache(maxsize=None)
def inventory() -> str:
    """The inventory in a file: asking Docker for it costs as much as a task."""
    hosts = told()["_meta"]["hostvars"]
    groups = ("mail", "clients")
    return written("inventory", {group: {host: hosts[host] for host in told()[group]["hosts"]} for group in groups})


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
                # a warning is no change, and old Ansible breaks its lines
                shown = re.sub(r"^\[WARNING\]:.*\n(?:(?!changed: |\[|---|\n).*\n)*", "", block, flags=re.MULTILINE)
                # what apt could upgrade depends on how old its lists are
                shown = re.sub(r"(?<=to remove) and \d+ not upgraded", "", shown)
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


class Refused(t.NamedTuple):
    """What a play said of each case, and altogether."""

    said: t.Dict[str, str]
    output: str


def refused(playbook: pathlib.Path, name: str, cases: t.Mapping[str, t.Mapping[str, t.Any]], *options: str) -> Refused:
    """One play that refuses each case and changes nothing: the host under as many names, each with other variables.

    A play for each would cost its start and the reading of the playbook every time.
    """
    plays = yaml.safe_load(playbook.read_text(encoding="utf-8"))
    usual: t.Dict[str, t.Any] = {}
    # the variables that lie beside the playbook
    for beside in playbook.parent.glob("group_vars/all.yml"):
        usual.update(yaml.safe_load(beside.read_text(encoding="utf-8")))
    usual.update(told()["_meta"]["hostvars"][name])
    for play_ in plays:
        # variables of a play would win over those of its hosts
        usual.update(play_.pop("vars", {}))
        if "ansible.builtin.import_playbook" in play_:
            play_["ansible.builtin.import_playbook"] = str(playbook.parent / play_["ansible.builtin.import_playbook"])
    aliases = {f"case{number}": case for number, case in enumerate(cases)}
    file = written("cases", {"mail": {alias: {**usual, **cases[case]} for alias, case in aliases.items()}})
    copy = pathlib.Path(file).with_suffix(".yml")
    copy.write_text(json.dumps(plays), encoding="utf-8")
    output = end(ready().start("ansible-playbook", "--inventory", file, "--diff", *options, copy)).output
    said: t.Dict[str, str] = dict.fromkeys(cases, "")
    for block in re.split(r"^(?=\w+: \[|TASK \[|PLAY |case\d)", output, flags=re.MULTILINE):
        found = re.match(r"(?:\w+: \[)?(case\d+)\b", block)
        if found:
            said[aliases[found[1]]] += block
    for text in said.values():
        assert re.search(r"^case\d+ .* changed=0 +unreachable=0 +failed=1 ", text, re.MULTILINE), text
    # YAML and terminals wrap lines
    return Refused({case: re.sub(r"\s+", " ", text.replace("''", "'")) for case, text in said.items()}, output)
