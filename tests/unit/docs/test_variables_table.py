# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""docs/variables.md is up to date with scripts/variables."""

from __future__ import annotations

import runpy

import pytest
from repository import ROOT

pytest.importorskip("yaml")


def test_the_table_of_variables_is_up_to_date() -> None:
    document = runpy.run_path(str(ROOT / "scripts" / "variables"))["document"]
    written = (ROOT / "docs" / "variables.md").read_text(encoding="utf-8")
    assert written == document(), "run scripts/in core-newest scripts/variables"
