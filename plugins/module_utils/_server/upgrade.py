# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Runs on the server: Python 3.6 and the standard library only.

"""Upgrade a server to its distribution's next release: look first, then upgrade without any question.

Everything is below one directory, which the last step deletes: a copy of apt's sources that names the next release,
the programs of the next release, unpacked to be asked, and the log. The upgrade itself runs as a unit of systemd, so it
does not end with the connection.
"""

import glob
import os
import shutil
import stat
import time
import typing as t

from ansible_collections.port587.mail.plugins.module_utils._daemons import tls
from ansible_collections.port587.mail.plugins.module_utils._daemons.postconf import parse_parameters
from ansible_collections.port587.mail.plugins.module_utils._server import apt, facts, releases
from ansible_collections.port587.mail.plugins.module_utils._server.proc import read_text
from ansible_collections.port587.mail.plugins.module_utils._transaction.commands import has_command, run_command
from ansible_collections.port587.mail.plugins.module_utils._transaction.files import private_directory
from ansible_collections.port587.mail.plugins.module_utils._transaction.state import load_json, write_json

DIRECTORY = "/var/lib/port587/upgrade"
STATE = DIRECTORY + "/state.json"
SCRATCH = DIRECTORY + "/apt"
#: The root directory of the next release's programs.
ROOT = DIRECTORY + "/root"
LOG = DIRECTORY + "/log"
RESULT = DIRECTORY + "/result"
SCRIPT = DIRECTORY + "/run"
PID = DIRECTORY + "/pid"
ARCHIVES = "/var/cache/apt/archives"
UNIT = "port587-upgrade"

#: Daemons that do not run during the upgrade: the next release's programs would read the files of the present one.
STOPPED = ("postfix", "dovecot", "rspamd")
#: Recommended by rspamd, and left failed or idle: role rspamd installs redis-server where it is wanted.
UNWANTED = ("redis-server", "valkey-server")
#: Bytes that have to stay free after the upgrade.
SPARE = 500 * 1000**2
#: Seconds between two looks at the running upgrade.
LOOK = 2.0
#: Seconds within which it has started.
STARTED = 30.0

AWAY = "port587-away"
RUNTIME_UNITS = "/run/systemd/system/"
#: Answers other servers and mail clients while Postfix is stopped. Gone after a reboot, as is all in /run.
AWAY_UNITS = {
    AWAY + ".socket": "[Socket]\nListenStream=25\nListenStream=587\nAccept=yes\nMaxConnections=64\n"
    "TriggerLimitIntervalSec=0\n",
    AWAY + "@.service": "[Service]\nStandardInput=socket\nUser=nobody\n"
    r"ExecStart=/usr/bin/printf '421 4.3.2 %%s is being upgraded; please try again later\\r\\n' %H" + "\n",
}

Outcome = t.Dict[str, t.Any]


class UpgradeError(Exception):
    """The upgrade can't go on; the message says why, and what to do."""


# -- look -----------------------------------------------------------------------------------------------------------


def look(to: str, accepted: t.Sequence[str], packages: t.Sequence[str], parameters: t.Sequence[str]) -> Outcome:
    """Whether the server can be upgraded to the release ``to``, and what the next release's programs are.

    ``accepted``: addresses of third-party repositories that may stay. ``packages``: those that the roles need.
    ``parameters``: of main.cf, to ask the next Postfix for.
    """
    release = facts.parse_os_release(facts.os_release())
    begun = load_json(STATE)
    backup = os.path.exists("/etc/systemd/system/port587-backup.service")
    if begun.get("refused_at"):
        return {"needed": True, "resumed": True, "from": begun["from"], "problems": [], "server": {}, "backup": backup}
    answer = {"needed": release[1] != to, "resumed": False, "from": release[1], "server": {}, "backup": backup}
    if release[1] == to:
        return dict(answer, problems=[])
    problems = _wrong_release(release, to) or _wrong_state() + _wrong_sources(release, accepted)
    if problems:
        return dict(answer, problems=problems)
    private_directory(SCRATCH)
    sources = _sources()
    _write_scratch(sources, release, to)
    server: Outcome = {}
    problems = _update_scratch() or _wrong_needs(packages)
    if not problems:
        _apt(["apt-get", "-y", "--download-only", "full-upgrade", *_excluded()], "can't be downloaded")
        candidates = unpack(packages)
        server = next_server(candidates, parameters)
    return dict(answer, problems=problems, server=server)


