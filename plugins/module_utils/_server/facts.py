# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Runs on the server: Python 3.6 and the standard library only.

"""The roles' only source of facts: the server's release, and the versions of its programs.

Differences between releases depend on a program's version. On a bare server, check mode finds no program yet; it then
uses the version that apt would install, or, if apt's lists are empty, the version that the release came with.
"""

import os
import pwd
import re
import typing as t

from ansible_collections.port587.mail.plugins.module_utils._daemons import hardening, postconf, tls
from ansible_collections.port587.mail.plugins.module_utils._daemons import known as known_trees
from ansible_collections.port587.mail.plugins.module_utils._server import apt, memory
from ansible_collections.port587.mail.plugins.module_utils._server.proc import read_text
from ansible_collections.port587.mail.plugins.module_utils._transaction import generation

#: The options of port587.mail.server_info.
QUESTIONS: t.Dict[str, t.Dict[str, t.Any]] = {
    name: {"type": "list", "elements": "str", "default": []}
    for name in ("packages", "users", "files", "postfix_parameters")
}

# (return code, stdout, stderr) of one command, run with LC_ALL=C
Run = t.Callable[[t.List[str]], t.Tuple[int, str, str]]

# The package whose version is the program's version.
POSTFIX = "postfix"
DOVECOT = "dovecot-core"
# Built from the same source as the library that all daemons use
OPENSSL = "openssl"
SYSTEMD = "systemd"

# The supported releases with their versions of Postfix, Dovecot, OpenSSL and systemd: the last resort if nothing else
# is known.
RELEASES = {
    ("debian", "11"): ("3.5.25", "2.3.13", "1.1.1", "247"),
    ("debian", "12"): ("3.7.11", "2.3.19.1", "3.0.16", "252"),
    ("debian", "13"): ("3.10.13", "2.4.1", "3.5.1", "257"),
    ("ubuntu", "18.04"): ("3.3.0", "2.2.33.2", "1.1.1", "237"),
    ("ubuntu", "20.04"): ("3.4.13", "2.3.7.2", "1.1.1", "245"),
    ("ubuntu", "22.04"): ("3.6.4", "2.3.16", "3.0.2", "249"),
    ("ubuntu", "24.04"): ("3.8.6", "2.3.21", "3.0.13", "255"),
    ("ubuntu", "26.04"): ("3.10.6", "2.4.2", "3.5.3", "259"),
}

# Substitute for a Postfix that is not installed yet: the first release of each branch with the parameter.
# Security parameters were carried back into older branches, and by distributions without a new version: so an installed
# Postfix is asked.
PARAMETERS_SINCE = {
    "smtpd_forbid_bare_newline": ("3.5.23", "3.6.13", "3.7.9", "3.8.4", "3.9"),
    "smtpd_forbid_bare_newline_reject_code": ("3.5.24", "3.6.14", "3.7.10", "3.8.5", "3.9"),
    "smtpd_forbid_unauth_pipelining": ("3.5.20", "3.6.10", "3.7.6", "3.8.1", "3.9"),
}

_PACKAGE_NAME = re.compile(r"[a-z0-9][a-z0-9+.-]+\Z")


# The memory in bytes from which on a server filters spam by default, and how rspamd's configuration shows that it does:
# the default must not change with the few megabytes that a new kernel takes.
ENOUGH_FOR_SPAM_FILTER = 1536 * 1024 * 1024
RSPAMD = "/etc/rspamd/rspamd.conf.local.override"
SPAM_FILTER = re.compile(r"^\s+spam_filter \{", re.MULTILINE)


class ServerError(Exception):
    """The server's facts are not available; the message gives the reason."""


class Package(t.NamedTuple):
    installed: t.Optional[str]  # package versions as dpkg writes them, epoch and all
    candidate: t.Optional[str]


class Program(t.NamedTuple):
    version: t.Optional[str]
    installed: bool
    assumed: bool


def parse_os_release(text: str) -> t.Tuple[str, str]:
    """(ID, VERSION_ID) of an os-release file."""
    found = dict(re.findall(r"""^(ID|VERSION_ID)=["']?([^"'\n]*)["']?\s*$""", text, re.MULTILINE))
    return found.get("ID", ""), found.get("VERSION_ID", "")


def parse_dpkg(text: str) -> t.Dict[str, str]:
    """The completely installed packages in the output of `dpkg-query -W`, name -> version."""
    installed = {}
    for line in text.splitlines():
        name, status, version = line.split("\t")
        # Second letter: i installed, t/W installed with a trigger that still has to run. Third letter: an error.
        if len(status) >= 2 and status[1] in "itW" and status[2:].strip() == "":
            installed[name] = version
    return installed


