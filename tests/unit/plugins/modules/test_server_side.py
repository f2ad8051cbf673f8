# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) The port587.mail contributors
"""Every module, with all that it imports, can be loaded by the Python that runs these tests: a server's may be 3.6."""

import importlib

import pytest
from repository import ROOT

MODULES = sorted(path.stem for path in (ROOT / "plugins" / "modules").glob("*.py"))


@pytest.mark.parametrize("module", MODULES)
def test_a_module_loads(module: str) -> None:
    assert importlib.import_module("ansible_collections.port587.mail.plugins.modules." + module)
