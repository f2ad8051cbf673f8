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
  acme_secret:
    description: The key (TSIG) that the name server knows, in base64.
    type: str
  acme_hook:
    description:
      - A program, its text. It is run as root with the argument V(auth) or V(cleanup) for each name, with the name in
        C(CERTBOT_DOMAIN) and the text of the TXT record of C(_acme-challenge.NAME) in C(CERTBOT_VALIDATION).
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
  - certbot on the server for O(source=acme), and its plugin dns-rfc2136 for V(nsupdate)
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

import datetime
import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.port587.mail.plugins.module_utils._certificate import acme as acme_client
from ansible_collections.port587.mail.plugins.module_utils._certificate import certificate as certificates
from ansible_collections.port587.mail.plugins.module_utils._certificate.certificate import COMBINED, FULLCHAIN, TLS
from ansible_collections.port587.mail.plugins.module_utils._daemons import daemons
from ansible_collections.port587.mail.plugins.module_utils._transaction import change as transaction
from ansible_collections.port587.mail.plugins.module_utils._transaction.journal import remembered_proofs

CA_DIRECTORY = certificates.AUTHORITY_DIRECTORY
CA = CA_DIRECTORY + "/ca.pem"
CA_KEY = CA_DIRECTORY + "/ca.key"

#: Stands for what check mode does not make.
TO_BE_MADE = "(made when this is not check mode)\n"


class Other(t.NamedTuple):
    """A certificate besides that of all: of a name with one of its own (SNI), or the one with an RSA key."""

    label: str
    key: str
    chain: t.List[str]
    #: for the diff
    words: str


class Outcome(t.NamedTuple):
    """What the files have to hold, and what is to be said of it."""

    key: str
    chain: t.List[str]
    authority: t.Optional[certificates.Authority]
    #: as far as it can be known beforehand, so that check mode shows the same
    planned: t.List[certificates.Facts]
    reason: str = ""
    replaced: str = ""
    #: signed by this server's own CA
    own: bool = False
    #: a certificate that comes from somewhere else, in words
    words: str = ""
    others: t.Sequence[Other] = ()
    #: names that were left out, and why
    missing: t.Mapping[str, str] = {}
    #: why the authority does not know the address to write to
    untold: str = ""

    def instead(self, label: str) -> Other:
        """The mail host's certificate, where that one can't be had."""
        return Other(label, self.key, self.chain, self.words or certificates.describe(self.planned, with_key=True))


def read(path: str) -> str:
    return (transaction.read_file(path) or b"").decode("utf-8", "replace")


def apart(params: t.Dict[str, t.Any], everything: certificates.Wanted) -> t.Dict[str, certificates.Wanted]:
    """What the other certificates of the server's own CA have to be."""
    found = {name: everything._replace(names=[name]) for name in everything.others}
    if params["rsa_too"]:
        found[certificates.RSA] = everything._replace(key_type="rsa")
    return found


