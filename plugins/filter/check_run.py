# Copyright (c) The port587.mail contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import difflib
import pathlib
import typing as t

from ansible import context
from ansible.errors import AnsibleError, AnsibleFilterError
from ansible.inventory.manager import InventoryManager
from ansible.module_utils.common.yaml import yaml_load
from ansible.parsing.dataloader import DataLoader
from ansible.release import __version__

DOCUMENTATION = r"""
name: check_run
short_description: Refuse a run that would do nothing or skip the checks
version_added: 1.0.0
author: The port587.mail contributors (@port587)
description:
  - For C(hosts) of a play, which Ansible evaluates first, regardless of C(--tags), C(--limit) and C(--start-at-task).
    Ansible itself ends such runs with exit status 0.
  - Refuses an ansible-core that is too old, a group without hosts, a C(--limit) that excludes all hosts of the group,
    tags that do not exist in a playbook of this collection, and options that would skip the checks.
options:
  _input:
    description: The host pattern.
    type: str
    required: true
  groups:
    description: Ansible's variable C(groups).
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Set up the mail servers
  hosts: "{{ 'mail' | port587.mail.check_run(groups) }}"
"""

RETURN = r"""
_value:
  description: The host pattern, unchanged.
  type: str
"""

#: As in meta/runtime.yml, where Ansible only warns about an older version.
OLDEST = (2, 16)

_ROOT = pathlib.Path(__file__).resolve().parents[2]
_PLAYBOOKS = _ROOT / "playbooks"
_COLLECTION = "port587.mail."
#: Tags with a meaning of Ansible's own that do not skip the checks.
_SPECIAL = ("all", "always", "tagged")


def check_run(pattern: str, groups: dict[str, list[str]]) -> str:
    """Return the host pattern; raise an error if the run would do nothing or skip the checks."""
    line = context.CLIARGS
    if not any(line.get(name) for name in ("syntax", "listhosts", "listtasks", "listtags")):
        problem = (
            _of_version(__version__)
            or _of_hosts(pattern, groups, line.get("subset") or "")
            or _of_options(line)
            or _of_tags(line.get("tags") or (), line.get("args") or ())
        )
        if problem:
            raise AnsibleFilterError(problem)
    return pattern


def _of_version(version: str) -> str:
    if tuple(map(int, version.split(".")[:2])) >= OLDEST:
        return ""
    oldest = ".".join(map(str, OLDEST))
    return f"ansible-core: {version!r} is too old; install {oldest} or later, with pip install 'ansible-core>={oldest}'"


def _of_hosts(pattern: str, groups: dict[str, list[str]], limit: str) -> str:
    manager = InventoryManager(DataLoader(), parse=False)
    for group, hosts in groups.items():
        manager.add_group(group)
        for host in hosts:
            manager.add_host(host, group=group)
    if not manager.get_hosts(pattern):
        others = [name for name in groups if groups[name] and name not in ("all", "ungrouped")]
        if not groups.get("all"):
            return f"inventory: there is no host in it; write yours under the group {pattern}, and name it with -i"
        there = f" (it has {', '.join(sorted(others))})" if others else ""
        return f"inventory: no host is in the group {pattern}{there}; write your mail server's name there"
    if limit:
        try:
            manager.subset(limit)
            left = manager.get_hosts(pattern)
        except AnsibleError as error:
            return f"--limit: {limit!r} can't be read ({error})"
        if not left:
            wanted = ", ".join(groups.get(pattern, groups["all"]))
            return f"--limit: {limit!r} leaves no host of {pattern}; write one of {wanted}"
    return ""


def _of_options(line: t.Mapping[str, t.Any]) -> str:
    task = line.get("start_at_task")
    if task:
        return (
            f"--start-at-task: {task!r} would leave out the checks before it; write --tags with a role's name instead"
        )
    if set(line.get("skip_tags") or ()) & {"always", "tagged", "all"}:
        return "--skip-tags: would leave out the checks; write roles' names only"
    return ""


def _of_tags(wanted: t.Sequence[str], playbooks: t.Sequence[str]) -> str:
    """A user's playbook that imports one of this collection may have other tags, so it is not checked."""
    paths = [_path_of_ours(playbook) for playbook in playbooks]
    if not all(paths):
        return ""
    known = list(dict.fromkeys(tag for path in paths if path for tag in _tags_in(path) if tag not in _SPECIAL))
    for tag in wanted:
        if tag not in (*known, *_SPECIAL):
            near = difflib.get_close_matches(tag, known, n=1)
            cure = f"write {near[0] if near else ' or '.join(known)}" if known else "it has none, run it without"
            return f"--tags: {tag!r} is not a tag of this playbook; {cure}"
    return ""


def _path_of_ours(playbook: str) -> pathlib.Path | None:
    """The path of a playbook of this collection; None for any other playbook."""
    if playbook.startswith(_COLLECTION):
        return _PLAYBOOKS / f"{playbook[len(_COLLECTION) :]}.yml"
    path = pathlib.Path(playbook).resolve()
    return path if path.parent == _PLAYBOOKS or path == _ROOT / "site.yml" else None


def _tags_in(path: pathlib.Path) -> t.Iterator[str]:
    """The tags of a playbook and of the playbooks that it imports."""
    for play in yaml_load(path.read_text(encoding="utf-8")):
        yield from play.get("tags", ())
        for task in play.get("tasks", ()):
            yield from task.get("tags", ())
        imported = _path_of_ours(play.get("ansible.builtin.import_playbook", ""))
        if imported:
            yield from _tags_in(imported)


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"check_run": check_run}
