# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Private to this collection: may change in any release.
"""What all daemons offer in a TLS handshake: Mozilla's "intermediate" without finite-field Diffie-Hellman (DHE).

https://wiki.mozilla.org/Security/Server_Side_TLS. Of TLS 1.3, OpenSSL's own cipher suites are those of Mozilla.
"""

import typing as t

#: For TLS 1.2, as OpenSSL calls them. Which of the ECDSA and RSA ones are offered depends on the certificate.
CIPHERS = [
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-RSA-CHACHA20-POLY1305",
]

#: Best first.
GROUPS = ["X25519", "prime256v1", "secp384r1"]

#: Keeps its secret from a quantum computer, too.
POST_QUANTUM = ["X25519MLKEM768"]


def groups(openssl: t.Optional[str]) -> t.List[str]:
    """The groups for key exchange that an OpenSSL of this version knows."""
    known = [int(number) for number in (openssl or "0").split(".")]
    return POST_QUANTUM * (known >= [3, 5]) + GROUPS
