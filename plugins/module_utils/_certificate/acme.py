# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Runs on the server: Python 3.6 and the standard library only.

"""A certificate from an authority that speaks ACME (RFC 8555), and the program on the server that keeps it valid.

certbot(1) gets it, into a directory of its own. What is served is a copy, installed as a transaction: the daemons have
to serve it, or the one before stays. The program is these very modules in one file, so that a renewal does what a play
does. It compares what is wanted, what certbot has, and what is served, whenever the timer calls; so it makes no
difference where an earlier run was stopped.
"""

import ast
import contextlib
import datetime
import fcntl
import http.client
import importlib
import io
import json
import os
import re
import secrets
import socket
import sys
import time
import typing as t
import zipfile

from ansible_collections.port587.mail.plugins.module_utils._certificate import certificate as certificates
from ansible_collections.port587.mail.plugins.module_utils._daemons import daemons
from ansible_collections.port587.mail.plugins.module_utils._server import preflight
from ansible_collections.port587.mail.plugins.module_utils._transaction import change as transaction
from ansible_collections.port587.mail.plugins.module_utils._transaction.journal import (
    STATE_DIRECTORY,
    load_json,
    write_json,
)

#: Names for the directories that most people want.
DIRECTORIES = {
    "letsencrypt": "https://acme-v02.api.letsencrypt.org/directory",
    "letsencrypt-staging": "https://acme-staging-v02.api.letsencrypt.org/directory",
}

PROGRAM = "/usr/local/lib/port587/certificates"
SETTINGS_DIRECTORY = "/etc/port587/acme"
SETTINGS = SETTINGS_DIRECTORY + "/settings.json"
AUTHORITY = SETTINGS_DIRECTORY + "/directory-ca.pem"
NSUPDATE = SETTINGS_DIRECTORY + "/nsupdate.ini"
HOOK = SETTINGS_DIRECTORY + "/hook"
UNIT = "/etc/systemd/system/port587-certificates"

#: certbot's own directories, one for each ACME directory: a test authority and the real one don't meet.
CERTBOT = STATE_DIRECTORY + "/acme"
#: Where a web server on port 80 looks for answers to a challenge, below .well-known/acme-challenge.
WEBROOT = STATE_DIRECTORY + "/acme-challenge"
#: What became of the last run, for those who look into the server.
STATE = STATE_DIRECTORY + "/acme.json"

#: Seconds after which certbot is asked again although nothing is missing: twice a day, as the distributions do.
ASK_AGAIN = 11.5 * 3600

#: What is valid for less is renewed at half of its lifetime, all else when a third is left, as by certbot from 4.1 on.
SHORT_LIVED = datetime.timedelta(days=10)

#: Seconds that one run of certbot may take. DNS may need minutes.
CERTBOT_LIMIT = 900

#: Why a name is left out that the web server does not know (yet: a play sets that up after the certificate).
NOT_ANSWERED = "the web server on port 80 does not answer for it"

#: certbot gives up when two nonces in a row are refused, which says nothing about the third.
TRIES = 8

SERVICE_TEXT = (
    """\
# Written by the role port587.mail.certificates
[Unit]
Description=Get and renew the mail host's certificate (ACME)
Wants=network-online.target
After=network-online.target nss-lookup.target

[Service]
Type=oneshot
ExecStart=%s
"""
    % PROGRAM
)

TIMER_TEXT = """\
# Written by the role port587.mail.certificates
[Unit]
Description=Get and renew the mail host's certificate (ACME)

[Timer]
# Every hour, for a server that waits for its first certificate. The authority is asked twice a day when all is well.
OnCalendar=hourly
# not all servers at the full hour
RandomizedDelaySec=30min
Persistent=true

[Install]
WantedBy=timers.target
"""


class AcmeError(Exception):
    """The authority can't be asked; the message says why."""


