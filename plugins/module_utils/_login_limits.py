# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Runs on the server as a program of its own: Python 3.6 and the standard library only.

"""How many wrong logins an address may try: what Dovecot asks before each login, on every protocol (auth_policy).

Different wrong logins are counted: a phone that tries an old password all day has tried one. Who has been let in from
an address before is never kept out there, whatever others do behind the same router. What is wrong here never keeps
anybody out: Dovecot goes on where there is no answer.
"""

import collections
import http.server
import ipaddress
import json
import socketserver
import sys
import threading
import time
import typing as t

PORT = 8587
#: A wrong login counts for an hour.
WINDOW = 3600
#: The same one is not looked at any more after so many times: a hash costs 25 ms of a processor.
REPEATS = 30
#: What is remembered at most: addresses, and of each the logins that were let in.
ADDRESSES, LOGINS = 20000, 200
#: Those who may ask: Dovecot, and who proves that somebody answers.
USERS = ("dovecot", "root")

#: An address, and a login with some bits of the password's hash.
Login = t.Tuple[str, str]


class Address:
    """What is known of one."""

    def __init__(self) -> None:
        #: since when it counts, and how often it was tried
        self.wrong = {}  # type: t.Dict[Login, t.Tuple[float, int]]
        self.right = collections.OrderedDict()  # type: collections.OrderedDict[Login, None]


class Ledger:
    """Who tried what, from where. Only in memory: who can't restart this program gains nothing by that."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.addresses = collections.OrderedDict()  # type: collections.OrderedDict[str, Address]

    def refusal(self, remote: str, login: Login, now: float) -> str:
        """What the person is told whose login is not even looked at; empty where it is."""
        network = network_of(remote)
        known = self.addresses.get(network)
        if known is None or login in known.right:
            return ""
        known.wrong = {one: tried for one, tried in known.wrong.items() if tried[0] > now - WINDOW}
        again = known.wrong.get(login)
        too_much = again[1] >= REPEATS if again else len(known.wrong) >= self.limit
        return "Too many wrong logins from %s; try again in an hour" % network if too_much else ""

    def report(self, remote: str, login: Login, success: bool, now: float) -> None:
        network = network_of(remote)
        if not network or self.refusal(remote, login, now):
            return
        known = self.addresses.setdefault(network, Address())
        self.addresses.move_to_end(network)
        if success:
            known.right[login] = None
            known.right.move_to_end(login)
            known.wrong.pop(login, None)
        elif login not in known.right:
            # else the password has changed since, or it is another one with the same few bits
            since, times = known.wrong.get(login, (now, 0))
            known.wrong[login] = (since, times + 1)
        while len(known.right) > LOGINS:
            known.right.popitem(last=False)
        while len(self.addresses) > ADDRESSES:
            self.addresses.popitem(last=False)


def network_of(remote: str) -> str:
    """Who counts as one: an IPv4 address, or the /64 of an IPv6 address. Empty for this machine itself."""
    try:
        address = ipaddress.ip_address(remote)
    except ValueError:
        return ""
    address = getattr(address, "ipv4_mapped", None) or address
    if address.is_loopback:
        return ""
    return str(address) if address.version == 4 else str(ipaddress.ip_network((int(address) >> 64 << 64, 64)))


# -- the program --------------------------------------------------------------------------------------------------


def owner_of(port: int, table: str) -> t.Optional[int]:
    """The user whose socket is bound to the port of 127.0.0.1, in /proc/net/tcp."""
    for line in table.splitlines()[1:]:
        field = line.split()
        if field[1] == "0100007F:%04X" % port:
            return int(field[7])
    return None


class _Handler(http.server.BaseHTTPRequestHandler):
    """A connection of Dovecot's auth, which asks about one login after another."""

    protocol_version = "HTTP/1.1"
    timeout = 600
    server = None  # type: t.Any

    def setup(self) -> None:
        super().setup()
        with open("/proc/net/tcp") as handle:
            self.may_ask = owner_of(self.client_address[1], handle.read()) in self.server.users

    def do_GET(self) -> None:
        self._answer({})

    def do_POST(self) -> None:
        text = self.rfile.read(min(int(self.headers.get("Content-Length") or 0), 65536))
        if not self.may_ask:
            self.send_error(403)
            return
        try:
            said = json.loads(text.decode("utf-8", "replace"))
            refusal = self.server.answer(said, self.path.rpartition("command=")[2])
        except (ValueError, KeyError, TypeError, AttributeError) as exc:
            _say("not understood: %r" % exc)
            refusal = ""
        self._answer({"status": -1 if refusal else 0, "msg": refusal})

    def _answer(self, said: t.Dict[str, t.Any]) -> None:
        text = json.dumps(said).encode("ascii")
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: t.Any) -> None:
        """Dovecot's log has all logins."""


class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
    request_queue_size = 100

    def __init__(self, limit: int, users: t.Container[t.Optional[int]], port: int = PORT) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.ledger = Ledger(limit)
        self.users = users
        self.one_at_a_time = threading.Lock()

    def answer(self, said: t.Dict[str, t.Any], command: str) -> str:
        login = (str(said["login"]).lower(), str(said.get("pwhash", "")))
        with self.one_at_a_time:
            if command == "report":
                self.ledger.report(said["remote"], login, bool(said["success"]), time.time())
                return ""
            return self.ledger.refusal(said["remote"], login, time.time())


def _say(text: str) -> None:
    # systemd keeps it in the journal
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def main() -> None:
    import pwd

    users = {one.pw_uid for one in pwd.getpwall() if one.pw_name in USERS}
    Server(int(sys.argv[1]), users).serve_forever()


if __name__ == "__main__":
    main()
