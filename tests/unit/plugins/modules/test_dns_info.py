# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The names whose DKIM keys are left from earlier."""

import pathlib

from ansible_collections.port587.mail.plugins.modules.dns_info import former


def test_names_that_are_no_longer_served(tmp_path: pathlib.Path) -> None:
    for name in ("example.com.rsa1.key", "old.example.rsa1.key", "old.example.ed1.key", "sub.example.com.rsa1.key"):
        (tmp_path / name).touch()
    (tmp_path / "notes.txt").touch()
    assert former(str(tmp_path), ["Example.com"]) == ["old.example", "sub.example.com"]
    assert former(str(tmp_path), ["example.com", "old.example", "sub.example.com"]) == []
    assert former(str(tmp_path / "missing"), []) == []
