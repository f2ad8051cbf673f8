# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures: a server on the oldest release, a bare VPS with the newest, and one with a client and storage."""

import functools
import json
import pathlib
import subprocess
import sys
import typing as t

import pytest
import yaml

sys.path[:0] = [str(pathlib.Path(__file__).parent)]

from controller import Played, inventory, play, start
from mailclient import Account, Server

ROOT = pathlib.Path(__file__).parents[3]
PASSWORDS = {"alice": "alice's own", "bob": "bob's own"}
BACKUP_PASSWORD = "opens the backup"
S3_KEYS = {"AWS_ACCESS_KEY_ID": "keeper:mail", "AWS_SECRET_ACCESS_KEY": "opens-the-bucket"}

SFTP = """
set -e
id keeper > /dev/null 2>&1 || useradd -m keeper
install -d -o keeper /srv/mail /home/keeper/.ssh
[ -e /root/key ] || ssh-keygen -q -t ed25519 -N "" -f /root/key
install -o keeper -m 0600 /root/key.pub /home/keeper/.ssh/authorized_keys
cat /root/key
"""


class Machine:
    """A container."""

    def __init__(self, name: str, variables: t.Dict[str, t.Any]) -> None:
        self.name = name
        self.container = variables["vps_container"]
        self.network = variables["vps_network"]
        self.address = variables["ansible_host"]
        self.address6 = variables["vps_ipv6"]

    def run(self, script: str) -> "subprocess.CompletedProcess[str]":
        """A script for bash."""
        command = ["docker", "exec", "--interactive", self.container, "bash"]
        return subprocess.run(command, input=script, text=True, capture_output=True, check=False)

    def do(self, script: str) -> str:
        """What it prints. It has to succeed."""
        done = self.run(script)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def back_up(self) -> bool:
        """Start the unit and wait for its end. Whether it succeeded."""
        return self.run("systemctl start port587-backup").returncode == 0


class Life:
    """The server, whichever machine it is on."""

    def __init__(self) -> None:
        told = json.loads(pathlib.Path(inventory()).read_text(encoding="utf-8"))["all"]
        hosts = {name: host for group in told["children"].values() for name, host in group["hosts"].items()}
        machines = {name: Machine(name, dict(told["vars"], **hosts[name])) for name in hosts}
        names = list(told["children"]["mail"]["hosts"])
        self.old, self.new, self.client = machines[names[0]], machines[names[-1]], machines["storage"]
        known = hosts[self.old.name]
        self.hostname, self.domain = known["mail_hostname"], known["mail_domains"][0]
        self.ca_file = known["certificates_ca_file"]
        key = self.client.do(SFTP)
        host_key = self.client.do("cut -d' ' -f1,2 /etc/ssh/ssh_host_ed25519_key.pub")
        self.variables: t.Dict[str, t.Any] = {
            "mail_hostname": self.hostname,
            "mail_domains": [self.domain],
            "mail_accounts": [
                {"address": f"{name}@{self.domain}", "password": word, "quota": "50M"}
                for name, word in PASSWORDS.items()
            ],
            "mail_own_passwords": True,
            "mail_training": True,
            "certificates_ca_file": self.ca_file,
            "verify_from": "storage",
            "mail_backup": True,
            "backup_repository": f"sftp:keeper@{self.client.address}:/srv/mail/repository",
            "backup_password": BACKUP_PASSWORD,
            "backup_ssh_key": key,
            "backup_ssh_known_hosts": f"{self.client.address} {host_key}",
        }

    def play(self, machine: Machine, playbook: str, *options: str, **variables: t.Any) -> Played:
        """One of the collection's playbooks. No secret is in what it says."""
        chosen = {**self.variables, **variables}
        done = play(ROOT / "playbooks" / f"{playbook}.yml", machine.name, *options, **chosen)
        for secret in (
            *PASSWORDS.values(),
            BACKUP_PASSWORD,
            *S3_KEYS.values(),
            self.variables["backup_ssh_key"].splitlines()[2],
        ):
            assert secret not in done.output
        return done

    def backup_record(self, machine: Machine) -> t.Dict[str, str]:
        """What the look from inside says about the backup."""
        running = start("ansible", machine.name, "-m", "port587.mail.inspect_info", machine.name)
        found = yaml.safe_load(running.communicate().partition("=>")[2])
        return next(one for one in found["records"] if one["step"] == "backup")

    @functools.cached_property
    def s3(self) -> str:
        """The S3 server, which has the bucket `mail`."""
        script = (pathlib.Path(__file__).parents[1] / "s3.sh").read_text(encoding="utf-8")
        self.client.do(f"bash -s {' '.join(S3_KEYS.values())} mail <<'SCRIPT'\n{script}SCRIPT\n")
        return f"s3:http://{self.client.address}:9000"

    def server(self, machine: Machine) -> Server:
        return Server(self.hostname, machine.address, self.ca_file)

    def account(self, name: str) -> Account:
        return Account(f"{name}@{self.domain}", PASSWORDS[name])


@pytest.fixture(scope="session")
def life() -> Life:
    return Life()
