# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Limits of the kernel are raised, never lowered, and those that can't be raised are reported."""

import os
import pathlib

import pytest
from ansible_collections.port587.mail.plugins.module_utils._transaction import kernel


@pytest.fixture
def limit(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """A limit of the kernel, and no other."""
    monkeypatch.setattr(kernel, "PARAMETERS", f"{tmp_path}/proc/")
    monkeypatch.setattr(kernel, "DIRECTORY", f"{tmp_path}/sysctl.d/")
    monkeypatch.setattr(kernel, "FILES", f"{tmp_path}/sysctl.d/10-port587-*.conf")
    for name in ("proc/fs/inotify", "sysctl.d"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "sysctl.d/10-port587-dovecot.conf").write_text("# why\nfs.inotify.max_user_instances = 500\n")
    return tmp_path / "proc/fs/inotify/max_user_instances"


def files(limit: pathlib.Path) -> "list[str]":
    return [f"{limit.parents[3]}/sysctl.d/10-port587-dovecot.conf", f"{limit.parents[3]}/another"]


@pytest.mark.parametrize(("before", "after"), [("128\n", "500"), ("8192\n", "8192")])
def test_a_limit_is_raised_and_never_lowered(limit: pathlib.Path, before: str, after: str) -> None:
    limit.write_text(before)
    assert kernel.raise_limits(files(limit)) == []
    assert limit.read_text().strip() == after
    assert kernel.too_low() == []


def test_a_kernel_without_the_limit(limit: pathlib.Path) -> None:
    assert kernel.raise_limits(files(limit)) == []
    assert not limit.exists()
    assert kernel.too_low() == []


def test_a_server_that_may_not(limit: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even root may not in a container."""
    limit.write_text("128\n")

    def refuse(path: str, *_: str) -> None:
        raise OSError(30, os.strerror(30), path)

    monkeypatch.setattr(kernel, "open", refuse, raising=False)
    said = "fs.inotify.max_user_instances is 128 and should be 500, but this server may not raise it (a container?)"
    assert kernel.raise_limits(files(limit)) == [said]
    assert [one.name for one in kernel.too_low()] == ["fs.inotify.max_user_instances"]
