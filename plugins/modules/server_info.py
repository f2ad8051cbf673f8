#!/usr/bin/python
# Copyright (c) The port587.mail contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

DOCUMENTATION = r"""
module: server_info
short_description: Ask a mail server for its release, its packages and the versions of Postfix, Dovecot and OpenSSL
version_added: 1.0.0
author: The port587.mail contributors (@port587)
description:
  - Answers in one module run what a role has to know before it writes a configuration.
  - Where a program is not installed yet, the version that apt would install stands in for it, so that check mode works
    on a bare server. Where apt's lists are empty too, the version that the release came with is assumed.
  - Changes nothing.
options:
  packages:
    description: Debian packages to ask for.
    type: list
    elements: str
    default: []
  users:
    description: System users to ask for.
    type: list
    elements: str
    default: []
  files:
    description: Files to ask for, by absolute path.
    type: list
    elements: str
    default: []
  postfix_parameters:
    description: Parameters of main.cf to ask Postfix for. Not every version has all, and distributions carry some back.
    type: list
    elements: str
    default: []
extends_documentation_fragment:
  - port587.mail.attributes
  - port587.mail.attributes.server
  - port587.mail.attributes.read_only
notes:
  - Ask again after an installation. What stood in for the version need not be what was installed.
"""

EXAMPLES = r"""
- name: Ask which versions this server has
  port587.mail.server_info:
    packages: [postfix, ca-certificates]
    users: [vmail]
  register: server

- name: Install what is missing
  ansible.builtin.apt:
    name: "{{ server.missing }}"
    update_cache: true
  when: server.missing | length > 0
"""

RETURN = r"""
distribution:
  description: What C(/etc/os-release) says. Empty strings where it says nothing.
  returned: always
  type: dict
  contains:
    id:
      description: The distribution.
      type: str
      sample: debian
    version_id:
      description: The release.
      type: str
      sample: "12"
packages:
  description: The packages that were asked for, by name.
  returned: always
  type: dict
  sample: {"postfix": {"installed": "3.7.11-0+deb12u1", "candidate": null}}
  contains:
    installed:
      description: The installed version, V(null) where it isn't, or isn't wholly.
      type: str
    candidate:
      description: What apt would install. V(null) where it is installed already, or where apt doesn't know the package.
      type: str
missing:
  description: Those of O(packages) that are not installed, in the order in which they were asked for.
  returned: always
  type: list
  elements: str
missing_users:
  description: Those of O(users) that don't exist.
  returned: always
  type: list
  elements: str
missing_files:
  description: Those of O(files) that don't exist.
  returned: always
  type: list
  elements: str
postfix:
  description: Postfix, asked for always.
  returned: always
  type: dict
  contains:
    version:
      description: >-
        The version, or what stands in for it. V(null) where nothing is installed, apt knows none, and the release isn't
        one that this collection supports.
      type: str
      sample: 3.7.11
    installed:
      description: Whether it is installed.
      type: bool
    assumed:
      description: Whether the version is only what the release came with.
      type: bool
    default_database_type:
      description: The kind of lookup table that this Postfix makes.
      type: str
      sample: hash
    knows:
      description: Those of O(postfix_parameters) that this Postfix has.
      type: list
      elements: str
dovecot:
  description: Dovecot, asked for always.
  returned: always
  type: dict
  contains:
    version:
      description: As with Postfix.
      type: str
      sample: 2.3.19.1
    installed:
      description: As with Postfix.
      type: bool
    assumed:
      description: As with Postfix.
      type: bool
openssl:
  description: >-
    OpenSSL, asked for always. The package of the command says the version; it is made from the same source as the
    library.
  returned: always
  type: dict
  contains:
    version:
      description: As with Postfix.
      type: str
      sample: 3.0.17
    installed:
      description: As with Postfix.
      type: bool
    assumed:
      description: As with Postfix.
      type: bool
tls:
  description: What its daemons offer in a TLS handshake, by the version of its OpenSSL.
  returned: always
  type: dict
  contains:
    ciphers:
      description: The cipher suites for TLS 1.2, as OpenSSL calls them.
      type: list
      elements: str
    groups:
      description: The groups for key exchange, best first.
      type: list
      elements: str
      sample: [X25519, prime256v1, secp384r1]
memory:
  description: Memory that there is to use, in bytes. A container's limit counts where it is below what the machine has.
  returned: always
  type: int
  sample: 469762048
other_mtas:
  description: Installed packages of other mail servers. apt removes them when it installs Postfix.
  returned: always
  type: list
  elements: str
  sample: [exim4-daemon-light]
trees:
  description: >-
    What there is of the files of each M(port587.mail.transaction) with a daemon, by its name: for its option
    O(port587.mail.transaction#module:known). Empty while one is under way, or where one was interrupted.
  returned: always
  type: dict
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.port587.mail.plugins.module_utils._server import facts as server_facts


def main() -> None:
    module = AnsibleModule(argument_spec=server_facts.QUESTIONS, supports_check_mode=True)
    try:
        module.exit_json(**server_facts.answer(server_facts.runner(module), module.params))
    except server_facts.ServerError as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
