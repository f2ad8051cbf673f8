# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) The port587.mail contributors
"""Role postfix in cases that no scenario has: a Postfix before 3.4, a server with little memory."""

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


#: A host for each case: its main.cf, or why the role refuses it
PLAY = """
- hosts: all
  gather_facts: false
  vars:
    mail_hostname: mail.example.com
  tasks:
    # for its variables
    - ansible.builtin.import_role: {name: port587.mail.postfix}
      when: false
    - block:
        - port587.mail.check: {roles: [postfix], site: false}
        - port587.mail.check: {roles: [postfix], on_server: true}
        - ansible.builtin.copy:
            content: "{{ lookup('ansible.builtin.template', template) }}"
            dest: "%(directory)s/{{ inventory_hostname }}.cf"
            mode: "0600"
          vars:
            template: "%(root)s/roles/postfix/templates/etc/postfix/main.cf.j2"
      rescue:
        - ansible.builtin.copy:
            content: "{{ ansible_failed_result.msg }}"
            dest: "%(directory)s/{{ inventory_hostname }}.refused"
            mode: "0600"
"""


#: What the server says of the packages: that all are there.
ALL = {"postfix": {"installed": "1", "candidate": None}}


class Case(t.NamedTuple):
    """A server, and the variables of its host."""

    version: str
    values: t.Dict[str, t.Any]
    packages: t.Any = ALL
    mebibytes: int = 4000
    others: t.Sequence[str] = ()
    openssl: str = "3.5.1"

    def variables(self) -> t.Dict[str, t.Any]:
        server = {
            "postfix": {"version": self.version, "default_database_type": "hash", "knows": {}},
            "tls": {"ciphers": ["ECDHE-RSA-AES128-GCM-SHA256"], "groups": tls.groups(self.openssl)},
            "packages": self.packages,
            "other_mtas": self.others,
            "missing_files": [],
            "memory": self.mebibytes * 1024 * 1024,
        }
        return {**self.values, "__common_server": server}


CURVES = {"tls_eecdh_auto_curves": "X25519, prime256v1, secp384r1"}
GROUPS: t.List[t.Tuple[str, str, t.Dict[str, str]]] = [
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
]
MEMORY: t.List[t.Tuple[int, t.Optional[str], str]] = [
    (256, "15", "4"),
    (448, "18", "5"),
    (980, "40", "12"),
    (2400, None, "30"),
]
PEOPLE = [{"address": "Printer@example.com", "send_only": True}, {"address": "eve@example.com"}]

CASES = {
    "sni_330": Case("3.3.0", {"mail_sni": ["mail.example.org"]}),
    "exim": Case("3.10.5", {}, others=["exim4-daemon-light"]),
    "keys_330": Case("3.3.0", {"certificates_key_type": "both"}),
    "keys_340": Case("3.4.0", {"certificates_key_type": "both", "mail_sni": ["mail.example.org"]}),
    **{f"groups_{version}_{openssl}": Case(version, {}, openssl=openssl) for version, openssl, _expected in GROUPS},
    "mta_sts_330": Case(
        "3.3.0",
        {"postfix_mta_sts": True},
        packages={**ALL, "postfix-mta-sts-resolver": {"installed": None, "candidate": None}},
    ),
    "mta_sts_and_dane": Case("3.10.13", {"postfix_mta_sts": True, "postfix_dane": True}),
    **{f"memory_{mebibytes}": Case("3.10.13", {}, mebibytes=mebibytes) for mebibytes, *_expected in MEMORY},
    **{
        f"memory_{mebibytes}_own": Case("3.10.13", {"postfix_main": {"default_process_limit": 50}}, mebibytes=mebibytes)
        for mebibytes, *_expected in MEMORY
    },
    "root_at_printer": Case("3.7.0", {"mail_accounts": PEOPLE, "postfix_root_address": "printer@example.com"}),
    "mailboxes": Case("3.7.0", {"mail_accounts": PEOPLE[1:]}),
    "mailboxes_unknown": Case("3.7.0", {"mail_accounts": PEOPLE[1:], "postfix_quota_policy": ""}),
}


