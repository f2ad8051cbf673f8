# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""apt's sources of one release become those of the next, and apt's answers are understood."""

import pytest
from ansible_collections.port587.mail.plugins.module_utils._server import facts, releases

DEBIAN = "http://deb.debian.org/debian"
SECURITY = "http://security.debian.org/debian-security"
OTHER = "https://download.example.org/debian"

ONE_LINE = f"""# the release
deb {DEBIAN} bullseye main contrib non-free # all of it
deb-src [signed-by=/a] {DEBIAN} bullseye-updates main
#deb {DEBIAN} bullseye-backports main
deb {SECURITY} bullseye-security main
deb [arch=amd64] {OTHER} bullseye stable
"""
DEB822 = f"""Types: deb
URIs: {SECURITY}/
Suites: bookworm-security
Components: main

# the release
Types: deb deb-src
URIs: {DEBIAN}
Suites: bookworm
 bookworm-updates
Components: main non-free
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: {OTHER}
Suites: bookworm
Components: stable

Enabled: no
Types: deb
URIs: {DEBIAN}
Suites: bookworm-backports
Components: main
"""


def test_every_supported_release_has_a_name_and_a_place() -> None:
    known = {(name, version) for name, versions in releases.CODENAMES.items() for version in versions}
    assert known == set(facts.RELEASES)


def test_the_release_after() -> None:
    assert releases.following(("debian", "11")) == "12"
    assert releases.following(("ubuntu", "22.04")) == "24.04"
    assert releases.following(("debian", "13")) is None
    assert releases.following(("debian", "10")) is None
    assert releases.following(("fedora", "40")) is None


def test_one_line_sources_are_read() -> None:
    found = releases.parse_sources("a.list", ONE_LINE)
    assert [(one.uri, one.suite) for one in found] == [
        (DEBIAN, "bullseye"),
        (DEBIAN, "bullseye-updates"),
        (SECURITY, "bullseye-security"),
        (OTHER, "bullseye"),
    ]


def test_deb822_sources_are_read() -> None:
    found = releases.parse_sources("a.sources", DEB822)
    assert [(one.uri, one.suite) for one in found] == [
        (SECURITY + "/", "bookworm-security"),
        (DEBIAN, "bookworm"),
        (DEBIAN, "bookworm-updates"),
        (OTHER, "bookworm"),
    ]


def test_one_line_sources_are_rewritten() -> None:
    new = releases.rewritten("a.list", ONE_LINE, "bullseye", "bookworm", {DEBIAN, SECURITY})
    assert (
        new
        == f"""# the release
deb {DEBIAN} bookworm main contrib non-free non-free-firmware # all of it
deb-src [signed-by=/a] {DEBIAN} bookworm-updates main
#deb {DEBIAN} bullseye-backports main
deb {SECURITY} bookworm-security main
deb [arch=amd64] {OTHER} bullseye stable
"""
    )


def test_deb822_sources_are_rewritten() -> None:
    new = releases.rewritten("a.sources", DEB822, "bookworm", "trixie", {DEBIAN, SECURITY + "/"})
    wanted = DEB822.replace("bookworm", "trixie").replace(
        f"URIs: {OTHER}\nSuites: trixie", f"URIs: {OTHER}\nSuites: bookworm"
    )
    assert new == wanted


def test_whose_a_source_is() -> None:
    origins = releases.parse_origins(f"{DEBIAN}/ Debian\n{OTHER}/ Docker\n{SECURITY}/ Debian\n")
    own = [
        one.uri for one in releases.parse_sources("a.list", ONE_LINE) if releases.is_own(one, ("debian", "11"), origins)
    ]
    assert own == [DEBIAN, DEBIAN, SECURITY]
    backports = releases.Source("a.list", DEBIAN, "bookworm-backports")
    assert releases.is_own(backports, ("debian", "12"), {DEBIAN: "Debian Backports"})
    # of another release: not ours to rewrite
    assert not releases.is_own(backports, ("debian", "11"), {DEBIAN: "Debian"})


def test_sources_whose_name_moves() -> None:
    found = releases.parse_sources("a.list", f"deb {DEBIAN} stable main\ndeb {DEBIAN} bookworm main\n")
    assert [one.suite for one in releases.moving(found)] == ["stable"]


@pytest.mark.parametrize(
    ("text", "need"),
    [
        (
            "The following packages will be REMOVED:\n  usrmerge libfoo1\n  exim4\n"
            "The following packages will be upgraded:\n  a b\n"
            "Need to get 118 MB of archives.\nAfter this operation, 277 kB of additional disk space will be used.\n",
            (118 * 10**6, 277000, ["usrmerge", "libfoo1", "exim4"]),
        ),
        (
            "Need to get 0 B/1,118 kB of archives.\nAfter this operation, 2 MB disk space will be freed.\n",
            (1118000, 0, []),
        ),
        ("0 upgraded, 0 newly installed, 0 to remove and 0 not upgraded.\n", (0, 0, [])),
    ],
)
def test_what_an_upgrade_needs(text: str, need: object) -> None:
    assert releases.parse_need(text) == need


def test_complaints() -> None:
    said = (
        "doveconf: Fatal: Error in configuration file /etc/dovecot/dovecot.conf line 9: x: Unknown setting: x\n"
        "/usr/sbin/postconf: warning: /etc/postfix/main.cf: unused parameter: a=b\n"
        "postconf: warning: /etc/postfix/main.cf: unused parameter: a=b\n"
    )
    found = releases.parse_unknown(said)
    assert found == [
        "Error in configuration file /etc/dovecot/dovecot.conf line 9: x: Unknown setting: x",
        "/etc/postfix/main.cf: unused parameter: a=b",
    ]
    assert [releases.line_number(one) for one in found] == [9, None]


def test_a_block_is_left_out_as_a_whole() -> None:
    lines = ["a = b", "plugin { # {", "  x {", "  }", "}", "c = d"]
    assert releases.block(lines, 0) == [0]
    assert releases.block(lines, 1) == [1, 2, 3, 4]
    assert releases.block(["open {", "x"], 0) == [0, 1]
