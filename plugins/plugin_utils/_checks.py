# Copyright (c) The port587.mail contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this plugin util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""Read the rules in roles/*/meta/checks.yml (CONTRIBUTING.md describes them), and apply those about single values."""

from __future__ import annotations

import functools
import pathlib
import re
import typing as t

from ansible.module_utils.common.yaml import yaml_load
from ansible_collections.port587.mail.plugins.plugin_utils import _kinds
from ansible_collections.port587.mail.plugins.plugin_utils._variables import Option

_ROOT = pathlib.Path(__file__).parents[2]
_STEP = re.compile(r"\[\]|\{\}|\.\*|\.\w+")


class Contradiction(t.NamedTuple):
    """Values that are valid alone, but contradict each other, or the server's facts."""

    #: The variable that the message begins with.
    name: str
    #: A Jinja expression, as in `when`. Its value is true where something is wrong.
    condition: str
    #: The mistake, and what to write instead; a Jinja template.
    say: str
    #: Whether both apply to each entry of the variable, a list. They refer to the entry as `item`.
    each: bool


class Rules(t.NamedTuple):
    """The rules of one role."""

    #: The kinds that a value may have, by its place: `name`, `name[]` (each entry), `name{}` (each key), `name.key`,
    #: `name.*` (each value).
    values: dict[str, list[str]]
    contradictions: list[Contradiction]
    #: The contradictions with the server's facts.
    on_server: list[Contradiction]
    #: A function in Python for the rest: its name in plugins/action/check.py. Empty: none.
    function: str

    def names(self) -> set[str]:
        """The variables whose values have a kind."""
        return {_name(place) for place in self.values}


def _name(place: str) -> str:
    return re.split(r"\W", place, maxsplit=1)[0]


@functools.lru_cache(maxsize=None)
def of_role(role: str) -> Rules:
    """The rules of a role."""
    path = _ROOT / "roles" / role / "meta" / "checks.yml"
    data = (yaml_load(path.read_text(encoding="utf-8")) if path.exists() else None) or {}
    values = data.get("values", {}).items()
    return Rules(
        values={place: [kinds] if isinstance(kinds, str) else kinds for place, kinds in values},
        contradictions=list(map(_contradiction, data.get("contradictions", []))),
        on_server=list(map(_contradiction, data.get("on_server", []))),
        function=data.get("function", ""),
    )


def _contradiction(entry: dict[str, t.Any]) -> Contradiction:
    each = entry.get("each")
    return Contradiction(each or entry["name"], str(entry["if"]), entry["say"], each is not None)


def problems(label: str, name: str, option: Option, value: t.Any, rules: Rules) -> t.Iterator[str]:
    """Mistakes in a variable's value; the label is the variable's name in messages."""
    for place, kinds in rules.values.items():
        if _name(place) == name:
            yield from _at(label, option, value, _STEP.findall(place[len(name) :]), kinds)


def _at(label: str, option: Option, value: t.Any, steps: list[str], kinds: list[str]) -> t.Iterator[str]:
    """Follow the steps to the values. A missing value is not checked."""
    if not steps:
        said = _kinds.problem(kinds, value, option.get("default"), bool(option.get("no_log")))
        if said:
            yield f"{label}: {said}"
        return
    step, *rest = steps
    if step == "[]":
        entry_option: Option = {key: option[key] for key in ("options", "no_log") if key in option}
        for number, entry in enumerate(value):
            yield from _at(f"{label}[{number}]", entry_option, entry, rest, kinds)
    elif step == "{}":
        for key in value:
            yield from _at(label, {}, key, rest, kinds)
    else:
        for key in value if step == ".*" else [step[1:]]:
            if value.get(key) is not None:
                suboption = (option.get("options") or {}).get(key, {})
                yield from _at(f"{label}.{key}", suboption, value[key], rest, kinds)
