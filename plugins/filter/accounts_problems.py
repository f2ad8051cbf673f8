# Copyright (c) The port587.mail contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: accounts_problems
short_description: Everything that is wrong with a mail server's accounts
version_added: 1.0.0
author: The port587.mail contributors (@port587)
description:
  - Looks at the data that M(port587.mail.accounts) takes, before it is sent to any server. Each problem names the
    variable, the value, and what would be right. Passwords are never repeated.
positional: _input, domains, aliases, hostname, postmaster
options:
  _input:
    description: The accounts, as in M(port587.mail.accounts).
    type: list
    elements: dict
    required: true
  domains:
    description: The domains whose mail the server takes.
    type: list
    elements: str
    required: true
  aliases:
    description: Addresses that forward.
    type: list
    elements: dict
    default: []
  hostname:
    description: The server's own name.
    type: str
    default: ""
  postmaster:
    description: Where mail to postmaster and abuse goes.
    type: str
    default: ""
"""

EXAMPLES = r"""
- name: Check the accounts
  ansible.builtin.assert:
    that: problems | length == 0
    fail_msg: "{{ problems | join('\n') }}"
  vars:
    problems: "{{ mail_accounts | port587.mail.accounts_problems(mail_domains) }}"
"""

RETURN = r"""
_value:
  description: The problems, one sentence each. Empty if there are none.
  type: list
  elements: str
"""

import typing as t

from ansible_collections.port587.mail.plugins.module_utils import _accounts


def plain(value: t.Any) -> t.Any:
    """The same as YAML has it: a value that is encrypted by itself (`!vault`) is text to everybody but Python."""
    if isinstance(value, dict):
        return {plain(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(entry) for entry in value]
    return str(value) if type(value).__name__ in ("AnsibleVaultEncryptedUnicode", "EncryptedString") else value


def accounts_problems(
    accounts: t.Any, domains: t.Any, aliases: t.Any = (), hostname: t.Any = "", postmaster: t.Any = ""
) -> list[str]:
    return _accounts.problems(plain(domains), plain(accounts), plain(aliases), plain(hostname), plain(postmaster))


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"accounts_problems": accounts_problems}
