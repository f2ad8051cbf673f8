#!/usr/bin/python
# Copyright (c) The port587.mail contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

DOCUMENTATION = r"""
module: probe
short_description: Test a mail server as a mail client does, and name the part that fails
version_added: 1.0.0
author: The port587.mail contributors (@port587)
description:
  - Does from outside what a mail client (MUA) does, step by step, with a deadline per step. It finds the server by its
    name, connects to 587 and 465 (MSA), 25 (MTA), 993, 995, 143 and 110 (MRA) and 4190 (ManageSieve), verifies the
    certificate on each port, logs in, sends a message to the account itself, finds it over IMAP and POP3, compares it
    byte for byte, and removes it.
  - Also tries what the server must refuse, such as relaying without a login, mail to unknown users, and logins before
    TLS.
  - Steps that wait for the network run in parallel. A healthy server takes a second or two.
  - A step that depends on a failed one has the verdict C(skip), never C(fail).
  - The password is sent only inside verified TLS. A refused password is tried at most twice.
  - Run it on the controller (C(delegate_to=localhost)) or on any machine other than the mail server. A server trusts
    itself more than other machines, so a test from there proves little.
  - Faults of the server do not make the module fail. See RV(verdict), and M(port587.mail.verdict) for a report.
options:
  host:
    description: The name of the mail server, as clients use it and as the certificate has it.
    type: str
    required: true
  address:
    description: The name or IP address to connect to. By default O(host).
    type: str
  ports:
    description: Ports other than the standard ones, by service.
    type: dict
    default: {}
    suboptions:
      submission:
        description: SMTP for mail clients, with STARTTLS.
        type: int
        default: 587
      submissions:
        description: SMTP for mail clients, with TLS from the first byte.
        type: int
        default: 465
      smtp:
        description: SMTP for other servers.
        type: int
        default: 25
      imaps:
        description: IMAP with TLS from the first byte.
        type: int
        default: 993
      pop3s:
        description: POP3 with TLS from the first byte.
        type: int
        default: 995
      imap:
        description: IMAP with STARTTLS.
        type: int
        default: 143
      pop3:
        description: POP3 with STARTTLS.
        type: int
        default: 110
      sieve:
        description: ManageSieve, with STARTTLS.
        type: int
        default: 4190
      autoconfig:
        description: HTTPS, for the settings of mail clients.
        type: int
        default: 443
  checks:
    description: The services to test. The module does not connect to other services.
    type: list
    elements: str
    choices: [dns, submission, submissions, smtp, imaps, pop3s, imap, pop3, sieve, wrong_settings]
    default: [dns, submission, submissions, smtp, imaps, pop3s, imap, pop3, sieve, wrong_settings]
  autoconfig:
    description: >-
      Whether to also test automatic client setup: Thunderbird's document, and whether the name
      C(autoconfig.<domain of the mailbox>) points to this server.
    type: bool
    default: false
  webmail:
    description: With O(autoconfig), whether to also test that the page C(/webmail/) has a form to log in.
    type: bool
    default: false
  names:
    description: Further names of the server, in lower case, that automatic client setup may return.
    type: list
    elements: str
    default: []
  ca_file:
    description: >-
      File with the certificates of additional CAs to trust, on the machine that runs this module. The CAs that this
      machine trusts are trusted too.
    type: path
  ca_pem:
    description: The same certificates as text.
    type: str
  login:
    description: User name of the account to test. Without O(password), the module does not log in and sends nothing.
    type: str
  password:
    description: Password of the account to test.
    type: str
  mailbox:
    description: The account's mail address, which is sender and recipient of the test message. By default O(login).
    type: str
  domain:
    description: >-
      A mail domain of this server, to test whether it refuses mail to unknown users. By default the domain of
      O(mailbox). Set it to an empty string for a domain with a catch-all address.
    type: str
  timeout:
    description: Seconds for one step.
    type: float
    default: 10
  delivery_timeout:
    description: Seconds within which the test message must be in the mailbox.
    type: float
    default: 20
extends_documentation_fragment:
  - port587.mail.attributes
  - port587.mail.attributes.controller
attributes:
  check_mode:
    support: none
    details: The probe sends a message, so check mode skips it.
  diff_mode:
    support: none
    details: The message is removed again, so there is no difference to show.
  idempotent:
    support: full
    details: The message is removed again.
"""

EXAMPLES = r"""
- name: Test the server as a mail client does
  port587.mail.probe:
    host: mail.example.com
    login: eve@example.com
    password: "{{ vault_eve }}"
  delegate_to: localhost
  become: false
  register: walk

- name: Print a readable report
  port587.mail.verdict:
    result: "{{ walk }}"
"""

