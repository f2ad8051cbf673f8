# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The configuration for each supported release uses only options that its programs support (docs/versions.md)."""

import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
import typing as t
from unittest import mock

import pytest
from ansible_collections.port587.mail.plugins.module_utils._backup import restic, restore, save
from ansible_collections.port587.mail.plugins.module_utils._certificate import acme, certbot
from ansible_collections.port587.mail.plugins.module_utils._daemons import hardening, tls
from ansible_collections.port587.mail.plugins.module_utils._server.facts import RELEASES, newer_or_same
from repository import ROOT

pytest.importorskip("ansible.playbook")

Release = t.Tuple[str, str]

PLAY = """
- hosts: all
  gather_facts: false
  vars:
    mail_hostname: mail.example.com
    mail_domains: [example.com, example.org]
    # what comes with a version of its own
    mail_sni: "{{ ['mail.example.org'] if __common_server.postfix.version is version('3.4', '>=') else [] }}"
    certificates_key_type: both
    mail_webmail: true
    mail_spam_filter: true
    rspamd_nameservers: [192.0.2.1]
    rspamd_block_lists: true
    rspamd_allow: [{from: example.net}]
    mail_resolver: true
    postfix_greylisting: true
    postfix_mta_sts: true
    postfix_srs: true
    postfix_relays: [{host: relay.example.net, username: u, password: p, port: 465}]
    unbound_forwarders: [192.0.2.1]
    rspamd_dkim_selectors: [{name: one, type: rsa}, {name: two, type: ed25519}]
    at: "%(root)s/roles"
    overrides: "{{ lookup('fileglob', at ~ '/rspamd/templates/etc/rspamd/override.d/*.j2', wantlist=true) }}"
    openssl: "{{ [at ~ '/postfix/templates/etc/postfix/openssl.cnf.j2'] * (__postfix_openssl | bool | int)
      + [at ~ '/dovecot/templates/etc/dovecot/openssl.cnf.j2'] * (__dovecot_openssl | bool | int) }}"
    written:
      postfix: "{{ lookup('template', at ~ '/postfix/templates/etc/postfix/main.cf.j2')
        ~ lookup('template', at ~ '/postfix/templates/etc/postfix/master.cf.j2') }}"
      dovecot: "{{ lookup('template', at ~ '/dovecot/templates/etc/dovecot/' ~ __dovecot_template) }}"
      rspamd: "{{ lookup('template', at ~ '/rspamd/templates/etc/rspamd/rspamd.conf.local.override.j2')
        ~ lookup('template', *overrides) }}"
      nginx: "{{ lookup('template', at ~ '/autoconfig/templates/etc/nginx/sites-enabled/zz-port587.conf.j2') }}"
      unbound: "{{ lookup('template', at ~ '/unbound/templates/etc/unbound/port587.conf.j2') }}"
      redis: "{{ lookup('template', at ~ '/rspamd/templates/etc/port587/redis.conf.j2') }}"
      openssl: "{{ lookup('template', *openssl) if openssl else '' }}"
      systemd: "{{ lookup('template', *units) }}"
      sysctl: "{{ lookup('template', at ~ '/dovecot/templates/etc/sysctl.d/10-port587-dovecot.conf.j2') }}"
      fail2ban: "{{ lookup('template', at ~ '/bans/templates/etc/fail2ban/jail.d/port587.conf.j2')
        ~ lookup('template', at ~ '/bans/templates/etc/fail2ban/fail2ban.d/port587.conf.j2') }}"
      postsrsd: "{{ lookup('template', at ~ '/postfix/templates/etc/default/postsrsd.j2')
        ~ lookup('template', at ~ '/postfix/templates/etc/postsrsd.conf.j2') }}"
      postgrey: "{{ lookup('template', at ~ '/postfix/templates/etc/default/postgrey.j2') }}"
      postfix-mta-sts-resolver: "{{ lookup('template', at ~ '/postfix/templates/etc/mta-sts-daemon.yml.j2') }}"
  tasks:
    # for their variables
%(imports)s
    - port587.mail.check: {roles: [postfix, dovecot, rspamd, unbound, autoconfig], site: false}
    - ansible.builtin.copy:
        content: "{{ written | to_json }}"
        dest: "%(directory)s/{{ inventory_hostname }}"
        mode: "0600"
"""

DOCUMENT = (ROOT / "docs/versions.md").read_text(encoding="utf-8")


def _names(pattern: str) -> t.Callable[[str], t.Set[str]]:
    """The options in a text: what the groups of the pattern match."""

    def find(text: str) -> t.Set[str]:
        return {group for match in re.finditer(pattern, text, re.MULTILINE) for group in match.groups() if group}

    return find


def _in_rspamd(text: str) -> t.Set[str]:
    # Left out are: strings, which hold names of domains and rules; modules that are switched off; our own sections.
    plain = re.sub(r"^\w+ \{ enabled = false; \}$", "", re.sub(r'"[^"]*"', '""', text), flags=re.MULTILINE)
    found = _names(r"(?<![\w.])([a-z][\w-]*)[ \t]*(?:\"\"[ \t]*)?(?:=|\{|\[)")(plain)
    return found - {"port587", "forged-headers", "people_here", "machine_here", "spam_filter", "spamhaus"}


