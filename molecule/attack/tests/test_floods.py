# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""More silent connections from one address than the server has room for: others are served meanwhile.

Ports 25, 465 and 587 are in the scenario internet, with Postfix's limits for one address. The inventory lifts these.
"""

import contextlib
import socket

import pytest
from conftest import Tries, Vps

CONNECTIONS = 1200
#: nginx takes 768 in each of its processes, as Debian sets it up: the settings page is away while somebody holds more.
WEB_CONNECTIONS = 600
#: In which others are served, in seconds.
PATIENCE = 5

#: On the host, which is another address: how long it takes to a TLS handshake, or to the greeting; null: too long.
OTHER = """
import json, socket, ssl, sys, time
port, patience = json.loads(sys.argv[1])
began = time.time()
context = ssl._create_unverified_context()
try:
    with socket.create_connection(("127.0.0.1", port), patience) as plain:
        plain.settimeout(patience)
        if port in (443, 993, 995):
            context.wrap_socket(plain).close()
        else:
            assert plain.recv(10)
    print(json.dumps(time.time() - began))
except (OSError, AssertionError):
    print("null")
"""


@pytest.mark.parametrize("port", [443, 993, 143, 995, 110, 4190])
def test_silent_connections(vps: Vps, tries: Tries, port: int) -> None:
    with contextlib.ExitStack() as stack:
        for number in range(WEB_CONNECTIONS if port == 443 else CONNECTIONS):
            # one that is dropped at once is no matter
            with contextlib.suppress(OSError):
                stack.enter_context(socket.create_connection((vps.server.address, port), PATIENCE)).sendall(b"G")
            if number % 300 == 299:
                took = vps.python(OTHER, [port, PATIENCE])
                tries.add(f"{number + 1} connections to {port}", took is not None and took < PATIENCE, took)
