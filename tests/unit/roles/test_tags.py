# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""With a role's tag, all its tasks run: included tasks do not inherit the tag of their include."""

import pathlib
import typing as t

import pytest
from repository import ROOT

yaml = pytest.importorskip("yaml")

ROLES = [
    "unbound",
    "certificates",
    "accounts",
    "dovecot",
    "rspamd",
    "postfix",
    "webmail",
    "autoconfig",
    "bans",
    "firewall",
    "backup",
]


def tasks(path: pathlib.Path) -> t.List[t.Dict[str, t.Any]]:
    return yaml.safe_load(path.read_text(encoding="utf-8")) or []


@pytest.mark.parametrize("path", sorted(ROOT.glob("roles/*/tasks/*.yml")), ids=lambda path: "/".join(path.parts[-3:]))
def test_what_a_role_includes_runs_with_it(path: pathlib.Path) -> None:
    for task in tasks(path):
        for name in ("ansible.builtin.include_tasks", "ansible.builtin.include_role"):
            if name in task:
                assert isinstance(task[name], dict), task["name"]
                assert task[name].get("apply") == {"tags": ["always"]}, task["name"]


def test_what_comes_before_the_roles_always_runs() -> None:
    play = tasks(ROOT / "playbooks" / "site.yml")[0]
    found = play["tasks"]
    roles = [task.get("ansible.builtin.import_role", {}).get("name", "").rpartition(".")[2] for task in found]
    first = roles.index(ROLES[0])
    for task in found[:first]:
        assert "always" in task["tags"], task["name"]
        if "ansible.builtin.include_role" in task:
            assert task["ansible.builtin.include_role"]["apply"] == {"tags": ["always"]}, task["name"]
    for role, task in zip(roles[first:], found[first:]):
        assert task.get("tags", []) == ([role] if role else []), task["name"]


def test_the_roles_are_set_up_in_the_order_of_their_switches() -> None:
    play = tasks(ROOT / "playbooks" / "site.yml")[0]
    has = yaml.safe_load((ROOT / "playbooks" / "vars" / "roles.yml").read_text(encoding="utf-8"))["__site_has"]
    imported = [task for task in play["tasks"] if set(task.get("tags", [])) & set(ROLES)]
    assert [task["tags"] for task in imported] == [[role] for role in has]
    for task, (role, wanted) in zip(imported, has.items()):
        assert task.get("when") == (None if wanted is True else "__site_has." + role), role
