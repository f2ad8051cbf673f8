#!/usr/bin/python
# Copyright (c) The port587.mail contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

DOCUMENTATION = r"""
module: packages
short_description: Install Debian packages, and wait while another program uses apt
version_added: 1.0.0
author: The port587.mail contributors (@port587)
description:
  - Installs with M(ansible.builtin.apt), without recommended packages. New services are not started, since they are
    not configured yet.
  - Records which packages are new on the server, so that M(port587.mail.remove) can purge them on request.
  - A new server updates itself in its first minutes. While that or another program holds apt's or dpkg's lock, this
    module waits, with every version of ansible-core and of apt, and names the program every half minute.
options:
  name:
    description: Debian packages.
    type: list
    elements: str
    required: true
  installed:
    description: Packages that apt has just installed. The controller fills this in, for M(port587.mail.remove).
    type: list
    elements: str
    default: []
  wait:
    description: Seconds to wait at most. Then the module fails, and names the program that holds the lock.
    type: int
    default: 600
extends_documentation_fragment:
  - port587.mail.attributes
  - port587.mail.attributes.server
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
    details: Shows apt's own diff.
  idempotent:
    support: full
"""

EXAMPLES = r"""
- name: Install Postfix
  port587.mail.packages:
    name: [postfix]
"""

RETURN = r"""
msg:
  description: Why nothing was installed.
  returned: failure
  type: str
"""

import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.port587.mail.plugins.module_utils._removal import packages
from ansible_collections.port587.mail.plugins.module_utils._server import apt, proc
from ansible_collections.port587.mail.plugins.module_utils._transaction.errors import TransactionError


def main() -> None:
    """Server half: wait until the locks are free, or record packages. The controller half (plugins/action) installs."""
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "list", "elements": "str", "required": True},
            "installed": {"type": "list", "elements": "str", "default": []},
            "wait": {"type": "int", "default": 600},
        },
        supports_check_mode=True,
    )
    if module.params["installed"]:
        try:
            said = packages.note(module.params["installed"])
        except TransactionError as error:
            module.fail_json(msg=error.message)
        if said:
            module.warn(said)
        module.exit_json(changed=True)
    began = time.monotonic()
    while True:
        users = apt.users()
        waited = time.monotonic() - began
        if not users or waited >= module.params["wait"]:
            break
        time.sleep(1)
    holders = ["%s, running for %d s" % (user, proc.running_for("/", user.pid)) for user in users]
    module.exit_json(changed=False, waited=int(waited), holders=holders)


if __name__ == "__main__":
    main()
