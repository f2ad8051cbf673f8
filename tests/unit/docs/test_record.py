# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The tables of tested releases say what tests/record.json says, and that says what the tests saw."""

from __future__ import annotations

import pathlib
import runpy
import typing as t

import pytest
from repository import ROOT

RECORD = runpy.run_path(str(ROOT / "scripts" / "record"))

PASSED = """<testsuites><testsuite>
<testcase name="test_login[ansible://debian11]"/>
<testcase name="test_login[ansible://debian12]"><skipped/></testcase>
<testcase name="test_programs[ansible://debian11-more]">
<properties><property name="programs" value='{"Postfix": "3.5.25"}'/></properties></testcase>
<testcase name="test_login[ansible://client]"/>
</testsuite></testsuites>"""
RENDERED = '<testsuite><testcase name="test_every_option_was_looked_up[ubuntu-18.04]"/></testsuite>'
FAILED = '<testsuite><testcase name="test_login[ansible://debian13]"><failure/></testcase></testsuite>'


def seen(directory: pathlib.Path, **legs: str) -> t.Any:
    for leg, text in legs.items():
        folder = directory / leg.replace("_", "-")
        folder.mkdir()
        (folder / "pytest.xml").write_text(text, encoding="utf-8")
    return RECORD["seen"](sorted(directory.iterdir()))


def test_the_tables_are_up_to_date() -> None:
    record = RECORD["read"](RECORD["RECORD"])
    for language, path in RECORD["READMES"].items():
        text = path.read_text(encoding="utf-8")
        assert text == RECORD["with_table"](text, record, language), "run scripts/record"


def test_a_record_says_what_the_tests_saw(tmp_path: pathlib.Path) -> None:
    found = seen(tmp_path, molecule_default_core216=PASSED, molecule_acme_core_newest=PASSED, pytest=RENDERED)
    assert found == {
        "debian11": {"run": {"scenarios": ["acme", "default"], "tests": 4, "programs": {"Postfix": "3.5.25"}}},
        "ubuntu1804": {"rendered": {}},
    }


def test_a_run_with_a_failure_is_not_recorded(tmp_path: pathlib.Path) -> None:
    with pytest.raises(SystemExit, match="not recorded: test_login"):
        seen(tmp_path, molecule_default_core_newest=PASSED, molecule_acme_core_newest=FAILED)


def test_chosen_tests_are_not_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_ADDOPTS", "-k login")
    assert "PYTEST_ADDOPTS" in RECORD["hindrance"]()


def test_the_later_proof_counts_and_the_first_date_stays() -> None:
    proofs = [{"scenarios": ["default"], "tests": number, "programs": {}} for number in (1, 2)]
    old, new = (
        RECORD["dated"]({"debian11": {"run": proof}}, date, "1234567", "CI")
        for proof, date in zip(proofs, ("2026-11-27", "2026-12-01"))
    )
    expected = {"debian11": {"run": {**new["debian11"]["run"], "first": "2026-11-27"}}}
    assert RECORD["merged"](old, new) == RECORD["merged"](new, old) == expected


def test_a_table_claims_nothing_without_a_proof() -> None:
    run = RECORD["dated"](
        {"debian11": {"run": {"scenarios": ["acme"], "tests": 3, "programs": {"Postfix": "3.5"}}}}, "D", "C", "CI"
    )
    rendered = RECORD["dated"]({"ubuntu1804": {"rendered": {}}}, "D", "C", "CI")
    lines = RECORD["table"]({**run, **rendered}, "en").splitlines()
    assert (
        lines[2] == "| Ubuntu 18.04 | rendered and checked against its versions, not run | unit tests | D | D (C) |  |"
    )
    assert "| Debian 11 | 1 scenarios run, 3 tests passed | CI | D | D (C) | Postfix 3.5 |" in lines
    assert len([line for line in lines if "| not run |" in line]) == len(RECORD["RELEASES"]) - 2
