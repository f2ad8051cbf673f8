# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Runs on the server: Python 3.6 and the standard library only.

"""Any daemon that reads its configuration only when it starts. Its description has everything that is needed."""

import os
import re
import socket
import typing as t

from ansible_collections.port587.mail.plugins.module_utils._daemons.checks import is_taken
from ansible_collections.port587.mail.plugins.module_utils._daemons.systemd import SystemdDaemon, logged
from ansible_collections.port587.mail.plugins.module_utils._transaction.commands import run_command
from ansible_collections.port587.mail.plugins.module_utils._transaction.daemon import DEADLINE, STAYS_UP
from ansible_collections.port587.mail.plugins.module_utils._transaction.errors import ProofError
from ansible_collections.port587.mail.plugins.module_utils._transaction.files import temporary_directory, write_settled
from ansible_collections.port587.mail.plugins.module_utils._transaction.tree import Problem
from ansible_collections.port587.mail.plugins.module_utils._transaction.view import View

#: systemd's own log lines about every start and stop.
_TALK = re.compile(r"(Start|Stopp)(ing|ed) |\S+: (Scheduled restart job|Deactivated successfully|Consumed )")


class Service(SystemdDaemon):
    def validate(self, view: View) -> t.List[Problem]:
        return self._check(view) + self._in_the_way(view)

    def _check(self, view: View) -> t.List[Problem]:
        """Run the daemon's check commands on copies of all files, in a directory where they lie as on the server."""
        problems = []
        for check in self.description.get("check", []):
            path = check["file"]
            content = view.read(path)
            if content is None:
                problems.append(Problem(path, "does not exist"))
                continue
            with temporary_directory() as directory:
                for one in view.files:
                    os.makedirs(directory + os.path.dirname(one), exist_ok=True)
                    write_settled(directory + one, view.files[one].content)
                command = [directory + word if word in view.files else word for word in [*check["command"], path]]
                code, out, err = run_command(command)
            said = (err + out).replace(directory, "").strip()
            if code:
                problems.append(Problem(path, said or "%s ends with %d" % (command[0], code)))
        return problems

    def _in_the_way(self, view: View) -> t.List[Problem]:
        """Refuse if another daemon has the same unit or the same port."""
        where = next(iter(view.files), self.name)
        if self.running():
            if self.description.get("refuse_foreign") and all(view.before(path) is None for path in view.files):
                text = "%s runs here already, set up by somebody else, and would lose its configuration" % self.name
                return [Problem(where, text)]
            return []
        return [
            Problem(where, "another program answers on port %(port)d of %(address)s" % one)
            for one in self.description.get("listens", [])
            if any(is_taken(one["port"], one["address"], kind) for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM))
        ]

    def needs_restart(self, view: View) -> bool:
        return True

    def enable(self) -> None:
        super().enable()
        for unit in self.description.get("replaces", []):
            # a unit that runs is in use
            if run_command(["systemctl", "is-active", "--quiet", unit])[0]:
                run_command(["systemctl", "disable", unit])

    def prove(self, proof: t.Dict[str, t.Any], patience: float = DEADLINE) -> None:
        if proof.get("proofs"):
            super().prove(proof, patience)
            return
        if not self.stays_up(STAYS_UP if patience else 0):
            raise ProofError("%s does not stay up" % self.name if patience else "%s is not active" % self.name)

    def words_since(self, moment: float) -> t.List[str]:
        return [line for line in logged(moment, "--unit=" + self.name) if not _TALK.match(line)]
