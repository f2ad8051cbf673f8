# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Dovecot without Postfix: mail clients over the network, which trust only the server's certificate."""

import base64
import contextlib
import email
import imaplib
import os
import pathlib
import poplib
import re
import socket
import ssl
import typing as t

import pytest
from controller import play
from testinfra.host import Host

SCENARIO = pathlib.Path(os.environ["MOLECULE_SCENARIO_DIRECTORY"])
EVE, BOB, PASSWORD = "eve@example.com", "bob@example.com", "correct horse battery"
FOLDERS = {"Drafts", "Sent", "Junk", "Trash", "Archive"}
TIMEOUT = 20


class Server(t.NamedTuple):
    address: str
    tls: ssl.SSLContext

    def imap(self) -> imaplib.IMAP4:
        return imaplib.IMAP4_SSL(self.address, ssl_context=self.tls, timeout=TIMEOUT)

    def imap_starttls(self) -> imaplib.IMAP4:
        client = imaplib.IMAP4(self.address, timeout=TIMEOUT)
        client.starttls(self.tls)
        return client

    def pop(self) -> poplib.POP3:
        return poplib.POP3_SSL(self.address, context=self.tls, timeout=TIMEOUT)

    def pop_starttls(self) -> poplib.POP3:
        client = poplib.POP3(self.address, timeout=TIMEOUT)
        client.stls(self.tls)
        return client


class ByName(ssl.SSLContext):
    """Connections go to the server's address, and its certificate has to be for its name."""

    name = ""

    def wrap_socket(self, sock: socket.socket, *_options: t.Any, **_more: t.Any) -> ssl.SSLSocket:
        return super().wrap_socket(sock, server_hostname=self.name)


@pytest.fixture(scope="module")
def server(host: Host) -> Server:
    variables = host.ansible.get_variables()
    tls = ByName(ssl.PROTOCOL_TLS_CLIENT)
    tls.load_verify_locations(cadata=host.check_output("openssl x509 -in /etc/ssl/private/mail.pem"))
    tls.name = variables["mail_hostname"]
    return Server(variables["ansible_host"], tls)


@contextlib.contextmanager
def mailbox(server: Server, user: str) -> t.Iterator[imaplib.IMAP4]:
    client = server.imap()
    client.login(user, PASSWORD)
    try:
        yield client
    finally:
        client.logout()


def ok(answer: t.Tuple[str, t.List[t.Any]]) -> t.List[t.Any]:
    assert answer[0] == "OK", answer
    return answer[1]


def deliver(host: Host, user: str, subject: str) -> None:
    """As a program on the server does it, fetchmail for instance. Its user needs no rights."""
    script = (
        "import smtplib; client = smtplib.LMTP('/run/dovecot/lmtp');"
        f"client.sendmail('me@example.net', '{user}', 'Subject: {subject}\\r\\n\\r\\nHello\\r\\n')"
    )
    host.run_expect([0], f'runuser -u nobody -- python3 -c "{script}"')


def subjects(client: imaplib.IMAP4, folder: str) -> t.List[str]:
    ok(client.select(folder, readonly=True))
    numbers = ok(client.search(None, "ALL"))[0].split()
    mails = [email.message_from_bytes(ok(client.fetch(number, "(RFC822)"))[0][1]) for number in numbers]
    return [str(mail["Subject"]) for mail in mails]


def test_nothing_is_wrong_in_the_log(host: Host) -> None:
    """The first test, since others provoke warnings."""
    log = host.check_output("journalctl --quiet --output=cat SYSLOG_FACILITY=2").splitlines()
    assert any("starting up" in line for line in log)
    trouble = [line for line in log if re.search("warning|error|fatal|panic", line, re.IGNORECASE)]
    assert [line for line in trouble if "Killed with signal 15" not in line] == []


def test_login(server: Server) -> None:
    for connect in (server.imap, server.imap_starttls):
        client = connect()
        ok(client.login(EVE, PASSWORD))
        client.logout()
    for connect_pop in (server.pop, server.pop_starttls):
        pop = connect_pop()
        pop.user(EVE)
        assert pop.pass_(PASSWORD).startswith(b"+OK")
        pop.quit()


def test_the_address_in_any_case(server: Server) -> None:
    client = server.imap()
    ok(client.login("Eve@Example.COM", PASSWORD))
    client.logout()


def test_no_password_in_clear(server: Server) -> None:
    """Even the right one is refused before TLS, so that a client that is set up wrongly can't have its way."""
    client = imaplib.IMAP4(server.address, timeout=TIMEOUT)
    assert "LOGINDISABLED" in client.capabilities
    with pytest.raises(imaplib.IMAP4.error, match="PRIVACYREQUIRED"):
        client.login(EVE, PASSWORD)
    pop = poplib.POP3(server.address, timeout=TIMEOUT)
    with pytest.raises(poplib.error_proto, match="disallowed|not allowed"):
        pop.user(EVE)


