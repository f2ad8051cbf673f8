# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Invalid values stop site.yml before anything changes, and the message names variable and value."""

import datetime
import pathlib
import typing as t

import pytest
from conftest import CONVERGE, Site, play
from controller import refused, told
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

# it never gets as far as a server, so one is enough
testinfra_hosts = [f"ansible://{told()['mail']['hosts'][0]}"]

SECRET = "not for the log"
ALICE = {"address": "alice@{{ mail_domains[0] }}", "password": SECRET}
HASH = "{SHA512-CRYPT}$6$port587$1cXC.6M.KPDIKbugs5SV2fjG6UpbsvENuTnELWYmL8GqgXqRzeX"


def accounts(*entries: t.Dict[str, t.Any]) -> t.Dict[str, t.Any]:
    return {"mail_accounts": [ALICE, *entries], "mail_aliases": []}


def aliases(*entries: t.Dict[str, t.Any]) -> t.Dict[str, t.Any]:
    return {"mail_accounts": [ALICE], "mail_aliases": list(entries)}


def with_files(chain: str, key: str) -> t.Dict[str, t.Any]:
    return {
        "certificates_source": "files",
        "certificates_files_chain": f"{{{{ folder }}}}/{chain}",
        "certificates_files_key": f"{{{{ folder }}}}/{key}",
    }


class Case(t.NamedTuple):
    """Variables, and what the message has to say: name, value, and perhaps the cure."""

    variables: t.Dict[str, t.Any]
    words: t.Tuple[str, ...]


def bob(**keys: t.Any) -> t.Dict[str, t.Any]:
    return {"address": "bob@{{ mail_domains[0] }}", "password": SECRET, **keys}


CASES = {
    "address without domain": Case(accounts(bob(address="bob")), ("mail_accounts[1].address", "'bob'", "@domain")),
    "domain that is not served": Case(
        accounts(bob(address="bob@elsewhere.example")),
        ("mail_accounts[1].address", "bob@elsewhere.example", "mail_domains"),
    ),
    "two accounts with one address": Case(accounts(ALICE), ("mail_accounts[1].address", "alice@", "mail_accounts[0]")),
    "two accounts with one address in other case": Case(
        accounts(bob(address="ALICE@{{ mail_domains[0] | title }}")),
        ("mail_accounts[1].address", "alice@", "mail_accounts[0]"),
    ),
    "alias loop": Case(
        aliases(
            {"address": "a@{{ mail_domains[0] }}", "to": ["b@{{ mail_domains[1] }}"]},
            {"address": "b@{{ mail_domains[1] }}", "to": ["a@{{ mail_domains[0] }}"]},
        ),
        ("mail_aliases[0].to", "a@{domain} -> b@second-{domain} -> a@{domain}"),
    ),
    "alias without target": Case(
        aliases({"address": "info@{{ mail_domains[0] }}", "to": []}), ("mail_aliases[0].to", "info@{domain}")
    ),
    "alias with no target key": Case(
        aliases({"address": "info@{{ mail_domains[0] }}"}), ("mail_aliases[0].to", "info@{domain}")
    ),
    "empty password": Case(accounts(bob(password="")), ("mail_accounts[1].password", "empty")),
    "malformed hash": Case(
        accounts({"address": "bob@{{ mail_domains[0] }}", "password_hash": HASH}),
        ("mail_accounts[1].password_hash", "SHA512-CRYPT"),
    ),
    "hash without scheme": Case(
        accounts({"address": "bob@{{ mail_domains[0] }}", "password_hash": HASH.partition("}")[2]}),
        ("mail_accounts[1].password_hash", "{{SCHEME}}data"),
    ),
    "key of another certificate": Case(
        with_files("good.pem", "other.key"), ("certificates_files_key", "other.key", "good.pem")
    ),
    "expired certificate": Case(
        with_files("expired.pem", "good.key"), ("certificates_files_chain", "expired.pem", "ended")
    ),
    "certificate for another name": Case(
        with_files("elsewhere.pem", "good.key"),
        ("certificates_files_chain", "elsewhere.pem", "mail.elsewhere.example", "{hostname}"),
    ),
    "no certificate at all": Case(
        with_files("missing.pem", "good.key"), ("certificates_files_chain", "missing.pem", "no such file")
    ),
    "hostname that is a mail domain": Case(
        {"mail_domains": ["{{ mail_hostname }}"], "mail_accounts": [ALICE], "mail_aliases": []},
        ("mail_domains[0]", "{hostname}", "mail_hostname"),
    ),
    "hostname that is no full name": Case(
        {"mail_hostname": "mail"}, ("mail_hostname: 'mail' is not", "mail.example.com")
    ),
    "newlines": Case(
        {
            "mail_accounts": [
                ALICE,
                bob(address="bob@{{ mail_domains[0] }}\nroot@{{ mail_domains[0] }}"),
                bob(name="Bob\nroot", quota="1M\n", senders=["bob@private.example\nroot"], password=f"{SECRET}\n"),
            ],
            "mail_aliases": [{"address": "info@{{ mail_domains[0] }}", "to": ["alice@{{ mail_domains[0] }}\n@ root"]}],
        },
        # all mistakes are told at once
        (
            "mail_accounts[1].address: 'bob@{domain}\\nroot@{domain}' holds a blank, a newline",
            "mail_accounts[2].name: 'Bob\\nroot' holds",
            "mail_accounts[2].quota: '1M\\n' is not a size",
            "mail_accounts[2].senders[0]: 'bob@private.example\\nroot' holds",
            "mail_accounts[2].password: holds a newline",
            "mail_aliases[0].to[0]: 'alice@{domain}\\n@ root' holds",
        ),
    ),
    "newline in a domain": Case(
        {
            "mail_domains": ["one.example\ntwo.example"],
            "mail_accounts": [bob(address="bob@one.example")],
            "mail_aliases": [],
        },
        ("mail_domains[0]: 'one.example\\ntwo.example' holds a blank, a newline",),
    ),
    "colons": Case(
        {
            "mail_accounts": [
                ALICE,
                bob(address="bob:x@{{ mail_domains[0] }}"),
                bob(name="Bob: root", quota="1M:x", senders=["b:b@private.example"]),
                {"address": "eve@{{ mail_domains[0] }}", "password_hash": "{SHA512-CRYPT}$6$a:b$c"},
            ],
            "mail_aliases": [{"address": "in:fo@{{ mail_domains[0] }}", "to": ["alice@{{ mail_domains[0] }}"]}],
        },
        (
            "mail_accounts[1].address: 'bob:x@{domain}'",
            "mail_accounts[2].name: 'Bob: root' holds a colon",
            "mail_accounts[2].quota: '1M:x' is not a size",
            "mail_accounts[2].senders[0]: 'b:b@private.example'",
            "mail_accounts[3].password_hash: is not {{SCHEME}}data with neither blank nor colon",
            "mail_aliases[0].address: 'in:fo@{domain}'",
        ),
    ),
    "unknown key in an account": Case(
        accounts({"address": "bob@{{ mail_domains[0] }}", "pasword": SECRET}), ("mail_accounts[1].pasword", "password")
    ),
    "training without rspamd": Case(
        {"mail_training": True, "mail_rspamd": False},
        ("mail_training: rspamd is what learns, and mail_rspamd is false",),
    ),
    "training by nothing": Case(
        {"rspamd_training_least": 0}, ("rspamd_training_least: 0 is less than 1; write one such as 200",)
    ),
    "quota of Dovecot": Case({"dovecot_quota": "1 GB"}, ("dovecot_quota", "1 GB")),
    "relay with half a login, block lists, and limits": Case(
        {
            "postfix_relays": [{"host": "relay.example", "password": SECRET}],
            "postfix_dnsbl": ["zen", "list.example=127.0.0.[2..256]", "list.example=127.0.0.[2;4..7]"],
            "postfix_send_limits": {"hour": -200},
            "postfix_greylisting_delay": 0,
        },
        (
            "postfix_relays[0]: 'relay.example' has a password and no username",
            "postfix_dnsbl[0]: 'zen' is not a list's name",
            "postfix_dnsbl[1]: 'list.example=127.0.0.[2..256]' is not",
            "postfix_dnsbl: block lists don't answer public resolvers",
            "postfix_send_limits.hour: -200 is less than 0",
            "postfix_greylisting_delay: 0 is less than 1; write one such as 300",
        ),
    ),
}


