# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The probes of DKIM signatures: one for each name."""

from __future__ import annotations

import typing as t

import pytest

pytest.importorskip("ansible.errors")

from ansible.errors import AnsibleFilterError
from ansible_collections.port587.mail.plugins.filter.dkim_proofs import dkim_proofs


def test_a_message_from_each_name_has_to_get_every_signature() -> None:
    assert dkim_proofs(["a.example", "b.example"], [{"name": "one"}, {"name": "two"}], "/milter.sock", "postfix") == [
        {
            "protocol": "milter",
            "path": "/milter.sock",
            "user": "postfix",
            "signatures": [f"one._domainkey.{name}", f"two._domainkey.{name}"],
        }
        for name in ("a.example", "b.example")
    ]


def test_without_selectors_no_signature_is_needed() -> None:
    assert [proof["signatures"] for proof in dkim_proofs(["a.example"], [], "/milter.sock", "postfix")] == [[]]


@pytest.mark.parametrize(("names", "selectors", "option"), [("a.example", [], "the input"), ([], {}, "selectors")])
def test_other_types_are_refused(names: t.Any, selectors: t.Any, option: str) -> None:
    with pytest.raises(AnsibleFilterError, match=f"dkim_proofs: {option} has to be a list, not "):
        dkim_proofs(names, selectors, "/milter.sock", "postfix")
