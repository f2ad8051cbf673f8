# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Runs on the server: Python 3.6 and the standard library only.

"""The server side of port587.mail.certificate: get the certificates, install them, and report the result."""

import typing as t

from ansible_collections.port587.mail.plugins.module_utils._certificate import acme, orders, renewal
from ansible_collections.port587.mail.plugins.module_utils._certificate import authority as own_authority
from ansible_collections.port587.mail.plugins.module_utils._certificate.acme import Report
from ansible_collections.port587.mail.plugins.module_utils._certificate.certificate import (
    CertificateError,
    certificates,
    describe,
    facts,
    private_key,
)
from ansible_collections.port587.mail.plugins.module_utils._certificate.issue import (
    CA,
    CA_KEY,
    TO_BE_MADE,
    Outcome,
    selfsigned,
)
from ansible_collections.port587.mail.plugins.module_utils._certificate.issue import acme as from_acme
from ansible_collections.port587.mail.plugins.module_utils._certificate.issue import files as from_files
from ansible_collections.port587.mail.plugins.module_utils._certificate.request import (
    Params,
    acme_settings,
    acme_tools,
    checked,
    other_labels,
)
from ansible_collections.port587.mail.plugins.module_utils._certificate.served import (
    COMBINED,
    FULLCHAIN,
    can_be_served,
    other_file,
    other_path,
    read,
    served_files,
    used_by_daemons,
)
from ansible_collections.port587.mail.plugins.module_utils._daemons import kinds
from ansible_collections.port587.mail.plugins.module_utils._server.paths import TLS
from ansible_collections.port587.mail.plugins.module_utils._transaction.change import Result, run
from ansible_collections.port587.mail.plugins.module_utils._transaction.daemon import Activation
from ansible_collections.port587.mail.plugins.module_utils._transaction.tree import Directory, File


class Applied(t.NamedTuple):
    """The combined results of several transactions."""

    changed: bool = False
    diff: t.Mapping[str, t.Dict[str, str]] = {}
    activated: t.Mapping[str, str] = {}
    warnings: t.Tuple[str, ...] = ()

    def and_then(self, result: Result) -> "Applied":
        diff = dict(self.diff)
        diff.update((entry["after_header"].split(" ")[0], entry) for entry in result.diff)
        # files first, then directories, of all transactions
        in_order = sorted(diff.items(), key=lambda pair: pair[1]["after"].startswith("directory "))
        return Applied(
            self.changed or result.changed,
            dict(in_order),
            dict(self.activated, **result.activated),
            # check mode has them twice
            tuple(dict.fromkeys([*self.warnings, *result.warnings])),
        )


def apply(params: Params, check_mode: bool) -> t.Tuple[t.Dict[str, t.Any], t.List[str]]:
    """(the module's result, its warnings)"""
    names = checked(params)
    before = _shown(params)
    applied = Applied()
    report = Report("", {})
    tools = []  # type: t.List[File]
    if params["source"] == "acme":
        tools = acme_tools(params, names)
        applied = applied.and_then(_install_tools(tools, check_mode))
        outcome, report = from_acme(params, names, check_mode)
    else:
        outcome = (selfsigned if params["source"] == "selfsigned" else from_files)(params, names, check_mode)
    wanted = tools + _files(outcome)
    kept = used_by_daemons(wanted) if params["keep_used"] else []
    applied = applied.and_then(_install(outcome, wanted + kept, check_mode))
    if not check_mode:
        _remember(params, names, outcome, report)
    diff = _readable(applied.diff, before, outcome)
    result = {
        "changed": applied.changed,
        "diff": list(diff.values()),
        "activated": dict(applied.activated),
        "reason": outcome.reason,
        "missing": dict(report.missing, **outcome.missing),
        "kept": [file.path for file in kept],
    }  # type: t.Dict[str, t.Any]
    result.update(_about(outcome))
    if params["source"] == "acme":
        result.update(stand_in=not outcome.words and acme.obtained(acme_settings(params, names)) is None)
        result.update(error=report.error)
    return result, [*applied.warnings, *_warnings(params, outcome, report, result.get("stand_in", False))]


# -- installing ---------------------------------------------------------------------------------------------------


def _install_tools(tools: t.List[File], check_mode: bool) -> Result:
    return run(
        "certificates",
        tools,
        directories=[Directory(path) for path in (acme.SETTINGS_DIRECTORY, acme.WEBROOT)],
        activations=[Activation(kinds.of(renewal.TIMER), remember=False)],
        check_mode=check_mode,
        keep_others=True,
        daemon_of=kinds.of,
    )


