# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The packages of module_utils import each other in one direction: the engine of transactions is below all others."""

import ast
import typing as t

from repository import ROOT

MODULE_UTILS = ROOT / "plugins" / "module_utils"
BASE = "ansible_collections.port587.mail.plugins.module_utils."


def packages_that(package: str) -> t.Set[str]:
    """The other packages that a package imports."""
    found = set()
    for file in (MODULE_UTILS / package).rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            found |= {name[len(BASE) :].partition(".")[0] for name in names if name.startswith(BASE)}
    return {name for name in found if (MODULE_UTILS / name).is_dir()} - {package}


def test_there_are_no_circles() -> None:
    imports = {
        path.name: packages_that(path.name) for path in MODULE_UTILS.iterdir() if (path / "__init__.py").exists()
    }
    assert "_daemons" in imports["_certificate"]
    while imports:
        free = [package for package, others in imports.items() if not others & set(imports)]
        assert free, "a circle is among these: %s" % imports
        for package in free:
            del imports[package]


def test_the_engine_of_transactions_imports_no_other() -> None:
    assert packages_that("_transaction") == set()