def test_folders_say_what_they_are_for(server: Server) -> None:
    with mailbox(server, EVE) as client:
        found = b"\n".join(ok(client.list())).decode()
        uses = re.findall(r'\\(\w+)\) "/" "?(\w+)"?$', found, re.M)
        assert {use for use in uses if use[1] != "INBOX"} == {(name, name) for name in FOLDERS}
        subscribed = b"\n".join(ok(client.lsub())).decode()
        assert set(re.findall(r'"/" "?(\w+)"?$', subscribed, re.M)) - {"INBOX"} == FOLDERS


def test_delivery(host: Host, server: Server) -> None:
    deliver(host, EVE, "delivered")
    with mailbox(server, EVE) as client:
        assert subjects(client, "INBOX") == ["delivered"]
    pop = server.pop()
    pop.user(EVE)
    pop.pass_(PASSWORD)
    assert b"Subject: delivered" in pop.retr(1)[1]
    pop.quit()
    mail = host.check_output("find /var/vmail/example.com/eve/Maildir/cur -type f")
    assert [host.file(mail).user, host.file(mail).group, host.file(mail).mode] == ["vmail", "vmail", 0o600]
    with mailbox(server, BOB) as client:
        assert subjects(client, "INBOX") == []


def test_no_delivery_to_nobody(host: Host) -> None:
    with pytest.raises(AssertionError, match="550.*5.1.1"):
        deliver(host, "mallory@example.com", "nobody")


class ManageSieve:
    """As much of RFC 5804 as it takes to store a script."""

    def __init__(self, server: Server) -> None:
        self.socket: socket.socket = socket.create_connection((server.address, 4190), TIMEOUT)
        self.reader = self.socket.makefile("rb")
        self.greeting = self.answer()
        self.ask("STARTTLS")
        self.socket = server.tls.wrap_socket(self.socket)
        self.reader = self.socket.makefile("rb")
        self.capabilities = self.answer()

    def answer(self) -> str:
        lines = [self.reader.readline().decode()]
        while not lines[-1].startswith(("OK", "NO", "BYE")):
            assert lines[-1], lines
            lines.append(self.reader.readline().decode())
        assert lines[-1].startswith("OK"), lines
        return "".join(lines)

    def ask(self, command: str) -> str:
        self.socket.sendall(command.encode() + b"\r\n")
        return self.answer()


def test_sieve(host: Host, server: Server) -> None:
    client = ManageSieve(server)
    assert '"SASL" ""' in client.greeting
    assert '"SASL" "PLAIN' in client.capabilities
    client.ask('AUTHENTICATE "PLAIN" "%s"' % base64.b64encode(f"\0{EVE}\0{PASSWORD}".encode()).decode())
    script = 'require "fileinto";\r\nif header :contains "Subject" "lottery" { fileinto "Junk"; }\r\n'
    client.ask(f'PUTSCRIPT "mine" {{{len(script)}+}}\r\n{script}')
    client.ask('SETACTIVE "mine"')
    with pytest.raises(AssertionError, match="NO"):
        client.ask('PUTSCRIPT "wrong" {7+}\r\nnonsens')

    deliver(host, EVE, "the lottery")
    with mailbox(server, EVE) as imap:
        assert subjects(imap, "Junk") == ["the lottery"]
        assert "the lottery" not in subjects(imap, "INBOX")


@pytest.mark.parametrize(("user", "limit"), [(EVE, 1024 * 1024), (BOB, 10 * 1024)])
def test_quota(server: Server, user: str, limit: int) -> None:
    """In KiB: the role's default, and an account's own."""
    with mailbox(server, user) as client:
        said = ok(client.getquotaroot("INBOX"))
    shown = re.search(r"STORAGE (\d+) (\d+)", str(said))
    assert shown, said
    assert int(shown.group(2)) == limit


def test_nothing_for_postfix(host: Host) -> None:
    assert not host.package("postfix").is_installed
    assert not host.file("/var/spool/postfix").exists
    # on 127.0.0.1 Dovecot asks about logins, and on 127.0.0.11 is Docker's name server
    listening = host.check_output("ss -lntH | awk '$4 !~ /^127[.]/ {print $4}'")
    assert set(re.findall(r":(\d+)$", listening, re.M)) - {"22"} == {"110", "143", "993", "995", "4190"}


def quoted(name: str) -> str:
    return '"%s"' % name.replace("\\", "\\\\").replace('"', '\\"')


