# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A server is backed up while mail arrives, its backups fail, it burns down, and it lives on with a newer release.

The tests follow each other.
"""

import collections
import json
import pathlib
import re
import subprocess
import threading
import typing as t

import pytest
from conftest import PASSWORDS, S3_KEYS, Life, Machine
from controller import play
from mailclient import Imap, Sieve, deliver, mail, received, token, until

DKIM = "cd /var/lib/rspamd/dkim && sha256sum *"
REDIS = "redis-cli -s /run/port587-redis/redis.sock"
RUN = "python3 -I /usr/local/lib/port587/backup"

#: A real client, which keeps the UIDs that it has seen.
MBSYNC = """
mkdir -p /root/mail
cat > /root/ca.pem <<'END'
%(ca)s
END
cat > /root/mbsyncrc <<'END'
IMAPStore server
Host %(host)s
User %(user)s
Pass "%(password)s"
SSLType IMAPS
CertificateFile /root/ca.pem

MaildirStore here
Path /root/mail/
Inbox /root/mail/inbox
SubFolders Verbatim

Channel all
Far :server:
Near :here:
Patterns *
Create Both
Expunge Both
SyncState *
END
mbsync --config /root/mbsyncrc --verbose all 2>&1
"""
#: Speaks poppassd's protocol.
CHANGE = """python3 - <<'END'
import socket
link = socket.create_connection(("127.0.0.1", 106))
link.sendall("".join(line + "\\r\\n" for line in ["user %s", "pass %s", "newpass %s", "quit"]).encode())
print(link.makefile().read().splitlines()[-2])
END
"""
#: What a server with ACME has of certbot. The scenario acme shows that it is all that a renewal needs.
ACME = """
mkdir -p /var/lib/port587/acme/{accounts,live/mail,archive/mail} && cd /var/lib/port587/acme
(umask 077; echo secret > accounts/key; echo chain > archive/mail/chain1.pem)
ln -s ../../archive/mail/chain1.pem live/mail/chain.pem
"""
ACME_STATE = "cd /var/lib/port587/acme && find . -printf '%p %m %U %l\n' | sort && sha256sum accounts/key"
#: Each mail that the client has, and its flags.
HAS = "cd /root/mail && find . -type f ! -name '.*' | sort"


def sync(life: Life) -> str:
    alice = life.account("alice")
    with open(life.ca_file, encoding="ascii") as handle:
        ca = handle.read()
    words = {"host": life.hostname, "user": alice.address, "password": alice.password}
    return life.client.do(MBSYNC % {**words, "ca": ca})


class Load:
    """Mail arrives, is read, moved and deleted, until told otherwise."""

    def __init__(self, life: Life) -> None:
        self.life, self.server = life, life.server(life.old)
        self.stop = threading.Event()
        self.sent: t.List[str] = []
        self.threads = [threading.Thread(target=work) for work in (self.deliver, self.read)]

    def __enter__(self) -> "Load":
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        for thread in self.threads:
            thread.join()

    def deliver(self) -> None:
        while not self.stop.is_set():
            word = token()
            deliver(self.server, self.life.account("alice").address, mail("", "alice", word))
            self.sent.append(word)

    def read(self) -> None:
        """Every move and every flag renames files."""
        with Imap(self.server).log_in(self.life.account("alice")) as imap:
            while not self.stop.is_set():
                imap.select("INBOX")
                imap.store("1:*", "+FLAGS.SILENT", r"(\Seen)")
                imap.store("1:*", "-FLAGS.SILENT", r"(\Seen)")
                imap.copy("1", "Archive")
                imap.store("1", "+FLAGS.SILENT", r"(\Deleted)")
                imap.expunge()


def subjects(life: Life, machine: Machine, name: str) -> t.Dict[str, int]:
    """By subject, how many mails an account has in all its folders."""
    found: t.Dict[str, int] = collections.Counter()
    with Imap(life.server(machine)).log_in(life.account(name)) as imap:
        for line in imap.list()[1]:
            folder = re.findall(r'(?:"([^"]+)"|(\S+))$', line.decode())[0]
            # above the folders that came back there may be one without mail, which can't be selected
            status, count = imap.select('"%s"' % "".join(folder), readonly=True)
            if status == "OK" and count != [b"0"]:
                answer = imap.fetch("1:*", "(BODY.PEEK[HEADER.FIELDS (SUBJECT)])")[1]
                found.update(one[1].decode().strip() for one in answer if isinstance(one, tuple))
    return found


def test_a_server_with_a_backup(life: Life) -> None:
    done = life.play(life.old, "site")
    assert done.code == 0, done.output
    again = life.play(life.old, "site")
    assert (again.code, again.changed) == (0, 0), again.output
    assert life.old.do("stat -c %a /etc/port587/backup.json").strip() == "600"
    # the first backup is due within a day
    assert life.backup_record(life.old)["verdict"] == "ok"
    life.old.do("systemctl is-active port587-backup.timer && systemctl is-enabled port587-backup.timer")


@pytest.mark.parametrize(
    ("prepare", "variables", "said"),
    [
        ("touch /srv/mine", {"backup_repository": "/srv"}, "/srv is not empty, and is no restic repository"),
        ("", {"backup_password": "another one"}, "wrong password or no key found"),
        ("", {"backup_host": "mail.elsewhere.example"}, "this server's are of mail.elsewhere.example"),
        ("", {"backup_repository": "disk"}, "backup_repository: 'disk' is not a repository; write one such as"),
        ("", {"backup_password": ""}, "backup_password: is empty"),
        ("", {"backup_ssh_key": "x"}, "backup_ssh_key: is not a private key"),
        ("", {"backup_repository": "S3/mails/x", "backup_environment": S3_KEYS}, "bucket does not exist"),
        (
            "",
            {"backup_repository": "S3/mail/x", "backup_environment": {**S3_KEYS, "AWS_SECRET_ACCESS_KEY": "another"}},
            "signature we calculated does not match",
        ),
    ],
)
def test_bad_input_changes_nothing(life: Life, prepare: str, variables: t.Dict[str, t.Any], said: str) -> None:
    """A repository that is not this server's is named, and storage that cannot be used."""
    if "backup_environment" in variables:
        variables = {**variables, "backup_repository": variables["backup_repository"].replace("S3", life.s3)}
    if "backup_host" in variables:
        assert life.old.back_up(), life.old.do("journalctl -u port587-backup")
    life.old.do(prepare)
    before = life.old.do("sha256sum /etc/port587/backup.json; ls -A /srv")
    done = life.play(life.old, "site", "--tags=backup", **variables)
    # Ansible breaks lines
    assert done.code != 0, done.output
    assert said in re.sub(r"\s+", " ", done.output), done.output
    assert life.old.do("sha256sum /etc/port587/backup.json; ls -A /srv") == before


