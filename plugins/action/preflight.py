# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Controller half of port587.mail.preflight: run the module as root, and show each warning once."""

from __future__ import annotations

import contextlib
import json
import pathlib
import typing as t
import urllib.parse

from ansible import constants
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.utils.display import Display
from ansible_collections.port587.mail.plugins.module_utils._server.findings import Finding, warnings
from ansible_collections.port587.mail.plugins.plugin_utils._become import AsRoot

#: The warnings of earlier runs, by host, in Ansible's own folder on the controller.
MEMORY = pathlib.Path("port587", "preflight")


class ActionModule(AsRoot):
    """The module is the first that runs on a server."""

    def run(self, tmp: t.Any = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        super().run(tmp, task_vars)
        result = self._run_as_root(self._task.args, task_vars)
        if not result.get("failed"):
            hostname = str(self._task.args.get("hostname"))
            host = f"{(task_vars or {}).get('inventory_hostname')} {hostname}"
            found = [Finding(**finding) for finding in result.get("findings", [])]
            found_now = warnings(hostname, found)
            known = recall(host) if boolean(self._task.args.get("only_new", False)) else []
            for warning in found_now:
                if warning not in known:
                    Display().warning(warning)
            if not self._play_context.check_mode:
                remember(host, found_now)
        return result


def recall(host: str) -> list[str]:
    """The warnings of the last run."""
    try:
        return t.cast("list[str]", json.loads(_memory_of(host).read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return []


def remember(host: str, warnings: list[str]) -> None:
    """Store the warnings for the next run. A controller that can't store files warns each time."""
    with contextlib.suppress(OSError):
        _memory_of(host).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _memory_of(host).write_text(json.dumps(warnings), encoding="utf-8")


def _memory_of(host: str) -> pathlib.Path:
    return pathlib.Path(constants.ANSIBLE_HOME) / MEMORY / (urllib.parse.quote(host, safe="") + ".json")
