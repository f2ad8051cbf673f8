# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tags: a role's tag changes only that role's part, and nothing that depends on another part."""

import re
import typing as t

import pytest
from conftest import Site, play
from mailclient import Smtp

testinfra_hosts = ["ansible://mail"]
pytestmark = pytest.mark.one_host

#: What two roles would change
CHANGED: t.Dict[str, t.Any] = {"postfix_message_size": 41943040, "dovecot_quota": "300M"}


def message_size(site: Site) -> str:
    with Smtp(site.server, 587) as smtp:
        return smtp.esmtp_features["size"]


def test_a_role_alone(site: Site) -> None:
    before = message_size(site)
    try:
        done = play(site, CHANGED, "--tags=postfix")
        assert done.code == 0, done.output
        assert list(done.changes()) == ["port587.mail.postfix : Configure Postfix"]
        assert "Use the server as a mail client does" in done.output
        assert message_size(site) == str(CHANGED["postfix_message_size"])
    finally:
        done = play(site, {}, "--tags=postfix")
    assert done.code == 0, done.output
    assert message_size(site) == before


def test_all_but_one(site: Site) -> None:
    done = play(site, CHANGED, "--skip-tags=postfix,dovecot", "--check")
    assert done.code == 0, done.output
    assert done.changed == 0, done.output


@pytest.mark.parametrize(
    ("variables", "lacking"),
    [({"mail_resolver": True}, "unbound"), ({"mail_training": True}, "port587-redis")],
)
def test_a_part_that_needs_another_is_refused(site: Site, variables: t.Dict[str, t.Any], lacking: str) -> None:
    """A Postfix that asks a resolver which is not there would send no mail any more."""
    done = play(site, variables, "--tags=postfix")
    assert done.code == 2, done.output
    assert done.changed == 0, done.output
    assert f"--tags, --skip-tags: this server lacks {lacking}; run once without them" in re.sub(
        r"\s+", " ", done.output
    )
