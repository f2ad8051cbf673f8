# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible's commands from a process that has imported Ansible already: that alone is half of what a short play costs.

A scenario's tests run some hundred plays. Each has a process of its own, forked from one that has only imported.
"""

import atexit
import contextlib
import gc
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import typing as t

#: The class behind each command.
COMMANDS = {
    "ansible": ("ansible.cli.adhoc", "AdHocCLI"),
    "ansible-playbook": ("ansible.cli.playbook", "PlaybookCLI"),
}
#: What the first play would import otherwise.
LATER = [
    "ansible.executor.module_common",
    "ansible.executor.playbook_executor",
    "ansible.executor.task_executor",
    "ansible.plugins.callback.default",
    "ansible.plugins.connection.ssh",
    "ansible.plugins.strategy.linear",
]


class Running:
    """A command under way. What it prints, on either channel, is in one."""

    def __init__(self, output: int, status: int) -> None:
        self._output, self._status = output, status
        self.returncode = -signal.SIGKILL  # where it was killed

    def communicate(self) -> str:
        """Wait for the end; what was printed."""
        with open(self._output, encoding="utf-8", errors="replace") as pipe:
            text = pipe.read()
        with open(self._status, encoding="ascii") as pipe:
            self.returncode = int(pipe.read() or self.returncode)
        return text


class Ready:
    """The process that has imported Ansible, with this environment. It ends with the one that started it."""

    def __init__(self, environment: t.Mapping[str, str]) -> None:
        self._socket, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, __file__, str(theirs.fileno())],
                env=dict(environment),
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )
        # its parent waits for it: so what the plays used of the processors is in the table of scripts/test
        atexit.register(self.end)

    def end(self) -> None:
        """End the process, after its last play."""
        self._socket.close()
        self._process.wait()

    def start(self, command: str, *arguments: t.Any) -> Running:
        """Begin ``ansible`` or ``ansible-playbook``."""
        output, their_output = os.pipe()
        status, their_status = os.pipe()
        # a file, since a pipe holds less than some variables' text
        request = os.memfd_create("request")
        os.write(request, json.dumps([command, *map(str, arguments)]).encode())
        descriptors = [request, their_output, their_status]
        socket.send_fds(self._socket, [b"."], descriptors)
        for descriptor in descriptors:
            os.close(descriptor)
        return Running(output, status)


def serve(channel: socket.socket) -> None:
    """Fork for each request."""
    commands = {name: getattr(importlib.import_module(module), cls) for name, (module, cls) in COMMANDS.items()}
    for module in LATER:
        importlib.import_module(module)
    # what a play leaves behind goes with its process; looking for it costs processor time
    gc.disable()
    gc.freeze()
    while True:
        word, descriptors, _flags, _address = socket.recv_fds(channel, 1, 3)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG if word else 0)[0]:
                pass
        if not word:
            return
        if os.fork() == 0:
            channel.close()
            run(commands, *descriptors)
        for descriptor in descriptors:
            os.close(descriptor)


def run(commands: t.Mapping[str, t.Any], request: int, output: int, status: int) -> t.NoReturn:
    """Be the command, in this process."""
    arguments = json.loads(os.pread(request, os.fstat(request).st_size, 0))
    for channel in (1, 2):
        os.dup2(output, channel)
    for descriptor in (request, output):
        os.close(descriptor)
    os.set_inheritable(status, False)
    sys.argv = arguments
    code: t.Any = 1
    try:
        commands[arguments[0]].cli_executor(arguments)
    except SystemExit as end:
        code = end.code
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os.write(status, str(code or 0).encode())
        # without what Python does at the end: the temporary directory is that of all
        os._exit(0)


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
