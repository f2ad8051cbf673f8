# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Runs on the server: Python 3.6 and the standard library only.

"""The program and the timer that renew certificates of an ACME authority, without a play.

The program consists of these modules in one file, so a renewal works like a play: it installs certbot's certificate in
a transaction, and keeps the previous one unless the daemons then serve the new one. At each start it compares the
wanted certificates, certbot's and the served ones, so an interrupted run does no harm.
"""

import ast
import contextlib
import importlib
import io
import json
import os
import sys
import typing as t
import zipfile

from ansible_collections.port587.mail.plugins.module_utils._certificate import acme, orders, served
from ansible_collections.port587.mail.plugins.module_utils._certificate.acme import Settings
from ansible_collections.port587.mail.plugins.module_utils._certificate.certificate import Pair
from ansible_collections.port587.mail.plugins.module_utils._transaction import change as transaction
from ansible_collections.port587.mail.plugins.module_utils._transaction.state import load_json

PROGRAM = "/usr/local/lib/port587/certificates"
UNIT = "/etc/systemd/system/port587-certificates"
#: In the format of the option daemon of port587.mail.transaction.
TIMER = {"unit": "port587-certificates.timer", "program": "systemctl", "kind": "service"}


def tools(
    settings: Settings, units: t.Mapping[str, str], authority: str, nsupdate: str, hook: str
) -> t.List[transaction.File]:
    """The files that the server needs to renew its certificates by itself.

    ``units``: the texts of the systemd units, by ``service`` and ``timer``; the other texts may be empty.
    """
    text = json.dumps(settings._asdict(), indent=1, sort_keys=True) + "\n"
    files = [
        transaction.File(PROGRAM, program(), mode=0o755),
        transaction.File(acme.SETTINGS, text.encode()),
    ]
    files += [transaction.File("%s.%s" % (UNIT, kind), units[kind].encode()) for kind in ("service", "timer")]
    if authority:
        files.append(transaction.File(acme.AUTHORITY, authority.encode()))
    if nsupdate:
        files.append(transaction.File(acme.NSUPDATE, nsupdate.encode(), mode=0o600, secret=True))
    if hook:
        files.append(transaction.File(acme.HOOK, hook.encode(), mode=0o700, secret=True))
    return files


def to_install(settings: Settings, pair: t.Optional[Pair]) -> t.List[transaction.File]:
    """The files for the daemons. ``pair``: the mail host's, also used in place of missing certificates."""
    files = served.served_files(pair.key, pair.chain) if pair else []
    for one in acme.others(settings):
        own = acme.obtained(one)
        if own is None and served.served_instead(one.certificate, one.names[0], acme.now()) is None:
            own = pair
        if own:
            files.append(served.other_file(one.certificate, own.key, own.chain))
    return files


def retire() -> None:
    """Remove the timer and the result of the last order: the certificate comes from another source now."""
    timer = os.path.basename(UNIT) + ".timer"
    if os.path.lexists("/etc/systemd/system/timers.target.wants/" + timer):
        for argv in (["disable", "--now", timer], ["daemon-reload"]):
            transaction.run_command(["systemctl"] + argv)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(acme.STATE)


# -- the program --------------------------------------------------------------------------------------------------


def program() -> bytes:
    """A file that Python can run, with this module and all parts of the collection that it imports."""
    packages = __name__.split(".")[:-1]
    written = io.BytesIO()
    written.write(b"#!/usr/bin/python3\n")
    with zipfile.ZipFile(written, "w") as archive:

        def add(path: str, text: str) -> None:
            # the same bytes at each run
            archive.writestr(zipfile.ZipInfo(path, (1980, 1, 1, 0, 0, 0)), text)

        add("__main__.py", "from %s import main\n\nmain()\n" % __name__)
        sources = _sources(__name__, {})
        folders = {name.rpartition(".")[0] for name in sources}
        folders.update(".".join(packages[: depth + 1]) for depth in range(len(packages)))
        for folder in sorted(folders):
            add(folder.replace(".", "/") + "/__init__.py", "")
        for name, text in sorted(sources.items()):
            add(name.replace(".", "/") + ".py", text)
    return written.getvalue()


def _sources(name: str, found: t.Dict[str, str]) -> t.Dict[str, str]:
    """The text of a module, and of the collection's modules that it imports."""
    root = __name__.rsplit(".", 2)[0] + "."
    loader = importlib.import_module(name).__loader__  # type: t.Any
    found[name] = loader.get_source(name)
    for node in ast.walk(ast.parse(found[name])):
        if not isinstance(node, ast.ImportFrom) or not (node.module or "").startswith(root):
            continue
        package = str(node.module)
        if hasattr(importlib.import_module(package), "__path__"):
            imported = [package + "." + alias.name for alias in node.names]
        else:
            imported = [package]
        for other in imported:
            if other not in found:
                _sources(other, found)
    return found


def main() -> None:
    """Entry point for the timer. ``--force``: order a new certificate although the present one is good."""
    # a program, not a module: pylint: disable=ansible-bad-function
    settings = Settings(**load_json(acme.SETTINGS))
    force = sys.argv[1:] == ["--force"]
    before = orders.last(settings)
    report = orders.order_if_due(settings, force=force, patient=True)
    lacking = orders.order_others(settings, force=force, patient=True)
    pair = acme.obtained(settings)
    trouble = _install(settings, pair)
    orders.note(settings, stand_in=pair is None, not_installed=trouble, lacking=lacking)
    if orders.last(settings).get("asked") != before.get("asked"):
        for name, why in sorted(report.missing.items()):
            print("The certificate lacks %s: %s" % (name, why))
    for name, why in sorted(lacking.items()):
        print("There is no new certificate for %s: %s" % (name, why))
    if trouble:
        sys.exit("NOT INSTALLED, the certificate from before is served on: %s" % trouble)
    if report.error:
        sys.exit("NOT RENEWED, the certificate from before is served on: %s" % report.error)


def _install(settings: Settings, pair: t.Optional[Pair]) -> str:
    """Install the certificates; returns why that failed. Also if nothing is new: the last run may have been stopped."""
    # a program, not a module: pylint: disable=ansible-bad-function
    files = to_install(settings, pair)
    try:
        if files and served.install(files).changed:
            for one in filter(None, [pair, *map(acme.obtained, acme.others(settings))]):
                print("All ports serve the certificate %s, valid until %s" % (one.facts.serial, one.facts.not_after))
    except transaction.TransactionError as error:
        return error.message
    return ""
