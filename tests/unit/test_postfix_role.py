# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) The port587.mail contributors
"""What the role postfix does with what no scenario has: a Postfix before 3.4, a server with little memory."""

import json
import os
import pathlib
import subprocess
import sys
import typing as t

import pytest

pytest.importorskip("ansible.playbook")

ROOT = pathlib.Path(__file__).resolve().parents[2]

PLAY = """
- hosts: localhost
  gather_facts: false
  vars:
    mail_hostname: mail.example.com
    port587_server:
      postfix: {version: "%(version)s", default_database_type: hash, knows: {}}
      packages: %(packages)s
      missing_files: []
      memory: %(memory)d
  tasks:
    - ansible.builtin.include_role:
        name: port587.mail.postfix
        tasks_from: check
        public: true
    - ansible.builtin.include_role:
        name: port587.mail.postfix
        tasks_from: check_server
    - ansible.builtin.copy:
        content: "{{ lookup('ansible.builtin.template', '%(root)s/roles/postfix/templates/etc/postfix/main.cf.j2') }}"
        dest: "%(directory)s/main.cf"
        mode: "0600"
"""


#: What the server says of the packages: that all are there.
ALL = {"postfix": {"installed": "1", "candidate": None}}


def play(
    directory: pathlib.Path, version: str, packages: t.Any = ALL, mebibytes: int = 4000, **values: t.Any
) -> "subprocess.CompletedProcess[str]":
    path = directory / "play.yml"
    said = {"version": version, "packages": json.dumps(packages), "memory": mebibytes * 1024 * 1024}
    path.write_text(PLAY % dict(said, directory=directory, root=ROOT))
    argv = [sys.executable, "-m", "ansible", "playbook", "-i", "localhost,", "-c", "local", "-e", json.dumps(values)]
    return subprocess.run(
        [*argv, str(path)],
        check=False,
        cwd=str(ROOT),
        env=dict(os.environ, ANSIBLE_LOCAL_TEMP=str(directory), ANSIBLE_NOCOLOR="1"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        universal_newlines=True,
    )


def test_a_certificate_for_each_name_is_refused(tmp_path: pathlib.Path) -> None:
    played = play(tmp_path, "3.3.0", mail_sni=["mail.example.org"])
    said = " ".join(played.stdout.split())
    assert played.returncode != 0
    assert (
        "postfix_sni (by default mail_sni): mail.example.org: Postfix 3.3.0 has one certificate for all names" in said
    )
    # before anything changes
    assert not (tmp_path / "main.cf").exists()


def parameters(directory: pathlib.Path) -> t.Dict[str, str]:
    lines = [line.split(" = ", 1) for line in (directory / "main.cf").read_text().splitlines() if " = " in line]
    return {line[0]: line[1] for line in lines}


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        (
            "3.3.0",
            {
                "smtpd_tls_cert_file": "/etc/port587/tls/rsa.pem",
                "smtpd_tls_key_file": "$smtpd_tls_cert_file",
                "smtpd_tls_eccert_file": "/etc/port587/tls/combined.pem",
                "smtpd_tls_eckey_file": "$smtpd_tls_eccert_file",
            },
        ),
        ("3.4.0", {"smtpd_tls_chain_files": "/etc/port587/tls/combined.pem, /etc/port587/tls/rsa.pem"}),
    ],
)
def test_both_kinds_of_key(tmp_path: pathlib.Path, version: str, expected: t.Dict[str, str]) -> None:
    values = {"mail_sni": ["mail.example.org"]} if version != "3.3.0" else {}
    played = play(tmp_path, version, certificates_key_type="both", **values)
    assert played.returncode == 0, played.stdout
    names = ("smtpd_tls_chain_files", "_cert_file", "_key_file", "_eccert_file", "_eckey_file")
    assert {name: value for name, value in parameters(tmp_path).items() if name.endswith(names)} == expected


def test_a_program_that_the_release_has_no_package_of(tmp_path: pathlib.Path) -> None:
    packages = {**ALL, "postfix-mta-sts-resolver": {"installed": None, "candidate": None}}
    played = play(tmp_path, "3.3.0", packages, postfix_mta_sts=True)
    assert played.returncode != 0
    assert "postfix_mta_sts: this release has no package of the program that it needs" in " ".join(
        played.stdout.split()
    )


def test_a_policy_does_not_outdo_a_key_in_dns(tmp_path: pathlib.Path) -> None:
    played = play(tmp_path, "3.10.13", postfix_mta_sts=True, postfix_dane=True)
    assert played.returncode != 0
    assert "postfix_mta_sts: postfix_dane is on, too" in played.stdout


@pytest.mark.parametrize(
    ("mebibytes", "processes", "of_one_address"),
    [(256, "15", "4"), (448, "18", "5"), (980, "40", "12"), (2400, None, "30")],
)
def test_memory_bounds_the_processes(
    tmp_path: pathlib.Path, mebibytes: int, processes: t.Optional[str], of_one_address: str
) -> None:
    played = play(tmp_path, "3.10.13", mebibytes=mebibytes)
    assert played.returncode == 0, played.stdout
    found = parameters(tmp_path)
    assert found.get("default_process_limit") == processes
    assert found["smtpd_client_connection_count_limit"] == of_one_address
    # who knows better
    played = play(tmp_path, "3.10.13", mebibytes=mebibytes, postfix_main={"default_process_limit": 50})
    assert played.returncode == 0, played.stdout
    assert parameters(tmp_path)["default_process_limit"] == "50"