def _wrong_release(release: releases.Release, to: str) -> t.List[str]:
    after = releases.following(release)
    here = "%s %s" % (release[0].capitalize(), release[1])
    if after is None:
        return ["upgrade_to: %r: %s is the newest release that this collection supports" % (to, here)]
    if after != to:
        return ["upgrade_to: %r is not the release after this server's (%s); write %r" % (to, here, after)]
    return []


def _wrong_state() -> t.List[str]:
    problems = []
    broken = apt.parse_broken(read_text("/var/lib/dpkg/status"))
    if broken:
        problems.append("not wholly installed: %s; cure: dpkg --configure -a" % ", ".join(broken))
    held = run_command(["apt-mark", "showhold"])[1].split()
    if held:
        problems.append("held back: %s; cure: apt-mark unhold %s" % (", ".join(held), " ".join(held)))
    if os.path.exists("/run/reboot-required"):
        problems.append("the last update needs a reboot; cure: reboot the server, then run this playbook again")
    return problems


def _source_files() -> t.List[str]:
    return [
        path
        for path in ["/etc/apt/sources.list"] + sorted(glob.glob("/etc/apt/sources.list.d/*"))
        if path.endswith((".list", ".sources")) and os.path.isfile(path)
    ]


def _sources() -> t.Dict[str, str]:
    return {path: read_text(path) for path in _source_files()}


def _origins(sources: t.Mapping[str, str], release: releases.Release) -> t.Tuple[t.List[releases.Source], t.Set[str]]:
    """All sources, and the addresses of the distribution's own."""
    found = [one for path, text in sources.items() for one in releases.parse_sources(path, text)]
    said = run_command(["apt-get", "indextargets", "--format", "$(REPO_URI) $(ORIGIN)", "Created-By: Packages"])[1]
    origins = releases.parse_origins(said)
    return found, {one.uri for one in found if releases.is_own(one, release, origins)}


def _wrong_sources(release: releases.Release, accepted: t.Sequence[str]) -> t.List[str]:
    # who publishes a repository is in its index
    code, out, err = run_command(["apt-get", "-q", "update"])
    if code:
        return ["apt-get update fails: %s" % _last(out + err)]
    found, own = _origins(_sources(), release)
    problems = [
        "%s: %s %s names a release that changes by itself; write %s instead"
        % (one.file, one.uri, one.suite, releases.CODENAMES[release[0]][release[1]])
        for one in releases.moving(found)
    ]
    others = [one for one in found if one.uri not in own and one.uri.rstrip("/") not in accepted]
    problems += [
        "%s: %s %s does not belong to the distribution; disable it, or list its address in upgrade_accept_sources"
        % (one.file, one.uri, one.suite)
        for one in others
        if one not in releases.moving(found)
    ]
    return problems or ([] if own else ["apt has no source of this release; cure: put it into /etc/apt/sources.list"])


def _write_scratch(sources: t.Mapping[str, str], release: releases.Release, to: str) -> None:
    _found, own = _origins(sources, release)
    for path, text in sources.items():
        copy = SCRATCH + path
        os.makedirs(os.path.dirname(copy), exist_ok=True)
        with open(copy, "w", encoding="utf-8") as handle:
            handle.write(renamed(path, text, release, to, own))
    for directory in ("/etc/apt/sources.list.d", "/lists/partial", "/none/partial"):
        os.makedirs(SCRATCH + directory, exist_ok=True)
    with open(SCRATCH + "/empty", "w", encoding="ascii"):
        pass
    # apt reads lists as a user of its own
    for directory in (os.path.dirname(DIRECTORY), DIRECTORY, SCRATCH):
        os.chmod(directory, os.stat(directory).st_mode | 0o011)


def renamed(path: str, text: str, release: releases.Release, to: str, own: t.Container[str]) -> str:
    known = releases.CODENAMES[release[0]]
    return releases.rewritten(path, text, known[release[1]], known[to], own)


def _options() -> t.List[str]:
    """Make apt see the next release, in a directory of its own. Downloads go where the upgrade finds them."""
    values = {
        "Dir::Etc::SourceList": SCRATCH + "/etc/apt/sources.list",
        "Dir::Etc::SourceParts": SCRATCH + "/etc/apt/sources.list.d",
        "Dir::State::Lists": SCRATCH + "/lists",
        "Dir::Cache::pkgcache": SCRATCH + "/pkgcache.bin",
        "Dir::Cache::srcpkgcache": SCRATCH + "/srcpkgcache.bin",
    }
    return [word for name, value in values.items() for word in ("-o", "%s=%s" % (name, value))]