def selfsigned(params: t.Dict[str, t.Any], names: t.List[str], check_mode: bool) -> Outcome:
    now = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0)
    there = read(CA), read(CA_KEY)
    trusted = certificates.usable(there[0] + there[1])
    sni = sni_names(params)

    def wanted(missing: t.Mapping[str, str]) -> certificates.Wanted:
        of_one, others = ([name for name in some if name not in missing] for some in (names, sni))
        # an old client has to be able to check what the CA has signed
        of_authority = "rsa" if params["rsa_too"] else params["key_type"]
        return certificates.Wanted(of_one, params["key_type"], params["days"], others, of_authority)

    def served(path: str) -> t.Optional[t.Tuple[str, str, certificates.Facts]]:
        found = certificates.usable(read(path))
        return found if found and trusted and certificates.verifies(found[0], trusted[0]) else None

    present = served(COMBINED)
    present_of = {label: served(certificates.other_path(label)) for label in other_labels(params)}
    missing = certificates.vouched_for(names + sni, trusted and trusted[2])[1]
    new = {}  # type: t.Dict[str, str]

    def planned_for(everything: certificates.Wanted) -> certificates.Plan:
        new.clear()
        for label, one in apart(params, everything).items():
            found = present_of[label]
            new[label] = certificates.why_new_certificate(one, now, found and found[2])
        return certificates.plan(
            everything, now, trusted and trusted[2], present and present[2], signs_others=any(new.values())
        )

    plan = planned_for(wanted(missing))
    if plan.new_authority and missing:
        # since there is a new one anyway
        missing = {}
        plan = planned_for(wanted(missing))
    everything = wanted(missing)

    authority = certificates.Authority(*there)
    if plan.new_authority and check_mode:
        authority = certificates.Authority(TO_BE_MADE, TO_BE_MADE)
    elif plan.new_authority:
        authority = certificates.make_authority(everything, plan.authority)

    def pair(
        one: certificates.Wanted,
        to_be: certificates.Facts,
        why: str,
        found: t.Optional[t.Tuple[str, str, certificates.Facts]],
    ) -> t.Tuple[str, str]:
        if found and not why:
            return found[:2]
        return (TO_BE_MADE, TO_BE_MADE) if check_mode else certificates.make_certificate(one, to_be, authority)

    certificate, key = pair(everything, plan.certificate, plan.new_certificate, present)
    outcome = Outcome(
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
        own=True,
        missing=missing,
    )
    made = {}
    for label, one in apart(params, everything).items():
        found = present_of[label]
        why = new[label] or plan.new_authority
        to_be = found[2] if found and not why else certificates.certificate_to_be(one, now, plan.authority)
        certificate, key = pair(one, to_be, why, found)
        words = certificates.describe([to_be, plan.authority], with_key=True)
        made[label] = Other(label, key, [certificate, authority.certificate], words)
    return outcome._replace(others=[made.get(label) or outcome.instead(label) for label in other_labels(params)])


def files(params: t.Dict[str, t.Any], names: t.List[str], check_mode: bool) -> Outcome:
    def handed_in(
        chain_pem: str, key_pem: str, names: t.List[str], where: str
    ) -> t.Tuple[str, t.List[str], t.List[certificates.Facts]]:
        chain, key = certificates.certificates(chain_pem), certificates.private_key(key_pem)
        if not chain:
            raise certificates.CertificateError("%schain: holds no certificate in PEM" % where)
        if key is None:
            raise certificates.CertificateError("%skey: holds no private key in PEM" % where)
        try:
            planned = [certificates.facts(one) for one in chain]
            if not certificates.belongs_to(key, planned[0]):
                raise certificates.CertificateError(
                    "%skey: does not belong to chain, which begins with %s" % (where, planned[0].subject)
                )
            trouble = certificates.trouble(planned[0], names, datetime.datetime.now(datetime.timezone.utc))
            if trouble:
                raise certificates.CertificateError("%schain: can't use %s: %s" % (where, planned[0].subject, trouble))
        except certificates.OpensslMissing:
            if not check_mode:
                raise
            planned = []
        return key, chain, planned

    key, chain, planned = handed_in(params["chain"], params["key"], names, "")
    sni = []
    for name in sni_names(params):
        pems = [str(params[which].get(name, "")) for which in ("sni_chains", "sni_keys")]
        key_of_one, chain_of_one, planned_of_one = handed_in(pems[0], pems[1], [name], "sni: %s: " % name)
        sni.append(Other(name, key_of_one, chain_of_one, certificates.describe(planned_of_one, with_key=True)))
    return Outcome(key, chain, kept_authority(), planned, others=sni)


def kept_authority() -> t.Optional[certificates.Authority]:
    """A CA from before stays as it is."""
    there = read(CA), read(CA_KEY)
    return certificates.Authority(*there) if all(there) else None


