# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Runs on the server: Python 3.6 and the standard library only.

"""A daemon that systemd runs: start, reload, stop and prove it, and read its log."""

import os
import re
import time
import typing as t

from ansible_collections.port587.mail.plugins.module_utils._daemons.prove import Proof, prove
from ansible_collections.port587.mail.plugins.module_utils._transaction.commands import has_command, run_command
from ansible_collections.port587.mail.plugins.module_utils._transaction.daemon import DEADLINE, Daemon, Description
from ansible_collections.port587.mail.plugins.module_utils._transaction.errors import TransactionError
from ansible_collections.port587.mail.plugins.module_utils._transaction.files import read_file
from ansible_collections.port587.mail.plugins.module_utils._transaction.manifest import proof_of
from ansible_collections.port587.mail.plugins.module_utils._transaction.state import STATE_DIRECTORY
from ansible_collections.port587.mail.plugins.module_utils._transaction.swap import UNITS
from ansible_collections.port587.mail.plugins.module_utils._transaction.view import View

#: Seconds until a daemon has received the signal to reload.
HEARD = 5.0


class SystemdDaemon(Daemon):
    """Base class of all kinds of daemons. ``description``: the option daemon of port587.mail.transaction."""

    units = UNITS

    def __init__(self, description: Description) -> None:
        self.description = description
        self.name = str(description["unit"])

    def program(self) -> str:
        """A command that exists if the daemon is installed: by default the unit's name."""
        return str(self.description.get("program") or re.sub(r"\.[a-z]+$", "", self.name))

    def installed(self) -> bool:
        return has_command(self.program())

    def running(self) -> bool:
        return run_command(["systemctl", "is-active", "--quiet", self.name])[0] == 0

    def enabled(self) -> bool:
        return run_command(["systemctl", "is-enabled", "--quiet", self.name])[0] == 0

    def proved_ports(self) -> t.Set[int]:
        """The ports on which it last proved to serve. It may run with them after its files were replaced."""
        proofs = proof_of(self.name, STATE_DIRECTORY).get("proofs", [])
        return {one["port"] for one in proofs if one.get("port")} if self.running() else set()

    def needs_restart(self, view: View) -> bool:
        """Only processes that start get the settings of a unit."""
        paths = [path for path in [*view.files, *view.removed] if path.startswith(self.units)]
        return any(view.read(path) != view.before(path) for path in paths)

    def enable(self) -> None:
        self._systemctl("enable")

    def disable(self) -> None:
        self._systemctl("disable")

    def start(self) -> None:
        # restart, not start: a master that died can leave the unit "active", and then start does nothing
        self.restart()

    def reload(self) -> None:
        self._systemctl("reload")

    def restart(self) -> None:
        # several starts within seconds would trip systemd's limit, and the unit would stay down
        run_command(["systemctl", "reset-failed", self.name])
        self._systemctl("restart")

    def stop(self) -> None:
        self._systemctl("stop")

    def prove(self, proof: t.Dict[str, t.Any], patience: float = DEADLINE) -> None:
        prove([Proof(**p) for p in proof.get("proofs", [])], proof.get("certificate"), patience)

    def serves(self, proof: t.Dict[str, t.Any]) -> bool:
        """With any certificate: the one of the proof may have been replaced since."""
        proofs = [dict(one, certificate=None) for one in proof.get("proofs", [])]
        return super().serves(dict(proof, proofs=proofs, certificate=None))

    def words_since(self, moment: float) -> t.List[str]:
        pattern = re.compile(r"\b(fatal|error|warning|panic)\b", re.IGNORECASE)
        return [line for line in mail_log(moment) if pattern.search(line) and not _noise(line)]

    def _reload_until_logged(self, words: str) -> None:
        """Reload, and wait until the log confirms it: before that, the old processes would pass every proof."""
        began = time.time()
        self._systemctl("reload")
        while time.time() < began + HEARD and not any(words in line for line in mail_log(began)):
            time.sleep(0.05)

    def _systemctl(self, verb: str) -> None:
        code, out, err = run_command(["systemctl", verb, self.name])
        if code:
            raise TransactionError("systemctl %s %s: %s" % (verb, self.name, (err + out).strip()))


def logged(moment: float, which: str) -> t.List[str]:
    """The journal's lines since then that match options such as --unit=NAME."""
    argv = ["journalctl", "--quiet", "--no-pager", "--output=cat", "--since=@%.6f" % moment, which]
    return run_command(argv)[1].splitlines()


def mail_log(moment: float) -> t.List[str]:
    # 2 is syslog's mail facility: Postfix, Dovecot and rspamd log with it, under many names
    return logged(moment, "SYSLOG_FACILITY=2")


def _noise(line: str) -> bool:
    # logged at every stop and at every reload of Dovecot
    return "Killed with signal 15" in line or "SIGHUP received" in line


def processes() -> t.Iterator[t.Tuple[str, bytes]]:
    """PID and command line of each process, or the title that it has set."""
    for pid in (name for name in os.listdir("/proc") if name.isdigit()):
        try:
            line = read_file("/proc/%s/cmdline" % pid) or b""
        except ProcessLookupError:
            # gone meanwhile
            continue
        yield pid, line
