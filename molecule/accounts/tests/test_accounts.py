# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files, tested through a Postfix and a Dovecot with only the settings that reading them needs."""

import base64
import imaplib
import json
import os
import pathlib
import re
import smtplib
import subprocess
import time
import typing as t

import pytest
from controller import Played, end, refused, start
from testinfra.host import Host

SCENARIO = pathlib.Path(os.environ["MOLECULE_SCENARIO_DIRECTORY"])
DIRECTORY = "/etc/port587/accounts"
TABLES = ["aliases", "domains", "mailboxes", "own_aliases", "senders"]

PASSWORDS = {
    "plain": "plain",
    "blanks": " two  blanks at both ends ",
    "signs": "%d %u {x} \" ' \\ : ; $HOME `id` # & | < > !",
    "utf8": "Grüße ☃ 密码",
    "long": "x" * 72 + "A",
    "longest": "x" * 510 + "A",
    "scheme": "{PLAIN}secret",
}

Result = t.Dict[str, t.Any]


def run(command: str, host: Host, *arguments: str, callback: str = "oneline") -> Played:
    name = host.ansible.get_variables()["inventory_hostname"]
    environment = {
        "ANSIBLE_CALLBACK_RESULT_FORMAT": "json",
        "ANSIBLE_DEPRECATION_WARNINGS": "false",
        "ANSIBLE_LOAD_CALLBACK_PLUGINS": "true",
        "ANSIBLE_STDOUT_CALLBACK": f"ansible.builtin.{callback}",
    }
    return end(start(command, name, *arguments, **environment))


def set_accounts(host: Host, *arguments: str, **data: t.Any) -> Result:
    """Run the module once: what it answered, and whether it `failed`."""
    module = ["--module-name=port587.mail.accounts", f"--args={json.dumps(data)}", "--become", "mail"]
    done = run("ansible", host, *module, *arguments)
    found = re.search(r"(SUCCESS|CHANGED|FAILED!) => (\{.*\})", done.output)
    assert found, done.output
    result: Result = json.loads(found.group(2))
    return {**result, "failed": found.group(1) == "FAILED!"}


def play(host: Host, *arguments: str, **variables: t.Any) -> Played:
    extra = f"--extra-vars={json.dumps(variables)}"
    return run("ansible-playbook", host, extra, *arguments, str(SCENARIO / "converge.yml"), callback="default")


def lookup(host: Host, table: str, key: str) -> str:
    kind = host.check_output("postconf -h default_database_type")
    return host.run(f"postmap -q '{key}' {kind}:{DIRECTORY}/{table}").stdout.strip()


def state(host: Host) -> str:
    """Content, owner, mode and time of all that there is."""
    return host.check_output(f"cd {DIRECTORY} && sha256sum * && stat -c '%n %U:%G %a %Y' * .")


def address_of(host: Host) -> str:
    return str(host.ansible.get_variables()["ansible_host"])


def account(name: str, **fields: t.Any) -> t.Dict[str, t.Any]:
    return {"address": f"{name}@example.com", "password": "secret", **fields}


# -- what converge.yml has set ------------------------------------------------------------------------------------


def test_only_the_daemons_read_the_files(host: Host) -> None:
    suffix = {"hash": "db", "lmdb": "lmdb"}[host.check_output("postconf -h default_database_type")]
    files = dict.fromkeys(("passwd", "own_aliases.passwd", "app_passwords.passwd"), "dovecot")
    files.update({name: "postfix" for table in TABLES for name in (table, f"{table}.{suffix}")})
    assert sorted(host.file(DIRECTORY).listdir()) == sorted(files)
    for name, group in files.items():
        file = host.file(f"{DIRECTORY}/{name}")
        assert (file.user, file.group, file.mode) == ("root", group, 0o640), name


@pytest.mark.parametrize(
    ("table", "key", "value"),
    [
        ("domains", "example.com", "OK"),
        ("domains", "example.org", ""),
        ("mailboxes", "eve@example.com", "OK"),
        ("mailboxes", "EVE@EXAMPLE.COM", "OK"),
        ("mailboxes", "bob@example.net", "OK"),
        ("mailboxes", "printer@example.com", ""),
        ("own_aliases", "info@example.com", "info@example.com"),
        ("own_aliases", "team@example.com", ""),
        ("aliases", "info@example.com", "eve@example.com"),
        ("aliases", "team@example.com", "eve@example.com,kim@example.org"),
        ("aliases", "bob@example.net", "bob@example.net"),
        ("aliases", "@example.net", "bob@example.net"),
        ("aliases", "eve@example.com", ""),
        ("aliases", "postmaster@example.com", "eve@example.com"),
        ("aliases", "abuse@example.net", "eve@example.com"),
        ("senders", "eve@example.com", "eve@example.com"),
        ("senders", "info@example.com", "eve@example.com"),
        ("senders", "team@example.com", "eve@example.com"),
        ("senders", "printer@example.com", "printer@example.com"),
        ("senders", "@example.net", ""),
    ],
)
def test_tables(host: Host, table: str, key: str, value: str) -> None:
    assert lookup(host, table, key) == value