class Settings(t.NamedTuple):
    names: t.List[str]  # the first is the mail host's, which the certificate has to be for
    key_type: str
    directory: str  # a URL
    email: str
    challenge: str  # http, nsupdate or hook
    own_ca: bool = False  # whether something else vouches for the directory than what the server trusts anyway
    wait: int = 0  # nsupdate: seconds until all name servers know a new record
    sni: t.List[str] = []  # names with a certificate of their own
    rsa_too: bool = False  # whether there is a second one for the same names, with an RSA key
    certificate: str = ""  # which of those this is about: a name, or RSA; empty: the mail host's


class Pair(t.NamedTuple):
    """A certificate with its issuers', PEM, and the key that belongs to it."""

    chain: t.List[str]
    key: str
    facts: certificates.Facts


class Report(t.NamedTuple):
    """What became of asking. Without an error there is a certificate for all names but those missing (name: why)."""

    error: str
    missing: t.Dict[str, str]


# -- what is there, and what is to be done ------------------------------------------------------------------------


def lineage(settings: Settings) -> str:
    """Where certbot keeps the files of a certificate."""
    return os.path.join(_configuration(settings), "live", _lineage_name(settings))


def _lineage_name(settings: Settings) -> str:
    # the second one with an RSA key is the one that there was while RSA was all that was wanted
    return "-".join(filter(None, dict.fromkeys((settings.certificate, settings.key_type))))


def _configuration(settings: Settings) -> str:
    return os.path.join(CERTBOT, re.sub(r"[^A-Za-z0-9.-]+", "_", settings.directory.partition("://")[2]))


def obtained(settings: Settings) -> t.Optional[Pair]:
    """What certbot got, if it can be served."""
    pair = _pair(lineage(settings))
    return None if pair is None or certificates.trouble(pair.facts, settings.names[:1], now()) else pair


def _pair(directory: str) -> t.Optional[Pair]:
    chain, key = (
        (transaction.read_file(os.path.join(directory, name)) or b"").decode("utf-8", "replace")
        for name in ("fullchain.pem", "privkey.pem")
    )
    found = certificates.usable(chain + key)
    return Pair(certificates.certificates(chain), found[1], found[2]) if found else None


def to_ask_for(settings: Settings, present: t.Optional[Pair]) -> t.Tuple[t.List[str], t.Dict[str, str]]:
    """(names, those left out): one that is not in DNS yet must not keep the mail host from its certificate."""
    names, missing = settings.names[:1], {}  # type: t.List[str], t.Dict[str, str]
    for name in settings.names[1:]:
        # one that the certificate has already may be out of DNS for a moment
        why = "" if present and name in present.facts.names else _in_vain(settings, name)
        if why:
            missing[name] = why
        else:
            names.append(name)
    return names, missing


def _in_vain(settings: Settings, name: str) -> str:
    """Why the authority would not find this server under the name."""
    if settings.challenge != "http":
        return ""
    if not _is_in_dns(name):
        return "it is not in DNS"
    web_server = _on_port_80()
    return NOT_ANSWERED if web_server and not _web_server_answers(web_server, name) else ""


def others(settings: Settings) -> t.List[Settings]:
    """What is wanted besides: the certificate with an RSA key, and those of names with one of their own."""
    bare = _bare(settings)
    second = [bare._replace(key_type="rsa", certificate=certificates.RSA)] if settings.rsa_too else []
    return second + [bare._replace(names=[name], certificate=name) for name in settings.sni]


def _bare(settings: Settings) -> Settings:
    """What is wanted of this certificate, whatever others there are."""
    return settings._replace(sni=[], rsa_too=False)


def called(one: Settings) -> str:
    return one.names[0] + (" (RSA)" if one.certificate == certificates.RSA else "")


def not_ready(one: Settings) -> str:
    """Why the first of such a certificate is not asked for."""
    return "" if obtained(one) else _in_vain(one, one.names[0])


def _is_in_dns(name: str) -> bool:
    try:
        return bool(socket.getaddrinfo(name, 80))
    except OSError:
        return False


def describe(settings: Settings, names: t.Iterable[str]) -> str:
    """A certificate that is still to come, for a diff."""
    return "private key (hidden)\ncertificate from %s\n  names: %s\n" % (settings.directory, ", ".join(names))


