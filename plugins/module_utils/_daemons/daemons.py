# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Runs on the server: Python 3.6 and the standard library only.

"""The daemons as a transaction sees them: how to check a tree that is not live yet, and how to take it over.

The daemons' own checkers accept much that later leaves a port silent: wrong booleans, TLS levels and restriction words,
port names nobody knows, tables and keys that are not there. What they let through is looked up here.
"""

import contextlib
import errno
import grp
import os
import pwd
import re
import shlex
import shutil
import socket
import ssl
import time
import typing as t

from ansible_collections.port587.mail.plugins.module_utils._daemons import nginx_syntax
from ansible_collections.port587.mail.plugins.module_utils._daemons.prove import Proof, prove
from ansible_collections.port587.mail.plugins.module_utils._dns.dkim import key_trouble
from ansible_collections.port587.mail.plugins.module_utils._transaction.files import (
    DEADLINE,
    Activation,
    Daemon,
    File,
    Problem,
    ProofError,
    TransactionError,
    View,
    compiled_path,
    has_command,
    read_file,
    run_command,
    temporary_directory,
    write_settled,
)
from ansible_collections.port587.mail.plugins.module_utils._transaction.journal import remembered_proofs

#: Seconds for Dovecot 2.2 to compute DH parameters: up to a minute on a quick machine.
PARAMETERS = 900.0
#: Seconds for the first start of rspamd, which compiles its lists: ten on a quick machine.
FIRST_START = 120.0


class SystemdDaemon(Daemon):
    """A daemon of the distribution's, run by systemd."""

    executable = ""
    #: What it logs when it has been told to reload.
    reloading = ""

    def installed(self) -> bool:
        return has_command(self.executable)

    def running(self) -> bool:
        return run_command(["systemctl", "is-active", "--quiet", self.name])[0] == 0

    def enabled(self) -> bool:
        return run_command(["systemctl", "is-enabled", "--quiet", self.name])[0] == 0

    def needs_restart(self, view: View) -> bool:
        return False

    def enable(self) -> None:
        self._systemctl("enable")

    def disable(self) -> None:
        self._systemctl("disable")

    def start(self) -> None:
        # restart, not start: a master that died can leave the unit "active", and then start does nothing
        self.restart()

    def reload(self) -> None:
        began = time.time()
        self._systemctl("reload")
        # that was a signal, and until it has arrived the old processes would pass every proof
        while time.time() < began + 5 and not any(self.reloading in line for line in self._log(began)):
            time.sleep(0.05)

    def restart(self) -> None:
        # several starts within seconds would trip systemd's limit, and the unit would stay down
        run_command(["systemctl", "reset-failed", self.name])
        self._systemctl("restart")

    def stop(self) -> None:
        self._systemctl("stop")

    def prove(self, remembered: t.Dict[str, t.Any], patience: float = DEADLINE) -> None:
        prove([Proof(**p) for p in remembered.get("proofs", [])], remembered.get("certificate"), patience)

    @staticmethod
    def _log(moment: float) -> t.List[str]:
        # 2 is syslog's mail facility: both daemons log with it, under many names
        return _journal(moment, "SYSLOG_FACILITY=2")

    def words_since(self, moment: float) -> t.List[str]:
        return [
            line
            for line in self._log(moment)
            if re.search(r"\b(fatal|error|warning|panic)\b", line, re.IGNORECASE) and not _noise(line)
        ]

    def _systemctl(self, verb: str) -> None:
        code, out, err = run_command(["systemctl", verb, self.name])
        if code:
            raise TransactionError("systemctl %s %s: %s" % (verb, self.name, (err + out).strip()))


def _journal(moment: float, which: str) -> t.List[str]:
    """What was logged since."""
    argv = ["journalctl", "--quiet", "--no-pager", "--output=cat", "--since=@%.6f" % moment, which]
    return run_command(argv)[1].splitlines()


def _processes() -> t.Iterator[t.Tuple[str, bytes]]:
    """Number and command line of each, or the title that it has given itself."""
    for pid in (name for name in os.listdir("/proc") if name.isdigit()):
        try:
            line = read_file("/proc/%s/cmdline" % pid) or b""
        except ProcessLookupError:
            # gone meanwhile
            continue
        yield pid, line


def _noise(line: str) -> bool:
    # said at every stop and at every reload of Dovecot
    return "Killed with signal 15" in line or "SIGHUP received" in line


# -- Postfix ------------------------------------------------------------------------------------------------------

#: Allowed values of TLS levels, postconf(5) smtp_tls_security_level and smtpd_tls_security_level.
_CLIENT_TLS_LEVELS = ("", "none", "may", "encrypt", "dane", "dane-only", "fingerprint", "verify", "secure")
_SERVER_TLS_LEVELS = ("", "none", "may", "encrypt")

#: What master.cf calls them. /etc/services does not know all of these names everywhere.
_PORTS = {"smtp": 25, "smtps": 465, "submissions": 465, "submission": 587}

_TABLE = re.compile(r"(?<![\w$}-])(?:proxy:)?([a-z]+):(/[^\s,;{}]+)")
_COMPILED_TABLES = ("hash", "btree", "lmdb", "cdb", "dbm", "sdbm")