def test_the_role_starts_nobody(host: Host) -> None:
    assert not host.process.filter(comm="dovecot")
    assert not host.process.filter(comm="master")


def test_hashes_are_the_best_that_dovecot_has(host: Host) -> None:
    lines = host.file(f"{DIRECTORY}/passwd").content_string.splitlines()[1:]
    schemes = {line.split(":")[0]: line.split(":")[1].split("}")[0] for line in lines}
    best = "{ARGON2ID" if "ARGON2ID" in host.check_output("doveadm pw -l").split() else "{SHA512-CRYPT"
    assert schemes == {"bob@example.net": "{SHA512-CRYPT", "eve@example.com": best, "printer@example.com": best}


# -- what is refused ----------------------------------------------------------------------------------------------

GOOD = {"address": "eve@example.com", "password": "geheimnis"}
BAD = [
    (
        {"mail_accounts": [dict(GOOD, address="eveexample.com")]},
        "mail_accounts[0].address: 'eveexample.com' is not an e-mail",
    ),
    ({"mail_accounts": [dict(GOOD, address="eve@example.org")]}, "'eve@example.org' is in none of mail_domains"),
    (
        {"mail_accounts": [GOOD, dict(GOOD, address="EVE@example.com")]},
        "mail_accounts[1].address: 'eve@example.com' is already",
    ),
    ({"mail_accounts": [{"address": "eve@example.com", "password": ""}]}, "mail_accounts[0].password: is empty"),
    ({"mail_accounts": [{"address": "eve@example.com", "password": 1}]}, "mail_accounts[0].password: is a number"),
    (
        {"mail_accounts": [{"address": "eve@example.com", "pasword": "geheimnis"}]},
        "mail_accounts[0].pasword: is unknown; did you",
    ),
    (
        {"mail_accounts": [{"address": "eve@example.com", "password_hash": "geheimnis"}]},
        "password_hash: is not {SCHEME}data",
    ),
    ({"mail_accounts": [dict(GOOD, name="a:b")]}, "mail_accounts[0].name: 'a:b' holds a colon"),
    ({"mail_accounts": [dict(GOOD, address="e\nve@example.com")]}, "holds a blank, a newline"),
    ({"mail_accounts": "geheimnis"}, "mail_accounts: is text; write a list"),
    ({"mail_aliases": [{"address": "a@example.com", "to": []}]}, "mail_aliases[0].to: 'a@example.com' has no target"),
    ({"mail_aliases": [{"address": "a@example.com", "to": ["a@example.com"]}]}, "a@example.com -> a@example.com"),
    ({"mail_hostname": "example.com"}, "mail_domains[0]: 'example.com' is also mail_hostname"),
    ({"mail_domains": "example.com"}, "mail_domains: 'example.com' is text; write a list, such as [example.com]"),
]


@pytest.fixture(scope="module")
def refusals(host: Host) -> t.Dict[str, str]:
    """All bad values in one play, and what it says of each."""
    before = state(host)
    cases = {message: variables for variables, message in BAD}
    assert len(cases) == len(BAD)
    refusal = refused(SCENARIO / "converge.yml", host.ansible.get_variables()["inventory_hostname"], cases, "-vvv")
    assert "Look at the server" not in refusal.output
    assert "geheimnis" not in refusal.output
    assert state(host) == before
    return refusal.said


@pytest.mark.parametrize("message", [message for _, message in BAD])
def test_bad_input_changes_nothing(refusals: t.Dict[str, str], message: str) -> None:
    assert message in refusals[message]


def test_a_scheme_that_this_dovecot_does_not_know(host: Host) -> None:
    before = state(host)
    unknown = {"address": "kim@example.com", "password_hash": "{ROT13}frperg"}
    result = set_accounts(host, domains=["example.com"], accounts=[GOOD, unknown])
    assert result["failed"]
    assert (
        "the password_hash of 'kim@example.com' has the scheme {ROT13}; this server's Dovecot takes ARGON2"
        in result["msg"]
    )
    assert state(host) == before


# -- what the daemons make of it ----------------------------------------------------------------------------------