def acme(params: t.Dict[str, t.Any], names: t.List[str], check_mode: bool) -> t.Tuple[Outcome, acme_client.Report]:
    """What the authority gave; else what is served already; else a certificate of the server's own."""
    outcome, report = acme_of_host(params, names, check_mode)
    settings = acme_settings(params, names)
    lacking = {} if check_mode else acme_client.ask_for_others(settings)
    untold = "" if check_mode else acme_client.tell_email(settings)
    others = []
    for one in acme_client.others(settings):
        label = one.certificate
        pair = acme_client.obtained(one)
        if check_mode:
            why_not = acme_client.not_ready(one)
            wished = acme_client.to_ask_for(one, pair)[0]
            if why_not:
                lacking[acme_client.called(one)] = why_not
            elif acme_client.why_ask(wished, pair):
                others.append(Other(label, TO_BE_MADE, [TO_BE_MADE], acme_client.describe(one, wished)))
                continue
        stand_in = next((other for other in outcome.others if other.label == label), outcome.instead(label))
        found = pair or acme_client.other_served(one)
        if found:
            words = certificates.describe([certificates.facts(link) for link in found.chain], with_key=True)
            stand_in = Other(label, found.key, found.chain, words)
        others.append(stand_in)
    return outcome._replace(others=others, missing=lacking, untold=untold), report


def acme_of_host(
    params: t.Dict[str, t.Any], names: t.List[str], check_mode: bool
) -> t.Tuple[Outcome, acme_client.Report]:
    settings = acme_settings(params, names)
    present = acme_client.obtained(settings)
    wished, missing = acme_client.to_ask_for(settings, present)
    reason = acme_client.why_ask(wished, present)
    if check_mode and reason:
        words = acme_client.describe(settings, wished)
        return Outcome(TO_BE_MADE, [TO_BE_MADE], kept_authority(), [], reason, words=words), acme_client.Report(
            "", missing
        )
    report = acme_client.Report("", missing) if check_mode else acme_client.ask(settings)
    pair = acme_client.obtained(settings)
    if pair:
        words = acme_client.describe(settings, pair.facts.names) if pair != present else ""
        planned = [certificates.facts(one) for one in pair.chain]
        return Outcome(pair.key, pair.chain, kept_authority(), planned, reason, words=words), report
    served = certificates.usable(read(COMBINED))
    own = certificates.certificates(read(CA))
    own_served = served and own and certificates.verifies(served[0], own[0])
    if served and not own_served and not certificates.trouble(served[2], names[:1], acme_client.now()):
        chain = certificates.certificates(read(COMBINED))
        return Outcome(served[1], chain, kept_authority(), [certificates.facts(one) for one in chain]), report
    return selfsigned(params, names, check_mode), report


def acme_settings(params: t.Dict[str, t.Any], names: t.List[str]) -> acme_client.Settings:
    given = params["acme"]
    return acme_client.Settings(
        names=names,
        key_type=params["key_type"],
        directory=acme_client.DIRECTORIES.get(given["directory"], given["directory"]),
        email=given["email"],
        challenge=given["challenge"],
        own_ca=bool(given["ca"]),
        wait=given["nsupdate"]["wait"] if given["challenge"] == "nsupdate" else 0,
        sni=sni_names(params),
        rsa_too=params["rsa_too"],
    )


def acme_tools(params: t.Dict[str, t.Any], names: t.List[str]) -> t.List[transaction.File]:
    """What the server needs to get the certificate, now and later."""
    given = params["acme"]
    nsupdate = ""
    if given["challenge"] == "nsupdate":
        options = dict(given["nsupdate"], secret=params["acme_secret"])
        nsupdate = "".join(
            "dns_rfc2136_%s = %s\n" % (certbots, options[ours])
            for certbots, ours in (
                ("server", "server"),
                ("port", "port"),
                ("name", "key_name"),
                ("secret", "secret"),
                ("algorithm", "key_algorithm"),
            )
        )
    hook = params["acme_hook"] if given["challenge"] == "hook" else ""
    return acme_client.tools(acme_settings(params, names), given["ca"] or "", nsupdate, hook or "")


def transaction_files(outcome: Outcome) -> t.List[transaction.File]:
    wanted = certificates.served_files(outcome.key, outcome.chain)
    wanted += [certificates.other_file(other.label, other.key, other.chain) for other in outcome.others]
    if outcome.authority:
        wanted += [
            transaction.File(CA, outcome.authority.certificate.encode()),
            transaction.File(CA_KEY, outcome.authority.key.encode(), mode=0o600, secret=True),
        ]
    return wanted


