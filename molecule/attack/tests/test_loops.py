# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Mail that comes back: two servers that forward to each other, and automatic answers to automatic answers.

The other server is a program on the host. It brings back what it gets, over the network as all others do.
"""

import json
import subprocess
import typing as t

import mailclient
import pytest
from conftest import Tries, Vps
from mailclient import until

#: One that the scenario network knows.
OTHER = "elsewhere.example"
#: Of Postfix, by which a loop has to end.
HOPS = 50

#: On the host: the other server, on 127.0.0.1:2525, until its input ends. Prints how many mails it got, and how many
#: of them it could bring.
#: forwards: as an MTA does, with a line Received; mangles: without, and it removes those that are there;
#: answers: it answers each mail, also an automatic answer, and does not say that its own is one.
SERVER = r"""
import json, smtplib, socket, socketserver, sys, threading
how, back, domain = json.loads(sys.argv[1])
got, taken, lock = [], [], threading.Lock()
class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        say = lambda line: self.wfile.write(line.encode() + b"\r\n")
        say("220 loop")
        sender = ""
        for line in iter(self.rfile.readline, b""):
            verb = line.decode("latin-1").strip()
            if verb.upper().startswith("MAIL"):
                sender = verb.partition("<")[2].partition(">")[0]
            if verb.upper() == "DATA":
                say("354 go on")
                lines = []
                for part in iter(self.rfile.readline, b".\r\n"):
                    lines.append(part)
                with lock:
                    got.append(sender)
                if len(got) < 300:
                    threading.Thread(target=bring, args=(sender, b"".join(lines))).start()
            say("221 bye" if verb.upper() == "QUIT" else "250 ok")
            if verb.upper() == "QUIT":
                return
def bring(sender, mail):
    if how == "answers":
        me, to = "robot@" + domain, back
        mail = ("From: %s\r\nTo: %s\r\nSubject: thank you\r\n\r\nI am a robot.\r\n" % (me, to)).encode()
    else:
        me, to = sender, back
        if how == "forwards":
            mail = b"Received: from x by elsewhere.example; Mon, 02 Nov 2026 10:00:00 +0000\r\n" + mail
        else:
            head, _, body = mail.partition(b"\r\n\r\n")
            lines = head.replace(b"\r\n\t", b" ").replace(b"\r\n ", b" ").split(b"\r\n")
            mail = b"\r\n".join(l for l in lines if not l.lower().startswith(b"received:")) + b"\r\n\r\n" + body
    try:
        with smtplib.SMTP(socket.gethostbyname(socket.gethostname()), 25, "mx.elsewhere.example") as smtp:
            smtp.sendmail(me, [to], mail)
            taken.append(to)
    except smtplib.SMTPException:
        pass
class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = daemon_threads = True
with Server(("127.0.0.1", 2525), Handler) as server:
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print("ready", flush=True)
    for _line in sys.stdin:
        print(len(got), len(taken), flush=True)
    server.shutdown()
"""
FORWARD = 'require ["copy"]; redirect :copy "friend@{other}";'
#: The alias that leads there, in converge.yml.
ALIAS = "away"
VACATION = 'require ["vacation"]; vacation "I am away.";'


@pytest.mark.parametrize(
    ("how", "script"),
    [("forwards", ""), ("forwards", FORWARD), ("mangles", FORWARD), ("answers", VACATION)],
    ids=["an alias", "a filter", "a filter, and no trace", "vacation"],
)
def test_a_loop_ends(vps: Vps, tries: Tries, how: str, script: str) -> None:
    transport = f"inline:{{{OTHER}=smtp:[127.0.0.1]:2525}}"
    before = vps.run("postconf", "-h", "transport_maps").strip()
    vps.run("postconf", f"transport_maps={transport}")
    vps.run("postfix", "reload")
    # without a script, an alias
    to = vps.bob.address if script else f"{ALIAS}@{vps.domain}"
    given = json.dumps([how, to, OTHER])
    command = ["docker", "exec", "--interactive", vps.container, "python3", "-c", SERVER, given]
    try:
        with mailclient.Sieve(vps.server).log_in(vps.bob) as sieve:
            sieve.put("loop", script.format(other=OTHER))
            sieve.say(b'SETACTIVE "loop"')
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
            asked, answers = t.cast(t.IO[str], other.stdin), t.cast(t.IO[str], other.stdout)
            assert answers.readline() == "ready\n"
            word = mailclient.token()
            # as one who writes to bob from there
            # a vacation notice is sent once to each
            friend = f"friend-{word}@{OTHER}"
            mailclient.deliver(vps.server, to, mailclient.mail(friend, to, word), sender=friend)

            def count() -> t.List[int]:
                asked.write("\n")
                asked.flush()
                return [int(number) for number in answers.readline().split()]

            counts = []
            # at rest: nothing new for a while, and nothing in the queue
            for number in until(count, 60):
                counts.append(number)
                if number[0] and counts[-15:] == [number] * 15 and not vps.queued():
                    break
        print(how, counts[-1])
        tries.add("it ends", counts[-15:] == [number] * 15 and number[0] <= HOPS, counts)
        # or there was no loop
        assert number[1] > 0
        if script:
            tries.add("and reaches bob", len(mailclient.received(vps.server, vps.bob, word)) >= 1)
        vps.serves()
    finally:
        with mailclient.Sieve(vps.server).log_in(vps.bob) as sieve:
            sieve.say(b'SETACTIVE ""')
        vps.run("postsuper", "-d", "ALL")
        vps.run("postconf", f"transport_maps={before}") if before else vps.run("postconf", "-X", "transport_maps")
        vps.run("postfix", "reload")
