# Copyright (c) The port587.mail contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Controller half of port587.mail.release_upgrade: render the templates for the next release."""

from __future__ import annotations

import typing as t

from ansible.plugins.action import ActionBase
from ansible_collections.port587.mail.plugins.plugin_utils import _templates


class ActionModule(ActionBase):
    """Only templates are sent: their content is all that depends on a program's version."""

    TRANSFERS_FILES = False
    _requires_connection = True

    def run(self, tmp: t.Any = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        files = [
            {
                "dest": one.get("dest", _templates.destination(str(one["src"]))),
                "content": _templates.render(self, self._find_needle("templates", str(one["src"])), task_vars or {}),
            }
            for one in arguments.get("files", [])
        ]
        result = self._execute_module(module_args={**arguments, "files": files}, task_vars=task_vars)
        return t.cast("dict[str, t.Any]", result)