def used(wanted: t.List[transaction.File]) -> t.List[transaction.File]:
    """What is not wanted any more, and named by a daemon that a play has not configured anew yet."""
    proofs = [proof for one in remembered_proofs().values() for proof in one.get("proofs", [])]
    paths = {str(proof["certificate"]) for proof in proofs if proof.get("certificate")}
    paths -= {file.path for file in wanted}
    return [
        transaction.File(path, transaction.read_file(path) or b"", mode=0o600, secret=True)
        for path in sorted(paths)
        if path.startswith(TLS + "/")
    ]


def in_words(path: str) -> str:
    """A file that is there, as its diff shows it."""
    pem = read(path)
    try:
        chain = [certificates.facts(one) for one in certificates.certificates(pem)]
        return certificates.describe(chain, with_key=certificates.private_key(pem) is not None)
    except certificates.CertificateError:
        return "(no certificate)\n"


def checked(params: t.Dict[str, t.Any]) -> t.List[str]:
    """The names of the mail host's certificate, if all that was given makes sense."""
    if params["source"] == "selfsigned" and params["days"] < 60:
        raise certificates.CertificateError(
            "days: %d: give at least 60, as a certificate is renewed 30 days before its end" % params["days"]
        )
    if params["source"] == "files" and params["rsa_too"]:
        raise certificates.CertificateError("rsa_too: source files has one certificate, of the kind that you bring")
    names = []  # type: t.List[str]
    for name in [params["hostname"]] + params["names"]:
        wrong = certificates.name_trouble(name, wildcard=bool(names))
        if wrong:
            raise certificates.CertificateError("%s: %r: %s" % ("names" if names else "hostname", name, wrong))
        if name.lower() not in names:
            names.append(name.lower())
    taken = names[:1]
    for name in sni_names(params):
        wrong = certificates.name_trouble(name) or ("it has a certificate already" if name in taken else None)
        if wrong:
            raise certificates.CertificateError("sni: %r: %s" % (name, wrong))
        taken.append(name)
    return names


def sni_names(params: t.Dict[str, t.Any]) -> t.List[str]:
    return [str(name).lower() for name in params["sni"]]


def other_labels(params: t.Dict[str, t.Any]) -> t.List[str]:
    return ([certificates.RSA] if params["rsa_too"] else []) + sni_names(params)


class Answer(t.NamedTuple):
    """Results of transactions as a module's."""

    changed: bool
    diff: t.Dict[str, t.Dict[str, str]]
    activated: t.Dict[str, str]

    def and_then(self, result: transaction.Result) -> "Answer":
        diff = dict(self.diff)
        diff.update((entry["after_header"].split(" ")[0], entry) for entry in result.diff)
        # files first, then directories, however many transactions it were
        in_order = sorted(diff.items(), key=lambda pair: pair[1]["after"].startswith("directory "))
        return Answer(self.changed or result.changed, dict(in_order), dict(self.activated, **result.activated))


