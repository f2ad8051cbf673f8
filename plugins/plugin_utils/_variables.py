# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this plugin util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""Check variables against argument specs: unknown names, and values of the wrong type.

Ansible's own validation turns text into a list with one entry, misses misspelt names, and stops at the first mistake.
"""

from __future__ import annotations

import difflib
import fnmatch
import functools
import pathlib
import re
import typing as t

from ansible.module_utils.common.yaml import yaml_load
from ansible.module_utils.parsing.convert_bool import boolean

Option = t.Dict[str, t.Any]

#: The role that has the site's variables, and no tasks.
SITE = "mail"

#: The variable that lists the user's own names with a prefix of this collection.
OWN = "mail_own_variables"

_ROOT = pathlib.Path(__file__).parents[2]
_WANTED = {
    "list": "a list",
    "dict": "a dictionary",
    "bool": "true or false",
    "int": "a whole number",
    "str": "text",
    "path": "a path",
}


@functools.lru_cache(maxsize=None)
def role_options(role: str) -> dict[str, Option]:
    """The options of a role, by name."""
    return _specs(_ROOT / "roles" / role)["main"]["options"]


@functools.lru_cache(maxsize=None)
def role_defaults(role: str) -> dict[str, t.Any]:
    """A role's defaults, without templating."""
    return yaml_load((_ROOT / "roles" / role / "defaults" / "main.yml").read_text(encoding="utf-8")) or {}


@functools.lru_cache(maxsize=None)
def site_options() -> dict[str, Option]:
    """The options that belong to no single role: mail_*, and the variables of the playbooks."""
    specs = [*_specs(_ROOT / "roles" / SITE).values(), *_specs(_ROOT / "playbooks").values()]
    return {name: option for spec in specs for name, option in spec["options"].items()}


@functools.lru_cache(maxsize=None)
def roles() -> list[str]:
    """The roles with tasks."""
    return sorted(path.parents[1].name for path in (_ROOT / "roles").glob("*/tasks/main.yml"))


@functools.lru_cache(maxsize=None)
def known_names() -> frozenset[str]:
    """Every variable of the collection."""
    return frozenset(site_options()).union(*map(role_options, roles()))


def _specs(folder: pathlib.Path) -> t.Any:
    return yaml_load((folder / "meta" / "argument_specs.yml").read_text(encoding="utf-8"))["argument_specs"]


def unknown_names(names: t.Iterable[str], prefixes: t.Iterable[str], own: t.Sequence[str]) -> t.Iterator[str]:
    """Unknown names with a prefix of this collection: most likely typing errors."""
    known = known_names()
    for name in sorted(names):
        if not name.startswith(tuple(prefixes)) or name in known or any(fnmatch.fnmatch(name, one) for one in own):
            continue
        near = nearest(name, known)
        yours = f"list it in {OWN} if it is your own"
        yield f"{name}: is not a variable of port587.mail; {f'write {near}, or ' if near else ''}{yours}"


def nearest(name: str, known: t.Iterable[str]) -> str:
    """The most similar known name, if there is one."""
    return next(iter(difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.7)), "")


def missing(name: str, option: Option) -> str:
    """The message about a required variable that is not set."""
    first_sentence = re.split(r"\.(?:\s|\Z)", str(option["description"]))[0]
    description = re.sub(r"\b[CVOM]\(([^()]*)\)", r"\1", first_sentence)
    return f"{name}: is not set; write {description[0].lower()}{description[1:]}"


def problems(name: str, option: Option, value: t.Any) -> t.Iterator[str]:
    """Mistakes in a value; each sentence names the variable, the value, and what would be right."""
    kind = option.get("type", "str")
    secret = _holds_secrets(option)
    if kind == "raw":
        return
    if value is None:
        yield f"{name}: has no value; write {_example(option)}, or remove the line"
    elif not _is(kind, value):
        yield f"{name}: {_shown(value, secret)}; write {_instead(name, option, value, secret)}"
    elif kind == "list":
        # as in Ansible, the choices of a list are those of its entries
        element = {"type": option.get("elements", "raw"), "no_log": secret}
        element.update((key, option[key]) for key in ("options", "choices") if key in option)
        for number, entry in enumerate(value):
            yield from problems(f"{name}[{number}]", element, entry)
    elif "choices" in option and str(value) not in map(str, option["choices"]):
        yield f"{name}: {_shown(value, secret, 'unknown')}; write {_alternatives(option['choices'])}"
    elif kind == "dict" and option.get("options"):
        yield from _suboptions(name, option, value)


def _suboptions(name: str, option: Option, value: dict[str, t.Any]) -> t.Iterator[str]:
    options = option["options"]
    for key in value:
        if key not in options:
            near = nearest(str(key), options)
            yield f"{name}.{key}: is not a key; write {near or _alternatives(list(options))}"
    for key, sub in options.items():
        if key in value:
            yield from problems(f"{name}.{key}", sub, value[key])
        elif sub.get("required"):
            yield missing(f"{name}.{key}", sub)


def _holds_secrets(option: Option) -> bool:
    return bool(option.get("no_log")) or any(sub.get("no_log") for sub in (option.get("options") or {}).values())


def _is(kind: str, value: t.Any) -> bool:
    if kind == "list":
        return isinstance(value, (list, tuple))
    if kind == "dict":
        return isinstance(value, dict)
    if kind == "bool":
        return _is_boolean(value)
    if kind == "int":
        return not isinstance(value, bool) and re.fullmatch(r"-?[0-9]+", str(value)) is not None
    return not isinstance(value, (list, tuple, dict, bool))


def _is_boolean(value: t.Any) -> bool:
    try:
        boolean(value)
    except TypeError:
        return False
    return True


def _shown(value: t.Any, secret: bool, complaint: str = "") -> str:
    """The value and its type. For a collection, and for a possible secret, only the type."""
    if isinstance(value, bool):
        return f"{str(value).lower()} is {complaint or 'a truth value'}"
    if isinstance(value, (int, float)):
        return f"{value} is {complaint or 'a number'}"
    if isinstance(value, (list, tuple)):
        return "is a list"
    if isinstance(value, dict):
        return "is a dictionary"
    return f"is {complaint or 'text'}" if secret else f"{str(value)!r} is {complaint or 'text'}"


def _instead(name: str, option: Option, value: t.Any, secret: bool) -> str:
    kind = option["type"]
    if kind == "list" and isinstance(value, str) and not secret:
        words = re.split(r"[\s,]+", value.strip("[] \t\n"))
        if re.match(r"\s*[\[{]", value):
            return f"a list; on the command line that is JSON: -e '{{\"{name}\": [...]}}'"
        if option.get("elements") == "str" and 0 < len(words) < 5 and all(words):
            return f"a list, such as [{', '.join(words)}]"
    return _example(option)


def _example(option: Option) -> str:
    """What to write, with the default as an example if it is suitable."""
    default = option.get("default")
    wanted = _WANTED[option.get("type", "str")]
    if isinstance(default, list) and default:
        return f"{wanted}, such as [{', '.join(map(str, default))}]"
    if isinstance(default, dict) and default:
        return f"{wanted}, such as {{{', '.join(f'{key}: {value}' for key, value in default.items())}}}"
    if option.get("type") == "int" and default:
        return f"{wanted}, such as {default}"
    if "choices" in option and option.get("type") != "list":
        return _alternatives(option["choices"])
    return wanted


def _alternatives(words: t.Sequence[t.Any]) -> str:
    *first, last = map(str, words)
    return f"{', '.join(first)} or {last}" if first else last