DOVECOT = {
    "2.3": """
protocols = imap
log_path = /root/dovecot.log
mail_location = maildir:~/Maildir
disable_plaintext_auth = no
ssl = no
auth_username_format = %Lu
passdb {
  driver = passwd-file
  args = username_format=%Lu /etc/port587/accounts/passwd
}
userdb {
  driver = passwd-file
  args = username_format=%Lu /etc/port587/accounts/passwd
  override_fields = uid=nobody gid=nogroup home=/tmp/mail/%Ln
}
mail_plugins = quota
protocol imap {
  mail_plugins = quota imap_quota
}
plugin {
  quota = count:User quota
  quota_vsizes = yes
  quota_rule = *:storage=3M
}
""",
    "2.4": """
dovecot_config_version = 2.4.0
dovecot_storage_version = 2.4.0
protocols = imap
log_path = /root/dovecot.log
mail_driver = maildir
mail_path = ~/Maildir
auth_allow_cleartext = yes
ssl = no
auth_username_format = %{user | lower}
passdb passwd-file {
  passwd_file_path = /etc/port587/accounts/passwd
}
userdb passwd-file {
  passwd_file_path = /etc/port587/accounts/passwd
  fields {
    uid:default = nobody
    gid:default = nogroup
    home:default = /tmp/mail/%{user | username}
  }
}
mail_plugins {
  quota = yes
}
protocol imap {
  mail_plugins {
    imap_quota = yes
  }
}
quota_storage_size = 3M
quota "User quota" {
  driver = count
}
""",
}
COMMON = """
first_valid_uid = 1
auth_failure_delay = 0
service auth {
  unix_listener /var/spool/postfix/private/auth {
    mode = 0660
    user = postfix
    group = postfix
  }
}
# no patience with those who guess: the tests do
service anvil {
  unix_listener anvil-auth-penalty {
    mode = 0
  }
}
"""
POSTFIX = {
    "virtual_mailbox_domains": "$default_database_type:/etc/port587/accounts/domains",
    "virtual_mailbox_maps": "$default_database_type:/etc/port587/accounts/mailboxes",
    "virtual_alias_maps": "$default_database_type:/etc/port587/accounts/own_aliases"
    " $default_database_type:/etc/port587/accounts/aliases",
    "smtpd_sender_login_maps": "$default_database_type:/etc/port587/accounts/senders",
    # delivery ends in the log
    "virtual_transport": "discard:",
    "default_transport": "discard:",
    "recipient_delimiter": "+",
    "inet_interfaces": "all",
    "mydestination": "",
    "mynetworks": "127.0.0.1",
    "smtpd_sasl_auth_enable": "yes",
    "smtpd_sasl_type": "dovecot",
    "smtpd_sasl_path": "private/auth",
    "smtpd_sender_restrictions": "reject_sender_login_mismatch",
}

MATRIX = [
    *(account(name, password=password) for name, password in PASSWORDS.items()),
    account("off", enabled=False),
    account("printer", send_only=True, senders=["scan@example.com"]),
    account("small", quota="1M"),
    account("unlimited", quota=0),
    account("eve", aliases=["info@example.com"], senders=["@example.net"]),
    {"address": "kim@example.net", "password": "secret"},
]
MATRIX_ALIASES = [
    {"address": "@example.net", "to": ["eve@example.com"]},
    {"address": "team@example.com", "to": ["eve@example.com", "x@elsewhere.example"], "senders": ["plain@example.com"]},
    {"address": "eve+shop@example.com", "to": ["plain@example.com"]},
]
DATA = {"domains": ["example.com", "example.net"], "accounts": MATRIX, "aliases": MATRIX_ALIASES}


@pytest.fixture(scope="module")
def daemons(host: Host) -> t.Iterator[None]:
    """Postfix and Dovecot are running before the accounts are set, and are not told of them."""
    assert not set_accounts(host, domains=["example.com"], accounts=[account("eve")])["failed"]
    version = "2.4" if host.check_output("dovecot --version").startswith("2.4") else "2.3"
    configuration = DOVECOT[version] + COMMON
    main = " ".join(f"'{name}={value}'" for name, value in POSTFIX.items())
    for command in (
        "apt-get -q -y --no-install-recommends install dovecot-imapd",
        f"cat > /root/test.conf <<'END'\n{configuration}\nEND",
        # Postfix first: it makes the folder for the socket
        f"postconf -e {main} && systemctl restart postfix",
        "mkdir -p /tmp/mail && chown nobody:nogroup /tmp/mail",
        "systemctl stop dovecot.service && systemd-run --quiet --unit=test-dovecot dovecot -F -c /root/test.conf",
        "for i in $(seq 100); do test ! -S /var/spool/postfix/private/auth || break; sleep 0.1; done",
    ):
        host.run_expect([0], command)
    assert smtp_login(host, "plain@example.com", "plain")[0] == 535
    result = set_accounts(host, **DATA)
    assert not result["failed"], result["msg"]
    yield
    host.run_expect([0], "systemctl stop test-dovecot.service postfix.service")


