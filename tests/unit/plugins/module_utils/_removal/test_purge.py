# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The packages that a removal purges: those that runs have installed, and that nobody else needs."""

import pathlib
import typing as t

import pytest
from ansible_collections.port587.mail.plugins.module_utils._removal import packages
from ansible_collections.port587.mail.plugins.module_utils._transaction.errors import TransactionError


class Apt:
    """An apt with these packages, each with those that depend on it."""

    def __init__(self, needed_by: t.Dict[str, t.List[str]]) -> None:
        self.needed_by = needed_by

    def taken(self, name: str) -> t.Set[str]:
        return {name}.union(*map(self.taken, self.needed_by.get(name, [])))

    def __call__(self, argv: t.Sequence[str], stdin: t.Optional[bytes] = None) -> t.Tuple[int, str, str]:
        names = argv[argv.index("--") + 1 :]
        if argv[0] == "dpkg-query":
            return 0, "".join("%s ii \n" % name for name in names if name != "gone"), ""
        taken = sorted(set().union(*map(self.taken, names)))
        return 0, "".join("Purg %s [1.0]\n" % name for name in taken), ""


@pytest.fixture
def apt(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> t.Callable[[t.Dict[str, t.List[str]]], None]:
    monkeypatch.setattr(packages, "RECORD", str(tmp_path / "packages.json"))
    monkeypatch.setattr(packages, "STATE_DIRECTORY", str(tmp_path))
    return lambda needed_by: monkeypatch.setattr(packages, "run_command", Apt(needed_by))


def test_packages_are_noted_once(apt: t.Callable[[t.Dict[str, t.List[str]]], None]) -> None:
    assert packages.installed() == []
    packages.note(["postfix", "python3"])
    packages.note(["dovecot-core", "postfix"])
    assert packages.installed() == ["postfix", "dovecot-core"]


def test_packages_that_others_need_stay(apt: t.Callable[[t.Dict[str, t.List[str]]], None]) -> None:
    apt({"libx": ["nginx", "theirs"], "nginx": ["nginx-module"], "postfix": []})
    packages.note(["libx", "nginx", "nginx-module", "postfix", "gone"])
    assert packages.to_purge() == (["nginx", "nginx-module", "postfix"], {"libx": "theirs"})


def test_a_damaged_record_stops_it(apt: t.Callable[[t.Dict[str, t.List[str]]], None]) -> None:
    packages.note(["postfix"])
    pathlib.Path(packages.RECORD).write_text("{", encoding="utf-8")
    with pytest.raises(TransactionError, match="is damaged"):
        packages.to_purge()
