# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Runs on the controller.

"""The mailbox that reports arrive in, over IMAP."""

import contextlib
import email
import email.policy
import imaplib
import re
import socket
import ssl
import time
import typing as t

from ansible_collections.port587.mail.plugins.module_utils._reports import parse

#: Bytes of a mail that is looked at, and seconds for each answer of the server.
LARGEST_MAIL, PATIENCE = 15000000, 60
#: What the structure of a mail with a report has in it.
_ATTACHED = re.compile(rb'"(zip|x-zip|x-zip-compressed|gzip|x-gzip|xml|json|tlsrpt\+\w+|octet-stream)"', re.IGNORECASE)
_SUBJECT = re.compile(r"report.?domain|dmarc|tls.?report|aggregate report", re.IGNORECASE)


class MailboxError(Exception):
    """Why the mailbox can't be read, in words."""


class Mail(t.NamedTuple):
    uid: str
    subject: str
    rows: t.List[parse.Row]
    #: why it could not be read
    trouble: str


class _Imap(imaplib.IMAP4_SSL):
    """Connects to an address, and expects a name in the certificate."""

    def __init__(self, address: str, port: int, name: str, context: ssl.SSLContext) -> None:
        self._address, self._name, self._context = address, name, context
        super().__init__(name, port, ssl_context=context, timeout=PATIENCE)

    def _create_socket(self, timeout: t.Optional[float]) -> ssl.SSLSocket:
        plain = socket.create_connection((self._address, self.port), timeout)
        return self._context.wrap_socket(plain, server_hostname=self._name)


class Mailbox:
    """An open mailbox; a context manager. Raises MailboxError everywhere."""

    def __init__(self, address: str, port: int, name: str, ca_pem: str, login: str, password: str) -> None:
        context = ssl.create_default_context(cadata=ca_pem or None)
        try:
            self._imap = _Imap(address, port, name, context)
        except (OSError, imaplib.IMAP4.error) as exc:
            raise MailboxError(f"no connection to {name} ({address}), port {port}: {exc}") from exc
        try:
            self._imap.login(login, password)
        except (OSError, imaplib.IMAP4.error) as exc:
            # its words would not hold the password, but an echo of a broken server could
            raise MailboxError(f"{name} refuses the login of {login}") from exc

    def __enter__(self) -> "Mailbox":
        return self

    def __exit__(self, *_error: object) -> None:
        with contextlib.suppress(OSError, imaplib.IMAP4.error):
            self._imap.logout()

    def reports(self, folder: str, days: int, missing_is_empty: bool = False) -> t.Iterator[Mail]:
        """The mails of a folder with reports, or with something that was meant as one, of the last days."""
        code, _said = self._ask(self._imap.select, _quoted(folder), True)
        if code != "OK" and missing_is_empty:
            return
        if code != "OK":
            raise MailboxError(f"there is no folder {folder}")
        since = time.strftime("%d-%b-%Y", time.gmtime(time.time() - days * 86400))
        uids = self._answer("SEARCH", "SINCE", since)[0].split()
        for uid in (one.decode() for one in uids):
            structure = b" ".join(_pieces(self._answer("FETCH", uid, "(RFC822.SIZE BODYSTRUCTURE)")))
            if _ATTACHED.search(structure):
                size = re.search(rb"RFC822\.SIZE (\d+)", structure)
                mail = self._mail(uid, int(size.group(1)) if size else 0)
                if mail:
                    yield mail

    def _mail(self, uid: str, size: int) -> t.Optional[Mail]:
        if size > LARGEST_MAIL:
            data = _literal(self._answer("FETCH", uid, "(BODY.PEEK[HEADER])"))
        else:
            data = _literal(self._answer("FETCH", uid, "(BODY.PEEK[])"))
        subject = str(email.message_from_bytes(data, policy=email.policy.default).get("Subject", ""))
        subject = "".join(letter for letter in subject[:100] if letter.isprintable())
        try:
            if size > LARGEST_MAIL:
                raise parse.ReportError(f"the mail has more than {LARGEST_MAIL} bytes")
            rows = parse.of_mail(data)
        except parse.ReportError as exc:
            # other people's archives are no business of this program
            return Mail(uid, subject, [], str(exc)) if _SUBJECT.search(subject) else None
        return Mail(uid, subject, rows, "") if rows else None

    def move(self, uids: t.Sequence[str], folder: str, archive: str) -> None:
        """Move mails to another folder, which is created."""
        self._ask(self._imap.create, _quoted(archive))
        self._ask(self._imap.select, _quoted(folder))
        for start in range(0, len(uids), 500):
            self._answer("MOVE", ",".join(uids[start : start + 500]), _quoted(archive))

    def _answer(self, *command: str) -> t.List[t.Any]:
        code, said = self._ask(self._imap.uid, *command)
        if code != "OK":
            raise MailboxError(f"the server refuses {command[0]}: {said!r}")
        return said

    def _ask(self, function: t.Callable[..., t.Any], *arguments: t.Any) -> t.Tuple[str, t.List[t.Any]]:
        try:
            return t.cast("t.Tuple[str, t.List[t.Any]]", function(*arguments))
        except (OSError, imaplib.IMAP4.error) as exc:
            raise MailboxError(f"the conversation with the server ended: {exc}") from exc


def _literal(answer: t.Sequence[t.Any]) -> bytes:
    return b"".join(piece[1] for piece in answer if isinstance(piece, tuple))


def _pieces(answer: t.Sequence[t.Any]) -> t.Iterator[bytes]:
    for piece in answer:
        if isinstance(piece, tuple):
            yield piece[1]
        elif isinstance(piece, bytes):
            yield piece


def _quoted(folder: str) -> str:
    return '"%s"' % folder.replace("\\", "\\\\").replace('"', '\\"')
