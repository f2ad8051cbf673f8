# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Mistakes on the command line: a run that would do nothing, or skip the checks, fails with one clear sentence."""

import json
import os
import pathlib
import re
import typing as t

import pytest
from controller import Played, end, ready, told

ROOT = pathlib.Path(os.environ["MOLECULE_PROJECT_DIRECTORY"])

# nothing gets as far as a server, so one is enough
testinfra_hosts = [f"ansible://{told()['mail']['hosts'][0]}"]
# none of them asks for it, but tests are handed out by host
pytestmark = pytest.mark.usefixtures("host")

SITE = {"mail_hostname": "mail.example.com", "mail_domains": ["example.com"]}


class Case(t.NamedTuple):
    playbook: str
    group: str
    variables: t.Dict[str, t.Any]
    options: t.Tuple[str, ...]
    words: t.Tuple[str, ...]


def case(
    *words: str, playbook: str = "site", group: str = "mail", options: t.Tuple[str, ...] = (), **variables: t.Any
) -> Case:
    return Case(playbook, group, variables, options, words)


CASES = {
    "another group": case("inventory: no host is in the group mail (it has mailserver, others)", group="mailserver"),
    "another group, for the accounts": case("inventory: no host is in the group mail", playbook="accounts", group="x"),
    "another group, for DNS": case("inventory: no host is in the group mail", playbook="dns", group="x"),
    "another group, to verify": case(
        "inventory: no host is in the group nobody", playbook="verify", verify_hosts="nobody"
    ),
    "a limit that leaves nothing": case("--limit: 'other' leaves no host of mail", options=("--limit=other",)),
    "a tag that is none": case(
        "--tags: 'postifx' is not a tag of this playbook; write postfix", options=("--tags=postifx",)
    ),
    "no checks": case("--skip-tags: would leave out the checks", options=("--skip-tags=always",)),
    "in the middle": case(
        "--start-at-task: 'Configure Postfix' would leave out", options=("--start-at-task=Configure Postfix",)
    ),
    "nothing set": case(
        "mail_hostname: is not set; write the server's own name in DNS, such as mail.example.com",
        "mail_domains: is not set; write the domains",
        mail_hostname=None,
        mail_domains=None,
    ),
    "all kinds of mistakes at once": case(
        "mail_hostname: 'Mail.Example.com' has capital letters; write mail.example.com",
        "mail_domains: 'example.com' is text; write a list, such as [example.com]",
        "mail_accounts: is a dictionary; write a list",
        "mail_alias: is not a variable of port587.mail; write mail_aliases",
        "dns_servers: is not a variable",
        "certificates_source: 'acmee' is unknown; write selfsigned, files or acme",
        "postfix_relays[0].hots: is not a key; write host",
        "postfix_dane: 'maybe' is text; write true or false",
        "postfix_nameservers: uses nowhere, which is not set",
        "rspamd_dkim_rsa_bits: 'large' is text; write a whole number, such as 2048",
        "ansible_ssh_private_key_file: '/none/id_ed25519' is not a file on this machine",
        mail_hostname="Mail.Example.com",
        mail_domains="example.com",
        mail_accounts={"eve@example.com": "not for the log"},
        mail_alias=[],
        mail_own_variables=["dns_search"],
        dns_servers=["192.0.2.53"],
        dns_search=["example.com"],
        certificates_source="acmee",
        postfix_relays=[{"hots": "relay.example", "password": "not for the log"}],
        postfix_dane="maybe",
        postfix_nameservers="{{ nowhere }}",
        rspamd_dkim_rsa_bits="large",
        ansible_ssh_private_key_file="/none/id_ed25519",
    ),
    "a CA that is not there": case(
        "verify_ca_file: '/none/ca.pem' is not a file on this machine", playbook="verify", verify_ca_file="/none/ca.pem"
    ),
}


def run(folder: pathlib.Path, wanted: Case) -> Played:
    """On an inventory of its own, with servers that nobody has."""
    variables = {name: value for name, value in {**SITE, **wanted.variables}.items() if value is not None}
    hosts = {"hosts": {"mail.example.com": {"ansible_host": "192.0.2.1", **variables}}}
    other = {"hosts": {"other": None}}
    inventory = folder / "hosts.json"
    inventory.write_text(json.dumps({"all": {"children": {wanted.group: hosts, "others": other}}}), encoding="utf-8")
    extra = [f"--extra-vars=verify_hosts={variables['verify_hosts']}"] if "verify_hosts" in variables else []
    playbook = ROOT / "playbooks" / f"{wanted.playbook}.yml"
    return end(ready().start("ansible-playbook", f"--inventory={inventory}", *wanted.options, *extra, playbook))


@pytest.mark.parametrize("name", CASES)
def test_is_refused_with_a_sentence(tmp_path: pathlib.Path, name: str) -> None:
    done = run(tmp_path, CASES[name])
    assert done.code != 0, done.output
    # YAML and terminals wrap lines
    message = re.sub(r"\s+", " ", done.output.replace("''", "'"))
    for word in CASES[name].words:
        assert word in message, done.output
    assert "not for the log" not in message
    assert "dns_search" not in message
    assert "Traceback" not in message
    assert "UNREACHABLE" not in message


def test_no_inventory_at_all(tmp_path: pathlib.Path) -> None:
    empty = tmp_path / "hosts"
    empty.touch()
    done = end(ready().start("ansible-playbook", f"--inventory={empty}", ROOT / "playbooks/site.yml"))
    assert done.code != 0, done.output
    assert "inventory: there is no host in it" in re.sub(r"\s+", " ", done.output)


def test_what_is_right_gets_to_the_server(tmp_path: pathlib.Path) -> None:
    """The tests above did refuse what was wrong, and not something else."""
    right = {
        "mail_accounts": [{"address": "eve@example.com", "password": "not for the log"}],
        "dns_search": ["example.com"],
        "mail_own_variables": ["dns_s*"],
    }
    done = run(tmp_path, case(options=("--tags=postfix", "--timeout=1"), **right))
    assert "UNREACHABLE" in done.output, done.output
