# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Runs on the server: Python 3.6 and the standard library only.

"""The files with certificates that the daemons read."""

import datetime
import os
import typing as t

from ansible_collections.port587.mail.plugins.module_utils._certificate.certificate import Pair, trouble, usable
from ansible_collections.port587.mail.plugins.module_utils._daemons import kinds
from ansible_collections.port587.mail.plugins.module_utils._daemons.key_pairs import key_pair_trouble
from ansible_collections.port587.mail.plugins.module_utils._server.paths import TLS
from ansible_collections.port587.mail.plugins.module_utils._transaction.change import Result, run
from ansible_collections.port587.mail.plugins.module_utils._transaction.files import read_file
from ansible_collections.port587.mail.plugins.module_utils._transaction.manifest import remembered
from ansible_collections.port587.mail.plugins.module_utils._transaction.tree import File, Problem
from ansible_collections.port587.mail.plugins.module_utils._transaction.view import View

COMBINED = TLS + "/combined.pem"
FULLCHAIN = TLS + "/fullchain.pem"

#: Stands for the second certificate with an RSA key where others have a host name, which has a dot.
RSA = "rsa"


def read(path: str) -> str:
    """A PEM file; empty if it is not there."""
    return (read_file(path) or b"").decode("utf-8", "replace")


def served_files(key: str, chain: t.Iterable[str]) -> t.List[File]:
    """The mail host's certificate: key and chain in one file, so that they always belong together."""
    pem = "".join(chain)
    return [File(COMBINED, (key + pem).encode(), mode=0o600, secret=True), File(FULLCHAIN, pem.encode())]


def other_path(label: str) -> str:
    """The path of another certificate than the mail host's: of a name with one of its own (SNI), or with an RSA key."""
    return "%s/%s.pem" % (TLS, label)


def other_file(label: str, key: str, chain: t.Iterable[str]) -> File:
    """The file with another certificate."""
    return File(other_path(label), (key + "".join(chain)).encode(), mode=0o600, secret=True)


def can_be_served(view: View) -> t.List[Problem]:
    """This server's OpenSSL may refuse what another takes: a signature or a key that its policy calls too weak."""
    paths = [path for path in view.files if os.path.dirname(path) == TLS and path != FULLCHAIN]
    troubles = [(path, key_pair_trouble([path], view)) for path in paths]
    return [Problem(path, found) for path, found in troubles if found]


def served_instead(label: str, name: str, now: datetime.datetime) -> t.Optional[Pair]:
    """What the daemons serve already for another certificate, wherever it is from, if it is good for the name."""
    found = usable(read(other_path(label)))
    return None if found is None or trouble(found.facts, [name], now) else found


def used_by_daemons(wanted: t.Iterable[File]) -> t.List[File]:
    """Files that are not wanted, but named by a daemon that a play has not configured anew yet."""
    proofs = [proof for one in remembered().values() for proof in one["proof"].get("proofs", [])]
    paths = {str(proof["certificate"]) for proof in proofs if proof.get("certificate")}
    paths -= {file.path for file in wanted}
    return [
        File(path, read_file(path) or b"", mode=0o600, secret=True)
        for path in sorted(paths)
        if path.startswith(TLS + "/")
    ]


def install(files: t.List[File]) -> Result:
    """Take the running daemons over to these files, or stay with what they have."""
    return run(
        "certificates",
        files,
        activations=kinds.serving_tls(),
        validate=can_be_served,
        keep_others=True,
        daemon_of=kinds.of,
    )
