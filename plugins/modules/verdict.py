# Copyright (c) The port587.mail contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

DOCUMENTATION = r"""
module: verdict
short_description: Say what a probe has found, so that a person can read it
version_added: 1.0.0
author: The port587.mail contributors (@port587)
description:
  - Prints a verdict from what M(port587.mail.probe) returned, and M(port587.mail.inspect_info) if that was run. If
    something is wrong, the part that fails comes first, in one sentence, with the cure. If all is well, it prints what
    to type into a mail client.
  - Writes the same as a page for a browser, as JSON and as JUnit XML, if asked to.
  - Fails if the verdict is V(fail).
  - Runs on the controller only.
options:
  result:
    description: What M(port587.mail.probe) returned.
    type: dict
    required: true
  also:
    description: >-
      What others returned that looked at the same server, such as M(port587.mail.inspect_info). What they found
      explains what the probe saw from outside, so that the fault is named that is at the root.
    type: list
    elements: dict
    default: []
  server:
    description: The server name to type into a mail client. By default the host that was probed.
    type: str
  ca_file:
    description: >-
      File on the controller with the certificate of the CA that the probe was given. Where the server's certificate is
      from it, mail clients have to import it, and that is said.
    type: str
  report_dir:
    description: >-
      Folder on the controller to write V(HOST.html), V(HOST.json) and V(HOST.xml) to. It is made if there is none, and
      kept out of git. By default nothing is written.
    type: str
extends_documentation_fragment:
  - port587.mail.attributes
  - port587.mail.attributes.controller
attributes:
  check_mode:
    support: full
    details: Check mode skips the probe. The verdict then says that nothing was tried, and writes no report.
  diff_mode:
    support: none
    details: Reports are new with each run.
  idempotent:
    support: full
"""

EXAMPLES = r"""
- name: Say what was found
  port587.mail.verdict:
    result: "{{ walk }}"
    report_dir: ~/port587/mail.example.com/verify
"""

RETURN = r"""
msg:
  description: The worst finding in one sentence. Empty if there is none.
  returned: always
  type: str
findings:
  description: What is wrong, as M(port587.mail.probe) returns it, with O(also) taken into account.
  returned: always
  type: list
  elements: dict
reports:
  description: Paths of the files that were written, the page first.
  returned: always
  type: list
  elements: str
"""
