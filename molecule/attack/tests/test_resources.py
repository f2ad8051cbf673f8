# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Memory, disk and sessions run out while there is mail: nothing that was accepted is lost, and all comes back."""

import contextlib
import json
import smtplib
import subprocess
import typing as t

import mailclient
from conftest import Tries, Vps
from mailclient import Imap, until

HELPERS = ["rspamd", "port587-recipients", "port587-send-limits", "port587-local-senders"]
#: Debian 11 runs Postfix in an instance of a template.
UNITS = ["dovecot", *HELPERS, "postfix", "nginx"]

#: On the host: a limit for the memory that all daemons together ask for from now on, in MiB; 0 takes it away. Prints
#: how often the kernel has killed one of their processes.
LIMITER = r"""
import glob, json, os, socket, subprocess, sys, time
units, megabytes = json.loads(sys.argv[1])
top = "/mnt/memory"
os.makedirs(top, exist_ok=True)
if not os.path.ismount(top) and subprocess.call(["mount", "-t", "cgroup", "-o", "memory", "memory", top]):
    # systemd has it; and what it limits counts what is there
    now = [int(subprocess.check_output(["systemctl", "show", "--value", "--property=MemoryCurrent", u])) for u in units]
    killed = 0
    for unit, used in zip(units, now):
        limit = str(used + (megabytes << 20) // 4) if megabytes else "infinity"
        subprocess.check_call(["systemctl", "set-property", "--runtime", unit, "MemoryMax=" + limit])
    words = subprocess.check_output(["journalctl", "-q", "-o", "cat", "MESSAGE_ID=fe6faa94e7774663a0da52717891d8ef"])
    print(json.dumps(len(words.splitlines())))
    sys.exit()
group = "%s/port587-%s" % (top, socket.gethostname())
def procs(unit):
    path = subprocess.check_output(["systemctl", "show", "--value", "--property=ControlGroup", unit]).decode().strip()
    if not path:
        return []
    found = []
    for where, _dirs, files in os.walk("/sys/fs/cgroup" + path):
        found += open(where + "/cgroup.procs").read().split() if "cgroup.procs" in files else []
    return found
def move(pids, where):
    for pid in pids:
        try:
            with open(where + "/cgroup.procs", "w") as file:
                file.write(pid)
        except OSError:
            pass
if megabytes:
    os.makedirs(group, exist_ok=True)
    for name in ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes"):
        with open(os.path.join(group, name), "w") as file:
            file.write(str(megabytes << 20))
    for unit in units:
        move(procs(unit), group)
    print(0)
else:
    with open(group + "/memory.oom_control") as file:
        killed = [int(line.split()[1]) for line in file if line.startswith("oom_kill ")]
    home = top + os.path.dirname(open("/proc/1/cgroup").read().split(":memory:")[1].split("\n")[0] + "/")
    for _ in range(100):
        move(open(group + "/cgroup.procs").read().split(), home)
        try:
            os.rmdir(group)
            break
        except OSError:
            time.sleep(0.1)
    subprocess.call(["umount", top])
    print(json.dumps(killed[0]))
"""


