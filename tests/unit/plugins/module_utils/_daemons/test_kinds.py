# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Daemons are made of their descriptions."""

import typing as t

import pytest
from ansible_collections.port587.mail.plugins.module_utils._daemons import kinds
from ansible_collections.port587.mail.plugins.module_utils._daemons.systemd import SystemdDaemon
from ansible_collections.port587.mail.plugins.module_utils._transaction.errors import TransactionError


@pytest.mark.parametrize(
    ("description", "kind"),
    [
        ({"unit": "postfix", "kind": "postfix"}, "postfix"),
        ({"unit": "vsftpd", "kind": "service"}, "service"),
        # a person's own nginx, of which only that much is known
        ({"unit": "nginx", "kind": "service"}, "service"),
        # as manifests and journals of earlier versions have them
        ({"unit": "dovecot"}, "dovecot"),
        ({"unit": "port587-send-limits"}, "service"),
    ],
)
def test_a_daemon_of_its_description(description: t.Dict[str, t.Any], kind: str) -> None:
    daemon = kinds.of(description)
    assert type(daemon) is kinds.KINDS[kind]
    assert daemon.name == description["unit"]
    assert daemon.description == description


def test_a_kind_that_there_is_not() -> None:
    with pytest.raises(TransactionError, match="'exim' is not a kind of daemon; write one of service, postfix"):
        kinds.of({"unit": "exim", "kind": "exim"})


def test_a_new_certificate_concerns_the_daemons_that_serve_tls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unbound and rspamd have none to serve, and go on undisturbed."""
    proofs = {
        "postfix": {"proofs": [{"protocol": "smtp", "port": 25, "tls": "starttls"}], "certificate": "/x.pem"},
        "dovecot": {
            "proofs": [{"protocol": "sasl", "path": "/s"}, {"protocol": "imap", "port": 993, "tls": "implicit"}]
        },
        "rspamd": {"proofs": [{"protocol": "milter", "path": "/m"}], "certificate": None},
        "unbound": {"proofs": [{"protocol": "dns", "port": 53, "tls": "none"}]},
        "timer": {},
    }
    known = {name: {"description": {"unit": name}, "proof": proof} for name, proof in proofs.items()}
    monkeypatch.setattr(kinds, "remembered", lambda: known)
    monkeypatch.setattr(SystemdDaemon, "installed", lambda _self: True)
    monkeypatch.setattr(SystemdDaemon, "running", lambda _self: True)
    monkeypatch.setattr(kinds.Postfix, "running", lambda _self: True)
    found = kinds.serving_tls()
    assert [one.daemon.name for one in found] == ["postfix", "dovecot"]
    assert found[0].proof == proofs["postfix"]
