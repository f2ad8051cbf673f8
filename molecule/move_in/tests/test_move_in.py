# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two thousand mails move in from Cyrus and from Dovecot with mbox files, while new mail arrives on both sides."""

import collections
import contextlib
import imaplib
import json
import os
import pathlib
import re
import subprocess
import time
import typing as t

import pytest
from controller import Played, begin, end, inventory, play
from mailclient import Account, Imap, Server
from testinfra.host import Host

PLAYBOOKS = pathlib.Path(__file__).parents[3] / "playbooks"
MOVE_IN = PLAYBOOKS / "move_in.yml"
EPHEMERAL = pathlib.Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"])
TIMEOUT = 60

testinfra_hosts = ["ansible://mail"]

#: Folders of the old servers in their spelling, what they are called here, and how many mails they have.
CYRUS = {
    "INBOX": ("INBOX", 200),
    "INBOX.Sent": ("Sent", 200),
    "INBOX.Entw&APw-rfe": ("Drafts", 50),
    "INBOX.Papierkorb": ("Trash", 99),
    "INBOX.&ZeVnLIqe-.&istsQmb4-": ("&ZeVnLIqe-/&istsQmb4-", 250),
    "INBOX.R&-D": ("R&-D", 200),
    # a mail of 12 MB
    "INBOX.Gro&AN8-": ("Gro&AN8-", 1),
}
MBOX = {
    "INBOX": ("INBOX", 300),
    "Gesendet": ("Sent", 200),
    "&j,dg0TDhMPww6w-": ("Junk", 100),
    "Projekte/&AMQ-rger": ("Projekte/&AMQ-rger", 300),
    "v1.2": ("v1.2", 100),
}
#: One in three mails is unread; keywords are the user's own.
FLAGS = [r"(\Seen)", "", r"(\Seen \Answered $Forwarded Rechnung)", r"(\Seen \Flagged)", "", r"(\Seen $label1)"]


class Mail(t.NamedTuple):
    """What must not get lost of a mail."""

    message_id: str
    flags: t.FrozenSet[str]
    arrived: t.Any
    size: int


Box = t.Dict[str, t.List[Mail]]


class Old(t.NamedTuple):
    """A mailbox on an old server."""

    server: Server
    port: int
    account: Account
    folders: t.Dict[str, t.Tuple[str, int]]

    @contextlib.contextmanager
    def open(self) -> t.Iterator[Imap]:
        with Imap(self.server, self.port) as imap:
            yield imap.log_in(self.account)

    def fill(self) -> None:
        with self.open() as imap:
            for folder, (_here, count) in self.folders.items():
                imap.create(f'"{folder}"')
                for number in range(int(imap.select(f'"{folder}"', readonly=True)[1][0] or 0), count):
                    size = 12000000 if count == 1 and "Gro" in folder else 500 + 37 * number
                    flags, date = FLAGS[number % len(FLAGS)], imaplib.Time2Internaldate(1500000000 + 5000 * number)
                    add(imap, folder, f"{self.account.address}-{folder.encode().hex()}-{number}", flags, date, size)

    def box(self) -> Box:
        """The mails of the folders above, by their names here."""
        with self.open() as imap:
            return {here: mails(imap, folder) for folder, (here, _count) in self.folders.items()}


def everything(imap: Imap) -> Box:
    """All folders with mails."""
    listed = [re.fullmatch(r'\((.*?)\) "." "?(.*?)"?', t.cast(bytes, line).decode()) for line in imap.list()[1]]
    names = [line[2] for line in listed if line and "\\noselect" not in line[1].lower()]
    return {name: found for name in names for found in [mails(imap, name)] if found}