def why_ask(names: t.Sequence[str], present: t.Optional[Pair]) -> str:
    if present is None:
        return "there is no valid one of this authority"
    if set(names) != set(present.facts.names):
        return "for %s instead of %s" % (", ".join(names), ", ".join(present.facts.names))
    if is_due(present):
        return "the present one ends on %s" % present.facts.not_after.date()
    return ""


def is_due(present: Pair) -> bool:
    """Whether it is time for a new one."""
    lifetime = present.facts.not_after - present.facts.not_before
    return present.facts.not_after - now() < lifetime / (2 if lifetime < SHORT_LIVED else 3)


# -- asking -------------------------------------------------------------------------------------------------------


def ask(settings: Settings, force: bool = False, patient: bool = False) -> Report:
    """Ask the authority if there is reason to; else say what became of it the last time.

    ``patient``: an answer that the authority has given already is not asked for again within half a day. certbot is
    asked even without a reason then: it may know better when to renew.
    """
    before = last(settings)
    present = obtained(settings)
    names, missing = to_ask_for(settings, present)
    due = bool(why_ask(names, present))
    if patient and present:
        # a name that was not in DNS the last time, or that the web server did not answer for
        fresh = set(names) - set(present.facts.names) - set(before.get("refused", ()))
        due = bool(fresh) or not 0 <= time.time() - before.get("asked", 0) < ASK_AGAIN
    if not (due or force):
        return Report(before.get("error", ""), before.get("missing", missing))
    began = time.time()
    report = obtain(settings, names, force)
    if not report.error and obtained(settings) is None:
        report = report._replace(error="certbot is content, but what is in %s can't be served" % lineage(settings))
    refused = sorted(report.missing)
    report = report._replace(missing=dict(missing, **report.missing))
    note(settings, asked=began, error=report.error, missing=report.missing, refused=refused)
    return report


def ask_for_others(settings: Settings, force: bool = False, patient: bool = False) -> t.Dict[str, str]:
    """The same for the other certificates; returns those that are not there, or are old ones, and why."""
    lacking = {}
    for one in others(settings):
        why = not_ready(one) or ask(one, force, patient).error
        if why:
            lacking[called(one)] = why
    return lacking


def _state(settings: Settings) -> str:
    return os.path.join(CERTBOT, settings.certificate + ".json") if settings.certificate else STATE


def _of(settings: Settings) -> t.List[t.Any]:
    # another certificate has a state of its own
    return list(_bare(settings))


def last(settings: Settings) -> t.Dict[str, t.Any]:
    """What became of earlier runs, if they were about the same."""
    state = load_json(_state(settings))
    return state if state.get("of") == _of(settings) else {}


def note(settings: Settings, **changes: t.Any) -> None:
    """Keep what became of a run, for the next one and for those who look into the server."""
    after = dict(last(settings), of=_of(settings), **changes)
    if after != load_json(_state(settings)):
        write_json(_state(settings), after)


def obtain(settings: Settings, names: t.List[str], force: bool = False) -> Report:
    """Have certbot get a certificate for these names, or renew it if it is time to. Nothing is installed by that."""
    try:
        with _alone():
            if os.path.exists(lineage(settings)) and _pair(lineage(settings)) is None:
                # certbot looks only at the dates
                force = True
            how = _challenge(settings)
            registered = os.path.isdir(_accounts(settings))
            error, refused = _ask(settings, names, how, force)
            if not registered and os.path.isdir(_accounts(settings)):
                write_json(_email(settings), {"email": settings.email})
            left = [name for name in names if name not in refused]
            if refused and left and left[0] == names[0]:
                # the mail host's own name is not among those that failed
                error, _refused = _ask(settings, left, how, force)
                return Report(error, {} if error else refused)
            return Report(error, {})
    except (AcmeError, OSError) as exc:
        return Report(str(exc), {})