def test_mail_arrives_during_the_backup(life: Life) -> None:
    """The snapshot has every mail that was there when it began, though mails are renamed and moved all the time."""
    with Load(life) as load:
        for _ in until(lambda: len(load.sent)):
            if len(load.sent) >= 30:
                break
        before = set(load.sent)
        assert life.old.back_up(), life.old.do("journalctl -u port587-backup")
    snapshot = json.loads(life.old.do("cat /var/lib/port587-backup/status.json"))
    assert snapshot["mails"] >= len(before)
    there = life.old.do(
        f"""{RUN} restic restore {snapshot["snapshot"]} --target /root/there > /dev/null
        grep -rhoE '^Subject: [0-9a-f]{{32}}' /root/there/var/vmail; rm -r /root/there"""
    )
    assert len(before) >= 30
    assert before <= {line.split()[1] for line in there.splitlines()}
    rehearsed = life.play(life.old, "rehearse_restore")
    assert rehearsed.code == 0, rehearsed.output
    assert ", 0 different, 0 missing" in rehearsed.output, rehearsed.output
    assert life.old.do("ls -A /var/vmail").split() == [".sieve", life.domain]


#: What happens to the repository, what puts it right, and the diagnosis.
FAULTS = {
    "gone": ("mv /srv/mail/repository /srv/mail/away", "mv /srv/mail/away /srv/mail/repository", "unreachable"),
    "no server": ("passwd -l keeper; chmod 0 /home/keeper/.ssh", "chmod 0755 /home/keeper/.ssh", "unreachable"),
    "full": (
        """cd /srv/mail && cp -a repository /root/kept && mount -t tmpfs -o size=8m tmpfs /srv/mail
        cp -a /root/kept /srv/mail/repository; head -c 8M /dev/zero > /srv/mail/filler || true""",
        "umount /srv/mail; rm -r /root/kept",
        "full",
    ),
    "damaged": (
        "cp -a /srv/mail/repository /root/kept && rm $(find /srv/mail/repository/data -type f)",
        "rm -r /srv/mail/repository; mv /root/kept /srv/mail/repository",
        "damaged",
    ),
    "another one": (
        "mv /srv/mail/repository /srv/mail/away; cp -a /srv/other /srv/mail/repository; chown -R keeper /srv/mail",
        "rm -r /srv/mail/repository; mv /srv/mail/away /srv/mail/repository",
        "password",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_verify_says_why_a_backup_fails(life: Life, fault: str) -> None:
    """And mail goes on."""
    breaks, repairs, kind = FAULTS[fault]
    if fault == "another one":
        life.old.do("echo other > /root/p; restic -q -p /root/p -r /root/other init; rm /root/p")
        archive = subprocess.run(
            ["docker", "exec", life.old.container, "tar", "c", "-C", "/root", "other"], capture_output=True, check=True
        )
        subprocess.run(
            ["docker", "exec", "-i", life.client.container, "tar", "x", "-C", "/srv"], input=archive.stdout, check=True
        )
    life.client.do(breaks)
    try:
        # the weekly check is due
        life.old.do('sed -i \'s/"checked": [0-9.]*/"checked": 0/\' /var/lib/port587-backup/status.json')
        assert not life.old.back_up()
        record = life.backup_record(life.old)
        assert (record["verdict"], record["diagnosis"]) == ("warn", f"backup-{kind}"), record
        word = token()
        deliver(life.server(life.old), life.account("bob").address, mail("", "bob", word))
        received(life.server(life.old), life.account("bob"), word)
    finally:
        life.client.do(repairs)
    assert life.old.do("ls -A /var/vmail").split() == [".sieve", life.domain]


def test_a_lock_of_the_living_is_respected(life: Life) -> None:
    """And one of the dead removed."""
    holds = subprocess.Popen(
        ["docker", "exec", "-i", life.old.container, "sh", "-c", f"{RUN} restic backup --stdin"], stdin=subprocess.PIPE
    )
    for locked in until(lambda: life.client.do("ls /srv/mail/repository/locks")):
        if locked:
            break
    assert not life.old.back_up()
    assert life.backup_record(life.old)["diagnosis"] == "backup-locked"
    life.old.do("pkill -KILL -x restic")
    holds.communicate()
    assert life.client.do("ls /srv/mail/repository/locks")
    assert life.old.back_up(), life.old.do("journalctl -u port587-backup")
    assert life.backup_record(life.old)["verdict"] == "ok"


def test_verify_warns_of_an_old_backup(life: Life) -> None:
    """The playbook says it, and still passes."""
    life.old.do("cp -p /var/lib/port587-backup/status.json /root/")
    life.old.do('sed -i \'s/"good": [0-9.]*/"good": 1700000000/\' /var/lib/port587-backup/status.json')
    done = life.play(life.old, "verify")
    life.old.do("mv /root/status.json /var/lib/port587-backup/")
    assert done.code == 0, done.output
    assert "the last good backup is older than a day" in done.output, done.output


def held_up(life: Life, machine: Machine) -> str:
    """A mail to bob that waits in the queue. Its word."""
    word = token()
    machine.do("postconf defer_transports=lmtp && postfix reload")
    deliver(life.server(machine), life.account("bob").address, mail("", "bob", word))
    for queued in until(lambda: machine.do("find /var/spool/postfix/deferred -type f")):
        if queued:
            break
    return word


def test_restored_on_a_newer_release(life: Life) -> None:
    old, new = life.old, life.new
    alice, bob = life.account("alice"), life.account("bob")
    words = [token() for _ in range(4)]
    for word in words:
        # each has words of its own, or rspamd would learn the second from the first
        deliver(life.server(old), alice.address, mail("", "alice", word, f"Only here: {word}\r\n".encode()))
        received(life.server(old), alice, word)
    with Sieve(life.server(old)).log_in(alice) as sieve:
        sieve.put("mine", 'require "fileinto"; if header :contains "Subject" "filed" { fileinto "Archive"; }')
        sieve.say(b'SETACTIVE "mine"')
    # he takes another password than that of the inventory
    assert old.do(CHANGE % (bob.address, bob.password, "bob's newer")).startswith("200")
    PASSWORDS["bob"] = "bob's newer"
    bob = life.account("bob")
    old.do(ACME)
    sync(life)
    with Imap(life.server(old)).log_in(alice) as imap:
        imap.select("INBOX")
        imap.store("1:3", "+FLAGS", r"(\Flagged $label1)")
        imap.copy("1:2", "Archive")
        # rspamd learns from it
        imap.copy("3:4", "Junk")
        quota = imap.quota()
    for learned in until(lambda: old.do(f"{REDIS} hget RS learns_spam")):
        if learned.strip() == "2":
            break
    assert learned.strip() in ("1", "2")
    sync(life)
    waits = held_up(life, old)
    assert old.back_up(), old.do("journalctl -u port587-backup")
    keys, has, mails = old.do(DKIM), life.client.do(HAS), subjects(life, old, "alice")
    acme, fingerprint = old.do(ACME_STATE), old.do("sha256sum /etc/port587/tls/* /etc/port587/ca/*")
    assert len(has.splitlines()) >= 6
    subprocess.run(["docker", "rm", "--force", old.container], check=True, capture_output=True)
    # the administrator points the names at the new address
    names = " ".join(name + life.hostname[5:] for name in ("mail.", "autoconfig.", "autodiscover.", "mta-sts."))
    life.client.do(
        f"""sed '/{life.hostname}/d' /etc/hosts > /root/hosts; cat /root/hosts > /etc/hosts
        printf '%s {names}\\n' {new.address} {new.address6} >> /etc/hosts"""
    )

    refused = life.play(new, "restore", backup_password="another one")
    assert refused.code != 0, refused.output
    assert "wrong password" in refused.output, refused.output
    done = life.play(new, "restore")
    assert done.code == 0, done.output
    assert new.do(DKIM) == keys
    assert new.do(ACME_STATE) == acme
    assert new.do("sha256sum /etc/port587/tls/* /etc/port587/ca/*") == fingerprint
    assert new.do(f"{REDIS} hget RS learns_spam") == learned

    said = sync(life)
    assert life.client.do(HAS) == has, said
    assert subjects(life, new, "alice") == mails
    assert len(received(life.server(new), bob, waits)) == 1
    with Imap(life.server(new)).log_in(alice) as imap:
        assert imap.quota() == quota
    with Sieve(life.server(new)).log_in(alice) as sieve:
        assert sieve.say(b"LISTSCRIPTS") == ['"mine" ACTIVE']
    again = life.play(new, "site")
    assert (again.code, again.changed) == (0, 0), again.output


def test_a_restore_over_mail_is_refused(life: Life) -> None:
    before = life.new.do("find /var/vmail | sort | sha256sum")
    done = life.play(life.new, "restore")
    assert done.code != 0, done.output
    assert "this server has mail already" in done.output, done.output
    assert life.new.do("find /var/vmail | sort | sha256sum") == before


def test_one_folder_comes_back_beside_what_is_there(life: Life) -> None:
    server, alice = life.server(life.new), life.account("alice")
    assert life.new.back_up(), life.new.do("journalctl -u port587-backup")
    with Imap(server).log_in(alice) as imap:
        count = int(imap.select("Archive")[1][0])
        imap.empty("Archive")
        assert count
        assert imap.select("Archive")[1] == [b"0"]
    done = life.play(life.new, "restore_mailbox", restore_mailbox=alice.address, restore_folder="Archive")
    assert done.code == 0, done.output
    with Imap(server).log_in(alice) as imap:
        folders = [line.decode() for line in imap.lsub()[1] if b"Restored" in line and b"Archive" in line]
        assert len(folders) == 1, imap.list()
        assert int(imap.select(re.findall(r'"([^"]+)"$', folders[0])[0].join('""'))[1][0]) == count
        assert imap.select("Archive")[1] == [b"0"]
    unknown = life.play(life.new, "restore_mailbox", restore_mailbox=f"nobody@{life.domain}")
    assert unknown.code != 0, unknown.output
    assert "has no mailbox here" in unknown.output, unknown.output
    early = life.play(life.new, "restore_mailbox", restore_mailbox=alice.address, restore_at="2020-01-01")
    assert early.code != 0, early.output
    assert "no snapshot until 2020-01-01" in early.output, early.output


def test_a_nearly_empty_backup_does_not_take_the_place_of_the_full_one(life: Life) -> None:
    """The disk with the mail is gone, and the timer goes on. The full snapshot stays, and comes back if it is named."""
    new, bob = life.new, life.account("bob")
    waits = held_up(life, new)
    # of all snapshots, one is to stay
    new.do(
        'sed -i \'s/"daily": 7/"last": 1/; /weekly/d; /monthly/d; s/"last": 1,/"last": 1/\' /etc/port587/backup.json'
    )
    assert new.back_up(), new.do("journalctl -u port587-backup")
    full = json.loads(new.do("cat /var/lib/port587-backup/status.json"))
    mails = subjects(life, new, "alice")
    new.do(f"postsuper -d ALL; postconf defer_transports= && postfix reload; mv /var/vmail/{life.domain} /root/lost")
    for _ in range(2):
        assert new.back_up(), new.do("journalctl -u port587-backup")
        record = life.backup_record(new)
        assert (record["verdict"], record["diagnosis"]) == ("warn", "backup-shrunk"), record
        assert "the backup has 0 mails, and that of " in record["seen"], record
        there = json.loads(new.do(f"{RUN} restic snapshots --json --quiet"))
        assert len(there) == 2
        assert there[0]["short_id"] == full["snapshot"]

    refused = life.play(new, "restore", restore_over_mail=True)
    assert refused.code != 0, refused.output
    named = re.search(r"has 0 mails, and that of ([-0-9: ]{19}) has (\d+)", re.sub(r"\s+", " ", refused.output))
    assert named, refused.output
    assert int(named[2]) == full["mails"]
    assert new.do("systemctl is-active postfix dovecot; ls -d /var/vmail*").split() == [
        "active",
        "active",
        "/var/vmail",
    ]
    done = life.play(new, "restore", restore_over_mail=True, restore_at=named[1], restore_queue="hold")
    assert done.code == 0, done.output
    assert subjects(life, new, "alice") == mails
    # what was there is beside it
    assert new.do("ls -d /var/vmail.before-restore-* /etc/port587/accounts.before-restore-* | wc -l").strip() == "2"
    # and queued mail waits for the administrator
    assert len(new.do("find /var/spool/postfix/hold -type f").split()) == 1
    with Imap(life.server(new)).log_in(bob) as imap:
        assert imap.search_subject(waits) == []
    new.do("postsuper -H ALL && postqueue -f")
    assert len(received(life.server(new), bob, waits)) == 1
    assert life.backup_record(new)["verdict"] == "ok"


def test_switched_off(life: Life) -> None:
    done = life.play(life.new, "site", mail_backup=False)
    assert done.code == 0, done.output
    left = life.new.do(
        "systemctl list-unit-files 'port587-backup*' --no-legend; ls /etc/port587; find /usr/local/lib/port587"
    )
    assert "backup" not in left
    assert life.client.do("ls /srv/mail/repository/snapshots")


def test_the_role_alone_with_s3(life: Life) -> None:
    """It saves what it is told to. The credentials are in no command line."""
    new, secrets = life.new, [*S3_KEYS.values(), "opens it alone"]
    playbook = pathlib.Path(__file__).parent.parent / "backup.yml"
    variables = {
        "backup_repository": life.s3 + "/mail/alone",
        "backup_password": "opens it alone",
        "backup_host": life.hostname,
    }
    done = play(
        playbook, new.name, "--diff", **variables, backup_environment=S3_KEYS, backup_extra_paths=["/etc/postfix"]
    )
    assert done.code == 0, done.output
    assert not [secret for secret in secrets if secret in done.output]
    seen = new.do(
        """systemctl start --no-block port587-backup
        while ps -e -o args; [ "$(systemctl is-active port587-backup)" = activating ]; do :; done"""
    )
    assert "/mail/alone" in seen
    assert not [secret for secret in secrets if secret in seen]
    listed = new.do(f"{RUN} restic ls latest").splitlines()
    assert "/etc/postfix/main.cf" in listed
    assert not [path for path in listed if path.startswith("/var/vmail")]
    for right, wrong, said in (
        ("/mail/alone", "/mails/alone", "bucket does not exist"),
        ("opens-the-bucket", "opens-another", "signature we calculated does not match"),
    ):
        new.do(f"sed -i s,{right},{wrong}, /etc/port587/backup.json")
        assert not new.back_up()
        record = life.backup_record(new)
        new.do(f"sed -i s,{wrong},{right}, /etc/port587/backup.json")
        assert (record["verdict"], record["diagnosis"]) == ("warn", "backup-unreachable"), record
        assert said in record["seen"], record
    assert new.back_up(), new.do("journalctl -u port587-backup")