def smtp_login(host: Host, user: str, password: str) -> t.Tuple[int, bytes]:
    with smtplib.SMTP(address_of(host)) as client:
        return authenticate(client, user, password)


def authenticate(client: smtplib.SMTP, user: str, password: str) -> t.Tuple[int, bytes]:
    client.ehlo()
    return client.docmd("AUTH", "PLAIN " + base64.b64encode(f"\0{user}\0{password}".encode()).decode())


def imap_login(host: Host, user: str, password: str) -> str:
    client = imaplib.IMAP4(address_of(host))
    try:
        client.authenticate("PLAIN", lambda _: f"\0{user}\0{password}".encode())
        return str(client.getquotaroot("INBOX")[1][1])
    except imaplib.IMAP4.error as error:
        return str(error)
    finally:
        client.shutdown()


@pytest.mark.usefixtures("daemons")
@pytest.mark.parametrize("name", PASSWORDS)
def test_passwords(host: Host, name: str) -> None:
    user, password = f"{name}@example.com", PASSWORDS[name]
    assert smtp_login(host, user, password)[0] == 235
    assert smtp_login(host, user.upper(), password)[0] == 235
    assert "AUTHENTICATIONFAILED" not in imap_login(host, user, password)
    for wrong in (password[:-1] + "B", password[:-1], password + " ", password.swapcase() + "x", ""):
        assert smtp_login(host, user, wrong)[0] in (535, 501)


@pytest.mark.usefixtures("daemons")
def test_disabled_looks_like_a_wrong_password(host: Host) -> None:
    wrong = smtp_login(host, "eve@example.com", "wrong")
    assert wrong[0] == 535
    assert smtp_login(host, "off@example.com", "secret") == wrong
    assert smtp_login(host, "nobody@example.com", "secret") == wrong
    wrong_imap = imap_login(host, "eve@example.com", "wrong")
    assert "AUTHENTICATIONFAILED" in wrong_imap
    assert imap_login(host, "off@example.com", "secret") == wrong_imap


@pytest.mark.usefixtures("daemons")
def test_send_only_sends_only(host: Host) -> None:
    assert smtp_login(host, "printer@example.com", "secret")[0] == 235
    assert "CONTACTADMIN" in imap_login(host, "printer@example.com", "secret")
    assert sent(host, "printer@example.com", "scan@example.com") == 250
    assert sent(host, "printer@example.com", "eve@example.com") == 553


@pytest.mark.usefixtures("daemons")
def test_quota(host: Host) -> None:
    assert "(STORAGE 0 1024)" in imap_login(host, "small@example.com", "secret")
    assert "(STORAGE 0 3072)" in imap_login(host, "eve@example.com", "secret")
    assert "STORAGE" not in imap_login(host, "unlimited@example.com", "secret")


def sent(host: Host, login: str, sender: str, password: str = "secret") -> int:
    with smtplib.SMTP(address_of(host)) as client:
        assert authenticate(client, login, password)[0] == 235
        client.mail(sender)
        return client.rcpt("eve@example.com")[0]


@pytest.mark.usefixtures("daemons")
@pytest.mark.parametrize(
    ("login", "sender", "code"),
    [
        ("eve", "eve@example.com", 250),
        ("eve", "eve+any@example.com", 250),
        ("eve", "Info@example.com", 250),
        ("eve", "anybody@example.net", 250),
        ("eve", "postmaster@example.com", 553),
        ("eve", "kim@example.net", 553),
        ("eve", "small@example.com", 553),
        ("eve", "team@example.com", 553),
        ("eve", "nobody@example.com", 553),
        ("eve", "eve@elsewhere.example", 553),
        ("small", "info@example.com", 553),
    ],
)
def test_who_may_send_as_whom(host: Host, login: str, sender: str, code: int) -> None:
    assert sent(host, f"{login}@example.com", sender) == code


@pytest.mark.usefixtures("daemons")
def test_senders_of_an_alias_and_the_postmaster(host: Host) -> None:
    assert sent(host, "plain@example.com", "team@example.com", "plain") == 250
    # the first account
    assert sent(host, "plain@example.com", "abuse@example.net", "plain") == 250


