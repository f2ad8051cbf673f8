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
    chain alone.
  - The certificate either comes from a small certificate authority (CA) of the server's own, or is handed in.
  - The CA lies in C(/etc/port587/ca). It signs server certificates for the domains around the certificate's names, and
    nothing else. Its key never leaves the server. It stays where it is when O(source) changes, so that a way back keeps
    its clients.
  - A certificate of that CA is replaced when O(hostname), O(names), O(key_type) or O(days) change, when less than
    30 days are left, and when it isn't valid any more. The CA is replaced only when it can't sign what is wanted.
  - Postfix and Dovecot are reloaded where they run with this collection's configuration. Unless they then serve the new
    certificate, everything is put back as it was.
options:
  source:
    description: V(selfsigned) for a certificate of the server's own CA, V(files) for the one in O(chain) and O(key).
    type: str
    choices: [selfsigned, files]
    default: selfsigned
  hostname:
    description: The name by which clients reach the server.
    type: str
    required: true
  names:
    description: Further names that the certificate has to be good for.
    type: list
    elements: str
    default: []
  key_type:
    description: V(ecdsa) for P-256, V(rsa) for 2048 bit. Only for O(source=selfsigned).
    type: str
    choices: [ecdsa, rsa]
    default: ecdsa
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
attributes:
  check_mode:
    description: Can run in check mode and return changed status prediction without modifying target.
    support: full
    details: No key is made in check mode, so what only a new certificate has, such as its fingerprint, is not returned.
  diff_mode:
    description: Will return details on what has changed, or possibly needs changing in check mode.
    support: full
    details: Certificates are shown in words. Private keys are never shown.
requirements:
  - openssl, 1.1.1 or later, on the server
"""

EXAMPLES = r"""
- name: Have a certificate of the server's own CA
  port587.mail.certificate:
    hostname: mail.example.com
    names: [imap.example.com]
  register: certificate

- name: Save the CA, so that clients can be told to trust it
  ansible.builtin.copy:
    content: "{{ certificate.ca_pem }}"
    dest: mail.example.com-ca.pem
    mode: "0644"
  delegate_to: localhost
  become: false

- name: Install a certificate that was bought
  port587.mail.certificate:
    source: files
    hostname: mail.example.com
    chain: "{{ lookup('ansible.builtin.file', 'fullchain.pem') }}"
    key: "{{ lookup('ansible.builtin.file', 'privkey.pem') }}"
"""

RETURN = r"""
reason:
  description: Why a new certificate or CA is made; empty where none is.
  returned: O(source=selfsigned)
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
  returned: O(source=selfsigned)
  type: str
activated:
  description: What became of the daemons.
  returned: always
  type: dict
  sample: {"postfix": "reloaded", "dovecot": "reloaded"}
"""

import datetime
import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.port587.mail.plugins.module_utils import _certificate, _daemons, _transaction

TLS = "/etc/port587/tls"
COMBINED = TLS + "/combined.pem"
FULLCHAIN = TLS + "/fullchain.pem"
CA_DIRECTORY = "/etc/port587/ca"
CA = CA_DIRECTORY + "/ca.pem"
CA_KEY = CA_DIRECTORY + "/ca.key"

#: Stands for what check mode does not make.
TO_BE_MADE = "(made when this is not check mode)\n"


class Outcome(t.NamedTuple):
    """What the files have to hold, and what is to be said of it."""

    key: str
    chain: t.List[str]
    authority: t.Optional[_certificate.Authority]
    #: as far as it can be known beforehand, so that check mode shows the same
    planned: t.List[_certificate.Facts]
    reason: str = ""
    replaced: str = ""


def read(path: str) -> str:
    return (_transaction.read_file(path) or b"").decode("utf-8", "replace")


def selfsigned(params: t.Dict[str, t.Any], names: t.List[str], check_mode: bool) -> Outcome:
    now = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0)
    wanted = _certificate.Wanted(names, params["key_type"], params["days"])
    there = read(CA), read(CA_KEY)
    trusted = _certificate.usable(there[0] + there[1])
    served = _certificate.usable(read(COMBINED))
    if served and not (trusted and _certificate.verifies(served[0], trusted[0])):
        served = None
    plan = _certificate.plan(wanted, now, trusted and trusted[2], served and served[2])

    if check_mode and plan.new_certificate:
        authority = _certificate.Authority(*(2 * (TO_BE_MADE,) if plan.new_authority else there))
        certificate, key = TO_BE_MADE, TO_BE_MADE
    else:
        authority = _certificate.Authority(*there)
        if plan.new_authority:
            authority = _certificate.make_authority(wanted, plan.authority)
        if plan.new_certificate or served is None:
            certificate, key = _certificate.make_certificate(wanted, plan.certificate, authority)
        else:
            certificate, key = served[:2]
    return Outcome(
        key=key,
        # the CA's own goes with it: a client that doesn't trust it yet can show a person what to trust
        chain=[certificate, authority.certificate],
        authority=authority,
        planned=[plan.certificate, plan.authority],
        reason="; ".join(
            "new %s: %s" % (what, why)
            for what, why in (("CA", plan.new_authority), ("certificate", plan.new_certificate))
            if why
        ),
        replaced=plan.new_authority if any(there) else "",
    )


def files(params: t.Dict[str, t.Any], names: t.List[str], check_mode: bool) -> Outcome:
    chain = _certificate.certificates(params["chain"])
    key = _certificate.private_key(params["key"])
    if not chain:
        raise _certificate.CertificateError("chain: holds no certificate in PEM")
    if key is None:
        raise _certificate.CertificateError("key: holds no private key in PEM")
    try:
        planned = [_certificate.facts(one) for one in chain]
        if not _certificate.belongs_to(key, planned[0]):
            raise _certificate.CertificateError(
                "key: does not belong to chain, which begins with %s" % planned[0].subject
            )
        trouble = _certificate.trouble(planned[0], names, datetime.datetime.now(datetime.timezone.utc))
        if trouble:
            raise _certificate.CertificateError("chain: can't use %s: %s" % (planned[0].subject, trouble))
    except _certificate.OpensslMissing:
        if not check_mode:
            raise
        planned = []
    # a CA from before stays as it is
    there = read(CA), read(CA_KEY)
    return Outcome(key, chain, _certificate.Authority(*there) if all(there) else None, planned)


def transaction_files(outcome: Outcome) -> t.List[_transaction.File]:
    chain = "".join(outcome.chain)
    wanted = [
        _transaction.File(COMBINED, (outcome.key + chain).encode(), mode=0o600, secret=True),
        _transaction.File(FULLCHAIN, chain.encode()),
    ]
    if outcome.authority:
        wanted += [
            _transaction.File(CA, outcome.authority.certificate.encode()),
            _transaction.File(CA_KEY, outcome.authority.key.encode(), mode=0o600, secret=True),
        ]
    return wanted


def can_be_served(view: _transaction.View) -> t.List[_transaction.Problem]:
    """This server's OpenSSL may refuse what another takes: a signature or a key that its policy calls too weak."""
    trouble = _daemons.key_pair_trouble([COMBINED], view)
    return [_transaction.Problem(COMBINED, trouble)] if trouble else []