class Postfix(SystemdDaemon):
    name = "postfix"
    executable = "postfix"
    reloading = "reload -- version"
    directory = "/etc/postfix"
    #: The resolv.conf of its own that it may have, and what shows it that one when it is started.
    resolver = "/etc/port587/resolv.conf"
    drop_ins = tuple("/etc/systemd/system/%s.service.d/port587.conf" % unit for unit in ("postfix", "postfix@-"))
    units = "/etc/systemd/system/"

    def running(self) -> bool:
        # not systemctl is-active: up to Debian 12 the unit says "active" after the master is dead;
        # and not postfix status, which writes a line into the log each time it is asked
        # the name, not the link to the program: that may be hidden even from root in a container
        with contextlib.suppress(OSError):
            return read_file("/proc/%s/comm" % self.pid()) == b"master\n"
        return False

    @staticmethod
    def pid() -> str:
        """Of the master that runs, or that ran last; empty before."""
        return (read_file("/var/spool/postfix/pid/master.pid") or b"").decode("ascii", "replace").strip()

    def needs_restart(self, view: View) -> bool:
        """postconf(5): these are only read when the master starts."""
        once = [self.resolver] + [path for path in [*view.files, *view.removed] if path.startswith(self.units)]
        if any(view.read(path) != view.before(path) for path in once):
            return True
        new = view.read(self.directory + "/main.cf") or b""
        old = view.before(self.directory + "/main.cf") or b""
        return any(
            _main_cf_value(old, key) != _main_cf_value(new, key)
            for key in ("inet_interfaces", "inet_protocols", "queue_directory")
        )

    def validate(self, view: View) -> t.List[Problem]:
        with temporary_directory() as directory:
            tree = os.path.join(directory, "postfix")
            self._lay_out(tree, view)
            problems = self._ask_postconf(tree) or self._ask_postfix_check(tree)
            if not problems:
                problems = self._look_up(tree, view)
        return [self._locate(problem, tree, view) for problem in problems]

    def in_order(self, files: t.Sequence[File], view: View) -> t.Tuple[t.List[File], str]:
        """Tables before what points to them; of main.cf and master.cf first the one that the other's old text suits."""
        main, master = (os.path.join(self.directory, name) for name in ("main.cf", "master.cf"))
        both = [f for f in files if f.path in (main, master)]
        rest = [f for f in files if f not in both]
        if len(both) < 2:
            return rest + both, ""
        for first, second in (both, both[::-1]):
            between = self.validate(View([*rest, first], (), view.beneath))
            # what only the other one uses is unused in between, and does no harm
            if all("unused parameter" in problem.text for problem in between):
                return [*rest, first, second], ""
        return rest + both, "a power cut between replacing main.cf and master.cf would leave what Postfix can't load"

    def _lay_out(self, tree: str, view: View) -> None:
        """The whole directory as it will be: what others put there belongs to it."""
        os.mkdir(tree, 0o755)
        paths = {
            os.path.join(self.directory, n)
            for n in (os.listdir(self.directory) if os.path.isdir(self.directory) else ())
        }
        paths |= {p for p in view.files if os.path.dirname(p) == self.directory}
        for path in paths:
            copy = os.path.join(tree, os.path.basename(path))
            if path in view.files or os.path.isfile(path):
                content = view.read(path)
                if content is not None and (path in view.files or not os.path.islink(path)):
                    write_settled(copy, content)
            elif os.path.isdir(path) and not os.path.islink(path):
                shutil.copytree(path, copy, symlinks=True)

    @staticmethod
    def _ask_postconf(tree: str) -> t.List[Problem]:
        problems = []  # type: t.List[Problem]
        for argument in ("-n", "-M", "-P"):
            code, _out, err = run_command(["postconf", "-c", tree, argument])
            for line in err.splitlines():
                problem = Problem(
                    os.path.join(tree, "main.cf"), re.sub(r"^postconf: (warning|fatal|error): ", "", line)
                )
                if problem not in problems:
                    problems.append(problem)
            if code and not err:
                problems.append(Problem(tree, "postconf %s ends with %d" % (argument, code)))
        return problems

    @staticmethod
    def _ask_postfix_check(tree: str) -> t.List[Problem]:
        """postfix check, with a terminal for its messages: up to 3.7 it says nothing on standard error otherwise."""
        code, said, _err = run_command(["script", "-qec", "postfix -c %s check" % shlex.quote(tree), "/dev/null"])
        if code == 0:
            return []
        lines = [line.strip() for line in said.splitlines() if "fatal" in line or "error" in line]
        return [Problem(os.path.join(tree, "main.cf"), line) for line in lines] or [
            Problem(tree, "postfix check ends with %d" % code)
        ]

    def _look_up(self, tree: str, view: View) -> t.List[Problem]:
        """What is wrong with values that Postfix's own check accepts."""

        def ask(*arguments: str) -> str:
            # $config_directory is the live one again
            return run_command(["postconf", "-c", tree, *arguments])[1].replace(tree, self.directory)

        main, defaults = _settings(ask("-nx")), _settings(ask("-d"))
        programs = main.get("daemon_directory", defaults.get("daemon_directory", ""))
        words = _RestrictionWords(main, os.path.join(programs, "smtpd"))
        look_up = _Values(defaults, ask("-m").split(), words, view)
        problems = []  # type: t.List[Problem]
        for key, value in main.items():
            for text, absent in look_up.wrong(key, value):
                text = "%s = %s: %s" % (key, value, text)
                problems.append(Problem(os.path.join(self.directory, "main.cf"), text, absent=absent))
        for line in ask("-Px").splitlines():
            found = re.match(r"(\S+?/\S+?)/(\S+) = ?(.*)", line)
            service, key, value = found.groups() if found else ("", "", "")
            for text, absent in look_up.wrong(key, value.strip()):
                text = "%s: -o %s = %s: %s" % (service, key, value.strip(), text)
                problems.append(Problem(os.path.join(self.directory, "master.cf"), text, absent=absent))
        served = self._served() if self.running() else set()
        for line in ask("-M").splitlines():
            service, kind, *_columns, program = line.split()[:8]
            if kind == "inet" and not self._port_is_known(service.rsplit(":", 1)[-1], main):
                text = "%s: no port has this name; write the port's number" % service
                problems.append(Problem(os.path.join(self.directory, "master.cf"), text))
            elif kind == "inet" and service.isdigit() and int(service) not in served and _is_taken(int(service)):
                text = "%s: another program listens on port %s" % (service, service)
                problems.append(Problem(os.path.join(self.directory, "master.cf"), text))
            if not view.exists(os.path.join(programs, program)):
                text = "%s: there is no program %s in %s" % (service, program, programs)
                problems.append(Problem(os.path.join(self.directory, "master.cf"), text))
        return problems

    @staticmethod
    def _served() -> t.Set[int]:
        """The ports that master.cf gives it already, under whatever name: smtps, submissions and 465 are one."""
        found = set()
        for service, kind in (line.split()[:2] for line in run_command(["postconf", "-M"])[1].splitlines()):
            port = service.rsplit(":", 1)[-1]
            if kind == "inet":
                with contextlib.suppress(OSError):
                    found.add(_PORTS.get(port) or (int(port) if port.isdigit() else socket.getservbyname(port, "tcp")))
        return found

    @staticmethod
    def _port_is_known(port: str, main: t.Mapping[str, str]) -> bool:
        if port.isdigit():
            return True
        if re.search(r"(^|[\s,=])%s\s*=" % re.escape(port), main.get("known_tcp_ports", "")):
            return True
        try:
            socket.getservbyname(port, "tcp")
        except OSError:
            return False
        return True

    def _locate(self, problem: Problem, tree: str, view: View) -> Problem:
        """Name the live file instead of the copy that was checked, and the line where the parameter stands."""
        text = problem.text.replace(tree, self.directory)
        path = problem.path.replace(tree, self.directory)
        named = re.match(r"(%s/\S+?)(?:[,:] line (\d+))?: (.*)" % re.escape(self.directory), text)
        if named:
            path, text = named.group(1), named.group(3)
            if named.group(2):
                return problem._replace(path=path, text=text, line=int(named.group(2)))
        if "master.cf" in text:
            path = os.path.join(self.directory, "master.cf")
        parameter = re.search(r"([a-z][a-z0-9_]+) ?=", text)
        key = parameter.group(1) if parameter else None
        line = view.line_of(path, lambda row: bool(key and re.match(r"\s*(-o\s+)?%s\s*=" % re.escape(key), row)))
        return problem._replace(path=path, text=text, line=line)


