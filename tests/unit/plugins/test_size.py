# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) The port587.mail contributors
"""A function that does not fit on a screen does more than one thing."""

from __future__ import annotations

import ast
import typing as t

from repository import ROOT

LONGEST_FUNCTION = 60


def functions() -> t.Iterator[tuple[str, int]]:
    """Name and number of lines of each function that the collection has."""
    for path in sorted((ROOT / "plugins").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.end_lineno:
                yield f"{path.relative_to(ROOT)}: {node.name}", node.end_lineno - node.lineno + 1


def test_no_function_is_too_long() -> None:
    assert {name: lines for name, lines in functions() if lines > LONGEST_FUNCTION} == {}
