# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What systemd denies services: the lines for each version, and what a container permits."""

import os
import pathlib
import typing as t

import pytest
from ansible_collections.port587.mail.plugins.module_utils._daemons import hardening


def names(lines: t.Iterable[str]) -> t.Set[str]:
    return {line.split("=")[0] for line in lines}


def test_the_newest_systemd_gets_all_options() -> None:
    assert names(hardening.settings({}, "259", True, True)) == set(hardening.COMMON)


@pytest.mark.parametrize(("version", "missing"), [("245.4", {"ProtectProc"}), (None, set(hardening.SINCE))])
def test_an_older_systemd_gets_no_option_that_it_does_not_know(version: str, missing: t.Set[str]) -> None:
    assert set(hardening.COMMON) - names(hardening.settings({}, version, True, True)) == missing


def test_a_service_replaces_adds_and_leaves_values() -> None:
    options: t.Dict[str, t.Any] = {"ProtectHome": "read-only", "PrivateNetwork": True, "NoNewPrivileges": None}
    lines = hardening.settings(options, "257", True, True)
    assert {"ProtectHome=read-only", "PrivateNetwork=yes", "PrivateTmp=yes"} <= set(lines)
    assert "NoNewPrivileges" not in names(lines)
    # systemd reads chroot as an exception only after the list
    assert [line[17:23] for line in lines if line.startswith("SystemCallFilter=")] == ["~@cloc", "chroot"]


def test_without_mounts_no_option_needs_one() -> None:
    left = names(hardening.settings({"PrivateNetwork": True, "ReadWritePaths": "/x"}, "257", False, True))
    assert not left & set(hardening.MOUNTS)
    assert {"NoNewPrivileges", "SystemCallFilter", "CapabilityBoundingSet"} <= left


@pytest.mark.parametrize(
    ("container", "code", "can"), [(True, 226, False), (True, 0, True), (True, 1, True), (False, 226, True)]
)
def test_a_container_is_asked(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, container: bool, code: int, can: bool
) -> None:
    monkeypatch.setattr(hardening, "CONTAINER", os.devnull if container else str(tmp_path / "none"))

    def run(argv: t.List[str]) -> t.Tuple[int, str, str]:
        if argv[0] == "systemd-run":
            # newer versions ignore the others where they can't mount
            assert "--property=DynamicUser=yes" in argv
        return (int(code > 0), "%d\n" % code, "")

    monkeypatch.setattr(hardening, "run_command", run)
    hardening.can_mount.cache_clear()
    assert hardening.can_mount() is can
    hardening.can_mount.cache_clear()
