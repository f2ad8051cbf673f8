#!/usr/bin/python
# Copyright (c) The port587.mail contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

DOCUMENTATION = r"""
module: server_info
short_description: Get a mail server's release, packages, and versions of Postfix, Dovecot, OpenSSL and systemd
version_added: 1.0.0
author: The port587.mail contributors (@port587)
description:
  - Returns in one module run what a role must know before it writes a configuration.
  - For a program that is not installed yet, returns the version that apt would install, so that check mode works on a
    bare server. If apt's lists are empty too, returns the version that the release shipped with.
  - Changes nothing.
options:
  packages:
    description:
      - Debian packages to look up.
      - If one of several is enough, an entry has all their names, as in V(redis-server | valkey-server). The answer
        then has the installed one, otherwise the first one that apt knows, otherwise the first one.
    type: list
    elements: str
    default: []
  users:
    description: System users to look up.
    type: list
    elements: str
    default: []
  files:
    description: Files to look up, by absolute path.
    type: list
    elements: str
    default: []
  postfix_parameters:
    description: Parameters of main.cf to look up. Not every version has all of them, and distributions backport some.
    type: list
    elements: str
    default: []
extends_documentation_fragment:
  - port587.mail.attributes
  - port587.mail.attributes.server
  - port587.mail.attributes.read_only
notes:
  - Run it again after an installation, because the installed version may differ from the expected one.
"""

EXAMPLES = r"""
- name: Get the versions on this server
  port587.mail.server_info:
    packages: [postfix, ca-certificates]
    users: [vmail]
  register: server

- name: Install the missing packages
  ansible.builtin.apt:
    name: "{{ server.missing }}"
    update_cache: true
  when: server.missing | length > 0
"""

RETURN = r"""
distribution:
  description: Values from C(/etc/os-release). Empty strings if they are missing.
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
  description: The requested packages, by name.
  returned: always
  type: dict
  sample: {"postfix": {"installed": "3.7.11-0+deb12u1", "candidate": null}}
  contains:
    installed:
      description: The installed version, V(null) if the package is not or not completely installed.
      type: str
    candidate:
      description: The version that apt would install. V(null) if the package is installed, or unknown to apt.
      type: str
missing:
  description: Those of O(packages) that are not installed, in the same order.
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
  description: Postfix. Always returned.
  returned: always
  type: dict
  contains:
    version:
      description: >-
        The installed or expected version. V(null) if nothing is installed, apt knows no version, and this collection
        does not support the release.
      type: str
      sample: 3.7.11
    installed:
      description: Whether it is installed.
      type: bool
    assumed:
      description: Whether the version is assumed from the release.
      type: bool
    default_database_type:
      description: The type of lookup table that this Postfix creates.
      type: str
      sample: hash
    knows:
      description: Those of O(postfix_parameters) that this Postfix has.
      type: list
      elements: str
dovecot:
  description: Dovecot. Always returned.
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
    OpenSSL. Always returned. The version is that of the command's package, which has the same source as the library.
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
systemd:
  description: systemd. Always returned.
  returned: always
  type: dict
  contains:
    version:
      description: As with Postfix.
      type: str
      sample: "252.39"
    installed:
      description: As with Postfix.
      type: bool
    assumed:
      description: As with Postfix.
      type: bool
    mounts:
      description: Whether services can have mounts of their own, such as a C(/tmp). Some containers forbid that.
      type: bool
    filters:
      description: Whether services of other users than root can have filters of system calls.
      type: bool
tls:
  description: The TLS settings of the daemons for this version of OpenSSL.
  returned: always
  type: dict
  contains:
    ciphers:
      description: The cipher suites for TLS 1.2, with OpenSSL's names.
      type: list
      elements: str
    groups:
      description: The groups for key exchange, best first.
      type: list
      elements: str
      sample: [X25519, prime256v1, secp384r1]
memory:
  description: Usable memory in bytes. A container's limit applies if it is lower than the machine's memory.
  returned: always
  type: int
  sample: 469762048
spam_filter:
  description: >-
    Whether this collection's default for this server is a spam filter: it has 1.5 GB of memory or more, or has the
    filter already.
  returned: always
  type: bool
other_mtas:
  description: Installed packages of other mail servers. apt removes them when it installs Postfix.
  returned: always
  type: list
  elements: str
  sample: [exim4-daemon-light]
trees:
  description: >-
    The state of the files of each M(port587.mail.transaction) with a daemon or with little data, by its name, for the
    option O(port587.mail.transaction#module:known). Empty during a transaction, or after an interrupted one.
  returned: always
  type: dict
run:
  description: >-
    A value for the environment variable E(PORT587_RUN) of the modules of this play. With it, a transaction refuses to
    change a server that another play with such a value has changed meanwhile. The roles set it.
  returned: always
  type: str
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
