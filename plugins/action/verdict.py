# Copyright (c) The port587.mail contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pathlib
import re
import time
import typing as t

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.port587.mail.plugins.module_utils._probe import files, report
from ansible_collections.port587.mail.plugins.module_utils._probe.join import join
from ansible_collections.port587.mail.plugins.module_utils._wire.limits import LARGEST_PEM

SKIPPED = "Not verified: in check mode nothing is sent."


class ActionModule(ActionBase):
    """Prints through Ansible's display, since a task's result is shown as JSON or YAML, which is hard to read."""

    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        super().run(tmp, task_vars)
        _spec, args = self.validate_argument_spec(
            {
                "result": {"type": "dict", "required": True},
                "also": {"type": "list", "elements": "dict", "default": []},
                "server": {"type": "str"},
                "ca_file": {"type": "str"},
                "report_dir": {"type": "str"},
            }
        )
        result = args["result"]
        if result.get("skipped"):
            Display().display(SKIPPED)
            return {"changed": False, "msg": SKIPPED, "reports": []}
        result = join(result, args["also"])
        server = args["server"] or result["host"]
        text = report.verdict(result)
        authority = self._authority(args["ca_file"]) if args["ca_file"] and result.get("private_ca") else None
        if result["verdict"] != "fail":
            text += "\n\n" + report.client_settings(result, server, authority)
        reports = self._write(result, server, authority, args["report_dir"]) if args["report_dir"] else []
        if reports:
            text += f"\n\n  The same as a page, with every step: {reports[0]}"
        Display().display(text)
        findings = result["findings"]
        return {
            "changed": False,
            "failed": result["verdict"] == "fail",
            "msg": report.sentence(findings[0]) if findings else "",
            "findings": findings,
            "reports": reports,
        }

    def _authority(self, name: str) -> report.Authority:
        path = self._loader.path_dwim(name)
        try:
            with open(path, encoding="utf-8") as handle:
                text = handle.read(LARGEST_PEM)
        except (OSError, UnicodeDecodeError) as exc:
            raise AnsibleActionFail(f"ca_file {name} can't be read: {exc}") from exc
        # skips the text before the certificate
        pem = re.search(r"-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----\s", text)
        if not pem:
            raise AnsibleActionFail(f"ca_file {name} has no certificate in it")
        return report.Authority(path, pem[0])

    def _write(
        self, result: dict[str, t.Any], server: str, authority: report.Authority | None, directory: str
    ) -> list[str]:
        """Write the reports for programs, CI and browsers. Returns the paths."""
        when = time.strftime("%Y-%m-%dT%H:%M:%S%z")
        contents = {
            "html": files.to_html(result, when, server, authority),
            "json": files.to_json(result, when),
            "xml": files.to_junit(result, when),
        }
        folder = pathlib.Path(self._loader.path_dwim(directory))
        try:
            for one in [*reversed(folder.parents), folder]:
                one.mkdir(mode=0o700, exist_ok=True)
            # it changes with every run and does not belong into a repository
            (folder / ".gitignore").write_text("*\n", encoding="utf-8")
            paths = [folder / f"{result['host']}.{kind}" for kind in contents]
            for path, content in zip(paths, contents.values()):
                path.write_text(content, encoding="utf-8")
        except OSError as exc:
            raise AnsibleActionFail(f"report_dir {directory} can't be written to: {exc.strerror}") from exc
        return [str(path) for path in paths]
