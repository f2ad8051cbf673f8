# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) The port587.mail contributors
"""Links between the pages lead to a file, and to a heading in it."""

import pathlib
import re
import typing as t

import pytest
from repository import ROOT

PAGES = sorted([*ROOT.glob("README*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("roles/*/README.md")])


def anchor(heading: str) -> str:
    """What GitHub makes of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def anchors(page: pathlib.Path) -> t.Set[str]:
    return {anchor(heading) for heading in re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)}


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_every_link_leads_somewhere(page: pathlib.Path) -> None:
    broken = []
    for link in re.findall(r"\]\((?!\w+:)([^)\s]+)\)", page.read_text(encoding="utf-8")):
        path, _hash, name = link.partition("#")
        target = (page.parent / path) if path else page
        if not target.exists() or (name and name not in anchors(target)):
            broken.append(link)
    assert broken == []


def test_the_index_of_decisions_is_complete() -> None:
    text = (ROOT / "docs/decisions.md").read_text(encoding="utf-8")
    listed = re.findall(r"^ *- \[(.+)\]\(#(.+)\)$", text, re.MULTILINE)
    headings = re.findall(r"^###? (.+)$", text, re.MULTILINE)
    assert listed == [(heading, anchor(heading)) for heading in headings]
