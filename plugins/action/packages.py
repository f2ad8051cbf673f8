# Copyright (c) The port587.mail contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Controller half of port587.mail.packages: install, and retry as long as another program uses apt."""

from __future__ import annotations

import re
import time
import typing as t

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

#: Seconds that the server waits at a time, between two messages about the program that uses apt.
AT_A_TIME = 30
#: Number of times that apt may fail to get its lock although no program seems to hold it.
UNEXPLAINED = 3

_LOCKED = re.compile(
    r"(could not get|unable to acquire|failed to|unable to|waiting for) .{0,30}\block\b|lock was locked", re.IGNORECASE
)

#: What dpkg prints when it begins to install a package that was not there. apt's own output depends on its version.
_NEW = re.compile(r"^Selecting previously unselected package ([^\s:]+?)(?::\S+)?\.\s*$", re.MULTILINE)


class ActionModule(ActionBase):
    """As fast as ansible.builtin.apt if no other program uses apt."""

    TRANSFERS_FILES = False
    _requires_connection = True

    def run(self, tmp: t.Any = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        super().run(tmp, task_vars)
        task_vars = task_vars or {}
        _spec, arguments = self.validate_argument_spec(
            {
                "name": {"type": "list", "elements": "str", "required": True},
                "wait": {"type": "int", "default": 600},
            }
        )
        began = time.monotonic()
        # the first look does not wait, so that the user is informed at once
        pause = unexplained = 0
        result = self._install(arguments["name"], task_vars)
        while is_locked(result):
            left = max(0, arguments["wait"] - int(time.monotonic() - began))
            held = self._execute_module(
                module_name="port587.mail.packages",
                module_args={"name": [], "wait": min(pause, left)},
                task_vars=task_vars,
            )
            if held.get("failed"):
                return held
            who = ", ".join(held["holders"])
            if who and not left:
                return {"failed": True, "changed": False, "msg": given_up(who, arguments["wait"])}
            if who:
                host = task_vars.get("inventory_hostname", "")
                Display().display(f"{host}: apt is in use by {who}. Waiting, for {left} s more at most.")
                pause = AT_A_TIME
                continue
            unexplained += not held["waited"]
            if unexplained > UNEXPLAINED:
                break
            result = self._install(arguments["name"], task_vars)
        # check mode only simulates, and selects nothing
        new = new_packages(str(result.get("stdout", "")))
        if new:
            noted = self._execute_module(
                module_name="port587.mail.packages", module_args={"name": [], "installed": new}, task_vars=task_vars
            )
            if noted.get("failed") and not result.get("failed"):
                return noted
            if noted.get("warnings"):
                result["warnings"] = [*result.get("warnings", []), *noted["warnings"]]
        return result

    def _install(self, names: list[str], task_vars: dict[str, t.Any]) -> dict[str, t.Any]:
        return self._execute_module(
            module_name="ansible.builtin.apt",
            module_args={
                "name": names,
                "install_recommends": False,
                # installed packages, such as another MTA, are not removed
                "fail_on_autoremove": True,
                # nothing is started before it is configured
                "policy_rc_d": 101,
                "update_cache": True,
                "cache_valid_time": 3600,
                # ansible-core up to 2.18 applies this only to updating apt's lists
                "lock_timeout": 5,
            },
            task_vars=task_vars,
        )


def new_packages(said: str) -> list[str]:
    """The packages that were not there before, in the output of apt."""
    return _NEW.findall(said)


def is_locked(result: dict[str, t.Any]) -> bool:
    """Whether apt failed because another program uses it. Its message differs between versions."""
    said = f"{result.get('msg', '')} {result.get('stderr', '')}"
    return bool(result.get("failed")) and _LOCKED.search(said) is not None


def given_up(who: str, seconds: int) -> str:
    return (
        f"apt has not been free for {seconds} s, so nothing was installed: it is in use by {who}. See what that is "
        "doing (systemctl status, ps), and run again when it is through"
    )
