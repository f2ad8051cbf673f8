#!/usr/bin/python
# Copyright (c) The port587.mail contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

DOCUMENTATION = r"""
module: firewall_info
short_description: Get the ports that a firewall must leave open, and the state of the role firewall
version_added: 1.0.0
author: The port587.mail contributors (@port587)
description:
  - Finds the port of SSH, and all ports on which programs listen for other machines.
  - Fails if the kernel has no nf_tables, if no port of SSH is known, or if O(close) has one of them.
  - Changes nothing.
options:
  ports:
    description: TCP ports that are open anyway. RV(others) leaves them out.
    type: list
    elements: int
    default: []
  ssh_ports:
    description: Ports of SSH, besides those that the module finds.
    type: list
    elements: int
    default: []
  close:
    description: TCP ports that will be closed.
    type: list
    elements: int
    default: []
extends_documentation_fragment:
  - port587.mail.attributes
  - port587.mail.attributes.server
  - port587.mail.attributes.read_only
notes:
  - >-
    The port of SSH is that of the connection over which the module runs (E(SSH_CONNECTION) of one of its parent
    processes, see ssh(1)), and each on which sshd(8) or systemd's C(ssh.socket) listens.
"""

EXAMPLES = r"""
- name: Look what listens
  port587.mail.firewall_info:
    ports: [25, 587, 993]
  register: firewall
"""

RETURN = r"""
ssh:
  description: SSH. Always returned.
  returned: always
  type: dict
  contains:
    connection:
      description: The port over which the module runs. V(null) if it does not run over SSH.
      type: int
      sample: 22
    ports:
      description: All ports of SSH.
      type: list
      elements: int
      sample: [22]
others:
  description: The other ports on which programs listen for other machines.
  returned: always
  type: list
  elements: dict
  contains:
    port:
      description: The port.
      type: int
      sample: 8080
    protocol:
      description: V(tcp) or V(udp).
      type: str
      sample: tcp
    program:
      description: The systemd units or programs that listen.
      type: str
      sample: docker-proxy
    name:
      description: Port and protocol.
      type: str
      sample: 8080/tcp
rules:
  description: The rules of the role firewall that are in force, as they are in its file. Empty without them.
  returned: always
  type: str
taken_back:
  description: When the server has taken new rules back because no new connection was confirmed. Empty if it has not.
  returned: always
  type: str
  sample: "2026-11-28T01:02:03+0000"
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.port587.mail.plugins.module_utils._server import inbound, proc


def main() -> None:
    ports = {"type": "list", "elements": "int", "default": []}
    module = AnsibleModule(argument_spec={"ports": ports, "ssh_ports": ports, "close": ports}, supports_check_mode=True)
    given = module.params["ssh_ports"]
    seen = inbound.look({*module.params["ports"], *given})
    refusal, cure = inbound.refusal(seen.ssh, given, module.params["close"])
    if refusal:
        module.fail_json(msg="firewall: %s; %s" % (refusal, cure))
    module.exit_json(
        ssh={"connection": seen.ssh.connection, "ports": sorted({*seen.ssh.ports, *given})},
        others=[dict(one._asdict(), name=one.name) for one in seen.others],
        rules=inbound.rules(),
        taken_back=proc.read_text(inbound.TAKEN_BACK).strip(),
    )


if __name__ == "__main__":
    main()
