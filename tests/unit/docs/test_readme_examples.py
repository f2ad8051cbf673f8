# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) The port587.mail contributors
"""A role's README shows what its Molecule scenario runs, character for character, and lists the role's variables."""

import re

import pytest
from repository import ROOT

# the roles common and mail only serve the other roles
#: roles that are tested together with others
ELSEWHERE = {"webmail": "people", "firewall": "bans"}
ROLES = sorted(path.name for path in (ROOT / "roles").iterdir() if path.name not in ("common", "mail"))


@pytest.mark.parametrize("role", ROLES)
def test_the_first_example_is_what_the_scenario_runs(role: str) -> None:
    readme = (ROOT / "roles" / role / "README.md").read_text(encoding="utf-8")
    example = re.search(r"^```yaml\n(.*?)^```$", readme, re.MULTILINE | re.DOTALL)
    assert example, "the README has no example"
    # where the scenario's host also tries other things, the role has a playbook of its own
    scenario = ROOT / "molecule" / ELSEWHERE.get(role, role)
    playbook = scenario / f"{role}.yml" if (scenario / f"{role}.yml").exists() else scenario / "converge.yml"
    assert example.group(1) == playbook.read_text(encoding="utf-8")


@pytest.mark.parametrize("role", ROLES)
def test_molecule_knows_the_scenario(role: str) -> None:
    assert (ROOT / "molecule" / ELSEWHERE.get(role, role) / "molecule.yml").is_file()


@pytest.mark.parametrize("role", ROLES)
def test_every_variable_is_in_the_table(role: str) -> None:
    readme = (ROOT / "roles" / role / "README.md").read_text(encoding="utf-8")
    defaults = (ROOT / "roles" / role / "defaults/main.yml").read_text(encoding="utf-8")
    listed = re.findall(rf"^\| `({role}_\w+)` \|", readme, re.MULTILINE)
    assert sorted(listed) == sorted(re.findall(r"^(\w+):", defaults, re.MULTILINE))
