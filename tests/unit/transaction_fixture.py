# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""A small server for the tests of transactions: a tree of files, and a daemon that reads it. Any user can run it."""

import grp
import os
import pwd
import stat
import typing as t

from ansible_collections.port587.mail.plugins.module_utils._transaction import files as tree_files
from ansible_collections.port587.mail.plugins.module_utils._transaction.change import Result, run
from ansible_collections.port587.mail.plugins.module_utils._transaction.daemon import DEADLINE, Activation, Daemon
from ansible_collections.port587.mail.plugins.module_utils._transaction.errors import ProofError, TransactionError
from ansible_collections.port587.mail.plugins.module_utils._transaction.tree import Directory, File, Problem
from ansible_collections.port587.mail.plugins.module_utils._transaction.view import View

ME = pwd.getpwuid(os.getuid()).pw_name
#: The tests that let system calls fail mean those of the transaction.
untouched_open = open

MY_GROUP = grp.getgrgid(os.getgid()).gr_name


class FakeDaemon(Daemon):
    """Its state lies in files, as a process outlives the run that started it.

    It reads main.conf and services.conf, which name a version each, and dies of two that differ by more than one.
    A main.conf that says "bad" is loaded and then answers nobody.
    """

    name = "fake"
    description = {"unit": "fake"}
    root = ""

    def __init__(self) -> None:
        self.calls = []  # type: t.List[str]

    def _state(self, name: str) -> str:
        return os.path.join(self.root, "daemon", name)

    def _set(self, name: str, content: t.Optional[bytes]) -> None:
        if content is None:
            tree_files.remove(self._state(name))
        else:
            with untouched_open(self._state(name), "wb") as handle:
                handle.write(content)

    def installed(self) -> bool:
        return not os.path.exists(self._state("missing"))

    def running(self) -> bool:
        return os.path.exists(self._state("loaded"))

    def enabled(self) -> bool:
        return os.path.exists(self._state("enabled"))

    def loaded(self) -> t.Optional[bytes]:
        return tree_files.read_file(self._state("loaded"))

    def on_disk(self) -> bytes:
        return b"".join(
            tree_files.read_file(os.path.join(self.root, "etc", name)) or b"" for name in ("main.conf", "services.conf")
        )

    def load(self) -> None:
        versions = [int(word) for word in self.on_disk().split() if word.isdigit()]
        self._set("loaded", None)
        if versions and max(versions) - min(versions) > 1:
            raise TransactionError("fake: died of a mixture")
        self._set("loaded", self.on_disk())

    def validate(self, view: View) -> t.List[Problem]:
        path = os.path.join(self.root, "etc/main.conf")
        content = view.read(path) or b""
        return [Problem(path, "nonsense", 1)] if b"nonsense" in content else []

    def needs_restart(self, view: View) -> bool:
        path = os.path.join(self.root, "etc/main.conf")
        return b"port" in (view.read(path) or b"") and b"port" not in (view.before(path) or b"")

    def enable(self) -> None:
        self.calls.append("enable")
        self._set("enabled", b"")

    def disable(self) -> None:
        self.calls.append("disable")
        self._set("enabled", None)

    def start(self) -> None:
        self.calls.append("start")
        self.load()

    def reload(self) -> None:
        self.calls.append("reload")
        if not self.running():
            raise TransactionError("fake: not running")
        self.load()

    def restart(self) -> None:
        self.calls.append("restart")
        self.load()

    def stop(self) -> None:
        self.calls.append("stop")
        self._set("loaded", None)

    def prove(self, proof: t.Dict[str, t.Any], patience: float = DEADLINE) -> None:
        if patience:
            self.calls.append("prove %s" % proof.get("asked", ""))
        if not self.running() or b"bad" in (self.loaded() or b""):
            raise ProofError("port 587 (smtp): no answer")

    def words_since(self, moment: float) -> t.List[str]:
        return ["fake: fatal: it hurts"] if b"bad" in (self.loaded() or b"") else []


class Server:
    """A directory that stands for a server."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.state = os.path.join(root, "state")
        os.mkdir(os.path.join(root, "etc"))
        os.mkdir(os.path.join(root, "daemon"))
        self.daemon = type("Fake", (FakeDaemon,), {"root": root})()

    def daemon_of(self, description: t.Dict[str, t.Any]) -> Daemon:
        assert description == self.daemon.description
        return t.cast(Daemon, self.daemon)

    def path(self, name: str) -> str:
        return os.path.join(self.root, name)

    def put(self, name: str, content: str, mode: int = 0o644) -> None:
        """By hand."""
        with open(self.path(name), "w") as handle:
            handle.write(content)
        os.chmod(self.path(name), mode)
        os.utime(self.path(name), (1500000000.25, 1500000000.25))

    def read(self, name: str) -> t.Optional[str]:
        content = tree_files.read_file(self.path(name))
        return None if content is None else content.decode()

    def file(self, name: str, content: str, mode: int = 0o644, **more: t.Any) -> File:
        return File(self.path(name), content.encode(), mode, ME, MY_GROUP, **more)

    def directory(self, name: str, mode: int = 0o755) -> Directory:
        return Directory(self.path(name), mode, ME, MY_GROUP)

    def run(
        self, files: t.Sequence[File], name: str = "fake", daemon: bool = True, asked: str = "it", **more: t.Any
    ) -> Result:
        activations = [Activation(self.daemon, {"asked": asked})] if daemon else []
        more = dict({"state_directory": self.state, "lock_timeout": 5.0, "daemon_of": self.daemon_of}, **more)
        return run(name, files, activations=activations, **more)

    def snapshot(self, below: str = "etc") -> t.Dict[str, t.Tuple[t.Any, ...]]:
        """All there is to a tree, but for the times of directories."""
        found = {}
        for directory, names, files in os.walk(self.path(below)):
            for name in names + files:
                path = os.path.join(directory, name)
                status = os.lstat(path)
                attributes = (stat.S_IFMT(status.st_mode), stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid)
                if stat.S_ISLNK(status.st_mode):
                    found[path] = attributes + (os.readlink(path),)
                elif stat.S_ISDIR(status.st_mode):
                    found[path] = attributes
                else:
                    found[path] = attributes + (status.st_mtime_ns, tree_files.read_file(path))
        return found