def delivered(host: Host, recipient: str) -> t.Set[str]:
    """Whom a mail from outside reaches; nobody if it is refused at RCPT."""
    with smtplib.SMTP(address_of(host)) as client:
        client.ehlo()
        client.mail("someone@elsewhere.example")
        code, _ = client.rcpt(recipient)
        if code != 250:
            assert code == 550
            return set()
        queued = client.data("Subject: x\r\n\r\nx\r\n")
    number = queued[1].decode().split()[-1]
    for _ in range(50):
        log = host.check_output(f"journalctl --no-pager -o cat | grep {number}")
        if "removed" in log:
            return set(re.findall(r" to=<([^>]+)>", log))
        time.sleep(0.1)
    raise AssertionError(log)


@pytest.mark.usefixtures("daemons")
@pytest.mark.parametrize(
    ("recipient", "to"),
    [
        ("eve@example.com", {"eve@example.com"}),
        ("EVE@Example.com", {"EVE@Example.com"}),
        ("eve+any@example.com", {"eve+any@example.com"}),
        ("eve+shop@example.com", {"plain@example.com"}),
        # Dovecot knows whose it is
        ("info@example.com", {"info@example.com"}),
        ("info+x@example.com", {"info+x@example.com"}),
        ("team@example.com", {"eve@example.com", "x@elsewhere.example"}),
        ("postmaster@example.net", {"plain@example.com"}),
        ("off@example.com", {"off@example.com"}),
        ("printer@example.com", set()),
        ("nobody@example.com", set()),
        ("nobody@example.net", {"eve@example.com"}),
        ("kim@example.net", {"kim@example.net"}),
        ("kim+x@example.net", {"kim+x@example.net"}),
    ],
)
def test_where_mail_goes(host: Host, recipient: str, to: t.Set[str]) -> None:
    assert delivered(host, recipient) == to


@pytest.mark.usefixtures("daemons")
def test_an_alias_is_no_login(host: Host) -> None:
    assert smtp_login(host, "eve@example.com", "secret")[0] == 235
    for password in ("secret", "", "x"):
        assert smtp_login(host, "info@example.com", password)[0] in (535, 501)
        assert "AUTHENTICATIONFAILED" in imap_login(host, "info@example.com", password)


# -- one run after the other --------------------------------------------------------------------------------------


def hashes(host: Host) -> t.Dict[str, str]:
    lines = host.file(f"{DIRECTORY}/passwd").content_string.splitlines()[1:]
    return {line.split(":")[0]: line.split(":")[1] for line in lines}


@pytest.mark.usefixtures("daemons")
def test_only_what_changed_changes(host: Host) -> None:
    before = hashes(host)
    untouched = state(host)
    assert set_accounts(host, **DATA)["changed"] is False
    assert state(host) == untouched

    rest = [entry for entry in MATRIX if not entry["address"].startswith(("eve@", "off@", "small@"))]
    changed = [account("eve", password="changed-1"), account("off"), account("new"), *rest]
    data = {"domains": DATA["domains"], "accounts": changed, "aliases": MATRIX_ALIASES[:2]}
    predicted = set_accounts(host, "--check", "--diff", **data)
    assert state(host) == untouched
    done = set_accounts(host, "--diff", **data)
    assert done == predicted
    assert done["added"] == ["new@example.com"]
    assert done["changed_accounts"] == ["eve@example.com", "off@example.com"]
    assert done["removed"] == ["small@example.com"]

    after = hashes(host)
    assert {login for login in after if after[login] != before.get(login)} == {"eve@example.com", "new@example.com"}
    assert smtp_login(host, "eve@example.com", "changed-1")[0] == 235
    assert smtp_login(host, "eve@example.com", "secret")[0] == 535
    assert smtp_login(host, "off@example.com", "secret")[0] == 235
    assert smtp_login(host, "small@example.com", "secret")[0] == 535
    assert set_accounts(host, **DATA)["changed"] is True


@pytest.mark.usefixtures("daemons")
def test_another_scheme_makes_new_hashes_once(host: Host) -> None:
    data = {**DATA, "password_scheme": "SHA512-CRYPT"}
    assert set_accounts(host, **data)["changed"]
    assert {value.split("}")[0] for value in hashes(host).values()} == {"{SHA512-CRYPT"}
    assert not set_accounts(host, **data)["changed"]
    for name, password in PASSWORDS.items():
        assert smtp_login(host, f"{name}@example.com", password)[0] == 235, name
        assert smtp_login(host, f"{name}@example.com", password[:-1] + "B")[0] == 535, name
    assert set_accounts(host, **DATA)["changed"]


