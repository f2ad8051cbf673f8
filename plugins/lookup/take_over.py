# Copyright (c) The port587.mail contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: take_over
short_description: Read accounts and aliases of another mail server
version_added: 1.0.0
author: The port587.mail contributors (@port587)
description:
  - Turns the accounts and aliases of another mail server into the variables C(mail_domains), C(mail_accounts) and
    C(mail_aliases). Password hashes are kept, so nobody needs a new password.
  - C(playbooks/take_over.yml) writes them to a file.
  - What cannot be taken over is listed with the reason, such as hashes that Dovecot 2.4 refuses, aliases by patterns,
    or accounts that forward.
options:
  _terms:
    description:
      - Path of a folder or file on the controller.
      - V(docker-mailserver), the folder with C(postfix-accounts.cf), C(postfix-virtual.cf), C(dovecot-quotas.cf).
      - V(mailinabox), the file C(users.sqlite).
      - V(mailcow) and V(iredmail), a file that C(mysqldump) has written of the database C(mailcow) or C(vmail).
      - V(plain), a folder with C(users), Dovecot's passwd-file; C(virtual), Postfix's table of virtual aliases;
        C(passwd) and C(shadow), if accounts are users of the system. Each of them can be missing.
    required: true
  system:
    description: The other mail server.
    type: str
    choices: [docker-mailserver, mailinabox, mailcow, iredmail, plain]
    required: true
  domain:
    description: With V(plain), the domain of logins without one.
    type: str
    default: ""
"""

EXAMPLES = r"""
- name: Show what cannot be taken over from mailcow
  ansible.builtin.debug:
    msg: "{{ lookup('port587.mail.take_over', '~/port587/mailcow.sql', system='mailcow').left_out }}"
"""

RETURN = r"""
_raw:
  description: Has C(mail_domains), C(mail_accounts), C(mail_aliases), and C(left_out), a list of sentences.
  type: list
  elements: dict
"""

import os
import pathlib
import typing as t

from ansible.errors import AnsibleError
from ansible.plugins.lookup import LookupBase
from ansible_collections.port587.mail.plugins.plugin_utils._take_over import TakeOverError
from ansible_collections.port587.mail.plugins.plugin_utils._take_over_sources import READERS


class LookupModule(LookupBase):
    def run(self, terms: list[t.Any], variables: t.Any = None, **kwargs: t.Any) -> list[dict[str, t.Any]]:
        self.set_options(var_options=variables, direct=kwargs)
        return [self._read(pathlib.Path(os.path.expanduser(str(term)))) for term in terms]

    def _read(self, path: pathlib.Path) -> dict[str, t.Any]:
        system = self.get_option("system")
        folder = system in ("docker-mailserver", "plain")
        if not (path.is_dir() if folder else path.is_file()):
            raise AnsibleError(f"take_over: {str(path)!r} is not a {'folder' if folder else 'file'} on this machine")
        try:
            return READERS[system](path, self.get_option("domain")).variables()
        except (TakeOverError, OSError, ValueError) as error:
            raise AnsibleError(f"take_over: {error}") from error
