# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Programs of the machine's users, which have no login: who may send as whom."""

import typing as t

import mailclient
import pytest
from conftest import Tries, Vps
from mailclient import Imap, until

#: On the host: sends each mail as the user that it names, and prints what was answered.
SENDER = r"""
import json, os, pwd, smtplib, socket, subprocess, sys

def as_user(name, task):
    # in a process of its own, which has only the rights of this user
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        entry = pwd.getpwnam(name)
        os.initgroups(name, entry.pw_gid)
        os.setgid(entry.pw_gid)
        os.setuid(entry.pw_uid)
        try:
            said = str(task())
        except Exception as exc:
            said = "%s: %s" % (type(exc).__name__, exc)
        os.write(writer, said.encode()[:2000])
        os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    with os.fdopen(reader) as answers:
        return answers.read()

def by_sendmail(one):
    options = ["-f", one["envelope"]] if one["envelope"] is not None else []
    done = subprocess.run(["/usr/sbin/sendmail", "-i", *options, one["to"]], input=one["mail"].encode(),
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return "%d %s" % (done.returncode, done.stdout.decode())

def by_smtp(one):
    with smtplib.SMTP(one["way"], 25, "local.example") as smtp:
        return smtp.sendmail(one["envelope"], [one["to"]], one["mail"].encode())

def and_gone(one):
    # all in one breath; and the socket that it came from is nobody's any more
    host = one["way"].partition(" ")[2]
    with socket.create_connection((host, 25)) as connection:
        lines = ["EHLO local.example", "MAIL FROM:<%s>" % one["envelope"], "RCPT TO:<%s>" % one["to"], "DATA"]
        connection.sendall(("\r\n".join(lines) + "\r\n" + one["mail"] + "\r\n.\r\nQUIT\r\n").encode())

for_way = lambda way: by_sendmail if way == "sendmail" else and_gone if way.startswith("gone") else by_smtp
print(json.dumps([as_user(one["user"], lambda: for_way(one["way"])(one)) for one in json.loads(sys.argv[1])]))
"""

#: user, way in, envelope, From, whether it may pass; None: the program's own default. {own} is user@host.
Case = t.Tuple[str, str, t.Optional[str], str, bool]

PEOPLE = ["alice@{domain}", "carol@{second}", "root@{host}", "vmail@{host}", "ceo@elsewhere.example"]
SMTP = ["127.0.0.1", "::1", "::ffff:127.0.0.1", "{address}"]
STRANGER = "www-data"

FORGED: t.List[Case] = [
    # the envelope
    *((STRANGER, "sendmail", person, "{own}", False) for person in ["", *PEOPLE]),
    *((STRANGER, way, person, "{own}", False) for way in SMTP for person in ["", *PEOPLE]),
    # the header alone
    *((STRANGER, "sendmail", "{own}", person, False) for person in PEOPLE),
    *((STRANGER, way, "{own}", person, False) for way in SMTP[:2] for person in PEOPLE),
    (STRANGER, "127.0.0.1", "{own}", "{own}, alice@{domain}", False),
    (STRANGER, "127.0.0.1", "{own}", "a group: alice@{domain};", False),
    (STRANGER, "127.0.0.1", "{own}", "{own}\nSender: alice@{domain}", False),
    (STRANGER, "127.0.0.1", "{own}", "{own}\nResent-From: alice@{domain}", False),
    (STRANGER, "127.0.0.1", "{own}", "{own}\nFrom: alice@{domain}", False),
    # the kernel says root of a socket that was closed
    *((STRANGER, way, "alice@{domain}", "alice@{domain}", False) for way in ("gone 127.0.0.1", "gone {address}")),
]
#: What has to work: everybody as himself, and all as anybody who may.
HONEST: t.List[Case] = [
    (STRANGER, "127.0.0.1", "{own}", "Web <{own}>", True),
    (STRANGER, "::1", "www-data+form@{host}", "{own}", True),
    ("root", "sendmail", None, "alerts@{domain}", True),
    ("root", "127.0.0.1", "alerts@{domain}", "alerts@{domain}", True),
    # {trusted} is in mail_trusted_users
    ("games", "sendmail", "forge@{domain}", "forge@{domain}", True),
    ("games", "127.0.0.1", "forge@{domain}", "forge@{domain}", True),
    ("vmail", "sendmail", "", "bob@{domain}", True),
]
#: Before Postfix 3.6 only root and the trusted may use sendmail(1).
SENDMAIL = [(STRANGER, "sendmail", None, "{own}"), (STRANGER, "sendmail", "{own}", "{own}")]