@contextlib.contextmanager
def _alone() -> t.Iterator[None]:
    """A play and the timer take turns."""
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
        # Older certbots, 4.0 too, renew 30 days before the end, however short the lifetime: of six days, at every turn.
        if not is_due(present):
            return "", {}
        force = True
    for _try in range(TRIES):
        code, out, err = transaction.run_command(_command(settings, names, how, force, version))
        said = out + "\n" + err
        if code == 0:
            return "", {}
        if re.search(r"accountDoesNotExist|[Aa]ccount.{0,200}not (exist|found)", said):
            # an authority that was set up anew
            _forget_account(settings)
        elif not re.search(r"badNonce|anti-replay nonce", said):
            break
    told = words(said)
    # an order can be refused as a whole, for a name that stands in the words
    named = {name: told for name in names if re.search(r"(?<![\w.-])%s(?![\w-]|\.\w)" % re.escape(name), told)}
    return told, refusals(said) or named


def _certbot(settings: Settings, command: str) -> t.List[str]:
    trust = ["REQUESTS_CA_BUNDLE=" + AUTHORITY] if settings.own_ca else []
    argv = ["env", *trust, "timeout", str(CERTBOT_LIMIT), "certbot", command, "--non-interactive", "--agree-tos"]
    argv += ["--server", settings.directory, "--config-dir", _configuration(settings), "--work-dir", CERTBOT + "/work"]
    # apart from those of other certificates, so that two runs at the same time don't lock each other out
    return argv + ["--logs-dir", "/var/log/letsencrypt/port587", "--max-log-backups", "20"]


def _command(
    settings: Settings, names: t.Sequence[str], how: t.Sequence[str], force: bool, version: t.Tuple[int, ...]
) -> t.List[str]:
    argv = _certbot(settings, "certonly") + ["--email", settings.email, "--no-eff-email"]
    argv += ["--cert-name", _lineage_name(settings), "--renew-with-new-domains"]
    argv += ["--force-renewal" if force else "--keep-until-expiring"]
    argv += ["--rsa-key-size", str(certificates.RSA_BITS)]
    if version >= (1, 10):
        argv += ["--key-type", settings.key_type]
    elif settings.challenge == "hook":
        argv += ["--manual-public-ip-logging-ok"]
    for name in names:
        argv += ["-d", name]
    return argv + list(how)


def _version() -> t.Tuple[int, ...]:
    _code, out, err = transaction.run_command(["env", "certbot", "--version"])
    found = re.search(r"certbot (\d+)\.(\d+)", out + err)
    if found is None:
        raise AcmeError("certbot does not say its version: %s" % (out + err).strip())
    return tuple(int(number) for number in found.groups())


def tell_email(settings: Settings) -> str:
    """Tell the authority of another address to write to (RFC 8555, 7.3.2); returns why it could not be told.

    It has the first one with the account.
    """
    told = load_json(_email(settings)).get("email")
    if told == settings.email or not os.path.isdir(_accounts(settings)):
        return ""
    try:
        with _alone():
            # it has had a command of its own since 0.30
            command = ["update_account"] if _version() >= (0, 30) else ["register", "--update-registration"]
            argv = _certbot(settings, command[0]) + command[1:] + ["--email", settings.email, "--no-eff-email"]
            code, out, err = transaction.run_command(argv)
            if code == 0:
                write_json(_email(settings), {"email": settings.email})
            return words(out + "\n" + err) if code else ""
    except (OSError, AcmeError) as exc:
        return str(exc)


def _email(settings: Settings) -> str:
    """Whom the authority writes to, as it was told."""
    return os.path.join(_configuration(settings), "email.json")


def _accounts(settings: Settings) -> str:
    return os.path.join(_configuration(settings), "accounts")


def _forget_account(settings: Settings) -> None:
    accounts = _accounts(settings)
    with contextlib.suppress(FileNotFoundError):
        os.rename(accounts, "%s.%d" % (accounts, time.time()))