class _Values:
    """What can be wrong with the value of a parameter: a text, and the path that is not there, if it is that."""

    def __init__(
        self, defaults: t.Dict[str, str], table_types: t.Sequence[str], words: "_RestrictionWords", view: View
    ) -> None:
        self.defaults = defaults
        self.table_types = table_types
        self.words = words
        self.view = view

    def wrong(self, key: str, value: str) -> t.Iterator[t.Tuple[str, t.Optional[str]]]:
        for text in self._words(key, value):
            yield text, None
        if re.match(r"smtpd_tls_(ec)?(cert|key)_file$|smtpd_tls_chain_files$", key):
            paths = [path for path in re.split(r"[\s,]+", value) if path.startswith("/")]
            absent = [path for path in paths if not self.view.exists(path)]
            for path in absent:
                yield "%s does not exist" % path, path
            for pair in _pairs(paths, self.view) if key == "smtpd_tls_chain_files" and not absent else ():
                trouble = key_pair_trouble(pair, self.view)
                if trouble:
                    yield trouble, None
        if key == "tls_server_sni_maps" and value.startswith("inline:"):
            for path in re.findall(r"=\s*(/[^\s,}]+)", value):
                trouble = key_pair_trouble([path], self.view) if self.view.exists(path) else None
                if trouble:
                    yield trouble, None
                elif not self.view.exists(path):
                    yield "%s does not exist" % path, path
        # a cache is made when it is first needed
        for kind, path in (
            () if re.search(r"_cache_(database|map)$|^address_verify_map$", key) else _TABLE.findall(value)
        ):
            yield from self._table(kind, path)

    def _words(self, key: str, value: str) -> t.Iterator[str]:
        word = value.lower()
        more = ("normalize", "reject", "note") if key == "smtpd_forbid_bare_newline" else ()
        if self.defaults.get(key) in ("yes", "no") and word not in ("yes", "no") + more:
            yield "has to be yes or no"
        levels = ()  # type: t.Tuple[str, ...]
        if re.match(r"(smtp|lmtp|tlsproxy_client)_tls_security_level$", key):
            levels = _CLIENT_TLS_LEVELS
        elif key == "smtpd_tls_security_level":
            levels = _SERVER_TLS_LEVELS
        if levels and word not in levels:
            yield "is no TLS level; one of %s" % ", ".join(filter(None, levels))
        if re.match(r"smtpd_.*_restrictions$", key):
            for unknown in self.words.unknown(value):
                yield "%s is no restriction that this Postfix knows" % unknown

    def _table(self, kind: str, path: str) -> t.Iterator[t.Tuple[str, t.Optional[str]]]:
        if kind in _COMPILED_TABLES and kind not in self.table_types:
            yield "this Postfix has no %s tables" % kind, None
        elif kind in _COMPILED_TABLES:
            source = self.view.files.get(path)
            compiled = compiled_path(path, kind)
            if not (source and source.map) and not self.view.exists(compiled):
                yield "the table %s does not exist" % compiled, compiled
        elif kind in ("texthash", "regexp", "pcre", "cidr") and not self.view.exists(path):
            yield "the table %s does not exist" % path, path


