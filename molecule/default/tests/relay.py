# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A provider's relay: after STARTTLS and a login, it accepts and keeps all mail.

Usage: relay.py PORT CERTIFICATE KEY USER PASSWORD FOLDER
"""

import json
import pathlib
import signal
import ssl
import sys
import typing as t
import uuid

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult

port, certificate, key, user, password, folder = sys.argv[1:]


class Keeper:
    """Keeps each mail with its envelope and the login that brought it."""

    async def handle_DATA(self, _server: SMTP, session: t.Any, envelope: t.Any) -> str:
        kept = {
            "login": session.auth_data.login.decode(),
            "sender": envelope.mail_from,
            "recipients": envelope.rcpt_tos,
            "written": session.written,
            "content": envelope.content.decode(),
        }
        (pathlib.Path(folder) / uuid.uuid4().hex).write_text(json.dumps(kept), encoding="utf-8")
        return "250 kept"


class Server(SMTP):
    """Keeps recipients as they were written, too: quoted, or not."""

    async def smtp_MAIL(self, arg: str) -> None:
        self.session.written = []
        await super().smtp_MAIL(arg)

    async def smtp_RCPT(self, arg: str) -> None:
        self.session.written.append(arg.partition(":")[2].split("> ")[0].strip("<>"))
        await super().smtp_RCPT(arg)


class Relay(Controller):
    """Port 587 of a provider, at a number of its own."""

    def factory(self) -> SMTP:
        return Server(
            self.handler,
            hostname="relay",
            tls_context=context,
            require_starttls=True,
            auth_required=True,
            authenticator=lambda _server, _session, _envelope, _mechanism, data: AuthResult(
                success=(data.login, data.password) == (user.encode(), password.encode()), auth_data=data
            ),
        )


context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
context.load_cert_chain(certificate, key)
Relay(Keeper(), hostname="", port=int(port)).start()
signal.pause()