def add(imap: Imap, folder: str, name: str, flags: str = "", date: t.Any = None, size: int = 500) -> None:
    head = f"From: a@example.org\r\nTo: b@example.org\r\nSubject: {name}\r\nMessage-ID: <{name}@old.example>\r\n\r\n"
    body = head.encode() + (b"x" * 70 + b"\r\n") * (size // 72)
    done = imap.append(f'"{folder}"', flags, date or imaplib.Time2Internaldate(time.time()), body)
    assert done[0] == "OK", done


def mails(imap: Imap, folder: str) -> t.List[Mail]:
    done, count = imap.select(f'"{folder}"', readonly=True)
    assert done == "OK", (folder, count)
    if count == [b"0"]:
        return []
    _done, answer = imap.fetch("1:*", "(FLAGS INTERNALDATE RFC822.SIZE BODY.PEEK[HEADER.FIELDS (MESSAGE-ID)])")
    found = []
    for first, second in zip(answer[::2], answer[1::2]):
        words = t.cast(t.Tuple[bytes, bytes], first)
        line = words[0] + t.cast(bytes, second)
        flags, date = re.search(rb"FLAGS \(([^)]*)\)", line), re.search(rb'INTERNALDATE "[^"]+"', line)
        size = re.search(rb"RFC822.SIZE (\d+)", line)
        assert flags, line
        assert date, line
        assert size, line
        kept = frozenset(flags[1].decode().split()) - {r"\Recent"}
        message_id = words[1].decode().partition(":")[2].strip()
        found.append(Mail(message_id, kept, imaplib.Internaldate2tuple(date[0]), int(size[1])))
    return sorted(found)


def client() -> t.Dict[str, str]:
    """The host with the old servers."""
    told = json.loads(pathlib.Path(inventory()).read_text(encoding="utf-8"))
    return t.cast(t.Dict[str, str], told["all"]["children"]["clients"]["hosts"]["client"])


@pytest.fixture(scope="session")
def old() -> t.Dict[str, Old]:
    file = EPHEMERAL / "old.pem"
    command = ["docker", "exec", client()["vps_container"], "cat", "/etc/old.crt"]
    file.write_bytes(subprocess.run(command, check=True, capture_output=True).stdout)
    server = Server("client.test", client()["ansible_host"], str(file))
    boxes = {
        "cyrus": Old(server, 993, Account("carla", "carla's old one"), CYRUS),
        "mbox": Old(server, 10143, Account("dora", "dora's old one"), MBOX),
    }
    for box in boxes.values():
        box.fill()
    return boxes


class New(t.NamedTuple):
    """A mail host of ours."""

    host: Host
    name: str
    domain: str
    server: Server
    ca_file: str

    @contextlib.contextmanager
    def open(self, who: str) -> t.Iterator[Imap]:
        with Imap(self.server) as imap:
            yield imap.log_in(Account(f"{who}@{self.domain}", f"{who}'s new one"))

    def box(self, who: str) -> Box:
        with self.open(who) as imap:
            return everything(imap)

    def cyrus(self, **more: t.Any) -> t.Dict[str, t.Any]:
        return {"move_in_from": {"host": "client.test", "ca_file": self.ca_file}, **more}

    def carla(self, who: str = "carla", **more: t.Any) -> t.Dict[str, t.Any]:
        return {"address": f"{who}@{self.domain}", "login": "carla", "password": "carla's old one", **more}

    def mbox(self) -> t.Dict[str, t.Any]:
        master = {"master_user": "mover", "master_password": "mover's own"}
        server = {"host": "client.test", "port": 10143, "tls": "starttls", "ca_file": self.ca_file, **master}
        return {"move_in_from": server, "move_in_accounts": [{"address": f"dora@{self.domain}", "login": "dora"}]}

    def run(self, **variables: t.Any) -> Played:
        return play(MOVE_IN, self.name, **variables)


@pytest.fixture(scope="module")
def new(host: Host, old: t.Dict[str, Old]) -> New:
    variables = host.ansible.get_variables()
    server = Server(variables["mail_hostname"], variables["ansible_host"], variables["certificates_ca_file"])
    ca_file = old["cyrus"].server.ca_file
    return New(host, variables["inventory_hostname"], variables["mail_domains"][0], server, ca_file)


def copied(result: Played, address: str) -> t.Tuple[int, int]:
    """Figures of the table: new mails, and all."""
    found = re.search(rf"{address} +(\d+) +(\d+) +[\d.]+", result.output)
    assert found, result.output
    return int(found[1]), int(found[2])


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("carla@{domain},carla", "people.csv line 3: has 2 cells, and line 1 names 3"),
        ("carla@{domain},carla,", "people.csv line 3: 'carla@{domain}' has no password"),
        ("carla(at){domain},carla,x", "people.csv line 3.address: 'carla(at){domain}' is not an e-mail address"),
    ],
)
def test_a_broken_line_stops_the_run(new: New, tmp_path: pathlib.Path, line: str, complaint: str) -> None:
    file = tmp_path / "people.csv"
    broken = line.format(domain=new.domain)
    file.write_text(f"address,login,password\ndora@{new.domain},dora,secret-word\n{broken}\n", encoding="utf-8")
    result = new.run(**new.cyrus(move_in_file=str(file)))
    assert result.code != 0
    assert complaint.format(domain=new.domain) in result.output
    assert "secret-word" not in result.output
    assert result.changed <= 0
    assert not new.host.file("/var/lib/port587/move_in").exists


