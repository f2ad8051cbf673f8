# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Runs on the server: Python 3.6 and the standard library only.

"""ACME challenges, which verify that this server owns a name: over HTTP on port 80, or by a record in DNS."""

import http.client
import os
import secrets
import socket
import typing as t

from ansible_collections.port587.mail.plugins.module_utils._certificate.acme import (
    HOOK,
    NSUPDATE,
    WEBROOT,
    AcmeError,
    Settings,
    obtained,
)
from ansible_collections.port587.mail.plugins.module_utils._server import ports, proc
from ansible_collections.port587.mail.plugins.module_utils._server.proc import Socket

#: Why a name is left out that the web server does not serve yet: a play configures it after the certificate.
NOT_ANSWERED = "the web server on port 80 does not answer for it"


def certbot_options(settings: Settings) -> t.List[str]:
    """certbot's options for the challenge. Raises AcmeError if no program can answer it."""
    if settings.challenge == "nsupdate":
        wait = ["--dns-rfc2136-propagation-seconds", str(settings.wait)]
        return ["--dns-rfc2136", "--dns-rfc2136-credentials", NSUPDATE, *wait]
    if settings.challenge == "hook":
        hooks = ["--manual-auth-hook", HOOK + " auth", "--manual-cleanup-hook", HOOK + " cleanup"]
        return ["--manual", "--preferred-challenges", "dns", *hooks]
    # checked at each run, since a web server may be installed or removed
    listener = _on_port_80()
    if listener is None:
        return ["--standalone", "--preferred-challenges", "http"]
    if _web_server_answers(listener, settings.names[0]):
        return ["--webroot", "--webroot-path", WEBROOT]
    raise AcmeError(
        "port 80, to which the authority connects, is taken by %s, which does not serve "
        "%s/.well-known/acme-challenge/. Stop it, let it serve that, or choose another challenge than http"
        % (_program(listener), WEBROOT)
    )


def unreachable_reason(settings: Settings, name: str) -> str:
    """Why the authority could not reach this server under the name; empty if it could."""
    if settings.challenge != "http":
        return ""
    if not _is_in_dns(name):
        return "it is not in DNS"
    web_server = _on_port_80()
    return NOT_ANSWERED if web_server and not _web_server_answers(web_server, name) else ""


def not_ready(one: Settings) -> str:
    """Why the first certificate for such a name is not ordered yet."""
    return "" if obtained(one) else unreachable_reason(one, one.names[0])


def _is_in_dns(name: str) -> bool:
    try:
        return bool(socket.getaddrinfo(name, 80))
    except OSError:
        return False


def _on_port_80() -> t.Optional[Socket]:
    return next((one for one in proc.listening() if one.port == 80), None)


def _program(listener: Socket) -> str:
    return ports.as_text(proc.holders("/", [listener.target])[listener.target])


def _own_address(listener: Socket) -> str:
    """An address at which this server reaches its own web server."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(listener.address, listener.address)


def _web_server_answers(listener: Socket, host: str) -> bool:
    """Whether the web server serves files from the challenge directory."""
    token = secrets.token_hex(16)
    directory = os.path.join(WEBROOT, ".well-known", "acme-challenge")
    if not os.path.isdir(WEBROOT):
        return False
    try:
        os.makedirs(directory, exist_ok=True)
        path = os.path.join(directory, token)
        with open(path, "w") as handle:
            handle.write(token)
    except OSError:
        return False
    try:
        connection = http.client.HTTPConnection(_own_address(listener), 80, timeout=10)
        connection.request("GET", "/.well-known/acme-challenge/" + token, headers={"Host": host})
        return connection.getresponse().read(100).decode("ascii", "replace") == token
    except (OSError, http.client.HTTPException):
        return False
    finally:
        os.unlink(path)
