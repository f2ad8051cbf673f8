# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A new user at a terminal, with an empty home directory and a copy of the checkout."""

import os
import pathlib
import pty
import re
import shutil
import stat
import sys
import time
import typing as t

ROOT = pathlib.Path(__file__).parents[3]

VAULT_PASSWORD = "the vault's own"
PROMPT = re.compile(r"(?:[Vv]ault password[^\n]*|Confirm[^\n]*): ?$")
COLOURS = re.compile(r"\x1b\[[0-9;]*m")


#: A command of each section whose commands are typed: "Your server", "Use it as an installed collection", "Daily use".
MARKS = ("`cp -r inventories/example", "`ansible-galaxy collection build", "@~/port587/")
#: The test has no internet, so it can't install what is published there.
PUBLISHED = "ansible-galaxy collection install port587.mail"


def commands(readme: str) -> t.List[str]:
    """The commands in README for the reader's own machine, in their order, without repetitions."""
    sections = (ROOT / readme).read_text(encoding="utf-8").split("\n## ")
    chosen = "\n".join(section for section in sections if any(mark in section for mark in MARKS))
    found = re.findall(r"^(ansible[a-z-]* .*)$|`((?:cp|ansible[a-z-]*) [^`]+)`", chosen, re.MULTILINE)
    typed = (line or inline for line, inline in found)
    return list(dict.fromkeys(command for command in typed if not command.startswith(PUBLISHED)))


class Done(t.NamedTuple):
    """What became of a command."""

    code: int
    output: str


class Newcomer:
    """Types commands."""

    def __init__(self, home: pathlib.Path) -> None:
        self.home = home
        self.folder = home / "mail"
        shutil.copytree(
            ROOT, self.folder, symlinks=True, ignore=shutil.ignore_patterns(".cache", ".git", "__pycache__")
        )
        self.environment = {
            "HOME": str(home),
            "PATH": f"{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}",
            "LANG": "C.UTF-8",
            "TERM": "xterm",
            "EDITOR": str(home / "editor"),
        }

    def editor_writes(self, text: str) -> None:
        """What is written in the editor that a command opens."""
        file = pathlib.Path(self.environment["EDITOR"])
        file.write_text(f"#!/bin/sh\ncat > \"$1\" <<'END'\n{text}END\n", encoding="utf-8")
        file.chmod(file.stat().st_mode | stat.S_IXUSR)

    def types(self, command: str, folder: t.Optional[pathlib.Path] = None) -> Done:
        """The command in a shell, with the vault's password at each prompt for it."""
        child, terminal = pty.fork()
        if child == 0:
            os.chdir(folder or self.folder)
            os.execve("/bin/bash", ["bash", "-c", command], self.environment)
        said, answered, ended = "", 0, (0, 0)
        while True:
            try:
                data = os.read(terminal, 65536)
            except OSError:  # nobody has the terminal open: at the end, and for a moment at the beginning
                if ended[0]:
                    break
                time.sleep(0.05)
                ended = os.waitpid(child, os.WNOHANG)
                continue
            said += data.decode("utf-8", errors="replace").replace("\r\n", "\n")
            if PROMPT.search(said[answered:]):
                answered = len(said)
                os.write(terminal, f"{VAULT_PASSWORD}\n".encode())
        os.close(terminal)
        return Done(os.waitstatus_to_exitcode(ended[1]), COLOURS.sub("", said))
