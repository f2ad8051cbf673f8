# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Runs on the server: Python 3.6 and the standard library only.

"""Keys for DKIM signatures: private keys are made on the server and stay there; the published keys derive from them."""

import base64
import binascii
import os
import re
import typing as t

from ansible_collections.port587.mail.plugins.module_utils._transaction.commands import run_command
from ansible_collections.port587.mail.plugins.module_utils._transaction.errors import TransactionError
from ansible_collections.port587.mail.plugins.module_utils._transaction.files import read_file, temporary_directory

#: Options of rspamadm dkim_keygen, for each value of `generate`.
KINDS = {
    "dkim-rsa-2048": ["-b", "2048"],
    "dkim-rsa-4096": ["-b", "4096"],
    "dkim-ed25519": ["-t", "ed25519"],
}


#: Many receivers ignore shorter keys (RFC 8301 3.2).
RSA_BITS = 2048


def new_key(kind: str) -> bytes:
    """A private key as rspamd reads it: PEM for RSA, base64 of seed and public key for Ed25519."""
    with temporary_directory() as directory:
        path = os.path.join(directory, "key")
        code, out, err = run_command(["rspamadm", "dkim_keygen", "-s", "new", "-k", path, *KINDS[kind]])
        key = read_file(path)
    if code or not key:
        raise TransactionError("rspamadm can't make a DKIM key: %s; this change was not made" % (err or out).strip())
    return key


def key_trouble(private: bytes) -> t.Optional[str]:
    """The mistake in a private key, which may come from the user."""
    try:
        key = public_key(private)
    except ValueError as exc:
        return str(exc)
    if key.kind == "rsa" and key.bits < RSA_BITS:
        return "the key has %d bits, and many refuse what has less than %d" % (key.bits, RSA_BITS)
    return None


class PublicKey(t.NamedTuple):
    """A published key (RFC 6376 3.6.1, RFC 8463): ``k`` is rsa or ed25519, ``p`` the key in base64."""

    kind: str
    value: str
    bits: int

    def record(self) -> str:
        return "v=DKIM1; k=%s; p=%s" % (self.kind, self.value)


def public_key(private: bytes) -> PublicKey:
    """The public key of a private one. Raises ValueError if this is not a private key."""
    if b"PRIVATE KEY-----" in private:
        code, out, _err = run_command(["openssl", "pkey", "-pubout"], private)
        found = re.search("-----BEGIN PUBLIC KEY-----(.*?)-----END PUBLIC KEY-----", out, re.DOTALL)
        if code or not found:
            raise ValueError("OpenSSL can't read the private key")
        value = "".join(found.group(1).split())
        # SubjectPublicKeyInfo is 34 to 38 bytes longer than the modulus, whose size is a multiple of 64 bits
        return PublicKey("rsa", value, -(-(len(base64.b64decode(value)) - 38) * 8 // 64) * 64)
    try:
        raw = base64.b64decode(private.strip(), validate=True)
    except binascii.Error:
        raw = b""
    if len(raw) not in (32, 64):
        raise ValueError("it is neither PEM nor an Ed25519 key in base64")
    if len(raw) == 32:
        raise ValueError("it is an Ed25519 seed without the public key")
    return PublicKey("ed25519", base64.b64encode(raw[32:]).decode("ascii"), 256)