def _is_taken(port: int, address: str = "", kind: socket.SocketKind = socket.SOCK_STREAM) -> bool:
    """Whether a program listens on the port, on whatever address."""
    with socket.socket(socket.AF_INET, kind) as probe:
        if kind == socket.SOCK_STREAM:
            # connections that have ended don't count
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as exc:
            return exc.errno == errno.EADDRINUSE
    return False


def _main_cf_value(content: bytes, key: str) -> t.Optional[str]:
    found = re.findall(
        r"^%s\s*=\s*((?:.*\n)(?:[ \t].*\n)*)" % re.escape(key), content.decode("utf-8", "replace"), re.MULTILINE
    )
    return " ".join(found[-1].split()) if found else None


def _settings(output: str) -> t.Dict[str, str]:
    """postconf's output as a dictionary."""
    pairs = (line.partition(" =") for line in output.splitlines())
    return {key: value.strip() for key, _sep, value in pairs}


class _RestrictionWords:
    """The restrictions that the installed smtpd(8) knows: the program itself is asked, so no list can grow old."""

    def __init__(self, main: t.Mapping[str, str], smtpd: str) -> None:
        self.classes = re.split(r"[\s,]+", main.get("smtpd_restriction_classes", ""))
        self.program = read_file(smtpd) or b""

    def unknown(self, value: str) -> t.Iterator[str]:
        # { check_client_access type:table, action=... }: attributes of one restriction; look at the words only
        for word in re.findall(r"[^\s,{}]+", value):
            if ":" in word or "=" in word or "/" in word or word.isdigit() or word in self.classes:
                continue
            if re.match(r"[a-z][a-z0-9_]*$", word, re.IGNORECASE) is None:
                # a domain name, an argument such as that of reject_rbl_client
                continue
            # the end of a string only: linkers keep "reject" as the tail of a longer one
            if self.program and word.lower().encode() + b"\0" not in self.program:
                yield word


# -- rspamd -------------------------------------------------------------------------------------------------------


class Rspamd(SystemdDaemon):
    name = "rspamd"
    executable = "rspamd"
    directory = "/etc/rspamd"
    #: Where it keeps what it compiles from its lists at its first start.
    state = "/var/lib/rspamd"

    def validate(self, view: View) -> t.List[Problem]:
        with temporary_directory() as directory:
            tree = os.path.join(directory, "rspamd")
            self._lay_out(tree, view)
            code, out, err = run_command(["rspamadm", "configtest", "-c", os.path.join(tree, "rspamd.conf")])
        if code == 0:
            return list(self._keys(view))
        # what is said besides is of rules that are switched off
        said = (out + err).replace(tree, self.directory).splitlines()
        lines = [line for line in said if re.search(r"error|cannot|invalid|failed", line) and not _chatter(line)]
        return [self._locate(line) for line in lines] or [
            Problem(self.directory, "rspamadm configtest ends with %d" % code)
        ]

    def _keys(self, view: View) -> t.Iterator[Problem]:
        """Keys for signatures. One that somebody brought along can be anything."""
        for path, new in view.files.items():
            # empty: check mode, which makes none
            if path.startswith(self.state + "/dkim/") and new.content:
                trouble = key_trouble(new.content)
                if trouble:
                    yield Problem(path, trouble)

    def _lay_out(self, tree: str, view: View) -> None:
        """The whole directory as it will be. Includes name it by a variable that is compiled in."""
        _copy_directory(self.directory, tree, view)
        for folder, _folders, names in os.walk(tree):
            for path in (
                os.path.join(folder, name) for name in names if re.search(r"\.(conf|inc|override|local)$", name)
            ):
                text = read_file(path) or b""
                with open(path, "wb") as handle:
                    handle.write(re.sub(rb"\$(\{)?(LOCAL_)?CONFDIR(?(1)\})", tree.encode(), text))

    def _locate(self, line: str) -> Problem:
        found = re.search(r"(/etc/rspamd/[^\s:']+).*?line:? (\d+)", line)
        return Problem(found.group(1), line, int(found.group(2))) if found else Problem(self.directory, line)

    def needs_restart(self, view: View) -> bool:
        """Only a start gives it the user's groups, and makes a socket that is named otherwise, or has another mode."""
        paths = [self.directory + "/override.d/worker-%s.inc" % name for name in ("proxy", "controller")]
        paths.append("/etc/systemd/system/rspamd.service.d/port587-senders.conf")
        return any(view.read(path) != view.before(path) for path in paths)

    def start(self) -> None:
        before = self._compiled()
        self.restart()
        end = time.time() + FIRST_START
        while time.time() < end and self.running() and not self._workers():
            time.sleep(0.2)
        if self._compiled() - before:
            # That takes ten seconds of a processor, and the processes keep the memory for it. The next start reads what
            # was compiled, and they are a third as large.
            self.restart()

    def _compiled(self) -> t.Set[str]:
        return {name for name in os.listdir(self.state) if name.endswith(".hsmp")}

    def reload(self) -> None:
        before = self._workers()
        self._systemctl("reload")
        # that was a signal; the old workers end once the new ones are there, and no connection is refused on the way
        end = time.time() + 20
        while time.time() < end:
            if self._workers() - before:
                return
            time.sleep(0.05)
        raise ProofError("rspamd goes on with its old configuration")

    @staticmethod
    def _workers() -> t.Set[str]:
        """The processes that take connections from Postfix."""
        return {pid for pid, title in _processes() if title.startswith(b"rspamd: rspamd_proxy")}

    def words_since(self, moment: float) -> t.List[str]:
        return [line for line in super().words_since(moment) if not _chatter(line)]