def _in_nginx(text: str) -> t.Set[str]:
    without_strings = re.sub(r"\"[^\"]*\"|'[^']*'", '""', text)
    return _names(r"(?:\A|[;{}])\s*([a-z]\w+)(?=[\s;{])")(without_strings)


#: How the options in a program's files are found.
OPTIONS: t.Dict[str, t.Callable[[str], t.Set[str]]] = {
    "postfix": _names(r"^([a-z]\w+) = ?|^  -o \{?([a-z]\w+)="),
    "dovecot": _names(r"^\s*([a-z]\w*)(?:[ :][^\n={]*)?(?:=|\{)"),
    "rspamd": _in_rspamd,
    "nginx": _in_nginx,
    "unbound": _names(r"^\s*([a-z][a-z-]+):"),
    "redis": _names(r"^([a-z-]+) "),
    "openssl": _names(r"^(\w+) = "),
    "systemd": _names(r"^([A-Z]\w+)="),
    "sysctl": _names(r"^([a-z][\w.]+) = "),
    "fail2ban": _names(r"^([a-z][a-z.]+) = "),
    "postsrsd": _names(r"^([a-z-]+) = |^([A-Z_]+)="),
    "postgrey": _names(r"--([a-z-]+)|^([A-Z_]+)="),
    "postfix-mta-sts-resolver": _names(r"^\s*(\w+):"),
    "certbot": _names(r"--([a-z-]+)"),
    "restic": _names(r"--([a-z-]+)"),
}


class Row(t.NamedTuple):
    """Of the table of options."""

    program: str
    option: str
    since: str


def cells(heading: str) -> t.List[t.List[str]]:
    """The rows of the table whose first column has this heading."""
    body = re.search(rf"^\| {heading} \|.*\n\|---.*\n((?:\|.*\n)+)", DOCUMENT, re.MULTILINE)
    assert body, heading
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in body.group(1).splitlines()]


def table() -> t.List[Row]:
    return [Row(row[1].lower(), row[0].strip("` "), row[2]) for row in cells("Option as written")]


def programs_of_releases() -> t.Dict[Release, t.Dict[str, str]]:
    """The table of versions: release -> program -> version. Unknown ones are left out."""
    (line,) = re.findall(r"^\| Release \|(.*)\|$", DOCUMENT, re.MULTILINE)
    names = [name.strip().lower() for name in line.split("|")]
    found = {}
    for row in cells("Release"):
        distribution, number = row[0].lower().split(" ")
        found[distribution, number] = {name: cell for name, cell in zip(names, row[1:]) if cell != "?"}
    return found


def known(program: str, version: str) -> t.Set[str]:
    """The options of a program of this version that were looked up."""
    found = {
        row.option.split(" ")[0].rstrip("=")
        for row in table()
        if row.program == program and newer_or_same(version, row.since)
    }
    for title, body in re.findall(r"^### (.+)\n((?:(?!^#).*\n)*)", DOCUMENT, re.MULTILINE):
        name, _, bound = title.lower().partition(" ")
        word, _, limit = bound.partition(" ")
        in_range = not bound or newer_or_same(version, limit) == (word == "since")
        if name == program and in_range:
            found.update(re.findall(r"`([^`]+)`", body))
    return found


VERSIONS = programs_of_releases()
#: Stands for a version that is not in the table.
NEWEST = "9999"


def server(release: Release) -> t.Dict[str, t.Any]:
    """What server_info says of one."""
    have, openssl = VERSIONS[release], RELEASES[release][2]
    packages = {**have, "redis-server": "5"}
    return {
        "openssl": {"version": openssl},
        "tls": {"ciphers": tls.CIPHERS, "groups": tls.groups(openssl)},
        "postfix": {"version": have["postfix"], "default_database_type": "hash", "knows": []},
        "dovecot": {"version": have["dovecot"]},
        "systemd": {"version": RELEASES[release][3], "mounts": True, "filters": True},
        "packages": {name: {"installed": version, "candidate": None} for name, version in packages.items()},
        "memory": 4 * 2**30,
    }


def certbot_options(version: str) -> str:
    """All options that the collection gives to a certbot of this version."""
    numbers = tuple(int(number) for number in version.split("."))
    words: t.List[str] = []
    for challenge in ("http", "nsupdate", "hook"):
        settings = acme.Settings(
            ["mail.example.com"], "ecdsa", "https://acme.example.com/", "eve@example.com", challenge
        )
        for force in (False, True):
            words += certbot._command(settings, settings.names, [], force, numbers)
    return " ".join(words + certbot._new_address(numbers))


def restic_options(version: str) -> str:
    """The command lines that the backup gives to a restic of this version."""
    numbers = tuple(int(number) for number in version.split("."))
    with tempfile.TemporaryDirectory() as root:
        return "\n".join(_restic_commands(numbers, root))


