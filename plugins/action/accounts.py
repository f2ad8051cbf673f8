# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Controller half of port587.mail.accounts: warn of weak passwords, and send many accounts as a file."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import pathlib
import secrets
import tempfile
import typing as t

from ansible import constants
from ansible.errors import AnsibleActionFail
from ansible_collections.port587.mail.plugins.module_utils._accounts import problems, weak
from ansible_collections.port587.mail.plugins.plugin_utils import _accounts_source
from ansible_collections.port587.mail.plugins.plugin_utils._become import AsRoot

#: More accounts than this are sent as a file: Ansible processes each value of a module's arguments several times.
MANY = 200

FINGERPRINT_KEY = pathlib.Path("port587", "fingerprint.key")


class ActionModule(AsRoot):
    """Sends the data to the module in one run."""

    def run(self, tmp: t.Any = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        self._file = _accounts_source.find(
            self, arguments.pop("accounts_file", None), (task_vars or {}).get("ansible_inventory_sources")
        )
        accounts = _accounts_source.plain(arguments.get("accounts"))
        arguments["fingerprint_key"] = fingerprint_key()
        result = self._ask(accounts, arguments, task_vars)
        replaced = result.pop("replaces_own", [])
        if replaced:
            # before it happens
            self._display.warning(
                f"passwords that were changed on the server are replaced with the given ones: {', '.join(replaced)};"
                " update_password: on_create keeps them"
            )
        if replaced and not self._task.check_mode:
            result = self._ask(accounts, {**arguments, "replace_own": True}, task_vars)
            result.pop("replaces_own", None)
        self._warn(result.pop("new_passwords", {}))
        return result

    def _ask(
        self, accounts: t.Any, arguments: dict[str, t.Any], task_vars: dict[str, t.Any] | None
    ) -> dict[str, t.Any]:
        arguments = dict(arguments)
        self._weak: dict[str, str] = {}
        if self._file or (isinstance(accounts, list) and len(accounts) > MANY):
            place = problems.Problems(arguments.get("variables", {})).name("accounts")
            arguments["accounts_file"] = self._send(accounts, place)
            arguments["accounts"] = []
        else:
            self._look_for_weak(accounts or [])
        arguments["watched"] = sorted(self._weak)
        return self._run_as_root(arguments, task_vars)

    def _look_for_weak(self, accounts: t.Iterable[t.Any]) -> None:
        """Look for weak passwords. The module itself reports invalid entries."""
        for account in accounts:
            if isinstance(account, dict) and all(isinstance(account.get(key), str) for key in ("address", "password")):
                address = account["address"].lower()
                reason = weak.weakness(address, account["password"])
                if reason:
                    self._weak[address] = reason

    def _warn(self, new: t.Iterable[str]) -> None:
        """Warn once, when a password is set. Not in the module: Ansible would mask a short one in all text."""
        found = [f"{address}: the password {self._weak[address]}" for address in sorted(new)]
        if found:
            self._display.warning(
                "weak passwords, which let others send spam from here: "
                + problems.as_message(found).replace("\n", "; ")
            )

    def _entries(self, say: problems.Say) -> t.Iterator[_accounts_source.Entry]:
        return _accounts_source.entries(*self._file, say) if self._file else iter(())

    def _send(self, accounts: t.Any, place: str) -> str:
        """Copy the accounts to the server, as lines of JSON: the place of each, and its data."""
        broken: list[str] = []
        listed = ((f"{place}[{number}]", entry) for number, entry in enumerate(accounts or []))
        entries = self._entries(lambda where, what: broken.append(f"{where}: {what}"))
        # readable for the owner only, and removed when the run ends
        with tempfile.NamedTemporaryFile("w", encoding="ascii", dir=constants.DEFAULT_LOCAL_TMP) as file:
            for entry in itertools.chain(listed, entries):
                self._look_for_weak([entry[1]])
                file.write(json.dumps(entry, separators=(",", ":")) + "\n")
            file.flush()
            if broken:
                raise AnsibleActionFail(problems.as_message(broken))
            # made by Ansible for this task, and removed by it afterwards
            directory = self._connection._shell.tmpdir or self._make_tmp_path()
            remote = self._connection._shell.join_path(directory, "accounts")
            self._transfer_file(file.name, remote)
            self._fixup_perms2((directory, remote), execute=False)
        return str(remote)


def fingerprint_key() -> str | None:
    """A secret of this controller, which no server stores; generated at the first call."""
    path = pathlib.Path(constants.ANSIBLE_HOME) / FINGERPRINT_KEY
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # complete before it gets its name, since tasks of several hosts run at once
        with tempfile.NamedTemporaryFile("w", encoding="ascii", dir=path.parent) as file:
            file.write(secrets.token_hex(32))
            file.flush()
            with contextlib.suppress(FileExistsError):
                os.link(file.name, path)
        return path.read_text(encoding="ascii")
    except OSError:
        # a controller that can't store files: passwords are verified against their hashes
        return None
