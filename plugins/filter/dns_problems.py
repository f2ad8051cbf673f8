# Copyright (c) The port587.mail contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

from ansible_collections.port587.mail.plugins.module_utils._dns import records

DOCUMENTATION = r"""
name: dns_problems
short_description: Find mistakes in the variables of a site's DNS records
version_added: 1.0.0
author: The port587.mail contributors (@port587)
description:
  - Describes mistakes that would make published records useless. Invalid domains and selectors, an SPF record without
    C(all) or with too many look-ups, a DMARC record without a policy, DKIM keys that are too short.
options:
  _input:
    description: The site, as for P(port587.mail.dns_records#filter).
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Check the site
  ansible.builtin.assert:
    that: problems | length == 0
    fail_msg: "{{ problems | join('\n') }}"
  vars:
    problems: "{{ site | port587.mail.dns_problems }}"
"""

RETURN = r"""
_value:
  description: One sentence for each mistake. It begins with the name of the variable to change.
  type: list
  elements: str
"""


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"dns_problems": records.problems}
