# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Debian 11 becomes 12, and 12 becomes 13: by the playbook, and by hand the wrong way. Nothing accepted is lost.

A server that was 12 is kept as an image, so that 12 becomes 13 twice.
"""

import collections
import pathlib
import subprocess
import threading
import time
import typing as t

import mailclient
import pytest
import yaml
from containers import START
from controller import Played, play
from mailclient import Account, Server, until

SCENARIO = pathlib.Path(__file__).parent.parent
SITE = SCENARIO / "converge.yml"
UPGRADE = SCENARIO.parent.parent / "playbooks" / "upgrade.yml"
VARIABLES = yaml.safe_load(SITE.read_text(encoding="utf-8"))[0]["vars"]

#: What people do who follow the release notes, and keep their configuration files.
BY_HAND = """
set -e
export DEBIAN_FRONTEND=noninteractive
sed -i s/bookworm/trixie/g /etc/apt/sources.list
apt-get -q update
apt-get -q -y -o Dpkg::Options::=--force-confold full-upgrade
"""
#: As a package does that brings its own files (dpkg --force-confnew).
REPLACED = """
set -e
cp /usr/share/dovecot/dovecot.conf /etc/dovecot/dovecot.conf
cp /etc/postfix/main.cf.proto /etc/postfix/main.cf
cp /etc/postfix/master.cf.proto /etc/postfix/master.cf
systemctl restart dovecot
systemctl restart postfix
"""


def docker(*arguments: str, check: bool = True) -> str:
    done = subprocess.run(["docker", *arguments], text=True, capture_output=True, check=False)
    assert not check or done.returncode == 0, done
    return done.stdout


class Vps:
    """The server, whichever release it has."""

    def __init__(self, variables: t.Dict[str, t.Any]) -> None:
        self.name, self.container = "debian11", variables["vps_container"]
        self.network, self.host = variables["vps_network"], variables["vps_hostname"]
        self.domain = variables["mail_domains"][0]
        self.server = Server(variables["mail_hostname"], variables["ansible_host"], variables["certificates_ca_file"])
        self.alice, self.bob = (
            Account(one["address"].partition("@")[0] + "@" + self.domain, one["password"])
            for one in VARIABLES["mail_accounts"]
        )

    def run(self, script: str, check: bool = True) -> str:
        return docker("exec", self.container, "bash", "-c", script, check=check)

    def upgrade(self, to: str, *options: str, **variables: t.Any) -> Played:
        return play(UPGRADE, self.name, *options, upgrade_to=to, **{**VARIABLES, **variables})

    def release(self) -> str:
        return self.run(". /etc/os-release; echo $VERSION_ID").strip()

    def kept(self) -> str:
        """What has to be the same after each upgrade: hashes of passwords, keys, Sieve scripts."""
        return self.run(
            "sha256sum /etc/port587/accounts/passwd /var/lib/rspamd/dkim/*.key /etc/port587/ca/ca.pem "
            f"/var/vmail/{self.domain}/bob/sieve/*.sieve"
        )

    def reboot(self) -> None:
        """As the packages ask for. The address stays: the network has no other container."""
        docker("restart", self.container)
        for state in until(lambda: self.run("systemctl is-system-running || true").strip(), 60):
            if state in ("running", "degraded"):
                return
        raise AssertionError(state)

    def restart_from(self, image: str) -> None:
        """Replace the container. It gets the same address: its network has no other."""
        docker("rm", "--force", self.container)
        aliases = [f"--network-alias={self.host}", f"--hostname={self.host}"]
        docker("run", *START, f"--name={self.container}", f"--network={self.network}", *aliases, image)
        end = time.monotonic() + 60
        while self.run("systemctl is-system-running", check=False).strip() not in ("running", "degraded"):
            assert time.monotonic() < end
            time.sleep(0.5)


class Submitter(threading.Thread):
    """A mail client that sends a mail each second. What the server has not accepted counts as refused, not as lost."""

    def __init__(self, vps: Vps) -> None:
        super().__init__()
        self.vps, self.word, self.stopped = vps, mailclient.token(), threading.Event()
        self.accepted: t.List[str] = []
        self.refused: t.List[str] = []
        #: accepted in the moment when the answer got lost, so it may be there once, or not
        self.answers: t.Set[str] = set()

    def run(self) -> None:
        number = 0
        while not self.stopped.wait(1):
            number += 1
            subject = f"{self.word} {number}"
            to = f"sales@{self.vps.domain}"
            try:
                mailclient.submit(
                    self.vps.server, self.vps.alice, to, mailclient.mail(self.vps.alice.address, to, subject)
                )
                self.accepted.append(subject)
            except Exception as error:
                self.refused.append(subject)
                self.answers.add(str(error))

    def __enter__(self) -> "Submitter":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopped.set()
        self.join()

    def arrived(self) -> t.Counter[str]:
        with mailclient.Imap(self.vps.server).log_in(self.vps.bob) as imap:
            found: t.Counter[str] = collections.Counter()
            for number in imap.search_subject(self.word, "Sorted"):
                text = imap.mail(number).decode("utf-8", "replace")
                found[text.partition("Subject: ")[2].partition("\r\n")[0]] += 1
            return found

    def check(self) -> None:
        """All accepted mails have arrived in the folder that Bob's script chooses, each once."""
        assert self.accepted, self.answers
        for found in mailclient.until(self.arrived, 90):
            if set(self.accepted) <= set(found):
                break
        missing = set(self.accepted) - set(found)
        assert not missing, "lost: %s" % sorted(missing)
        assert max(found.values()) == 1, found
        assert set(found) <= set(self.accepted), "not accepted, and there: %s" % (set(found) - set(self.accepted))


