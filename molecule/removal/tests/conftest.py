# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures: a mail host, playbooks that change it, and what it consists of."""

import pathlib
import typing as t

import mailclient
import pytest
import vps as vps_under_test
from by_host import host_of
from by_host import pytest_xdist_make_scheduler as pytest_xdist_make_scheduler
from controller import Played

PLAYBOOKS = pathlib.Path(__file__).parents[3] / "playbooks"

#: One line for each file of the machine's configuration, with all there is to it; for each user, unit and port.
LISTING = r"""
import grp, hashlib, os, pwd, re, stat, subprocess
def name(look, number):
    try:
        return look(number)[0]
    except KeyError:
        return str(number)
for top in ("/etc", "/usr/local", "/var/lib/port587", "/var/vmail", "/var/spool/postfix/port587", "/var/spool/rspamd"):
    for directory, folders, files in os.walk(top):
        for path in [directory] + [os.path.join(directory, one) for one in files + folders]:
            s = os.lstat(path)
            if stat.S_ISDIR(s.st_mode) and path != directory:
                continue
            line = "%s %o %s:%s" % (path, s.st_mode, name(pwd.getpwuid, s.st_uid), name(grp.getgrgid, s.st_gid))
            if stat.S_ISREG(s.st_mode):
                line += " " + hashlib.sha256(open(path, "rb").read()).hexdigest()
            elif stat.S_ISLNK(s.st_mode):
                line += " -> " + os.readlink(path)
            print(line)
for kind in ("passwd", "group"):
    for line in open("/etc/" + kind):
        print("%s %s" % (kind, line.strip()))
def ask(*command):
    return subprocess.run(command, stdout=subprocess.PIPE, universal_newlines=True).stdout
units = ask("systemctl", "list-units", "--all", "--plain", "--no-legend", "--type=service,timer,socket")
for line in units.splitlines():
    unit, _loaded, active = line.split()[:3]
    if active in ("active", "failed"):
        print("unit %s %s" % (unit, active))
for protocol in ("tcp", "tcp6", "udp", "udp6"):
    for line in list(open("/proc/net/" + protocol))[1:]:
        address, state = line.split()[1], line.split()[3]
        if state == ("0A" if protocol.startswith("tcp") else "07"):
            print("port %s %d" % (protocol, int(address.rpartition(":")[2], 16)))
"""

#: Differences that are none: caches that programs make again, backups that passwd(1) keeps, and units that come and go
#: by themselves.
NOISE = (
    "/etc/ld.so.cache ",
    "/etc/.pwd.lock ",
    "/etc/passwd- ",
    "/etc/group- ",
    "/etc/shadow- ",
    "/etc/gshadow- ",
    "/etc/subuid- ",
    "/etc/subgid- ",
    # their lines are compared one by one; passwords of users are none of this collection's business
    "/etc/passwd ",
    "/etc/group ",
    "/etc/shadow ",
    "/etc/gshadow ",
    "unit apt-",
    "unit dpkg-",
    "unit man-db",
    "unit e2scrub",
    "unit logrotate",
    "unit systemd-",
    "unit session-",
    "unit user@",
    "unit user-runtime",
    "unit ssh@",
    "unit phpsessionclean",
    "unit fstrim",
    "unit motd",
)


class Vps(vps_under_test.Vps):
    """A mail host under test, with one person."""

    def __init__(self, name: str, inventory: t.Dict[str, t.Any]) -> None:
        people = [{"address": f"alice@{inventory['mail_domains'][0]}", "password": "alice's own"}]
        super().__init__(name, inventory, people, PLAYBOOKS, mail_accounts=people)
        self.domains: t.List[str] = inventory["mail_domains"]
        #: what earlier tests have seen
        self.seen: t.Dict[str, t.Any] = {}

    def write(self, path: str, text: str) -> None:
        """A file, as somebody writes it there."""
        self.run("sh", "-c", f"cat > {path}", stdin=text)

    def listing(self) -> t.Set[str]:
        """All that the host consists of, as far as a mail server concerns it."""
        lines = self.run("python3", "-", stdin=LISTING).splitlines()
        return {line for line in lines if not line.startswith(NOISE)}

    def site(self, **variables: t.Any) -> Played:
        """site.yml, which has to succeed."""
        outcome = self.play("site.yml", **variables)
        assert outcome.code == 0
        return outcome

    def remove(self, *options: str, **variables: t.Any) -> Played:
        """remove.yml, for this server."""
        return self.play("remove.yml", *options, **{"remove_confirm": self.server.name, **variables})

    def published(self, directory: str, zone: str) -> str:
        """The zone file that dns.yml has written on the controller."""
        return (pathlib.Path(directory) / f"{zone}.zone").read_text(encoding="utf-8")

    def has(self, word: str) -> bool:
        """Whether the mail with this word is in the mailbox."""
        return len(mailclient.received(self.server, self.alice, word)) == 1


def pytest_collection_modifyitems(items: t.List[pytest.Item]) -> None:
    """One host after the other where there is one worker only; its tests in the order in which they stand."""
    items.sort(key=lambda item: host_of(item.nodeid))


@pytest.fixture(scope="module")
def vps(host: t.Any) -> Vps:
    """The mail host under test."""
    return Vps(host.backend.host, host.ansible.get_variables())


@pytest.fixture(scope="module")
def by_hand(vps: Vps) -> bool:
    """Whether the host had Postfix and Dovecot, set up by hand; the other one had exim."""
    return vps.run("dpkg-query", "-W", "-f", "${Package}", "exim4-base", check=False) == ""