def test_an_unknown_authority_is_refused(new: New) -> None:
    result = new.run(move_in_from={"host": "client.test"}, move_in_accounts=[new.carla()])
    assert result.code != 0
    assert "certificate of client.test port 993 is not accepted" in result.output
    assert not new.box("carla")


def test_the_first_run(new: New, old: t.Dict[str, Old], tmp_path: pathlib.Path) -> None:
    """Two accounts fail, are named with the reason, and do not stop the third."""
    file = tmp_path / "people.csv"
    file.write_text(
        "address,login,password\n"
        f"erik@{new.domain},carla,not-her-password\n"
        f"nobody@{new.domain},carla,carla's old one\n"
        f"carla@{new.domain},carla,carla's old one\n",
        encoding="utf-8",
    )
    result = new.run(**new.cyrus(move_in_file=str(file)))
    assert result.code != 0
    with old["cyrus"].open() as imap:
        there = sum(map(len, everything(imap).values()))
    assert there >= 1000
    assert copied(result, f"carla@{new.domain}") == (there, there)
    assert "login refused: client.test does not let carla in" in result.output
    assert f"no such account here: add nobody@{new.domain} to the accounts" in result.output
    assert f"Not wholly copied: erik@{new.domain}, nobody@{new.domain}." in result.output
    found, wanted = new.box("carla"), old["cyrus"].box()
    assert {folder: found[folder] for folder in wanted} == wanted


def test_mbox_and_a_master_login(new: New, old: t.Dict[str, Old]) -> None:
    result = new.run(**new.mbox())
    assert result.code == 0, result.output
    assert new.box("dora") == old["mbox"].box()


def test_passwords_stay_secret(new: New) -> None:
    """After the runs above, of which some failed."""
    words = ["carla's old one", "not-her-password", "mover's own"]
    log = new.host.check_output("journalctl --output=cat")
    found = new.host.run('grep -rlE "%s" /tmp /var/tmp /root /run /var/lib/port587 /etc/dovecot', "|".join(words))
    assert [word for word in words if word in log] == []
    assert found.stdout == ""