def _chatter(line: str) -> bool:
    """What rspamd says at each start about rules that are switched off."""
    return (
        re.search(r"has its score defined|cannot (find|register delayed) dependency|worker is unconfigured", line)
        is not None
    )


# -- Dovecot ------------------------------------------------------------------------------------------------------


_KEYS = ("ssl_key", "ssl_server_key_file")
_CERTIFICATES = ("ssl_cert", "ssl_server_cert_file")
_ACCOUNTS = ("user", "group", "mail_uid", "mail_gid", "default_internal_user", "default_login_user")


def _doveconf(output: str) -> t.List[t.Tuple[str, str]]:
    """Names and values that doveconf(1) printed, in 2.3's words where 2.4 has a block instead."""
    values = []
    blocks = []  # type: t.List[str]
    for line in output.splitlines():
        name, equals, value = (part.strip() for part in line.partition("="))
        if name == "}":
            blocks.pop()
        elif name.endswith("{"):
            blocks.append(name.split()[0])
        elif equals and blocks[-1:] == ["mail_plugins"]:
            values.append(("mail_plugins", name))
        elif equals:
            values.append(("ssl_server_" + name if blocks[-1:] == ["ssl_server"] else name, value.strip('"')))
    return values


def _line(view: View, daemon: "Dovecot", name: str, value: str) -> t.Optional[int]:
    # "ssl_key = </etc/x", "mail_plugins = $mail_plugins x"
    pattern = re.compile(r"\s*%s\s*=.*%s" % (re.escape(name), re.escape(value.strip())))
    return view.line_of(daemon.configuration, lambda row: pattern.match(row) is not None)