@pytest.fixture(scope="module")
def vps(host: t.Any) -> Vps:
    server = Vps(host.ansible.get_variables())
    with mailclient.Sieve(server.server).log_in(server.bob) as sieve:
        sieve.put("sorted", 'require ["fileinto", "mailbox"]; fileinto :create "Sorted";')
        sieve.say(b'SETACTIVE "sorted"')
    # another server's mail that waits in the queue: for a domain that nobody can reach
    server.run(
        "printf 'Subject: waits\\n\\nHello\\n' | sendmail -f root nobody@unreachable.invalid.example", check=False
    )
    return server


@pytest.fixture(scope="module")
def image() -> t.Iterator[str]:
    name = "port587-upgrade-test:12"
    yield name
    docker("image", "rm", name, check=False)


def said(played: Played) -> str:
    return played.output[-4000:]


def test_what_stands_in_the_way_is_named(vps: Vps) -> None:
    vps.run(
        "apt-mark hold nginx; touch /run/reboot-required;"
        "echo 'deb http://repository.invalid/debian bullseye main' > /etc/apt/sources.list.d/other.list"
    )
    before = vps.run("sha256sum /etc/apt/sources.list /etc/postfix/main.cf")
    played = vps.upgrade("12")
    assert played.code == 2, said(played)
    for words in ("held back: nginx", "needs a reboot"):
        assert words in played.output, said(played)
    vps.run("apt-mark unhold nginx; rm /run/reboot-required /etc/apt/sources.list.d/other.list")
    assert "'13' is not the release after this server's (Debian 11); write '12'" in vps.upgrade("13").output
    assert vps.run("sha256sum /etc/apt/sources.list /etc/postfix/main.cf") == before


def test_11_becomes_12(vps: Vps, image: str, record_property: t.Any) -> None:
    client = upgraded(vps, "12", record_property)
    assert any("421" in answer and "being upgraded" in answer for answer in client.answers), client.answers
    assert vps.run("cat /run/reboot-required.pkgs").split() == ["dbus"]
    docker("commit", vps.container, image)
    vps.reboot()
    with Submitter(vps) as client:
        time.sleep(3)
    client.check()


def test_a_setting_that_the_next_release_does_not_know_is_named(vps: Vps) -> None:
    before = vps.run("sha256sum /etc/apt/sources.list; systemctl show -p ActiveEnterTimestamp dovecot")
    played = vps.upgrade("13", "--check", dovecot_extra="mail_max_lock_timeout = 5s\nmail_location = maildir:~/x\n")
    assert played.code == 2, said(played)
    assert "dovecot_extra: the next release does not accept: mail_location = maildir:~/x" in played.output, said(played)
    assert vps.run("sha256sum /etc/apt/sources.list; systemctl show -p ActiveEnterTimestamp dovecot") == before


def test_12_becomes_13(vps: Vps, record_property: t.Any) -> None:
    upgraded(vps, "13", record_property)
    assert "there is nothing to upgrade" in vps.upgrade("13", "--check").output


def test_replaced_files_are_put_back(vps: Vps) -> None:
    vps.run(REPLACED, check=False)
    played = play(SITE, vps.name)
    assert played.code == 0, said(played)
    shown = played.changes()
    assert {"Configure Dovecot", "Configure Postfix"} <= {name.rpartition(" : ")[2] for name in shown}, shown
    with Submitter(vps) as client:
        time.sleep(3)
    client.check()


def test_site_yml_heals_an_upgrade_by_hand(vps: Vps, image: str) -> None:
    vps.restart_from(image)
    before = vps.kept()
    with Submitter(vps) as client:
        vps.run(BY_HAND, check=False)
        assert "dovecot-core" in vps.run("dpkg --audit"), "Dovecot 2.4 took the files of 2.3; is this test needed?"
        played = play(SITE, vps.name)
        time.sleep(3)
    assert played.code == 0, said(played)
    assert vps.run("dpkg --audit") == ""
    assert vps.kept() == before
    # what came after Dovecot had gone would wait for five minutes
    vps.run("postqueue -f")
    client.check()
    assert play(SITE, vps.name).changed == 0


def upgraded(vps: Vps, to: str, record_property: t.Any) -> Submitter:
    """Upgrade by the playbook, while a client submits mail: nothing gets lost, and nothing of the server's own."""
    before, which = vps.kept(), f"{vps.release()} to {to}"
    with Submitter(vps) as client:
        played = vps.upgrade(to)
    assert played.code == 0, said(played)
    assert vps.release() == to
    assert vps.kept() == before
    client.check()
    words = played.output.partition("Mail was away for")[2].split()[:2]
    record_property(which, " ".join(words))
    print(which, "mail was away for", *words)
    return client
