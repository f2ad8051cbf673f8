#!/usr/bin/python
# Copyright (c) The port587.mail contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

DOCUMENTATION = r"""
module: certificate
short_description: Install the mail host's certificate and take the running daemons over to it
version_added: 1.0.0
author: The port587.mail contributors (@port587)
description:
  - Makes C(/etc/port587/tls/combined.pem), the private key followed by the certificate chain in one file so that a
    daemon can never read a key and a certificate that don't belong together, and C(/etc/port587/tls/fullchain.pem), the
    chain alone. For each of O(sni) another such file, C(/etc/port587/tls/NAME.pem).
  - The certificate either comes from a small certificate authority (CA) of the server's own, or is handed in, or comes
    from an authority that speaks ACME (RFC 8555), such as Let's Encrypt.
  - The CA lies in C(/etc/port587/ca). It signs server certificates for the domains around the certificate's names, and
    nothing else. Its key never leaves the server. It stays where it is when O(source) changes, so that a way back keeps
    its clients.
  - A certificate of that CA is replaced when O(hostname), O(names), O(key_type) or O(days) change, when less than
    30 days are left, and when it isn't valid any more. The CA is replaced only when it can't vouch for O(hostname) or
    would end before the certificate. Other names for which it can't vouch are left out.
  - Postfix and Dovecot are reloaded where they run with this collection's configuration. Unless they then serve the new
    certificate, everything is put back as it was.
  - With O(source=acme) a program and a timer, C(port587-certificates.timer), are installed to renew the certificate.
    The authority is asked in this run too, if there is no certificate of it for O(hostname), if it is for other names,
    or if less than a third of its time is left. Where it gives none, what is served already goes on, or else a
    certificate of the server's own CA stands in, the module warns, and the timer tries again every hour.
  - With any other O(source) that program and timer are removed.
options:
  source:
    description:
      - V(selfsigned) for a certificate of the server's own CA, V(files) for the one in O(chain) and O(key), V(acme) for
        one of the authority in O(acme).
    type: str
    choices: [selfsigned, files, acme]
    default: selfsigned
  hostname:
    description: The name by which clients reach the server.
    type: str
    required: true
  names:
    description:
      - Further names that the certificate has to be good for. With O(source=acme) one that is not in DNS, or that the
        authority refuses, is left out, and tried again.
    type: list
    elements: str
    default: []
  sni:
    description:
      - Names with a certificate of their own, which clients get that ask for them in the TLS handshake (SNI).
      - Where there is none for such a name, that of O(hostname) stands in.
    type: list
    elements: str
    default: []
  sni_chains:
    description: For each of O(sni), in small letters, what O(chain) is for O(hostname). Required for O(source=files).
    type: dict
    default: {}
  sni_keys:
    description: For each of O(sni), in small letters, what O(key) is for O(hostname). Required for O(source=files).
    type: dict
    default: {}
  keep_used:
    description:
      - Whether the file of a name that is no longer in O(sni) stays as long as a daemon has to serve it, by what it was
        proved with last.
    type: bool
    default: true
  key_type:
    description: V(ecdsa) for P-256, V(rsa) for 3072 bit. Not for O(source=files).
    type: str
    choices: [ecdsa, rsa]
    default: ecdsa
  rsa_too:
    description:
      - Whether to have a second certificate for O(hostname) and O(names), with an RSA key, for clients that know no
        other.
      - A CA that is made for it has an RSA key, too. One that is there stays. Not for O(source=files).
    type: bool
    default: false
  days:
    description: How long a new certificate is valid, at least 60. Only for O(source=selfsigned).
    type: int
    default: 825
  chain:
    description: The certificate and those of its issuers, PEM, the server's own first. Required for O(source=files).
    type: str
  key:
    description: The private key, PEM, not encrypted. Required for O(source=files).
    type: str
  acme:
    description: The authority, and how it is shown that the names are this server's. Required for O(source=acme).
    type: dict
    suboptions:
      email:
        description: Whom the authority may write to. Its terms of service are agreed to.
        type: str
        required: true
      directory:
        description: V(letsencrypt), V(letsencrypt-staging), or the URL of another authority's directory.
        type: str
        default: letsencrypt
      ca:
        description: What vouches for that URL, PEM, where the server does not know it.
        type: str
      challenge:
        description:
          - V(http) to answer on port 80. If a program listens there that gives out what is below
            C(/var/lib/port587/acme-challenge), it answers; if none listens, certbot does.
          - V(nsupdate) to set a record in DNS by an update (RFC 2136), V(hook) to have O(acme_hook) set it.
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
            description: Its algorithm, in the words of the plugin certbot-dns-rfc2136.
            type: str
            default: HMAC-SHA256
          wait:
            description: Seconds until all name servers of the domain know a new record.
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
      - A program, its text. It is run as root with the argument V(auth) or V(cleanup) for each name, with the name in
        C(CERTBOT_DOMAIN) and the text of the TXT record of C(_acme-challenge.NAME) in C(CERTBOT_VALIDATION).
    type: str
extends_documentation_fragment:
  - port587.mail.attributes
  - port587.mail.attributes.server
attributes:
  check_mode:
    support: full
    details: No key is made in check mode, so what only a new certificate has, such as its fingerprint, is not returned.
  diff_mode:
    support: full
    details: Certificates are shown in words. Private keys are never shown.
  idempotent:
    support: full
requirements:
  - openssl, 1.1.1 or later, on the server
  - certbot on the server for O(source=acme), and its plugin dns-rfc2136 for V(nsupdate)
"""

