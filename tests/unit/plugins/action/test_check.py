# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""port587.mail.check reports all mistakes in a site's variables at once, and none for a correct site."""

from __future__ import annotations

import functools
import inspect
import pathlib
import typing as t

import pytest
from repository import ROOT

pytest.importorskip("ansible.plugins.action")

from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from ansible_collections.port587.mail.plugins.action.check import ActionModule
from ansible_collections.port587.mail.plugins.plugin_utils import _variables

SITE = {
    "mail_hostname": "mail.example.com",
    "mail_domains": ["example.com"],
    # the role backup has no default for these
    "backup_repository": "/mnt/disk/mail",
    "backup_password": "opens it",
    "mail_accounts": [{"address": "eve@example.com", "password": "correct horse battery"}],
}
#: What nothing is wrong with.
SERVER = {
    "postfix": {"version": "3.10.5"},
    "packages": {"postfix": {"installed": "3.10.5", "candidate": None}},
    "other_mtas": [],
    "missing_files": [],
}


class Task:
    """As much of a task as the search for files needs."""

    action = "port587.mail.check"
    async_val = 0
    args: t.ClassVar[dict[str, t.Any]] = {}

    def __init__(self, directory: pathlib.Path) -> None:
        self.directory = directory

    def get_search_path(self) -> list[str]:
        return [str(self.directory)]


