#!/usr/bin/python
# Copyright (c) The port587.mail contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

DOCUMENTATION = r"""
module: release_upgrade
short_description: Upgrade a mail server to the next release of its distribution
version_added: 1.0.0
author: The port587.mail contributors (@port587)
description:
  - The steps of C(playbooks/upgrade.yml), which is the way to use them. Each step does nothing if it has nothing to do.
  - Debian is upgraded by its sources, Ubuntu by C(do-release-upgrade). No package asks a question, and changed
    configuration files are kept.
options:
  step:
    description:
      - V(look) checks the server, downloads the packages of the next release, and unpacks some of them in
        C(/var/lib/port587/upgrade), to find out the versions of its programs. The system itself stays as it is.
      - V(check) lets these programs check O(files).
      - V(refuse) stops Postfix, Dovecot and rspamd. Until the end of V(upgrade), ports 25 and 587 answer C(421), on
        which other servers try again later. Queued mail stays in the queue.
      - V(upgrade) upgrades, or goes on with an interrupted upgrade, and waits for its end.
      - V(finish) deletes what the other steps have left.
    type: str
    choices: [look, check, refuse, upgrade, finish]
    required: true
  to:
    description: The release to upgrade to, which has to be the one after the server's, such as V(13).
    type: str
  accept_sources:
    description: Addresses of repositories of third parties that may stay in apt's sources, unchanged. Step V(look).
    type: list
    elements: str
    default: []
  packages:
    description: The packages that the mail server needs, as for M(port587.mail.server_info). Step V(look).
    type: list
    elements: str
    default: []
  postfix_parameters:
    description: Parameters of main.cf to ask the next release's Postfix for. Step V(look).
    type: list
    elements: str
    default: []
  files:
    description: Templates to check, as O(port587.mail.transaction#module:files). Step V(check).
    type: list
    elements: dict
    default: []
  variable:
    description: The variable that mistakes in O(files) come from, for the message. Step V(check).
    type: str
    default: files
extends_documentation_fragment:
  - port587.mail.attributes
  - port587.mail.attributes.server
attributes:
  check_mode:
    support: partial
    details: Steps V(look) and V(check) do the same in check mode. The others do nothing.
  diff_mode:
    support: none
    details: Packages are upgraded.
  idempotent:
    support: full
seealso:
  - name: Upgrading the server's release
    description: What the playbook does, how long it takes, and what to do when it stops.
    link: https://github.com/port587/mail/blob/main/docs/upgrading.md
"""

EXAMPLES = r"""
- name: Look whether the server can be upgraded to Debian 13
  port587.mail.release_upgrade:
    step: look
    to: "13"
    packages: [postfix, dovecot-core]
"""

RETURN = r"""
needed:
  description: Whether the server has another release than O(to).
  returned: step look
  type: bool
resumed:
  description: Whether an earlier run has begun the upgrade.
  returned: step look
  type: bool
backup:
  description: Whether the server has the service C(port587-backup).
  returned: step look
  type: bool
server:
  description: What M(port587.mail.server_info) will return after the upgrade, as far as it differs.
  returned: step look
  type: dict
from:
  description: The release that the server has or had.
  returned: step look, step finish
  type: str
away:
  description: Seconds from the first refused mail to the start of the new Postfix.
  returned: step finish
  type: int
reboot:
  description: Whether the server should be rebooted.
  returned: step finish
  type: bool
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.port587.mail.plugins.module_utils._server import upgrade


def main():  # type: () -> None
    module = AnsibleModule(
        argument_spec={
            "step": {"type": "str", "choices": ["look", "check", "refuse", "upgrade", "finish"], "required": True},
            "to": {"type": "str"},
            "accept_sources": {"type": "list", "elements": "str", "default": []},
            "packages": {"type": "list", "elements": "str", "default": []},
            "postfix_parameters": {"type": "list", "elements": "str", "default": []},
            "files": {"type": "list", "elements": "dict", "default": []},
            "variable": {"type": "str", "default": "files"},
        },
        required_if=[("step", step, ("to",)) for step in ("look", "refuse", "upgrade")],
        supports_check_mode=True,
    )
    p = module.params
    try:
        if p["step"] == "look":
            found = upgrade.look(p["to"], p["accept_sources"], p["packages"], p["postfix_parameters"])
            if found["problems"]:
                lines = ["  - " + one for one in found["problems"]]
                module.fail_json(msg="\n".join(["not upgraded; nothing was changed:"] + lines))
            module.exit_json(changed=False, **found)
        if p["step"] == "check":
            wrong = upgrade.check({one["dest"]: one["content"] for one in p["files"]})
            if wrong:
                lines = ["%s: the next release does not accept: %s" % (p["variable"], one) for one in wrong]
                module.fail_json(msg="\n".join(["not upgraded; nothing was changed:"] + lines))
            module.exit_json(changed=False)
        if module.check_mode:
            module.exit_json(changed=True)
        if p["step"] == "finish":
            module.exit_json(**upgrade.finish())
        module.exit_json(**(upgrade.refuse if p["step"] == "refuse" else upgrade.upgrade)(p["to"]))
    except upgrade.UpgradeError as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