def in_words(path: str) -> str:
    """A file that is there, as its diff shows it."""
    pem = read(path)
    try:
        chain = [_certificate.facts(one) for one in _certificate.certificates(pem)]
        return _certificate.describe(chain, with_key=_certificate.private_key(pem) is not None)
    except _certificate.CertificateError:
        return "(no certificate)\n"


def checked_names(params: t.Dict[str, t.Any]) -> t.List[str]:
    names = []  # type: t.List[str]
    for name in [params["hostname"]] + params["names"]:
        wrong = _certificate.name_trouble(name, wildcard=bool(names))
        if wrong:
            raise _certificate.CertificateError("%s: %r: %s" % ("names" if names else "hostname", name, wrong))
        if name.lower() not in names:
            names.append(name.lower())
    return names


def make_it_so(params: t.Dict[str, t.Any], check_mode: bool) -> t.Tuple[Outcome, t.Dict[str, t.Any]]:
    """What was wanted, and the module's answer."""
    selfsigning = params["source"] == "selfsigned"
    if selfsigning and params["days"] < 60:
        raise _certificate.CertificateError(
            "days: %d: give at least 60, as a certificate is renewed 30 days before its end" % params["days"]
        )
    outcome = (selfsigned if selfsigning else files)(params, checked_names(params), check_mode)
    before = {path: in_words(path) for path in (COMBINED, CA)}
    after = {COMBINED: _certificate.describe(outcome.planned, with_key=True)}
    if selfsigning:
        after[CA] = _certificate.describe(outcome.planned[-1:])
    made = TO_BE_MADE not in outcome.chain
    result = _transaction.run(
        "certificates",
        transaction_files(outcome),
        directories=[_transaction.Directory(path) for path in [TLS] + ([CA_DIRECTORY] if outcome.authority else [])],
        # what is not made yet can't be tried
        activations=_daemons.running_activations() if made else [],
        validate=can_be_served if made else None,
        check_mode=check_mode,
    )

    diff = {entry["after_header"].split(" ")[0]: entry for entry in result.diff}
    if COMBINED in diff:
        # the same certificates once more
        diff.pop(FULLCHAIN, None)
    for path in set(diff) & set(after):
        diff[path].update(before=before[path], after=after[path])
    answer = {
        "changed": result.changed,
        "diff": list(diff.values()),
        "activated": result.activated,
    }  # type: t.Dict[str, t.Any]
    if outcome.planned:
        one = _certificate.facts(outcome.chain[0]) if made else outcome.planned[0]
        answer.update(subject=one.subject, names=list(one.names), issuer=one.issuer)
        answer.update(not_after=one.not_after.strftime("%Y-%m-%dT%H:%M:%SZ"))
        if made:
            answer.update(serial=one.serial, fingerprint=one.fingerprint)
    if selfsigning:
        answer.update(ca_pem=outcome.chain[-1], reason=outcome.reason)
    return outcome, answer


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "source": {"type": "str", "choices": ["selfsigned", "files"], "default": "selfsigned"},
            "hostname": {"type": "str", "required": True},
            "names": {"type": "list", "elements": "str", "default": []},
            "key_type": {"type": "str", "choices": ["ecdsa", "rsa"], "default": "ecdsa", "no_log": False},
            "days": {"type": "int", "default": 825},
            "chain": {"type": "str"},
            "key": {"type": "str", "no_log": True},
        },
        required_if=[("source", "files", ("chain", "key"))],
        supports_check_mode=True,
    )
    try:
        outcome, answer = make_it_so(module.params, module.check_mode)
    except _certificate.CertificateError as error:
        module.fail_json(msg=str(error))
    except _transaction.TransactionError as error:
        module.fail_json(msg=error.message, **error.details)
    if outcome.replaced:
        module.warn(
            "The certificate authority (CA) of this server is replaced: %s. "
            "Clients that trust the old one have to import the new one." % outcome.replaced
        )
    module.exit_json(**answer)


if __name__ == "__main__":
    main()