EXAMPLES = r"""
- name: Have a certificate of the server's own CA
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

- name: Get one from Let's Encrypt, and renew it
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
  description: Why there is a new certificate or CA; empty where none is.
  returned: always
  type: str
  sample: for mx.example.com instead of mail.example.com
subject:
  description: Whose certificate it is.
  returned: always, unless check mode finds no openssl on the server
  type: str
  sample: CN=mail.example.com
names:
  description: The names that the certificate is good for.
  returned: as RV(subject)
  type: list
  elements: str
  sample: [mail.example.com]
issuer:
  description: Who signed it.
  returned: as RV(subject)
  type: str
  sample: CN=mail.example.com CA 2026
not_after:
  description: When it ends, UTC.
  returned: as RV(subject)
  type: str
  sample: "2027-12-26T21:55:00Z"
serial:
  description: Its serial number in hexadecimal digits.
  returned: when it exists
  type: str
  sample: 3F9B00A6058F91C176FA5E40133453
fingerprint:
  description: The SHA-256 fingerprint of the certificate.
  returned: when it exists
  type: str
  sample: 54:F8:32:73:4D:CE:24:87:8B:77:CB:80:15:C6:F1:E6:C6:58:A4:26:99:03:A8:43:6F:4F:1B:B8:5F:17:82:D7
ca_pem:
  description: >-
    The certificate of the CA, to be trusted by clients. Only words where check mode predicts a new one.
  returned: when the certificate is of that CA
  type: str
stand_in:
  description: Whether the certificate is another one than the authority's, because that has not given any.
  returned: O(source=acme)
  type: bool
error:
  description: Why the authority gave no new certificate when it was asked last; empty where it did.
  returned: O(source=acme)
  type: str
  sample: "mail.example.com: DNS problem: NXDOMAIN looking up A for mail.example.com (dns)"
missing:
  description: The names that had to be done without, or without a new certificate, and why.
  returned: always
  type: dict
  sample: {"autoconfig.example.com": "it is not in DNS"}
kept:
  description: The files that stay for a daemon, see O(keep_used).
  returned: always
  type: list
  elements: str
  sample: [/etc/port587/tls/mail.example.org.pem]
activated:
  description: What became of the daemons.
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
