# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""server_info: versions from the texts that dpkg, apt, Postfix and Dovecot write."""

import re
import typing as t
from pathlib import Path

import pytest
from ansible_collections.port587.mail.plugins.module_utils._server import facts as server_facts

DEBIAN_12 = 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nNAME="Debian GNU/Linux"\nVERSION_ID="12"\nID=debian\n'
POLICY = """postfix:
  Installed: (none)
  Candidate: 3.7.11-0+deb12u1
  Version table:
     3.7.11-0+deb12u1 500
        500 http://deb.debian.org/debian bookworm/main amd64 Packages
dovecot-core:
  Installed: (none)
  Candidate: 1:2.3.19.1+dfsg1-2.1+deb12u7
  Version table:
     1:2.3.19.1+dfsg1-2.1+deb12u7 500
        500 http://security.debian.org/debian-security bookworm-security/main amd64 Packages
held-back:
  Installed: (none)
  Candidate: (none)
  Version table:
"""


class Host:
    """Answers as the programs do, and remembers what it was asked."""

    def __init__(self, dpkg: str = "", policy: str = "", database: str = "hash") -> None:
        self.asked: t.List[t.List[str]] = []
        self.answers = {
            "dpkg-query": (1, dpkg, "dpkg-query: no packages found matching x"),
            "apt-cache": (0, policy, ""),
            "postconf": (0, f"3.10.5\n{database}\n", ""),
            "dovecot": (0, "2.4.1-4 (7d8c0e5759)\n", ""),
        }

    def run(self, command: t.List[str]) -> t.Tuple[int, str, str]:
        self.asked.append(command)
        return self.answers[command[0]]

    def info(
        self,
        *packages: str,
        users: t.Tuple[str, ...] = (),
        parameters: t.Tuple[str, ...] = (),
        os_release: str = DEBIAN_12,
    ) -> t.Dict[str, t.Any]:
        return server_facts.ask(
            self.run, os_release, lambda name: name == "root", list(packages), list(users), parameters
        )


def test_mail_servers_that_give_way_to_postfix() -> None:
    def entry(name: str, status: str, provides: str = "") -> str:
        lines = [f"Package: {name}", f"Status: {status}", f"Provides: {provides}", "Description: mail-transport-agent"]
        return "\n".join(lines)

    status = [
        entry("postfix", "install ok installed", "mail-transport-agent"),
        entry("exim4-daemon-light", "install ok installed", "default-mta, mail-transport-agent"),
        entry("exim4-base", "install ok installed"),
        entry("msmtp-mta", "install ok installed", "mail-transport-agent (= 1)"),
        entry("nullmailer", "deinstall ok config-files", "mail-transport-agent"),
    ]
    assert server_facts.parse_other_mtas("\n\n".join(status) + "\n") == ["exim4-daemon-light", "msmtp-mta"]
    assert server_facts.parse_other_mtas("") == []


@pytest.mark.parametrize(
    ("package", "program"),
    [
        ("1:2.3.19.1+dfsg1-2.1+deb12u1", "2.3.19.1"),
        ("3.7.11-0+deb12u1", "3.7.11"),
        ("1:2.2.33.2-1ubuntu4.8", "2.2.33.2"),
        ("2:2.3.21.1-1+debian12", "2.3.21.1"),
        ("1:2.4.1+dfsg1+really2.3.21+dfsg1-1", "2.3.21"),
        ("3.10.6-1", "3.10.6"),
        ("2.3.19.1 (9b53102964)\n", "2.3.19.1"),
        ("2.4.1-4 (7d8c0e5759)\n", "2.4.1"),
        ("nonsense", None),
        (None, None),
    ],
)
def test_version(package: t.Optional[str], program: t.Optional[str]) -> None:
    assert server_facts.upstream(package) == program


def test_bare_server_has_the_candidates_versions() -> None:
    host = Host(policy=POLICY)
    info = host.info("postfix", "unknown-package", users=("root", "vmail"))
    assert info["distribution"] == {"id": "debian", "version_id": "12"}
    assert info["packages"] == {
        "postfix": {"installed": None, "candidate": "3.7.11-0+deb12u1"},
        "unknown-package": {"installed": None, "candidate": None},
    }
    assert info["missing"] == ["postfix", "unknown-package"]
    assert info["missing_users"] == ["vmail"]
    assert info["postfix"] == {
        "version": "3.7.11",
        "installed": False,
        "assumed": False,
        "default_database_type": "hash",
        "knows": [],
    }
    assert info["dovecot"] == {"version": "2.3.19.1", "installed": False, "assumed": False}
    assert not any(command[0] in ("postconf", "dovecot") for command in host.asked)


def test_bare_server_without_lists_has_the_releases_versions() -> None:
    info = Host().info("postfix")
    assert info["postfix"] == {
        "version": "3.7.11",
        "installed": False,
        "assumed": True,
        "default_database_type": "hash",
        "knows": [],
    }
    assert info["dovecot"] == {"version": "2.3.19.1", "installed": False, "assumed": True}
    assert info["openssl"] == {"version": "3.0.16", "installed": False, "assumed": True}


@pytest.mark.parametrize(
    ("package", "groups"),
    [
        ("1.1.1w-0+deb11u3", ["X25519", "prime256v1", "secp384r1"]),
        ("3.0.17-1~deb12u2", ["X25519", "prime256v1", "secp384r1"]),
        ("3.5.1-1", ["X25519MLKEM768", "X25519", "prime256v1", "secp384r1"]),
        ("4.0.0-1", ["X25519MLKEM768", "X25519", "prime256v1", "secp384r1"]),
    ],
)
def test_groups_that_openssl_knows(package: str, groups: t.List[str]) -> None:
    assert Host(f"openssl\tii \t{package}\n").info()["tls"]["groups"] == groups


