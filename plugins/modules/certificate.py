#!/usr/bin/python
# Copyright (c) The port587.mail contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

DOCUMENTATION = r"""
module: certificate
short_description: Install the mail host's certificate and activate it in the running daemons
version_added: 1.0.0
author: The port587.mail contributors (@port587)
description:
  - Makes C(/etc/port587/tls/combined.pem), the private key followed by the certificate chain in one file so that a
    daemon can never read a key and a certificate that don't belong together, and C(/etc/port587/tls/fullchain.pem), the
    chain alone. Each name in O(sni) gets another such file, C(/etc/port587/tls/NAME.pem).
  - The certificate is signed by a small certificate authority (CA) on the server itself, provided by the caller, or
    ordered from an authority that speaks ACME (RFC 8555), such as Let's Encrypt.
  - The server's own CA is in C(/etc/port587/ca). It signs server certificates for the domains around the certificate's
    names, and nothing else. Its key never leaves the server. When O(source) changes, the CA is kept, so clients that
    trust it still do after a change back.
  - A certificate of that CA is replaced when O(hostname), O(names), O(key_type) or O(days) change, when less than
    30 days are left, and when it is not valid. The CA is replaced only when it may not sign for O(hostname) or would
    expire before the certificate. Other names that it may not sign for are left out.
  - Postfix and Dovecot are reloaded where they run with this collection's configuration. Unless they then serve the new
    certificate, everything is restored.
  - O(source=acme) installs a program and a timer, C(port587-certificates.timer), which renew the certificate. This run
    orders a certificate, too, if there is none from the authority for O(hostname), if the names have changed, or if
    less than a third of its lifetime is left. If the order fails, the daemons keep the present certificate, or get one
    of the server's own CA if there is none; the module warns, and the timer tries again every hour.
  - Any other O(source) removes that program and timer.
options:
  source:
    description:
      - V(selfsigned) for a certificate signed by the server's own CA, V(files) for the one in O(chain) and O(key),
        V(acme) for one from the authority in O(acme).
    type: str
    choices: [selfsigned, files, acme]
    default: selfsigned
  hostname:
    description: The name by which clients reach the server.
    type: str
    required: true
  names:
    description:
      - Further names in the certificate. With O(source=acme), a name that is not in DNS or that the authority refuses
        is left out, and tried again later.
    type: list
    elements: str
    default: []
  sni:
    description:
      - Names with certificates of their own, for clients that name them in the TLS handshake (SNI).
      - A name whose certificate could not be obtained is served with the certificate of O(hostname).
    type: list
    elements: str
    default: []
  sni_chains:
    description: As O(chain), for each name in O(sni). The keys are in lower case. Required for O(source=files).
    type: dict
    default: {}
  sni_keys:
    description: As O(key), for each name in O(sni). The keys are in lower case. Required for O(source=files).
    type: dict
    default: {}
  keep_used:
    description:
      - Whether to keep the file of a name that was removed from O(sni) as long as a daemon's configuration still uses
        it.
    type: bool
    default: true
  key_type:
    description: V(ecdsa) for P-256, V(rsa) for 3072 bit. Not for O(source=files).
    type: str
    choices: [ecdsa, rsa]
    default: ecdsa
  rsa_too:
    description:
      - Whether to add a second certificate for O(hostname) and O(names), with an RSA key, for clients that support
        RSA only.
      - A new CA has an RSA key, too; an existing CA is kept. Not for O(source=files).
    type: bool
    default: false
  days:
    description: Validity of a new certificate in days, at least 60. Only for O(source=selfsigned).
    type: int
    default: 825
  chain:
    description: The certificate and those of its issuers, PEM, the server's own first. Required for O(source=files).
    type: str
  key:
    description: The private key, PEM, not encrypted. Required for O(source=files).
    type: str
  acme:
    description: The authority, and how it verifies that this server owns the names. Required for O(source=acme).
    type: dict
    suboptions:
      email:
        description: Contact address for the authority. Setting it accepts the authority's terms of service.
        type: str
        required: true
      directory:
        description: V(letsencrypt), V(letsencrypt-staging), or the URL of another authority's directory.
        type: str
        default: letsencrypt
      ca:
        description: CA certificate (PEM) that verifies that URL, if the server does not trust it already.
        type: str
      challenge:
        description:
          - V(http) answers on port 80. A web server that listens there must serve the files below
            C(/var/lib/port587/acme-challenge); without a web server, certbot answers itself.
          - V(nsupdate) sets a DNS record by dynamic update (RFC 2136), V(hook) has O(acme_hook) set it.
        type: str
        choices: [http, nsupdate, hook]
        default: http
      nsupdate:
        description: The name server. Required for V(nsupdate).
        type: dict
        suboptions:
          server:
            description: Its address.
            type: str
            required: true
          port:
            description: Its port.
            type: int
            default: 53
          key_name:
            description: The name of the key (TSIG) in O(acme_secret).
            type: str
            required: true
          key_algorithm:
            description: The key's algorithm, as the plugin certbot-dns-rfc2136 names it.
            type: str
            default: HMAC-SHA256
          wait:
            description: Seconds until all name servers of the domain have a new record.
            type: int
            default: 60
  acme_units:
    description:
      - The systemd units C(port587-certificates.service) and C(port587-certificates.timer), which run the program
        C(/usr/local/lib/port587/certificates). The role P(port587.mail.certificates#role) has both as files. Required
        for O(source=acme).
    type: dict
    suboptions:
      service:
        description: The text of the service, which runs the program once.
        type: str
        required: true
      timer:
        description: The text of the timer, which starts it every hour.
        type: str
        required: true
  acme_secret:
    description: The key (TSIG) that the name server knows, in base64.
    type: str
  acme_hook:
    description:
      - The text of a program. It runs as root, with the argument V(auth) or V(cleanup), once for each name.
        C(CERTBOT_DOMAIN) holds the name, C(CERTBOT_VALIDATION) the text of the TXT record C(_acme-challenge.NAME).
    type: str
extends_documentation_fragment:
  - port587.mail.attributes
  - port587.mail.attributes.server
attributes:
  check_mode:
    support: full
    details: Check mode makes no key, so values that only a new certificate has, such as its fingerprint, are missing.
  diff_mode:
    support: full
    details: Certificates are shown as summaries. Private keys are never shown.
  idempotent:
    support: full
requirements:
  - openssl, 1.1.1 or later, on the server
  - certbot on the server for O(source=acme), and its plugin dns-rfc2136 for V(nsupdate)
"""

