# Copyright (c) The port587.mail contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

DOCUMENTATION = r"""
module: check
short_description: Check the variables of this collection before anything changes
version_added: 1.0.0
author: The port587.mail contributors (@port587)
description:
  - Refuses unknown variables with a prefix of this collection (C(mail_), C(postfix_), ...), and suggests the nearest
    known name.
  - Refuses values of the wrong type according to the roles' argument specs, such as text instead of a list; variables
    that refer to undefined ones; and missing files on the controller.
  - Refuses invalid values, such as a host name without a dot, and values that contradict each other. The rules of each
    role are in its C(meta/checks.yml).
  - Reports all mistakes at once, each with the variable, its value (never a secret) and what would be right.
  - Runs on the controller only.
options:
  roles:
    description: >-
      Roles whose variables are checked. The variables of the whole site (C(mail_), C(dns_), C(verify_)) always are.
    type: list
    elements: str
    default: []
  site:
    description: >-
      Whether to look for unknown names with any prefix of the collection. Otherwise only with C(mail_) and the prefixes
      of O(roles), since other roles in the play may use the remaining prefixes.
    type: bool
    default: true
  needs:
    description: Variables that must be set, besides those that the defaults of O(roles) use.
    type: list
    elements: str
    default: []
  files:
    description: Variables that hold the path of a file on the controller. If one is set, its file must exist.
    type: list
    elements: str
    default: []
  on_server:
    description: >-
      Whether to check only the rules of O(roles) that compare values with the server. Needs the facts from
      M(port587.mail.server_info).
    type: bool
    default: false
notes:
  - C(mail_own_variables) lists your own variables that begin with such a prefix; C(*) matches any text.
  - Registered variables and facts set by tasks are not checked.
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
  description: The mistakes, one per line. Empty if there are none.
  returned: always
  type: str
  sample: "mail_domains: 'example.com' is text; write a list, such as [example.com]"
"""