def _apt(command: t.Sequence[str], trouble: str) -> str:
    code, out, err = run_command([command[0], *_options(), *command[1:]])
    if code:
        raise UpgradeError("the next release's packages %s: %s" % (trouble, _last(out + err)))
    return out


def _last(said: str) -> str:
    lines = [line.strip() for line in said.splitlines() if line.startswith(("E:", "W:", "Err:"))]
    return "; ".join((lines or said.strip().splitlines())[-3:])


def _update_scratch() -> t.List[str]:
    code, out, err = run_command(["apt-get", *_options(), "-q", "update"])
    failed = code or "\nErr:" in "\n" + out
    return ["the next release's lists can't be downloaded: %s" % _last(out + err)] if failed else []


def _excluded() -> t.List[str]:
    """Arguments by which apt leaves out UNWANTED, as far as the next release has them and this server doesn't."""
    present = facts.ask_packages(run_command, UNWANTED)
    return [name + "-" for name in facts.parse_policy(_policy(UNWANTED)) if present[name].installed is None]


def _wrong_needs(packages: t.Sequence[str]) -> t.List[str]:
    problems = []
    said = run_command(["apt-get", *_options(), "--assume-no", "full-upgrade"])[1]
    need = releases.parse_need(said)
    for path in ("/", "/usr", "/var"):
        status = os.statvfs(path)
        free, wanted = status.f_bavail * status.f_frsize, 2 * need.download + need.disk + SPARE
        if free < wanted:
            text = "%s has %d MB free, and the upgrade needs %d MB; cure: apt-get clean; journalctl --vacuum-size=50M"
            problems.append(text % (path, free // 10**6, wanted // 10**6))
            break
    # of packages one of which is enough, each of the others replaces a lost one
    groups = [facts.alternatives(wanted) for wanted in packages]
    known = facts.parse_policy(_policy([name for group in groups for name in group]))
    removed = [[name for name in group if name in need.removed] for group in groups]
    lost = sorted(
        names[0] for names, group in zip(removed, groups) if names and not set(group) & set(known) - set(names)
    )
    if lost:
        problems.append(
            "the upgrade would remove %s; cure: apt-get full-upgrade, before anything else" % ", ".join(lost)
        )
    present = set(apt.parse_sources(read_text("/var/lib/dpkg/status")))
    pinned = [" | ".join(group) for group in groups if set(group) & present and not set(group) & set(known)]
    if pinned:
        problems.append(
            "%s: not to be had in the next release, or held by a pin; look in /etc/apt/preferences.d"
            % ", ".join(pinned)
        )
    return problems


def _policy(packages: t.Sequence[str]) -> str:
    options = _options() + ["-o", "Dir::State::status=%s/empty" % SCRATCH]
    return run_command(["apt-cache", *options, "policy", "--", *packages])[1] if packages else ""


def unpack(packages: t.Sequence[str]) -> t.Dict[str, str]:
    """Put the next release's programs below ROOT, with all that they need. Returns the packages' versions."""
    wanted = [name for name in packages if name.startswith(("postfix", "dovecot-"))]
    command = ["apt-get", "-o", "Dir::State::status=%s/empty" % SCRATCH, "-y", "--no-install-recommends"]
    archives = "Dir::Cache::archives=%s/none" % SCRATCH
    listed = _apt([*command, "-o", archives, "--print-uris", "install", *wanted], "can't be resolved")
    files = [line.split()[1] for line in listed.splitlines() if line.startswith("'")]
    _apt([*command, "--download-only", "install", *wanted], "can't be downloaded")
    shutil.rmtree(ROOT, ignore_errors=True)
    os.makedirs(ROOT, 0o755)
    for name in files:
        code, _out, err = run_command(["dpkg-deb", "-x", os.path.join(ARCHIVES, name), ROOT])
        if code:
            raise UpgradeError("%s can't be unpacked: %s" % (name, err.strip()))
    # these links are in a package that nothing depends on
    for name in ("bin", "sbin", "lib", "lib64"):
        if not os.path.exists(os.path.join(ROOT, name)):
            os.symlink("usr/" + name, os.path.join(ROOT, name))
    for name in ("dev", "tmp"):
        os.mkdir(os.path.join(ROOT, name))
    os.mknod(ROOT + "/dev/null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    os.makedirs(ROOT + "/etc", exist_ok=True)
    for name in ("passwd", "group"):
        shutil.copy("/etc/" + name, ROOT + "/etc/" + name)
    names = [name for entry in packages for name in facts.alternatives(entry)]
    return facts.parse_policy(_policy(names + [facts.OPENSSL]))


def ask(*command: str) -> t.Tuple[int, str, str]:
    """Run a program of the next release."""
    return run_command(["chroot", ROOT, *command])


def next_server(candidates: t.Mapping[str, str], parameters: t.Sequence[str]) -> Outcome:
    """What port587.mail.server_info will return after the upgrade, as far as it differs."""
    said = ask("postconf", "-dh", "mail_version", "default_database_type")[1].split()
    dovecot = facts.upstream(ask("dovecot", "--version")[1])
    if len(said) != 2 or dovecot is None:
        raise UpgradeError("the next release's programs don't run here; nothing was changed")
    known = parse_parameters(ask("postconf", "-d")[1])
    openssl = facts.upstream(candidates.get(facts.OPENSSL))
    here = {"installed": True, "assumed": False}
    return {
        "postfix": dict(
            here,
            version=said[0],
            default_database_type=said[1],
            knows=[name for name in parameters if name in known],
        ),
        "dovecot": dict(here, version=dovecot),
        "openssl": dict(here, version=openssl),
        "tls": {"groups": tls.groups(openssl)},
        "packages": {name: {"installed": version, "candidate": None} for name, version in candidates.items()},
    }


# -- the configuration for the next release ----------------------------------------------------------------------


def check(files: t.Mapping[str, str]) -> t.List[str]:
    """What the next release's programs complain of in these files, path -> content."""
    for path, content in files.items():
        copy = ROOT + path
        os.makedirs(os.path.dirname(copy), exist_ok=True)
        with open(copy, "w", encoding="utf-8") as handle:
            handle.write(content)
    problems = []
    if "/etc/postfix/main.cf" in files:
        said = "".join(ask("postconf", "-c", "/etc/postfix", option)[2] for option in ("-n", "-M", "-P"))
        problems += releases.parse_unknown(said)
    if "/etc/dovecot/dovecot.conf" in files:
        problems += list(_check_dovecot(files["/etc/dovecot/dovecot.conf"]))
    return problems


def _check_dovecot(content: str) -> t.Iterator[str]:
    """doveconf(1) stops at the first mistake, so what it refuses is left out, and it is asked again."""
    lines = content.splitlines()
    seen: t.Set[str] = set()
    while True:
        with open(ROOT + "/etc/dovecot/dovecot.conf", "w", encoding="utf-8") as handle:
            handle.write("\n".join(lines) + "\n")
        code, _out, err = ask("doveconf", "-n")
        said = (releases.parse_unknown(err) or ["doveconf ends with %d" % code])[0]
        if code == 0 or said in seen:
            return
        seen.add(said)
        number = releases.line_number(said)
        if number is None or not 0 < number <= len(lines):
            yield said
            return
        yield "%s: %s" % (lines[number - 1].strip(), said.partition("line %d: " % number)[2] or said)
        for index in releases.block(lines, number - 1):
            lines[index] = ""


# -- the upgrade ----------------------------------------------------------------------------------------------------


def refuse(to: str) -> Outcome:
    """Put off all mail: Postfix, Dovecot and rspamd stop, and another server is told to try again later."""
    state = load_json(STATE)
    if not state.get("refused_at"):
        release = facts.parse_os_release(facts.os_release())
        state = {"from": release[1], "to": to, "refused_at": time.time()}
        private_directory(DIRECTORY)
        write_json(STATE, state)
    units = [unit for unit in STOPPED if has_command(unit) or os.path.exists("/etc/%s" % unit)]
    for unit in units:
        run_command(["systemctl", "stop", unit])
        # a package would start the new program with the old files, and fail: dpkg then leaves it half configured
        run_command(["systemctl", "mask", "--runtime", unit])
    os.makedirs(RUNTIME_UNITS, exist_ok=True)
    for name, text in AWAY_UNITS.items():
        with open(RUNTIME_UNITS + name, "w", encoding="ascii") as handle:
            handle.write(text)
    run_command(["systemctl", "daemon-reload"])
    run_command(["systemctl", "start", AWAY + ".socket"])
    return {"changed": True}


def accept() -> None:
    """Make room for the daemons, which the roles start."""
    run_command(["systemctl", "stop", AWAY + ".socket"])
    for name in AWAY_UNITS:
        if os.path.exists(RUNTIME_UNITS + name):
            os.unlink(RUNTIME_UNITS + name)
    run_command(["systemctl", "unmask", "--runtime", *STOPPED])
    run_command(["systemctl", "daemon-reload"])


_SCRIPT = """#!/bin/sh
# Written by playbooks/upgrade.yml of port587.mail, which runs it.
echo $$ > %(pid)s
exec > %(log)s 2>&1
export DEBIAN_FRONTEND=noninteractive APT_LISTCHANGES_FRONTEND=none NEEDRESTART_SUSPEND=1 UCF_FORCE_CONFFOLD=1 LC_ALL=C
%(commands)s
echo $? > %(result)s
"""
_DEBIAN = """keep="-o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold"
apt="apt-get -q -y -o DPkg::Lock::Timeout=600 $keep"
dpkg --force-confdef --force-confold --configure -a
apt-get -q update && $apt --fix-broken install && $apt full-upgrade %(excluded)s"""
_UBUNTU = "do-release-upgrade -f DistUpgradeViewNonInteractive"


def upgrade(to: str) -> Outcome:
    """Upgrade, or go on with an interrupted upgrade, and wait for its end."""
    release = facts.parse_os_release(facts.os_release())
    if not _running():
        _prepare(release, to)
        code, out, err = run_command(
            [
                "systemd-run",
                "--unit=" + UNIT,
                "--no-block",
                "--collect",
                "--property=KillMode=process",
                "/bin/sh",
                SCRIPT,
            ]
        )
        if code:
            raise UpgradeError("systemd-run: %s" % (err + out).strip())
    began = time.monotonic()
    while not os.path.exists(RESULT) and (_running() or time.monotonic() - began < STARTED):
        time.sleep(LOOK)
    accept()
    result = read_text(RESULT).strip()
    now = facts.parse_os_release(facts.os_release())[1]
    if result != "0" or now != to:
        for unit in STOPPED:
            run_command(["systemctl", "start", unit])
        raise UpgradeError(
            "the upgrade did not come to its end (%s; the server says that it is release %s). Its last words:\n%s\n"
            "All of it is in %s. Cure what it names, then run this playbook again, which goes on from here; or run "
            "site.yml, which makes the mail server work again as far as it is"
            % (result or "interrupted", now, "\n".join(read_text(LOG).splitlines()[-15:]), LOG)
        )
    return {"changed": True}


def _running() -> bool:
    """Whether the script runs. systemctl itself may be between two releases, and does not always answer."""
    pid = read_text(PID).strip()
    return bool(pid) and SCRIPT in read_text("/proc/%s/cmdline" % pid)


def _prepare(release: releases.Release, to: str) -> None:
    for path in (RESULT, LOG, PID):
        if os.path.exists(path):
            os.unlink(path)
    if release[0] == "ubuntu":
        commands = _UBUNTU
    else:
        commands = _DEBIAN % {"excluded": " ".join(_excluded())}
        for path in _source_files():
            copy = SCRATCH + path
            if os.path.exists(copy) and read_text(copy) != read_text(path):
                shutil.copy(path, DIRECTORY + "/" + os.path.basename(path) + ".before")
                with open(path, "w", encoding="utf-8") as handle:
                    handle.write(read_text(copy))
    with open(SCRIPT, "w", encoding="ascii") as handle:
        handle.write(_SCRIPT % {"log": LOG, "pid": PID, "result": RESULT, "commands": commands})


def finish() -> Outcome:
    """The end, after the roles have written the new configuration and the server is proved."""
    state = load_json(STATE)
    if not state:
        return {"changed": False}
    # the transaction has written it right before Postfix was started
    back = os.stat("/etc/postfix/main.cf").st_mtime
    shutil.rmtree(DIRECTORY)
    return {
        "changed": True,
        "from": state["from"],
        "away": int(max(0, back - state["refused_at"])),
        # a new kernel waits for it, and so do programs that still use old libraries
        "reboot": True,
    }