def parse_other_mtas(status: str) -> t.List[str]:
    """The installed packages of /var/lib/dpkg/status that give way to Postfix: Debian has one mail server at a time."""
    found = []
    for entry in [entry for entry in status.split("\n\n") if "mail-transport-agent" in entry]:
        fields = dict(re.findall(r"^(Package|Status|Provides): (.*)$", entry, re.MULTILINE))
        provided = re.split(r"[\s,]+", fields.get("Provides", ""))
        if fields.get("Status", "").split()[2:] == ["installed"] and "mail-transport-agent" in provided:
            found.append(fields["Package"])
    return sorted(name for name in found if name != POSTFIX)


def parse_policy(text: str) -> t.Dict[str, str]:
    """The candidates of `apt-cache policy`, name -> version."""
    found = re.findall(r"^(\S+):\n  Installed: .*\n  Candidate: (\S+)$", text, re.MULTILINE)
    return {name: version for name, version in found if version != "(none)"}


def upstream(version: t.Optional[str]) -> t.Optional[str]:
    """The program's version in a package's version (`1:2.3.19.1+dfsg1-2.1+deb12u1`) or in the program's own output."""
    if version is None:
        return None
    # A distribution marks a downgrade so: 2.4.1+really2.3.21 is 2.3.21.
    version = version.split("+really")[-1]
    found = re.match(r"\s*(?:\d+:)?(\d+(?:\.\d+)*)", version)
    return found.group(1) if found else None


def newer_or_same(version: str, than: str) -> bool:
    def numbers(text: str) -> t.List[int]:
        return [int(part) for part in text.split(".")]

    return numbers(version) >= numbers(than)


def database_type(version: str) -> str:
    """The table type of a Postfix that is not installed yet: from 3.11 on, distributions leave Berkeley DB out."""
    return "lmdb" if newer_or_same(version, "3.11") else "hash"


def has_parameter(version: str, name: str) -> bool:
    """Whether a Postfix of this version has a parameter of PARAMETERS_SINCE."""
    since = PARAMETERS_SINCE.get(name, ())
    same_branch = [first for first in since if first.split(".")[:2] == version.split(".")[:2]]
    return newer_or_same(version, (same_branch or list(since[-1:]) or ["999"])[0])


def _ask(run: Run, command: t.List[str], fine: t.Tuple[int, ...] = (0,)) -> str:
    code, out, err = run(command)
    if code not in fine:
        raise ServerError(f"`{' '.join(command)}` failed ({code}): {(err or out).strip()}")
    return out


def alternatives(wanted: str) -> t.List[str]:
    """The packages one of which is enough, written as in Debian's dependencies: `redis-server | valkey-server`."""
    return [name.strip() for name in wanted.split("|")]


def choose(wanted: str, packages: t.Mapping[str, Package]) -> str:
    """Of such packages: the installed one, else the first one that apt knows, else the first one."""
    names = alternatives(wanted)
    installed = [name for name in names if packages[name].installed is not None]
    known = [name for name in names if packages[name].candidate is not None]
    return (installed + known + names)[0]


def ask_packages(run: Run, names: t.Iterable[str]) -> t.Dict[str, Package]:
    """The installed versions, or those that apt would install, of packages and their alternatives."""
    groups = [alternatives(entry) for entry in names]
    wanted = sorted({name for group in groups for name in group})
    wrong = [name for name in wanted if not _PACKAGE_NAME.match(name)]
    if wrong:
        raise ServerError(f"packages: {wrong[0]!r} is not the name of a package")
    # dpkg-query answers 1 when it doesn't know one of them.
    query = ["dpkg-query", "-W", "-f", "${Package}\t${db:Status-Abbrev}\t${Version}\n", "--"]
    installed = parse_dpkg(_ask(run, query + wanted, fine=(0, 1)))
    missing = sorted({name for group in groups if not set(group) & set(installed) for name in group})
    # Reading apt's lists costs more than all the rest together.
    candidates = parse_policy(_ask(run, ["apt-cache", "policy", "--"] + missing)) if missing else {}
    return {name: Package(installed.get(name), candidates.get(name)) for name in wanted}


