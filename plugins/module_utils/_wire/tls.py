# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# May run on any vantage host and on the server: Python 3.6 and the standard library only.

"""TLS between two buffers, so that the connection's deadlines and limits apply inside TLS, too."""

import ssl
import typing as t

from ansible_collections.port587.mail.plugins.module_utils._wire.errors import CertificateError, WireError
from ansible_collections.port587.mail.plugins.module_utils._wire.limits import CHUNK

#: OpenSSL's number for a valid certificate with another name.
HOSTNAME_MISMATCH = 62


class Tls:
    """One session. OpenSSL reads no socket itself: it would go on for as long as records come in."""

    def __init__(self, context: ssl.SSLContext, host: t.Optional[str]) -> None:
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.session = context.wrap_bio(self.incoming, self.outgoing, server_hostname=host)

    def shake_hands(self) -> bool:
        """Whether the handshake is done. If not, OpenSSL needs more of what the server says."""
        try:
            self.session.do_handshake()
        except ssl.SSLWantReadError:
            return False
        except ssl.SSLError as exc:
            if exc.reason == "CERTIFICATE_VERIFY_FAILED":
                # before 3.7 Python does not give the reason
                code, why = getattr(exc, "verify_code", 0), getattr(exc, "verify_message", "certificate verify failed")
                raise CertificateError(code, why) from None
            raise WireError("tls", (exc.reason or "handshake failed").lower().replace("_", " ")) from None
        except ssl.CertificateError as exc:  # Python 3.6 checks the name itself
            raise CertificateError(HOSTNAME_MISMATCH, str(exc)) from None
        return True

    def encrypt(self, data: bytes) -> bytes:
        try:
            self.session.write(data)
        except ssl.SSLError:
            raise WireError("closed", "the server ended TLS") from None
        return self.outgoing.read()

    def decrypt(self) -> bytes:
        """What has come in so far. Nothing: not a whole record yet."""
        try:
            data = self.session.read(CHUNK)
        except ssl.SSLWantReadError:
            return b""
        except ssl.SSLError:
            # a connection that was cut, for which OpenSSL's versions have different names
            data = b""
        if not data:
            raise WireError("closed", "the server closed the connection")
        return data
