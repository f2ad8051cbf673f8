# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Postfix alone, on a machine that only sends. The test process is the relay, so it sees all mail and its transport."""

import json
import os
import pathlib
import socket
import ssl
import time
import typing as t

import pytest
import trustme
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from controller import play
from testinfra.host import Host

SCENARIO = pathlib.Path(os.environ["MOLECULE_SCENARIO_DIRECTORY"])
RELAY, PORT, USER, PASSWORD = "smtp.example.net", 2525, "web", "k7#Wq pL: 0x=Zr$9"
TIMEOUT = 20


class Mail(t.NamedTuple):
    sender: str
    recipients: t.List[str]
    content: str
    encrypted: bool


class Relay(Controller):
    """A mail provider's server. It would take anything from anybody; what it was given is in `mails` and `logins`."""

    def __init__(self, address: str) -> None:
        self.mails: t.List[Mail] = []
        self.logins: t.List[LoginPassword] = []
        self.tls: t.Optional[ssl.SSLContext] = None
        super().__init__(self, hostname=address, port=PORT)

    def factory(self) -> SMTP:
        return SMTP(
            self, hostname=RELAY, tls_context=self.tls, auth_require_tls=self.tls is not None, authenticator=self.login
        )

    def login(self, _server: SMTP, _session: Session, _envelope: Envelope, _how: str, who: LoginPassword) -> AuthResult:
        self.logins.append(who)
        return AuthResult(success=True)

    async def handle_DATA(self, _server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        content = bytes(envelope.content or b"").decode()
        self.mails.append(Mail(str(envelope.mail_from), envelope.rcpt_tos, content, session.ssl is not None))
        return "250 taken"

    def present(self, ca: trustme.CA, name: str = RELAY) -> None:
        self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        ca.issue_cert(name).configure_cert(self.tls)

    def take(self, subject: str) -> Mail:
        """The mail with this subject, as soon as it's there."""

        def found() -> t.Optional[Mail]:
            return next((mail for mail in self.mails if f"Subject: {subject}\r\n" in mail.content), None)

        return wait_for(found)


T = t.TypeVar("T")


def wait_for(look: t.Callable[[], t.Optional[T]]) -> T:
    end = time.monotonic() + TIMEOUT
    while time.monotonic() < end:
        found = look()
        if found:
            return found
        time.sleep(0.2)
    raise AssertionError(f"not seen within {TIMEOUT} s")


@pytest.fixture(scope="module")
def name(host: Host) -> str:
    return str(host.ansible.get_variables()["inventory_hostname"])


@pytest.fixture(scope="module")
def ca(host: Host) -> trustme.CA:
    """A certificate authority that the server trusts, as it trusts those of the world."""
    authority = trustme.CA()
    pem = authority.cert_pem.bytes().decode()
    host.run_expect([0], f"echo '{pem}' >/usr/local/share/ca-certificates/test.crt && update-ca-certificates --fresh")
    # smtp(8) has read them when it started
    host.run_expect([0], "systemctl reload postfix")
    return authority


@pytest.fixture(scope="module")
def running_relay(host: Host) -> t.Iterator[Relay]:
    relay = Relay(host.check_output("awk '/smtp.example.net/ {print $1; exit}' /etc/hosts"))
    relay.start()
    yield relay
    relay.stop()


@pytest.fixture
def relay(running_relay: Relay, ca: trustme.CA) -> Relay:
    running_relay.present(ca)
    running_relay.mails.clear()
    running_relay.logins.clear()
    return running_relay


def send(host: Host, subject: str, recipient: str = "bob@example.org", options: str = "") -> None:
    """As programs do it: any user may."""
    mail = f"Subject: {subject}\\nTo: {recipient}\\n\\nHello\\n"
    host.run_expect([0], f"printf '{mail}' | runuser -u nobody -- /usr/sbin/sendmail {options} {recipient}")


def queued(host: Host) -> t.List[t.Dict[str, t.Any]]:
    return [json.loads(line) for line in host.check_output("postqueue -j").splitlines()]


def test_nothing_is_wrong_in_the_log(host: Host) -> None:
    """The first test, since others provoke warnings."""
    log = host.check_output("journalctl --quiet --output=cat SYSLOG_FACILITY=2").splitlines()
    assert any("daemon started" in line for line in log)
    assert [line for line in log if any(word in line for word in ("warning:", "error:", "fatal:", "panic:"))] == []


def test_mail_leaves_through_the_relay(host: Host, name: str, relay: Relay) -> None:
    send(host, "one", options="-f shop@example.com")
    mail = relay.take("one")
    assert (mail.sender, mail.recipients, mail.encrypted) == ("shop@example.com", ["bob@example.org"], True)
    assert relay.logins == [LoginPassword(USER.encode(), PASSWORD.encode())]
    send(host, "two")
    assert relay.take("two").sender == f"nobody@{name}.example.com"
    assert queued(host) == []


@pytest.mark.parametrize("recipient", ["root", "root@localhost", "www-data", "postmaster@[127.0.0.1]"])
def test_the_machine_s_mail_reaches_a_person(host: Host, relay: Relay, recipient: str) -> None:
    send(host, f"for {recipient}", recipient=recipient)
    assert relay.take(f"for {recipient}").recipients == ["admin@example.com"]


def test_a_subject_that_is_not_ascii_leaves_as_it_is(host: Host, relay: Relay) -> None:
    """The relay does not offer SMTPUTF8."""
    send(host, "Prüfung 試験")
    relay.take("Prüfung 試験")


@pytest.mark.parametrize("fault", ["another authority", "another name", "no TLS"])
def test_a_relay_that_is_not_the_one(host: Host, relay: Relay, ca: trustme.CA, fault: str) -> None:
    """Neither the password nor the mail is given to it. The mail waits, and leaves when the relay is itself again."""
    if fault == "no TLS":
        relay.tls = None
    elif fault == "another name":
        relay.present(ca, "smtp.example.com")
    else:
        relay.present(trustme.CA())
    send(host, fault)
    waiting = wait_for(lambda: [mail for mail in queued(host) if mail["queue_name"] == "deferred"])
    reason = waiting[0]["recipients"][0]["delay_reason"]
    assert {
        "another authority": "Server certificate not ",
        "another name": "Server certificate not verified",
        "no TLS": "TLS is required, but was not offered",
    }[fault] in reason
    assert relay.mails == []
    assert relay.logins == []

    relay.present(ca)
    host.run_expect([0], "postqueue -f")
    assert relay.take(fault).encrypted


def test_nobody_else_reaches_port_25(host: Host) -> None:
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host.ansible.get_variables()["ansible_host"], 25), TIMEOUT)
    # 127.0.0.11 is Docker's name server
    listening = host.check_output("ss -lntH | awk '$4 !~ /^127.0.0.11:/ {print $4}'").split()
    assert {one for one in listening if not one.endswith(":22")} == {"127.0.0.1:25", "[::1]:25"}


