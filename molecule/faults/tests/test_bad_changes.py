# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bad changes: each is refused or rolled back, the message names the cause, and mail flows as before."""

import smtplib
import typing as t

import pytest
from captured import captured
from conftest import Vps

SOCKET = "service auth { unix_listener /var/spool/postfix/private/auth { %s } }"


def lines(text: str) -> str:
    """Dovecot wants each setting and each brace on a line of its own."""
    return text.replace("{ ", "{\n").replace("; ", "\n").replace(" }", "\n}")


class Bad(t.NamedTuple):
    """A change, and the words that have to be in the message."""

    name: str
    part: str
    variables: t.Dict[str, t.Any]
    words: t.Tuple[str, ...]


BAD = [
    # -- main.cf
    Bad(
        "a parameter that nothing uses",
        "postfix",
        {"postfix_main": {"mynetwork": "10.0.0.0/8"}},
        ("main.cf line", "mynetwork"),
    ),
    Bad(
        "a wrong boolean",
        "postfix",
        {"postfix_main": {"smtpd_helo_required": "true"}},
        ("smtpd_helo_required", "yes or no"),
    ),
    Bad(
        "a wrong TLS level",
        "postfix",
        {"postfix_main": {"smtpd_tls_security_level": "encypt"}},
        ("encypt", "TLS level"),
    ),
    Bad(
        "a misspelt restriction",
        "postfix",
        {"postfix_main": {"smtpd_relay_restrictions": "permit_mynetwork, reject_unauth_destination"}},
        ("smtpd_relay_restrictions", "permit_mynetwork is no restriction"),
    ),
    Bad("no number", "postfix", {"postfix_main": {"default_process_limit": "many"}}, ("default_process_limit", "many")),
    Bad(
        "no table",
        "postfix",
        {"postfix_main": {"transport_maps": "hash:/etc/postfix/none"}},
        ("/etc/postfix/none.db does not exist",),
    ),
    Bad(
        "no table type",
        "postfix",
        {"postfix_main": {"transport_maps": "cdb:/etc/postfix/none"}},
        ("has no cdb tables",),
    ),
    Bad(
        "no certificate",
        "postfix",
        {"postfix_certificate": "/root/none.pem"},
        ("postfix_certificate: ", "/root/none.pem", "is not on this server"),
    ),
    Bad("an address of another host", "postfix", {"postfix_main": {"inet_interfaces": "192.0.2.1"}}, ("192.0.2.1",)),
    Bad("no SASL socket", "postfix", {"postfix_sasl_path": "private/none"}, ("rolled back", "private/none")),
    # -- master.cf
    Bad(
        "a service that is cut short", "postfix", {"postfix_master": "2526 inet n -"}, ("master.cf", "bad field count")
    ),
    Bad(
        "a port that nobody knows",
        "postfix",
        {"postfix_master": "submisson inet n - y - - smtpd"},
        ("submisson", "port"),
    ),
    Bad("no program", "postfix", {"postfix_master": "2526 inet n - y - - smptd"}, ("smptd",)),
    Bad(
        "an override that nothing uses",
        "postfix",
        {"postfix_master": "2526 inet n - y - - smtpd\n  -o smtpd_tls=no"},
        ("smtpd_tls",),
    ),
    Bad(
        "an override that is wrong",
        "postfix",
        {"postfix_master": "2526 inet n - y - - smtpd\n  -o smtpd_tls_auth_only=on"},
        ("yes or no",),
    ),
    Bad(
        "a port that is taken",
        "postfix",
        {"postfix_master": "2525 inet n - y - - smtpd"},
        ("master.cf", "another program listens on port 2525"),
    ),
    Bad(
        "no logins on 587",
        "postfix",
        {"postfix_master": "submission inet n - y - - smtpd\n  -o syslog_name=postfix/other"},
        ("587",),
    ),
    # -- dovecot.conf
    Bad(
        "a setting that Dovecot doesn't know",
        "dovecot",
        {"dovecot_extra": "mail_loction = maildir:x"},
        ("dovecot.conf line", "mail_loction"),
    ),
    Bad("a block that does not end", "dovecot", {"dovecot_extra": "service imap-login {"}, ("dovecot.conf",)),
    Bad(
        "a mechanism that it doesn't know", "dovecot", {"dovecot_extra": "auth_mechanisms = plain log-in"}, ("log-in",)
    ),
    Bad("a plugin that is not there", "dovecot", {"dovecot_extra": "PLUGIN"}, ("plugin none",)),
    Bad(
        "a socket of root's",
        "dovecot",
        {"dovecot_extra": lines(SOCKET % "mode = 0600; user = root; group = root")},
        ("private/auth",),
    ),
    Bad("a socket of nobody's", "dovecot", {"dovecot_extra": lines(SOCKET % "user = postfixx")}, ("postfixx",)),
    Bad(
        "a port that another has",
        "dovecot",
        {"dovecot_extra": lines("service imap-login { inet_listener other { port = 2525 } }")},
        ("dovecot.conf line", "another program listens on port 2525"),
    ),
    Bad(
        "no passwords",
        "dovecot",
        {"dovecot_passwd_file": "/etc/port587/accounts/none"},
        ("dovecot_passwd_file: ", "/etc/port587/accounts/none"),
    ),
    Bad(
        "a key of another certificate",
        "dovecot",
        {"dovecot_certificate": "/root/mixed.pem"},
        ("/root/mixed.pem", "KEY_VALUES_MISMATCH"),
    ),
    Bad("no certificate at all", "dovecot", {"dovecot_certificate": "/etc/hostname"}, ("/etc/hostname",)),
    # -- what somebody's own playbook asks for
    Bad(
        "a line that is no entry",
        "",
        {
            "files": [{"dest": "/etc/postfix/table", "content": "a b\nabc\n", "map": True}],
            "daemon": {"unit": "postfix", "kind": "postfix"},
        },
        ("/etc/postfix/table line 2", "expected format"),
    ),
    Bad(
        "an owner that isn't there",
        "",
        {"files": [{"dest": "/etc/postfix/x", "content": "x", "owner": "nobdy"}]},
        ("nobdy",),
    ),
    Bad(
        "a proof that fails",
        "",
        {
            "files": [{"dest": "/etc/postfix/x", "content": "x"}],
            "daemon": {"unit": "postfix", "kind": "postfix"},
            "prove": [{"protocol": "smtp", "port": 25, "recipient": "somebody@elsewhere.example", "answer": "refused"}],
        },
        ("rolled back", "port 25", "answers RCPT TO:<somebody@elsewhere.example> with: 250"),
    ),
    Bad(
        "a directory in its place",
        "",
        {"files": [{"dest": "/etc/postfix/sasl", "content": "x"}]},
        ("/etc/postfix/sasl", "directory"),
    ),
]

