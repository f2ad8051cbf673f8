# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Mistakes in values of main.cf that Postfix's own check accepts."""

import typing as t

import pytest
from ansible_collections.port587.mail.plugins.module_utils._daemons.postfix_values import RestrictionWords, Values
from ansible_collections.port587.mail.plugins.module_utils._daemons.tables import POSTMAP
from ansible_collections.port587.mail.plugins.module_utils._transaction.tree import File
from ansible_collections.port587.mail.plugins.module_utils._transaction.view import View


class Words(RestrictionWords):
    """Of an smtpd that knows three."""

    def __init__(self, classes: str = "") -> None:
        super().__init__({"smtpd_restriction_classes": classes}, "")
        self.program = b"\0permit_mynetworks\0reject_unauth_destination\0check_policy_service\0reject\0"


@pytest.fixture
def values() -> Values:
    defaults = {"smtpd_helo_required": "no", "smtpd_forbid_bare_newline": "no", "smtpd_banner": "$myhostname"}
    files = [File("/etc/postfix/there", b"", compiler=POSTMAP), File("/etc/postfix/patterns", b"")]
    return Values(defaults, ["hash", "regexp", "cidr", "static"], Words("mine"), View(files))


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("smtpd_helo_required", "yes", []),
        ("smtpd_helo_required", "No", []),
        ("smtpd_helo_required", "true", ["has to be yes or no"]),
        ("smtpd_banner", "true", []),
        ("smtpd_forbid_bare_newline", "normalize", []),
        ("smtpd_forbid_bare_newline", "normalise", ["has to be yes or no"]),
        ("smtpd_tls_security_level", "encrypt", []),
        ("smtpd_tls_security_level", "encypt", ["is no TLS level; one of none, may, encrypt"]),
        ("smtpd_tls_security_level", "dane", ["is no TLS level; one of none, may, encrypt"]),
        ("smtp_tls_security_level", "dane", []),
        ("smtpd_relay_restrictions", "permit_mynetworks, reject_unauth_destination", []),
        ("smtpd_relay_restrictions", "PERMIT_MYNETWORKS reject", []),
        ("smtpd_relay_restrictions", "mine, check_policy_service unix:private/x", []),
        ("smtpd_relay_restrictions", "check_policy_service { inet:host:1, timeout=10s }", []),
        (
            "smtpd_relay_restrictions",
            "permit_mynetwork, reject",
            ["permit_mynetwork is no restriction that this Postfix knows"],
        ),
        # the end of another word is none
        ("smtpd_relay_restrictions", "mynetwork", ["mynetwork is no restriction that this Postfix knows"]),
        ("virtual_alias_maps", "hash:/etc/postfix/there", []),
        ("virtual_alias_maps", "proxy:hash:/etc/postfix/there, static:x", []),
        ("virtual_alias_maps", "hash:/etc/postfix/none", ["the table /etc/postfix/none.db does not exist"]),
        ("virtual_alias_maps", "lmdb:/etc/postfix/there", ["this Postfix has no lmdb tables"]),
        ("header_checks", "regexp:/etc/postfix/patterns", []),
        ("header_checks", "regexp:/etc/postfix/none", ["the table /etc/postfix/none does not exist"]),
        ("smtpd_tls_cert_file", "/etc/none.pem", ["/etc/none.pem does not exist"]),
        ("smtpd_tls_eckey_file", "/etc/none.key", ["/etc/none.key does not exist"]),
        ("smtpd_tls_cert_file", "$other", []),
        ("tls_server_sni_maps", "inline:{ a.test=/etc/none.pem }", ["/etc/none.pem does not exist"]),
    ],
)
def test_values_of_postfix(values: Values, key: str, value: str, expected: t.List[str]) -> None:
    assert [text for text, _absent in values.wrong(key, value)] == expected


def test_what_is_absent_is_named(values: Values) -> None:
    assert list(values.wrong("alias_maps", "hash:/etc/port587/accounts/none")) == [
        ("the table /etc/port587/accounts/none.db does not exist", "/etc/port587/accounts/none.db")
    ]
