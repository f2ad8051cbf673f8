# Copyright (c) The port587.mail contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.port587.mail.plugins.module_utils._probe import report


class ActionModule(ActionBase):
    """Prints through Ansible's display: a module's result is shown as JSON or YAML, and nobody reads that."""

    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        super().run(tmp, task_vars)
        _spec, args = self.validate_argument_spec(
            {"result": {"type": "dict", "required": True}, "server": {"type": "str"}}
        )
        result = args["result"]
        if result.get("skipped"):
            Display().display("Not verified: in check mode nothing is sent.\n")
            return {"changed": False, "msg": "Not verified: in check mode nothing is sent."}
        text = report.verdict(result)
        if result["verdict"] != "fail":
            text += "\n\n" + report.client_settings(result, args["server"] or result["host"])
        Display().display(text + "\n")
        findings = result["findings"]
        return {
            "changed": False,
            "failed": result["verdict"] == "fail",
            "msg": report.sentence(findings[0]) if findings else "",
        }
