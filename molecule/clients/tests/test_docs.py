# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Follow docs/clients.md: write its files, and run its commands as a user."""

import pathlib
import re
import shlex
import typing as t

import pytest
from conftest import Desktop, Site
from mailclient import Imap, deliver, mail, received, token
from testinfra.backend.base import CommandResult

testinfra_hosts = ["ansible://mail"]

DOCS = (pathlib.Path(__file__).parents[3] / "docs/clients.md").read_text(encoding="utf-8")
SENDING, READING = DOCS.split("\n## ")[1:]
FILES = dict(re.findall(r"^```\n# ~/(\S+)\n(.*?)^```$", DOCS, re.MULTILINE | re.DOTALL))


def commands(part: str) -> t.List[str]:
    return re.findall(r"^```console\n\$ (.*)\n```$", part, re.MULTILINE)


class Eve(t.NamedTuple):
    site: Site
    desktop: Desktop

    def here(self, text: str) -> str:
        """What the documentation says, with the names of this server."""
        owner = self.site.account("eve")
        text = text.replace("eve@example.com", owner.address).replace("the-password", owner.password)
        return text.replace("mail.example.com", self.site.server.name)

    def types(self, command: str) -> CommandResult:
        if command == "neomutt":
            # wants a terminal of some size, and somebody who ends it
            push = shlex.quote("push <exit>")
            command = f"TERM=xterm COLUMNS=120 LINES=40 script -qec {shlex.quote(f'neomutt -e {push}')} /dev/null"
        # a program that asks hears nothing, and has to give up
        typed = f"cd; timeout 30 bash -c {shlex.quote(self.here(command))} </dev/null"
        return self.desktop.machine.run("su - eve -c %s", typed)


@pytest.fixture(scope="module")
def eve(site: Site, desktop: Desktop) -> Eve:
    eve = Eve(site, desktop)
    for name, text in FILES.items():
        desktop.write(f"/home/eve/{name}", eve.here(text), "eve")
    desktop.write("/home/eve/.mail-password", site.account("eve").password + "\n", "eve")
    # what an earlier run has fetched
    desktop.machine.check_output(
        "rm -rf /home/eve/Mail /home/eve/Maildir /home/eve/mbox /home/eve/.local/share/getmail"
    )
    desktop.machine.check_output("chown -R eve /home/eve")
    return eve


def test_the_documentation_has_what_is_tested() -> None:
    assert len(commands(SENDING)) == 5
    assert len(commands(READING)) == 6
    assert len(FILES) == 6


@pytest.mark.parametrize("command", commands(SENDING), ids=lambda command: command.split()[0])
def test_sends(eve: Eve, command: str) -> None:
    word, owner = token(), eve.site.account("eve")
    eve.desktop.write("/home/eve/mail.txt", mail(owner.address, owner.address, word).decode(), "eve")
    done = eve.types(command)
    assert done.succeeded, done
    assert received(eve.site.server, owner, word)


@pytest.mark.parametrize("command", commands(READING), ids=lambda command: command.split()[-1])
def test_reads(eve: Eve, command: str) -> None:
    word, owner = token(), eve.site.account("eve")
    with Imap(eve.site.server).log_in(owner) as imap:
        imap.empty()
    deliver(eve.site.server, owner.address, mail("somebody@elsewhere.example", owner.address, word))
    received(eve.site.server, owner, word)
    done = eve.types(command)
    assert done.succeeded, done
    found = eve.desktop.machine.run("grep -rl %s /home/eve/Mail /home/eve/Maildir /home/eve/mbox", word)
    assert word in done.stdout or found.stdout


@pytest.fixture(scope="module")
def distrust(eve: Eve) -> t.Iterator[None]:
    machine = eve.desktop.machine
    machine.check_output(
        "mv /usr/local/share/ca-certificates/%s.crt /root && update-ca-certificates", eve.site.server.name
    )
    yield
    machine.check_output(
        "mv /root/%s.crt /usr/local/share/ca-certificates && update-ca-certificates", eve.site.server.name
    )


@pytest.mark.usefixtures("distrust")
@pytest.mark.parametrize("command", commands(SENDING) + commands(READING))
def test_does_not_talk_to_a_server_it_does_not_trust(eve: Eve, command: str) -> None:
    """The certificates were verified above."""
    done = eve.types(command)
    assert done.failed
    assert re.search("certificate|tls|ssl", done.stdout + done.stderr, re.IGNORECASE)
