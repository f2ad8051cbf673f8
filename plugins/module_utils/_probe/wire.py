# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# May run on any vantage host: Python 3.6 and the standard library only.

"""One TCP connection, with or without TLS, that never waits longer than it was told to."""

import ipaddress
import socket
import ssl
import time
import typing as t

#: No line of these protocols is longer, apart from literals, which announce their size.
LONGEST_LINE = 65536


class WireError(Exception):
    """The connection failed. ``kind`` says how: nameless, refused, filtered, unreachable, timeout, closed, tls,
    protocol."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind
        self.text = text


class CertificateError(WireError):
    """The handshake failed because of the certificate. ``code`` is OpenSSL's X509_V_ERR number."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__("certificate", text)
        self.code = code


class Certificate(t.NamedTuple):
    """What a verified handshake showed."""

    protocol: str
    key: str
    begins: float
    expires: float
    key_is_weak: bool
    #: as Python shows names
    issuer: t.Any


class Wire:
    """A connection whose every step has a deadline: call ``step`` first, then send and read."""

    def __init__(self, address: str, port: int, timeout: float) -> None:
        self.timeout = timeout
        self._end = 0.0
        self._buffer = b""
        #: what was read last, for who can make nothing of it
        self.last = b""
        self._is_tls = False
        self.step()
        try:
            ipaddress.ip_address(address.partition("%")[0])
        except ValueError:
            # names are looked up before, with a deadline, which the system's resolver does not have
            raise WireError("nameless", f"{address} has no address") from None
        try:
            self._socket: socket.socket = socket.create_connection((address, port), timeout)
        except socket.timeout:
            raise WireError("filtered", f"no answer within {timeout:g} s") from None
        except ConnectionRefusedError:
            raise WireError("refused", "connection refused") from None
        except OSError as exc:
            raise WireError("unreachable", exc.strerror or str(exc)) from None

    def step(self, timeout: t.Optional[float] = None) -> None:
        """Start the clock for what comes next."""
        self._end = time.monotonic() + (self.timeout if timeout is None else timeout)

    def send(self, data: bytes) -> None:
        self._do(lambda: self._socket.sendall(data))

    def line(self) -> bytes:
        """One line without its line end."""
        while b"\n" not in self._buffer:
            if len(self._buffer) > LONGEST_LINE:
                raise WireError("protocol", "a line that does not end")
            self._fill()
        line, self._buffer = self._buffer.split(b"\n", 1)
        self.last = line[:-1] if line.endswith(b"\r") else line
        return self.last

    def exactly(self, size: int) -> bytes:
        while len(self._buffer) < size:
            self._fill()
        data, self._buffer = self._buffer[:size], self._buffer[size:]
        return data

    def start_tls(self, context: ssl.SSLContext, host: str) -> None:
        """Shake hands. What was sent in clear before must not count as said inside TLS (RFC 3207, CVE-2011-0411)."""
        if self._buffer:
            raise WireError("protocol", "the server went on talking in clear after it agreed to TLS")

        def shake_hands() -> None:
            self._socket = context.wrap_socket(self._socket, server_hostname=host, do_handshake_on_connect=False)
            self._socket.do_handshake()

        self._do(shake_hands)
        self._is_tls = True

    def certificate(self) -> Certificate:
        tls = t.cast(ssl.SSLSocket, self._socket)
        shown = tls.getpeercert() or {}
        key, weak = describe_key(tls.getpeercert(binary_form=True) or b"")
        begins, expires = (ssl.cert_time_to_seconds(str(shown[end])) for end in ("notBefore", "notAfter"))
        return Certificate(tls.version() or "?", key, begins, expires, weak, shown["issuer"])

    def sent_chain(self) -> t.List[t.Dict[str, t.Any]]:
        """The certificates that the server sent, leaf first. Empty where this Python can't tell (before 3.10)."""
        # the public method came with 3.13 and gives only bytes
        chain = getattr(getattr(self._socket, "_sslobj", None), "get_unverified_chain", lambda: None)()
        return [certificate.get_info() for certificate in chain or ()]

    def own_address(self) -> str:
        return str(self._socket.getsockname()[0])

    def close(self) -> None:
        self._socket.close()

    def _fill(self) -> None:
        data = self._do(lambda: self._socket.recv(65536))
        if not data:
            raise WireError("closed", "the server closed the connection")
        self._buffer += data

    def _do(self, action: t.Callable[[], t.Any]) -> t.Any:
        try:
            # an expired clock still gets a moment, because 0 would mean "do not block"
            self._socket.settimeout(max(self._end - time.monotonic(), 0.001))
            return action()
        except socket.timeout:
            raise WireError("timeout", "no answer in time") from None
        except ssl.SSLError as exc:
            if exc.reason == "CERTIFICATE_VERIFY_FAILED":
                # before 3.7 Python does not say what it doesn't like
                code, why = getattr(exc, "verify_code", 0), getattr(exc, "verify_message", "certificate verify failed")
                raise CertificateError(code, why) from None
            # after the handshake it is only a connection that was cut: Python and OpenSSL disagree how to call that
            if self._is_tls:
                raise WireError("closed", "the server closed the connection") from None
            raise WireError("tls", (exc.reason or "handshake failed").lower().replace("_", " ")) from None
        except ssl.CertificateError as exc:  # Python 3.6 checks the name itself
            raise CertificateError(HOSTNAME_MISMATCH, str(exc)) from None
        except OSError as exc:
            raise WireError("closed", f"connection lost: {exc.strerror or exc}") from None


#: OpenSSL's number for a certificate that is good, but for another name.
HOSTNAME_MISMATCH = 62

_RSA = bytes.fromhex("06092a864886f70d010101")
_CURVES = {
    bytes.fromhex("06082a8648ce3d030107"): "ECDSA P-256",
    bytes.fromhex("06052b81040022"): "ECDSA P-384",
    bytes.fromhex("06052b81040023"): "ECDSA P-521",
    bytes.fromhex("06032b6570"): "Ed25519",
}


def describe_key(der: bytes) -> t.Tuple[str, bool]:
    """The kind of key in a certificate, and whether it is too weak. The ssl module tells neither."""
    at = der.find(_RSA)
    if at >= 0:
        # after the algorithm: NULL, BIT STRING (unused bits 0), SEQUENCE, INTEGER: the modulus
        rest = der[at + len(_RSA) + 2 :]
        for tag in (3, 0x30, 2):
            if rest[:1] != bytes([tag]):
                return "RSA", False
            length = rest[1]
            skip = 2 + (length & 0x7F if length & 0x80 else 0)
            size = int.from_bytes(rest[2:skip], "big") if length & 0x80 else length
            rest = rest[skip + (tag == 3) :]
        modulus = int.from_bytes(rest[:size], "big")
        return f"RSA {modulus.bit_length()}", modulus.bit_length() < 2048
    for oid, name in _CURVES.items():
        if oid in der:
            return name, False
    return "key of unknown kind", False
