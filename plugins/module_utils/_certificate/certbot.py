# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Runs on the server: Python 3.6 and the standard library only.

"""Run certbot(1), and parse its output."""

import contextlib
import fcntl
import os
import re
import signal
import time
import typing as t

from ansible_collections.port587.mail.plugins.module_utils._certificate import challenge
from ansible_collections.port587.mail.plugins.module_utils._certificate.acme import (
    AUTHORITY,
    CERTBOT,
    AcmeError,
    Report,
    Settings,
    configuration,
    is_due,
    lineage,
    lineage_name,
    obtained,
    pair_in,
)
from ansible_collections.port587.mail.plugins.module_utils._certificate.certificate import RSA_BITS
from ansible_collections.port587.mail.plugins.module_utils._certificate.served import read
from ansible_collections.port587.mail.plugins.module_utils._transaction.commands import run_command
from ansible_collections.port587.mail.plugins.module_utils._transaction.state import load_json, write_json

#: Seconds that one run of certbot may take, with its hooks. DNS may need minutes.
CERTBOT_LIMIT = 900

#: certbot gives up after two refused nonces in a row, although a third may be accepted.
TRIES = 8


def order(settings: Settings, names: t.List[str], force: bool = False) -> Report:
    """Have certbot get a certificate for these names, or renew it if it is due. Does not install it."""
    try:
        with _exclusively():
            _set_damaged_aside(settings)
            how = challenge.certbot_options(settings)
            registered = os.path.isdir(_accounts(settings))
            error, refused = _ask(settings, names, how, force)
            if not registered and os.path.isdir(_accounts(settings)):
                write_json(_email(settings), {"email": settings.email})
            left = [name for name in names if name not in refused]
            if refused and left and left[0] == names[0]:
                # the mail host's own name did not fail
                error, _refused = _ask(settings, left, how, force)
                return Report(error, {} if error else refused)
            return Report(error, {})
    except (AcmeError, OSError) as exc:
        return Report(str(exc), {})


@contextlib.contextmanager
def _exclusively() -> t.Iterator[None]:
    """A lock, so that a play and the timer do not run certbot at the same time."""
    os.makedirs(CERTBOT, mode=0o700, exist_ok=True)
    with open(os.path.join(CERTBOT, "lock"), "a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _ask(
    settings: Settings, names: t.Sequence[str], how: t.Sequence[str], force: bool
) -> t.Tuple[str, t.Dict[str, str]]:
    """(error, the names that the authority refused and why)"""
    said = ""
    version = _version()
    present = obtained(settings)
    if version < (4, 1) and present and set(names) == set(present.facts.names) and not force:
        # certbot up to 4.0 renews 30 days before the end for any lifetime: with six days, at every run
        if not is_due(present):
            return "", {}
        force = True
    for _try in range(TRIES):
        code, out, err = run_command(_command(settings, names, how, force, version))
        said = out + "\n" + err
        if code == 0:
            return "", {}
        if re.search(r"accountDoesNotExist|[Aa]ccount.{0,200}not (exist|found)", said):
            # the authority was reinstalled
            _forget_account(settings)
        elif not re.search(r"badNonce|anti-replay nonce", said):
            break
    reason = _ended(code) + failed_hook(said) + words(said)
    # the authority may refuse a whole order because of one name, which the reason mentions
    named = {name: reason for name in names if re.search(r"(?<![\w.-])%s(?![\w-]|\.\w)" % re.escape(name), reason)}
    return reason, refusals(said) or named


def _certbot(settings: Settings, command: str) -> t.List[str]:
    trust = ["REQUESTS_CA_BUNDLE=" + AUTHORITY] if settings.own_ca else []
    # a signal that certbot or a hook could catch would leave some of them behind
    argv = ["env", *trust, "timeout", "-s", "KILL", str(CERTBOT_LIMIT), "certbot", command]
    argv += ["--non-interactive", "--agree-tos"]
    argv += ["--server", settings.directory, "--config-dir", configuration(settings), "--work-dir", CERTBOT + "/work"]
    # separate for each certificate: two runs of certbot can't share one directory
    return argv + ["--logs-dir", "/var/log/letsencrypt/port587", "--max-log-backups", "20"]


def _command(
    settings: Settings, names: t.Sequence[str], how: t.Sequence[str], force: bool, version: t.Tuple[int, ...]
) -> t.List[str]:
    argv = _certbot(settings, "certonly") + ["--email", settings.email, "--no-eff-email"]
    argv += ["--cert-name", lineage_name(settings), "--renew-with-new-domains"]
    argv += ["--force-renewal" if force else "--keep-until-expiring"]
    argv += ["--rsa-key-size", str(RSA_BITS)]
    if version >= (1, 10):
        argv += ["--key-type", settings.key_type]
    elif settings.challenge == "hook":
        argv += ["--manual-public-ip-logging-ok"]
    for name in names:
        argv += ["-d", name]
    return argv + list(how)