def written(text: t.Optional[str], vps: Vps, user: str) -> t.Optional[str]:
    """With the host's names in it."""
    own = f"{user}@{vps.hostname}"
    names = {"domain": vps.domain, "second": f"second-{vps.domain}", "host": vps.hostname, "own": own}
    return None if text is None else text.format(address=vps.server.address, **names)


def compares(vps: Vps) -> bool:
    """Whether its Postfix compares sender and user in sendmail(1)."""
    return [int(part) for part in vps.run("postconf", "-h", "mail_version").split(".")] >= [3, 6]


@pytest.fixture(scope="module")
def answers(vps: Vps) -> t.List[t.Tuple[Case, str, bool]]:
    """All cases, what was answered to each, and whether it arrived."""
    modern = compares(vps)
    cases: t.List[Case] = FORGED + HONEST + [(*one, modern) for one in SENDMAIL]
    words = [mailclient.token() for _case in cases]
    mails = [
        {
            "user": user,
            "way": written(way, vps, user),
            "envelope": written(envelope, vps, user),
            "to": vps.bob.address,
            "mail": f"From: {written(author, vps, user)}\nTo: {vps.bob.address}\nSubject: {word}\n\nHello.\n",
        }
        for (user, way, envelope, author, _passes), word in zip(cases, words)
    ]
    said = vps.python(SENDER, mails)
    vps.idle()
    with Imap(vps.server).log_in(vps.bob) as imap:
        return [(case, one, bool(imap.search_subject(word))) for case, one, word in zip(cases, said, words)]


@pytest.mark.parametrize("honest", [False, True], ids=["forged", "honest"])
def test_programs_without_a_login_send_as_themselves(
    vps: Vps, tries: Tries, answers: t.List[t.Tuple[Case, str, bool]], honest: bool
) -> None:
    for case, said, arrived in answers:
        if case[4] == honest:
            tries.add(repr(case), arrived == honest, said)


#: On the host: the sockets of a daemon that a user can open.
OPENER = """
import json, os, pwd, socket, stat, sys
user, tops = json.loads(sys.argv[1])
paths = [os.path.join(where, name) for top in tops for where, _dirs, names in os.walk(top) for name in names]
paths = [path for path in paths if stat.S_ISSOCK(os.lstat(path).st_mode)]
os.setgid(pwd.getpwnam(user).pw_gid)
os.setuid(pwd.getpwnam(user).pw_uid)
found = {}
for path in paths:
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(path)
            found[path] = True
        except OSError:
            found[path] = False
print(json.dumps(found))
"""


def test_sockets_are_closed_to_other_users(vps: Vps, tries: Tries) -> None:
    tops = ["/run/dovecot", "/var/spool/postfix", "/var/spool/rspamd", "/run/rspamd"]
    for path, opened in vps.python(OPENER, [STRANGER, tops]).items():
        # by these two of Postfix's own anybody can submit mail, and look at the queue; and names can be looked up
        public = path.startswith("/var/spool/postfix/public/") or path == "/run/dovecot/dns-client"
        tries.add(path, public or not opened)


def test_a_user_who_sends_too_much_is_stopped(vps: Vps, tries: Tries) -> None:
    # one more than rspamd_local_limits in converge.yml lets through
    word = mailclient.token()
    own = f"nobody@{vps.hostname}"
    mail = f"From: {own}\nTo: {vps.bob.address}\nSubject: {word}\n\nHello.\n"
    one = {"user": "nobody", "way": "127.0.0.1", "envelope": own, "to": vps.bob.address, "mail": mail}
    said = vps.python(SENDER, [one] * 21)
    tries.add("too many", sum("Sending limit" not in answer for answer in said) <= 20, said)
    tries.add("one too many", "Sending limit" in said[-1], said)
    if compares(vps):
        vps.python(SENDER, [{**one, "way": "sendmail"}])
        # Postfix tries again each minute
        tries.add("one by sendmail", any(vps.queued("maildrop") for _ in until(lambda: vps.queued("maildrop"))))
        vps.run("find", "/var/spool/postfix/maildrop", "-type", "f", "-delete")
