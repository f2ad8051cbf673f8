# Copyright (c) The port587.mail contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Controller half of port587.mail.release_upgrade: render the templates for the next release."""

from __future__ import annotations

import re
import typing as t

from ansible.plugins.action import ActionBase
from ansible.plugins.loader import lookup_loader


class ActionModule(ActionBase):
    """Only templates are sent: their content is all that depends on a program's version."""

    TRANSFERS_FILES = False
    _requires_connection = True

    def run(self, tmp: t.Any = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        lookup = lookup_loader.get("ansible.builtin.template", loader=self._loader, templar=self._templar)
        files = []
        for one in arguments.get("files", []):
            source = str(one["src"])
            content = lookup.run([self._find_needle("templates", source)], variables=task_vars or {})[0]
            files.append({"dest": one.get("dest", "/" + re.sub(r"\.j2$", "", source)), "content": str(content)})
        result = self._execute_module(module_args={**arguments, "files": files}, task_vars=task_vars)
        return t.cast("dict[str, t.Any]", result)