def _version() -> t.Tuple[int, ...]:
    _code, out, err = run_command(["env", "certbot", "--version"])
    found = re.search(r"certbot (\d+)\.(\d+)", out + err)
    if found is None:
        raise AcmeError("certbot does not print its version: %s" % (out + err).strip())
    return tuple(int(number) for number in found.groups())


def _new_address(version: t.Tuple[int, ...]) -> t.List[str]:
    """The command that sends a new address; certbot has one of its own for that since 0.30."""
    return ["update_account"] if version >= (0, 30) else ["register", "--update-registration"]


def update_email(settings: Settings) -> str:
    """Send the authority a new contact address (RFC 8555, 7.3.2); returns why that failed.

    It got the first address with the account.
    """
    known = load_json(_email(settings)).get("email")
    if known == settings.email or not os.path.isdir(_accounts(settings)):
        return ""
    try:
        with _exclusively():
            command = _new_address(_version())
            argv = _certbot(settings, command[0]) + command[1:] + ["--email", settings.email, "--no-eff-email"]
            code, out, err = run_command(argv)
            if code == 0:
                write_json(_email(settings), {"email": settings.email})
            return words(out + "\n" + err) if code else ""
    except (OSError, AcmeError) as exc:
        return str(exc)


def _email(settings: Settings) -> str:
    """A file with the address that the authority has."""
    return os.path.join(configuration(settings), "email.json")


def _accounts(settings: Settings) -> str:
    return os.path.join(configuration(settings), "accounts")


def _set_damaged_aside(settings: Settings) -> None:
    """Rename what a killed certbot has left of the certificate, or somebody has spoiled, so that certbot starts anew.

    certbot looks only at the dates. It gives a certificate another name if it finds files without their description.
    """
    name = lineage_name(settings)
    description = os.path.join(configuration(settings), "renewal", name + ".conf")
    paths = [os.path.join(configuration(settings), part, name) for part in ("live", "archive")] + [description]
    needed = ("cert", "privkey", "chain", "fullchain")
    described = all(re.search(r"(?m)^%s *= *\S" % key, read(description)) for key in needed)
    if not any(map(os.path.lexists, paths)) or (described and pair_in(lineage(settings))):
        return
    aside = os.path.join(configuration(settings), "damaged", "%s.%d" % (name, time.time()))
    os.makedirs(aside, mode=0o700)
    for path in filter(os.path.lexists, paths):
        os.rename(path, os.path.join(aside, os.path.basename(os.path.dirname(path))))


def _forget_account(settings: Settings) -> None:
    accounts = _accounts(settings)
    with contextlib.suppress(FileNotFoundError):
        os.rename(accounts, "%s.%d" % (accounts, time.time()))


# -- certbot's output ---------------------------------------------------------------------------------------------

#: Lines of certbot's that don't explain a failure.
_TALK = re.compile(
    r"Saving debug log|Plugins selected|Requesting a|Renewing an|Obtaining a|Performing the|Waiting |Cleaning up"
    r"|Challenge failed|Some challenges have failed|Ask for help|IMPORTANT NOTES|Account registered|\S+ challenge for"
    r"|- - - -|Please see the log|Use of --manual|Certificate (is|not yet) due|Certbot failed to auth|Starting new HTTP"
    r"|Registering"
)


def _ended(code: int) -> str:
    """What to say first if certbot did not end by itself."""
    # timeout(1) dies of what certbot dies of
    if code != -signal.SIGKILL:
        return ""
    return "certbot was killed; after %d minutes it is, with its hooks. " % (CERTBOT_LIMIT // 60)


def failed_hook(said: str) -> str:
    """What certbot says of a hook that should have set a record; it goes on, and the authority then finds no record."""
    failed = re.search(r"manual-auth-hook\b.* (?:reported|returned) error code (\d+)", said)
    if failed is None:
        return ""
    # certbot since 2.0 indents the hook's output
    output = re.search(r"(?:auth-hook\b.* error output|Error output from manual-auth-hook .*):\n((?: .*\n)+|.*)", said)
    lines = output.group(1).split("\n") if output else []
    last = [line.strip() for line in lines if line.strip()][-1:]
    return "The hook failed: %s. " % ", ".join(["exit code " + failed.group(1), *last])


def refusals(said: str) -> t.Dict[str, str]:
    """The names that the authority refused, and why."""
    found = re.findall(
        r"^ *Domain: *(\S+)\n *Type: *(.*)\n *Detail: *(.*(?:\n *(?!Domain:|Type:|To fix|Hint:)\S.*)*)",
        said,
        re.MULTILINE,
    )
    return {name: "%s (%s)" % (" ".join(detail.split()), kind) for name, kind, detail in found}


def words(said: str) -> str:
    """certbot's explanation of a failure, without the rest of its output."""
    refused = refusals(said)
    if refused:
        return "; ".join("%s: %s" % pair for pair in refused.items())
    lines = [line.strip(" -") for line in said.splitlines()]
    lines = list(dict.fromkeys(line for line in lines if line and not _TALK.match(line)))
    return " ".join(lines[-6:]) or "certbot gives no reason"