def _challenge(settings: Settings) -> t.List[str]:
    """How the authority is shown that the names are this server's."""
    if settings.challenge == "nsupdate":
        wait = ["--dns-rfc2136-propagation-seconds", str(settings.wait)]
        return ["--dns-rfc2136", "--dns-rfc2136-credentials", NSUPDATE, *wait]
    if settings.challenge == "hook":
        hooks = ["--manual-auth-hook", HOOK + " auth", "--manual-cleanup-hook", HOOK + " cleanup"]
        return ["--manual", "--preferred-challenges", "dns", *hooks]
    # decided anew each time: a web server comes and goes
    listener = _on_port_80()
    if listener is None:
        return ["--standalone", "--preferred-challenges", "http"]
    if _web_server_answers(listener, settings.names[0]):
        return ["--webroot", "--webroot-path", WEBROOT]
    raise AcmeError(
        "port 80, on which the authority asks, is taken by %s, which does not serve %s/.well-known/acme-challenge/. "
        "Stop it, let it serve that, or set certificates_acme_challenge to another value"
        % (_program(listener), WEBROOT)
    )


class Listener(t.NamedTuple):
    """A socket on port 80, and the address at which this server reaches it."""

    address: str
    inode: str


def _on_port_80() -> t.Optional[Listener]:
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        text = (transaction.read_file(table) or b"").decode("ascii")
        sockets = preflight.parse_listening(text)
        for field in (line.split() for line in text.splitlines()[1:]):
            if sockets.get(field[9]) == 80:
                return Listener(local_address(field[1].partition(":")[0]), field[9])
    return None


def local_address(digits: str) -> str:
    """An address of /proc/net/tcp, in words of 32 bit of this machine's order; loopback where it is all of them."""
    words_of_it = (bytes.fromhex(digits[start : start + 8]) for start in range(0, len(digits), 8))
    packed = b"".join(word[::-1] if sys.byteorder == "little" else word for word in words_of_it)
    if not any(packed):
        return "127.0.0.1" if len(packed) == 4 else "::1"
    return socket.inet_ntop(socket.AF_INET if len(packed) == 4 else socket.AF_INET6, packed)


def _program(listener: Listener) -> str:
    name = "socket:[%s]" % listener.inode
    return " or ".join(map(str, preflight.holders("/", [name])[name])) or "a program outside this container"


def _web_server_answers(listener: Listener, host: str) -> bool:
    """Whether the one on port 80 gives out what certbot would put there."""
    token = secrets.token_hex(16)
    directory = os.path.join(WEBROOT, ".well-known", "acme-challenge")
    if not os.path.isdir(WEBROOT):
        return False
    try:
        os.makedirs(directory, exist_ok=True)
        path = os.path.join(directory, token)
        with open(path, "w") as handle:
            handle.write(token)
    except OSError:
        return False
    try:
        connection = http.client.HTTPConnection(listener.address, 80, timeout=10)
        connection.request("GET", "/.well-known/acme-challenge/" + token, headers={"Host": host})
        return connection.getresponse().read(100).decode("ascii", "replace") == token
    except (OSError, http.client.HTTPException):
        return False
    finally:
        os.unlink(path)


# -- what certbot said --------------------------------------------------------------------------------------------

#: What certbot says besides what is wrong.
_TALK = re.compile(
    r"Saving debug log|Plugins selected|Requesting a|Renewing an|Obtaining a|Performing the|Waiting |Cleaning up"
    r"|Challenge failed|Some challenges have failed|Ask for help|IMPORTANT NOTES|Account registered|\S+ challenge for"
    r"|- - - -|Please see the log|Use of --manual|Certificate (is|not yet) due|Certbot failed to auth|Starting new HTTP"
    r"|Registering"
)


def refusals(said: str) -> t.Dict[str, str]:
    """The names that the authority refused, and why."""
    found = re.findall(
        r"^ *Domain: *(\S+)\n *Type: *(.*)\n *Detail: *(.*(?:\n *(?!Domain:|Type:|To fix|Hint:)\S.*)*)",
        said,
        re.MULTILINE,
    )
    return {name: "%s (%s)" % (" ".join(detail.split()), kind) for name, kind, detail in found}


def words(said: str) -> str:
    """What certbot said of its failure, without the rest."""
    refused = refusals(said)
    if refused:
        return "; ".join("%s: %s" % pair for pair in refused.items())
    lines = [line.strip(" -") for line in said.splitlines()]
    told = list(dict.fromkeys(line for line in lines if line and not _TALK.match(line)))
    return " ".join(told[-6:]) or "certbot says nothing"


