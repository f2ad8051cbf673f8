# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Runs on the server: Python 3.6 and the standard library only.

"""Findings of preflight, and their text form. The controller uses this, too."""

import typing as t


class Finding(t.NamedTuple):
    name: str
    verdict: str  # ok | warn | fail
    seen: str
    expected: str
    cure: str = ""


def finding(name: str, good: bool, seen: str, expected: str, cure: str, otherwise: str = "fail") -> Finding:
    return Finding(name, "ok", seen, expected) if good else Finding(name, otherwise, seen, expected, cure)


def listed(values: t.Iterable[t.Any]) -> str:
    return ", ".join(str(value) for value in values)


def report(hostname: str, findings: t.List[Finding]) -> str:
    """The report: one line if all is well, else all findings that are not, the worst first."""
    fails = [one for one in findings if one.verdict == "fail"]
    warns = [one for one in findings if one.verdict == "warn"]
    if not fails:
        later = f", {len(warns)} warned" if warns else ""
        return f"{hostname}: this server is fit for mail ({len(findings)} checks{later})"
    lines = [f"{hostname}: this server is not fit for mail yet. This check has changed nothing."]
    for one in fails + warns:
        lines += ["", f"{one.verdict.upper()} {one.name}: {one.seen}"]
        lines += [f"  wanted: {one.expected}", f"  cure: {one.cure}"]
    return "\n".join(lines)


def warnings(hostname: str, findings: t.List[Finding]) -> t.List[str]:
    """One line per warning, with the host's name, because Ansible shows equal warnings of several hosts once."""
    return [f"{hostname}: {one.name}: {one.seen}. Cure: {one.cure}." for one in findings if one.verdict == "warn"]
