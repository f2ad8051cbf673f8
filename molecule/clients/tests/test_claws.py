# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Claws Mail, which has TLS from GnuTLS and IMAP from libEtPan: no code in common with Thunderbird."""

import shlex
import typing as t

import pytest
from conftest import Desktop, Site
from mailclient import Account, Imap, mail, received, submit, token, until

testinfra_hosts = ["ansible://mail"]

HOME = "/tmp/claws"
#: where the running one listens for commands is in XDG_RUNTIME_DIR
ENVIRONMENT = f"env DISPLAY=:99 HOME={HOME} XDG_RUNTIME_DIR={HOME} LANG=C.UTF-8"
#: protocol 3 is IMAP; ssl_imap 1 is TLS from the start, ssl_smtp 2 is STARTTLS
ACCOUNT = """\
[Account: 1]
account_name=eve
is_default=1
name=Eve
address={user}
protocol=3
receive_server={server}
smtp_server={server}
user_id={user}
password={password}
use_smtp_auth=1
ssl_imap=1
ssl_smtp=2
set_imapport=1
imap_port=993
set_smtpport=1
smtp_port=587
"""
FOLDERS = """\
<?xml version="1.0" encoding="UTF-8"?>
<folderlist>
  <folder type="mh" name="Mail" path="Mail">
    <folderitem type="outbox" name="sent" path="sent"/>
    <folderitem type="draft" name="draft" path="draft"/>
    <folderitem type="queue" name="queue" path="queue"/>
    <folderitem type="trash" name="trash" path="trash"/>
  </folder>
  <folder type="imap" name="eve" account_id="1">
    <folderitem type="inbox" name="INBOX" path="INBOX"/>
  </folder>
</folderlist>
"""


class Claws(t.NamedTuple):
    """A running one."""

    desktop: Desktop

    def does(self, command: str) -> str:
        return self.desktop.machine.check_output(f"{ENVIRONMENT} timeout 30 {command}")

    def waits_for(self, title: str) -> None:
        self.does(f"xdotool search --sync --onlyvisible --name {shlex.quote(title)}")

    def photograph(self, name: str) -> None:
        self.does("import -window root /tmp/screen.png")
        self.desktop.keep("/tmp/screen.png", name)

    def log(self) -> str:
        return self.desktop.machine.check_output(f"cat {HOME}/.claws-mail/claws.log")

    def sends(self, recipient: str, subject: str) -> None:
        """Write a mail and press the keys for Send."""
        self.desktop.write(f"{HOME}/mail.txt", f"To: {recipient}\nSubject: {subject}\n\nHello.\n")
        self.does(f"claws-mail --compose-from-file {HOME}/mail.txt")
        self.does(f"xdotool search --sync --onlyvisible --name {subject} windowfocus --sync key ctrl+Return")


Start = t.Callable[[Account], Claws]


@pytest.fixture
def start(site: Site, desktop: Desktop) -> t.Iterator[Start]:
    """Start Claws Mail with this account and nothing else."""
    machine = desktop.machine

    def run(account: Account) -> Claws:
        machine.check_output(f"rm -rf {HOME} && mkdir -p {HOME}/Mail/sent {HOME}/Mail/queue")
        settings = {"user": account.address, "password": account.password, "server": site.server.name}
        desktop.write(f"{HOME}/.claws-mail/accountrc", ACCOUNT.format(**settings))
        desktop.write(f"{HOME}/.claws-mail/folderlist.xml", FOLDERS)
        # there is no dictionary for it
        desktop.write(f"{HOME}/.claws-mail/clawsrc", "[Common]\nenable_aspell=0\n")
        machine.check_output("systemctl is-active screen || systemd-run --unit screen Xvfb :99 -screen 0 1280x900x24")
        machine.check_output(f"systemd-run --unit claws --collect {ENVIRONMENT} dbus-run-session claws-mail")
        claws = Claws(desktop)
        claws.waits_for("Claws Mail")
        return claws

    yield run
    # with a dialogue open, it doesn't end when it is asked to
    machine.run("systemctl kill --signal=KILL claws")


@pytest.fixture
def distrust(site: Site, desktop: Desktop) -> t.Iterator[None]:
    certificate = f"/usr/local/share/ca-certificates/{site.server.name}.crt"
    desktop.machine.check_output(f"mv {certificate} /root/claws.crt && update-ca-certificates")
    yield
    desktop.machine.check_output(f"mv /root/claws.crt {certificate} && update-ca-certificates")


def test_sends_and_reads(site: Site, start: Start) -> None:
    eve, bob, subject, answer = site.account("eve"), site.account("bob"), token(), token()
    claws = start(eve)
    claws.sends(bob.address, subject)
    assert received(site.server, bob, subject)
    log = claws.log()
    assert f"{site.server.name}:587" in log
    assert log.index("> STARTTLS") < log.index("> AUTH") < log.index("Mail sent successfully")
    assert claws.does(f"grep -rl {subject} {HOME}/Mail/sent")

    submit(site.server, bob, eve.address, mail(bob.address, eve.address, answer, b"Hello Eve.\r\n"))
    assert received(site.server, eve, answer)
    with Imap(site.server).log_in(eve) as imap:
        imap.search_subject(answer)
        number = imap.uid("SEARCH", "SUBJECT", answer)[1][0].decode()
    claws.does("claws-mail --receive-all")
    claws.does(f"claws-mail --select '#imap/eve/INBOX/{number}'")
    # what it shows it has fetched, and keeps
    kept = f"grep -rl {answer} {HOME}/.claws-mail/imapcache --include={number}"
    for found in until(lambda: claws.desktop.machine.run(kept).succeeded):
        if found:
            break
    assert found
    claws.photograph("claws-answer.png")
    assert f"{site.server.name}:993" in claws.log()


@pytest.mark.usefixtures("distrust")
def test_without_the_authority_no_password_is_given_away(site: Site, start: Start) -> None:
    """It was sent above."""
    claws = start(site.account("eve"))
    claws.sends(site.account("bob").address, token())
    claws.waits_for("certificate")
    claws.photograph("claws-untrusted.png")
    log = claws.log()
    assert "> STARTTLS" in log
    assert "> AUTH" not in log
