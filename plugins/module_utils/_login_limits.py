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
#: How many logins of an address that are not known yet are looked at in a second, and how many seconds one of them
#: waits for its turn at most; from Postfix, which gives up after ten, it does not wait for so long.
A_SECOND, PATIENCE, PATIENCE_OF_POSTFIX = 5, 20, 5
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
        #: when it may try the next
        self.next = 0.0


class Ledger:
    """Who tried what, from where. Only in memory: who can't restart this program gains nothing by that."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.addresses = collections.OrderedDict()  # type: collections.OrderedDict[str, Address]

    def _known(self, network: str) -> Address:
        known = self.addresses.setdefault(network, Address())
        self.addresses.move_to_end(network)
        while len(self.addresses) > ADDRESSES:
            self.addresses.popitem(last=False)
        return known

    def _too_much(self, known: Address, login: Login, now: float) -> bool:
        known.wrong = {one: tried for one, tried in known.wrong.items() if tried[0] > now - WINDOW}
        again = known.wrong.get(login)
        return again[1] >= REPEATS if again else len(known.wrong) >= self.limit

    def wait(self, remote: str, login: Login, now: float) -> t.Optional[int]:
        """Seconds to wait before the login is looked at; None if it is not at all."""
        network = network_of(remote)
        if not network:
            return 0
        known = self._known(network)
        if login in known.right:
            return 0
        if self._too_much(known, login, now):
            return None
        # before it is known that they are wrong, many can come at once
        turn = max(known.next, now)
        if turn > now + PATIENCE:
            return None
        known.next = turn + 1 / A_SECOND
        return int(turn - now)

    def report(self, remote: str, login: Login, success: bool, now: float) -> None:
        network = network_of(remote)
        if not network:
            return
        known = self._known(network)
        if success:
            known.right[login] = None
            known.right.move_to_end(login)
            known.wrong.pop(login, None)
            while len(known.right) > LOGINS:
                known.right.popitem(last=False)
        elif login not in known.right and not self._too_much(known, login, now):
            # one that was right: the password has changed since, or it is another one with the same few bits
            since, times = known.wrong.get(login, (now, 0))
            known.wrong[login] = (since, times + 1)


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
    # an answer is two pieces, and the second does not wait for the first to be acknowledged
    disable_nagle_algorithm = True
    server = None  # type: t.Any

    def setup(self) -> None:
        super().setup()
        with open("/proc/net/tcp") as handle:
            self.may_ask = owner_of(self.client_address[1], handle.read()) in self.server.users

    def do_GET(self) -> None:
        self._answer({})

    def do_POST(self) -> None:
        request = self.rfile.read(min(int(self.headers.get("Content-Length") or 0), 65536))
        if not self.may_ask:
            self.send_error(403)
            return
        try:
            said = json.loads(request.decode("utf-8", "replace"))
            status, text = self.server.answer(said, self.path.rpartition("command=")[2])
        except (ValueError, KeyError, TypeError, AttributeError) as exc:
            _say("not understood: %r" % exc)
            status, text = 0, ""
        self._answer({"status": status, "msg": text})

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

    def answer(self, said: t.Dict[str, t.Any], command: str) -> t.Tuple[int, str]:
        """Less than 0 refuses, and the text is what the person is told; else it is the number of seconds to wait."""
        remote, login = said["remote"], (str(said["login"]).lower(), str(said.get("pwhash", "")))
        with self.one_at_a_time:
            if command == "report":
                self.ledger.report(remote, login, bool(said["success"]), time.time())
                return 0, ""
            seconds = self.ledger.wait(remote, login, time.time())
        if seconds is None:
            return -1, "Too many wrong logins from %s; try again later" % network_of(remote)
        return min(seconds, PATIENCE_OF_POSTFIX) if said.get("protocol") == "smtp" else seconds, ""


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
