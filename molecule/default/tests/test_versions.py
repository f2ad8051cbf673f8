# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of versions in docs/versions.md is right for this release; scripts/record keeps those that were seen."""

import json
import pathlib
import re
import typing as t

testinfra_hosts = ["ansible://mail"]

DOCUMENT = pathlib.Path(__file__).resolve().parents[3] / "docs/versions.md"
PACKAGES = {"Postfix": "postfix", "Dovecot": "dovecot-core", "rspamd": "rspamd", "nginx": "nginx", "OpenSSL": "openssl"}


def written(name: str) -> t.Dict[str, str]:
    """The versions of a release, such as "Debian 11", by program."""
    lines = DOCUMENT.read_text(encoding="utf-8").splitlines()
    head, row = (next(line for line in lines if line.startswith(f"| {first} |")) for first in ("Release", name))
    return dict(zip(*([cell.strip() for cell in line.strip("|").split("|")] for line in (head, row))))


def branch(version: str) -> t.List[str]:
    """Its first two numbers: what follows changes with security updates."""
    return version.split(".")[:2]


def test_the_programs_are_of_the_versions_in_the_table(host: t.Any, record_property: t.Any) -> None:
    release = dict(
        re.findall(r'^(ID|VERSION_ID)="?([^"\n]*)', host.file("/etc/os-release").content_string, re.MULTILINE)
    )
    table = written(f"{release['ID'].capitalize()} {release['VERSION_ID']}")
    packages = host.check_output("dpkg-query -W -f '${Package} ${Version}\\n' " + " ".join(PACKAGES.values()))
    versions = dict(re.findall(r"^(\S+) (?:\d+:)?(\d+(?:\.\d+)*)", packages, re.MULTILINE))
    installed = {name: versions[package] for name, package in PACKAGES.items()}
    record_property("programs", json.dumps(installed))
    assert {name: branch(version) for name, version in installed.items()} == {
        name: branch(table[name]) for name in PACKAGES
    }
