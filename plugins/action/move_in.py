# Copyright (c) The port587.mail contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Controller half of port587.mail.move_in: read the accounts, call the module until all is copied."""

from __future__ import annotations

import pathlib
import typing as t

from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.utils.display import Display
from ansible_collections.port587.mail.plugins.module_utils._accounts import faults, problems
from ansible_collections.port587.mail.plugins.plugin_utils import _accounts_source
from ansible_collections.port587.mail.plugins.plugin_utils._become import AsRoot

#: The keys of an account, and columns of the file.
KEYS = ("address", "password", "login")

#: Seconds between two reports of the progress.
AT_A_TIME = 30


class ActionModule(AsRoot):
    """A call of the module for each half minute: a long silence looks like a hang, and some routers cut it."""

    def run(self, tmp: t.Any = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        super().run(tmp, task_vars)
        task_vars = task_vars or {}
        arguments = dict(self._task.args)
        self._names = problems.Problems(arguments.get("variables", {}))
        server = {key: value for key, value in _accounts_source.plain(arguments["server"]).items() if value is not None}
        accounts = self._accounts(
            arguments, bool(server.get("master_user")), task_vars.get("ansible_inventory_sources")
        )
        authorities = self._authorities(server.get("ca_file"))
        if self._names.all():
            raise AnsibleActionFail(problems.as_message(self._names.all()))
        if not boolean(server.get("verify", True)):
            self._display.warning(
                f"{self._names.name('server')}.verify is false: those on the way to {server['host']} can read passwords"
            )
        options = {"server": {**server, "authorities": authorities}, "parallel": arguments.get("parallel", 4)}
        return self._copy(options, accounts, task_vars)

    # input

    def _accounts(self, arguments: dict[str, t.Any], has_master: bool, inventories: t.Any) -> list[dict[str, str]]:
        place, variable = self._names.name("accounts"), self._names.name("accounts_file")
        entries = [
            (f"{place}[{number}]", entry)
            for number, entry in enumerate(_accounts_source.plain(arguments.get("accounts")) or [])
        ]
        file = _accounts_source.find(self, arguments.get("accounts_file"), inventories, variable)
        if file:
            entries += _accounts_source.entries(*file, self._names.say, KEYS)
        elif not entries:
            self._names.say(place, f"is empty, and {variable} is not set; name at least one mailbox")
        seen: set[tuple[str, str]] = set()
        accounts = []
        for where, entry in entries:
            account = self._account(where, entry, has_master)
            if account:
                if (account["address"], account["login"]) in seen:
                    self._names.say(where, f"{faults.show(account['address'])} is listed twice; write it once")
                seen.add((account["address"], account["login"]))
                accounts.append(account)
        return accounts

    def _account(self, where: str, entry: t.Any, has_master: bool) -> dict[str, str] | None:
        if not isinstance(entry, dict):
            self._names.say(where, f"is {faults.kind(entry)}, not a mapping; write {{address: eve@example.com, ...}}")
            return None
        for key in set(entry) - set(KEYS):
            self._names.say(f"{where}.{str(key)[:40]}", f"is unknown; there are: {', '.join(KEYS)}")
        address, login, password = entry.get("address"), entry.get("login"), entry.get("password")
        wrong = faults.login_fault(address)
        if wrong or address is None:
            shown = "" if address is None else f"{faults.show(address)} "
            self._names.say(f"{where}.address", f"{shown}{wrong}")
            return None
        if login is not None and (not isinstance(login, str) or not login or faults.CONTROL.search(login)):
            self._names.say(f"{where}.login", f"{faults.show(login)} is not a login; write it as text in one line")
            return None
        if password is None and not has_master:
            server = self._names.name("server")
            self._names.say(where, f"{faults.show(address)} has no password; write it, or set {server}.master_user")
        elif password is not None and faults.password_fault(password):
            self._names.say(f"{where}.password", str(faults.password_fault(password)))
        return {"address": address.lower(), "login": login or address, "password": password or ""}

    def _authorities(self, path: t.Any) -> str | None:
        if not path:
            return None
        try:
            return pathlib.Path(self._find_needle("files", str(path))).read_text(encoding="ascii")
        except (AnsibleError, OSError, UnicodeError):
            self._names.say(f"{self._names.name('server')}.ca_file", f"{path!r} is not a PEM file on this machine")
            return None

    # work

    def _copy(
        self, options: dict[str, t.Any], accounts: list[dict[str, str]], task_vars: dict[str, t.Any]
    ) -> dict[str, t.Any]:
        results: dict[int, dict[str, t.Any]] = {}
        left = list(range(len(accounts)))
        while left:
            arguments = {**options, "accounts": [accounts[number] for number in left], "seconds": AT_A_TIME}
            answer = self._run_as_root(arguments, task_vars)
            if answer.get("failed"):
                return answer
            for number, result in zip(left, answer["accounts"]):
                results[number] = add(results.get(number), result)
                self._show(task_vars, results[number], result)
            left = [number for number in left if results[number]["outcome"] == "unfinished"]
        found = [results[number] for number in sorted(results)]
        return {
            "changed": any(result["new"] for result in found),
            "accounts": found,
            "failures": [result["address"] for result in found if result["outcome"] == "failed"],
            "table": table(found),
        }

    def _show(self, task_vars: dict[str, t.Any], result: dict[str, t.Any], now: dict[str, t.Any]) -> None:
        if result["outcome"] == "unfinished" and not now["seconds"]:
            # still waiting for its turn
            return
        outcome = {"unfinished": "is being copied"}.get(result["outcome"], result["outcome"])
        host = task_vars.get("inventory_hostname", "")
        Display().display(f"{host}: {result['address']} {outcome}: {result['new']} new mails, {result['seconds']:g} s")


def add(before: dict[str, t.Any] | None, now: dict[str, t.Any]) -> dict[str, t.Any]:
    """What several calls of the module did for a mailbox."""
    if before is None:
        return now
    return {
        **now,
        "new": before["new"] + now["new"],
        "seconds": round(before["seconds"] + now["seconds"], 1),
        "total": max(before["total"], now["total"]),
    }


def table(results: t.Sequence[dict[str, t.Any]]) -> str:
    """The results as text, a line for each mailbox, and one for each problem."""
    width = max([len("mailbox"), *(len(result["address"]) for result in results)])
    lines = [f"{'mailbox':{width}}     new   total  seconds"]
    for result in results:
        figures = f"{result['new']:7} {result['total']:7} {result['seconds']:8.1f}"
        word = "  FAILED" if result["outcome"] == "failed" else ""
        lines.append(f"{result['address']:{width}} {figures}{word}")
        lines += [f"  {problem}" for problem in result["problems"]]
    return "\n".join(lines)
