# Copyright (c) The port587.mail contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pathlib
import time
import typing as t

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.port587.mail.plugins.module_utils._reports import summary
from ansible_collections.port587.mail.plugins.module_utils._reports.mailbox import Mail, Mailbox, MailboxError

_OPTIONS = {
    "host": {"type": "str", "required": True},
    "address": {"type": "str"},
    "port": {"type": "int", "default": 993},
    "ca_pem": {"type": "str", "default": ""},
    "login": {"type": "str", "required": True},
    "password": {"type": "str", "required": True, "no_log": True},
    "folder": {"type": "str", "default": "INBOX"},
    "archive": {"type": "str", "default": ""},
    "days": {"type": "int", "default": 90},
    "own": {"type": "list", "elements": "str", "default": []},
    "report_dir": {"type": "str"},
}


class ActionModule(ActionBase):
    """Prints through Ansible's display, as the action verdict does."""

    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        super().run(tmp, task_vars)
        _spec, args = self.validate_argument_spec(_OPTIONS)
        check = self._task.check_mode
        if not (args["archive"] + args["folder"]).isascii():
            raise AnsibleActionFail("reports: folder and archive have to be in ASCII")
        try:
            mails, moved = self._read(args, check)
        except MailboxError as exc:
            raise AnsibleActionFail(f"reports: {exc}") from exc
        unreadable = [(mail.subject, mail.trouble) for mail in mails if mail.trouble]
        found = summary.summary([mail.rows for mail in mails], args["own"], unreadable)
        text = summary.text(found, args["host"])
        page = "" if check or not args["report_dir"] else self._write(found, args["host"], args["report_dir"])
        Display().display(text + (f"\n\n  The same as a page, with a plot: {page}" if page else ""))
        return {
            "changed": moved > 0,
            "reports": found.reports,
            "moved": moved,
            "senders": [line._asdict() for line in found.dmarc],
            "tls": [line._asdict() for line in found.tls],
            "unreadable": [list(pair) for pair in unreadable],
            "page": page,
        }

    def _read(self, args: dict[str, t.Any], check: bool) -> tuple[list[Mail], int]:
        address = args["address"] or args["host"]
        account = (args["host"], args["ca_pem"], args["login"], args["password"])
        with Mailbox(address, args["port"], *account) as mailbox:
            mails = list(mailbox.reports(args["folder"], args["days"]))
            known = []
            uids = [mail.uid for mail in mails if mail.rows] if args["archive"] else []
            if args["archive"]:
                known = list(mailbox.reports(args["archive"], args["days"], missing_is_empty=True))
            if uids and not check:
                mailbox.move(uids, args["folder"], args["archive"])
        return known + mails, len(uids)

    def _write(self, found: summary.Summary, host: str, directory: str) -> str:
        folder = pathlib.Path(self._loader.path_dwim(directory))
        try:
            for one in [*reversed(folder.parents), folder]:
                one.mkdir(mode=0o700, exist_ok=True)
            # it changes with every run and does not belong into a repository
            (folder / ".gitignore").write_text("*\n", encoding="utf-8")
            page = folder / f"{host}.html"
            page.write_text(summary.page(found, host, time.strftime("%Y-%m-%dT%H:%M:%S%z")), encoding="utf-8")
        except OSError as exc:
            raise AnsibleActionFail(f"report_dir {directory} can't be written to: {exc.strerror}") from exc
        return str(page)