class Dovecot(SystemdDaemon):
    name = "dovecot"
    executable = "dovecot"
    reloading = "SIGHUP received"
    configuration = "/etc/dovecot/dovecot.conf"
    protocols = "/usr/share/dovecot/protocols.d"
    pid_file = "/run/dovecot/master.pid"
    drop_in = "/etc/systemd/system/dovecot.service.d/port587.conf"
    #: Up to 2.2 it computes DH parameters at its first start, and nobody gets a handshake before.
    parameters_program = "/usr/lib/dovecot/ssl-params"
    parameters = "/var/lib/dovecot/ssl-parameters.dat"

    def prove(self, remembered: t.Dict[str, t.Any], patience: float = DEADLINE) -> None:
        end = time.time() + (PARAMETERS if patience else 0)
        while (
            os.path.exists(self.parameters_program)
            and not os.path.exists(self.parameters)
            and time.time() < end
            and self.running()
        ):
            time.sleep(0.5)
        super().prove(remembered, patience)

    def complaints_since(self, moment: float) -> t.List[str]:
        # a reload goes on without a listener that it can't have; the next start would not
        return [line for line in self._log(moment) if re.match(r"master: (Error|Fatal|Panic): ", line)]

    def needs_restart(self, view: View) -> bool:
        """What is settled when the master starts: sockets, limits, environment, and which protocols there are."""
        if view.read(self.drop_in) != view.before(self.drop_in):
            return True
        with contextlib.suppress(OSError):
            if os.stat(self.protocols).st_mtime > os.stat(self.pid_file).st_mtime:
                # a package was added to a Dovecot that runs: "Unknown protocol: pop3"
                return True
        pattern = re.compile(rb"^(base_dir|import_environment)\s*=\s*(.*)$", re.MULTILINE)
        new = view.read(self.configuration) or b""
        return pattern.findall(new) != pattern.findall(view.before(self.configuration) or b"")

    def validate(self, view: View) -> t.List[Problem]:
        if view.read(self.configuration) is None:
            return [Problem(self.configuration, "does not exist")]
        live = os.path.dirname(self.configuration)
        with temporary_directory() as directory:
            # what it includes is named from where it lies
            for name in os.listdir(live) if os.path.isdir(live) else ():
                if os.path.join(live, name) not in view.files:
                    os.symlink(os.path.join(live, name), os.path.join(directory, name))
            for path, new in view.files.items():
                if os.path.dirname(path) == live:
                    with open(os.path.join(directory, os.path.basename(path)), "wb") as handle:
                        handle.write(new.content)
            # -P: else 2.3 hides where the key is
            code, out, err = run_command(["doveconf", "-c", os.path.join(directory, "dovecot.conf"), "-nP"])
        problems = []  # type: t.List[Problem]
        for line in err.replace(directory, live).splitlines():
            if code or "Obsolete setting" in line or "Unknown" in line:
                problem = self._locate(line)
                if problem not in problems:
                    problems.append(problem)
        if code and not problems:
            problems.append(Problem(self.configuration, "doveconf ends with %d" % code))
        return problems or self._look_up(out, view)

    def _locate(self, line: str) -> Problem:
        # "doveconf: Fatal: Error in configuration file FILE line N: X: Unknown setting: X"
        found = re.search(r"(?:Error in configuration file )?(/\S+) line (\d+): (.*)", line)
        if found:
            return Problem(found.group(1), found.group(3), int(found.group(2)))
        return Problem(self.configuration, re.sub(r"^\S*doveconf: (Fatal|Error|Warning): ", "", line))

    def _look_up(self, settings: str, view: View) -> t.List[Problem]:
        """What doveconf(1) lets through. ``settings``: what it printed, so the same for every way to write it."""
        values = _doveconf(settings)
        served = self._ports()
        problems = []  # type: t.List[Problem]
        for name, value in values:
            for text, absent in self._wrong(name, value, view, served):
                problems.append(
                    Problem(self.configuration, "%s: %s" % (name, text), _line(view, self, name, value), absent)
                )
        # the first pair is for all names, those of local_name blocks follow
        keys, chains = ([v.lstrip("<") for n, v in values if n in names] for names in (_KEYS, _CERTIFICATES))
        for pair in zip(keys, chains) if len(keys) == len(chains) else [keys[:1] + chains[:1]]:
            if pair and all(view.exists(path) for path in pair):
                trouble = key_pair_trouble(list(dict.fromkeys(pair)), view)
                problems += [Problem(self.configuration, "ssl: %s" % trouble)] if trouble else []
        return problems

    def _wrong(
        self, name: str, value: str, view: View, served: t.Sequence[str]
    ) -> t.Iterator[t.Tuple[str, t.Optional[str]]]:
        for path in self._files_in(name, value):
            if not view.exists(path):
                yield "%s does not exist" % path, path
        if name == "auth_mechanisms":
            for mechanism in value.split():
                if not self._knows_mechanism(mechanism):
                    yield "this Dovecot has no mechanism %s" % mechanism, None
        elif name == "mail_plugins":
            for plugin in value.split():
                if not self._has_plugin(plugin):
                    yield "plugin %s is not installed" % plugin, None
        elif name == "port" and value.isdigit() and value not in served and _is_taken(int(value)):
            yield "another program listens on port %s" % value, None
        elif name in _ACCOUNTS and value and not self._has_account(name, value):
            yield "this server has no user or group %s" % value, value

    def _ports(self) -> t.List[str]:
        """The ports that it has already."""
        # without -n: those that nobody has set are ports, too
        values = _doveconf(run_command(["doveconf"])[1]) if self.running() else []
        return [value for name, value in values if name == "port"]

    @staticmethod
    def _files_in(name: str, value: str) -> t.List[str]:
        if name in ("ssl_dh", "ssl_cert", "ssl_key", "ssl_ca") and value.startswith("<"):
            return [value[1:]]
        if name in ("ssl_server_cert_file", "ssl_server_key_file", "ssl_server_dh_file", "passwd_file_path"):
            return [value] if value.startswith("/") and "%" not in value else []
        if name == "args":
            # passdb passwd-file: options, then the path
            last = value.split()[-1:]
            return [p for p in last if p.startswith("/") and "%" not in p and not p.endswith(".conf.ext")]
        return []

    @staticmethod
    def _knows_mechanism(mechanism: str) -> bool:
        # the program itself is asked, so no list can grow old; APOP and others may be in plugins, then nothing is said
        program = read_file("/usr/lib/dovecot/auth") or read_file("/usr/libexec/dovecot/auth")
        return program is None or mechanism.upper().encode() in program

    @staticmethod
    def _has_plugin(plugin: str) -> bool:
        pattern = re.compile(r"lib(\d+_)?%s_plugin\.so$" % re.escape(plugin))
        for directory in ("/usr/lib/dovecot/modules", "/usr/lib/dovecot"):
            if os.path.isdir(directory) and any(pattern.match(name) for name in os.listdir(directory)):
                return True
        return False

    @staticmethod
    def _has_account(kind: str, name: str) -> bool:
        if name.isdigit() or "$" in name:
            return True
        try:
            if kind in ("group", "mail_gid"):
                grp.getgrnam(name)
            else:
                pwd.getpwnam(name)
        except KeyError:
            return False
        return True


def _copy_directory(directory: str, tree: str, view: View) -> None:
    """A daemon's whole directory as it will be, in another place."""
    if os.path.isdir(directory):
        shutil.copytree(directory, tree, ignore_dangling_symlinks=True)
    for path, new in view.files.items():
        if path.startswith(directory + "/"):
            copy = path.replace(directory, tree, 1)
            os.makedirs(os.path.dirname(copy), exist_ok=True)
            with open(copy, "wb") as handle:
                handle.write(new.content)
    for path in view.removed:
        if path.startswith(directory + "/"):
            os.unlink(path.replace(directory, tree, 1))


def _pairs(paths: t.Sequence[str], view: View) -> t.List[t.List[str]]:
    """The files of a list that belong together: each key, and what stands behind it up to the next key."""
    pairs = []  # type: t.List[t.List[str]]
    for path in paths:
        if not pairs or b"PRIVATE KEY-----" in (view.read(path) or b""):
            pairs.append([])
        pairs[-1].append(path)
    return pairs