def folders(client: imaplib.IMAP4) -> t.Dict[str, t.Tuple[bytes, bool]]:
    """What there is of each folder, and whether it is subscribed."""
    there = [line for line in ok(client.list()) if b"\\Noselect" not in line]
    names = [re.findall(rb'"/" "?(.*?)"?$', line)[0].decode() for line in there]
    subscribed = [re.findall(rb'"/" "?(.*?)"?$', line)[0].decode() for line in ok(client.lsub())]
    return {
        name: (ok(client.status(f'"{name}"', "(MESSAGES UIDNEXT UIDVALIDITY)"))[0], name in subscribed)
        for name in names
    }


def make(client: imaplib.IMAP4, *names: str) -> None:
    for name in names:
        ok(client.create(quoted(name)))
        ok(client.subscribe(quoted(name)))
        ok(client.append(quoted(name), "", "", f"Subject: in {name}\r\n\r\nHello\r\n".encode()))


#: As it was before names were escaped on disk.
UNESCAPED = {
    "2.3": "protocol imap {\n  mail_plugins = quota imap_quota\n}",
    "2.4": "mailbox_list_storage_escape_char =",
}
#: A dot was refused then. Mail clients send letters beyond ASCII in this form.
OLD_FOLDERS = [
    "Work",
    "Work/Sub",
    "Two words",
    "100%",
    "50%2e",
    "a%20b",
    "back\\slash",
    "it's #1 &- co",
    "&ZeVnLIqe-",
    "x.y",
]
NEW_FOLDERS = [
    "Example Inc.",
    "2026.01",
    "Work/v1.2",
    "~home",
    "~/deep",
    "..",
    ".hidden",
    "a..b",
    "50% ^2e",
    "tilde~",
    "5*5?",
]


def test_folders_of_any_name(host: Host, server: Server) -> None:
    """Names as people give them. A server that was built before keeps its folders."""
    version = "2.4" if host.check_output("dovecot --version").startswith("2.4") else "2.3"
    name = host.ansible.get_variables()["inventory_hostname"]
    done = play(SCENARIO / "converge.yml", name, dovecot_extra=UNESCAPED[version])
    assert done.code == 0, done.output
    host.check_output("rm -rf /var/vmail/example.com/bob")
    with mailbox(server, BOB) as client:
        with pytest.raises(AssertionError, match="Character not allowed"):
            make(client, "x.y")
        make(client, *(folder for folder in OLD_FOLDERS if "." not in folder))
        before = folders(client)
    done = play(SCENARIO / "converge.yml", name)
    assert done.code == 0, done.output
    with mailbox(server, BOB) as client:
        assert folders(client) == before
        make(client, *NEW_FOLDERS)
        after = folders(client)
        assert {folder for folder in after if folder not in before} >= set(NEW_FOLDERS)
        assert all(after[folder][1] for folder in NEW_FOLDERS)
        for folder in NEW_FOLDERS:
            assert subjects(client, quoted(folder)) == [f"in {folder}"]
        ok(client.rename(quoted("2026.01"), quoted("Work/2026.02")))
        assert subjects(client, quoted("Work/2026.02")) == ["in 2026.01"]
        ok(client.delete(quoted("..")))
    # nothing left its place
    assert host.check_output("ls /var/vmail/example.com /var/vmail/example.com/bob").split()[-1] == "Maildir"


def test_what_dovecot_does_not_know_changes_nothing(host: Host, server: Server) -> None:
    before = host.file("/etc/dovecot/dovecot.conf").content
    name = host.ansible.get_variables()["inventory_hostname"]
    done = play(SCENARIO / "converge.yml", name, dovecot_extra="no_such_thing = yes")
    assert done.code != 0
    assert "Unknown setting: no_such_thing" in done.output
    assert host.file("/etc/dovecot/dovecot.conf").content == before
    with mailbox(server, EVE):
        pass


def test_files_of_other_roles_that_are_not_there(host: Host, server: Server) -> None:
    """Found before anything changes."""
    before = host.file("/etc/dovecot/dovecot.conf").content
    name = host.ansible.get_variables()["inventory_hostname"]
    done = play(SCENARIO / "converge.yml", name, dovecot_passwd_file="/etc/none", dovecot_certificate="/etc/none.pem")
    assert done.code != 0
    output = re.sub(r"\s+", " ", done.output.replace("''", "'"))
    assert "dovecot_passwd_file: '/etc/none' is not on this server; run role accounts first" in output
    assert "dovecot_certificate: '/etc/none.pem' is not on this server; run role certificates first" in output
    assert host.file("/etc/dovecot/dovecot.conf").content == before
    with mailbox(server, EVE):
        pass


def test_wrong_password(server: Server) -> None:
    """The last test: for a while, Dovecot lets an address with failures wait."""
    with pytest.raises(imaplib.IMAP4.error, match="AUTHENTICATIONFAILED"):
        server.imap().login(EVE, PASSWORD + "!")
    pop = server.pop()
    pop.user(EVE)
    with pytest.raises(poplib.error_proto, match="AUTH"):
        pop.pass_(PASSWORD + "!")
