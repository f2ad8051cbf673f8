# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pathlib
import typing as t
from types import SimpleNamespace

import pytest

pytest.importorskip("ansible.template")

from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import init_plugin_loader
from ansible.template import Templar
from ansible_collections.port587.mail.plugins.plugin_utils import _templates


@pytest.fixture(scope="module", autouse=True)
def _plugins() -> None:
    init_plugin_loader()


class Large:
    """Stands for the facts about a server."""

    def __deepcopy__(self, memo: t.Any) -> t.NoReturn:
        raise AssertionError("copied for a template")


def rendered(folder: pathlib.Path, template: str, **variables: t.Any) -> str:
    (folder / "file.j2").write_text(template, encoding="utf-8")
    loader = DataLoader()
    action: t.Any = SimpleNamespace(_loader=loader, _templar=Templar(loader=loader, variables=variables))
    return _templates.render(action, str(folder / "file.j2"), variables)


def test_variables_are_not_copied_and_stay_as_they_are(tmp_path: pathlib.Path) -> None:
    variables = {"name": "mail.example.com", "facts": Large()}
    before = dict(variables)
    assert rendered(tmp_path, "myhostname = {{ name }}\n", **variables) == "myhostname = mail.example.com\n"
    assert variables == before


def test_a_template_knows_its_own_path(tmp_path: pathlib.Path) -> None:
    assert rendered(tmp_path, "{{ template_path | basename }}") == "file.j2"