@pytest.mark.usefixtures("daemons")
def test_hashes_of_many_kinds(host: Host) -> None:
    schemes = ["ARGON2I", "ARGON2ID", "BLF-CRYPT", "SHA512-CRYPT", "SHA256-CRYPT", "CRYPT", "PBKDF2"]
    schemes += ["SSHA512", "SSHA256.HEX", "SSHA.b64"]
    made = {
        scheme: host.check_output(f"printf 'top secret\\ntop secret\\n' | doveadm pw -s {scheme}") for scheme in schemes
    }
    accounts = [{"address": f"{scheme.lower()}@example.com", "password_hash": made[scheme]} for scheme in schemes]
    assert not set_accounts(host, domains=["example.com"], accounts=accounts)["failed"]
    codes = {scheme: smtp_login(host, f"{scheme}@example.com", "top secret")[0] for scheme in schemes}
    assert codes == dict.fromkeys(schemes, 235)
    assert set_accounts(host, **DATA)["changed"]


@pytest.mark.usefixtures("daemons")
def test_a_scheme_that_dovecot_lists_and_refuses(host: Host) -> None:
    made = host.check_output("printf 'top secret\\ntop secret\\n' | doveadm pw -s MD5-CRYPT")
    old = {"address": "old@example.com", "password_hash": made}
    result = set_accounts(host, **{**DATA, "accounts": [*MATRIX, old]})
    if host.check_output("dovecot --version").startswith("2.4"):
        assert "'old@example.com' has the scheme {MD5-CRYPT}; this server's Dovecot takes ARGON2" in result["msg"]
    else:
        assert smtp_login(host, "old@example.com", "top secret")[0] == 235
    assert set_accounts(host, **DATA)["failed"] is False


@pytest.mark.usefixtures("daemons")
def test_secrets_are_nowhere_to_be_seen(host: Host) -> None:
    secret, given = "S3cret-4711", "{SHA512-CRYPT}$6$visible$" + "v" * 86
    people = [account("a", password=secret), {"address": "b@example.com", "password_hash": given}]
    # the words to look for in a file, or grep would see itself
    host.run_expect([0], f"printf '{secret}\\nvvvvv\\nargon2id\\n' > /root/secrets")
    look = "cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ"
    watch = f"while sleep 0.05; do {look}; done | grep -a -f /root/secrets > /root/seen"
    host.run_expect([0], f"systemd-run --quiet --unit=watch sh -c '{watch}'")
    host.run_expect([0], "mkdir -p /var/vmail/example.com/b")
    done = play(host, "-vvv", "--diff", mail_accounts=people, mail_aliases=[])
    again = play(host, "-vvv", "--diff", mail_accounts=[account("a", password=secret + "x")], mail_aliases=[])
    host.run_expect([0], "systemctl stop watch")
    for text in (done.output, again.output):
        assert text.count("failed=0") == 1
        assert "a@example.com:{masked" in text
        assert secret not in text
        assert "vvvvv" not in text
        assert "$argon2id$" not in text
    assert "/var/vmail/example.com/b" in again.output
    assert host.file("/root/seen").content_string == ""
    assert host.run("journalctl --no-pager | grep -f /root/secrets").rc == 1
    assert set_accounts(host, **DATA)["changed"]


@pytest.mark.one_host
@pytest.mark.usefixtures("daemons")
def test_what_people_put_there_by_hand_stays(host: Host) -> None:
    host.run_expect([0], f"echo mine > {DIRECTORY}/notes")
    assert not set_accounts(host, **DATA)["changed"]
    assert host.file(f"{DIRECTORY}/notes").content_string == "mine\n"
    host.run_expect([0], f"rm {DIRECTORY}/notes")
    # a table that somebody lost, a mode that somebody changed
    host.run_expect([0], f"rm {DIRECTORY}/senders; chmod 0644 {DIRECTORY}/passwd")
    assert set_accounts(host, **DATA)["changed"]
    assert host.file(f"{DIRECTORY}/passwd").mode == 0o640
    assert lookup(host, "senders", "eve@example.com") == "eve@example.com"


