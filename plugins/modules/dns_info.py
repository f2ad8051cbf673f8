#!/usr/bin/python
# Copyright (c) The port587.mail contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

DOCUMENTATION = r"""
module: dns_info
short_description: Get the parts of the DNS records that only the mail server knows
version_added: 1.0.0
author: The port587.mail contributors (@port587)
description:
  - Derives the published parts from the private keys on the server. The keys do not leave the server.
  - Changes nothing.
options:
  domains:
    description: Names with DKIM keys, which are the mail domains and the host's name.
    type: list
    elements: str
    required: true
  dkim_directory:
    description: Directory with keys C(<domain>.<selector>.key). It may be missing.
    type: path
    default: /var/lib/rspamd/dkim
  certificates:
    description: PEM files with the certificates of port 25, the server's own first. They may be missing.
    type: list
    elements: path
    default: [/etc/port587/tls/fullchain.pem, /etc/port587/tls/rsa.pem]
extends_documentation_fragment:
  - port587.mail.attributes
  - port587.mail.attributes.server
  - port587.mail.attributes.read_only
seealso:
  - plugin: port587.mail.dns_records
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Get the public keys
  port587.mail.dns_info:
    domains: [example.com, mail.example.com]
  become: true
  register: server
"""

RETURN = r"""
addresses:
  description: >-
    The server's public addresses, from which it sends mail. Private addresses are omitted: behind NAT, the server does
    not know its public address.
  returned: always
  type: list
  elements: str
dkim:
  description: TXT records (RFC 6376, RFC 8463) by their names.
  returned: always
  type: dict
  sample: {"rsa1._domainkey.example.com": "v=DKIM1; k=rsa; p=MIIBIjANBg..."}
former:
  description: >-
    Names with DKIM keys that are not among O(domains), such as a mail domain that was removed, or an earlier name of
    the host. Their DNS records may be withdrawn.
  returned: always
  type: list
  elements: str
  sample: [old.example]
spki:
  description: >-
    SHA-256 of each certificate's public key in hexadecimal digits, for TLSA 3 1 1 (RFC 7671).
  returned: always
  type: list
  elements: str
"""

import base64
import hashlib
import ipaddress
import os
import re
import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.port587.mail.plugins.module_utils._dns import dkim
from ansible_collections.port587.mail.plugins.module_utils._server.preflight_net import source_addresses
from ansible_collections.port587.mail.plugins.module_utils._transaction.commands import run_command
from ansible_collections.port587.mail.plugins.module_utils._transaction.files import read_file


def public_addresses() -> t.List[str]:
    return [address for address in source_addresses() if ipaddress.ip_address(address).is_global]


def dkim_records(module: AnsibleModule, directory: str, domains: t.Sequence[str]) -> t.Dict[str, str]:
    records = {}
    for file in sorted(os.listdir(directory)) if os.path.isdir(directory) else ():
        # one domain's name can be the end of another's
        for domain in sorted((one.lower() for one in domains), key=len, reverse=True):
            found = re.match(r"%s\.([a-z0-9.-]+)\.key\Z" % re.escape(domain), file)
            if not found:
                continue
            try:
                key = dkim.public_key(read_file(os.path.join(directory, file)) or b"")
            except ValueError as error:
                module.warn("%s is left out: %s" % (os.path.join(directory, file), error))
                break
            records["%s._domainkey.%s" % (found.group(1), domain)] = key.record()
            break
    return records


def former(directory: str, domains: t.Sequence[str]) -> t.List[str]:
    """The names in the directory's file names, without ``domains``."""
    found = set()
    for file in os.listdir(directory) if os.path.isdir(directory) else ():
        # a selector may have dots, too, so one of the domains has precedence
        if not any(file.startswith(domain.lower() + ".") for domain in domains):
            found.update(re.findall(r"\A(.+)\.[^.]+\.key\Z", file))
    return sorted(found)


def spki(path: str) -> str:
    _code, out, _err = run_command(["openssl", "x509", "-noout", "-pubkey"], read_file(path) or b"")
    found = re.search("-----BEGIN PUBLIC KEY-----(.*?)-----END PUBLIC KEY-----", out, re.DOTALL)
    return hashlib.sha256(base64.b64decode("".join(found.group(1).split()))).hexdigest() if found else ""


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "domains": {"type": "list", "elements": "str", "required": True},
            "dkim_directory": {"type": "path", "default": "/var/lib/rspamd/dkim"},
            "certificates": {
                "type": "list",
                "elements": "path",
                "default": ["/etc/port587/tls/fullchain.pem", "/etc/port587/tls/rsa.pem"],
            },
        },
        supports_check_mode=True,
    )
    module.exit_json(
        addresses=public_addresses(),
        dkim=dkim_records(module, module.params["dkim_directory"], module.params["domains"]),
        former=former(module.params["dkim_directory"], module.params["domains"]),
        # only one of two files with the same key
        spki=list(dict.fromkeys(filter(None, map(spki, module.params["certificates"])))),
    )


if __name__ == "__main__":
    main()
