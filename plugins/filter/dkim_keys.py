# Copyright (c) The port587.mail contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleFilterError

DOCUMENTATION = r"""
name: dkim_keys
short_description: The private DKIM keys of a mail server, as files to generate
version_added: 1.0.0
author: The port587.mail contributors (@port587)
description:
  - Returns a file for each pair of a name and a selector, for O(port587.mail.transaction#module:files).
    The module generates a key on the server where the file is missing.
positional: selectors, directory, rsa_bits
options:
  _input:
    description: The domains and host names to sign for.
    type: list
    elements: str
    required: true
  selectors:
    description: The DKIM selectors, as in the variable C(rspamd_dkim_selectors).
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: The selector's name in DNS.
        type: str
        required: true
      type:
        description: The type of the key.
        type: str
        choices: [rsa, ed25519]
        default: rsa
  directory:
    description: The absolute path of the directory for the keys on the server.
    type: path
    required: true
  rsa_bits:
    description: The size of new RSA keys in bits.
    type: int
    choices: [2048, 4096]
    required: true
"""

EXAMPLES = r"""
- name: Show the files with the DKIM keys
  ansible.builtin.debug:
    msg: "{{ ['example.com'] | port587.mail.dkim_keys(selectors, '/var/lib/rspamd/dkim', 2048) }}"
  vars:
    selectors:
      - {name: rsa1, type: rsa}
      - {name: ed1, type: ed25519}
"""

RETURN = r"""
_value:
  description: >-
    The files, by name and then by selector. Each has C(dest), C(generate), C(group) and C(mode). The name of a file is
    C(NAME.SELECTOR.key); only the group C(_rspamd) can read it.
  type: list
  elements: dict
  sample:
    - {dest: /var/lib/rspamd/dkim/example.com.rsa1.key, generate: dkim-rsa-2048, group: _rspamd, mode: "0640"}
    - {dest: /var/lib/rspamd/dkim/example.com.ed1.key, generate: dkim-ed25519, group: _rspamd, mode: "0640"}
"""


def dkim_keys(
    names: list[str], selectors: list[dict[str, str]], directory: str, rsa_bits: int | str
) -> list[dict[str, str]]:
    """A file to generate for each name and selector."""
    for option, value in (("the input", names), ("selectors", selectors)):
        if not isinstance(value, list):
            raise AnsibleFilterError(f"dkim_keys: {option} has to be a list, not {type(value).__name__}")
    return [
        {
            "dest": f"{directory}/{name}.{selector['name']}.key",
            "generate": "dkim-ed25519" if selector.get("type") == "ed25519" else f"dkim-rsa-{rsa_bits}",
            "group": "_rspamd",
            "mode": "0640",
        }
        for name in names
        for selector in selectors
    ]


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"dkim_keys": dkim_keys}
