# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The published record of a private DKIM key."""

import base64
import subprocess
import typing as t

import pytest
from ansible_collections.port587.mail.plugins.module_utils._dns import dkim
from ansible_collections.port587.mail.plugins.module_utils._transaction.errors import TransactionError


@pytest.mark.parametrize("bits", [1024, 2048, 4096])
def test_rsa(bits: int) -> None:
    private = subprocess.check_output(["openssl", "genrsa", str(bits)], stderr=subprocess.DEVNULL)
    key = dkim.public_key(private)
    assert (key.kind, key.bits) == ("rsa", bits)
    der = subprocess.run(
        ["openssl", "pkey", "-pubout", "-outform", "DER"], input=private, stdout=subprocess.PIPE, check=True
    ).stdout
    assert base64.b64decode(key.value) == der
    assert key.record() == "v=DKIM1; k=rsa; p=" + base64.b64encode(der).decode()


def test_ed25519() -> None:
    seed, public = bytes(range(32)), bytes(range(32, 64))
    key = dkim.public_key(base64.b64encode(seed + public) + b"\n")
    assert key.record() == "v=DKIM1; k=ed25519; p=" + base64.b64encode(public).decode()
    assert base64.b64encode(seed).decode()[:40] not in key.record()


@pytest.mark.parametrize(
    ("private", "words"),
    [
        (b"", "neither PEM nor"),
        (b"mail.example.com\n", "neither PEM nor"),
        (base64.b64encode(bytes(32)), "without the public key"),
        (b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "OpenSSL can't read"),
    ],
)
def test_what_is_no_key(private: bytes, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        dkim.public_key(private)


def test_no_key_can_be_made(monkeypatch: t.Any) -> None:
    monkeypatch.setattr(dkim, "run_command", lambda _argv: (1, "", "no entropy"))
    with pytest.raises(TransactionError, match="can't make a DKIM key: no entropy; this change was not made"):
        dkim.new_key("dkim-rsa-2048")