@pytest.mark.one_host
def test_a_weak_password_is_named_when_it_is_set(host: Host) -> None:
    weak = [account("a", password="b"), account("eve", password="Eve2026"), account("kim", password="correct horse")]
    said = (
        "[WARNING]: weak passwords, which let others send spam from here: a@example.com: the password has less"
        " than 8 characters; eve@example.com: the password is the account's own name, or little more"
    )
    for arguments, told in ((["--check"], True), ([], True), ([], False)):
        done = play(host, *arguments, mail_accounts=weak, mail_aliases=[], mail_domains=["example.com"])
        assert done.code == 0, done.output
        assert (said in " ".join(done.output.split())) is told, done.output
        assert "Eve2026" not in done.output
    weak[1]["password"] = "password"
    done = play(host, mail_accounts=weak, mail_aliases=[], mail_domains=["example.com"])
    assert "from here: eve@example.com: the password is one of those that are tried first" in " ".join(
        done.output.split()
    )
    assert "a@example.com: the" not in done.output
    assert set_accounts(host, **DATA)["failed"] is False


# -- many ---------------------------------------------------------------------------------------------------------


def numbered(count: int) -> t.List[str]:
    given = "{SHA512-CRYPT}$6$aThousandSalts$" + "x" * 86
    return [f"user{n}@example.com,,{given},a{n}@example.com b{n}@example.com" for n in range(count)]


HEADER = "address,password,password_hash,aliases"


def from_file(
    host: Host, tmp_path: pathlib.Path, lines: t.Sequence[str], *arguments: str, **variables: t.Any
) -> Played:
    """The role, with a CSV file beside the accounts of converge.yml."""
    file = tmp_path / "people.csv"
    file.write_text("\n".join([HEADER, *lines]), encoding="utf-8")
    return play(host, *arguments, mail_accounts_file=str(file), **variables)


def outcome(done: Played) -> str:
    found = re.search(r"changed=(\d+).*failed=(\d+)", done.output)
    assert found, done.output
    return "failed" if found.group(2) != "0" else "changed" if found.group(1) != "0" else "ok"


@pytest.mark.one_host
@pytest.mark.usefixtures("daemons")
def test_ten_thousand(host: Host, tmp_path: pathlib.Path) -> None:
    people = [*numbered(10_000), "kim@example.com,correct horse,,k@example.com"]
    assert outcome(from_file(host, tmp_path, people)) == "changed"
    assert smtp_login(host, "kim@example.com", "correct horse")[0] == 235
    assert lookup(host, "aliases", "b9999@example.com") == "user9999@example.com"
    assert lookup(host, "aliases", "info@example.com") == "eve@example.com"
    before = state(host)
    assert outcome(from_file(host, tmp_path, people)) == "ok"
    assert state(host) == before

    # one more, and one whose password is another; the diff is of these two
    people[-1] = "kim@example.com,staple battery,,k@example.com"
    more = [*people, "new@example.com,secret,,"]
    predicted = from_file(host, tmp_path, more, "--check", "--diff")
    assert state(host) == before
    done = from_file(host, tmp_path, more, "--diff")
    for text in (predicted.output, done.output):
        assert "+kim@example.com:{masked, changed}" in text
        assert "+new@example.com:{masked}" in text
        assert "user5000@" not in text
        assert "battery" not in text
    assert smtp_login(host, "kim@example.com", "staple battery")[0] == 235
    assert smtp_login(host, "kim@example.com", "correct horse")[0] == 535

    # nothing in clear is left behind, neither by that run nor by one that fails
    from_file(host, tmp_path, [*more, "x@example.com,,{ROT13}staple,"])
    left = host.run("grep -rlE 'staple|battery' /root/.ansible /etc/port587 /var/lib/port587 /tmp")
    assert left.stdout == ""
    assert set_accounts(host, **DATA)["changed"]


@pytest.mark.one_host
@pytest.mark.usefixtures("daemons")
def test_many_in_the_inventory_go_the_same_way(host: Host) -> None:
    people = [account(f"user{n}", password="secret" if n == 250 else "other") for n in range(251)]
    for person in people[:250]:
        person["password_hash"] = "{SHA512-CRYPT}$6$aThousandSalts$" + "x" * 86
        del person["password"]
    assert set_accounts(host, **{**DATA, "accounts": people, "aliases": []})["changed"]
    assert smtp_login(host, "user250@example.com", "secret")[0] == 235
    wrong = set_accounts(host, **{**DATA, "accounts": [*people, account("bad:name")], "aliases": []})
    assert "accounts[251].address: 'bad:name@example.com' can't be a login" in wrong["msg"]
    assert set_accounts(host, **DATA)["changed"]