def template(value: t.Any) -> t.Any:
    """As a person has written it: from ansible-core 2.19 on, text is a template only if it comes out of such a file."""
    try:
        from ansible.template import trust_as_template
    except ImportError:
        return value
    if isinstance(value, dict):
        return {key: template(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [template(entry) for entry in value]
    return trust_as_template(value) if isinstance(value, str) else value


@functools.lru_cache(maxsize=None)
def load(path: pathlib.Path) -> t.Any:
    loader = DataLoader()
    known = inspect.signature(loader.load_from_file).parameters
    return loader.load_from_file(str(path), **({"trusted_as_template": True} if "trusted_as_template" in known else {}))


def check(directory: pathlib.Path, roles: t.Sequence[str] = (), on_server: bool = False, **values: t.Any) -> list[str]:
    """All sentences, with the roles' variables as Ansible has them, where their defaults count least."""
    roles = roles or _variables.roles()
    variables: dict[str, t.Any] = {}
    for role in ["mail", *roles]:
        variables.update(load(ROOT / "roles" / role / "defaults" / "main.yml") or {})
    variables.update(SITE, inventory_hostname="mail", __common_server=SERVER)
    variables.update({name: template(value) for name, value in values.items()})
    for role in roles:
        path = ROOT / "roles" / role / "vars" / "main.yml"
        variables.update((load(path) if path.exists() else None) or {})
    variables = {name: value for name, value in variables.items() if value is not NOT_SET}
    loader = DataLoader()
    action = ActionModule(Task(directory), None, None, loader, Templar(loader, variables), None)
    action._vars = variables
    found = action._on_server(roles) if on_server else action._problems(roles, True, [], [])
    return list(dict.fromkeys(found))


NOT_SET = object()
RELAY = {"host": "relay.example"}
NSUPDATE = {"server": "192.0.2.53", "key_name": "acme", "key_secret": "c2VjcmV0"}
ACME = {"certificates_source": "acme", "certificates_acme_email": "eve@example.com"}


def test_nothing_is_wrong_with_a_site_of_three_lines(tmp_path: pathlib.Path) -> None:
    assert check(tmp_path) == []


@pytest.mark.parametrize("role", _variables.roles())
def test_nothing_is_wrong_with_a_role_alone(tmp_path: pathlib.Path, role: str) -> None:
    assert check(tmp_path, [role]) == []


@pytest.mark.parametrize(
    "values",
    [
        ACME,
        {**ACME, "certificates_acme_challenge": "nsupdate", "certificates_acme_nsupdate": NSUPDATE},
        {**ACME, "certificates_acme_challenge": "nsupdate", "certificates_acme_nsupdate": NSUPDATE}
        | {"certificates_names": ["*.example.com"]},
        {"certificates_names": ["*.example.com"]},
        {"certificates_key_type": "both", "mail_sni": ["mail.example.org"]},
        {"postfix_relays": [{**RELAY, "username": "eve", "password": "p", "domains": [".example.org"]}, RELAY]},
        {"postfix_relays": [{**RELAY, "port": 465, "tls": "encrypt"}]},
        {"postfix_dnsbl": ["zen.spamhaus.org"], "mail_resolver": True},
        {"postfix_mta_sts": True, "mail_resolver": True},
        {"postfix_main": {"mynetworks": ["127.0.0.0/8", "10.0.0.0/8"], "smtpd_banner": "x"}},
        {"postfix_send_limits": {}},
        {"mail_training": "yes"},
        {"dovecot_junk_header": ""},
        {"dovecot_quota": 0},
    ],
)
def test_good_values(tmp_path: pathlib.Path, values: dict[str, t.Any]) -> None:
    assert check(tmp_path, **values) == []


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"mail_hostname": "Mail.example.com"}, "mail_hostname: 'Mail.example.com' has capital letters; write mail.ex"),
        ({"mail_hostname": NOT_SET}, "mail_hostname: is not set; write the server's own name in DNS"),
        ({"mail_domains": "example.com"}, "mail_domains: 'example.com' is text; write a list, such as [example.com]"),
        # what a person has written is named, and once, although five roles look at it
        ({"mail_domains": ["example"]}, "mail_domains[0]: 'example' is not a domain; write one such as example.com"),
        ({"autoconfig_domains": ["example"]}, "autoconfig_domains[0]: 'example' is not a domain"),
        (
            {"mail_sni": ["x"]},
            "mail_sni[0]: 'x' is not a fully qualified host name; write one such as mail.example.com",
        ),
        ({"mail_hostnme": "x"}, "mail_hostnme: is not a variable of port587.mail; write mail_hostname"),
        (
            {"rspamd_dkim_selector": []},
            "rspamd_dkim_selector: is not a variable of port587.mail; write rspamd_dkim_sel",
        ),
        ({"unbound_forwarder": []}, "unbound_forwarder: is not a variable of port587.mail; write unbound_forwarders"),
        ({"postfix_message_size": "{{ size }}"}, "postfix_message_size: uses size, which is not set; set it"),
        # accounts
        (
            {"mail_accounts": [{"address": "eve", "password": "geheim"}]},
            "mail_accounts[0].address: 'eve' is not an e-m",
        ),
        ({"mail_accounts_file": "people.txt"}, "accounts_file: 'people.txt' ends with neither .csv, .yml, .yaml"),
        # certificates
        ({"certificates_source": "files"}, "certificates_files_chain: is empty; write the path of the certificate"),
        ({"mail_sni": ["a.example", "A.example"]}, "mail_sni: has a name twice (a.example, A.example); remove one"),
        ({"mail_sni": ["mail.example.com"]}, "mail_sni[0]: 'mail.example.com' is the mail host's own name"),
        ({"certificates_source": "files", "certificates_key_type": "both"}, "certificates_key_type: 'both' is not for"),
        (
            {"certificates_files_chain": "c"},
            "certificates_files_chain: 'c' is not used, as certificates_source is self",
        ),
        ({"certificates_files_key": "k"}, "certificates_files_key: 'k' is not used, as certificates_source is selfsig"),
        (
            {"certificates_files_sni": {"a": {}}},
            "certificates_files_sni: is not used, as certificates_source is selfsi",
        ),
        (
            {"certificates_source": "files", "certificates_files_sni": {"a.example": {}}},
            "certificates_files_sni: a.example is not used; add it to mail_sni, or remove it",
        ),
        ({"certificates_days": 59}, "certificates_days: 59 is not from 60 to 825; write one such as 825"),
        ({"certificates_source": "acme"}, "certificates_acme_email: is empty, and the authority may have to tell"),
        ({**ACME, "certificates_acme_email": "eve"}, "certificates_acme_email: 'eve' is not an e-mail address; write"),
        (
            {**ACME, "certificates_acme_directory": "x"},
            "certificates_acme_directory: 'x' is not an authority; write lets",
        ),
        (
            {**ACME, "certificates_names": ["*.a.example"]},
            "certificates_names[0]: '*.a.example' is a wildcard, which an",
        ),
        (
            {**ACME, "certificates_acme_nsupdate": NSUPDATE},
            "certificates_acme_nsupdate: is not used, as certificates_ac",
        ),
        (
            {**ACME, "certificates_acme_challenge": "nsupdate", "certificates_acme_nsupdate": {"server": "192.0.2.1"}},
            "certificates_acme_nsupdate: lacks key_name, key_secret, as certificates_acme_challenge is nsupdate",
        ),
        (
            {"certificates_acme_nsupdate": {**NSUPDATE, "key_secret": "geheim!"}},
            "certificates_acme_nsupdate.key_secret: is not base64; write the key's secret",
        ),
        (
            {**ACME, "certificates_acme_hook": "dns"},
            "certificates_acme_hook: 'dns' is not used, as certificates_acme_ch",
        ),
        (
            {**ACME, "certificates_acme_challenge": "hook"},
            "certificates_acme_hook: is empty, and certificates_acme_chal",
        ),
        ({**ACME, "certificates_acme_ca": "none.pem"}, "certificates_acme_ca: none.pem: there is no such file"),
        # dovecot
        (
            {"mail_training": True, "mail_rspamd": False},
            "mail_training: rspamd is what learns, and mail_rspamd is false",
        ),
        (
            {"dovecot_training": True, "dovecot_folders": [{"name": "Sent"}]},
            "dovecot_training: dovecot_folders has no Junk to move mail into or out of",
        ),
        # postfix
        ({"postfix_certificate": ""}, "postfix_certificate: is empty, and without TLS nobody may log in"),
        ({"postfix_mta_sts": True, "postfix_dane": True}, "postfix_mta_sts: postfix_dane is on, too"),
        ({"postfix_dnsbl": ["zen.spamhaus.org"]}, "postfix_dnsbl: block lists don't answer public resolvers"),
        (
            {"postfix_relays": [RELAY, {**RELAY, "username": "eve", "domains": ["a.example"]}]},
            "postfix_relays[1]: 'relay.example' has a username and no password; write both or neither",
        ),
        (
            {"postfix_relays": [{**RELAY, "password": "geheim"}]},
            "postfix_relays[0]: 'relay.example' has a password and",
        ),
        ({"postfix_relays": [{**RELAY, "password": " geheim"}]}, "postfix_relays[0].password: begins or ends with"),
        ({"postfix_relays": [{**RELAY, "port": 465, "tls": "may"}]}, "postfix_relays[0]: 'relay.example' has port 465"),
        ({"postfix_relays": [RELAY, {**RELAY, "domains": []}]}, "postfix_relays: has more than one entry without dom"),
        (
            {"postfix_send_limits_by_login": [{"login": "a", "day": -1}]},
            "postfix_send_limits_by_login[0].day: -1 is le",
        ),
        # rspamd
        (
            {"rspamd_dkim_selectors": [{"name": "a"}, {"name": "a", "type": "ed25519"}]},
            "rspamd_dkim_selectors: has a name twice (a, a); write a new name for a new key",
        ),
    ],
)
def test_bad_values(tmp_path: pathlib.Path, values: dict[str, t.Any], sentence: str) -> None:
    found = check(tmp_path, **values)
    assert [one for one in found if one.startswith(sentence)], found
    assert "geheim" not in "".join(found)


