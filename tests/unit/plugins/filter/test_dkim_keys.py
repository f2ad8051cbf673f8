# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files of DKIM keys: one for each name and selector."""

from __future__ import annotations

import typing as t

import pytest

pytest.importorskip("ansible.errors")

from ansible.errors import AnsibleFilterError
from ansible_collections.port587.mail.plugins.filter.dkim_keys import dkim_keys

SELECTORS = [{"name": "one", "type": "rsa"}, {"name": "two", "type": "ed25519"}]


def test_each_name_has_a_key_for_each_selector() -> None:
    files = dkim_keys(["example.com", "mail.example.com"], SELECTORS, "/keys", 4096)
    assert [(file["dest"], file["generate"]) for file in files] == [
        ("/keys/example.com.one.key", "dkim-rsa-4096"),
        ("/keys/example.com.two.key", "dkim-ed25519"),
        ("/keys/mail.example.com.one.key", "dkim-rsa-4096"),
        ("/keys/mail.example.com.two.key", "dkim-ed25519"),
    ]
    assert {(file["group"], file["mode"]) for file in files} == {("_rspamd", "0640")}


def test_a_selector_without_a_type_is_rsa() -> None:
    assert dkim_keys(["example.com"], [{"name": "one"}], "/keys", "2048")[0]["generate"] == "dkim-rsa-2048"


def test_no_selectors_no_keys() -> None:
    assert dkim_keys(["example.com"], [], "/keys", 2048) == []


@pytest.mark.parametrize(("names", "selectors", "option"), [("a.example", [], "the input"), ([], {}, "selectors")])
def test_other_types_are_refused(names: t.Any, selectors: t.Any, option: str) -> None:
    with pytest.raises(AnsibleFilterError, match=f"dkim_keys: {option} has to be a list, not "):
        dkim_keys(names, selectors, "/keys", 2048)
