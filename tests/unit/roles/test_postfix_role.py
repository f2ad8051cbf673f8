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
from ansible_collections.port587.mail.plugins.module_utils._daemons import tls
from repository import ROOT

pytest.importorskip("ansible.playbook")


PLAY = """
- hosts: localhost
  gather_facts: false
  vars:
    mail_hostname: mail.example.com
    __common_server:
      postfix: {version: "%(version)s", default_database_type: hash, knows: {}}
      tls: {ciphers: [ECDHE-RSA-AES128-GCM-SHA256], groups: %(groups)s}
      packages: %(packages)s
      other_mtas: %(others)s
      missing_files: []
      memory: %(memory)d
  tasks:
    # for its variables
    - ansible.builtin.import_role: {name: port587.mail.postfix}
      when: false
    - port587.mail.check: {roles: [postfix], site: false}
    - port587.mail.check: {roles: [postfix], on_server: true}
    - ansible.builtin.copy:
        content: "{{ lookup('ansible.builtin.template', '%(root)s/roles/postfix/templates/etc/postfix/main.cf.j2') }}"
        dest: "%(directory)s/main.cf"
        mode: "0600"
"""


#: What the server says of the packages: that all are there.
ALL = {"postfix": {"installed": "1", "candidate": None}}


def play(
    directory: pathlib.Path,
    version: str,
    packages: t.Any = ALL,
    mebibytes: int = 4000,
    others: t.Sequence[str] = (),
    openssl: str = "3.5.1",
    **values: t.Any,
) -> "subprocess.CompletedProcess[str]":
    path = directory / "play.yml"
    said = {
        "version": version,
        "packages": json.dumps(packages),
        "memory": mebibytes * 1024 * 1024,
        "groups": json.dumps(tls.groups(openssl)),
        "others": json.dumps(others),
    }
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
    assert "mail_sni: mail.example.org: Postfix 3.3.0 has one certificate for all names" in said
    # before anything changes
    assert not (tmp_path / "main.cf").exists()


def test_another_mail_server_is_not_removed(tmp_path: pathlib.Path) -> None:
    played = play(tmp_path, "3.10.5", others=["exim4-daemon-light"])
    assert played.returncode != 0
    assert "apt: would remove exim4-daemon-light to install postfix;" in " ".join(played.stdout.split())
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


CURVES = {"tls_eecdh_auto_curves": "X25519, prime256v1, secp384r1"}


@pytest.mark.parametrize(
    ("version", "openssl", "expected"),
    [
        ("3.3.0", "1.1.1", {"tls_ssl_options": "0x40000000", **CURVES}),
        ("3.5.25", "1.1.1", {"tls_ssl_options": "NO_RENEGOTIATION", **CURVES}),
        ("3.7.11", "3.0.16", {"tls_ssl_options": "NO_RENEGOTIATION", **CURVES}),
        ("3.8.6", "3.0.13", {"tls_ssl_options": "NO_RENEGOTIATION", "tls_ffdhe_auto_groups": "", **CURVES}),
        # an older Postfix with a newer OpenSSL would take no empty list
        ("3.9.1", "3.5.1", {"tls_ssl_options": "NO_RENEGOTIATION", "tls_ffdhe_auto_groups": "", **CURVES}),
        ("3.10.13", "3.4.1", {"tls_ssl_options": "NO_RENEGOTIATION", "tls_ffdhe_auto_groups": "", **CURVES}),
        (
            "3.10.13",
            "3.5.1",
            {
                "tls_ssl_options": "NO_RENEGOTIATION",
                "tls_config_file": "/etc/postfix/openssl.cnf",
                "tls_config_name": "postfix",
                "tls_eecdh_auto_curves": "",
                "tls_ffdhe_auto_groups": "",
            },
        ),
    ],
)
def test_groups_for_key_exchange(
    tmp_path: pathlib.Path, version: str, openssl: str, expected: t.Dict[str, str]
) -> None:
    played = play(tmp_path, version, openssl=openssl)
    assert played.returncode == 0, played.stdout
    names = ("tls_ssl_options", "tls_config_", "tls_eecdh_", "tls_ffdhe_")
    assert {name: value for name, value in parameters(tmp_path).items() if name.startswith(names)} == expected


def test_a_program_that_the_release_has_no_package_of(tmp_path: pathlib.Path) -> None:
    packages = {**ALL, "postfix-mta-sts-resolver": {"installed": None, "candidate": None}}
    played = play(tmp_path, "3.3.0", packages, postfix_mta_sts=True)
    assert played.returncode != 0
    assert "postfix_mta_sts: this release has no package postfix-mta-sts-resolver; set it to false" in " ".join(
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


def test_a_send_only_account_gets_no_mail_of_the_machine(tmp_path: pathlib.Path) -> None:
    people = [{"address": "Printer@example.com", "send_only": True}, {"address": "eve@example.com"}]
    played = play(tmp_path, "3.7.0", mail_accounts=people, postfix_root_address="printer@example.com")
    assert played.returncode != 0
    # ansible-core 2.16 doubles a quote within quotes
    said = " ".join(played.stdout.replace("''", "'").split())
    assert (
        "postfix_root_address: 'printer@example.com' is send_only and receives nothing; write another address" in said
    )


def test_who_knows_no_mailboxes_is_not_asked(tmp_path: pathlib.Path) -> None:
    for values, asked in (({}, True), ({"postfix_quota_policy": ""}, False)):
        played = play(tmp_path, "3.7.0", mail_accounts=[{"address": "eve@example.com"}], **values)
        assert played.returncode == 0, played.stdout
        assert ("unix:port587/recipients" in parameters(tmp_path)["smtpd_recipient_restrictions"]) is asked