class Played(t.NamedTuple):
    """Parameters of main.cf by case, or what the role said instead."""

    parameters: t.Dict[str, t.Dict[str, str]]
    refused: t.Dict[str, str]


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Played:
    """One play for all cases: a start of Ansible costs more than ten hosts."""
    directory = tmp_path_factory.mktemp("postfix")
    (directory / "play.yml").write_text(PLAY % {"root": ROOT, "directory": directory}, encoding="utf-8")
    hosts = {name: case.variables() for name, case in CASES.items()}
    inventory = {"all": {"hosts": hosts, "vars": {"ansible_connection": "local"}}}
    (directory / "hosts.json").write_text(json.dumps(inventory), encoding="utf-8")
    argv = [sys.executable, "-m", "ansible", "playbook", "-i", str(directory / "hosts.json")]
    done = subprocess.run(
        [*argv, str(directory / "play.yml")],
        check=False,
        cwd=str(ROOT),
        env=dict(os.environ, ANSIBLE_LOCAL_TEMP=str(directory), ANSIBLE_NOCOLOR="1", ANSIBLE_FORKS="4"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        universal_newlines=True,
    )
    assert done.returncode == 0, done.stdout
    found = Played(
        {file.stem: parameters(file) for file in directory.glob("*.cf")},
        {file.stem: " ".join(file.read_text().split()) for file in directory.glob("*.refused")},
    )
    # each is in one of the two: a case that is refused has written nothing
    assert sorted([*found.parameters, *found.refused]) == sorted(CASES), done.stdout
    return found


def parameters(file: pathlib.Path) -> t.Dict[str, str]:
    lines = [line.split(" = ", 1) for line in file.read_text().splitlines() if " = " in line]
    return {line[0]: line[1] for line in lines}


def test_a_certificate_for_each_name_is_refused(played: Played) -> None:
    said = "mail_sni: mail.example.org: Postfix 3.3.0 has one certificate for all names"
    assert said in played.refused["sni_330"]


def test_another_mail_server_is_not_removed(played: Played) -> None:
    assert "apt: would remove exim4-daemon-light to install postfix;" in played.refused["exim"]


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        (
            "keys_330",
            {
                "smtpd_tls_cert_file": "/etc/port587/tls/rsa.pem",
                "smtpd_tls_key_file": "$smtpd_tls_cert_file",
                "smtpd_tls_eccert_file": "/etc/port587/tls/combined.pem",
                "smtpd_tls_eckey_file": "$smtpd_tls_eccert_file",
            },
        ),
        ("keys_340", {"smtpd_tls_chain_files": "/etc/port587/tls/combined.pem, /etc/port587/tls/rsa.pem"}),
    ],
)
def test_both_kinds_of_key(played: Played, case: str, expected: t.Dict[str, str]) -> None:
    names = ("smtpd_tls_chain_files", "_cert_file", "_key_file", "_eccert_file", "_eckey_file")
    assert {name: value for name, value in played.parameters[case].items() if name.endswith(names)} == expected


@pytest.mark.parametrize(("version", "openssl", "expected"), GROUPS)
def test_groups_for_key_exchange(played: Played, version: str, openssl: str, expected: t.Dict[str, str]) -> None:
    found = played.parameters[f"groups_{version}_{openssl}"]
    names = ("tls_ssl_options", "tls_config_", "tls_eecdh_", "tls_ffdhe_")
    assert {name: value for name, value in found.items() if name.startswith(names)} == expected


def test_a_program_that_the_release_has_no_package_of(played: Played) -> None:
    said = "postfix_mta_sts: this release has no package postfix-mta-sts-resolver; set it to false"
    assert said in played.refused["mta_sts_330"]


def test_a_policy_does_not_outdo_a_key_in_dns(played: Played) -> None:
    assert "postfix_mta_sts: postfix_dane is on, too" in played.refused["mta_sts_and_dane"]


@pytest.mark.parametrize(("mebibytes", "processes", "of_one_address"), MEMORY)
def test_memory_bounds_the_processes(
    played: Played, mebibytes: int, processes: t.Optional[str], of_one_address: str
) -> None:
    found = played.parameters[f"memory_{mebibytes}"]
    assert found.get("default_process_limit") == processes
    assert found["smtpd_client_connection_count_limit"] == of_one_address
    # who knows better
    assert played.parameters[f"memory_{mebibytes}_own"]["default_process_limit"] == "50"


def test_a_send_only_account_gets_no_mail_of_the_machine(played: Played) -> None:
    said = "postfix_root_address: 'printer@example.com' is send_only and receives nothing; write another address"
    assert said in played.refused["root_at_printer"]


def test_who_knows_no_mailboxes_is_not_asked(played: Played) -> None:
    for case, asked in (("mailboxes", True), ("mailboxes_unknown", False)):
        restrictions = played.parameters[case]["smtpd_recipient_restrictions"]
        assert ("unix:port587/recipients" in restrictions) is asked