def key_pair_trouble(paths: t.Sequence[str], view: View) -> t.Optional[str]:
    """What OpenSSL has against the key and the chain in these PEM files together; None when they fit."""
    pem = b"\n".join(view.read(path) or b"" for path in paths)
    with temporary_directory() as directory:
        combined = os.path.join(directory, "pair.pem")
        with open(combined, "wb") as handle:
            handle.write(pem)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            # the empty password: without it, an encrypted key would ask for one on the terminal
            context.load_cert_chain(combined, password="")
        except (ssl.SSLError, OSError, ValueError) as exc:
            reason = getattr(exc, "reason", None) or str(exc)
            return "key and certificate in %s can't be used: %s" % (" and ".join(paths), reason)
    return None


# -- nginx --------------------------------------------------------------------------------------------------------

#: "nginx: [emerg] ...", and what it logs: "2026/11/02 10:00:00 [emerg] 123#123: ..."
_NGINX_SAYS = re.compile(r"^(?:nginx:|\S+ \S+) \[(\w+)\] (?:\d+#\d+: )?(.*)", re.MULTILINE)


class Nginx(SystemdDaemon):
    """It may serve sites of others, too: their files are part of what is checked, and are not written."""

    name = "nginx"
    executable = "nginx"
    directory = "/etc/nginx"
    error_log = "/var/log/nginx/error.log"
    pid_file = "/run/nginx.pid"

    def needs_restart(self, view: View) -> bool:
        """Between one address and all of them: the new socket can't be bound while the old one is."""
        return any(_listens(new.content) != _listens(view.before(path) or new.content) for path, new in self._own(view))

    def reload(self) -> None:
        before = self._workers()
        self._systemctl("reload")
        # that was a signal; until other processes serve, the old ones would pass every proof
        end = time.time() + 5
        while time.time() < end:
            after = self._workers()
            if after and not after & before:
                return
            time.sleep(0.05)
        raise ProofError("nginx goes on with its old configuration")

    def _workers(self) -> t.Set[int]:
        """The processes that take connections. One that is told to end says so in its title."""
        master = (read_file(self.pid_file) or b"").strip().decode()
        workers = set()
        for pid, title in _processes():
            # gone meanwhile
            with contextlib.suppress(ProcessLookupError, IndexError):
                if title.rstrip(b"\0 ") == b"nginx: worker process" and _parent(pid) == master:
                    workers.add(int(pid))
        return workers

    def validate(self, view: View) -> t.List[Problem]:
        with temporary_directory() as directory:
            tree = os.path.join(directory, "nginx")
            self._lay_out(tree, view)
            code, out, err = run_command(["nginx", "-t", "-c", os.path.join(tree, "nginx.conf")])
        lines = _NGINX_SAYS.findall((err + out).replace(tree, self.directory))
        problems = [self._problem(text) for level, text in lines if code and level != "warn"]
        # only a warning, but then somebody else's site answers for the name
        mine = b"\n".join(new.content for _path, new in self._own(view)).decode("utf-8", "replace")
        for name in re.findall(r'conflicting server name "(.+?)"', "\n".join(text for _level, text in lines)):
            if re.search(r"[\s;]%s[\s;]" % re.escape(name), mine):
                problems.append(Problem(self.directory, "another site has the server_name %s already" % name))
        if code and not problems:
            problems.append(Problem(self.directory, "nginx -t ends with %d" % code))
        return problems or self._look_up(view)

    def _lay_out(self, tree: str, view: View) -> None:
        """All of /etc/nginx as it will be, in another place: what includes are named there, too."""
        _copy_directory(self.directory, tree, view)
        for folder, _folders, names in os.walk(tree):
            for name in names:
                path = os.path.join(folder, name)
                content = read_file(path) or b""
                elsewhere = content.replace(self.directory.encode() + b"/", tree.encode() + b"/")
                if elsewhere != content:
                    with open(path, "wb") as handle:
                        handle.write(elsewhere)

    @staticmethod
    def _problem(text: str) -> Problem:
        found = re.match(r"(.*) in (/\S+):(\d+)$", text)
        if found:
            return Problem(found.group(2), found.group(1), int(found.group(3)))
        # 'cannot load certificate "/x": BIO_new_file() failed (... No such file or directory ...)'
        named = re.search(r'"(/[^"]+)".*No such file', text)
        return Problem(Nginx.directory, text, absent=named.group(1) if named else None)

    def _own(self, view: View) -> t.List[t.Tuple[str, File]]:
        return [(path, new) for path, new in view.files.items() if path.startswith(self.directory + "/")]

    def _look_up(self, view: View) -> t.List[Problem]:
        """nginx -t lets a port pass that another program has."""
        served = nginx_syntax.ports(run_command(["nginx", "-T"])[1]) if self.running() else set()
        return [
            Problem(path, "another program listens on port %d" % port)
            for path, new in self._own(view)
            for port in sorted({nginx_syntax.listen(words[0])[1] for words in _listens(new.content)} - served)
            if _is_taken(port)
        ]

    def complaints_since(self, moment: float) -> t.List[str]:
        # a reload goes on with the old configuration where it can't have the new one; the next start would not
        return [line for line in self.words_since(moment) if "[emerg]" in line]

    def words_since(self, moment: float) -> t.List[str]:
        """From its own log, and what it says to systemd before it has opened that."""
        first = time.strftime("%Y/%m/%d %H:%M:%S", time.localtime(moment))
        log = (read_file(self.error_log) or b"")[-65536:].decode("utf-8", "replace")
        said = [line for line in log.splitlines() if line >= first] + _journal(moment, "--unit=nginx")
        return [line for line in said if re.search(r"\[(emerg|alert|crit)\]", line)]


