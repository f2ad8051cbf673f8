# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Follow README.md and README.ja.md, command by command, on a bare VPS.

Few things are otherwise than they say, since nothing of the world is reached here: the certificate is selfsigned; the
inventory has the key and the known host of this network, and a public address for DNS; and a server that is only named
gets its address besides.
"""

import hashlib
import pathlib
import re
import ssl
import subprocess
import typing as t

import pytest
from newcomer import ROOT, Newcomer, commands
from testinfra.host import Host

testinfra_hosts = ["ansible://mail"]

COMMANDS = commands("README.md")
PASSWORD = "Eve's Passwort: ok"

#: The commands before which a person edits files, and those that are typed in a project of one's own.
VAULT = next(command for command in COMMANDS if command.startswith("ansible-vault create"))
INSTALL = next(command for command in COMMANDS if command.startswith("ansible-galaxy collection install"))
ELSEWHERE = next(command for command in COMMANDS if command.endswith("port587.mail.site"))
FOREIGN = next(command for command in COMMANDS if "verify_hosts=all" in command)


def edit(file: pathlib.Path, *changes: t.Tuple[str, str]) -> None:
    text = file.read_text(encoding="utf-8")
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    file.write_text(text, encoding="utf-8")


def fill_in(newcomer: Newcomer, variables: t.Dict[str, t.Any]) -> None:
    """What README's second step says to write."""
    mine = newcomer.folder / "inventories" / "mine"
    indent = "      "
    network = [f"{name}: {variables[name]}" for name in ("ansible_ssh_private_key_file", "ansible_ssh_common_args")]
    edit(mine / "hosts.yml", ("203.0.113.25", variables["ansible_host"] + f"\n{indent}" + f"\n{indent}".join(network)))
    # 203.0.113.25 is what a server behind a translated address would have to say
    here = "certificates_source: selfsigned\ndns_addresses: [203.0.113.25]"
    edit(mine / "group_vars/mail/main.yml", ("certificates_source: acme", here))
    line = re.search(r"`(vault_eve: \"[^\"`]+\")`", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert line, "README does not say what is in the vault"
    eve = line[1].replace("her password", PASSWORD)
    newcomer.editor_writes(f"{eve}\n{eve.replace('vault_eve', 'vault_bob')}\n")


def output_folder(newcomer: Newcomer) -> pathlib.Path:
    return newcomer.home / "port587" / "mail.example.com"


def test_both_languages_say_the_same() -> None:
    assert commands("README.ja.md") == COMMANDS
    assert len(COMMANDS) == 13


@pytest.mark.parametrize("number", range(len(COMMANDS)), ids=[command[:60].replace("/", " ") for command in COMMANDS])
def test_it_is_typed(host: Host, newcomer: Newcomer, number: int) -> None:
    command, folder = COMMANDS[number], newcomer.folder
    variables = host.ansible.get_variables()
    if command == VAULT:
        fill_in(newcomer, variables)
    elif command in (INSTALL, ELSEWHERE):
        folder = newcomer.home / "project"
    if command == INSTALL:
        (folder / "inventories").mkdir(parents=True)
        (folder / "inventories/mine").symlink_to(newcomer.folder / "inventories/mine")
    elif command == FOREIGN:
        (newcomer.home / "port587/eve.yml").write_text(
            f'verify_address: eve@example.com\nverify_password: "{PASSWORD}"\n', encoding="utf-8"
        )
        command += f" -e verify_host={variables['ansible_host']}"
    done = newcomer.types(command, folder)
    assert done.code == 0, done.output
    assert PASSWORD not in done.output
    # what Ansible says of files that are no inventory
    assert "parse" not in done.output, done.output
    if command.endswith("site.yml") or command == FOREIGN:
        assert_says_what_to_type(newcomer, done.output)
    elif command == ELSEWHERE:
        assert re.search(r"^mail.example.com .* changed=0 ", done.output, re.MULTILINE), done.output
        listed = newcomer.types("ansible-galaxy collection list", folder).output
        assert f"# {newcomer.home}/.ansible/collections/" in listed


def assert_says_what_to_type(newcomer: Newcomer, output: str) -> None:
    assert "mail.example.com (" in output
    assert "well, " in output
    assert "Outgoing  SMTP  mail.example.com  port 587" in output
    ca = output_folder(newcomer) / "ca.crt"
    digest = hashlib.sha256(ssl.PEM_cert_to_DER_cert(ca.read_text(encoding="ascii"))).hexdigest().upper()
    said = re.search(r"SHA-256 fingerprint: ([0-9A-F:\s]+)\n", output)
    assert str(ca) in output
    assert said
    assert re.sub(r"[:\s]", "", said[1]) == digest


def test_what_the_runs_have_left(newcomer: Newcomer) -> None:
    left = {
        str(path.relative_to(output_folder(newcomer))) for path in output_folder(newcomer).rglob("*") if path.is_file()
    }
    assert {"ca.crt", "verify/mail.example.com.html", "dns/example.com.zone", "dns/mail.example.com.json"} <= left
    mine = newcomer.folder / "inventories" / "mine"
    files = sorted(str(path.relative_to(mine)) for path in mine.rglob("*") if path.is_file())
    assert files == ["group_vars/mail/main.yml", "group_vars/mail/vault.yml", "hosts.yml"]
    assert (mine / "group_vars/mail/vault.yml").read_text(encoding="ascii").startswith("$ANSIBLE_VAULT;")
    assert (newcomer.home / "port587").stat().st_mode & 0o77 == 0
    page = (output_folder(newcomer) / "verify/mail.example.com.html").read_text(encoding="utf-8")
    assert 'download="mail.example.com-ca.crt" href="data:application/x-x509-ca-cert;base64,' in page


def test_the_ca_is_found_by_a_machine_that_has_not_set_the_server_up(newcomer: Newcomer) -> None:
    (output_folder(newcomer) / "ca.crt").unlink()
    # by the name of the file as well as by that of its folder
    done = newcomer.types("ansible-playbook -i inventories/mine/hosts.yml --ask-vault-pass playbooks/verify.yml")
    assert done.code == 0, done.output
    assert_says_what_to_type(newcomer, done.output)


def test_the_page_offers_the_ca(host: Host, newcomer: Newcomer) -> None:
    ca = output_folder(newcomer) / "ca.crt"
    address = host.ansible.get_variables()["ansible_host"]
    curl = [
        "curl",
        "--silent",
        "--show-error",
        "--fail",
        "--cacert",
        str(ca),
        "--resolve",
        f"mail.example.com:443:{address}",
        "--noproxy",
        "*",
    ]

    def get(path: str, *options: str) -> str:
        return subprocess.run(
            [*curl, *options, f"https://mail.example.com{path}"], check=True, capture_output=True, text=True
        ).stdout

    assert get("/ca.crt") == ca.read_text(encoding="ascii")
    assert "content-type: application/x-x509-ca-cert" in get("/ca.crt", "--head").lower()
    for language in ("en", "ja"):
        assert 'href="/ca.crt"' in get(f"/{language}")


def test_a_file_of_people_in_the_inventory_is_refused(newcomer: Newcomer) -> None:
    people = "address,password\nada@example.com,s3cret-Ada\n"
    accounts = next(command for command in COMMANDS if command.endswith("accounts.yml"))
    inside = newcomer.folder / "inventories/mine/people.csv"
    inside.write_text(people, encoding="utf-8")
    done = newcomer.types(f"{accounts} -e mail_accounts_file={inside}")
    inside.unlink()
    assert done.code != 0
    said = " ".join(done.output.split())
    assert f"accounts_file: '{inside}' is part of the inventory" in said, done.output
    outside = newcomer.home / "port587/people.csv"
    outside.write_text(people, encoding="utf-8")
    done = newcomer.types(f"{accounts} -e 'mail_accounts_file=~/port587/people.csv'")
    assert done.code == 0, done.output
    assert "s3cret" not in done.output
    assert newcomer.types(accounts).code == 0
