# Copyright (c) The port587.mail contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

DOCUMENTATION = r"""
module: reports
short_description: Read the DMARC and TLS reports in a mailbox
version_added: 1.0.0
author: The port587.mail contributors (@port587)
description:
  - Reads the reports that other servers send about mail in a domain's name (DMARC, RFC 7489) and about TLS on the way
    to it (RFC 8460), over IMAP. Prints who sends in the domain's name, what fails, why, and since when.
  - With O(report_dir), writes the same as an HTML page with a plot.
  - Attachments may be XML, JSON, gzip or zip; their content decides. What is larger than 20 MB when it is unpacked, is
    damaged, or has a document type, is listed with the reason, and stays in its folder.
  - Runs on the controller only.
options:
  host:
    description: The server's name, as in its certificate.
    type: str
    required: true
  address:
    description: The address to connect to. By default O(host).
    type: str
  port:
    description: The port of IMAP with TLS.
    type: int
    default: 993
  ca_pem:
    description: Certificates of authorities to trust instead of the system's, as PEM.
    type: str
    default: ""
  login:
    description: User name of the mailbox.
    type: str
    required: true
  password:
    description: Its password.
    type: str
    required: true
  folder:
    description: The folder that reports arrive in.
    type: str
    default: INBOX
  archive:
    description: >-
      Folder to which mails with reports are moved when they have been read. It is created, and read as well. Empty to
      leave them where they are. In ASCII.
    type: str
    default: ""
  days:
    description: The age in days up to which mails are read.
    type: int
    default: 90
  own:
    description: IP addresses of the mail server itself, which are marked.
    type: list
    elements: str
    default: []
  report_dir:
    description: Folder on the controller for the page, V(HOST.html). By default nothing is written.
    type: str
extends_documentation_fragment:
  - port587.mail.attributes
  - port587.mail.attributes.controller
attributes:
  check_mode:
    support: full
    details: The mails are read, not moved, and no page is written.
  diff_mode:
    support: none
    details: It changes no files on a server.
  idempotent:
    support: full
"""

EXAMPLES = r"""
- name: Read the reports
  port587.mail.reports:
    host: mail.example.com
    login: postmaster@example.com
    password: "{{ vault_postmaster }}"
    archive: Reports
    report_dir: ~/port587/mail.example.com/reports
"""

RETURN = r"""
reports:
  description: The number of reports, those in O(archive) too.
  returned: success
  type: int
moved:
  description: The number of mails that were moved to O(archive), or would be.
  returned: success
  type: int
senders:
  description: >-
    Who sends in the domain's name. C(domain), C(what) (the IP address), C(number) of mails, how many C(failed),
    C(since) and C(until) (seconds since the epoch), C(reasons), C(reporters), and whether it is the
    server's C(own) address.
  returned: success
  type: list
  elements: dict
tls:
  description: The same for TLS. C(what) is the type of failure.
  returned: success
  type: list
  elements: dict
unreadable:
  description: The subject of each report that could not be read, and the reason.
  returned: success
  type: list
  elements: list
page:
  description: Path of the page. Empty if none was written.
  returned: success
  type: str
"""
