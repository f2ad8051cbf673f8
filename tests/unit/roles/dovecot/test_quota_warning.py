# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The mail to a person whose mailbox is nearly full."""

import email
import email.policy

import pytest
from repository import program

quota_warning = program("dovecot", "quota-warning")


@pytest.mark.parametrize(
    ("language", "subject"),
    [
        ("en", "Your mailbox is 80 % full"),
        ("ja", "メールボックスの使用量が 80 % に達しました"),
        ("de", "Ihr Postfach ist zu 80 % voll"),
        ("", "Your mailbox is 80 % full"),
        ("UNSUPPORTED_VARIABLE_userdb:language", "Your mailbox is 80 % full"),
    ],
)
def test_the_mail(language: str, subject: str) -> None:
    raw = quota_warning.warning("80", "eve@example.com", "postmaster@example.com", language)
    # it passes everywhere
    assert max(raw) < 128
    assert max(len(line) for line in raw.splitlines()) < 998
    mail = email.message_from_bytes(raw, policy=email.policy.default)
    assert mail["Subject"] == subject
    assert mail["From"] == "postmaster@example.com"
    assert mail["To"] == "eve@example.com"
    assert mail["Auto-Submitted"] == "auto-generated"
    assert "eve@example.com" in mail.get_content()
    assert mail["Message-ID"].endswith("@example.com>")