def _install(outcome: Outcome, files: t.List[File], check_mode: bool) -> Result:
    # check mode has made no certificates that could be tested
    made = not any(TO_BE_MADE in chain for chain in [outcome.chain] + [other.chain for other in outcome.others])
    return run(
        "certificates",
        files,
        directories=[Directory(path) for path in [TLS] + ([own_authority.DIRECTORY] if outcome.authority else [])],
        activations=kinds.serving_tls() if made else [],
        validate=can_be_served if made else None,
        check_mode=check_mode,
        daemon_of=kinds.of,
    )


def _files(outcome: Outcome) -> t.List[File]:
    wanted = served_files(outcome.key, outcome.chain)
    wanted += [other_file(other.label, other.key, other.chain) for other in outcome.others]
    if outcome.authority:
        wanted += [
            File(CA, outcome.authority.certificate.encode()),
            File(CA_KEY, outcome.authority.key.encode(), mode=0o600, secret=True),
        ]
    return wanted


def _remember(params: Params, names: t.List[str], outcome: Outcome, report: Report) -> None:
    """Store the result for the renewal program; remove that program if the source is not ACME."""
    if params["source"] != "acme":
        renewal.retire()
        return
    settings = acme_settings(params, names)
    orders.note(
        settings,
        stand_in=acme.obtained(settings) is None,
        not_installed="",
        error=report.error,
        missing=report.missing,
        lacking=dict(outcome.missing),
    )


# -- reporting ----------------------------------------------------------------------------------------------------


def _shown(params: Params) -> t.Dict[str, str]:
    """The present files for which the diff shows a summary."""
    return {path: _in_words(path) for path in [COMBINED, CA, *map(other_path, other_labels(params))]}


def _in_words(path: str) -> str:
    pem = read(path)
    try:
        chain = [facts(one) for one in certificates(pem)]
        return describe(chain, with_key=private_key(pem) is not None)
    except CertificateError:
        return "(no certificate)\n"


def _readable(
    diff: t.Mapping[str, t.Dict[str, str]], before: t.Mapping[str, str], outcome: Outcome
) -> t.Dict[str, t.Dict[str, str]]:
    """The diff with summaries of certificates."""
    after = {COMBINED: outcome.words or describe(outcome.planned, with_key=True)}
    after.update((other_path(other.label), other.words) for other in outcome.others)
    if outcome.own:
        after[CA] = describe(outcome.planned[-1:])
    # FULLCHAIN has the same certificates again
    shown = {path: entry for path, entry in diff.items() if path != FULLCHAIN or COMBINED not in diff}
    for path in set(shown) & set(after):
        shown[path] = dict(shown[path], before=before[path], after=after[path])
    return shown


def _about(outcome: Outcome) -> t.Dict[str, t.Any]:
    """The module's return values about the mail host's certificate."""
    result = {}  # type: t.Dict[str, t.Any]
    if outcome.planned:
        exists = TO_BE_MADE not in outcome.chain
        one = facts(outcome.chain[0]) if exists else outcome.planned[0]
        result.update(subject=one.subject, names=list(one.names), issuer=one.issuer)
        result.update(not_after=one.not_after.strftime("%Y-%m-%dT%H:%M:%SZ"))
        if exists:
            result.update(serial=one.serial, fingerprint=one.fingerprint)
    if outcome.own:
        result.update(ca_pem=outcome.chain[-1])
    return result


def _warnings(params: Params, outcome: Outcome, report: Report, stand_in: bool) -> t.List[str]:
    found = []
    if outcome.replaced:
        found.append(
            "The certificate authority (CA) of this server is replaced: %s. "
            "Clients that trust the old one have to import the new one." % outcome.replaced
        )
    if stand_in:
        found.append(
            "There is no certificate of %s yet, and another one stands in, which mail clients may not trust. "
            "The server tries again every hour, and so does the next run. %s"
            % (params["acme"]["directory"], report.error)
        )
    elif report.error:
        found.append("The certificate was not renewed, and the present one is served on: %s" % report.error)
    for name, why in () if stand_in else sorted(report.missing.items()):
        found.append("The certificate lacks %s: %s. The server goes on trying." % (name, why))
    if outcome.email_error:
        found.append("The authority could not be sent the new address to write to: %s" % outcome.email_error)
    for name, why in sorted(outcome.missing.items()):
        found.append("There is no certificate for %s: %s." % (name, why))
    return found
