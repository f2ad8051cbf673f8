# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Runs on the server: Python 3.6 and the standard library only.

"""The sources of certificates: the server's own CA, the user's files, or an ACME authority."""

import datetime
import typing as t

from ansible_collections.port587.mail.plugins.module_utils._certificate import acme as authorities
from ansible_collections.port587.mail.plugins.module_utils._certificate import authority, orders
from ansible_collections.port587.mail.plugins.module_utils._certificate.authority import Authority, Plan, Wanted
from ansible_collections.port587.mail.plugins.module_utils._certificate.certbot import update_email
from ansible_collections.port587.mail.plugins.module_utils._certificate.certificate import (
    CertificateError,
    Facts,
    OpensslMissing,
    Pair,
    belongs_to,
    certificates,
    describe,
    facts,
    private_key,
    trouble,
    usable,
    verifies,
)
from ansible_collections.port587.mail.plugins.module_utils._certificate.challenge import not_ready
from ansible_collections.port587.mail.plugins.module_utils._certificate.request import (
    Params,
    acme_settings,
    other_labels,
    sni_names,
)
from ansible_collections.port587.mail.plugins.module_utils._certificate.served import (
    COMBINED,
    RSA,
    other_path,
    read,
    served_instead,
)

CA = authority.DIRECTORY + "/ca.pem"
CA_KEY = authority.DIRECTORY + "/ca.key"

#: Placeholder for certificates that check mode does not make.
TO_BE_MADE = "(made when this is not check mode)\n"


class Other(t.NamedTuple):
    """A certificate other than the mail host's: for a name with its own (SNI), or the one with an RSA key."""

    label: str
    key: str
    chain: t.List[str]
    #: for the diff
    words: str


class Outcome(t.NamedTuple):
    """The wanted contents of the files, and the data to report."""

    key: str
    chain: t.List[str]
    authority: t.Optional[Authority]
    #: as far as known beforehand, so that check mode shows the same
    planned: t.List[Facts]
    reason: str = ""
    replaced: str = ""
    #: signed by this server's own CA
    own: bool = False
    #: description of a certificate from another source
    words: str = ""
    others: t.Sequence[Other] = ()
    #: names that were left out, and why
    missing: t.Mapping[str, str] = {}
    #: why the authority did not get the new contact address
    email_error: str = ""

    def instead(self, label: str) -> Other:
        """The mail host's certificate, in place of a missing one."""
        return Other(label, self.key, self.chain, self.words or describe(self.planned, with_key=True))


def kept_authority() -> t.Optional[Authority]:
    """Keep an existing CA unchanged."""
    there = Authority(read(CA), read(CA_KEY))
    return there if all(there) else None


# -- the server's own CA ------------------------------------------------------------------------------------------


class _Signing(t.NamedTuple):
    """The certificates that the CA must sign, and why."""

    wanted: Wanted
    plan: Plan
    #: label -> the wanted certificate, and why a new one is made
    others: t.Dict[str, t.Tuple[Wanted, str]]


#: The valid certificates of the CA: the mail host's by an empty label.
_Present = t.Dict[str, t.Optional[Pair]]


def selfsigned(params: Params, names: t.List[str], check_mode: bool) -> Outcome:
    now = authorities.now()
    there = Authority(read(CA), read(CA_KEY))
    trusted = usable(there.certificate + there.key)
    present = {"": _signed_by(trusted, COMBINED)}
    present.update((label, _signed_by(trusted, other_path(label))) for label in other_labels(params))
    missing = authority.vouched_for(names + sni_names(params), trusted and trusted.facts)[1]
    signing = _plan(params, names, missing, trusted, present, now)
    if signing.plan.new_authority and missing:
        # the new CA signs for these, too
        missing = {}
        signing = _plan(params, names, missing, trusted, present, now)
    plan = signing.plan
    signer = there
    if plan.new_authority:
        new = (
            Authority(TO_BE_MADE, TO_BE_MADE)
            if check_mode
            else authority.make_authority(signing.wanted, plan.authority)
        )
        signer = new

    def made(wanted: Wanted, to_be: Facts, why: str, found: t.Optional[Pair]) -> t.Tuple[str, str]:
        if found and not why:
            return found.chain[0], found.key
        return (TO_BE_MADE, TO_BE_MADE) if check_mode else authority.make_certificate(wanted, to_be, signer)

    certificate, key = made(signing.wanted, plan.certificate, plan.new_certificate, present[""])
    reasons = (("CA", plan.new_authority), ("certificate", plan.new_certificate))
    outcome = Outcome(
        key=key,
        # the chain includes the CA, so that a client that doesn't trust it yet can show it to the user
        chain=[certificate, signer.certificate],
        authority=signer,
        planned=[plan.certificate, plan.authority],
        reason="; ".join("new %s: %s" % (what, why) for what, why in reasons if why),
        replaced=plan.new_authority if any(there) else "",
        own=True,
        missing=missing,
    )
    others = {}
    for label, (one, why) in signing.others.items():
        found, why = present[label], why or plan.new_authority
        to_be = found.facts if found and not why else authority.certificate_to_be(one, now, plan.authority)
        certificate, key = made(one, to_be, why, found)
        words = describe([to_be, plan.authority], with_key=True)
        others[label] = Other(label, key, [certificate, signer.certificate], words)
    return outcome._replace(others=[others.get(label) or outcome.instead(label) for label in other_labels(params)])


def _signed_by(trusted: t.Optional[Pair], path: str) -> t.Optional[Pair]:
    """The certificate in the file, if this CA has signed it and it is valid."""
    found = usable(read(path))
    return found if found and trusted and verifies(found.chain[0], trusted.chain[0]) else None


