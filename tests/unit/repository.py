# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) The port587.mail contributors
"""The path of this checkout, for tests that read its files."""

import pathlib
import types
import typing as t

ROOT = pathlib.Path(__file__).resolve().parents[2]


def program(role: str, name: str) -> t.Any:
    """A Python program that a role installs in /usr/local/lib/port587, as a module."""
    path = ROOT / "roles" / role / "files/usr/local/lib/port587" / name
    module = types.ModuleType(name.replace("-", "_"))
    # an import would leave a folder with bytecode among the role's files
    exec(compile(path.read_text(encoding="utf-8"), str(path), "exec"), module.__dict__)
    return module