def user_exists(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


def os_release() -> str:
    for path in ("/etc/os-release", "/usr/lib/os-release"):
        try:
            with open(path, encoding="utf-8") as handle:
                return handle.read()
        except OSError:
            continue
    return ""


def runner(module: t.Any) -> Run:
    """How a module runs commands."""

    def run(command: t.List[str]) -> t.Tuple[int, str, str]:
        program = module.get_bin_path(command[0], required=True)
        found = module.run_command([program] + command[1:], environ_update={"LC_ALL": "C"})
        return t.cast("t.Tuple[int, str, str]", found)

    return run


def answer(run: Run, questions: t.Mapping[str, t.List[str]]) -> t.Dict[str, t.Any]:
    """The requested facts of this server. ``questions``: the options of port587.mail.server_info."""
    # before anything else is looked at
    name = generation.look()
    asked = ask(
        run, os_release(), user_exists, questions["packages"], questions["users"], questions["postfix_parameters"]
    )
    asked["systemd"].update(mounts=hardening.can_mount(), filters=hardening.can_filter())
    missing = [path for path in questions["files"] if not os.path.isfile(path)]
    status = read_text("/var/lib/dpkg/status")
    others = parse_other_mtas(status)
    usable = memory.memory("/")[0]
    # an interrupted upgrade leaves such packages, also ones that nobody has asked for (dovecot-pgsql)
    unfinished = apt.of_same_source(status, apt.parse_broken(status), asked["packages"])
    asked["missing"] += [name for name in unfinished if name not in asked["missing"]]
    return dict(
        asked,
        missing_files=missing,
        memory=usable,
        spam_filter=filters_spam(usable, read_text(RSPAMD)),
        other_mtas=others,
        trees=known_trees.trees(),
        run=name,
    )


def filters_spam(usable: int, configuration: str) -> bool:
    """The default for a server with so many bytes of memory, and rspamd's configuration; empty if it has none."""
    return usable >= ENOUGH_FOR_SPAM_FILTER or SPAM_FILTER.search(configuration) is not None


def _program(package: Package, said: t.Optional[str], stand_in: t.Optional[str]) -> Program:
    if package.installed is not None:
        return Program(upstream(said), True, False)
    if package.candidate is not None:
        return Program(upstream(package.candidate), False, False)
    return Program(stand_in, False, True)


def ask(
    run: Run,
    os_release: str,
    user_exists: t.Callable[[str], bool],
    names: t.List[str],
    users: t.List[str],
    parameters: t.Sequence[str] = (),
) -> t.Dict[str, t.Any]:
    """Everything that the module returns."""
    system = parse_os_release(os_release)
    packages = ask_packages(run, names + [POSTFIX, DOVECOT, OPENSSL, SYSTEMD])
    names = [choose(wanted, packages) for wanted in names]

    postfix_says = dovecot_says = kind = knows = None
    if packages[POSTFIX].installed is not None:
        # The built-in values (-d), which are there and right even where main.cf is missing or broken.
        postfix_says, kind = _ask(run, ["postconf", "-dh", "mail_version", "default_database_type"]).split()
        if parameters:
            known = postconf.parse_parameters(_ask(run, ["postconf", "-d"]))
            knows = [name for name in parameters if name in known]
    if packages[DOVECOT].installed is not None:
        dovecot_says = _ask(run, ["dovecot", "--version"])

    assumed_postfix, assumed_dovecot, assumed_openssl, assumed_systemd = RELEASES.get(system, (None,) * 4)
    postfix = _program(packages[POSTFIX], postfix_says, assumed_postfix)
    dovecot = _program(packages[DOVECOT], dovecot_says, assumed_dovecot)
    openssl = _program(packages[OPENSSL], packages[OPENSSL].installed, assumed_openssl)
    systemd = _program(packages[SYSTEMD], packages[SYSTEMD].installed, assumed_systemd)
    if kind is None and postfix.version is not None:
        kind = database_type(postfix.version)
        knows = [name for name in parameters if has_parameter(postfix.version, name)]
    return {
        "distribution": {"id": system[0], "version_id": system[1]},
        "packages": {name: packages[name]._asdict() for name in names},
        "missing": [name for name in names if packages[name].installed is None],
        "missing_users": [name for name in users if not user_exists(name)],
        "postfix": dict(postfix._asdict(), default_database_type=kind, knows=knows or []),
        "dovecot": dict(dovecot._asdict()),
        "openssl": dict(openssl._asdict()),
        "systemd": dict(systemd._asdict()),
        "tls": {"ciphers": tls.CIPHERS, "groups": tls.groups(openssl.version)},
    }
