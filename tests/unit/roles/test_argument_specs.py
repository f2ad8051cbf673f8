# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) The port587.mail contributors
"""A role's defaults and its argument specs name the same variables."""

import re
import typing as t

import pytest
from repository import ROOT

yaml = pytest.importorskip("yaml")

ROLES = sorted(path.parts[-3] for path in ROOT.glob("roles/*/tasks/main.yml"))


def specs(role: str) -> t.Dict[str, t.Any]:
    """The argument specs of a role, by entry point."""
    text = (ROOT / "roles" / role / "meta" / "argument_specs.yml").read_text(encoding="utf-8")
    return yaml.safe_load(text)["argument_specs"]


def defaults(role: str) -> str:
    """The text of a role's defaults."""
    return (ROOT / "roles" / role / "defaults" / "main.yml").read_text(encoding="utf-8")


@pytest.mark.parametrize("role", ROLES)
def test_defaults_and_specs_have_the_same_keys(role: str) -> None:
    options = specs(role)["main"]["options"]
    text = defaults(role)
    has_default = set(yaml.safe_load(text) or {})
    # a variable without a sane default stands there too, as a comment
    commented = {name for name in re.findall(r"^# ?([a-z0-9_]+):", text, re.MULTILINE) if name in options}
    assert has_default | commented == set(options)
    assert all(options[name].get("required") for name in commented - has_default)


@pytest.mark.parametrize("role", ROLES)
def test_every_option_says_its_type_and_what_it_is(role: str) -> None:
    for name, option in specs(role)["main"]["options"].items():
        assert option.get("type"), name
        assert option.get("description"), name