RETURN = r"""
verdict:
  description: V(ok), V(warn) (the server works, but see RV(findings)) or V(fail).
  returned: always
  type: str
  sample: ok
findings:
  description: The faults, the most basic one first, each once. Consequences of another fault are not listed.
  returned: always
  type: list
  elements: dict
  sample:
    - verdict: fail
      component: MSA
      diagnosis: submission-closed
      endpoints: ["203.0.113.5:587"]
      seen: connection refused
      cause: ...
      cure: ...
records:
  description: Every step.
  returned: always
  type: list
  elements: dict
  contains:
    service:
      description: One of O(checks), or V(autoconfig).
      type: str
    step:
      description: The test.
      type: str
    component:
      description: V(MUA), V(MSA), V(MTA), V(MDA), V(MRA), V(DNS) or V(network).
      type: str
    endpoint:
      description: Address and port.
      type: str
    port:
      description: The port.
      type: int
    verdict:
      description: V(ok), V(warn), V(fail) or V(skip).
      type: str
    seen:
      description: The answer of the server.
      type: str
    diagnosis:
      description: Name of the fault. Empty if there is none.
      type: str
    cause:
      description: The likely cause.
      type: str
    cure:
      description: What to do.
      type: str
    doc:
      description: URL of the explanation.
      type: str
host:
  description: As given.
  returned: always
  type: str
address:
  description: The IP address of the server.
  returned: always
  type: str
ports:
  description: Every service's port.
  returned: always
  type: dict
login:
  description: As given.
  returned: always
  type: str
private_ca:
  description: Whether a certificate is from a CA in O(ca_pem) or O(ca_file), which mail clients must import first.
  returned: always
  type: bool
seconds:
  description: The duration of the test.
  returned: always
  type: float
"""

import os
import time
import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.port587.mail.plugins.module_utils._probe.dns import resolve
from ansible_collections.port587.mail.plugins.module_utils._probe.probe import (
    STANDARD_PORTS,
    WALKS,
    names_of,
    probe,
    trust,
)
from ansible_collections.port587.mail.plugins.module_utils._probe.records import findings, overall
from ansible_collections.port587.mail.plugins.module_utils._probe.walk import Settings
from ansible_collections.port587.mail.plugins.module_utils._wire.limits import LARGEST_PEM


def _settings(module: AnsibleModule, address: str) -> Settings:
    params = module.params
    for name in ("host", "address", "login", "mailbox", "domain", "password"):
        # one line of a protocol is one command
        if any(char in "\r\n\0" for char in params[name] or ""):
            module.fail_json(msg=f"{name} must not contain a line end or a NUL character.")
    login = params["login"] or ""
    mailbox = login if params["mailbox"] is None else params["mailbox"]
    if mailbox and not ("@" in mailbox[1:-1] and set(mailbox).isdisjoint(" <>")):
        module.fail_json(msg=f"mailbox is {mailbox!r}, which is no mail address. It defaults to login.")
    if params["password"] and not mailbox:
        module.fail_json(msg="password is given, but not the login that it belongs to.")
    try:
        if params["ca_file"] and not os.path.isfile(params["ca_file"]):
            # a pipe or a device might never end
            raise ValueError("it is not a file; give a file with nothing but certificates")
        if params["ca_file"] and os.path.getsize(params["ca_file"]) > LARGEST_PEM:
            raise ValueError("it has more than %d bytes; give a file with nothing but certificates" % LARGEST_PEM)
        context = trust(params["ca_pem"], params["ca_file"])
    except (OSError, ValueError) as exc:
        module.fail_json(
            msg="{} can't be used: {}".format("ca_file " + params["ca_file"] if params["ca_file"] else "ca_pem", exc)
        )
    return Settings(
        host=params["host"],
        address=address,
        ports={service: params["ports"].get(service) or port for service, port in STANDARD_PORTS.items()},
        context=context,
        timeout=params["timeout"],
        delivery_timeout=params["delivery_timeout"],
        login=login,
        password=params["password"] or "",
        mailbox=mailbox,
        domain=mailbox.rpartition("@")[2] if params["domain"] is None else params["domain"],
        names=params["names"],
        webmail=params["webmail"],
    )


def main() -> None:
    services = ["dns"] + list(WALKS)
    port_options = {service: {"type": "int", "default": port} for service, port in STANDARD_PORTS.items()}
    module = AnsibleModule(
        argument_spec={
            "host": {"type": "str", "required": True},
            "address": {"type": "str"},
            "ports": {"type": "dict", "default": {}, "options": port_options},
            "checks": {"type": "list", "elements": "str", "choices": services, "default": services},
            "autoconfig": {"type": "bool", "default": False},
            "webmail": {"type": "bool", "default": False},
            "names": {"type": "list", "elements": "str", "default": []},
            "ca_file": {"type": "path"},
            "ca_pem": {"type": "str"},
            "login": {"type": "str"},
            "password": {"type": "str", "no_log": True},
            "mailbox": {"type": "str"},
            "domain": {"type": "str"},
            "timeout": {"type": "float", "default": 10.0},
            "delivery_timeout": {"type": "float", "default": 20.0},
        },
        mutually_exclusive=[("ca_file", "ca_pem")],
    )
    start = time.monotonic()
    params = module.params
    wanted = params["address"] or params["host"]
    found = resolve(wanted, params["timeout"]).all()
    settings = _settings(module, found[0] if found else wanted)
    published = resolve(params["host"], params["timeout"])
    records, issuers = probe(settings, params["checks"] + ["autoconfig"] * params["autoconfig"], published)
    result: t.Dict[str, t.Any] = {
        "changed": False,
        "verdict": overall(records),
        "findings": findings(records),
        "records": [record.to_dict() for record in records],
        "host": settings.host,
        "address": settings.address,
        "ports": settings.ports,
        "login": settings.login,
        "private_ca": any(name in issuers for name in names_of(params["ca_pem"], params["ca_file"])),
        "seconds": round(time.monotonic() - start, 2),
    }
    module.exit_json(**result)


if __name__ == "__main__":
    main()