def _plan(
    params: Params,
    names: t.List[str],
    missing: t.Container[str],
    trusted: t.Optional[Pair],
    present: _Present,
    now: datetime.datetime,
) -> _Signing:
    of_host, sni = ([name for name in some if name not in missing] for some in (names, sni_names(params)))
    # an old client must be able to check the CA's signature
    authority_key_type = "rsa" if params["rsa_too"] else params["key_type"]
    wanted = Wanted(of_host, params["key_type"], params["days"], sni, authority_key_type)
    others = {}
    for label, one in other_certificates(params, wanted).items():
        found = present[label]
        others[label] = one, authority.why_new_certificate(one, now, found and found.facts)
    of_all = present[""]
    signs_others = any(why for _wanted, why in others.values())
    plan = authority.plan(wanted, now, trusted and trusted.facts, of_all and of_all.facts, signs_others)
    return _Signing(wanted, plan, others)


def other_certificates(params: Params, wanted: Wanted) -> t.Dict[str, Wanted]:
    """The wanted contents of the CA's other certificates."""
    found = {name: wanted._replace(names=[name]) for name in wanted.others}
    if params["rsa_too"]:
        found[RSA] = wanted._replace(key_type="rsa")
    return found


# -- the user's files ---------------------------------------------------------------------------------------------


def files(params: Params, names: t.List[str], check_mode: bool) -> Outcome:
    key, chain, planned = _handed_in(params["chain"], params["key"], names, "", check_mode)
    others = []
    for name in sni_names(params):
        pems = [str(params[which].get(name, "")) for which in ("sni_chains", "sni_keys")]
        its_key, its_chain, its_facts = _handed_in(pems[0], pems[1], [name], "sni: %s: " % name, check_mode)
        others.append(Other(name, its_key, its_chain, describe(its_facts, with_key=True)))
    return Outcome(key, chain, kept_authority(), planned, others=others)


def _handed_in(
    chain_pem: str, key_pem: str, names: t.List[str], where: str, check_mode: bool
) -> t.Tuple[str, t.List[str], t.List[Facts]]:
    """(key, chain, facts of the chain). ``where`` begins the messages about unusable files."""
    chain, key = certificates(chain_pem), private_key(key_pem)
    if not chain:
        raise CertificateError("%schain: holds no certificate in PEM" % where)
    if key is None:
        raise CertificateError("%skey: holds no private key in PEM" % where)
    try:
        planned = [facts(one) for one in chain]
        if not belongs_to(key, planned[0]):
            raise CertificateError(
                "%skey: does not belong to chain, which begins with %s" % (where, planned[0].subject)
            )
        wrong = trouble(planned[0], names, datetime.datetime.now(datetime.timezone.utc))
        if wrong:
            raise CertificateError("%schain: can't use %s: %s" % (where, planned[0].subject, wrong))
    except OpensslMissing:
        if not check_mode:
            raise
        planned = []
    return key, chain, planned


# -- an ACME authority --------------------------------------------------------------------------------------------


def acme(params: Params, names: t.List[str], check_mode: bool) -> t.Tuple[Outcome, authorities.Report]:
    """The authority's certificate; else the one that is served already; else one of the server's own CA."""
    outcome, report = _acme_of_host(params, names, check_mode)
    settings = acme_settings(params, names)
    lacking = {} if check_mode else orders.order_others(settings)
    email_error = "" if check_mode else update_email(settings)
    others = []
    for one in authorities.others(settings):
        present = authorities.obtained(one)
        if check_mode:
            why_not = not_ready(one)
            wished = orders.names_to_order(one, present)[0]
            if why_not:
                lacking[authorities.called(one)] = why_not
            elif authorities.why_order(wished, present):
                words = authorities.describe(one, wished)
                others.append(Other(one.certificate, TO_BE_MADE, [TO_BE_MADE], words))
                continue
        others.append(_acme_other(one, present, outcome))
    return outcome._replace(others=others, missing=lacking, email_error=email_error), report


def _acme_other(one: authorities.Settings, present: t.Optional[Pair], outcome: Outcome) -> Other:
    """Another certificate, or its substitute."""
    label = one.certificate
    found = present or served_instead(label, one.names[0], authorities.now())
    if found:
        words = describe([facts(link) for link in found.chain], with_key=True)
        return Other(label, found.key, found.chain, words)
    return next((other for other in outcome.others if other.label == label), outcome.instead(label))


def _acme_of_host(params: Params, names: t.List[str], check_mode: bool) -> t.Tuple[Outcome, authorities.Report]:
    settings = acme_settings(params, names)
    present = authorities.obtained(settings)
    wished, missing = orders.names_to_order(settings, present)
    reason = authorities.why_order(wished, present)
    if check_mode and reason:
        words = authorities.describe(settings, wished)
        outcome = Outcome(TO_BE_MADE, [TO_BE_MADE], kept_authority(), [], reason, words=words)
        return outcome, authorities.Report("", missing)
    report = authorities.Report("", missing) if check_mode else orders.order_if_due(settings)
    pair = authorities.obtained(settings)
    if pair:
        words = authorities.describe(settings, pair.facts.names) if pair != present else ""
        planned = [facts(one) for one in pair.chain]
        return Outcome(pair.key, pair.chain, kept_authority(), planned, reason, words=words), report
    served = usable(read(COMBINED))
    own = certificates(read(CA))
    own_served = served and own and verifies(served.chain[0], own[0])
    if served and not own_served and not trouble(served.facts, names[:1], authorities.now()):
        planned = [facts(one) for one in served.chain]
        return Outcome(served.key, served.chain, kept_authority(), planned), report
    return selfsigned(params, names, check_mode), report
