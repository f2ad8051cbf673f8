#!/usr/bin/python
# Copyright (c) The port587.mail contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

DOCUMENTATION = r"""
module: preflight
short_description: Check whether a server is suitable as a mail server
version_added: 1.0.0
author: The port587.mail contributors (@port587)
description:
  - Fails if mail cannot work on this server, and warns about problems that will cause trouble later. Reports all
    findings at once, each with the observation, the requirement, and the cure.
  - Waits one second for the network in the usual case, and never more than two.
  - Changes nothing.
options:
  hostname:
    description: The name of the mail host, as clients and other servers call it.
    type: str
    required: true
  smtp_probe_hosts:
    description: >-
      Mail servers (names or IPv4 addresses). The check V(outgoing) passes if one of them accepts a connection on port
      25, which is closed at once.
    type: list
    elements: str
    default: []
  controller_time:
    description: >-
      The time of the controller, in seconds since the epoch, for the check V(clock). Without it, this check is skipped.
    type: float
  web:
    description: Whether nginx will serve ports 80 and 443, so that no other program may use them.
    type: bool
    default: false
  web_names:
    description: >-
      The names that nginx will serve, for the check V(web). No other site of an existing nginx may have them.
    type: list
    elements: str
    default: []
  open_ports:
    description: >-
      The ports that must be reachable from outside, for the check V(firewall). It fails if the server's own firewall
      (ufw, firewalld, nftables, iptables) certainly blocks one of them for all clients. Without ports, this check is
      skipped.
    type: list
    elements: int
    default: []
  own_firewall:
    description: >-
      If the role firewall will run, its ports of SSH, and the TCP ports that it will close, for the check V(nftables).
    type: dict
    suboptions:
      ssh_ports:
        description: Ports of SSH, besides those that M(port587.mail.firewall_info) finds.
        type: list
        elements: int
        default: []
      close:
        description: TCP ports that will be closed.
        type: list
        elements: int
        default: []
  variables:
    description: >-
      The names of the variables that set O(open_ports) and O(web), for cures that say which one to change. Without
      them, the cures name the options.
    type: dict
    default: {}
  skip:
    description:
      - Checks to skip.
      - >-
        V(root), V(release), V(systemd), V(ports), V(web), V(firewall), V(nftables), V(memory), V(disk), V(writable),
        V(clock) and V(apt) fail.
      - >-
        V(swap), V(mounts), V(apparmor), V(updates), V(dns), V(ipv6), V(hostname), V(ptr) and V(outgoing) warn, and so
        does V(apt) while apt is running.
    type: list
    elements: str
    choices:
      - root
      - release
      - systemd
      - ports
      - web
      - firewall
      - nftables
      - memory
      - disk
      - writable
      - clock
      - apt
      - swap
      - mounts
      - apparmor
      - updates
      - dns
      - ipv6
      - hostname
      - ptr
      - outgoing
    default: []
  only_new:
    description: >-
      Whether to hide warnings that the last run from this controller has shown, so that a healthy server does not
      repeat the same warnings with each run. RV(findings) contains them anyway.
    type: bool
    default: false
  server:
    description: >-
      Options of M(port587.mail.server_info), to query the server in the same module run if it is suitable.
    type: dict
    suboptions:
      packages:
        description: Debian packages to ask for. As with M(port587.mail.server_info), one of several may be enough.
        type: list
        elements: str
        default: []
      users:
        description: System users to ask for.
        type: list
        elements: str
        default: []
      postfix_parameters:
        description: Parameters of main.cf to ask Postfix for.
        type: list
        elements: str
        default: []
      files:
        description: Files that should be there.
        type: list
        elements: str
        default: []
extends_documentation_fragment:
  - port587.mail.attributes
  - port587.mail.attributes.server
  - port587.mail.attributes.read_only
"""

EXAMPLES = r"""
- name: Check that this server is suitable
  port587.mail.preflight:
    hostname: mail.example.com
    smtp_probe_hosts: [gmail-smtp-in.l.google.com]
    controller_time: "{{ now().timestamp() }}"

- name: Check a test machine without internet access
  port587.mail.preflight:
    hostname: mail.example.com
    skip: [dns, ipv6, hostname, ptr, outgoing]
"""

RETURN = r"""
msg:
  description: The verdict. One line if the server is suitable, otherwise all problems, the worst first.
  returned: always
  type: str
  sample: "mail.example.com: this server is fit for mail (18 checks)"
findings:
  description: All findings, in the order in which O(skip) lists the checks.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: The check.
      type: str
      sample: hostname
    verdict:
      description: V(ok) or V(warn).
      type: str
      sample: warn
    seen:
      description: The observation.
      type: str
      sample: mail.example.com has no address in the DNS
    expected:
      description: The requirement.
      type: str
      sample: mail.example.com points to this server (203.0.113.5)
    cure:
      description: What to do. Empty if the check passed.
      type: str
      sample: publish an A record for mail.example.com with the server's addresses only
server:
  description: The result of M(port587.mail.server_info).
  type: dict
  returned: when O(server) is given
"""

import sys

from ansible.module_utils.basic import AnsibleModule

# This file must also load under Python 2, to report the version. The rest of the collection needs 3.6.
if sys.hexversion >= 0x03060000:
    from ansible_collections.port587.mail.plugins.module_utils._server import facts, preflight
    from ansible_collections.port587.mail.plugins.module_utils._server import findings as reports

    CHECKS = list(preflight.CHECKS)
    QUESTIONS = facts.QUESTIONS
else:
    CHECKS = []
    QUESTIONS = {}


def main():  # type: () -> None
    module = AnsibleModule(
        argument_spec={
            "hostname": {"type": "str", "required": True},
            "smtp_probe_hosts": {"type": "list", "elements": "str", "default": []},
            "controller_time": {"type": "float"},
            "web": {"type": "bool", "default": False},
            "web_names": {"type": "list", "elements": "str", "default": []},
            "open_ports": {"type": "list", "elements": "int", "default": []},
            "own_firewall": {
                "type": "dict",
                "options": {
                    name: {"type": "list", "elements": "int", "default": []} for name in ("ssh_ports", "close")
                },
            },
            "variables": {"type": "dict", "default": {}},
            "skip": {"type": "list", "elements": "str", "choices": CHECKS, "default": []},
            "only_new": {"type": "bool", "default": False},
            "server": {"type": "dict", "options": QUESTIONS},
        },
        supports_check_mode=True,
    )
    if sys.hexversion < 0x03060000:
        found = ".".join(str(part) for part in sys.version_info[:3])
        cure = "set ansible_python_interpreter to /usr/bin/python3"
        module.fail_json(
            msg="FAIL python: Python " + found + " on this server\n  wanted: 3.6 or newer\n  cure: " + cure
        )

    options = {name: module.params[name] for name in preflight.Request._fields if name != "packages"}
    request = preflight.Request(packages=(module.params["server"] or {}).get("packages", []), **options)
    findings = preflight.examine(request)
    report = reports.report(request.hostname, findings)
    if any(finding.verdict == "fail" for finding in findings):
        # The text says it all; Ansible would print the same once more below it.
        module.fail_json(msg=report)
    # the action plugin warns: it knows the warnings of earlier runs
    answers = {}
    if module.params["server"]:
        try:
            answers["server"] = facts.answer(facts.runner(module), module.params["server"])
        except facts.ServerError as error:
            module.fail_json(msg=str(error))
    module.exit_json(msg=report, findings=[dict(finding._asdict()) for finding in findings], **answers)


if __name__ == "__main__":
    main()
