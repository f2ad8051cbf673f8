# Copyright (c) The port587.mail contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

DOCUMENTATION = r"""
module: verdict
short_description: Print a readable report of a probe
version_added: 1.0.0
author: The port587.mail contributors (@port587)
description:
  - Prints a verdict on the results of M(port587.mail.probe) and, if it was run, of M(port587.mail.inspect_info). If
    there is a fault, the part that fails comes first, in one sentence, with the cure. Otherwise it prints the settings
    for mail clients.
  - With O(report_dir), writes the report as HTML, JSON and JUnit XML.
  - Fails if the verdict is V(fail).
  - Runs on the controller only.
options:
  result:
    description: The result of M(port587.mail.probe).
    type: dict
    required: true
  also:
    description: >-
      Results of other modules for the same server, such as M(port587.mail.inspect_info). Their findings explain what
      the probe saw from outside, so the report can name the underlying fault.
    type: list
    elements: dict
    default: []
  server:
    description: The server name for mail clients. By default the host of the probe.
    type: str
  ca_file:
    description: >-
      File on the controller with the CA's certificate that the probe used. If this CA signed the server's certificate,
      the report says that mail clients must import the file.
    type: str
  report_dir:
    description: >-
      Folder on the controller for V(HOST.html), V(HOST.json) and V(HOST.xml). The module creates it and keeps it out of
      git. By default nothing is written.
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
- name: Print the report
  port587.mail.verdict:
    result: "{{ walk }}"
    report_dir: ~/port587/mail.example.com/verify
"""

RETURN = r"""
msg:
  description: The worst finding in one sentence. Empty without findings.
  returned: always
  type: str
findings:
  description: The faults, as M(port587.mail.probe) returns them, combined with O(also).
  returned: always
  type: list
  elements: dict
reports:
  description: Paths of the written files, the HTML page first.
  returned: always
  type: list
  elements: str
"""