@pytest.mark.parametrize("round_", [1, 2])
def test_new_mail_on_both_sides(new: New, old: t.Dict[str, Old], round_: int) -> None:
    """What is new there comes once. What happened here stays; what was read there is read here too."""
    before = new.box("carla")
    name = f"{new.name}-{round_}"
    unread = [mail for mail in before["INBOX"] if r"\Seen" not in mail.flags]
    read_here, moved, deleted, read_there = unread[:4]
    with new.open("carla") as imap:
        imap.select("INBOX")
        add(imap, "INBOX", f"here-{name}")
        for mail, command in (
            (read_here, ("+FLAGS", r"(\Seen)")),
            (deleted, ("+FLAGS", r"(\Deleted)")),
        ):
            imap.store(number(imap, mail), *command)
        imap._simple_command("MOVE", number(imap, moved), "Archive")
        imap.expunge()
    with old["cyrus"].open() as imap:
        for folder in ("INBOX", "INBOX.&ZeVnLIqe-.&istsQmb4-", f"INBOX.new-{name}"):
            imap.create(f'"{folder}"')
            add(imap, folder, f"there-{name}-{folder.encode().hex()}")
        imap.select("INBOX")
        imap.store(number(imap, read_there), "+FLAGS", r"(\Seen)")

    result = new.run(**new.cyrus(move_in_accounts=[new.carla()]))
    assert result.code == 0, result.output
    after = new.box("carla")
    ids = collections.Counter(mail.message_id for found in after.values() for mail in found)
    assert max(ids.values()) == 1
    assert len([one for one in ids if f"there-{name}-" in one]) == 3
    assert f"<here-{name}@old.example>" in ids
    assert deleted.message_id not in ids
    assert moved in after["Archive"]
    flags = {mail.message_id: mail.flags for mail in after["INBOX"]}
    assert r"\Seen" in flags[read_here.message_id]
    assert r"\Seen" in flags[read_there.message_id]
    # all the others are as they were
    touched = {read_here.message_id, read_there.message_id, moved.message_id, deleted.message_id}
    left = {mail for found in before.values() for mail in found if mail.message_id not in touched}
    assert left <= {mail for found in after.values() for mail in found}


def test_a_run_without_news_changes_nothing(new: New) -> None:
    before = new.box("carla")
    result = new.run(**new.cyrus(move_in_accounts=[new.carla()]))
    assert (result.code, result.changed) == (0, 0), result.output
    assert new.box("carla") == before


def test_check_mode_counts_with_cyrus_master_login(new: New) -> None:
    master = {"master_user": "mover", "master_password": "mover's own", "master_separator": ""}
    server = {"host": "client.test", "ca_file": new.ca_file, **master}
    accounts = [{"address": f"erik@{new.domain}", "login": "carla"}]
    result = play(MOVE_IN, new.name, "--check", move_in_from=server, move_in_accounts=accounts)
    assert result.code == 0, result.output
    assert copied(result, f"erik@{new.domain}")[0] >= 1000
    assert new.box("erik") == {}


def test_a_killed_run_goes_on(new: New, old: t.Dict[str, Old]) -> None:
    """Each mail once, though the program had no time to note which it had copied."""
    path = f"/var/vmail/{new.domain}/mona"
    new.host.check_output(f"rm -rf /var/lib/port587/move_in {path}")
    running = begin(MOVE_IN, new.name, **new.cyrus(move_in_accounts=[new.carla("mona")]))
    new.host.check_output(
        f"until [ $(find {path} -path '*/cur/*' -o -path '*/new/*' | wc -l) -gt 300 ]; do sleep 0.01; done; "
        "kill -9 $(ps -o ppid= -p $(pgrep -f '[d]ovecot/imap -u mona'))"
    )
    assert end(running).code != 0
    # as if it had been killed a moment earlier, between a batch and its note
    new.host.check_output(
        'python3 -c \'import sqlite3; d = sqlite3.connect("/var/lib/port587/move_in/state.sqlite"); '
        'd.execute("DELETE FROM mails WHERE folder IN (SELECT number FROM folders WHERE account LIKE \\"mona@%\\")"); '
        'd.execute("UPDATE folders SET next = 1 WHERE account LIKE \\"mona@%\\""); d.commit()\''
    )
    result = new.run(**new.cyrus(move_in_accounts=[new.carla("mona")]))
    assert result.code == 0, result.output
    found, wanted = new.box("mona"), old["cyrus"].box()
    assert {folder: found[folder] for folder in wanted} == wanted