# -- installing ---------------------------------------------------------------------------------------------------


def install(files: t.List[transaction.File]) -> transaction.Result:
    """Take the daemons that run over to them, or stay with what they have."""
    return transaction.run(
        "certificates",
        files,
        activations=daemons.serving_activations(),
        validate=certificates.can_be_served,
        keep_others=True,
    )


def tools(settings: Settings, authority: str, nsupdate: str, hook: str) -> t.List[transaction.File]:
    """What the server needs to renew its certificate without anybody's help."""
    text = json.dumps(settings._asdict(), indent=1, sort_keys=True) + "\n"
    files = [
        transaction.File(PROGRAM, program(), mode=0o755),
        transaction.File(SETTINGS, text.encode()),
        transaction.File(UNIT + ".service", SERVICE_TEXT.encode()),
        transaction.File(UNIT + ".timer", TIMER_TEXT.encode()),
    ]
    if authority:
        files.append(transaction.File(AUTHORITY, authority.encode()))
    if nsupdate:
        files.append(transaction.File(NSUPDATE, nsupdate.encode(), mode=0o600, secret=True))
    if hook:
        files.append(transaction.File(HOOK, hook.encode(), mode=0o700, secret=True))
    return files


def to_install(settings: Settings, pair: t.Optional[Pair]) -> t.List[transaction.File]:
    """What the daemons have to read. ``pair``: the mail host's, which stands in for those that are not there yet."""
    files = certificates.served_files(pair.key, pair.chain) if pair else []
    for one in others(settings):
        own = obtained(one) or (None if other_served(one) else pair)
        if own:
            files.append(certificates.other_file(one.certificate, own.key, own.chain))
    return files


def other_served(one: Settings) -> t.Optional[Pair]:
    """What is served in its place already, wherever it is from, if it is good for the name."""
    pem = (transaction.read_file(certificates.other_path(one.certificate)) or b"").decode("utf-8", "replace")
    found = certificates.usable(pem)
    if found is None or certificates.trouble(found[2], one.names[:1], now()):
        return None
    return Pair(certificates.certificates(pem), found[1], found[2])


def retire() -> None:
    """The certificate comes from elsewhere now: end what a run with this source has started."""
    timer = os.path.basename(UNIT) + ".timer"
    if os.path.lexists("/etc/systemd/system/timers.target.wants/" + timer):
        for argv in (["disable", "--now", timer], ["daemon-reload"]):
            transaction.run_command(["systemctl"] + argv)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(STATE)


# -- the program --------------------------------------------------------------------------------------------------


def program() -> bytes:
    """A file that Python can run, with this module and all of the collection that it needs."""
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
    """What the timer runs. ``--force``: get a new certificate although the present one is good."""
    # a program, not a module: pylint: disable=ansible-bad-function
    settings = Settings(**load_json(SETTINGS))
    before = last(settings)
    report = ask(settings, force=sys.argv[1:] == ["--force"], patient=True)
    lacking = ask_for_others(settings, force=sys.argv[1:] == ["--force"], patient=True)
    trouble = ""
    pair = obtained(settings)
    files = to_install(settings, pair)
    if files:
        try:
            # also when nothing is new: an earlier run may have been stopped in the middle of this
            if install(files).changed:
                for one in filter(None, [pair, *map(obtained, others(settings))]):
                    print(
                        "All ports serve the certificate %s, valid until %s" % (one.facts.serial, one.facts.not_after)
                    )
        except transaction.TransactionError as exc:
            trouble = exc.message
    note(settings, stand_in=pair is None, not_installed=trouble, lacking=lacking)
    if last(settings).get("asked") != before.get("asked"):
        for name, why in sorted(report.missing.items()):
            print("The certificate lacks %s: %s" % (name, why))
    for name, why in sorted(lacking.items()):
        print("There is no new certificate for %s: %s" % (name, why))
    if trouble:
        sys.exit("NOT INSTALLED, the certificate from before is served on: %s" % trouble)
    if report.error:
        sys.exit("NOT RENEWED, the certificate from before is served on: %s" % report.error)


def now() -> datetime.datetime:
    return datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0)
