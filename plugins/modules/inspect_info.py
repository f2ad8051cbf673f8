#!/usr/bin/python
# Copyright (c) The port587.mail contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

DOCUMENTATION = r"""
module: inspect_info
short_description: Look for faults of a mail server that are not visible from outside
version_added: 1.0.0
author: The port587.mail contributors (@port587)
description:
  - In one module run, checks the services and how often systemd had to restart them; kernel limits; the programs that
    listen on mail ports, and whether the server's own firewall admits clients to them; the sockets between Postfix and
    Dovecot, as the user C(postfix) sees them from inside Postfix's chroot; whether lookup tables were compiled after
    their last change; whether the daemons serve the certificates in the files; how long mail has waited in the queue
    and why; whether Postfix's copy of C(resolv.conf) is current; owners of mailboxes; the age of the backup; disks,
    memory and the clock; and the latest warnings in the log.
  - It complements M(port587.mail.probe), which tests from outside. M(port587.mail.verdict) combines both.
  - Changes nothing. Also works on servers that this collection has not built.
  - Faults of the server do not make the module fail.
options:
  controller_time:
    description: >-
      The time of the controller, in seconds since the epoch, to compare the clocks. Without it, they are not compared.
    type: float
  address:
    description: >-
      The address of the account that M(port587.mail.probe) logs in to. Without it, RV(own_password) is V(false).
    type: str
    default: ""
extends_documentation_fragment:
  - port587.mail.attributes
  - port587.mail.attributes.server
  - port587.mail.attributes.read_only
notes:
  - Must run as root, because other users may not access Postfix's private sockets.
seealso:
  - module: port587.mail.probe
  - module: port587.mail.verdict
"""

EXAMPLES = r"""
- name: Check the server from inside
  port587.mail.inspect_info:
    controller_time: "{{ now().timestamp() }}"
  become: true
  register: inside

- name: Test it from outside
  port587.mail.probe:
    host: mail.example.com
  delegate_to: localhost
  become: false
  register: walk

- name: Print the report
  port587.mail.verdict:
    result: "{{ walk }}"
    also: ["{{ inside }}"]
"""

RETURN = r"""
records:
  description: The checks, one by one, in the format of M(port587.mail.probe). C(service) is V(inside).
  returned: always
  type: list
  elements: dict
log:
  description: The warnings and errors that Postfix and Dovecot logged within the last quarter of an hour, oldest first.
  returned: always
  type: list
  elements: dict
  contains:
    time:
      description: Seconds since the epoch.
      type: float
    program:
      description: The program.
      type: str
      sample: postfix/submission/smtpd
    text:
      description: The message.
      type: str
own_password:
  description: >-
    Whether the password of O(address) was changed on the server, so that a password from variables may be an old one.
  returned: always
  type: bool
facts:
  description: >-
    The observations, as data. Keys that do not apply are omitted, such as RV(facts.queue) without Postfix.
  returned: always
  type: dict
  contains:
    daemons:
      description: C(postfix) and C(dovecot), if installed, and whether each is C(running) and starts C(at_boot).
      type: dict
    restarts:
      description: >-
        Daemons that systemd had to restart since their last manual start: C(unit), how many C(times), and how many
        seconds C(ago) the last time was.
      type: list
      elements: dict
    too_low:
      description: >-
        Kernel limits that could not be raised: C(name), the C(wanted) value, and the C(present) one.
      type: list
      elements: dict
    listeners:
      description: >-
        The programs that listen on mail ports: C(port), C(program), C(ours) (Postfix or Dovecot), C(loopback)
        (reachable from the server itself only).
      type: list
      elements: dict
    firewall:
      description: >-
        The ports in use that the server's own firewall blocks for all clients: C(ports), C(by), and the C(cure), a
        command.
      type: list
      elements: dict
    sockets:
      description: >-
        Sockets that Postfix needs: C(protocol), C(path), C(setting), C(trouble) (empty if the user C(postfix) gets an
        answer).
      type: list
      elements: dict
    tables:
      description: Compiled lookup tables, each with C(path) and C(trouble).
      type: list
      elements: dict
    certificates:
      description: >-
        The C(file), the C(port) that must serve it, and whether it serves an C(other) one (V(null) if unknown).
      type: dict
    renewal:
      description: >-
        For certificates from an ACME authority: when it was C(asked) last (seconds since the epoch), the C(error) of
        that request, the C(missing) names and the reasons, whether a temporary certificate is in use (C(stand_in)),
        why a certificate was C(not_installed), and whether the C(timer) is active.
      type: dict
    bans:
      description: >-
        For role bans: whether fail2ban is C(running), the C(banned) addresses, and those of them that are connected now
        (C(here)).
      type: dict
    own_firewall:
      description: For role firewall, whether its rules are C(loaded).
      type: dict
    backup:
      description: >-
        For role backup: when the last C(good) one was made (seconds since the epoch), the C(problem) of the last try
        and its C(kind), and whether the C(timer) is active.
      type: dict
    queue:
      description: C(messages), age of the C(oldest) in seconds, C(reasons) with their C(count).
      type: dict
    refused_forwards:
      description: >-
        Each C(domain) that refused forwarded mail within the last day because of its sender, the C(count), and what it
        C(said) the last time.
      type: list
    resolver:
      description: Whether smtp(8) runs in a C(chroot), the C(resolv.conf) that it has C(seen), and the C(real) one.
      type: dict
    mailboxes:
      description: The C(path) of all, and up to three with another owner (C(foreign)).
      type: dict
    disks:
      description: By path, C(size) and C(free) in bytes, C(share) and C(inodes) free (0 to 1).
      type: dict
    killed:
      description: Programs that the kernel killed within a day because memory ran out.
      type: list
      elements: str
    time:
      description: The server's clock, seconds since the epoch.
      type: float
"""

import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.port587.mail.plugins.module_utils._inspect.judge import judge
from ansible_collections.port587.mail.plugins.module_utils._inspect.look import look
from ansible_collections.port587.mail.plugins.module_utils._inspect.passwords import has_own


def main() -> None:
    spec = {"controller_time": {"type": "float"}, "address": {"type": "str", "default": ""}}
    module = AnsibleModule(argument_spec=spec, supports_check_mode=True)
    if os.geteuid() != 0:
        module.fail_json(msg="inspect_info has to run as root (become: true), and runs as uid %d" % os.geteuid())
    facts = look()
    records = judge(facts, module.params["controller_time"])
    log = facts.pop("log")
    module.exit_json(
        changed=False,
        records=[record.to_dict() for record in records],
        log=log,
        facts=facts,
        own_password=has_own(module.params["address"].lower()),
    )


if __name__ == "__main__":
    main()
