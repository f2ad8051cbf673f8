# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Runs on the server: Python 3.6 and the standard library only.

"""Postfix: its own checkers check a copy of its new directory, and further checks find mistakes that they accept."""

import contextlib
import os
import re
import shlex
import shutil
import socket
import typing as t

from ansible_collections.port587.mail.plugins.module_utils._daemons.checks import is_pending, is_taken
from ansible_collections.port587.mail.plugins.module_utils._daemons.postconf import parse_parameters
from ansible_collections.port587.mail.plugins.module_utils._daemons.postfix_values import RestrictionWords, Values
from ansible_collections.port587.mail.plugins.module_utils._daemons.systemd import SystemdDaemon
from ansible_collections.port587.mail.plugins.module_utils._transaction.commands import run_command
from ansible_collections.port587.mail.plugins.module_utils._transaction.files import (
    read_file,
    temporary_directory,
    write_settled,
)
from ansible_collections.port587.mail.plugins.module_utils._transaction.tree import File, Problem
from ansible_collections.port587.mail.plugins.module_utils._transaction.view import View

#: Names of ports in master.cf. Not every /etc/services has all of them.
_PORTS = {"smtp": 25, "smtps": 465, "submissions": 465, "submission": 587}


class Postfix(SystemdDaemon):
    directory = "/etc/postfix"
    #: Postfix's own resolv.conf, if it has one, and the drop-in that mounts it at the start.
    resolver = "/etc/port587/resolv.conf"
    drop_ins = tuple("/etc/systemd/system/%s.service.d/port587.conf" % unit for unit in ("postfix", "postfix@-"))
    old_instance = "postfix@-.service"

    def running(self) -> bool:
        # not systemctl is-active: up to Debian 12 the unit says "active" after the master is dead;
        # and not postfix status, which logs a line at each call
        # the process name, not /proc/PID/exe: in a container that may be hidden even from root
        with contextlib.suppress(OSError):
            return read_file("/proc/%s/comm" % self.pid()) == b"master\n"
        return False

    @staticmethod
    def pid() -> str:
        """The PID of the running or latest master; empty before the first start."""
        return (read_file("/var/spool/postfix/pid/master.pid") or b"").decode("ascii", "replace").strip()

    def needs_restart(self, view: View) -> bool:
        """postconf(5): the master reads these parameters only when it starts."""
        if super().needs_restart(view) or view.read(self.resolver) != view.before(self.resolver):
            return True
        new = view.read(self.directory + "/main.cf") or b""
        old = view.before(self.directory + "/main.cf") or b""
        return any(
            _main_cf_value(old, key) != _main_cf_value(new, key)
            for key in ("inet_interfaces", "inet_protocols", "queue_directory")
        )

    def restart(self) -> None:
        self._end_old_instance()
        super().restart()

    def _end_old_instance(self) -> None:
        """Stop the unit that an older Postfix was started by, and that conflicts with the new one.

        Up to 3.9.0, postfix.service is a wrapper (/bin/true) around postfix@-.service. After an upgrade, the old unit
        still runs, its name stands for /etc/postfix-, and systemd refuses to restart both in one transaction.
        """
        shown = run_command(["systemctl", "show", "--property=ExecStart", "postfix.service"])[1]
        if "/bin/true" not in shown:
            state = run_command(["systemctl", "show", "--property=ActiveState", self.old_instance])[1].strip()
            if state != "ActiveState=inactive":
                # its command to stop fails in a directory that does not exist; systemd then ends the processes
                run_command(["systemctl", "stop", self.old_instance])
                run_command(["systemctl", "reset-failed", self.old_instance])

    def reload(self) -> None:
        self._reload_until_logged("reload -- version")

    def validate(self, view: View) -> t.List[Problem]:
        with temporary_directory() as directory:
            tree = os.path.join(directory, "postfix")
            self._lay_out(tree, view)
            problems = self._ask_postconf(tree) or self._ask_postfix_check(tree)
            if not problems:
                problems = self._look_up(tree, view)
        return [self._locate(problem, tree, view) for problem in problems]

    def in_order(self, files: t.Sequence[File], view: View) -> t.Tuple[t.List[File], str]:
        """Tables before files that refer to them; then main.cf or master.cf, whichever suits the old other file."""
        main, master = (os.path.join(self.directory, name) for name in ("main.cf", "master.cf"))
        both = [f for f in files if f.path in (main, master)]
        rest = [f for f in files if f not in both]
        if len(both) < 2:
            return rest + both, ""
        for first, second in (both, both[::-1]):
            between = self.validate(View([*rest, first], (), view.beneath))
            # a parameter that only the other file uses is unused for a moment, which does no harm
            if all("unused parameter" in problem.text for problem in between):
                return [*rest, first, second], ""
        return rest + both, "a power cut between replacing main.cf and master.cf would leave what Postfix can't load"

    def _lay_out(self, tree: str, view: View) -> None:
        """Copy the whole directory, as it will be after the change, with all other files in it."""
        os.mkdir(tree, 0o755)
        paths = {
            os.path.join(self.directory, n)
            for n in (os.listdir(self.directory) if os.path.isdir(self.directory) else ())
        }
        paths |= {p for p in view.files if os.path.dirname(p) == self.directory}
        for path in paths:
            copy = os.path.join(tree, os.path.basename(path))
            if path in view.files or os.path.isfile(path):
                content = view.read(path)
                if content is not None and (path in view.files or not os.path.islink(path)):
                    write_settled(copy, content)
            elif os.path.isdir(path) and not os.path.islink(path):
                shutil.copytree(path, copy, symlinks=True)

    @staticmethod
    def _ask_postconf(tree: str) -> t.List[Problem]:
        problems = []  # type: t.List[Problem]
        for argument in ("-n", "-M", "-P"):
            code, _out, err = run_command(["postconf", "-c", tree, argument])
            for line in err.splitlines():
                problem = Problem(
                    os.path.join(tree, "main.cf"), re.sub(r"^postconf: (warning|fatal|error): ", "", line)
                )
                if problem not in problems:
                    problems.append(problem)
            if code and not err:
                problems.append(Problem(tree, "postconf %s ends with %d" % (argument, code)))
        return problems

    @staticmethod
    def _ask_postfix_check(tree: str) -> t.List[Problem]:
        """Run postfix check with a terminal: up to 3.7 it prints no messages on standard error otherwise."""
        code, said, _err = run_command(["script", "-qec", "postfix -c %s check" % shlex.quote(tree), "/dev/null"])
        if code == 0:
            return []
        lines = [line.strip() for line in said.splitlines() if "fatal" in line or "error" in line]
        return [Problem(os.path.join(tree, "main.cf"), line) for line in lines] or [
            Problem(tree, "postfix check ends with %d" % code)
        ]

    def _look_up(self, tree: str, view: View) -> t.List[Problem]:
        """Mistakes in values that Postfix's own check accepts."""

        def ask(*arguments: str) -> str:
            # $config_directory stands for the live directory again
            return run_command(["postconf", "-c", tree, *arguments])[1].replace(tree, self.directory)

        main, defaults = parse_parameters(ask("-nx")), parse_parameters(ask("-d"))
        programs = main.get("daemon_directory", defaults.get("daemon_directory", ""))
        words = RestrictionWords(main, os.path.join(programs, "smtpd"))
        look_up = Values(defaults, ask("-m").split(), words, view)
        problems = []  # type: t.List[Problem]
        for key, value in main.items():
            for text, absent in look_up.wrong(key, value):
                text = "%s = %s: %s" % (key, value, text)
                problems.append(Problem(os.path.join(self.directory, "main.cf"), text, pending=is_pending(absent)))
        for line in ask("-Px").splitlines():
            found = re.match(r"(\S+?/\S+?)/(\S+) = ?(.*)", line)
            service, key, value = found.groups() if found else ("", "", "")
            for text, absent in look_up.wrong(key, value.strip()):
                text = "%s: -o %s = %s: %s" % (service, key, value.strip(), text)
                problems.append(Problem(os.path.join(self.directory, "master.cf"), text, pending=is_pending(absent)))
        served = (self._served() if self.running() else set()) | self.proved_ports()
        for line in ask("-M").splitlines():
            service, kind, *_columns, program = line.split()[:8]
            if kind == "inet" and not self._port_is_known(service.rsplit(":", 1)[-1], main):
                text = "%s: no port has this name; write the port's number" % service
                problems.append(Problem(os.path.join(self.directory, "master.cf"), text))
            elif kind == "inet" and service.isdigit() and int(service) not in served and is_taken(int(service)):
                text = "%s: another program listens on port %s" % (service, service)
                problems.append(Problem(os.path.join(self.directory, "master.cf"), text))
            if not view.exists(os.path.join(programs, program)):
                text = "%s: there is no program %s in %s" % (service, program, programs)
                problems.append(Problem(os.path.join(self.directory, "master.cf"), text))
        return problems

    @staticmethod
    def _served() -> t.Set[int]:
        """The ports in the present master.cf, under any name: smtps, submissions and 465 are the same port."""
        found = set()
        for service, kind in (line.split()[:2] for line in run_command(["postconf", "-M"])[1].splitlines()):
            port = service.rsplit(":", 1)[-1]
            if kind == "inet":
                with contextlib.suppress(OSError):
                    found.add(_PORTS.get(port) or (int(port) if port.isdigit() else socket.getservbyname(port, "tcp")))
        return found

    @staticmethod
    def _port_is_known(port: str, main: t.Mapping[str, str]) -> bool:
        if port.isdigit():
            return True
        if re.search(r"(^|[\s,=])%s\s*=" % re.escape(port), main.get("known_tcp_ports", "")):
            return True
        try:
            socket.getservbyname(port, "tcp")
        except OSError:
            return False
        return True

    def _locate(self, problem: Problem, tree: str, view: View) -> Problem:
        """Replace the checked copy with the live file in a message, and add the line of the parameter."""
        text = problem.text.replace(tree, self.directory)
        path = problem.path.replace(tree, self.directory)
        named = re.match(r"(%s/\S+?)(?:[,:] line (\d+))?: (.*)" % re.escape(self.directory), text)
        if named:
            path, text = named.group(1), named.group(3)
            if named.group(2):
                return problem._replace(path=path, text=text, line=int(named.group(2)))
        if "master.cf" in text:
            path = os.path.join(self.directory, "master.cf")
        parameter = re.search(r"([a-z][a-z0-9_]+) ?=", text)
        key = parameter.group(1) if parameter else None
        line = view.line_of(path, lambda row: bool(key and re.match(r"\s*(-o\s+)?%s\s*=" % re.escape(key), row)))
        return problem._replace(path=path, text=text, line=line)


def _main_cf_value(content: bytes, key: str) -> t.Optional[str]:
    found = re.findall(
        r"^%s\s*=\s*((?:.*\n)(?:[ \t].*\n)*)" % re.escape(key), content.decode("utf-8", "replace"), re.MULTILINE
    )
    return " ".join(found[-1].split()) if found else None
