# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Messages about wrong names and types of variables; and the specs name all variables."""

from __future__ import annotations

import re
import typing as t

import pytest
from repository import ROOT

pytest.importorskip("ansible.module_utils.common.yaml")

from ansible_collections.port587.mail.plugins.plugin_utils import _variables

YOURS = "list it in mail_own_variables if it is your own"
LIST = {"type": "list", "elements": "str"}
CHOICES = {"type": "str", "choices": ["ecdsa", "rsa", "both"], "default": "ecdsa"}
ENTRIES = {
    "type": "list",
    "elements": "dict",
    "options": {
        "host": {"type": "str", "required": True, "description": "Host name. As it is."},
        "port": {"type": "int", "default": 587},
        "password": {"type": "str", "no_log": True},
    },
}

WRONG = [
    (LIST, "example.com", "v: 'example.com' is text; write a list, such as [example.com]"),
    (LIST, "a.example, b.example", "v: 'a.example, b.example' is text; write a list, such as [a.example, b.example]"),
    (
        LIST,
        '["a.example"]',
        "v: '[\"a.example\"]' is text; write a list; on the command line that is JSON: -e '{\"v\": [...]}'",
    ),
    (LIST, {"a": 1}, "v: is a dictionary; write a list"),
    (LIST, None, "v: has no value; write a list, or remove the line"),
    (LIST, ["a", ["b"]], "v[1]: is a list; write text"),
    ({**LIST, "default": ["x.example"]}, 5, "v: 5 is a number; write a list, such as [x.example]"),
    ({"type": "dict"}, ["a"], "v: is a list; write a dictionary"),
    ({"type": "dict", "default": {"hour": 200}}, "a", "v: 'a' is text; write a dictionary, such as {hour: 200}"),
    ({"type": "bool"}, "maybe", "v: 'maybe' is text; write true or false"),
    ({"type": "bool"}, ["a"], "v: is a list; write true or false"),
    ({"type": "int", "default": 300}, "many", "v: 'many' is text; write a whole number, such as 300"),
    ({"type": "int"}, True, "v: true is a truth value; write a whole number"),
    ({"type": "str"}, False, "v: false is a truth value; write text"),
    ({"type": "str"}, ["a"], "v: is a list; write text"),
    (CHOICES, "ecdas", "v: 'ecdas' is unknown; write ecdsa, rsa or both"),
    (
        {**CHOICES, "type": "list", "elements": "str"},
        ["rsa", "dsa"],
        "v[1]: 'dsa' is unknown; write ecdsa, rsa or both",
    ),
    (ENTRIES, [{"hots": "x"}], "v[0].hots: is not a key; write host"),
    (ENTRIES, [{}], "v[0].host: is not set; write host name"),
    (ENTRIES, [{"host": "x", "port": "smtp"}], "v[0].port: 'smtp' is text; write a whole number, such as 587"),
]

RIGHT = [
    (LIST, []),
    (LIST, ["a", 5]),
    ({"type": "bool"}, "yes"),
    ({"type": "bool"}, "False"),
    ({"type": "bool"}, 1),
    ({"type": "int"}, "5"),
    ({"type": "int"}, 0),
    ({"type": "str"}, 0),
    ({"type": "raw"}, {"a": 1}),
    (CHOICES, "both"),
    (ENTRIES, [{"host": "x", "port": 25, "password": "p"}]),
]


@pytest.mark.parametrize(("option", "value", "sentence"), WRONG)
def test_wrong(option: dict[str, t.Any], value: t.Any, sentence: str) -> None:
    assert sentence in list(_variables.problems("v", option, value))


@pytest.mark.parametrize(("option", "value"), RIGHT)
def test_right(option: dict[str, t.Any], value: t.Any) -> None:
    assert not list(_variables.problems("v", option, value))


@pytest.mark.parametrize(
    ("option", "value"),
    [
        (ENTRIES, "host:hidden"),
        (ENTRIES, [{"host": "x", "password": ["hidden"]}]),
        (ENTRIES, ["hidden"]),
        (ENTRIES, {"x": "hidden"}),
    ],
)
def test_what_may_be_a_secret_is_not_repeated(option: dict[str, t.Any], value: t.Any) -> None:
    found = list(_variables.problems("v", option, value))
    assert found
    assert "hidden" not in "".join(found)


def test_unknown_names() -> None:
    names = [
        "mail_hostnme",
        "mail_domains",
        "dns_servers",
        "postfix_relays",
        "web_root",
        "mail_backup_dir",
        "__mail_x",
        "mailman_url",
    ]
    assert list(_variables.unknown_names(names, ["mail_", "dns_", "postfix_"], ["mail_backup_*"])) == [
        f"dns_servers: is not a variable of port587.mail; write dns_resolvers, or {YOURS}",
        f"mail_hostnme: is not a variable of port587.mail; write mail_hostname, or {YOURS}",
    ]


def test_nothing_is_made_up_where_no_name_is_near() -> None:
    assert list(_variables.unknown_names(["mail_xyzzy"], ["mail_"], [])) == [
        f"mail_xyzzy: is not a variable of port587.mail; {YOURS}"
    ]


def test_every_variable_that_a_role_or_playbook_uses_is_known() -> None:
    """A new mail_... has to stand in roles/mail/meta/argument_specs.yml, or it would be taken for a typing error."""
    used: set[str] = set()
    for path in [
        *ROOT.glob("roles/*/defaults/main.yml"),
        *ROOT.glob("roles/*/vars/main.yml"),
        *ROOT.glob("playbooks/**/*.yml"),
    ]:
        # in expressions
        text = " ".join(re.findall(r"\{\{.*?\}\}|when: .*", path.read_text(encoding="utf-8"), re.DOTALL))
        used |= set(re.findall(r"(?<![\w.'])((?:mail|verify|dns)_[a-z_]+)\b(?!['(])", text))
    assert (
        used - {"dns_site", "dns_records", "dns_zone", "dns_record", "dns_text", "dns_problems"}
        <= _variables.known_names()
    )


@pytest.mark.parametrize("playbook", ["dns", "verify"])
def test_a_playbook_documents_what_it_takes(playbook: str) -> None:
    text = (ROOT / "playbooks" / f"{playbook}.yml").read_text(encoding="utf-8")
    documented = set(re.findall(rf"^# ({playbook}_\w+) ", text, re.MULTILINE))
    assert documented == {name for name in _variables.site_options() if name.startswith(f"{playbook}_")}


@pytest.mark.parametrize("role", sorted(path.parts[-3] for path in ROOT.glob("roles/*/tasks/main.yml")))
def test_defaults_are_of_their_own_type(role: str) -> None:
    for name, value in _variables.role_defaults(role).items():
        if "{{" not in str(value):
            assert not list(_variables.problems(name, _variables.role_options(role)[name], value)), name


def test_the_defaults_of_the_site_are_as_documented() -> None:
    options = {name: option for name, option in _variables.site_options().items() if name.startswith("mail_")}
    documented = {name: option["default"] for name, option in options.items() if "default" in option}
    # what derives from another variable has no default to document
    plain = {name: value for name, value in _variables.role_defaults("mail").items() if "{{" not in str(value)}
    assert plain == documented


def test_a_default_of_the_site_stands_in_one_place() -> None:
    for path in [*ROOT.glob("roles/**/*.yml"), *ROOT.glob("roles/**/*.j2"), *ROOT.glob("playbooks/**/*.yml")]:
        repeated = set(re.findall(r"(mail_\w+) *\| *default\(", path.read_text(encoding="utf-8")))
        assert not repeated & set(_variables.role_defaults("mail")), path
