#!/usr/bin/python
# Copyright (c) The port587.mail contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

DOCUMENTATION = r"""
module: why_info
short_description: Say what became of a mail, and why
version_added: 1.0.0
author: The port587.mail contributors (@port587)
description:
  - Collects what Postfix, rspamd and Dovecot logged about one mail, and says it in words. This includes who brought the
    mail, the rules of the spam filter with their points, the verdicts of SPF, DKIM and DMARC, greylisting, and each
    delivery.
  - Knows only what is still in the journal. rspamd before 1.7.7 does not log its verdicts.
  - Changes nothing. A mail that is not found does not make the module fail.
options:
  message_id:
    description: The mail's C(Message-ID), with or without angle brackets.
    type: str
    required: true
  days:
    description: The number of days to look back.
    type: int
    default: 7
extends_documentation_fragment:
  - port587.mail.attributes
  - port587.mail.attributes.server
  - port587.mail.attributes.read_only
notes:
  - Must run as root, because other users may not read the journal.
"""

EXAMPLES = r"""
- name: Ask why a mail lies in Junk
  port587.mail.why_info:
    message_id: 20261127.4711@example.net
  become: true
  register: why

- name: Print it
  ansible.builtin.debug:
    msg: "{{ why.said }}"
"""

RETURN = r"""
found:
  description: Whether the journal has the mail.
  returned: always
  type: bool
queue_ids:
  description: The names that Postfix gave the mail in its queue.
  returned: always
  type: list
  elements: str
events:
  description: What happened, oldest first.
  returned: always
  type: list
  elements: dict
  contains:
    time:
      description: Seconds since the epoch.
      type: float
    program:
      description: The program that logged it.
      type: str
      sample: postfix/smtpd
    text:
      description: What happened, in words.
      type: str
      sample: Postfix queued it, 1044 bytes, for 1 recipient(s)
said:
  description: The same as lines to read, or what it can mean that the mail was not found.
  returned: always
  type: list
  elements: str
"""

import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.port587.mail.plugins.module_utils._inspect import log, why

NOT_FOUND = [
    "The journal of the last %d days does not have a mail with the Message-ID <%s>. This can mean:",
    "- the Message-ID is another; copy it from the mail's source, or from the sender's copy in Sent",
    "- the mail has never reached this server; the sender's server knows why, and says so in a bounce",
    "- it was refused before its content was sent (an unknown recipient, a block list, a limit); then Postfix never "
    "saw the Message-ID, so look for the sender's address: journalctl -g 'reject:.*ADDRESS'",
    "- the journal no longer has these days, or rsyslog has them alone",
]


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "message_id": {"type": "str", "required": True},
            "days": {"type": "int", "default": 7},
        },
        supports_check_mode=True,
    )
    wanted = module.params["message_id"].strip().strip("<>")
    if not wanted or any(sign.isspace() for sign in wanted):
        module.fail_json(msg="message_id: %r is not a Message-ID; write one such as 4711@example.net" % wanted)
    if module.params["days"] < 1:
        module.fail_json(msg="days: %d is less than 1; write one such as 7" % module.params["days"])
    events, queue_ids = why.look(log.mail(module.params["days"]), wanted)
    said = []
    for one in events:
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(one["time"]))
        said += ("%s %s" % (when, one["text"])).split("\n")
    missing = [NOT_FOUND[0] % (module.params["days"], wanted)] + NOT_FOUND[1:]
    module.exit_json(found=bool(events), queue_ids=queue_ids, events=events, said=said or missing)


if __name__ == "__main__":
    main()
