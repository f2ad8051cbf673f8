# Copyright (c) The port587.mail contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleFilterError

DOCUMENTATION = r"""
name: dkim_proofs
short_description: Probes that a milter signs the mail of each name
version_added: 1.0.0
author: The port587.mail contributors (@port587)
description:
  - Returns a probe for each name, for O(port587.mail.transaction#module:prove).
    The probe sends a message to the milter, which has to add all signatures.
positional: selectors, socket, user
options:
  _input:
    description: The domains and host names that the milter signs for.
    type: list
    elements: str
    required: true
  selectors:
    description: The DKIM selectors that the milter signs with.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: The selector's name in DNS.
        type: str
        required: true
  socket:
    description: The absolute path of the milter's UNIX socket on the server.
    type: path
    required: true
  user:
    description: The user who connects to the socket.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Show the probes
  ansible.builtin.debug:
    msg: "{{ ['example.com'] | port587.mail.dkim_proofs([{'name': 'rsa1'}], '/run/rspamd/milter.sock', 'postfix') }}"
"""

RETURN = r"""
_value:
  description: >-
    The probes. Each has C(protocol), C(path), C(user) and C(signatures), the names in DNS of the keys that have to
    sign.
  type: list
  elements: dict
  sample:
    - {protocol: milter, path: /run/rspamd/milter.sock, user: postfix, signatures: [rsa1._domainkey.example.com]}
"""


def dkim_proofs(
    names: list[str], selectors: list[dict[str, str]], socket: str, user: str
) -> list[dict[str, str | list[str]]]:
    """A probe of the milter for each name."""
    for option, value in (("the input", names), ("selectors", selectors)):
        if not isinstance(value, list):
            raise AnsibleFilterError(f"dkim_proofs: {option} has to be a list, not {type(value).__name__}")
    return [
        {
            "protocol": "milter",
            "path": socket,
            "user": user,
            "signatures": [f"{selector['name']}._domainkey.{name}" for selector in selectors],
        }
        for name in names
    ]


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"dkim_proofs": dkim_proofs}
