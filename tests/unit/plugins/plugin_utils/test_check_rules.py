# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rules in meta/checks.yml: each names an existing variable and kind, and finds the right values."""

from __future__ import annotations

import re
import typing as t

import pytest
from repository import ROOT

pytest.importorskip("ansible.module_utils.common.yaml")

from ansible_collections.port587.mail.plugins.action.check import FUNCTIONS
from ansible_collections.port587.mail.plugins.plugin_utils import _checks, _kinds, _variables

ROLES = sorted(path.parts[-3] for path in ROOT.glob("roles/*/meta/checks.yml"))

OPTION = {
    "type": "list",
    "elements": "dict",
    "options": {"host": {"type": "str"}, "password": {"type": "str", "no_log": True}, "names": {"type": "list"}},
}


def said(place: str, kind: str, value: t.Any, option: dict[str, t.Any] | None = None) -> list[str]:
    rules = _checks.Rules({place: [kind]}, [], [], "")
    return list(_checks.problems("v", "v", option or {}, value, rules))


@pytest.mark.parametrize(
    ("place", "kind", "value", "labels"),
    [
        ("v", "domain", "x", ["v"]),
        ("w", "domain", "x", []),
        ("v[]", "domain", ["x", "example.com", "y"], ["v[0]", "v[2]"]),
        ("v[].host", "domain", [{"host": "x"}, {}, {"host": None}, {"host": "a.example"}], ["v[0].host"]),
        ("v[].names[]", "domain", [{"names": ["a.example"]}, {"names": ["a.example", "x"]}], ["v[1].names[1]"]),
        ("v.*", "limit", {"a": 1, "b": -1, "c": None}, ["v.b"]),
        ("v{}", "main_cf_name", {"a": 1, "b c": 1}, ["v"]),
        ("v.key", "domain", {"key": "x"}, ["v.key"]),
        ("v.key", "domain", {}, []),
    ],
)
def test_the_values_that_a_place_means(place: str, kind: str, value: t.Any, labels: list[str]) -> None:
    assert [sentence.partition(":")[0] for sentence in said(place, kind, value)] == labels


def test_a_secret_is_not_repeated() -> None:
    (sentence,) = said("v[].password", "base64", [{"password": "not base64"}], OPTION)
    assert sentence.startswith("v[0].password: is not base64")


@pytest.mark.parametrize("role", ROLES)
def test_rules_are_about_what_there_is(role: str) -> None:
    rules = _checks.of_role(role)
    known = _variables.role_options(role) if role != _variables.SITE else _variables.site_options()
    assert {kind for kinds in rules.values.values() for kind in kinds} <= set(_kinds.KINDS)
    assert {re.split(r"\W", place)[0] for place in rules.values} <= set(known)
    assert {rule.name for rule in rules.contradictions + rules.on_server} <= {*known, "apt"}
    assert rules.function in {"", *FUNCTIONS}


@pytest.mark.parametrize("role", ROLES)
def test_a_default_breaks_no_rule(role: str) -> None:
    options = _variables.role_options(role) if role != _variables.SITE else _variables.site_options()
    for name, value in _variables.role_defaults(role).items():
        if "{{" not in str(value):
            assert list(_checks.problems(name, name, options[name], value, _checks.of_role(role))) == []


def test_every_kind_is_used() -> None:
    used = {kind for role in ROLES for kinds in _checks.of_role(role).values.values() for kind in kinds}
    assert used == set(_kinds.KINDS)
