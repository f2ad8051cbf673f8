# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Runs on the controller and on the server: Python 3.6 and the standard library only.

"""Passwords that are easily guessed."""

import typing as t

# NIST SP 800-63B: shorter passwords can be found by trying.
SHORTEST_PASSWORD = 8
# Passwords of at least that length that attackers try first.
_COMMON = """
    password password1 password12 password123 passw0rd p@ssw0rd p@ssword 12345678 123456789 1234567890
    0123456789 87654321 987654321 12341234 123123123 qwertyui qwertyuiop qwerty12 qwerty123 qwertz123 azerty123
    1q2w3e4r 1q2w3e4r5t 1qaz2wsx zaq12wsx q1w2e3r4 asdfghjk asdfghjkl abcdefgh abcd1234 abc12345 a1b2c3d4
    iloveyou sunshine princess football baseball superman starwars computer internet whatever trustno1 welcome1
    welcome123 letmein1 changeme changeme1 admin123 administrator master123 michelle jennifer mailserver
"""
COMMON_PASSWORDS = frozenset(_COMMON.split())


def weakness(address: str, password: str) -> t.Optional[str]:
    """Why a password is easily guessed: completes a sentence that begins with "the password"; None if it isn't."""
    folded = password.lower()
    # "eve" of eve@example.com, and "eve2026!": the name is public, and the rest is too short
    rest = len(password) - len(address.split("@")[0])
    if folded == address or (folded.startswith(address.split("@")[0]) and rest < SHORTEST_PASSWORD):
        return "is the account's own name, or little more"
    if len(password) < SHORTEST_PASSWORD:
        return "has less than %d characters" % SHORTEST_PASSWORD
    if folded in COMMON_PASSWORDS or len(set(folded)) < 3:
        return "is one of those that are tried first"
    return None
