#!/usr/bin/python
# Copyright (c) The port587.mail contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

DOCUMENTATION = r"""
module: dns_seen_info
short_description: Look which DNS records the world sees already
version_added: 1.0.0
author: The port587.mail contributors (@port587)
description:
  - Asks the zone's own name servers, which know what is published, and recursive ones, which know what others still
    remember.
  - A record that is missing does not make the module fail.
  - Warns of tags in a DMARC record that receivers pass over since RFC 9989.
  - Needs nothing but Python. Changes nothing.
options:
  records:
    description: What is wanted, as the filter P(port587.mail.dns_records#filter) returns it.
    type: list
    elements: dict
    required: true
  resolvers:
    description: IP addresses of recursive name servers. They find the zone's own, too.
    type: list
    elements: str
    default: [9.9.9.9, 1.1.1.1]
  host:
    description: The mail server that this is about, for the records of RV(host) and M(port587.mail.verdict).
    type: str
    required: true
extends_documentation_fragment:
  - port587.mail.attributes
  - port587.mail.attributes.controller
  - port587.mail.attributes.read_only
notes:
  - "Sources: RFC 1035, RFC 6891, RFC 7208 (an SPF record with what it includes may cause 10 look-ups)."
"""

EXAMPLES = r"""
- name: Look which records are there
  port587.mail.dns_seen_info:
    host: mail.example.com
    records: "{{ site | port587.mail.dns_records }}"
  delegate_to: localhost
  register: seen
"""

RETURN = r"""
host:
  description: As given.
  returned: always
  type: str
seen:
  description: The records, each with three more keys.
  returned: always
  type: list
  elements: dict
  contains:
    state:
      description: >-
        V(present); V(missing); V(different), something else is there; V(waiting), published, but not on all name
        servers, or others still remember what was there before; V(unknown), no name server answers.
      type: str
      sample: waiting
    seen:
      description: What is there instead, or why it counts as different.
      type: str
    problem:
      description: >-
        What has to be put right by hand before the record is published, or empty: there are several of what receivers
        take one of, such as SPF records, or the SPF record that is wanted includes too much.
      type: str
records:
  description: The same in short, as M(port587.mail.probe) returns it, for M(port587.mail.verdict).
  returned: always
  type: list
  elements: dict
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.port587.mail.plugins.module_utils._dns import records as records
from ansible_collections.port587.mail.plugins.module_utils._dns import seen
from ansible_collections.port587.mail.plugins.module_utils._probe.records import Record


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "host": {"type": "str", "required": True},
            "records": {"type": "list", "elements": "dict", "required": True},
            "resolvers": {"type": "list", "elements": "str", "default": ["9.9.9.9", "1.1.1.1"]},
        },
        supports_check_mode=True,
    )
    for warning in records.dmarc_warnings(module.params["records"]):
        module.warn(warning)
    found: t.List[t.Dict[str, t.Any]] = seen.look(module.params["records"], module.params["resolvers"])
    module.exit_json(
        host=module.params["host"],
        seen=found,
        records=[
            Record("dns", step, "DNS", module.params["host"], 53, verdict, text, diagnosis).to_dict()
            for step, verdict, diagnosis, text in seen.told(found)
        ],
    )


if __name__ == "__main__":
    main()
