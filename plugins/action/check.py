# Copyright (c) The port587.mail contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import re
import typing as t

from ansible.errors import AnsibleError, AnsibleUndefinedVariable
from ansible.plugins.action import ActionBase
from ansible_collections.port587.mail.plugins.plugin_utils import (
    _accounts_source,
    _certificate_files,
    _checks,
    _variables,
)

try:
    from ansible.template import trust_as_template
except ImportError:
    # up to ansible-core 2.18, all text may be a template
    def trust_as_template(value: str) -> str:
        return value


#: A longer list is not rendered here: the role that uses it checks each entry.
MANY = 200

#: ssh ignores a missing key file, and only reports that access was denied.
_SSH_KEY = "ansible_ssh_private_key_file"

#: Checks in Python, by their names in meta/checks.yml. Each gets this action, and a function that evaluates a variable.
FUNCTIONS: dict[str, t.Callable[[ActionBase, t.Callable[[str], t.Any]], t.Iterator[str]]] = {
    "accounts": _accounts_source.problems,
    "certificate_files": _certificate_files.problems,
}


class Looked(t.NamedTuple):
    """A variable's value, whether it has the spec's type, and the mistakes found."""

    value: t.Any
    sound: bool
    mistakes: list[str]


class ActionModule(ActionBase):
    """Checks the variables of one host. Nothing runs on the host."""

    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        super().run(tmp, task_vars)
        _spec, args = self.validate_argument_spec(
            {
                "roles": {"type": "list", "elements": "str", "default": []},
                "site": {"type": "bool", "default": True},
                "needs": {"type": "list", "elements": "str", "default": []},
                "files": {"type": "list", "elements": "str", "default": []},
                "on_server": {"type": "bool", "default": False},
            }
        )
        self._vars = task_vars or {}
        # in the order in which they were found, each once: several variables derive from one
        found: dict[str, None] = {}
        for sentence in self._on_server(args["roles"]) if args.pop("on_server") else self._problems(**args):
            found[sentence] = None
        return {"changed": False, "failed": bool(found), "msg": "\n".join(found)}

    def _problems(self, roles: list[str], site: bool, needs: list[str], files: list[str]) -> t.Iterator[str]:
        yield from self._unknown(roles, site)
        options, rules = _variables.site_options(), _checks.of_role(_variables.SITE)
        looked = {name: self._look(name, options[name], rules) for name in options if name in self._vars}
        yield from self._of_site(looked, needs)
        for role in roles:
            yield from self._of_role(role, sound=all(one.sound for one in looked.values()))
        yield from self._missing_files(files)

    def _on_server(self, roles: list[str]) -> t.Iterator[str]:
        for role in roles:
            for rule in _checks.of_role(role).on_server:
                yield from self._contradicted(rule, self._label(role, rule.name))

    # names

    def _unknown(self, roles: list[str], site: bool) -> t.Iterator[str]:
        everything = {name.partition("_")[0] + "_" for name in _variables.known_names()}
        prefixes = everything if site else {f"{role}_" for role in roles} | {"mail_"}
        own = self._vars.get(_variables.OWN)
        names = {name for name in self._vars if isinstance(name, str)} - self._facts()
        yield from _variables.unknown_names(names, prefixes, own if isinstance(own, list) else [])

    def _facts(self) -> set[str]:
        """Registered variables and facts. Only Ansible's variable manager can distinguish them from others."""
        manager = getattr(self._vars.get("hostvars"), "_variable_manager", None)
        facts = getattr(manager, "_nonpersistent_fact_cache", {})
        return set(facts.get(self._vars.get("inventory_hostname"), ()))

    # values

    def _of_site(self, looked: dict[str, Looked], needs: list[str]) -> t.Iterator[str]:
        rules = _checks.of_role(_variables.SITE)
        for name, option in _variables.site_options().items():
            if name in looked:
                yield from looked[name].mistakes
                if looked[name].sound:
                    yield from _checks.problems(name, name, option, looked[name].value, rules)
            elif name in needs:
                yield _variables.missing(name, option)
        for rule in rules.contradictions:
            if rule.name in looked and looked[rule.name].sound:
                yield from self._contradicted(rule, rule.name)

    def _of_role(self, role: str, sound: bool) -> t.Iterator[str]:
        rules, defaults = _checks.of_role(role), _variables.role_defaults(role)
        for name, option in _variables.role_options(role).items():
            if name in self._vars:
                looked = self._look(name, option, rules, derived=self._vars[name] == defaults.get(name))
                yield from looked.mistakes
                sound = sound and looked.sound
                if looked.sound:
                    yield from _checks.problems(self._label(role, name), name, option, looked.value, rules)
            elif option.get("required") and name not in defaults:
                yield _variables.missing(name, option)
                sound = False
        # the rest compares values, which makes sense only if each has the right type
        if sound:
            for rule in rules.contradictions:
                yield from self._contradicted(rule, self._label(role, rule.name))
            if rules.function:
                yield from FUNCTIONS[rules.function](self, self._value)

    def _look(self, name: str, option: _variables.Option, rules: _checks.Rules, derived: bool = False) -> Looked:
        """Evaluate a variable, and compare it with its type. A default is valid if its source is."""
        value = self._vars[name]
        if isinstance(value, list) and len(value) > MANY and name not in rules.names():
            return Looked(value, True, [])
        value, error = self._render(value)
        if isinstance(error, AnsibleUndefinedVariable):
            return Looked(None, False, list(self._undefined(name, error)))
        if error:
            reason = "" if option.get("no_log") else f" ({_first_line(error)})"
            mistakes = [f"{name}: can't be evaluated{reason}; correct the expression"]
        else:
            mistakes = list(_variables.problems(name, option, value))
        return Looked(value, not mistakes, [] if derived else mistakes)

    def _contradicted(self, rule: _checks.Contradiction, label: str) -> t.Iterator[str]:
        for number, item in enumerate(self._value(rule.name) if rule.each else [None]):
            templar = self._templar.copy_with_new_env(available_variables={**self._vars, "item": item})
            if templar.template(trust_as_template(f"{{{{ true if ({rule.condition}) else false }}}}")):
                place = f"[{number}]" if rule.each else ""
                yield f"{label}{place}: {templar.template(trust_as_template(rule.say))}"

    def _label(self, role: str, name: str) -> str:
        """The name that the user has set: the site's variable, if the role's default derives from it."""
        default = _variables.role_defaults(role).get(name)
        match = re.fullmatch(r"\{\{ (mail_\w+) \}\}", str(default))
        return match[1] if match and self._vars.get(name) == default else name

    def _value(self, name: str) -> t.Any:
        return self._templar.template(self._vars.get(name))

    def _render(self, value: t.Any) -> tuple[t.Any, Exception | None]:
        try:
            return self._templar.template(value), None
        except AnsibleError as error:
            return None, error

    @staticmethod
    def _undefined(name: str, error: Exception) -> t.Iterator[str]:
        """The undefined variable that a value uses."""
        match = re.search(r"'(\w+)' is undefined", str(error))
        if match is None:
            return
        option = _variables.site_options().get(match[1])
        yield _variables.missing(match[1], option) if option else f"{name}: uses {match[1]}, which is not set; set it"

    # files

    def _missing_files(self, names: list[str]) -> t.Iterator[str]:
        paths = {name: str(self._render(self._vars.get(name))[0] or "") for name in (_SSH_KEY, *names)}
        for name, path in paths.items():
            # ssh searches the current folder, Ansible its usual places for files
            found = os.path.isfile(os.path.expanduser(path)) if name == _SSH_KEY else self._finds(path)
            if path and not found:
                yield f"{name}: {path!r} is not a file on this machine; write the path of one"

    def _finds(self, path: str) -> bool:
        try:
            return bool(self._find_needle("files", path))
        except AnsibleError:
            return False


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