def state(host: t.Any) -> str:
    """Every file's content and times, and the processes that were started with them."""
    return t.cast(
        str,
        host.check_output(
            "cd /; find etc/postfix etc/dovecot etc/port587 var/lib/port587 -printf '%p %m %u %g %s %T@ %C@\\n' | sort;"
            "find etc/postfix etc/dovecot etc/port587 var/lib/port587 -type f -exec sha256sum {} + | sort;"
            "cat var/spool/postfix/pid/master.pid run/dovecot/master.pid"
        ),
    )


@pytest.fixture(scope="module")
def attempts(site: Site, host: t.Any, tmp_path_factory: pytest.TempPathFactory) -> t.Dict[str, str]:
    """All bad values in one run of site.yml, and what it says of each."""
    folder = tmp_path_factory.mktemp("certificates")
    make_certificates(folder, site.server.name)
    before = state(host)
    cases = {name: {**case.variables, "folder": str(folder)} for name, case in CASES.items()}
    refusal = refused(CONVERGE, site.inventory["inventory_hostname"], cases)
    assert state(host) == before, "a run that failed has changed something"
    assert SECRET not in refusal.output
    assert HASH.rpartition("$")[2] not in refusal.output
    return refusal.said


@pytest.mark.parametrize("name", CASES)
def test_is_refused_before_anything_changes(site: Site, attempts: t.Dict[str, str], name: str) -> None:
    for word in CASES[name].words:
        assert word.format(domain=site.domain, hostname=site.server.name) in attempts[name]


def test_good_values_are_not_refused(site: Site, tmp_path: pathlib.Path) -> None:
    """The tests above did refuse the value, and not something else."""
    make_certificates(tmp_path, site.server.name)
    variables = {**accounts(bob()), **with_files("good.pem", "good.key"), "folder": str(tmp_path)}
    done = play(site, variables, "--check")
    assert done.code == 0, done.output


def make_certificates(folder: pathlib.Path, hostname: str) -> None:
    """A good certificate, and each of the bad ones."""
    keys = {name: ec.generate_private_key(ec.SECP256R1()) for name in ("good", "other")}
    for name, key in keys.items():
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        (folder / f"{name}.key").write_bytes(pem)
    now = datetime.datetime.now(datetime.timezone.utc)
    for name, certified, ends in (
        ("good", hostname, 90),
        ("expired", hostname, -1),
        ("elsewhere", "mail.elsewhere.example", 90),
    ):
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, certified)])
        certificate = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject)
            .public_key(keys["good"].public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=10))
            .not_valid_after(now + datetime.timedelta(days=ends))
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(certified)]), critical=False)
            .sign(keys["good"], hashes.SHA256())
        )
        (folder / f"{name}.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
