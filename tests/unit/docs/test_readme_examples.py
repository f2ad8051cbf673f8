# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) The port587.mail contributors
"""What a role's README shows is what its Molecule scenario runs, character for character."""

import re

import pytest
from repository import ROOT

# the role common has tasks for the others, and nothing for an inventory
ROLES = sorted(path.name for path in (ROOT / "roles").iterdir() if path.name != "common")


@pytest.mark.parametrize("role", ROLES)
def test_the_first_example_is_what_the_scenario_runs(role: str) -> None:
    readme = (ROOT / "roles" / role / "README.md").read_text(encoding="utf-8")
    example = re.search(r"^```yaml\n(.*?)^```$", readme, re.MULTILINE | re.DOTALL)
    assert example, "the README has no example"
    assert example.group(1) == (ROOT / "molecule" / role / "converge.yml").read_text(encoding="utf-8")


@pytest.mark.parametrize("role", ROLES)
def test_molecule_knows_the_scenario(role: str) -> None:
    assert (ROOT / "molecule" / role / "molecule.yml").is_file()
