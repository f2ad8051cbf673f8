#!/usr/bin/python
# Copyright (c) The port587.mail contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

DOCUMENTATION = r"""
module: dns_seen_info
short_description: Check which DNS records are published
version_added: 1.0.0
author: The port587.mail contributors (@port587)
description:
  - Queries the zone's own name servers, which have the published records, and recursive ones, which may have cached
    older records.
  - A record that is missing does not make the module fail.
  - Warns about tags in a DMARC record that receivers ignore since RFC 9989.
  - Needs nothing but Python. Changes nothing.
options:
  records:
    description: The expected records, as the filter P(port587.mail.dns_records#filter) returns them.
    type: list
    elements: dict
    required: true
  resolvers:
    description: IP addresses of recursive name servers. They also find the zone's own name servers.
    type: list
    elements: str
    default: [9.9.9.9, 1.1.1.1]
  host:
    description: The mail server's name, for RV(host) and for M(port587.mail.verdict).
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
- name: Check which records are published
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
  description: The records, each with three additional keys.
  returned: always
  type: list
  elements: dict
  contains:
    state:
      description: >-
        V(present); V(missing); V(different), another value is published; V(waiting), published, but not on all name
        servers, or an older record is still cached; V(unknown), no name server answers.
      type: str
      sample: waiting
    seen:
      description: The published value, or why it counts as different.
      type: str
    problem:
      description: >-
        A problem to solve by hand before the record is published, or empty: there are several records where receivers
        accept only one, such as SPF records, or the expected SPF record includes too much.
      type: str
records:
  description: The same in short, in the format of M(port587.mail.probe), for M(port587.mail.verdict).
  returned: always
  type: list
  elements: dict
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.port587.mail.plugins.module_utils._dns import records, seen
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
            for step, verdict, diagnosis, text in seen.as_records(found)
        ],
    )


if __name__ == "__main__":
    main()
