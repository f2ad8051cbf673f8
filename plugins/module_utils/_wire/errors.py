# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# May run on any vantage host and on the server: Python 3.6 and the standard library only.

"""Errors of a connection."""


class WireError(Exception):
    """The connection failed. ``kind`` says how: nameless, refused, filtered, unreachable, timeout, closed, tls,
    certificate, protocol, endless."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind
        self.text = text


class CertificateError(WireError):
    """The handshake failed because of the certificate. ``code`` is OpenSSL's X509_V_ERR number."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__("certificate", text)
        self.code = code


def endless(what: str) -> WireError:
    """The error for an answer that exceeds a limit. ``what``: the limit."""
    return WireError("endless", f"the answer does not end, or is far too large: {what}")
