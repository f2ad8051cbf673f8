# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Runs on the server: Python 3.6 and the standard library only.

"""nginx, which may serve other sites, too: their files are checked with the rest, but never written."""

import contextlib
import os
import re
import time
import typing as t

from ansible_collections.port587.mail.plugins.module_utils._daemons import nginx_syntax
from ansible_collections.port587.mail.plugins.module_utils._daemons.checks import copy_directory, is_pending, is_taken
from ansible_collections.port587.mail.plugins.module_utils._daemons.systemd import SystemdDaemon, logged, processes
from ansible_collections.port587.mail.plugins.module_utils._transaction.commands import run_command
from ansible_collections.port587.mail.plugins.module_utils._transaction.errors import ProofError
from ansible_collections.port587.mail.plugins.module_utils._transaction.files import read_file, temporary_directory
from ansible_collections.port587.mail.plugins.module_utils._transaction.tree import File, Problem
from ansible_collections.port587.mail.plugins.module_utils._transaction.view import View

#: "nginx: [emerg] ...", and in the log: "2026/11/02 10:00:00 [emerg] 123#123: ..."
_NGINX_SAYS = re.compile(r"^(?:nginx:|\S+ \S+) \[(\w+)\] (?:\d+#\d+: )?(.*)", re.MULTILINE)


class Nginx(SystemdDaemon):
    directory = "/etc/nginx"
    error_log = "/var/log/nginx/error.log"
    pid_file = "/run/nginx.pid"

    def needs_restart(self, view: View) -> bool:
        """From one address to all addresses, or back: the new socket can't be bound before the old one is closed."""
        return super().needs_restart(view) or any(
            _listens(new.content) != _listens(view.before(path) or new.content) for path, new in self._own(view)
        )

    def serves_others(self, removed: t.Container[str]) -> bool:
        folders = [os.path.join(self.directory, name) for name in ("sites-enabled", "conf.d")]
        there = [os.path.join(one, name) for one in folders if os.path.isdir(one) for name in os.listdir(one)]
        # default is the package's own
        return any(path not in removed and os.path.basename(path) != "default" for path in there)

    def reload(self) -> None:
        before = self._workers()
        self._systemctl("reload")
        # the reload is only a signal; until new processes serve, the old ones would pass every proof
        end = time.time() + 5
        while time.time() < end:
            after = self._workers()
            if after and not after & before:
                return
            time.sleep(0.05)
        raise ProofError("nginx goes on with its old configuration")

    def _workers(self) -> t.Set[int]:
        """The processes that accept connections. The title of a process that is shutting down says so."""
        master = (read_file(self.pid_file) or b"").strip().decode()
        workers = set()
        for pid, title in processes():
            # gone meanwhile
            with contextlib.suppress(ProcessLookupError, IndexError):
                if title.rstrip(b"\0 ") == b"nginx: worker process" and _parent(pid) == master:
                    workers.add(int(pid))
        return workers

    def validate(self, view: View) -> t.List[Problem]:
        with temporary_directory() as directory:
            tree = os.path.join(directory, "nginx")
            self._lay_out(tree, view)
            code, out, err = run_command(["nginx", "-t", "-c", os.path.join(tree, "nginx.conf")])
        lines = _NGINX_SAYS.findall((err + out).replace(tree, self.directory))
        problems = [self._problem(text) for level, text in lines if code and level != "warn"]
        # only a warning, but then another site answers for the name
        mine = b"\n".join(new.content for _path, new in self._own(view)).decode("utf-8", "replace")
        for name in re.findall(r'conflicting server name "(.+?)"', "\n".join(text for _level, text in lines)):
            if re.search(r"[\s;]%s[\s;]" % re.escape(name), mine):
                problems.append(Problem(self.directory, "another site has the server_name %s already" % name))
        if code and not problems:
            problems.append(Problem(self.directory, "nginx -t ends with %d" % code))
        return problems or self._look_up(view)

    def _lay_out(self, tree: str, view: View) -> None:
        """Copy all of /etc/nginx, as it will be after the change, with the paths of includes changed to the copy."""
        copy_directory(self.directory, tree, view)
        for folder, _folders, names in os.walk(tree):
            for name in names:
                path = os.path.join(folder, name)
                content = read_file(path) or b""
                elsewhere = content.replace(self.directory.encode() + b"/", tree.encode() + b"/")
                if elsewhere != content:
                    with open(path, "wb") as handle:
                        handle.write(elsewhere)

    @staticmethod
    def _problem(text: str) -> Problem:
        found = re.match(r"(.*) in (/\S+):(\d+)$", text)
        if found:
            return Problem(found.group(2), found.group(1), int(found.group(3)))
        # 'cannot load certificate "/x": BIO_new_file() failed (... No such file or directory ...)'
        named = re.search(r'"(/[^"]+)".*No such file', text)
        return Problem(Nginx.directory, text, pending=is_pending(named.group(1) if named else None))

    def _own(self, view: View) -> t.List[t.Tuple[str, File]]:
        return [(path, new) for path, new in view.files.items() if path.startswith(self.directory + "/")]

    def _look_up(self, view: View) -> t.List[Problem]:
        """Find mistakes that nginx -t accepts: a port that another program uses."""
        code, live, _err = run_command(["nginx", "-T"]) if self.running() else (0, "", "")
        if code:
            # nginx runs with files that it no longer accepts, so nobody can say which ports it uses
            return []
        served = nginx_syntax.ports(live)
        return [
            Problem(path, "another program listens on port %d" % port)
            for path, new in self._own(view)
            for port in sorted({nginx_syntax.listen(words[0])[1] for words in _listens(new.content)} - served)
            if is_taken(port)
        ]

    def complaints_since(self, moment: float) -> t.List[str]:
        # a failed reload continues with the old configuration; the next start would fail
        return [line for line in self.words_since(moment) if "[emerg]" in line]

    def words_since(self, moment: float) -> t.List[str]:
        """From its own log, and from the journal for messages before that log is open."""
        first = time.strftime("%Y/%m/%d %H:%M:%S", time.localtime(moment))
        log = (read_file(self.error_log) or b"")[-65536:].decode("utf-8", "replace")
        said = [line for line in log.splitlines() if line >= first] + logged(moment, "--unit=nginx")
        return [line for line in said if re.search(r"\[(emerg|alert|crit)\]", line)]


def _listens(content: bytes) -> t.List[t.List[str]]:
    return nginx_syntax.listens(nginx_syntax.parse(content.decode("utf-8", "replace")))


def _parent(pid: str) -> str:
    # after the name, which may contain blanks and parentheses: state, parent
    return (read_file("/proc/%s/stat" % pid) or b"").decode("utf-8", "replace").rpartition(")")[2].split()[1]
