# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The configuration for each supported release uses only options that its programs support (docs/versions.md)."""

import json
import os
import re
import subprocess
import sys
import typing as t

import pytest
from ansible_collections.port587.mail.plugins.module_utils._daemons import tls
from ansible_collections.port587.mail.plugins.module_utils._server.facts import RELEASES, newer_or_same
from repository import ROOT

pytest.importorskip("ansible.playbook")


#: Versions besides those of Postfix and Dovecot, as the releases came with them.
RSPAMD = {
    ("debian", "11"): "2.7",
    ("debian", "12"): "3.4",
    ("debian", "13"): "3.12.1",
    ("ubuntu", "18.04"): "1.6.6",
    ("ubuntu", "20.04"): "1.9.4",
    ("ubuntu", "22.04"): "2.7",
    ("ubuntu", "24.04"): "3.8.1",
    ("ubuntu", "26.04"): "3.8.1",
}

PLAY = """
- hosts: all
  gather_facts: false
  vars:
    mail_hostname: mail.example.com
    mail_domains: [example.com, example.org]
    # what comes with a version of its own
    mail_sni: "{{ ['mail.example.org'] if __common_server.postfix.version is version('3.4', '>=') else [] }}"
    certificates_key_type: both
    mail_training: true
    rspamd_dkim_selectors: [{name: one, type: rsa}, {name: two, type: ed25519}]
    at: "%(root)s/roles"
    overrides: "{{ lookup('fileglob', at ~ '/rspamd/templates/etc/rspamd/override.d/*.j2', wantlist=true) }}"
    written:
      postfix: "{{ lookup('template', at ~ '/postfix/templates/etc/postfix/main.cf.j2')
        ~ lookup('template', at ~ '/postfix/templates/etc/postfix/master.cf.j2') }}"
      dovecot: "{{ lookup('template', at ~ '/dovecot/templates/etc/dovecot/' ~ __dovecot_template) }}"
      rspamd: "{{ lookup('template', at ~ '/rspamd/templates/etc/rspamd/rspamd.conf.local.override.j2')
        ~ lookup('template', *overrides) }}"
  tasks:
    # for their variables
    - ansible.builtin.import_role: {name: port587.mail.postfix}
      when: false
    - ansible.builtin.import_role: {name: port587.mail.dovecot}
      when: false
    - ansible.builtin.import_role: {name: port587.mail.rspamd}
      when: false
    - port587.mail.check: {roles: [postfix, dovecot, rspamd], site: false}
    - ansible.builtin.copy:
        content: "{{ written | to_json }}"
        dest: "%(directory)s/{{ inventory_hostname }}"
        mode: "0600"
"""


class Row(t.NamedTuple):
    """Of the table."""

    program: str
    option: str
    since: str


def table() -> t.List[Row]:
    text = (ROOT / "docs/versions.md").read_text(encoding="utf-8")
    cells = [[cell.strip() for cell in line.split(" | ")] for line in text.splitlines() if line.startswith("| `")]
    return [Row(row[1].lower(), row[0].strip("| `"), row[2]) for row in cells]


def versions(release: t.Tuple[str, str]) -> t.Dict[str, str]:
    return {"postfix": RELEASES[release][0], "dovecot": RELEASES[release][1], "rspamd": RSPAMD[release]}


def server(release: t.Tuple[str, str]) -> t.Dict[str, t.Any]:
    """What server_info says of one."""
    have, openssl = versions(release), RELEASES[release][2]
    return {
        "openssl": {"version": openssl},
        "tls": {"ciphers": tls.CIPHERS, "groups": tls.groups(openssl)},
        "postfix": {"version": have["postfix"], "default_database_type": "hash", "knows": []},
        "dovecot": {"version": have["dovecot"]},
        "packages": {name: {"installed": version, "candidate": None} for name, version in have.items()},
        "memory": 4 * 2**30,
    }


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> t.Dict[t.Tuple[str, str], t.Dict[str, str]]:
    """The files of each program for each release, without their comments."""
    directory = tmp_path_factory.mktemp("written")
    (directory / "play.yml").write_text(PLAY % {"root": ROOT, "directory": directory}, encoding="utf-8")
    hosts = {"-".join(release): {"__common_server": server(release)} for release in RELEASES}
    inventory = {"all": {"hosts": hosts, "vars": {"ansible_connection": "local"}}}
    (directory / "hosts.json").write_text(json.dumps(inventory), encoding="utf-8")
    argv = [
        sys.executable,
        "-m",
        "ansible",
        "playbook",
        "-i",
        str(directory / "hosts.json"),
        str(directory / "play.yml"),
    ]
    done = subprocess.run(
        argv,
        check=False,
        cwd=str(ROOT),
        env=dict(os.environ, ANSIBLE_LOCAL_TEMP=str(directory), ANSIBLE_NOCOLOR="1"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        universal_newlines=True,
    )
    assert done.returncode == 0, done.stdout
    texts = {release: json.loads((directory / "-".join(release)).read_text(encoding="utf-8")) for release in RELEASES}
    return {
        release: {program: re.sub(r"^\s*#.*", "", text, flags=re.MULTILINE) for program, text in programs.items()}
        for release, programs in texts.items()
    }


def test_the_table_is_read() -> None:
    assert {row.program for row in table()} == {"postfix", "dovecot", "rspamd"}


@pytest.mark.parametrize("row", table(), ids=lambda row: row.option)
def test_an_option_is_written_only_where_it_is_known(
    row: Row, written: t.Dict[t.Tuple[str, str], t.Dict[str, str]]
) -> None:
    has = {release: row.option in written[release][row.program] for release in RELEASES}
    knows = {release: newer_or_same(versions(release)[row.program], row.since) for release in RELEASES}
    assert [release for release in RELEASES if has[release] and not knows[release]] == []
    # a row about nothing would prove nothing
    assert any(has.values())


def test_every_parameter_of_postfix_was_looked_up(written: t.Dict[t.Tuple[str, str], t.Dict[str, str]]) -> None:
    looked_up = set(re.findall(r"`([A-Za-z0-9_]+)(?: = )?`", (ROOT / "docs/versions.md").read_text(encoding="utf-8")))
    for programs in written.values():
        names = re.findall(r"^([a-z]\w+) = ?|^  -o \{?([a-z]\w+)=", programs["postfix"], re.MULTILINE)
        assert {first or second for first, second in names} - looked_up == set()
