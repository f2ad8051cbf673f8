# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Controller half of port587.mail.transaction: read the files, and add template lines to error messages."""

from __future__ import annotations

import os
import re
import typing as t

from ansible.errors import AnsibleActionFail
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.plugins.action import ActionBase
from ansible_collections.port587.mail.plugins.module_utils._daemons import arguments as desired
from ansible_collections.port587.mail.plugins.module_utils._daemons import known as already
from ansible_collections.port587.mail.plugins.module_utils._transaction.errors import TransactionError
from ansible_collections.port587.mail.plugins.plugin_utils import _templates


class ActionModule(ActionBase):
    """Send the rendered tree to the module in one run."""

    TRANSFERS_FILES = False
    _requires_connection = True

    def run(self, tmp: t.Any = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        super().run(tmp, task_vars)
        task_vars = task_vars or {}
        arguments = dict(self._task.args)
        given = arguments.get("files")
        if not isinstance(given, list) or not all(isinstance(one, dict) for one in given):
            raise AnsibleActionFail("files: has to be a list of dictionaries")

        sources: dict[str, str] = {}
        secrets: dict[str, str] = {}
        files = []
        for index, one in enumerate(given):
            file = dict(one)
            where = f"files[{index}]"
            if sum(key in file for key in ("src", "content", "generate")) != 1:
                raise AnsibleActionFail(f"{where}: needs exactly one of src, content and generate")
            source = file.pop("src", None)
            if source is not None:
                file.setdefault("dest", _templates.destination(source))
                if source.endswith(".j2"):
                    sources[file["dest"]] = self._find_needle("templates", source)
                    file["content"] = _templates.render(self, sources[file["dest"]], task_vars)
                else:
                    file["content"] = self._read(self._find_needle("files", source))
            if not os.path.isabs(str(file.get("dest"))):
                raise AnsibleActionFail(f"{where}.dest: {file.get('dest')!r} is not an absolute path on the server")
            if boolean(file.get("secret", False)):
                # separate from the list: a logged list would show the secrets, escaped and so not recognized;
                # a separate option is left out of the log completely
                secrets[file["dest"]] = file.pop("content")
            files.append(file)

        known = arguments.pop("known", None)
        if known and self._as_wanted(known, {**arguments, "files": files}):
            nothing: dict[str, t.Any] = {
                name: [] for name in ("diff", "originals", "restored", "edited", "kept", "not_validated")
            }
            return {"changed": False, "activated": {}, "recovered": False, **nothing}
        result = self._execute_module(
            module_name="port587.mail.transaction",
            module_args={**arguments, "files": files, "secrets": secrets},
            task_vars=task_vars,
        )
        for problem in result.get("problems", []):
            self._name_template(problem, sources, files)
            if "template" in problem:
                result["msg"] = result["msg"].replace(problem["text"], f"{problem['text']} ({problem['template']})", 1)
        return result

    def _read(self, source: str) -> str:
        # decrypts files in a vault, as the module copy does
        with open(self._loader.get_real_file(source), encoding="utf-8") as handle:
            return handle.read()

    @staticmethod
    def _as_wanted(known: dict[str, t.Any], arguments: dict[str, t.Any]) -> bool:
        """Whether the server is known to have everything already. The module reports mistakes in the arguments."""
        given = ArgumentSpecValidator(desired.ARGUMENTS).validate(arguments)
        params = given.validated_parameters
        if given.error_messages or any(file["secret"] for file in params["files"]):
            return False
        try:
            wanted = desired.wanted(params, lambda file: str(file["content"] or "").encode("utf-8"))
        except TransactionError:
            return False
        generated = [file["dest"] for file in params["files"] if file["generate"]]
        return already.nothing_to_do(known, wanted.files, generated, wanted.directories, wanted.activations)

    @staticmethod
    def _name_template(problem: dict[str, t.Any], sources: dict[str, str], files: list[dict[str, t.Any]]) -> None:
        """Add the template's line to a problem, if exactly one line of the template can have become the reported one.

        A line from an expression has no counterpart in the template; then nothing is added.
        """
        source, line = sources.get(problem["path"]), problem.get("line")
        content = next((f.get("content") for f in files if f["dest"] == problem["path"]), None)
        if not source or not line or not content:
            return
        rendered = content.splitlines()[line - 1].strip()
        with open(source, encoding="utf-8") as handle:
            for number, row in enumerate(handle, 1):
                literals = [part.strip() for part in re.split(r"{{.*?}}|{%.*?%}", row.strip()) if part.strip()]
                if literals and len(literals[0]) > 3 and _in_order(literals, rendered):
                    problem["template"] = f"{os.path.basename(source)} line {number}"
                    return


def _in_order(parts: list[str], text: str) -> bool:
    if not text.startswith(parts[0]):
        return False
    position = 0
    for part in parts:
        position = text.find(part, position)
        if position < 0:
            return False
        position += len(part)
    return True
