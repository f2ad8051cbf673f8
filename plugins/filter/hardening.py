# Copyright (c) The port587.mail contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleFilterError
from ansible_collections.port587.mail.plugins.module_utils._daemons.hardening import settings

DOCUMENTATION = r"""
name: hardening
short_description: The settings by which systemd restricts what a service can do
version_added: 1.0.0
author: The port587.mail contributors (@port587)
description:
  - Returns lines for the section C([Service]) of a systemd unit or of a drop-in file. They deny a service everything
    that mail services do not need in common, and O(_input) adds what this service needs.
  - Options that the server's systemd does not know yet are left out. In a container that forbids services mounts of
    their own, the options that need such mounts are left out, because the service could not start with them. So are
    filters of system calls in a container without the capability that systemd needs for them.
positional: systemd
options:
  _input:
    description:
      - Options of systemd.exec(5) that differ from the common ones, by name.
      - A list becomes several lines. V(null) leaves the option as the unit has it.
    type: dict
    required: true
  systemd:
    description: RV(port587.mail.server_info#module:systemd) of the server.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Restrict HAProxy, which starts as root and changes its user and root directory
  port587.mail.transaction:
    name: haproxy
    daemon: {unit: haproxy}
    files:
      - src: etc/haproxy/haproxy.cfg.j2
      - dest: /etc/systemd/system/haproxy.service.d/10-hardening.conf
        content: |
          [Service]
          {{ needs | port587.mail.hardening(server.systemd) }}
  vars:
    needs:
      ReadWritePaths: /run/haproxy
      CapabilityBoundingSet: CAP_NET_BIND_SERVICE CAP_SETGID CAP_SETUID CAP_SYS_CHROOT
"""

RETURN = r"""
_value:
  description: The lines.
  type: str
  sample: "ProtectSystem=strict\nProtectHome=yes"
"""


def hardening(options: dict[str, t.Any], systemd: dict[str, t.Any]) -> str:
    """The lines for a unit's section Service."""
    if not isinstance(options, dict):
        raise AnsibleFilterError(f"hardening: the input has to be a dictionary, not {type(options).__name__}")
    return "\n".join(settings(options, systemd["version"], systemd["mounts"], systemd["filters"]))


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"hardening": hardening}
