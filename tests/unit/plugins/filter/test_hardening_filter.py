# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter that writes what systemd denies a service."""

from __future__ import annotations

import typing as t

import pytest

pytest.importorskip("ansible.errors")

from ansible.errors import AnsibleFilterError
from ansible_collections.port587.mail.plugins.filter.hardening import hardening

SYSTEMD = {"version": "252.39", "mounts": True, "filters": True}


def test_it_returns_lines() -> None:
    lines = hardening({"ProtectSystem": "full"}, SYSTEMD).split("\n")
    assert lines[:2] == ["ProtectSystem=full", "ProtectHome=yes"]


@pytest.mark.parametrize("wrong", ["ProtectSystem=full", None, ["ProtectSystem"]])
def test_other_types_are_refused(wrong: t.Any) -> None:
    with pytest.raises(AnsibleFilterError, match="hardening: the input has to be a dictionary, not "):
        hardening(wrong, SYSTEMD)
