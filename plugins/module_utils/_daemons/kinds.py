# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Runs on the server: Python 3.6 and the standard library only.

"""The daemon that a description is of. What a kind has to know of its own is in a file of its name."""

import typing as t

from ansible_collections.port587.mail.plugins.module_utils._daemons.dovecot import Dovecot
from ansible_collections.port587.mail.plugins.module_utils._daemons.nginx import Nginx
from ansible_collections.port587.mail.plugins.module_utils._daemons.postfix import Postfix
from ansible_collections.port587.mail.plugins.module_utils._daemons.rspamd import Rspamd
from ansible_collections.port587.mail.plugins.module_utils._daemons.service import Service
from ansible_collections.port587.mail.plugins.module_utils._daemons.systemd import SystemdDaemon
from ansible_collections.port587.mail.plugins.module_utils._transaction.daemon import Activation, Description
from ansible_collections.port587.mail.plugins.module_utils._transaction.errors import TransactionError
from ansible_collections.port587.mail.plugins.module_utils._transaction.manifest import remembered

KINDS = {
    "service": Service,
    "postfix": Postfix,
    "dovecot": Dovecot,
    "nginx": Nginx,
    "rspamd": Rspamd,
}  # type: t.Dict[str, t.Type[SystemdDaemon]]


def of(description: Description) -> SystemdDaemon:
    """``description``: as the option daemon of port587.mail.transaction has it."""
    unit = description["unit"]
    # manifests and journals of format 0 have the unit's name alone, and a kind of its own went by the same one
    kind = description.get("kind") or (unit if unit in KINDS else "service")
    if kind not in KINDS:
        raise TransactionError("daemon: %r is not a kind of daemon; write one of %s" % (kind, ", ".join(KINDS)))
    return KINDS[kind](description)


def serving_tls() -> t.List[Activation]:
    """The daemons that other transactions set up here and that serve TLS now, with the proofs remembered from then."""
    known = [
        Activation(of(one["description"]), one["proof"], remember=False)
        for one in remembered().values()
        if any(proof.get("tls", "none") != "none" for proof in one["proof"].get("proofs", []))
    ]
    return [one for one in known if one.daemon.installed() and one.daemon.running()]
