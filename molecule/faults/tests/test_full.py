# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A full disk and a read-only file system: a clear error, nothing is changed, mail flows."""

import pytest
from captured import captured
from conftest import Vps

#: A file system of its own with the same content, and next to no room in it.
FULL = """
set -e
cp -a {0} /root/copy
mount -t tmpfs -o size=64M,mode=$(stat -c %a {0}) tmpfs {0}
cp -a /root/copy/. {0}/
chown --reference=/root/copy {0}
head -c 64M /dev/zero > {0}/filler 2>/dev/null || true
[ "$(stat -f -c %a {0})" = 0 ]
"""
READ_ONLY = "mount --bind {0} {0} && mount -o remount,bind,ro {0}"


@pytest.mark.one_host
@pytest.mark.parametrize("where", ["/etc/postfix", "/var/lib/port587"])
@pytest.mark.parametrize(
    ("script", "words"),
    [(FULL, "No space left on device"), (READ_ONLY, "Read-only file system")],
    ids=["full", "read-only"],
)
def test_change_is_refused(vps: Vps, script: str, words: str, where: str) -> None:
    module = captured(vps.name, vps.container, "postfix")
    vps.run("sh", "-c", script.format(where))
    try:
        before = vps.snapshot()
        outcome = module.run(postfix_message_size=10000000)
        assert outcome.code != 0
        assert words in outcome.message
        assert where in outcome.message
        assert "this change was not made" in outcome.message
        assert "Traceback" not in outcome.output
        assert vps.snapshot() == before
        vps.serves()
        if where == "/etc/postfix":
            checked = module.run(check=True, postfix_message_size=10000000)
            assert checked.code != 0
            assert words in checked.message
    finally:
        vps.run("sh", "-c", f"umount --lazy {where}; rm -rf /root/copy")
    assert module.run(postfix_message_size=10000000).changed
    assert module.run().changed
