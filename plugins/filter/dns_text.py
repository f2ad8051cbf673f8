# Copyright (c) The port587.mail contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

from ansible_collections.port587.mail.plugins.module_utils._dns import records as render

DOCUMENTATION = r"""
name: dns_text
short_description: Format DNS records as a table or as a zone file
version_added: 1.0.0
author: The port587.mail contributors (@port587)
description:
  - Formats records as text. Either as a table for each zone, to copy into a DNS provider's form, or as the records of
    one zone in the format of zone files (RFC 1035), with long texts in pieces of at most 255 bytes.
options:
  _input:
    description: Records, as P(port587.mail.dns_records#filter) or M(port587.mail.dns_seen_info) returns them.
    type: list
    elements: dict
    required: true
  zone:
    description: The zone to format as a zone file. By default all records are formatted as tables.
    type: str
"""

EXAMPLES = r"""
- name: Write a file to include in the zone file with the SOA and NS records
  ansible.builtin.copy:
    content: "{{ records | port587.mail.dns_text(zone='example.com') }}"
    dest: example.com.zone
    mode: "0644"
"""

RETURN = r"""
_value:
  description: The text.
  type: str
"""


def dns_text(records: list[dict[str, t.Any]], zone: str = "") -> str:
    return render.zone_file(zone, records) if zone else render.table(records)


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"dns_text": dns_text}