def test_all_mistakes_at_once(tmp_path: pathlib.Path) -> None:
    found = check(
        tmp_path, unbound_forwarders=["x"], rspamd_training_least=0, postfix_certificate="", dovecot_quota="1 GB"
    )
    assert [sentence.split(": ")[0] for sentence in found] == [
        "dovecot_quota",
        "postfix_certificate",
        "rspamd_training_least",
        "unbound_forwarders[0]",
    ]


def test_values_of_the_wrong_type_are_not_compared(tmp_path: pathlib.Path) -> None:
    (said,) = check(tmp_path, postfix_relays="relay.example")
    # which may be a password
    assert said == "postfix_relays: is text; write a list"


def test_nothing_is_wrong_with_a_good_server(tmp_path: pathlib.Path) -> None:
    # as long as apt's lists are empty, it knows no package
    packages = {"postfix": {"installed": None, "candidate": None}, "postgrey": {"installed": None, "candidate": None}}
    unknown = {**SERVER, "packages": packages}
    for server in (SERVER, unknown):
        values = {"__common_server": server, "postfix_greylisting": True}
        assert check(tmp_path, ["autoconfig", "dovecot", "postfix"], on_server=True, **values) == []


@pytest.mark.parametrize(
    ("server", "values", "sentence"),
    [
        (
            {"missing_files": ["/etc/port587/accounts/domains"]},
            {},
            "postfix_accounts_directory: '/etc/port587/accounts' has no tables on this server; run role accounts first",
        ),
        (
            {"missing_files": ["/etc/port587/tls/combined.pem"]},
            {},
            "postfix_certificate: '/etc/port587/tls/combined.pem' is not on this server; run role certificates first",
        ),
        ({"other_mtas": ["exim4"]}, {}, "apt: would remove exim4 to install postfix; if this machine can do without"),
        (
            {"postfix": {"version": "3.3.0"}},
            {"mail_sni": ["mail.example.org"]},
            "mail_sni: mail.example.org: Postfix 3.3.0 has one certificate for all names, and only 3.4 and later one",
        ),
        (
            {"packages": {**SERVER["packages"], "postgrey": {"installed": None, "candidate": None}}},
            {"postfix_greylisting": True},
            "postfix_greylisting: this release has no package postgrey; set it to false",
        ),
    ],
)
def test_what_a_server_lacks(
    tmp_path: pathlib.Path, server: dict[str, t.Any], values: dict[str, t.Any], sentence: str
) -> None:
    (said,) = check(tmp_path, ["postfix"], on_server=True, __common_server={**SERVER, **server}, **values)
    assert said.startswith(sentence)
