# Copyright (c) The port587.mail contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleFilterError
from ansible_collections.port587.mail.plugins.module_utils._dns import records

DOCUMENTATION = r"""
name: dns_records
short_description: Compute the DNS records of a mail server
version_added: 1.0.0
author: The port587.mail contributors (@port587)
description:
  - Computes the records to publish from a description of the site. Sends no DNS queries.
  - "A and AAAA of the host; for each domain MX, SPF (RFC 7208), DMARC (RFC 7489), SRV for mail clients (RFC 6186, RFC
    8314), names of autoconfig pages, MTA-STS (RFC 8461) and TLS reports (RFC 8460); DKIM keys (RFC 6376, RFC 8463),
    TLSA (RFC 7672), CAA (RFC 8659), and PTR for the provider to set."
options:
  _input:
    description: The site.
    type: dict
    required: true
    suboptions:
      hostname:
        description: The mail server's name.
        type: str
        required: true
      domains:
        description: The mail domains.
        type: list
        elements: str
        required: true
      addresses:
        description: The mail server's public IP addresses.
        type: list
        elements: str
        required: true
      spf:
        description: >-
          The SPF record of all domains, or a dictionary of records by domain; other domains get C(v=spf1 mx -all).
        type: raw
        required: true
      dmarc:
        description: The DMARC record of all domains.
        type: str
        required: true
      reports:
        description: >-
          The mail address for reports about the domains' mail (DMARC, unless C(dmarc) has C(rua), and TLS). Without
          one, reports about TLS go to the postmaster of each domain.
        type: str
      dkim:
        description: TXT records of the DKIM keys, by record name, as M(port587.mail.dns_info) returns them.
        type: dict
      sni:
        description: >-
          Names of the host with certificates of their own. The records for mail clients of a domain point to the name
          in that domain.
        type: list
        elements: str
      spki:
        description: SHA-256 of each public key in hexadecimal digits. Without a key, there is no TLSA record.
        type: list
        elements: str
      caa:
        description: The certificate authority, such as C(letsencrypt.org). Without it, there is no CAA record.
        type: str
      pop3:
        description: Whether the server offers POP3.
        type: bool
      autoconfig:
        description: Whether the server publishes settings for mail clients (role autoconfig).
        type: bool
      mta_sts:
        description: The mode of the MTA-STS policy, V(enforce), V(testing) or V(none).
        type: str
      ttl:
        description: Seconds for which resolvers may cache a record.
        type: int
        default: 3600
"""

EXAMPLES = r"""
- name: Show the records to publish
  ansible.builtin.debug:
    msg: "{{ site | port587.mail.dns_records | port587.mail.dns_text }}"
  vars:
    site:
      hostname: mail.example.com
      domains: [example.com]
      addresses: [192.0.2.7]
      spf: v=spf1 mx -all
      dmarc: v=DMARC1; p=quarantine
"""

RETURN = r"""
_value:
  description: >-
    The records. Each has C(zone) (empty for PTR, which the provider of the server sets), C(name) without the dot at the
    end, C(type), C(value) as in a zone file (TXT in one piece and without quotes), C(ttl), and C(purpose) as a text.
  type: list
  elements: dict
"""


def dns_records(site: t.Any) -> list[dict[str, t.Any]]:
    if not isinstance(site, dict):
        raise AnsibleFilterError(f"dns_records needs a dictionary, not {type(site).__name__}")
    try:
        return records.records(site)
    except (KeyError, ValueError) as error:
        raise AnsibleFilterError(f"dns_records: {error}") from error


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"dns_records": dns_records}
