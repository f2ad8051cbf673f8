# Copyright (c) The port587.mail contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

DOCUMENTATION = r"""
module: check
short_description: Check the variables of this collection before anything changes
version_added: 1.0.0
author: The port587.mail contributors (@port587)
description:
  - Refuses names that begin as those of this collection do (C(mail_), C(postfix_), ...), but are unknown, and names the
    nearest known one.
  - Refuses values of another type than the roles' argument specs name, such as text where a list belongs; variables
    that use others which are not set; and files on the controller that are not there.
  - Refuses values that can't be, such as a host name without a dot, and values that can't go together. The rules of
    each role are in its C(meta/checks.yml).
  - Says all mistakes at once, each with the variable, its value (never a secret) and what would be right.
  - Runs on the controller only.
options:
  roles:
    description: >-
      Roles whose variables are checked, besides those that belong to no single role (C(mail_), C(dns_), C(verify_)).
    type: list
    elements: str
    default: []
  site:
    description: >-
      Whether every prefix of the collection is looked at for unknown names. Otherwise only C(mail_) and those of
      O(roles), since a role may be used beside others' that have variables of their own.
    type: bool
    default: true
  needs:
    description: Variables that have to be set, besides those from which the defaults of O(roles) derive.
    type: list
    elements: str
    default: []
  files:
    description: Variables that name a file on the controller, where they are set. The file has to be there.
    type: list
    elements: str
    default: []
  on_server:
    description: >-
      Whether only what the O(roles) need of the server is checked. They have to know it already, from
      M(port587.mail.server_info).
    type: bool
    default: false
notes:
  - C(mail_own_variables) lists variables of your own that begin with such a prefix; a C(*) stands for anything.
  - What tasks have registered or set as a fact is not looked at.
extends_documentation_fragment:
  - port587.mail.attributes
  - port587.mail.attributes.controller
  - port587.mail.attributes.read_only
"""

EXAMPLES = r"""
- name: Check the variables
  port587.mail.check:
    roles: [postfix]
    site: false
"""

RETURN = r"""
msg:
  description: What is wrong, one line for each mistake. Empty if all is well.
  returned: always
  type: str
  sample: "mail_domains: 'example.com' is text; write a list, such as [example.com]"
"""