def _listens(content: bytes) -> t.List[t.List[str]]:
    return nginx_syntax.listens(nginx_syntax.parse(content.decode("utf-8", "replace")))


def _parent(pid: str) -> str:
    # after the name, which may have blanks and parentheses: state, parent
    return (read_file("/proc/%s/stat" % pid) or b"").decode("utf-8", "replace").rpartition(")")[2].split()[1]


# -- small daemons -------------------------------------------------------------------------------------------------


class Service(SystemdDaemon):
    """A daemon that reads its configuration once, when it starts, and is there again within a moment."""

    #: Commands that check files of the tree: of each the path, and the arguments in front of the copy's.
    checks: t.Dict[str, t.List[str]] = {}

    def validate(self, view: View) -> t.List[Problem]:
        problems = []
        for path, command in self.checks.items():
            content = view.read(path)
            if content is not None:
                with temporary_directory() as directory:
                    copy = os.path.join(directory, os.path.basename(path))
                    write_settled(copy, content)
                    code, out, err = run_command(command + [copy])
                said = (err + out).replace(copy, path).strip()
                if code:
                    problems.append(Problem(path, said or "%s ends with %d" % (command[0], code)))
        return problems

    def needs_restart(self, view: View) -> bool:
        return True

    def words_since(self, moment: float) -> t.List[str]:
        return _journal(moment, "--unit=" + self.name)


class Unbound(Service):
    """A resolver for the mail server alone."""

    name = "unbound"
    executable = "unbound"
    configuration = "/etc/unbound/port587.conf"
    checks = {configuration: ["unbound-checkconf"]}
    #: What it trusts and keeps up to date: at its first start a copy of the other, and so not there before.
    root_key = b"/var/lib/unbound/root.key"
    packaged_root_key = b"/usr/share/dns/root.key"

    def validate(self, view: View) -> t.List[Problem]:
        content = (view.read(self.configuration) or b"").replace(self.root_key, self.packaged_root_key)
        problems = super().validate(View([File(self.configuration, content)]))
        if self.running():
            if view.before(self.configuration) is None:
                text = "unbound runs here already, set up by somebody else, and would lose its configuration"
                problems.append(Problem(self.configuration, text))
        elif any(_is_taken(53, "127.0.0.1", kind) for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM)):
            problems.append(Problem(self.configuration, "another program answers on port 53 of 127.0.0.1"))
        return problems


# -- the renewal of certificates ----------------------------------------------------------------------------------


class RenewalTimer(Service):
    """The timer of _certificate/acme.py."""

    name = "port587-certificates.timer"
    executable = "systemctl"

    def prove(self, remembered: t.Dict[str, t.Any], patience: float = DEADLINE) -> None:
        if not self.running():
            raise ProofError("%s is not active" % self.name)

    def words_since(self, moment: float) -> t.List[str]:
        return []


# -- what Postfix asks ---------------------------------------------------------------------------------------------


class MtaSts(Service):
    """For the policies of domains (RFC 8461), as a table."""

    name = "postfix-mta-sts-resolver"
    executable = "mta-sts-daemon"


class SendLimits(Service):
    """The program that _send_limits.py is."""

    name = "port587-send-limits"
    executable = "python3"


class Recipients(Service):
    """The program that _recipients.py is."""

    name = "port587-recipients"
    executable = "python3"


class Postgrey(Service):
    name = "postgrey"
    executable = "postgrey"


# -- what Dovecot asks ---------------------------------------------------------------------------------------------


class LoginLimits(Service):
    """The program that _login_limits.py is."""

    name = "port587-login-limits"
    executable = "python3"


# -- what rspamd asks ----------------------------------------------------------------------------------------------


class Redis(Service):
    """One for rspamd alone, by a unit of our own."""

    name = "port587-redis"
    executable = "redis-server"

    def enable(self) -> None:
        super().enable()
        # The package's own was kept from starting when it was installed, and would start with the machine for nobody.
        # Where somebody uses it, it runs.
        if run_command(["systemctl", "is-active", "--quiet", "redis-server"])[0]:
            run_command(["systemctl", "disable", "redis-server"])


# -- by name ------------------------------------------------------------------------------------------------------

_DAEMONS = {
    one.name: one
    for one in (
        Postfix,
        Dovecot,
        Rspamd,
        Nginx,
        MtaSts,
        Unbound,
        Recipients,
        SendLimits,
        LoginLimits,
        Postgrey,
        Redis,
        RenewalTimer,
    )
}  # type: t.Dict[str, t.Type[SystemdDaemon]]


def daemon(name: str) -> Daemon:
    return _DAEMONS[name]()


def activation(name: str, proofs: t.Sequence[t.Dict[str, t.Any]], certificate: t.Optional[str] = None) -> Activation:
    """A daemon with what proves it: keyword arguments of Proof, and the PEM file that it has to serve."""
    return Activation(daemon(name), {"proofs": list(proofs), "certificate": certificate})


def serving_activations() -> t.List[Activation]:
    """The daemons that other transactions set up here and that serve TLS now, with the proofs remembered from then."""
    known = [
        Activation(daemon(name), remembered, remember=False)
        for name, remembered in remembered_proofs().items()
        if any(proof.get("tls", "none") != "none" for proof in remembered.get("proofs", []))
    ]
    return [one for one in known if one.daemon.installed() and one.daemon.running()]
