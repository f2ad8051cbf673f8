# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Runs on the server: Python 3.6 and the standard library only.

"""Decide when to order a certificate from the authority, and store the result of the last order."""

import os
import time
import typing as t

from ansible_collections.port587.mail.plugins.module_utils._certificate import acme, certbot, challenge
from ansible_collections.port587.mail.plugins.module_utils._certificate.acme import Report, Settings
from ansible_collections.port587.mail.plugins.module_utils._certificate.certificate import Pair
from ansible_collections.port587.mail.plugins.module_utils._transaction.state import load_json, write_json

#: Seconds after which certbot runs again although nothing is missing: twice a day, as in the distributions.
ASK_AGAIN = 11.5 * 3600


def names_to_order(settings: Settings, present: t.Optional[Pair]) -> t.Tuple[t.List[str], t.Dict[str, str]]:
    """(names, those left out): a name that is not in DNS yet must not block the mail host's certificate."""
    names, missing = settings.names[:1], {}  # type: t.List[str], t.Dict[str, str]
    for name in settings.names[1:]:
        # a name in the present certificate may be missing from DNS for a moment
        why = "" if present and name in present.facts.names else challenge.unreachable_reason(settings, name)
        if why:
            missing[name] = why
        else:
            names.append(name)
    return names, missing


def order_if_due(settings: Settings, force: bool = False, patient: bool = False) -> Report:
    """Order a certificate if there is a reason to; else return the result of the last order.

    ``patient``: an answer of the authority is good for half a day. After that certbot runs even without a reason: it
    may know better when to renew.
    """
    before = last(settings)
    present = acme.obtained(settings)
    names, missing = names_to_order(settings, present)
    due = bool(acme.why_order(names, present))
    if patient and present:
        # a name that was missing from DNS the last time, or that the web server did not serve
        fresh = set(names) - set(present.facts.names) - set(before.get("refused", ()))
        due = bool(fresh) or not 0 <= time.time() - before.get("asked", 0) < ASK_AGAIN
    if not (due or force):
        return Report(before.get("error", ""), before.get("missing", missing))
    began = time.time()
    report = certbot.order(settings, names, force)
    if not report.error and acme.obtained(settings) is None:
        report = report._replace(
            error="certbot reports success, but the daemons can't use the files in %s" % acme.lineage(settings)
        )
    refused = sorted(report.missing)
    report = report._replace(missing=dict(missing, **report.missing))
    note(settings, asked=began, error=report.error, missing=report.missing, refused=refused)
    return report


def order_others(settings: Settings, force: bool = False, patient: bool = False) -> t.Dict[str, str]:
    """Order the other certificates if due; returns those that are missing or old, and why."""
    lacking = {}
    for one in acme.others(settings):
        why = challenge.not_ready(one) or order_if_due(one, force, patient).error
        if why:
            lacking[acme.called(one)] = why
    return lacking


def _state(settings: Settings) -> str:
    return os.path.join(acme.CERTBOT, settings.certificate + ".json") if settings.certificate else acme.STATE


def _of(settings: Settings) -> t.List[t.Any]:
    # each other certificate has its own state file
    return list(acme.bare(settings))


def last(settings: Settings) -> t.Dict[str, t.Any]:
    """The stored result of earlier orders, if they were for the same names."""
    state = load_json(_state(settings))
    return state if state.get("of") == _of(settings) else {}


def note(settings: Settings, **changes: t.Any) -> None:
    """Store the result of an order, for the next run and for the inspection of the server."""
    after = dict(last(settings), of=_of(settings), **changes)
    if after != load_json(_state(settings)):
        write_json(_state(settings), after)
