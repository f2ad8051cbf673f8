# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Command lines that would do nothing, or skip the checks."""

from __future__ import annotations

import typing as t

import pytest
from repository import ROOT

pytest.importorskip("ansible.inventory.manager")

from ansible.errors import AnsibleFilterError
from ansible_collections.port587.mail.plugins.filter import check_run

GROUPS = {"all": ["a.example", "w1"], "ungrouped": [], "mail": ["a.example"], "web": ["w1"]}


def said(monkeypatch: pytest.MonkeyPatch, groups: dict[str, list[str]] | None = None, **line: t.Any) -> str:
    """What is said of a command line; empty where it is a good one."""
    defaults = {"args": ("site.yml",), "tags": ["all"], "skip_tags": []}
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(check_run.context, "CLIARGS", {**defaults, **line})
    try:
        assert check_run.check_run("mail", GROUPS if groups is None else groups) == "mail"
    except AnsibleFilterError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    "line",
    [
        {},
        {"tags": ["preflight", "postfix", "dovecot", "verify"]},
        {"tags": ["postfix"], "args": ("port587.mail.site",)},
        {"skip_tags": ["postfix"]},
        {"subset": "a.example"},
        {"subset": "all:!w1"},
        {"args": ("mine.yml",), "tags": ["web"]},
        {"syntax": True, "subset": "w1"},
        {"listtasks": True, "tags": ["postfx"]},
    ],
)
def test_good(monkeypatch: pytest.MonkeyPatch, line: dict[str, t.Any]) -> None:
    assert said(monkeypatch, **line) == ""


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ({"groups": {"all": [], "ungrouped": []}}, "inventory: there is no host in it"),
        ({"groups": {**GROUPS, "mail": []}}, "inventory: no host is in the group mail (it has web)"),
        ({"groups": {"all": ["a"], "ungrouped": ["a"]}}, "inventory: no host is in the group mail; write"),
        ({"subset": "w1"}, "--limit: 'w1' leaves no host of mail; write one of a.example"),
        ({"tags": ["postfx"]}, "--tags: 'postfx' is not a tag of this playbook; write postfix"),
        ({"tags": ["web"], "args": ("port587.mail.site",)}, "--tags: 'web' is not a tag"),
        (
            {"tags": ["web"], "args": ("playbooks/accounts.yml",)},
            "--tags: 'web' is not a tag of this playbook; it has no",
        ),
        ({"skip_tags": ["always"]}, "--skip-tags: would leave out the checks"),
        ({"start_at_task": "Configure Postfix"}, "--start-at-task: 'Configure Postfix' would leave out the checks"),
    ],
)
def test_bad(monkeypatch: pytest.MonkeyPatch, line: dict[str, t.Any], sentence: str) -> None:
    assert said(monkeypatch, **line).startswith(sentence)


@pytest.mark.parametrize(
    ("version", "good"),
    [("2.15.13", False), ("2.9.27", False), ("2.16.0", True), ("2.21.5", True), ("2.22.0.dev0", True)],
)
def test_versions(monkeypatch: pytest.MonkeyPatch, version: str, good: bool) -> None:
    monkeypatch.setattr(check_run, "__version__", version)
    assert bool(said(monkeypatch)) is not good


def test_the_oldest_is_what_the_collection_says() -> None:
    text = (ROOT / "meta" / "runtime.yml").read_text(encoding="utf-8")
    assert f'">={".".join(map(str, check_run.OLDEST))}.0"' in text
