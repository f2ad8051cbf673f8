# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Third-party clients, on their own machine, which finds the server by its name."""

import shlex
import typing as t

import pytest
from conftest import Site
from mailclient import Imap, deliver, mail, received, token

testinfra_hosts = ["ansible://mail"]

SENDERS = {
    "swaks 587 PLAIN": "{swaks} --port 587 --tls --auth PLAIN",
    "swaks 587 LOGIN": "{swaks} --port 587 --tls --auth LOGIN",
    "swaks 465": "{swaks} --port 465 --tls-on-connect --auth",
    "curl 587": "{curl} --ssl-reqd --mail-from {user} --mail-rcpt {user} -T - smtp://{server}:587/client.example",
    "curl 465": "{curl} --mail-from {user} --mail-rcpt {user} -T - smtps://{server}:465/client.example",
    "msmtp 587": "{msmtp} --port=587 {user}",
    "msmtp 465": "{msmtp} --port=465 --tls-starttls=off {user}",
}
READERS = {
    "curl 993": "{curl} 'imaps://{server}/INBOX;MAILINDEX=1'",
    "curl 143": "{curl} --ssl-reqd 'imap://{server}/INBOX;MAILINDEX=1'",
    "curl 995": "{curl} pop3s://{server}/1",
    "curl 110": "{curl} --ssl-reqd pop3://{server}/1",
    "mbsync 993": "SSLType=IMAPS; {mbsync}",
    "mbsync 143": "SSLType=STARTTLS; {mbsync}",
}

#: What the commands above have in common.
PARTS = {
    "curl": "curl -sS --cacert {ca_file} --user {user}:{password}",
    "msmtp": "msmtp --host={server} --tls=on --tls-trust-file={ca_file} --auth=on --user={user} --from={user}"
    " --passwordeval='printf %s {password}'",
    "swaks": "swaks --server {server} --tls-verify --tls-ca-path {ca_file} --from {user} --to {user} --data -"
    " --auth-user {user} --auth-password {password}",
    "mbsync": """
        folder=$(mktemp -d)
        cat > $folder/config <<END
        IMAPStore server
        Host {server}
        User {user}
        Pass {password}
        SSLType $SSLType
        SystemCertificates no
        CertificateFile {ca_file}

        MaildirStore here
        Inbox $folder/inbox

        Channel all
        Far :server:
        Near :here:
        Sync Pull
        Create Near
        SyncState *
END
        mbsync --config $folder/config all && cat $folder/inbox/new/*""",
}

senders = pytest.mark.parametrize("program", SENDERS)
readers = pytest.mark.parametrize("program", READERS)


class Clients(t.NamedTuple):
    """The machine with the clients, and what they need to know."""

    machine: t.Any
    words: t.Dict[str, str]

    def run(self, command: str, ca_file: str, message: bytes = b"") -> t.Any:
        """Run one of the commands above."""
        words = {name: shlex.quote(word) for name, word in {**self.words, "ca_file": ca_file}.items()}
        parts = {name: part.format(**words) for name, part in PARTS.items()}
        return self.machine.run("printf %%s %s | bash -c %s", message.decode(), command.format(**parts, **words))


@pytest.fixture(scope="module")
def clients(site: Site, host: t.Any, request: pytest.FixtureRequest) -> Clients:
    """The clients, which have imported the CA of the server under test."""
    machine = host.get_host("ansible://client", ansible_inventory=request.config.option.ansible_inventory)
    with open(site.server.ca_file, encoding="ascii") as file:
        machine.check_output("printf %%s %s > %s", file.read(), f"/root/{site.server.name}.pem")
    user, password = site.account("clients")
    return Clients(machine, {"server": site.server.name, "user": user, "password": password})


@pytest.fixture
def one_mail(site: Site) -> str:
    """The word in the subject of the only mail in the mailbox."""
    word, owner = token(), site.account("clients")
    with Imap(site.server).log_in(owner) as imap:
        imap.empty()
    deliver(site.server, owner.address, mail("somebody@elsewhere.example", owner.address, word))
    received(site.server, owner, word)
    return word


@senders
def test_sends(site: Site, clients: Clients, program: str) -> None:
    word, owner = token(), site.account("clients")
    message = mail(owner.address, owner.address, word)
    done = clients.run(SENDERS[program], f"/root/{site.server.name}.pem", message)
    assert done.succeeded, done
    (delivered,) = received(site.server, owner, word)
    assert b"\r\nHello.\r\n" in delivered


@readers
def test_reads(site: Site, clients: Clients, program: str, one_mail: str) -> None:
    done = clients.run(READERS[program], f"/root/{site.server.name}.pem")
    assert done.succeeded, done
    assert one_mail in done.stdout


@senders
def test_does_not_send_to_a_server_it_does_not_trust(site: Site, clients: Clients, program: str) -> None:
    """The tests above did verify the certificate."""
    word, owner = token(), site.account("clients")
    done = clients.run(SENDERS[program], "/etc/ssl/certs/ca-certificates.crt", mail(owner.address, owner.address, word))
    assert done.failed
    assert "certificate" in (done.stdout + done.stderr).lower()


@readers
def test_does_not_read_from_a_server_it_does_not_trust(clients: Clients, program: str) -> None:
    done = clients.run(READERS[program], "/etc/ssl/certs/ca-certificates.crt")
    assert done.failed
    assert "certificate" in (done.stdout + done.stderr).lower()
