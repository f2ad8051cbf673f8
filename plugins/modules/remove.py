#!/usr/bin/python
# Copyright (c) The port587.mail contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

DOCUMENTATION = r"""
module: remove
short_description: Give a server back, as it was before this collection
version_added: 1.0.0
author: The port587.mail contributors (@port587)
description:
  - Removes everything that the roles of this collection have set up. Each M(port587.mail.transaction) of theirs is
    undone. Its files go, those that were there before return, and directories that it created go if they are empty. A
    daemon that ran before runs again on the earlier files, and must stay up; every other daemon is stopped and
    disabled.
  - Files that somebody else has changed since are copied to C(/var/lib/port587/edited/) first. Files of others in this
    collection's directories stay. RV(left) names both.
  - If the earlier configuration of a daemon does not work, that daemon keeps the present one, and the module fails with
    the daemon's message. What was removed before stays removed; the next run goes on.
options:
  packages:
    description:
      - Whether to purge the Debian packages that runs of this collection have installed. Packages that others need by
        now stay. It is refused while mail waits in the queue of a Postfix that would be purged.
    type: bool
    default: false
  mail:
    description:
      - Whether to delete the mail, and what a new server would need to continue this one. That is the passwords, the
        DKIM keys, the server's CA, the ACME account with its certificates, and what rspamd has learned.
    type: bool
    default: false
  mail_root:
    description: The folder of all mailboxes.
    type: path
    default: /var/vmail
extends_documentation_fragment:
  - port587.mail.attributes
  - port587.mail.attributes.server
attributes:
  check_mode:
    support: full
    details: Whether the earlier configuration of a daemon works shows only when it runs.
  diff_mode:
    support: full
    details: One diff for each file, with secrets masked.
  idempotent:
    support: full
"""

EXAMPLES = r"""
- name: Give the server back, and keep the mail
  port587.mail.remove:
"""

RETURN = r"""
done:
  description: What was done, or would be done in check mode, in order.
  returned: success
  type: list
  elements: str
  sample: [postfix is stopped, "The originals return: /etc/postfix/main.cf"]
left:
  description: What stays on the server, and why.
  returned: success
  type: list
  elements: str
  sample: ["/var/vmail: the mail; remove_mail: true deletes it"]
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.port587.mail.plugins.module_utils._removal import give_back
from ansible_collections.port587.mail.plugins.module_utils._transaction.errors import TransactionError


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "packages": {"type": "bool", "default": False},
            "mail": {"type": "bool", "default": False},
            "mail_root": {"type": "path", "default": "/var/vmail"},
        },
        supports_check_mode=True,
    )
    try:
        removed = give_back.run(give_back.Wanted(check_mode=module.check_mode, **module.params))
    except TransactionError as error:
        module.fail_json(msg=error.message, **error.details)
    except OSError as error:
        module.fail_json(msg="%s: %s; run again to go on" % (error.filename, error.strerror))
    module.exit_json(**removed._asdict())


if __name__ == "__main__":
    main()