#: Once for each daemon with Ansible; the others as what the role's template makes of them, lines at the end of a file.
PLAYED = ["a parameter that nothing uses", "a setting that Dovecot doesn't know"]

PLUGIN = {"debian11": "mail_plugins = $mail_plugins none", "debian13": "mail_plugins {\n  none = yes\n}"}


def lines_of(variables: t.Dict[str, t.Any]) -> t.Dict[str, str]:
    """By file the lines that these variables stand for; nothing for other variables."""
    files = {"postfix_master": "/etc/postfix/master.cf", "dovecot_extra": "/etc/dovecot/dovecot.conf"}
    lines = {file: str(variables[name]) for name, file in files.items() if name in variables}
    for name, value in variables.get("postfix_main", {}).items():
        lines["/etc/postfix/main.cf"] = f"{name} = {value}"
    return lines


@pytest.fixture(scope="module")
def traps(vps: Vps) -> t.Iterator[None]:
    """Another program on port 2525, and a key with the certificate of another."""
    vps.run(
        "systemd-run",
        "--quiet",
        "--unit=taken",
        "--collect",
        "python3",
        "-c",
        "import socket as s, time; l = s.create_server(('', 2525)); time.sleep(9999)",
    )
    make = "openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN=x -keyout %s -out %s 2>/dev/null; "
    vps.run(
        "sh",
        "-c",
        make % ("/root/a", "/root/mixed.pem") + make % ("/root/b", "/root/c") + "cat /root/b >> /root/mixed.pem",
    )
    yield
    vps.run("systemctl", "stop", "taken")


@pytest.mark.usefixtures("traps")
@pytest.mark.parametrize("bad", BAD, ids=[bad.name for bad in BAD])
def test_bad_change(vps: Vps, bad: Bad) -> None:
    variables = dict(bad.variables)
    if variables.get("dovecot_extra") == "PLUGIN":
        variables["dovecot_extra"] = PLUGIN.get(vps.name, PLUGIN["debian11"])
    before = vps.snapshot()
    appended = lines_of(variables)
    if appended and bad.name not in PLAYED:
        answer = captured(vps.name, vps.container, bad.part).run(append=appended)
        code, output, message = answer.code, answer.output, answer.message
    else:
        playbook = "parts.yml" if bad.part else "transaction.yml"
        outcome = vps.play(playbook, parts=[bad.part], **variables)
        code, output = outcome.code, outcome.output
        # without the line breaks that only make it readable
        message = " ".join(output.partition("msg:")[2].split())
    assert code != 0
    assert "Traceback" not in output
    for word in bad.words:
        assert word in message
    assert vps.snapshot() == before
    vps.serves()


def test_what_somebody_broke_by_hand_is_mended(vps: Vps) -> None:
    vps.run("postconf", "smtpd_sasl_path=private/nowhere")
    vps.run("systemctl", "restart", "postfix")
    # the first who connects makes smtpd die, and Postfix waits a minute before it tries another one
    with pytest.raises((OSError, smtplib.SMTPException)):
        vps.serves()
    outcome = vps.play("parts.yml", parts=["postfix"])
    assert outcome.code == 0, outcome.output
    vps.serves()
