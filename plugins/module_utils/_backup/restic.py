# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Runs on the server: Python 3.6 and the standard library only.

"""One repository, through restic(1)."""

# parts of a program, not of a module: pylint: disable=ansible-bad-function

import calendar
import contextlib
import json
import os
import re
import subprocess
import tempfile
import time
import typing as t

CACHE = "/var/cache/port587-backup"
#: Where the files with secrets are. They never reach a disk.
RUN = "/run"
#: All snapshots of the backup have this tag.
TAG = "port587"
#: The exit code where a copy can't be mounted.
NOT_MOUNTED = 70
#: restic's own exit code of a backup that could not read everything.
INCOMPLETE = 3

#: What went wrong, by what restic or ssh says. The first match counts.
PROBLEMS = [
    ("password", r"wrong password or no key found"),
    ("locked", r"already locked"),
    ("full", r"no space left on device|disk quota exceeded|quota exceeded|SSH_FX_FAILURE|sftp: \"Failure\""),
    # restic itself would make a missing bucket, wherever that is
    (
        "unreachable",
        r"subprocess ssh|ssh: |Permission denied|Host key verification|connection|timed? ?out|no such host"
        r"|bucket does not exist|Access ?Denied|Access ?Key|signature we calculated",
    ),
    ("missing", r"Is there a repository|does not exist: unable to open config"),
    (
        "damaged",
        r"contains errors|is damaged|verification failed|does not match|invalid data|does not exist|not found in index"
        r"|no such file or directory|unexpected|checksum|not valid|decrypt|unable to load|not in the index",
    ),
]
#: What does not get better while restic tries again, for up to a quarter of an hour.
HOPELESS = re.compile(
    r"no space left on device|bucket does not exist|Access ?Denied|Access ?Key|signature we calculated"
    r"|pack \w+: does not exist"
)
#: Nor does it try again when it asks for the first time: whoever waits for the answer wants to know.
ABSENT = re.compile(r"connection refused|no such host|no route to host|network is unreachable|timeout")

Settings = t.Dict[str, t.Any]
#: What to save: ``path``, ``as`` (how to copy it: mail, queue, copy; or plain, extra), ``except`` (names in it).
Saved = t.Dict[str, t.Any]
Snapshot = t.Dict[str, t.Any]


def mail_roots(settings: Settings) -> t.List[str]:
    return [one["path"] for one in settings["paths"] if one["as"] == "mail"]