def make_it_so(
    params: t.Dict[str, t.Any], check_mode: bool
) -> t.Tuple[Outcome, acme_client.Report, t.Dict[str, t.Any]]:
    """What was wanted, what the authority said, and the module's answer."""
    names = checked(params)
    shown = [COMBINED, CA] + [certificates.other_path(label) for label in other_labels(params)]
    before = {path: in_words(path) for path in shown}
    total = Answer(False, {}, {})
    report = acme_client.Report("", {})
    tools = []  # type: t.List[transaction.File]
    if params["source"] == "acme":
        tools = acme_tools(params, names)
        total = total.and_then(
            transaction.run(
                "certificates",
                tools,
                directories=[
                    transaction.Directory(path) for path in (acme_client.SETTINGS_DIRECTORY, acme_client.WEBROOT)
                ],
                activations=[transaction.Activation(daemons.RenewalTimer(), remember=False)],
                check_mode=check_mode,
                keep_others=True,
            )
        )
        outcome, report = acme(params, names, check_mode)
    else:
        outcome = (selfsigned if params["source"] == "selfsigned" else files)(params, names, check_mode)
    after = {COMBINED: outcome.words or certificates.describe(outcome.planned, with_key=True)}
    after.update((certificates.other_path(other.label), other.words) for other in outcome.others)
    if outcome.own:
        after[CA] = certificates.describe(outcome.planned[-1:])
    made = not any(TO_BE_MADE in chain for chain in [outcome.chain] + [other.chain for other in outcome.others])
    wanted = tools + transaction_files(outcome)
    kept = used(wanted) if params["keep_used"] else []
    total = total.and_then(
        transaction.run(
            "certificates",
            wanted + kept,
            directories=[transaction.Directory(path) for path in [TLS] + ([CA_DIRECTORY] if outcome.authority else [])],
            # what is not made yet can't be tried
            activations=daemons.serving_activations() if made else [],
            validate=certificates.can_be_served if made else None,
            check_mode=check_mode,
        )
    )
    if params["source"] == "acme" and not check_mode:
        settings = acme_settings(params, names)
        stand_in = acme_client.obtained(settings) is None
        words = {"error": report.error, "missing": report.missing, "lacking": dict(outcome.missing)}
        acme_client.note(settings, stand_in=stand_in, not_installed="", **words)
    elif not check_mode:
        acme_client.retire()

    if COMBINED in total.diff:
        # the same certificates once more
        total.diff.pop(FULLCHAIN, None)
    for path in set(total.diff) & set(after):
        total.diff[path].update(before=before[path], after=after[path])
    answer = {
        "changed": total.changed,
        "diff": list(total.diff.values()),
        "activated": total.activated,
        "reason": outcome.reason,
        "missing": dict(report.missing, **outcome.missing),
        "kept": [file.path for file in kept],
    }  # type: t.Dict[str, t.Any]
    if outcome.planned:
        exists = TO_BE_MADE not in outcome.chain
        one = certificates.facts(outcome.chain[0]) if exists else outcome.planned[0]
        answer.update(subject=one.subject, names=list(one.names), issuer=one.issuer)
        answer.update(not_after=one.not_after.strftime("%Y-%m-%dT%H:%M:%SZ"))
        if exists:
            answer.update(serial=one.serial, fingerprint=one.fingerprint)
    if outcome.own:
        answer.update(ca_pem=outcome.chain[-1])
    if params["source"] == "acme":
        answer.update(stand_in=not outcome.words and acme_client.obtained(acme_settings(params, names)) is None)
        answer.update(error=report.error)
    return outcome, report, answer


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
            # apart from the rest, so that they are left out whole of what is logged
            "acme_secret": {"type": "str", "no_log": True},
            "acme_hook": {"type": "str", "no_log": True},
        },
        required_if=[("source", "files", ("chain", "key")), ("source", "acme", ("acme",))],
        supports_check_mode=True,
    )
    try:
        outcome, report, answer = make_it_so(module.params, module.check_mode)
    except certificates.CertificateError as error:
        module.fail_json(msg=str(error))
    except transaction.TransactionError as error:
        module.fail_json(msg=error.message, **error.details)
    if outcome.replaced:
        module.warn(
            "The certificate authority (CA) of this server is replaced: %s. "
            "Clients that trust the old one have to import the new one." % outcome.replaced
        )
    if answer.get("stand_in"):
        module.warn(
            "There is no certificate of %s yet, and another one stands in, which mail clients may not trust. "
            "The server tries again every hour, and so does the next run. %s"
            % (module.params["acme"]["directory"], report.error)
        )
    elif report.error:
        module.warn("The certificate was not renewed, and the present one is served on: %s" % report.error)
    for name, why in () if answer.get("stand_in") else sorted(report.missing.items()):
        module.warn("The certificate lacks %s: %s. The server goes on trying." % (name, why))
    if outcome.untold:
        module.warn("The authority was not told to write to another address than before: %s" % outcome.untold)
    for name, why in sorted(outcome.missing.items()):
        module.warn("There is no certificate for %s: %s." % (name, why))
    module.exit_json(**answer)


if __name__ == "__main__":
    main()
