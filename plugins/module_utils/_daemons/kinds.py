# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Runs on the server: Python 3.6 and the standard library only.

"""Make a daemon from its description. Each kind has a file of its name."""

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
    """``description``: the option daemon of port587.mail.transaction."""
    unit = description["unit"]
    # format 0 of manifests and journals has only the unit's name, which is the kind's name, too
    kind = description.get("kind") or (unit if unit in KINDS else "service")
    if kind not in KINDS:
        raise TransactionError("daemon: %r is not a kind of daemon; write one of %s" % (kind, ", ".join(KINDS)))
    return KINDS[kind](description)


def serving_tls() -> t.List[Activation]:
    """The daemons of other transactions that serve TLS now, with their stored proofs."""
    known = [
        Activation(of(one["description"]), one["proof"], remember=False)
        for one in remembered().values()
        if any(proof.get("tls", "none") != "none" for proof in one["proof"].get("proofs", []))
    ]
    return [one for one in known if one.daemon.installed() and one.daemon.running()]
