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
from ansible_collections.port587.mail.plugins.module_utils._transaction.manifest import refuse_damaged, remembered
from ansible_collections.port587.mail.plugins.module_utils._transaction.tree import File, Problem
from ansible_collections.port587.mail.plugins.module_utils._transaction.view import View

COMBINED = TLS + "/combined.pem"
FULLCHAIN = TLS + "/fullchain.pem"

#: Label of the second certificate, with an RSA key. Other labels are host names, which have a dot.
RSA = "rsa"


def read(path: str) -> str:
    """The content of a PEM file; empty if there is none."""
    return (read_file(path) or b"").decode("utf-8", "replace")


def served_files(key: str, chain: t.Iterable[str]) -> t.List[File]:
    """The files of the mail host's certificate: key and chain in one file, so that they always match."""
    pem = "".join(chain)
    return [File(COMBINED, (key + pem).encode(), mode=0o600, secret=True), File(FULLCHAIN, pem.encode())]


def other_path(label: str) -> str:
    """The path of a certificate other than the mail host's: for a name with its own (SNI), or with an RSA key."""
    return "%s/%s.pem" % (TLS, label)


def other_file(label: str, key: str, chain: t.Iterable[str]) -> File:
    """The file with another certificate."""
    return File(other_path(label), (key + "".join(chain)).encode(), mode=0o600, secret=True)


def can_be_served(view: View) -> t.List[Problem]:
    """Whether this server's OpenSSL accepts the pair: its policy may refuse a weak signature or key."""
    paths = [path for path in view.files if os.path.dirname(path) == TLS and path != FULLCHAIN]
    troubles = [(path, key_pair_trouble([path], view)) for path in paths]
    return [Problem(path, found) for path, found in troubles if found]


def served_instead(label: str, name: str, now: datetime.datetime) -> t.Optional[Pair]:
    """The pair that the daemons serve already in place of another certificate, if it has the name; from any source."""
    found = usable(read(other_path(label)))
    return None if found is None or trouble(found.facts, [name], now) else found


def used_by_daemons(wanted: t.Iterable[File]) -> t.List[File]:
    """Files that are no longer wanted, but that a daemon's present configuration still names."""
    proofs = [proof for one in remembered().values() for proof in one["proof"].get("proofs", [])]
    paths = {str(proof["certificate"]) for proof in proofs if proof.get("certificate")}
    paths -= {file.path for file in wanted}
    return [
        File(path, read_file(path) or b"", mode=0o600, secret=True)
        for path in sorted(paths)
        if path.startswith(TLS + "/")
    ]


def install(files: t.List[File]) -> Result:
    """Install these files and activate them in the running daemons, or restore the previous ones."""
    # which daemons to tell is in all manifests
    refuse_damaged()
    return run(
        "certificates",
        files,
        activations=kinds.serving_tls(),
        validate=can_be_served,
        keep_others=True,
        daemon_of=kinds.of,
    )