def _restic_commands(numbers: t.Tuple[int, ...], root: str) -> t.List[str]:
    settings = {
        "repository": "sftp:eve@backup.example.net:/mail", "password": "p", "environment": {}, "ssh_key": "k",
        "known_hosts": "x", "host": "mail.example.com", "keep": {"daily": 7}, "upload_limit": 100,
        "paths": [{"path": root, "as": "mail"}, {"path": "/etc", "as": "plain", "except": ["x"]}],
    }  # fmt: skip
    said: t.List[str] = []

    class Recorder(restic.Restic):
        def run(self, *arguments: str, **options: t.Any) -> str:
            said.append(" ".join(arguments))
            return '{"id": "1"}' if arguments[0] == "cat" else "[]"

    patches = [(restic, "_version", lambda: numbers), (restic, "CACHE", root), (restic, "RUN", root)]
    with contextlib.ExitStack() as stack:
        for module, name, value in [*patches, (save, "write_json", lambda *_: None)]:
            stack.enter_context(mock.patch.object(module, name, value))
        recorder = Recorder(settings)
        with recorder.command() as (argv, _environment):
            said.append(" ".join(argv))
        save.prepare(recorder)
        save._save(recorder, [], 20000)
        save._tidy(recorder, [{"at": 1.0, "tags": ["mails=20000"]}, {"at": 2.0, "tags": ["mails=3"]}])
        with restore.scratch(recorder, {"id": "1"}, root + "/example.com/eve"):
            pass
    return said


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> t.Dict[Release, t.Dict[str, str]]:
    """The files of each program for each release, without their comments."""
    directory = tmp_path_factory.mktemp("written")
    roles = sorted(file.parts[-3] for file in ROOT.glob("roles/*/tasks/main.yml"))
    imports = "\n".join(f"    - import_role: {{name: port587.mail.{role}}}\n      when: false" for role in roles)
    (directory / "play.yml").write_text(
        PLAY % {"root": ROOT, "directory": directory, "imports": imports}, encoding="utf-8"
    )
    hosts = {"-".join(release): {"__common_server": server(release)} for release in RELEASES}
    units = [str(unit) for unit in ROOT.glob("roles/*/*/etc/systemd/system/**/*") if unit.is_file()]
    inventory = {"all": {"hosts": hosts, "vars": {"ansible_connection": "local", "units": units}}}
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
    for release, programs in texts.items():
        programs["certbot"] = certbot_options(VERSIONS[release].get("certbot", NEWEST))
        programs["restic"] = restic_options(VERSIONS[release].get("restic", NEWEST))
    return {
        release: {program: re.sub(r"^\s*#.*", "", text, flags=re.MULTILINE) for program, text in programs.items()}
        for release, programs in texts.items()
    }


def test_the_tables_are_read() -> None:
    assert {row.program for row in table()} <= set(OPTIONS)
    assert len(table()) > 10
    assert set(VERSIONS) == set(RELEASES)
    named = {
        release: tuple(VERSIONS[release][one] for one in ("postfix", "dovecot", "openssl", "systemd"))
        for release in RELEASES
    }
    assert named == RELEASES


def test_the_table_has_the_versions_of_systemd_that_the_code_knows() -> None:
    rows = {row.option.rstrip("="): int(row.since) for row in table() if row.program == "systemd"}
    assert rows == hardening.SINCE


@pytest.mark.parametrize("row", table(), ids=lambda row: row.option)
def test_an_option_is_written_only_where_it_is_known(row: Row, written: t.Dict[Release, t.Dict[str, str]]) -> None:
    has = {release: row.option in written[release][row.program] for release in RELEASES}
    knows = {release: newer_or_same(VERSIONS[release][row.program], row.since) for release in RELEASES}
    assert [release for release in RELEASES if has[release] and not knows[release]] == []
    # a row about an option that no file has would prove nothing
    assert any(has.values())


@pytest.mark.parametrize("release", RELEASES, ids="-".join)
def test_every_option_was_looked_up(release: Release, written: t.Dict[Release, t.Dict[str, str]]) -> None:
    texts, have = written[release], VERSIONS[release]
    found = {program: find(texts[program]) for program, find in OPTIONS.items()}
    # only some releases need a configuration of OpenSSL
    assert [program for program in OPTIONS if not found[program]] in ([], ["openssl"])
    unknown = {program: sorted(found[program] - known(program, have.get(program, NEWEST))) for program in OPTIONS}
    assert {program: names for program, names in unknown.items() if names} == {}


def test_only_dovecot_2_2_needs_the_script_against_second_copies(written: t.Dict[Release, t.Dict[str, str]]) -> None:
    found = {
        release: re.findall(r"sieve_before(2?) = file:(\S+);", written[release]["dovecot"]) for release in RELEASES
    }
    junk = "/etc/dovecot/junk.sieve"
    assert found.pop(("ubuntu", "18.04")) == [("", "/etc/dovecot/once.sieve"), ("2", junk)]
    others = {tuple(scripts) for release, scripts in found.items() if VERSIONS[release]["dovecot"].startswith("2.3")}
    assert others == {(("", junk),)}
