#!/usr/bin/python
# Copyright (c) The port587.mail contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

DOCUMENTATION = r"""
module: inspect_info
short_description: Look at a mail server from inside, for what nobody can see from outside
version_added: 1.0.0
author: The port587.mail contributors (@port587)
description:
  - Looks in one module run at the services and how often systemd had to start them again, limits of the kernel, who
    listens on which mail port and whether the server's own firewall lets others in there, the sockets between Postfix
    and Dovecot as the user C(postfix) sees them from inside Postfix's chroot, whether lookup tables were compiled after
    they were changed, whether the certificates that are served are those in the files, how long mail waits in the queue
    and why, whether Postfix's copy of C(resolv.conf) is today's, owners of mailboxes, disks, memory, the clock, and the
    last warnings in the log.
  - It goes with M(port587.mail.probe), which walks in from outside. M(port587.mail.verdict) joins both.
  - Changes nothing, and works on servers that this collection has not built.
  - A server with faults does not make the module fail.
options:
  controller_time:
    description: >-
      The time of the machine that Ansible runs on, in seconds since the epoch, to compare clocks. Without it they are
      not compared.
    type: float
extends_documentation_fragment:
  - port587.mail.attributes
  - port587.mail.attributes.server
  - port587.mail.attributes.read_only
notes:
  - Has to run as root, because nobody else may look into Postfix's private sockets.
seealso:
  - module: port587.mail.probe
  - module: port587.mail.verdict
"""

EXAMPLES = r"""
- name: Look at the server from inside
  port587.mail.inspect_info:
    controller_time: "{{ now().timestamp() }}"
  become: true
  register: inside

- name: Walk into it from outside
  port587.mail.probe:
    host: mail.example.com
  delegate_to: localhost
  become: false
  register: walk

- name: Say what was found
  port587.mail.verdict:
    result: "{{ walk }}"
    also: ["{{ inside }}"]
"""

RETURN = r"""
records:
  description: What was looked at, one by one, as M(port587.mail.probe) returns it. C(service) is V(inside).
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
      description: Who said it.
      type: str
      sample: postfix/submission/smtpd
    text:
      description: What it said.
      type: str
facts:
  description: >-
    What was seen, as data. What does not apply is left out, such as RV(facts.queue) where there is no Postfix.
  returned: always
  type: dict
  contains:
    daemons:
      description: C(postfix) and C(dovecot), those that are installed. Whether each is C(running), and C(at_boot).
      type: dict
    restarts:
      description: >-
        Daemons that systemd had to start again since somebody started them. C(unit), how many C(times), and how many
        seconds C(ago) the last time was.
      type: list
      elements: dict
    too_low:
      description: >-
        Limits of the kernel that could not be raised. C(name), the value C(wanted), and the one C(present).
      type: list
      elements: dict
    listeners:
      description: >-
        Who listens on a mail port. C(port), C(program), C(ours) (Postfix or Dovecot), C(loopback) (for itself only).
      type: list
      elements: dict
    firewall:
      description: >-
        What the server's own firewall keeps shut for everybody of the ports on which somebody listens. C(ports), C(by)
        and the C(cure), a command.
      type: list
      elements: dict
    sockets:
      description: >-
        Sockets that Postfix needs. C(protocol), C(path), C(setting), C(trouble) (empty if the user C(postfix) is
        answered).
      type: list
      elements: dict
    tables:
      description: Compiled lookup tables. C(path), C(trouble).
      type: list
      elements: dict
    certificates:
      description: >-
        The C(file), the C(port) that has to serve it, and whether it serves an C(other) one (V(null) if unknown).
      type: dict
    renewal:
      description: >-
        Where the certificate comes from an ACME authority. When it was C(asked) last (seconds since the epoch), the
        C(error) of that, the names that are C(missing) and why, whether another certificate is a C(stand_in), why one
        was C(not_installed), and whether the C(timer) is active.
      type: dict
    queue:
      description: C(messages), age of the C(oldest) in seconds, C(reasons) with their C(count).
      type: dict
    resolver:
      description: Whether smtp(8) is in a C(chroot), what it has C(seen) of C(resolv.conf), and the C(real) one.
      type: dict
    mailboxes:
      description: The C(path) of all, and up to three that belong to somebody else (C(foreign)).
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


def main() -> None:
    module = AnsibleModule(argument_spec={"controller_time": {"type": "float"}}, supports_check_mode=True)
    if os.geteuid() != 0:
        module.fail_json(msg="inspect_info has to run as root (become: true), and runs as uid %d" % os.geteuid())
    facts = look()
    records = judge(facts, module.params["controller_time"])
    log = facts.pop("log")
    module.exit_json(changed=False, records=[record.to_dict() for record in records], log=log, facts=facts)


if __name__ == "__main__":
    main()