def exposed(host: Host, password: str) -> str:
    """Where anybody on the server could read the password: files, the log, other people's processes."""
    quoted = "'" + password.replace("'", "'\\''") + "'"
    return (
        host.run(f"find / -xdev -type f -perm /o=r -exec grep -lF -- {quoted} {{}} +").stdout
        + host.run(f"journalctl --quiet --no-pager --output=cat | grep -F -- {quoted}").stdout
        + host.run("grep -alF -f /root/needle /root/processes").stdout
    )


def test_another_password_and_more_relays(host: Host, name: str, relay: Relay) -> None:
    """The last test: the server isn't as the scenario made it any more."""
    password = "another! one:"
    host.run_expect([0], f"umask 077; printf '%s\\n' '{password}' >/root/needle")
    watch = "while sleep .01; do cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ; done >/root/processes 2>/dev/null"
    host.run_expect([0], f"systemd-run --quiet --unit=watch sh -c '{watch}'")
    relays = [
        {"host": RELAY, "port": PORT, "username": USER, "password": password},
        {"host": "old.example.org", "port": 25, "domains": ["example.org", ".example.org"], "tls": "may"},
        {"host": "tls.example.info", "port": 465, "domains": ["example.info"], "username": "me", "password": "x"},
        {"host": "mx.example.edu", "domains": ["example.edu"], "tls": "encrypt"},
    ]
    done = play(SCENARIO / "converge.yml", name, "-vvv", postfix_relays=relays, postfix_send_ipv6=False)
    host.run_expect([0], "systemctl stop watch")
    assert done.code == 0, done.output
    assert password not in done.output
    assert "sleep" in host.file("/root/processes").content_string
    assert exposed(host, password) == ""
    assert host.run("grep -lF -f /root/needle /etc/postfix/*").stdout.split() == [
        "/etc/postfix/relay_passwords",
        host.check_output("ls /etc/postfix/relay_passwords.*"),
    ]

    send(host, "with another password", recipient="bob@example.com")
    relay.take("with another password")
    assert relay.logins[-1] == LoginPassword(USER.encode(), password.encode())

    def look_up(table: str, key: str) -> str:
        return host.check_output(f'postmap -q "{key}" "$(postconf -hx default_database_type):/etc/postfix/{table}"')

    assert look_up("relay_transport", "example.org") == "smtp:[old.example.org]:25"
    assert look_up("relay_transport", ".example.org") == "smtp:[old.example.org]:25"
    assert look_up("relay_transport", "example.info") == "smtps:[tls.example.info]:465"
    assert look_up("relay_transport", "example.edu") == "smtp:[mx.example.edu]:587"
    assert look_up("relay_tls", "[old.example.org]:25") == "may"
    assert look_up("relay_tls", "[tls.example.info]:465") == "secure match=nexthop"
    assert look_up("relay_passwords", "[tls.example.info]:465") == "me:x"
    passwords = host.check_output("postconf -hx smtp_sasl_password_maps")
    assert host.run(f"postmap -q '[mx.example.edu]:587' {passwords}").rc == 1
    overrides = host.check_output("postconf -P")
    assert "smtps/unix/smtp_tls_wrappermode = yes" in overrides
    for service in ("smtp", "smtps", "relay"):
        assert f"{service}/unix/inet_protocols = ipv4" in overrides
