# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Private to this collection: may change in any release.
"""TLS settings of all daemons: Mozilla's "intermediate" without finite-field Diffie-Hellman (DHE).

https://wiki.mozilla.org/Security/Server_Side_TLS. Of TLS 1.3, OpenSSL's own cipher suites are those of Mozilla.
"""

import typing as t

#: For TLS 1.2, in OpenSSL's names. The certificate decides whether the ECDSA or the RSA ones are offered.
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

#: Safe against quantum computers, too.
POST_QUANTUM = ["X25519MLKEM768"]


def groups(openssl: t.Optional[str]) -> t.List[str]:
    """The groups for key exchange that this version of OpenSSL supports."""
    known = [int(number) for number in (openssl or "0").split(".")]
    return POST_QUANTUM * (known >= [3, 5]) + GROUPS