def test_unknown_release_without_lists_has_no_version() -> None:
    info = Host().info(os_release="ID=arch\n")
    assert info["distribution"] == {"id": "arch", "version_id": ""}
    assert info["postfix"]["version"] is None
    assert info["postfix"]["default_database_type"] is None
    assert info["tls"]["groups"] == ["X25519", "prime256v1", "secp384r1"]


def test_what_is_installed_is_asked_itself_and_apt_is_not() -> None:
    host = Host(
        "postfix\tii \t3.10.5-0\ndovecot-core\thi \t1:2.4.1+dfsg1-6\nopenssl\tii \t3.5.1-1\n"
        "systemd\tii \t257.13-1~deb13u1\n",
        database="lmdb",
    )
    info = host.info("postfix")
    assert info["postfix"] == {
        "version": "3.10.5",
        "installed": True,
        "assumed": False,
        "default_database_type": "lmdb",
        "knows": [],
    }
    assert info["dovecot"] == {"version": "2.4.1", "installed": True, "assumed": False}
    assert info["openssl"] == {"version": "3.5.1", "installed": True, "assumed": False}
    assert info["systemd"] == {"version": "257.13", "installed": True, "assumed": False}
    assert info["missing"] == []
    assert [command[0] for command in host.asked] == ["dpkg-query", "postconf", "dovecot"]


@pytest.mark.parametrize(
    ("dpkg", "known", "chosen"),
    [
        ("", ["redis-server", "valkey-server"], "redis-server"),
        ("", ["valkey-server"], "valkey-server"),
        # as long as nobody has run apt-get update
        ("", [], "redis-server"),
        ("valkey-server\tii \t8.1.1\n", ["redis-server"], "valkey-server"),
        ("redis-server\tii \t5:8.0.2\nvalkey-server\tii \t8.1.1\n", [], "redis-server"),
    ],
)
def test_one_of_several_packages_is_enough(dpkg: str, known: t.List[str], chosen: str) -> None:
    wanted = "redis-server | valkey-server"
    host = Host(dpkg, "".join(f"{name}:\n  Installed: (none)\n  Candidate: 1\n" for name in known))
    info = host.info("postfix", wanted)
    assert list(info["packages"]) == ["postfix", chosen]
    assert info["missing"] == (["postfix"] if dpkg else ["postfix", chosen])
    # reading apt's lists takes long
    for command in host.asked:
        assert command[0] != "apt-cache" or ("valkey-server" in command) == (dpkg == "")


@pytest.mark.parametrize("status", ["un ", "rc ", "iF ", "iU ", "iHR", "iiR", "pn "])
def test_what_is_not_wholly_installed_is_missing(status: str) -> None:
    assert Host(f"postfix\t{status}\t3.7.11\n", POLICY).info("postfix")["missing"] == ["postfix"]


@pytest.mark.parametrize("status", ["ii ", "hi ", "it ", "iW "])
def test_what_only_waits_for_a_trigger_is_installed(status: str) -> None:
    host = Host(f"postfix\t{status}\t3.7.11\ndovecot-core\tii \t2.3\n")
    assert host.info("postfix")["missing"] == []


@pytest.mark.parametrize(
    ("version", "kind"), [("3.3.0", "hash"), ("3.10.6", "hash"), ("3.11", "lmdb"), ("3.12.1", "lmdb")]
)
def test_database_type_of_a_version(version: str, kind: str) -> None:
    assert server_facts.database_type(version) == kind


@pytest.mark.parametrize(
    ("version", "has"),
    [
        ("3.3.0", False),
        ("3.5.22", False),
        ("3.5.23", True),
        ("3.7.8", False),
        ("3.7.11", True),
        ("3.8.3", False),
        ("3.10.6", True),
    ],
)
def test_parameters_that_were_carried_back_into_older_branches(version: str, has: bool) -> None:
    assert server_facts.has_parameter(version, "smtpd_forbid_bare_newline") is has
    assert server_facts.has_parameter(version, "no_such_parameter") is False


def test_parameters() -> None:
    asked = ("smtpd_forbid_bare_newline", "no_such_parameter")
    assert Host(policy=POLICY).info(parameters=asked)["postfix"]["knows"] == ["smtpd_forbid_bare_newline"]
    host = Host("postfix\tii \t3.10.5-0\ndovecot-core\tii \t1\n")

    def run(command: t.List[str]) -> t.Tuple[int, str, str]:
        return (
            (0, "mail_version = 3\nno_such_parameter = yes\n", "")
            if command == ["postconf", "-d"]
            else Host.run(host, command)
        )

    host.run = run  # type: ignore[method-assign]
    assert host.info(parameters=asked)["postfix"]["knows"] == ["no_such_parameter"]


@pytest.mark.parametrize("name", ["-h", "postfix*", "Post Fix", ""])
def test_package_names_reach_no_program_unchecked(name: str) -> None:
    host = Host()
    with pytest.raises(server_facts.ServerError, match=re.escape(repr(name))):
        host.info(name)
    assert host.asked == []


def test_a_program_that_fails_is_quoted() -> None:
    host = Host("postfix\tii \t3.10.5-0\ndovecot-core\tii \t1\n")
    host.answers["postconf"] = (1, "", "postconf: fatal: no\n")
    with pytest.raises(server_facts.ServerError, match=r"`postconf -dh .*` failed \(1\): postconf: fatal: no$"):
        host.info()


def test_this_machine_is_read() -> None:
    identity, version = server_facts.parse_os_release(Path("/etc/os-release").read_text())
    assert identity
    assert "\n" not in identity + version
