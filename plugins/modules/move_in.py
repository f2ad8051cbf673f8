#!/usr/bin/python
# Copyright (c) The port587.mail contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

DOCUMENTATION = r"""
module: move_in
short_description: Copy mailboxes from another IMAP server
version_added: 1.0.0
author: The port587.mail contributors (@port587)
description:
  - Copies all folders and mails of each account from another IMAP server into its mailbox on this server, with flags,
    keywords and dates of arrival. The other server is only read.
  - Can run as often as needed until the day of the move. Each mail comes once, also if a run was killed. What happened
    to a mail here stays, such as that it was moved or deleted. A flag that a mail has got on the other server since
    is added here.
  - Folders with a special use, such as V(Gesendet), are copied into the folders with this use here. The prefix
    V(INBOX.) is left out.
  - A mailbox that fails does not stop the others, and the task is not failed. RV(failures) names it.
  - Shows the progress of each mailbox every half minute.
options:
  server:
    description: The other server.
    type: dict
    required: true
    suboptions:
      host:
        description: Its name, as in its certificate.
        type: str
        required: true
      port:
        description: Its port. By default 993, or 143 with O(server.tls=starttls).
        type: int
      tls:
        description: Whether the connection begins with TLS, or changes to it with STARTTLS.
        type: str
        choices: [implicit, starttls]
        default: implicit
      ca_file:
        description: File with the certificates of authorities to trust besides those of the system, on the controller.
        type: path
      authorities:
        description: Set by the action plugin. The content of O(server.ca_file).
        type: str
      verify:
        description: Whether to check the certificate. Without that, others on the way can read passwords and mail.
        type: bool
        default: true
      master_user:
        description: A login there that may open all mailboxes. The accounts then need no passwords.
        type: str
      master_password:
        description: The password of O(server.master_user).
        type: str
      master_separator:
        description: >-
          What stands between the account's login and O(server.master_user), as in Dovecot's auth_master_user_separator.
          Empty: the account is named in SASL PLAIN (RFC 4616), as Cyrus wants it.
        type: str
        default: "*"
  accounts:
    description: The mailboxes to copy.
    type: list
    elements: dict
    default: []
    suboptions:
      address:
        description: The account on this server. It must exist.
        type: str
        required: true
      login:
        description: The login on the other server. By default O(accounts[].address).
        type: str
      password:
        description: The password there.
        type: str
  accounts_file:
    description:
      - A CSV or YAML file on the controller with more accounts. The first line of a CSV file names the columns,
        V(address,login,password).
    type: path
  parallel:
    description: The number of mailboxes that are copied at the same time.
    type: int
    default: 4
  variables:
    description: Names for the options O(server), O(accounts) and O(accounts_file) in messages.
    type: dict
    default: {}
  seconds:
    description: Set by the action plugin. How long to copy, before the module returns with the rest V(unfinished).
    type: float
extends_documentation_fragment:
  - port587.mail.attributes
  - port587.mail.attributes.server
attributes:
  check_mode:
    support: full
    details: Logs in on the other server, and counts the mails that would be copied.
  diff_mode:
    support: none
    details: The result has the number of new mails.
  idempotent:
    support: full
    details: Until there are new mails on the other server.
notes:
  - "What has been copied is noted in C(/var/lib/port587/move_in/state.sqlite)."
  - "Sources: RFC 3501 (IMAP), RFC 2342 (prefixes), RFC 6154 (special use), RFC 4315 (UIDPLUS), RFC 3502 (MULTIAPPEND)."
"""

EXAMPLES = r"""
- name: Copy the mailboxes from the old server
  port587.mail.move_in:
    server:
      host: old.example.com
    accounts:
      - {address: eve@example.com, login: eve, password: "{{ vault_eve_old }}"}
"""

RETURN = r"""
accounts:
  description: What became of each mailbox.
  returned: success
  type: list
  elements: dict
  contains:
    address:
      description: The account on this server.
      type: str
    outcome:
      description: V(done) or V(failed).
      type: str
    new:
      description: Mails that this run has copied, or in check mode would copy.
      type: int
    total:
      description: Mails in the mailbox on the other server.
      type: int
    seconds:
      description: How long the mailbox took.
      type: float
    problems:
      description: Why it failed, or what in it.
      type: list
      elements: str
failures:
  description: The addresses of mailboxes that failed, wholly or in part.
  returned: success
  type: list
  elements: str
table:
  description: RV(accounts) as text.
  returned: success
  type: str
"""

import concurrent.futures
import math
import os
import time
import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.port587.mail.plugins.module_utils._move_in.copy import Account, Copy, unfinished
from ansible_collections.port587.mail.plugins.module_utils._move_in.sessions import Server
from ansible_collections.port587.mail.plugins.module_utils._move_in.state import State

STATE = "/var/lib/port587/move_in/state.sqlite"


ARGUMENTS = {
    "server": {
        "type": "dict",
        "required": True,
        "options": {
            "host": {"type": "str", "required": True},
            "port": {"type": "int"},
            "tls": {"type": "str", "choices": ["implicit", "starttls"], "default": "implicit"},
            "ca_file": {"type": "path"},
            "authorities": {"type": "str"},
            "verify": {"type": "bool", "default": True},
            "master_user": {"type": "str"},
            "master_password": {"type": "str", "no_log": True},
            "master_separator": {"type": "str", "default": "*"},
        },
    },
    "accounts": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "address": {"type": "str", "required": True},
            "login": {"type": "str"},
            "password": {"type": "str", "no_log": True},
        },
    },
    "accounts_file": {"type": "path"},
    "parallel": {"type": "int", "default": 4},
    "variables": {"type": "dict", "default": {}},
    "seconds": {"type": "float"},
}  # type: t.Dict[str, t.Dict[str, t.Any]]


def main() -> None:
    """Server half: copy for a while. The controller half (plugins/action) calls it until all is done."""
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    given = module.params["server"]
    server = Server(
        given["host"],
        given["port"] or (143 if given["tls"] == "starttls" else 993),
        given["tls"],
        given["authorities"],
        given["verify"],
        given["master_user"] or "",
        given["master_password"] or "",
        given["master_separator"],
    )
    end = time.monotonic() + (module.params["seconds"] or math.inf)
    # in check mode nothing is written
    path = ":memory:" if module.check_mode and not os.path.exists(STATE) else STATE

    def one(given: t.Dict[str, str]) -> t.Dict[str, t.Any]:
        account = Account(given["address"], given["login"] or given["address"], given["password"] or "")
        if time.monotonic() > end:
            return unfinished(account)
        state = State(path)
        try:
            return Copy(server, account, state, end, module.check_mode).run()
        finally:
            state.close()

    with concurrent.futures.ThreadPoolExecutor(max_workers=module.params["parallel"]) as pool:
        results = list(pool.map(one, module.params["accounts"]))
    module.exit_json(changed=any(result["new"] for result in results), accounts=results)


if __name__ == "__main__":
    main()