def test_a_full_mailbox_is_named(new: New) -> None:
    result = new.run(**new.cyrus(move_in_accounts=[new.carla("fritz")]))
    assert result.code != 0
    assert "mailbox here is full" in result.output


def test_speed(new: New) -> None:
    """Beside mbsync, of the same mailbox, from the same server; both write files to the same disk."""
    new.host.check_output("rm -f /var/lib/port587/move_in/state.sqlite && rm -rf /var/vmail/%s/dora", new.domain)
    result = new.run(**new.mbox())
    found = re.search(rf"dora@{new.domain} +(\d+) +\d+ +([\d.]+)", result.output)
    assert found, result.output
    assert int(found[1]) == 1000
    ours = float(found[2])
    config = (
        'IMAPAccount old\nHost client.test\nPort 10143\nUser dora\nPassCmd "cat /var/tmp/password"\nSSLType STARTTLS\n'
        "CertificateFile /etc/old.crt\n\nIMAPStore old\nAccount old\n\nMaildirStore copy\nPath /var/tmp/copy/\n"
        "Inbox /var/tmp/copy/INBOX\nSubFolders Verbatim\n\nChannel move\nFar :old:\nNear :copy:\nPatterns *\n"
        "Create Near\nSync Pull\nCopyArrivalDate yes\n"
    )
    docker = ["docker", "exec", "--interactive", client()["vps_container"], "sh", "-c"]
    script = (
        "rm -rf /var/tmp/copy && mkdir /var/tmp/copy && cat > /var/tmp/rc && "
        "printf '%s' \"dora's old one\" > /var/tmp/password && "
        "HOME=/var/tmp/copy timeout 100 mbsync -c /var/tmp/rc -a"
    )
    began = time.monotonic()
    done = subprocess.run([*docker, script], input=config, text=True, capture_output=True, check=False)
    theirs = time.monotonic() - began
    assert done.returncode == 0, done
    count_all = "find /var/tmp/copy -path '*/cur/*' -o -path '*/new/*' | wc -l"
    count = subprocess.run([*docker, count_all], check=True, capture_output=True)
    assert int(count.stdout) == 1000
    print(f"{new.name}: move_in {1000 / ours:.0f} mails/s, mbsync {1000 / theirs:.0f} mails/s")
    assert ours < 4 * theirs


def test_accounts_that_were_taken_over_log_in(new: New, tmp_path: pathlib.Path) -> None:
    """The last test: these replace the accounts from above. Everybody keeps the password."""
    stored = new.host.check_output("doveadm -O pw -s SHA512-CRYPT -p 'carla'\\''s new one'")
    (tmp_path / "postfix-accounts.cf").write_text(f"carla@{new.domain}|{stored}\nold@{new.domain}|{{MD5}}x\n")
    (tmp_path / "postfix-virtual.cf").write_text(f"info@{new.domain} carla@{new.domain}\n")
    path = tmp_path / "accounts.yml"
    options = {"take_over_system": "docker-mailserver", "take_over_path": str(tmp_path), "take_over_to": str(path)}
    command = ["ansible-playbook", str(PLAYBOOKS / "take_over.yml"), "--diff", "--extra-vars", json.dumps(options)]
    done = subprocess.run(command, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done
    assert f"- old@{new.domain}: the account is missing: its password is hashed with MD5" in done.stdout
    assert stored not in done.stdout + done.stderr
    assert path.stat().st_mode & 0o777 == 0o600

    result = play(PLAYBOOKS / "accounts.yml", new.name, "-e", f"@{path}")
    assert result.code == 0, result.output
    with new.open("carla") as imap:
        assert imap.select("INBOX")[0] == "OK"


def number(imap: Imap, mail: Mail) -> str:
    """The number of a mail in the selected folder."""
    found = imap.search(None, "HEADER", "Message-ID", f'"{mail.message_id}"')[1][0].decode()
    assert found, mail
    return found
