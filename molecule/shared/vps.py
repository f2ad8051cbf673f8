# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A mail host that a scenario's tests change: commands on it, playbooks for it, and mail through it."""

import pathlib
import subprocess
import typing as t

import mailclient
from controller import Played, Running, begin, end
from mailclient import Account, Server

Person = t.Dict[str, t.Any]


def docker_exec(container: str, *command: str, stdin: str = "", check: bool = True) -> str:
    """A command in a container."""
    done = subprocess.run(
        ["docker", "exec", "--interactive", container, *command],
        input=stdin,
        text=True,
        # a daemon's log has whatever bytes it was given
        errors="backslashreplace",
        capture_output=True,
        check=False,
    )
    assert not check or done.returncode == 0, done
    return done.stdout


class Vps:
    """A mail host under test, with two people: the first and the last of the given ones."""

    def __init__(
        self,
        name: str,
        inventory: t.Dict[str, t.Any],
        people: t.Sequence[Person],
        playbooks: pathlib.Path,
        **variables: t.Any,
    ) -> None:
        self.name = name
        self.container = inventory["vps_container"]
        self.hostname = inventory["mail_hostname"]
        self.domain = inventory["mail_domains"][0]
        self.server = Server(self.hostname, inventory["ansible_host"], inventory["certificates_ca_file"])
        self.alice, self.bob = (
            Account(person["address"].partition("@")[0] + "@" + self.domain, person["password"])
            for person in (people[0], people[-1])
        )
        #: the folder of the playbooks, and what each of them is run with
        self._playbooks, self._variables = playbooks, variables

    def run(self, *command: str, stdin: str = "", check: bool = True) -> str:
        """A command on the host itself."""
        return docker_exec(self.container, *command, stdin=stdin, check=check)

    def start(self, playbook: str, *options: str, **variables: t.Any) -> Running:
        """A playbook, begun."""
        return begin(self._playbooks / playbook, self.name, *options, **{**self._variables, **variables})

    def play(self, playbook: str, *options: str, **variables: t.Any) -> Played:
        """A playbook, to its end."""
        outcome = end(self.start(playbook, *options, **variables))
        print(outcome.output)
        return outcome

    def serves(self) -> str:
        """Log in on 587, send, and read it over IMAP. Returns the word in that mail."""
        word = mailclient.token()
        mailclient.submit(
            self.server, self.alice, self.bob.address, mailclient.mail(self.alice.address, self.bob.address, word)
        )
        assert len(mailclient.received(self.server, self.bob, word)) == 1
        return word
