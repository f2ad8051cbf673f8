# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures: a mail host with bans, and a machine from which people and others use it."""

import ipaddress
import json
import pathlib
import typing as t

import pytest
import vps as vps_under_test
import yaml
from by_host import pytest_collection_modifyitems as pytest_collection_modifyitems
from by_host import pytest_xdist_make_scheduler as pytest_xdist_make_scheduler
from mailclient import until

SCENARIO = pathlib.Path(__file__).parent.parent
PEOPLE = yaml.safe_load((SCENARIO / "converge.yml").read_text(encoding="utf-8"))[0]["vars"]["mail_accounts"]
JAILS = ("port587-logins", "port587-web")

#: On the client: connects from an address, and logs in over IMAP or asks the web server. Prints an answer for each try.
CLIENT = r"""
import json, socket, ssl, sys
server, port, source, tries = json.loads(sys.argv[1])
context = ssl.create_default_context()
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
answers = []
for words in tries:
    try:
        with socket.create_connection((server, port), 15, (source, 0)) as plain:
            if port == 25:
                answers.append(plain.recv(3).decode())
                continue
            with context.wrap_socket(plain) as tls:
                if port == 993:
                    tls.recv(4096)
                    tls.sendall(("a LOGIN %s %s\r\n" % tuple(words)).encode())
                else:
                    tls.sendall(("GET %s HTTP/1.0\r\nHost: %s\r\n\r\n" % tuple(words)).encode())
                answers.append(tls.recv(4096).decode().split()[1])
    except ConnectionError:
        answers.append("refused")
    except (OSError, IndexError) as exc:
        answers.append(repr(exc))
print(json.dumps(answers))
"""


class Vps(vps_under_test.Vps):
    """A mail host with bans."""

    ipv6 = ""

    def banned(self) -> t.List[str]:
        """The addresses that are banned now."""
        said = [self.run("fail2ban-client", "status", jail) for jail in JAILS]
        return [address for text in said for address in text.partition("Banned IP list:")[2].split()]

    def bans(self, address: str) -> bool:
        """Whether it is banned within a while."""
        return any(address in banned for banned in until(self.banned, 15))

    def lift_all(self) -> None:
        """As if no one had guessed."""
        self.run("fail2ban-client", "unban", "--all")
        # and forget who logged in from where
        self.run("systemctl", "restart", "port587-login-limits")


class Client:
    """A machine elsewhere, with several addresses."""

    def __init__(self, container: str, vps: Vps) -> None:
        self.container = container
        self.vps = vps

    def run(self, *command: str, stdin: str = "") -> str:
        return vps_under_test.docker_exec(self.container, *command, stdin=stdin)

    def addresses(self) -> t.Tuple[str, str]:
        """Its own IPv4 and IPv6 address."""
        four, six = (
            json.loads(self.run("ip", "-json", f"-{version}", "address", "show", "eth0")) for version in (4, 6)
        )
        found = [one["local"] for shown in (four, six) for one in shown[0]["addr_info"] if one.get("scope") == "global"]
        return found[0], next(address for address in found if ":" in address)

    def add_neighbour(self, address: str) -> str:
        """Another address of the same network."""
        shown = json.loads(self.run("ip", "-json", "address", "show", "eth0"))[0]["addr_info"]
        prefix = next(one["prefixlen"] for one in shown if one["local"] == address)
        neighbour = str(ipaddress.ip_interface(f"{address}/{prefix}").network[1000])
        self.run("ip", "address", "replace", f"{neighbour}/{prefix}", "dev", "eth0", *["nodad"][: ":" in address])
        return neighbour

    def tries(self, port: int, source: str, *tries: t.Sequence[str]) -> t.List[str]:
        """What the server answers."""
        server = self.vps.ipv6 if ":" in source else self.vps.server.address
        given = json.dumps([server, port, source, tries or [[]]])
        return t.cast(t.List[str], json.loads(self.run("python3", "-", given, stdin=CLIENT)))


@pytest.fixture(scope="module")
def vps(host: t.Any) -> Vps:
    variables = host.ansible.get_variables()
    vps = Vps(host.backend.host, variables, PEOPLE, SCENARIO)
    vps.ipv6 = variables["vps_ipv6"]
    return vps


@pytest.fixture
def client(vps: Vps, host: t.Any) -> t.Iterator[Client]:
    network = vps.container[: -len(host.backend.host) - 1]
    vps.lift_all()
    yield Client(f"{network}-client", vps)
    vps.lift_all()