class Failure(Exception):
    """The message is for a person. ``kind``: one of PROBLEMS, or foreign, shrunk, different, failed."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class Restic:
    """restic(1) with one repository. No secret is on a command line."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.host: str = settings["host"]
        self.version = _version()

    @contextlib.contextmanager
    def command(self) -> t.Iterator[t.Tuple[t.List[str], t.Dict[str, str]]]:
        """The command and its environment. The files with secrets exist as long as it runs."""
        s = self.settings
        os.makedirs(CACHE, mode=0o700, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="port587-backup-", dir=RUN) as directory:
            password = _secret(directory, "password", s["password"])
            argv = ["restic", "--repo", s["repository"], "--password-file", password, "--cache-dir", CACHE]
            if s["upload_limit"] and not s["repository"].startswith("/"):
                argv += ["--limit-upload", str(s["upload_limit"])]
            if s["repository"].startswith("sftp:"):
                argv += ["--option", "sftp.command=" + self._ssh(directory)]
            # of ssh's and restic's messages the English ones are understood here
            yield argv, dict(os.environ, LC_ALL="C.UTF-8", HOME="/root", **s["environment"])

    def _ssh(self, directory: str) -> str:
        found = re.match(r"sftp:(?://)?(?:([^@/]+)@)?(\[[^]]+\]|[^:/]+)(?::(\d+)(?=/))?", self.settings["repository"])
        if not found:
            raise Failure("missing", "%s names no host" % self.settings["repository"])
        user, host, port = found.groups()
        known = _secret(directory, "known_hosts", self.settings["known_hosts"])
        options = ["-o", "BatchMode=yes", "-o", "ConnectTimeout=20", "-o", "ServerAliveInterval=30"]
        options += ["-o", "StrictHostKeyChecking=yes", "-o", "UserKnownHostsFile=" + known]
        key = _secret(directory, "key", self.settings["ssh_key"].rstrip("\n") + "\n")
        options += ["-o", "IdentitiesOnly=yes", "-i", key]
        options += (["-p", port] if port else []) + (["-l", user] if user else [])
        return " ".join(["ssh"] + options + [host.strip("[]"), "-s", "sftp"])

    def run(self, *arguments: str, **options: t.Any) -> str:
        """What it prints. ``before``: a command that runs this one. Raises Failure."""
        with self.command() as (argv, environment):
            argv = list(options.get("before", [])) + argv + list(arguments)
            with tempfile.TemporaryFile("w+") as out:
                process = subprocess.Popen(
                    argv, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.PIPE, env=environment
                )
                said = _listen(process, asks=arguments[0] in ("snapshots", "cat"))
                code = process.wait()
                # until 0.9, a backup that could not read everything succeeds
                if self.version < (0, 10) and arguments[0] == "backup" and re.search("^error", said, re.MULTILINE):
                    code = code or INCOMPLETE
                out.seek(0)
                text = out.read()
        if code:
            raise self._failure(code, said + ("" if arguments[0] == "snapshots" else text))
        return text

    def _failure(self, code: int, said: str) -> Failure:
        if code == NOT_MOUNTED:
            return Failure("failed", "the copy of the mail can't be shown to restic: %s" % said.strip()[-300:])
        kinds = [kind for kind, pattern in PROBLEMS if re.search(pattern, said, re.IGNORECASE)]
        kind = kinds[0] if kinds else "failed"
        telling = dict(PROBLEMS).get(kind, "^Fatal")
        lines = [line.strip() for line in said.splitlines() if line.strip()]
        shown = [line for line in lines if re.search(telling, line, re.IGNORECASE)] or lines[-1:] or ["exit %d" % code]
        return Failure(kind, "%s: %s" % (self.settings["repository"], shown[-1][:300]))

    def snapshots(self) -> t.List[Snapshot]:
        """All of the repository, oldest first."""
        found = json.loads(self.run("snapshots", "--json", "--quiet", "--no-lock") or "null") or []
        for one in found:
            one["at"] = parse_time(one["time"])
        return sorted(found, key=lambda one: t.cast(float, one["at"]))

    def identity(self) -> str:
        """The repository's own ID."""
        return str(json.loads(self.run("cat", "config", "--quiet", "--no-lock"))["id"])

    def own_snapshots(self) -> t.List[Snapshot]:
        """Those of this server. Raises Failure if there are others."""
        found = self.snapshots()
        for one in found:
            if one["hostname"] != self.host or TAG not in (one.get("tags") or []):
                raise Failure(
                    "foreign",
                    "%s holds a snapshot of %s%s, and this server's are of %s; write another repository, or set "
                    "backup_host to the name under which this server's snapshots are kept"
                    % (
                        self.settings["repository"],
                        one["hostname"],
                        "" if TAG in (one.get("tags") or []) else " that another program made",
                        self.host,
                    ),
                )
        return found

    def host_option(self) -> str:
        return "--host" if self.version >= (0, 9, 6) else "--hostname"


def _version() -> t.Tuple[int, ...]:
    try:
        said = subprocess.check_output(["restic", "version"], stderr=subprocess.DEVNULL).decode()
    except OSError as exc:
        raise Failure("failed", "restic can't be run: %s" % exc) from exc
    found = re.search(r"restic (\d+)\.(\d+)\.(\d+)", said)
    return tuple(map(int, found.groups())) if found else (0, 0, 0)


def _secret(directory: str, name: str, text: str) -> str:
    path = os.path.join(directory, name)
    with open(path, "w", opener=lambda file, flags: os.open(file, flags, 0o600)) as handle:
        handle.write(text)
    return path


def _listen(process: "subprocess.Popen[bytes]", asks: bool) -> str:
    """What it says on stderr. A command that would try for a long time what can't succeed is ended."""
    lines = []
    for raw in t.cast("t.IO[bytes]", process.stderr):
        lines.append(raw.decode("utf-8", "replace"))
        if HOPELESS.search(lines[-1]) or (asks and ABSENT.search(lines[-1])):
            process.terminate()
    return "".join(lines)


def parse_time(text: str) -> float:
    """Seconds since the epoch, of a time as restic prints it: 2026-11-27T16:43:21.581268978+01:00."""
    found = re.match(r"(\d+-\d+-\d+T\d+:\d+:\d+)(\.\d+)?(Z|[+-]\d\d:\d\d)", text)
    if not found:
        raise Failure("damaged", "a snapshot has the time %s" % text)
    moment = time.strptime(found.group(1) + "+0000", "%Y-%m-%dT%H:%M:%S%z")
    seconds = calendar.timegm(moment) + float(found.group(2) or 0)
    if found.group(3) != "Z":
        sign, hours, minutes = found.group(3)[0], int(found.group(3)[1:3]), int(found.group(3)[4:6])
        seconds -= (1 if sign == "+" else -1) * (hours * 3600 + minutes * 60)
    return seconds
