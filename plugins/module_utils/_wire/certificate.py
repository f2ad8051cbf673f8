# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# May run on any vantage host and on the server: Python 3.6 and the standard library only.

"""The server's certificate from a TLS handshake."""

import ssl
import typing as t


class Certificate(t.NamedTuple):
    """A verified server certificate. ``begins`` and ``expires`` are seconds since 1970."""

    protocol: str
    key: str
    begins: float
    expires: float
    key_is_weak: bool
    #: as Python shows names
    issuer: t.Any


def verified(tls: ssl.SSLObject) -> Certificate:
    """The server's certificate. Only after a handshake that has verified it."""
    shown = tls.getpeercert() or {}
    key, weak = describe_key(tls.getpeercert(binary_form=True) or b"")
    begins, expires = (ssl.cert_time_to_seconds(str(shown[end])) for end in ("notBefore", "notAfter"))
    return Certificate(tls.version() or "?", key, begins, expires, weak, shown["issuer"])


def sent_chain(tls: ssl.SSLObject) -> t.List[t.Dict[str, t.Any]]:
    """The certificates that the server sent, leaf first. Empty where they can't be read, or by Python before 3.10."""
    # the public method came with 3.13 and gives only bytes
    chain = getattr(getattr(tls, "_sslobj", None), "get_unverified_chain", lambda: None)()
    try:
        return [certificate.get_info() for certificate in chain or ()]
    except (ssl.SSLError, ValueError):
        return []


_RSA = bytes.fromhex("06092a864886f70d010101")
_CURVES = {
    bytes.fromhex("06082a8648ce3d030107"): "ECDSA P-256",
    bytes.fromhex("06052b81040022"): "ECDSA P-384",
    bytes.fromhex("06052b81040023"): "ECDSA P-521",
    bytes.fromhex("06032b6570"): "Ed25519",
}


def describe_key(der: bytes) -> t.Tuple[str, bool]:
    """The kind of key in a certificate, and whether it is too weak. The ssl module does not provide this."""
    at = der.find(_RSA)
    if at >= 0:
        # after the algorithm: NULL, BIT STRING (unused bits 0), SEQUENCE, INTEGER: the modulus
        rest = der[at + len(_RSA) + 2 :]
        size = 0
        for tag in (3, 0x30, 2):
            if len(rest) < 2 or rest[0] != tag:
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
