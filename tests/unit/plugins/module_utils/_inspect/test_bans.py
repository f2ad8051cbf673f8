# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The bans, as fail2ban and the kernel tell them."""

import pathlib

from ansible_collections.port587.mail.plugins.module_utils._inspect import bans
from ansible_collections.port587.mail.plugins.module_utils._server import proc

STATUS = """Status for the jail: port587-logins
|- Filter
|  `- Journal matches:\t_SYSTEMD_UNIT=port587-login-limits.service
`- Actions
   |- Currently banned:\t2
   `- Banned IP list:\t192.0.2.7 2001:db8:1:2::
"""
#: 192.0.2.7 is connected to port 22; somebody listens
TCP = """  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 11 1 0 100 0 0 10 0
   1: 010200C0:0016 070200C0:9999 01 00000000:00000000 00:00000000 00000000     0        0 13 1 0 100 0 0 10 0
"""


def test_status() -> None:
    assert bans.parse_status(STATUS) == ["192.0.2.7", "2001:db8:1:2::"]
    assert bans.parse_status("Sorry but the jail does not exist") == []


def test_the_controller_is_banned(tmp_path: pathlib.Path) -> None:
    (tmp_path / "proc/net").mkdir(parents=True)
    (tmp_path / "proc/net/tcp").write_text(TCP, encoding="utf-8")
    assert proc.peers(f"{tmp_path}/") == ["192.0.2.7"]
    banned = bans.parse_status(STATUS)
    assert bans.here(banned, ["192.0.2.7"]) == ["192.0.2.7"]
    assert bans.here(banned, ["2001:db8:1:2:3:4:5:6"]) == ["2001:db8:1:2::"]
    assert bans.here(banned, ["::ffff:192.0.2.7"]) == ["192.0.2.7"]
    assert bans.here(banned, ["192.0.2.8", "2001:db8:1:3::1"]) == []
