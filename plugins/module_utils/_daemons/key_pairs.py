# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Runs on the server: Python 3.6 and the standard library only.

"""Whether a private key and a certificate in PEM files belong together."""

import os
import ssl
import typing as t

from ansible_collections.port587.mail.plugins.module_utils._transaction.files import temporary_directory
from ansible_collections.port587.mail.plugins.module_utils._transaction.view import View


def pairs(paths: t.Sequence[str], view: View) -> t.List[t.List[str]]:
    """Group a list of files into pairs: each key with the files that follow it, up to the next key."""
    found = []  # type: t.List[t.List[str]]
    for path in paths:
        if not found or b"PRIVATE KEY-----" in (view.read(path) or b""):
            found.append([])
        found[-1].append(path)
    return found


def key_pair_trouble(paths: t.Sequence[str], view: View) -> t.Optional[str]:
    """OpenSSL's complaint about the key and the chain in these PEM files; None if they match."""
    pem = b"\n".join(view.read(path) or b"" for path in paths)
    with temporary_directory() as directory:
        combined = os.path.join(directory, "pair.pem")
        with open(combined, "wb") as handle:
            handle.write(pem)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            # an empty passphrase: without it, OpenSSL would prompt for the one of an encrypted key
            context.load_cert_chain(combined, password="")
        except (ssl.SSLError, OSError, ValueError) as exc:
            reason = getattr(exc, "reason", None) or str(exc)
            return "key and certificate in %s can't be used: %s" % (" and ".join(paths), reason)
    return None