@pytest.mark.one_host
def test_a_broken_line_of_many_changes_nothing(host: Host, tmp_path: pathlib.Path) -> None:
    before = state(host)
    people = numbered(3_000)
    people[1_500] = "USER7@example.com,geheimnis,,"
    people[2_000] = "grün@example.com,geheimnis,,"
    done = from_file(host, tmp_path, people)
    assert outcome(done) == "failed"
    assert "people.csv line 1502.address: 'user7@example.com' is already that of people.csv line 9" in done.output
    assert "people.csv line 2002.address: 'grün@example.com' has letters beyond ASCII before the @" in done.output
    people[1_000] = 'x@example.com,"geheimnis,,'
    done = from_file(host, tmp_path, people)
    assert outcome(done) == "failed"
    assert "people.csv line 1002: is not CSV" in done.output
    assert "geheimnis" not in done.output
    done = play(host, mail_accounts_file="/nowhere/people.csv")
    assert "accounts_file: Could not find or access '/nowhere/people.csv'" in done.output
    assert outcome(play(host, mail_accounts_file="people.txt")) == "failed"
    assert state(host) == before


@pytest.mark.one_host
def test_a_file_in_a_vault_and_in_yaml(host: Host, tmp_path: pathlib.Path) -> None:
    (tmp_path / "key").write_text("the vault's")
    file = tmp_path / "people.yml"
    file.write_text("- {address: vaulted@example.com, password: correct horse}\n")
    vault = ["--vault-password-file", str(tmp_path / "key")]
    subprocess.run(["ansible-vault", "encrypt", *vault, str(file)], check=True)
    assert outcome(play(host, *vault, mail_accounts_file=str(file))) == "changed"
    assert lookup(host, "mailboxes", "vaulted@example.com") == "OK"
    assert outcome(play(host)) == "changed"


# -- whose word it is: the inventory's, or the server's ------------------------------------------------------------


@pytest.mark.usefixtures("daemons")
def test_passwords_changed_on_the_server(host: Host) -> None:
    people = [account("eve", update_password="on_create"), account("bob")]
    data = {"domains": ["example.com"], "accounts": people}
    assert set_accounts(host, **data)["changed"]
    mode = host.check_output(f"stat -c '%U:%G %a' {DIRECTORY}/passwd")
    for name in ("eve", "bob"):
        host.run_expect([0], f"echo my own secret | port587-passwd {name}@example.com")
    assert host.check_output(f"stat -c '%U:%G %a' {DIRECTORY}/passwd") == mode
    assert smtp_login(host, "eve@example.com", "my own secret")[0] == 235
    assert smtp_login(host, "bob@example.com", "my own secret")[0] == 235

    # hers is hers, his is the inventory's
    assert set_accounts(host, **data)["changed_accounts"] == ["bob@example.com"]
    # Dovecot looks at the file once a second
    time.sleep(1.1)
    assert smtp_login(host, "eve@example.com", "my own secret")[0] == 235
    assert smtp_login(host, "bob@example.com", "secret")[0] == 235
    assert not set_accounts(host, **data)["changed"]
    # for all, and the other way round for one
    data = {**data, "accounts": [account("eve", update_password="always"), account("bob", password="new")]}
    assert set_accounts(host, update_password="on_create", **data)["changed_accounts"] == ["eve@example.com"]
    assert smtp_login(host, "eve@example.com", "secret")[0] == 235
    assert smtp_login(host, "bob@example.com", "secret")[0] == 235
    assert set_accounts(host, **DATA)["changed"]


@pytest.mark.one_host
@pytest.mark.usefixtures("daemons")
def test_the_mail_of_who_is_removed(host: Host) -> None:
    people = [account(name) for name in ("eve", "kept", "purged", "empty")]
    data = {"domains": ["example.com"], "accounts": people}
    assert set_accounts(host, **data)["changed"]
    for name in ("eve", "kept", "purged"):
        host.run_expect([0], f"install -d /var/vmail/example.com/{name}/Maildir/new")
    # what somebody has written by hand leads nowhere
    host.run_expect(
        [0], f"mkdir -p /var/vmail/precious && echo '../precious@example.com:x::::::' >> {DIRECTORY}/passwd"
    )
    result = set_accounts(host, **{**data, "accounts": [people[0], *people[2:]]})
    assert result["mail"] == ["/var/vmail/example.com/kept"]
    data["accounts"] = [people[0]]
    predicted = set_accounts(host, "--check", purge=True, **data)
    assert predicted["mail"] == ["/var/vmail/example.com/purged"]
    assert host.file("/var/vmail/example.com/purged").exists
    assert set_accounts(host, purge=True, **data) == predicted
    left = host.check_output("find /var/vmail -mindepth 1 -maxdepth 2 | sort").split()
    assert "/var/vmail/example.com/purged" not in left
    assert {"/var/vmail/example.com/eve", "/var/vmail/example.com/kept", "/var/vmail/precious"} <= set(left)
    assert set_accounts(host, **DATA)["changed"]