def offer(vps: Vps, size: int = 100, sender: t.Optional[mailclient.Account] = None) -> t.Optional[str]:
    """A mail to bob, of so many KiB. Its word, if the server has accepted it."""
    word = mailclient.token()
    body = (b"x" * 76 + b"\r\n") * (size * 1024 // 78)
    sender = sender or vps.alice
    try:
        mailclient.submit(
            vps.server, sender, vps.bob.address, mailclient.mail(sender.address, vps.bob.address, word, body)
        )
    except (smtplib.SMTPException, OSError, AssertionError) as error:
        if getattr(error, "smtp_code", 0) >= 500:
            # for good, as if it were the mail's fault
            raise
        return None
    return word


def arrived(vps: Vps, words: t.Sequence[str]) -> t.Dict[str, int]:
    """How often each has arrived, when all have, or after a while."""
    vps.run("postqueue", "-f")
    counts: t.Dict[str, int] = {}
    for _ in until(lambda: None, 60):
        with contextlib.suppress(OSError, Imap.error), Imap(vps.server).log_in(vps.bob) as imap:
            counts = {word: len(imap.search_subject(word)) for word in words}
            if all(counts.values()):
                break
        vps.run("postqueue", "-f", check=False)
    return counts


def is_back(vps: Vps) -> bool:
    """All daemons, and a mail through them."""
    for active in until(lambda: vps.run("systemctl", "is-active", *UNITS, check=False).split(), 30):
        if set(active) == {"active"}:
            break
    # rspamd reads its lists for a while before it answers
    for word in until(lambda: offer(vps, 1), 60):
        if word:
            return set(active) == {"active"} and bool(arrived(vps, [word])[word])
    return False


def test_more_sessions_than_there_is_room_for(vps: Vps, tries: Tries) -> None:
    """With a limit of 20. Those within it live on, and others get in when they have left.

    The journal has more warnings than verify reads; the newest count.
    """
    vps.run("sh", "-c", "seq 600 | logger --priority mail.warning")
    vps.run("cp", "-p", "/etc/dovecot/dovecot.conf", "/root/dovecot.conf")
    vps.run("sed", "-i", "/^service imap {/,/^}/s/process_limit = .*/process_limit = 20/", "/etc/dovecot/dovecot.conf")
    vps.run("systemctl", "restart", "dovecot")
    given = json.dumps([vps.alice.address, vps.alice.password, 22])
    command = ["docker", "exec", "--interactive", vps.container, "python3", "-c", SESSIONS, given]
    as_bob = {"verify_address": vps.bob.address, "verify_password": vps.bob.password}
    try:
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as sessions:
            used = int(t.cast(t.Any, sessions.stdout).readline())
            # the journal may be some seconds behind
            for said in until(lambda: vps.play("../../playbooks/verify.yml", **as_bob), 60):
                if "sessions-full" in said.output:
                    break
            alive = int(sessions.communicate("\n")[0])
        tries.add("sessions within the limit", used >= 20 and used == alive, (used, alive))
        tries.add("verify", "sessions-full" in said.output, said.output)
        vps.serves()
        tries.add("after them", True)
    finally:
        vps.run("mv", "/root/dovecot.conf", "/etc/dovecot/dovecot.conf")
        vps.run("systemctl", "restart", "dovecot")


def test_memory_runs_out(vps: Vps, tries: Tries) -> None:
    vps.serves()
    vps.python(LIMITER, [UNITS, 40])
    words: t.List[str] = []
    try:
        with contextlib.ExitStack() as sessions:
            for _number in range(30):
                with contextlib.suppress(OSError, Imap.error):
                    session = Imap(vps.server).log_in(vps.alice)
                    # without a word: its process may be dead by then
                    sessions.callback(session.shutdown)
                    session.select()
                words += filter(None, [offer(vps, 200)])
    finally:
        killed = vps.python(LIMITER, [UNITS, 0])
    print(f"{killed} killed, {len(words)} mails accepted")
    assert killed > 0
    assert words
    tries.add("all are back", is_back(vps))
    for word, count in arrived(vps, words).items():
        tries.add(f"accepted: {word}", count >= 1, count)


def test_verify_says_that_memory_ran_out(vps: Vps, tries: Tries) -> None:
    """As systemd logs it; the kernel's own words are not to be had in a container."""
    notice = "MESSAGE_ID=fe6faa94e7774663a0da52717891d8ef\nUNIT=dovecot.service\nMESSAGE=A process was killed.\n"
    vps.run("logger", "--journald", stdin=notice)
    said = vps.play("../../playbooks/verify.yml", verify_address=vps.bob.address, verify_password=vps.bob.password)
    tries.add("verify", "memory-short" in said.output and "dovecot" in said.output, said.output)


@contextlib.contextmanager
def small(vps: Vps, path: str, size: str, stop: str, start: str) -> t.Iterator[None]:
    """A file system of its own for a directory, with what is in it."""
    vps.run("systemctl", "stop", *stop.split())
    vps.run(
        "sh",
        "-ec",
        f"cp -a {path} /root/copy; mount -t tmpfs -o size={size},mode=$(stat -c %a {path}) tmpfs {path};"
        f" chown --reference=/root/copy {path}; cp -a /root/copy/. {path}/; systemctl start {start}",
    )
    try:
        yield
    finally:
        vps.run("systemctl", "stop", *stop.split())
        vps.run("sh", "-ec", f"rm -rf /root/copy; cp -a {path} /root/copy; umount {path}; cp -a /root/copy/. {path}/")
        vps.run("sh", "-ec", f"rm -rf /root/copy; systemctl start {start}")


def test_the_disk_of_the_mailboxes_is_full(vps: Vps, tries: Tries) -> None:
    home = "/var/vmail"
    vps.serves()
    used = int(vps.run("du", "-sk", home).split()[0])
    with small(vps, home, f"{used + 600}k", "dovecot", "dovecot"):
        # the quota service counts only what is allowed, so all are taken
        words = [word for word in (offer(vps, 200) for _ in range(6)) if word]
        vps.idle()
        with Imap(vps.server).log_in(vps.bob) as imap:
            there = sum(len(imap.search_subject(word)) for word in words)
        tries.add("some have to wait", 0 < there < len(words) == 6, (there, len(words)))
        said = vps.play("../../playbooks/verify.yml", verify_address=vps.bob.address, verify_password=vps.bob.password)
        tries.add("verify", said.code != 0 and "disk-full" in said.output, said.output)
        vps.run("mount", "-o", f"remount,size={used + 20000}k", home)
        counts = arrived(vps, words)
        tries.add("all arrive, once", set(counts.values()) == {1}, counts)
    tries.add("back", is_back(vps))


def test_the_disk_of_the_queue_gets_full(vps: Vps, tries: Tries) -> None:
    queue, helpers = "/var/spool/postfix", " ".join(HELPERS)
    with small(vps, queue, "160m", f"postfix dovecot {helpers}", f"{helpers} dovecot postfix"):
        words, refused = [], 0
        for number in range(18):
            if number == 6:
                vps.run("sh", "-c", f"head -c 200M /dev/zero > {queue}/filler", check=False)
            if number == 12:
                vps.run("rm", f"{queue}/filler")
            word = offer(vps, 300)
            words += [word] if word else []
            refused += word is None
            tries.add(f"mail {number}", (word is None) == (6 <= number < 12), word)
        counts = arrived(vps, words)
        tries.add("all arrive, once", set(counts.values()) == {1}, counts)
    tries.add("back", is_back(vps))


#: On the host: that many sessions of one login, each few of them from another address, and how many can be used. They
#: are held until something is said; how many live then.
SESSIONS = r"""
import json, socket, ssl, sys
login, password, number = json.loads(sys.argv[1])
context = ssl._create_unverified_context()
used = []
for one in range(number):
    plain = socket.socket()
    plain.settimeout(20)
    plain.bind(("127.0.0.%d" % (2 + one // 10), 0))
    plain.connect(("127.0.0.1", 993))
    session = context.wrap_socket(plain)
    reader = session.makefile("rb")
    session.sendall(b'a LOGIN "%s" "%s"\r\nb SELECT INBOX\r\nc IDLE\r\n' % (login.encode(), password.encode()))
    for line in iter(reader.readline, b""):
        if line.startswith(b"+"):
            used.append((session, reader))
            break
print(len(used), flush=True)
sys.stdin.readline()
alive = 0
for session, reader in used:
    session.sendall(b"DONE\r\nd NOOP\r\n")
    alive += any(line.startswith(b"d OK") for line in iter(reader.readline, b""))
print(alive)
"""
