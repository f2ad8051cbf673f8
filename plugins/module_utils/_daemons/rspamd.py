# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Runs on the server: Python 3.6 and the standard library only.

"""rspamd: its checker checks a copy of its new directory, and further checks the keys for signatures."""

import os
import re
import time
import typing as t

from ansible_collections.port587.mail.plugins.module_utils._daemons.checks import copy_directory
from ansible_collections.port587.mail.plugins.module_utils._daemons.systemd import SystemdDaemon, processes
from ansible_collections.port587.mail.plugins.module_utils._dns.dkim import key_trouble
from ansible_collections.port587.mail.plugins.module_utils._transaction.commands import run_command
from ansible_collections.port587.mail.plugins.module_utils._transaction.errors import ProofError
from ansible_collections.port587.mail.plugins.module_utils._transaction.files import read_file, temporary_directory
from ansible_collections.port587.mail.plugins.module_utils._transaction.tree import Problem
from ansible_collections.port587.mail.plugins.module_utils._transaction.view import View

#: Seconds for the first start, which compiles its lists: ten on a fast machine.
FIRST_START = 120.0


class Rspamd(SystemdDaemon):
    directory = "/etc/rspamd"
    #: Cache of the compiled lists.
    state = "/var/lib/rspamd"

    def validate(self, view: View) -> t.List[Problem]:
        with temporary_directory() as directory:
            tree = os.path.join(directory, "rspamd")
            self._lay_out(tree, view)
            code, out, err = run_command(["rspamadm", "configtest", "-c", os.path.join(tree, "rspamd.conf")])
        if code == 0:
            return list(self._keys(view))
        # the other messages are about disabled rules
        said = (out + err).replace(tree, self.directory).splitlines()
        lines = [line for line in said if re.search(r"error|cannot|invalid|failed", line) and not _chatter(line)]
        return [self._locate(line) for line in lines] or [
            Problem(self.directory, "rspamadm configtest ends with %d" % code)
        ]

    def _keys(self, view: View) -> t.Iterator[Problem]:
        """Check the keys for signatures. A key from the user may be invalid."""
        for path, new in view.files.items():
            # empty in check mode, which makes no keys
            if path.startswith(self.state + "/dkim/") and new.content:
                trouble = key_trouble(new.content)
                if trouble:
                    yield Problem(path, trouble)

    def _lay_out(self, tree: str, view: View) -> None:
        """Copy the whole directory, as it will be after the change. Includes refer to it by a built-in variable."""
        copy_directory(self.directory, tree, view)
        for folder, _folders, names in os.walk(tree):
            for path in (
                os.path.join(folder, name) for name in names if re.search(r"\.(conf|inc|override|local)$", name)
            ):
                text = read_file(path) or b""
                with open(path, "wb") as handle:
                    handle.write(re.sub(rb"\$(\{)?(LOCAL_)?CONFDIR(?(1)\})", tree.encode(), text))

    def _locate(self, line: str) -> Problem:
        found = re.search(r"(/etc/rspamd/[^\s:']+).*?line:? (\d+)", line)
        return Problem(found.group(1), line, int(found.group(2))) if found else Problem(self.directory, line)

    def needs_restart(self, view: View) -> bool:
        """Only a start applies the name and mode of a socket."""
        paths = [self.directory + "/override.d/worker-%s.inc" % name for name in ("proxy", "controller")]
        return super().needs_restart(view) or any(view.read(path) != view.before(path) for path in paths)

    def start(self) -> None:
        before = self._compiled()
        self.restart()
        end = time.time() + FIRST_START
        while time.time() < end and self.running() and not self._workers():
            time.sleep(0.2)
        if self._compiled() - before:
            # The first start takes ten seconds of CPU, and the processes keep its memory. The next start reads what
            # was compiled, and they are a third as large.
            self.restart()

    def _compiled(self) -> t.Set[str]:
        return {name for name in os.listdir(self.state) if name.endswith(".hsmp")}

    def reload(self) -> None:
        before = self._workers()
        self._systemctl("reload")
        # the reload is only a signal; the old workers end once the new ones run, and no connection is refused meanwhile
        end = time.time() + 20
        while time.time() < end:
            if self._workers() - before:
                return
            time.sleep(0.05)
        raise ProofError("rspamd goes on with its old configuration")

    @staticmethod
    def _workers() -> t.Set[str]:
        """The processes that accept connections from Postfix."""
        return {pid for pid, title in processes() if title.startswith(b"rspamd: rspamd_proxy")}

    def words_since(self, moment: float) -> t.List[str]:
        return [line for line in super().words_since(moment) if not _chatter(line)]


def _chatter(line: str) -> bool:
    """Messages about disabled rules, which rspamd logs at each start."""
    return (
        re.search(r"has its score defined|cannot (find|register delayed) dependency|worker is unconfigured", line)
        is not None
    )