EXAMPLES = r"""
- name: Make a certificate signed by the server's own CA
  port587.mail.certificate:
    hostname: mail.example.com
    names: [imap.example.com]
  register: certificate

- name: Save the CA, so that it can be imported into clients
  ansible.builtin.copy:
    content: "{{ certificate.ca_pem }}"
    dest: ~/port587/mail.example.com/ca.crt
    mode: "0644"
  delegate_to: localhost
  become: false

- name: Get a certificate from Let's Encrypt, and renew it
  port587.mail.certificate:
    source: acme
    hostname: mail.example.com
    names: [autoconfig.example.com]
    acme:
      email: eve@example.com
    acme_units:
      service: "{{ lookup('ansible.builtin.file', 'port587-certificates.service', rstrip=false) }}"
      timer: "{{ lookup('ansible.builtin.file', 'port587-certificates.timer', rstrip=false) }}"

- name: Install a certificate that was bought
  port587.mail.certificate:
    source: files
    hostname: mail.example.com
    chain: "{{ lookup('ansible.builtin.file', 'fullchain.pem') }}"
    key: "{{ lookup('ansible.builtin.file', 'privkey.pem') }}"
"""

RETURN = r"""
reason:
  description: Why there is a new certificate or CA; empty if nothing is new.
  returned: always
  type: str
  sample: for mx.example.com instead of mail.example.com
subject:
  description: The subject of the certificate.
  returned: always, unless check mode finds no openssl on the server
  type: str
  sample: CN=mail.example.com
names:
  description: The names in the certificate.
  returned: as RV(subject)
  type: list
  elements: str
  sample: [mail.example.com]
issuer:
  description: The issuer of the certificate.
  returned: as RV(subject)
  type: str
  sample: CN=mail.example.com CA 2026
not_after:
  description: When the certificate expires, UTC.
  returned: as RV(subject)
  type: str
  sample: "2027-12-26T21:55:00Z"
serial:
  description: Its serial number in hexadecimal digits.
  returned: when the certificate exists
  type: str
  sample: 3F9B00A6058F91C176FA5E40133453
fingerprint:
  description: The SHA-256 fingerprint of the certificate.
  returned: when the certificate exists
  type: str
  sample: 54:F8:32:73:4D:CE:24:87:8B:77:CB:80:15:C6:F1:E6:C6:58:A4:26:99:03:A8:43:6F:4F:1B:B8:5F:17:82:D7
ca_pem:
  description: >-
    The certificate of the CA, for import into clients. Where check mode predicts a new CA, a placeholder text.
  returned: when the server's own CA signed the certificate
  type: str
stand_in:
  description: Whether another certificate is served because the authority has issued none.
  returned: O(source=acme)
  type: bool
error:
  description: Why the last order failed; empty if it succeeded.
  returned: O(source=acme)
  type: str
  sample: "mail.example.com: DNS problem: NXDOMAIN looking up A for mail.example.com (dns)"
missing:
  description: Names without a certificate, or without a new one, each with the reason.
  returned: always
  type: dict
  sample: {"autoconfig.example.com": "it is not in DNS"}
kept:
  description: Files that are kept for a daemon, see O(keep_used).
  returned: always
  type: list
  elements: str
  sample: [/etc/port587/tls/mail.example.org.pem]
activated:
  description: What was done to each daemon, such as C(reloaded) or C(restarted).
  returned: always
  type: dict
  sample: {"postfix": "reloaded", "dovecot": "reloaded"}
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.port587.mail.plugins.module_utils._certificate.apply import apply
from ansible_collections.port587.mail.plugins.module_utils._certificate.certificate import CertificateError
from ansible_collections.port587.mail.plugins.module_utils._transaction.errors import TransactionError


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "source": {"type": "str", "choices": ["selfsigned", "files", "acme"], "default": "selfsigned"},
            "hostname": {"type": "str", "required": True},
            "names": {"type": "list", "elements": "str", "default": []},
            "sni": {"type": "list", "elements": "str", "default": []},
            "sni_chains": {"type": "dict", "default": {}},
            "sni_keys": {"type": "dict", "default": {}, "no_log": True},
            "keep_used": {"type": "bool", "default": True},
            "key_type": {"type": "str", "choices": ["ecdsa", "rsa"], "default": "ecdsa", "no_log": False},
            "rsa_too": {"type": "bool", "default": False},
            "days": {"type": "int", "default": 825},
            "chain": {"type": "str"},
            "key": {"type": "str", "no_log": True},
            "acme": {
                "type": "dict",
                "options": {
                    "email": {"type": "str", "required": True},
                    "directory": {"type": "str", "default": "letsencrypt"},
                    "ca": {"type": "str"},
                    "challenge": {"type": "str", "choices": ["http", "nsupdate", "hook"], "default": "http"},
                    "nsupdate": {
                        "type": "dict",
                        "options": {
                            "server": {"type": "str", "required": True},
                            "port": {"type": "int", "default": 53},
                            "key_name": {"type": "str", "required": True, "no_log": False},
                            "key_algorithm": {"type": "str", "default": "HMAC-SHA256", "no_log": False},
                            "wait": {"type": "int", "default": 60},
                        },
                    },
                },
                "required_if": [("challenge", "nsupdate", ("nsupdate",))],
            },
            "acme_units": {
                "type": "dict",
                "options": {
                    "service": {"type": "str", "required": True},
                    "timer": {"type": "str", "required": True},
                },
            },
            # not in acme, so that they are left out of the log whole
            "acme_secret": {"type": "str", "no_log": True},
            "acme_hook": {"type": "str", "no_log": True},
        },
        required_if=[("source", "files", ("chain", "key")), ("source", "acme", ("acme", "acme_units"))],
        supports_check_mode=True,
    )
    try:
        result, warnings = apply(module.params, module.check_mode)
    except CertificateError as error:
        module.fail_json(msg=str(error))
    except TransactionError as error:
        module.fail_json(msg=error.message, **error.details)
    for warning in warnings:
        module.warn(warning)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
