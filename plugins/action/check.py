# Copyright (c) The port587.mail contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import re
import typing as t

from ansible.errors import AnsibleError, AnsibleUndefinedVariable
from ansible.plugins.action import ActionBase
from ansible_collections.port587.mail.plugins.plugin_utils import _variables

#: A longer list is not rendered for this: the role that uses it looks at each entry.
MANY = 200

#: What clients, certificates and DNS have to know by the very same letters.
_HOST_NAMES = ("mail_hostname", "preflight_hostname")

#: ssh passes over a key that is not there, and says that it was not let in.
_SSH_KEY = "ansible_ssh_private_key_file"


class ActionModule(ActionBase):
    """Looks at the variables of one host. Nothing runs on it."""

    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        super().run(tmp, task_vars)
        _spec, args = self.validate_argument_spec(
            {
                "roles": {"type": "list", "elements": "str", "default": []},
                "site": {"type": "bool", "default": True},
                "needs": {"type": "list", "elements": "str", "default": []},
                "files": {"type": "list", "elements": "str", "default": []},
            }
        )
        self._vars = task_vars or {}
        # in the order in which they were found, each once: several variables derive from one
        found: dict[str, None] = {}
        for sentence in self._problems(**args):
            found[sentence] = None
        return {"changed": False, "failed": bool(found), "msg": "\n".join(found)}

    def _problems(self, roles: list[str], site: bool, needs: list[str], files: list[str]) -> t.Iterator[str]:
        yield from self._unknown(roles, site)
        for name, option in _variables.site_options().items():
            if name in self._vars:
                yield from self._of_value(name, option)
            elif name in needs:
                yield _variables.missing(name, option)
        for role in roles:
            for name, option in _variables.role_options(role).items():
                yield from self._of_role(name, option, _variables.role_defaults(role))
        yield from self._missing_files(files)

    def _unknown(self, roles: list[str], site: bool) -> t.Iterator[str]:
        everything = {name.partition("_")[0] + "_" for name in _variables.known_names()}
        prefixes = everything if site else {f"{role}_" for role in roles} | {"mail_"}
        own = self._vars.get(_variables.OWN)
        names = {name for name in self._vars if isinstance(name, str)} - self._facts()
        yield from _variables.unknown_names(names, prefixes, own if isinstance(own, list) else [])

    def _facts(self) -> set[str]:
        """What tasks have registered or set. Only Ansible's manager of variables can tell them from others."""
        manager = getattr(self._vars.get("hostvars"), "_variable_manager", None)
        facts = getattr(manager, "_nonpersistent_fact_cache", {})
        return set(facts.get(self._vars.get("inventory_hostname"), ()))

    def _of_role(self, name: str, option: _variables.Option, defaults: dict[str, t.Any]) -> t.Iterator[str]:
        if name not in self._vars:
            if option.get("required") and name not in defaults:
                yield _variables.missing(name, option)
        elif self._vars[name] != defaults.get(name):
            yield from self._of_value(name, option)
        else:
            # a default is right as long as there is what it derives from
            yield from self._undefined(name, self._render(self._vars[name])[1])

    def _of_value(self, name: str, option: _variables.Option) -> t.Iterator[str]:
        value = self._vars[name]
        if isinstance(value, list) and len(value) > MANY:
            return
        value, error = self._render(value)
        if isinstance(error, AnsibleUndefinedVariable):
            yield from self._undefined(name, error)
        elif error:
            secret = option.get("no_log")
            yield f"{name}: can't be evaluated{'' if secret else f' ({_first_line(error)})'}; correct the expression"
        else:
            yield from _variables.problems(name, option, value)
            if name in _HOST_NAMES:
                yield from _variables.host_name_problem(name, value)

    def _render(self, value: t.Any) -> tuple[t.Any, Exception | None]:
        try:
            return self._templar.template(value), None
        except AnsibleError as error:
            return None, error

    @staticmethod
    def _undefined(name: str, error: Exception | None) -> t.Iterator[str]:
        """Which variable it is that a value uses, and nobody has set."""
        match = re.search(r"'(\w+)' is undefined", str(error)) if isinstance(error, AnsibleUndefinedVariable) else None
        if match is None:
            return
        option = _variables.site_options().get(match[1])
        yield _variables.missing(match[1], option) if option else f"{name}: uses {match[1]}, which is not set; set it"

    def _missing_files(self, names: list[str]) -> t.Iterator[str]:
        paths = {name: str(self._render(self._vars.get(name))[0] or "") for name in (_SSH_KEY, *names)}
        for name, path in paths.items():
            # ssh looks in the current folder, Ansible where it looks for all files
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
