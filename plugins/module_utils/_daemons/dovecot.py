# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Runs on the server: Python 3.6 and the standard library only.

"""Dovecot: doveconf(1) checks the new files, and further checks find mistakes that it accepts."""

import contextlib
import os
import re
import time
import typing as t

from ansible_collections.port587.mail.plugins.module_utils._daemons.checks import is_pending
from ansible_collections.port587.mail.plugins.module_utils._daemons.dovecot_values import doveconf, key_troubles, wrong
from ansible_collections.port587.mail.plugins.module_utils._daemons.systemd import SystemdDaemon, mail_log
from ansible_collections.port587.mail.plugins.module_utils._transaction.commands import run_command
from ansible_collections.port587.mail.plugins.module_utils._transaction.daemon import DEADLINE
from ansible_collections.port587.mail.plugins.module_utils._transaction.files import temporary_directory
from ansible_collections.port587.mail.plugins.module_utils._transaction.tree import Problem
from ansible_collections.port587.mail.plugins.module_utils._transaction.view import View

#: Seconds for Dovecot 2.2 to compute DH parameters: up to a minute on a quick machine.
PARAMETERS = 900.0
#: The ports of Dovecot's listeners, by their names.
DEFAULT_PORTS = {
    "imap": "143",
    "imaps": "993",
    "pop3": "110",
    "pop3s": "995",
    "sieve": "4190",
    "submission": "587",
    "submissions": "465",
}


class Dovecot(SystemdDaemon):
    configuration = "/etc/dovecot/dovecot.conf"
    protocols = "/usr/share/dovecot/protocols.d"
    pid_file = "/run/dovecot/master.pid"
    #: Dovecot up to 2.2 computes DH parameters at its first start, and no TLS handshake succeeds before that.
    parameters_program = "/usr/lib/dovecot/ssl-params"
    parameters = "/var/lib/dovecot/ssl-parameters.dat"

    def prove(self, proof: t.Dict[str, t.Any], patience: float = DEADLINE) -> None:
        end = time.time() + (PARAMETERS if patience else 0)
        while (
            os.path.exists(self.parameters_program)
            and not os.path.exists(self.parameters)
            and time.time() < end
            and self.running()
        ):
            time.sleep(0.5)
        super().prove(proof, patience)

    def reload(self) -> None:
        self._reload_until_logged("SIGHUP received")

    def complaints_since(self, moment: float) -> t.List[str]:
        # a reload goes on without a listener that it can't open; the next start would fail
        return [line for line in mail_log(moment) if re.match(r"master: (Error|Fatal|Panic): ", line)]

    def needs_restart(self, view: View) -> bool:
        """Settings that only a start of the master applies: sockets, limits, environment, and the protocols."""
        if super().needs_restart(view):
            return True
        with contextlib.suppress(OSError):
            if os.stat(self.protocols).st_mtime > os.stat(self.pid_file).st_mtime:
                # a package was added while Dovecot runs: "Unknown protocol: pop3"
                return True
        # 2.4 makes the sockets of a protocol's services only when it starts
        pattern = re.compile(rb"^(base_dir|import_environment|protocols)\s*(=.*$|\{[^}]*\})", re.MULTILINE)
        new = view.read(self.configuration) or b""
        return pattern.findall(new) != pattern.findall(view.before(self.configuration) or b"")

    def validate(self, view: View) -> t.List[Problem]:
        if view.read(self.configuration) is None:
            return [Problem(self.configuration, "does not exist")]
        live = os.path.dirname(self.configuration)
        with temporary_directory() as directory:
            # relative includes start from the file's directory
            for name in os.listdir(live) if os.path.isdir(live) else ():
                if os.path.join(live, name) not in view.files:
                    os.symlink(os.path.join(live, name), os.path.join(directory, name))
            for path, new in view.files.items():
                if os.path.dirname(path) == live:
                    with open(os.path.join(directory, os.path.basename(path)), "wb") as handle:
                        handle.write(new.content)
            # -P: otherwise 2.3 hides the key's path
            code, out, err = run_command(["doveconf", "-c", os.path.join(directory, "dovecot.conf"), "-nP"])
        problems = []  # type: t.List[Problem]
        for line in err.replace(directory, live).splitlines():
            if code or "Obsolete setting" in line or "Unknown" in line:
                problem = self._locate(line)
                if problem not in problems:
                    problems.append(problem)
        if code and not problems:
            problems.append(Problem(self.configuration, "doveconf ends with %d" % code))
        return problems or self._look_up(out, view)

    def _locate(self, line: str) -> Problem:
        # "doveconf: Fatal: Error in configuration file FILE line N: X: Unknown setting: X"
        found = re.search(r"(?:Error in configuration file )?(/\S+) line (\d+): (.*)", line)
        if found:
            return Problem(found.group(1), found.group(3), int(found.group(2)))
        return Problem(self.configuration, re.sub(r"^\S*doveconf: (Fatal|Error|Warning): ", "", line))

    def _look_up(self, settings: str, view: View) -> t.List[Problem]:
        """Find mistakes that doveconf(1) accepts. ``settings``: its output, which is the same for every spelling."""
        values = doveconf(settings)
        served = self._ports()
        problems = []  # type: t.List[Problem]
        for name, value in values:
            for text, absent in wrong(name, value, view, served):
                line = self._line(name, value, view)
                text = "%s: %s" % (name, text)
                problems.append(Problem(self.configuration, text, line, is_pending(absent)))
        return problems + [Problem(self.configuration, "ssl: %s" % text) for text in key_troubles(values, view)]

    def _line(self, name: str, value: str, view: View) -> t.Optional[int]:
        # "ssl_key = </etc/x", "mail_plugins = $mail_plugins x"
        pattern = re.compile(r"\s*%s\s*=.*%s" % (re.escape(name), re.escape(value.strip())))
        return view.line_of(self.configuration, lambda row: pattern.match(row) is not None)

    def _ports(self) -> t.Optional[t.List[str]]:
        """The ports that Dovecot uses already; None if it runs, and its files are not in this version's language."""
        if not self.running():
            return []
        # without -n: default ports count, too
        code, out, _err = run_command(["doveconf"])
        if code:
            return None
        # 2.4 does not print those: a listener without a port has the one of its name
        unsaid = re.findall(r"inet_listener (\w+) \{\s*\}", out)
        said = [value for name, value in doveconf(out) if name == "port"]
        said += [DEFAULT_PORTS[name] for name in unsaid if name in DEFAULT_PORTS]
        return said + [str(port) for port in self.proved_ports()]
