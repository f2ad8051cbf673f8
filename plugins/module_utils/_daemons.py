# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Runs on the server: Python 3.6 and the standard library only.

"""Postfix and Dovecot as a transaction sees them: how to check a tree that is not live yet, and how to take it over.

The daemons' own checkers accept much that later leaves a port silent: wrong booleans, TLS levels and restriction words,
port names nobody knows, tables and keys that are not there. What they let through is looked up here.
"""

import grp
import os
import pty
import pwd
import re
import shutil
import socket
import ssl
import subprocess
import typing as t

from ansible_collections.port587.mail.plugins.module_utils._prove import Proof, prove
from ansible_collections.port587.mail.plugins.module_utils._transaction import (
    Activation,
    Daemon,
    Problem,
    TransactionError,
    View,
    compiled_path,
    remembered_proofs,
    run_command,
    temporary_directory,
)

_SBIN = "/usr/sbin:/usr/bin:/sbin:/bin"


class SystemdDaemon(Daemon):
    """A daemon of the distribution's, run by systemd."""

    executable = ""

    def installed(self) -> bool:
        return shutil.which(self.executable, path=_SBIN) is not None

    def running(self) -> bool:
        return run_command(["systemctl", "is-active", "--quiet", self.name])[0] == 0

    def enabled(self) -> bool:
        return run_command(["systemctl", "is-enabled", "--quiet", self.name])[0] == 0

    def needs_restart(self, view: View) -> bool:
        return False

    def start(self) -> None:
        self._systemctl("enable")
        # restart, not start: a master that died can leave the unit "active", and then start does nothing
        self.restart()

    def reload(self) -> None:
        self._systemctl("reload")

    def restart(self) -> None:
        # several starts within seconds would trip systemd's limit, and the unit would stay down
        run_command(["systemctl", "reset-failed", self.name])
        self._systemctl("restart")

    def stop(self) -> None:
        self._systemctl("stop")

    def words_since(self, moment: float) -> t.List[str]:
        # 2 is syslog's mail facility: both daemons log with it, under many names
        argv = ["journalctl", "--quiet", "--no-pager", "--output=cat", "--since=@%d" % moment, "SYSLOG_FACILITY=2"]
        lines = run_command(argv)[1].splitlines()
        return [line for line in lines if re.search(r"\b(fatal|error|warning|panic)\b", line, re.IGNORECASE) and not _noise(line)]

    def _systemctl(self, verb: str) -> None:
        code, out, err = run_command(["systemctl", verb, self.name])
        if code:
            raise TransactionError("systemctl %s %s: %s" % (verb, self.name, (err + out).strip()))


def _noise(line: str) -> bool:
    # said at every stop of Dovecot
    return "Killed with signal 15" in line


# -- Postfix ------------------------------------------------------------------------------------------------------

#: Allowed values of TLS levels, postconf(5) smtp_tls_security_level and smtpd_tls_security_level.
_CLIENT_TLS_LEVELS = ("", "none", "may", "encrypt", "dane", "dane-only", "fingerprint", "verify", "secure")
_SERVER_TLS_LEVELS = ("", "none", "may", "encrypt")

_TABLE = re.compile(r"(?<![\w$}-])(?:proxy:)?([a-z]+):(/[^\s,;{}]+)")
_COMPILED_TABLES = ("hash", "btree", "lmdb", "cdb", "dbm", "sdbm")


class Postfix(SystemdDaemon):
    name = "postfix"
    executable = "postfix"
    directory = "/etc/postfix"

    def running(self) -> bool:
        # not systemctl is-active: up to Debian 12 the unit says "active" after the master is dead;
        # and not postfix status, which writes a line into the log each time it is asked
        try:
            with open("/var/spool/postfix/pid/master.pid") as handle:
                return os.path.basename(os.readlink("/proc/%d/exe" % int(handle.read()))) == "master"
        except (OSError, ValueError):
            return False

    def needs_restart(self, view: View) -> bool:
        """postconf(5): these are only read when the master starts."""
        new = view.read(self.directory + "/main.cf") or b""
        old = View().read(self.directory + "/main.cf") or b""
        return any(_main_cf_value(old, key) != _main_cf_value(new, key) for key in ("inet_interfaces", "inet_protocols", "queue_directory"))

    def validate(self, view: View) -> t.List[Problem]:
        with temporary_directory() as directory:
            tree = os.path.join(directory, "postfix")
            self._lay_out(tree, view)
            problems = self._ask_postconf(tree) or self._ask_postfix_check(tree)
            if not problems:
                problems = self._look_up(tree, view)
        return [self._locate(problem, tree, view) for problem in problems]

    def _lay_out(self, tree: str, view: View) -> None:
        """The whole directory as it will be: what others put there belongs to it."""
        os.mkdir(tree, 0o755)
        paths = {os.path.join(self.directory, n) for n in (os.listdir(self.directory) if os.path.isdir(self.directory) else ())}
        paths |= {p for p in view.files if os.path.dirname(p) == self.directory}
        for path in paths:
            copy = os.path.join(tree, os.path.basename(path))
            content = view.read(path)
            if content is not None and not os.path.islink(path):
                with open(copy, "wb") as handle:
                    handle.write(content)
            elif os.path.isdir(path) and not os.path.islink(path):
                shutil.copytree(path, copy, symlinks=True)

    @staticmethod
    def _ask_postconf(tree: str) -> t.List[Problem]:
        problems = []  # type: t.List[Problem]
        for argument in ("-n", "-M", "-P"):
            code, _out, err = run_command(["postconf", "-c", tree, argument])
            for line in err.splitlines():
                problem = Problem(os.path.join(tree, "main.cf"), re.sub(r"^postconf: (warning|fatal|error): ", "", line))
                if problem not in problems:
                    problems.append(problem)
            if code and not err:
                problems.append(Problem(tree, "postconf %s ends with %d" % (argument, code)))
        return problems

    @staticmethod
    def _ask_postfix_check(tree: str) -> t.List[Problem]:
        """postfix check, with a terminal for its messages: up to 3.7 it says nothing on standard error otherwise."""
        primary, secondary = pty.openpty()
        environment = dict(os.environ, LC_ALL="C", PATH=_SBIN)
        process = subprocess.Popen(
            ["postfix", "-c", tree, "check"], stdin=subprocess.DEVNULL, stdout=secondary, stderr=secondary, env=environment
        )
        os.close(secondary)
        said = b""
        while True:
            try:
                block = os.read(primary, 4096)
            except OSError:
                # EIO: the other end is closed
                break
            if not block:
                break
            said += block
        os.close(primary)
        if process.wait() == 0:
            return []
        lines = [line.strip() for line in said.decode("utf-8", "replace").splitlines() if "fatal" in line or "error" in line]
        return [Problem(os.path.join(tree, "main.cf"), line) for line in lines] or [
            Problem(tree, "postfix check ends with %d" % process.returncode)
        ]

    def _look_up(self, tree: str, view: View) -> t.List[Problem]:
        defaults = _settings(run_command(["postconf", "-c", tree, "-d"])[1])
        main = _settings(run_command(["postconf", "-c", tree, "-nx"])[1])
        master = run_command(["postconf", "-c", tree, "-Px"])[1]
        supported = run_command(["postconf", "-m"])[1].split()
        # (file, what to call it, parameter, value)
        values = [("main.cf", key, key, value) for key, value in main.items()]
        for line in master.splitlines():
            found = re.match(r"(\S+?/\S+?)/(\S+) = ?(.*)", line)
            if found:
                values.append(("master.cf", "%s: -o %s" % (found.group(1), found.group(2)), found.group(2), found.group(3)))
        words = _RestrictionWords(main)
        problems = []  # type: t.List[Problem]
        for name, label, key, value in values:
            path = os.path.join(self.directory, name)
            for text in self._wrong(key, value.strip(), defaults, words, supported, view):
                problems.append(Problem(path, "%s = %s: %s" % (label, value.strip(), text)))
        services = run_command(["postconf", "-c", tree, "-M"])[1]
        for line in services.splitlines():
            fields = line.split()
            if len(fields) > 1 and fields[1] == "inet" and not self._port_is_known(fields[0].rsplit(":", 1)[-1], main):
                problems.append(
                    Problem(os.path.join(self.directory, "master.cf"), "%s: no port has this name; write the port's number" % fields[0])
                )
        return problems

    @staticmethod
    def _wrong(
        key: str, value: str, defaults: t.Dict[str, str], words: "_RestrictionWords", supported: t.Sequence[str], view: View
    ) -> t.Iterator[str]:
        """What is wrong with one value that Postfix's own check accepts."""
        more = ("normalize", "reject", "note") if key == "smtpd_forbid_bare_newline" else ()
        if defaults.get(key) in ("yes", "no") and value.lower() not in ("yes", "no") + more:
            yield "has to be yes or no"
        if re.match(r"(smtp|lmtp|tlsproxy_client)_tls_security_level$", key) and value.lower() not in _CLIENT_TLS_LEVELS:
            yield "is no TLS level; one of %s" % ", ".join(filter(None, _CLIENT_TLS_LEVELS))
        if key == "smtpd_tls_security_level" and value.lower() not in _SERVER_TLS_LEVELS:
            yield "is no TLS level; one of %s" % ", ".join(filter(None, _SERVER_TLS_LEVELS))
        if re.match(r"smtpd_.*_restrictions$", key):
            for word in words.unknown(value):
                yield "%s is no restriction that this Postfix knows" % word
        if key in ("smtpd_tls_cert_file", "smtpd_tls_key_file", "smtpd_tls_chain_files"):
            for path in re.split(r"[\s,]+", value):
                if path.startswith("/") and not view.exists(path):
                    yield "%s does not exist" % path
        if key == "smtpd_tls_chain_files" and value.startswith("/"):
            trouble = key_pair_trouble(re.split(r"[\s,]+", value), view)
            if trouble:
                yield trouble
        for kind, path in _TABLE.findall(value):
            if kind not in supported:
                if kind in _COMPILED_TABLES:
                    yield "this Postfix has no %s tables" % kind
            elif kind in _COMPILED_TABLES:
                source = view.files.get(path)
                if not (source and source.map) and not view.exists(compiled_path(path, kind)):
                    yield "the table %s does not exist" % compiled_path(path, kind)
            elif kind in ("texthash", "regexp", "pcre", "cidr") and not view.exists(path):
                yield "the table %s does not exist" % path

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
        named = re.match(r"(%s/\S+?)(?:, line (\d+))?: (.*)" % re.escape(self.directory), text)
        if named:
            path, text = named.group(1), named.group(3)
            if named.group(2):
                return Problem(path, text, int(named.group(2)))
        if "master.cf" in text:
            path = os.path.join(self.directory, "master.cf")
        parameter = re.search(r"([a-z][a-z0-9_]+) ?=", text)
        key = parameter.group(1) if parameter else None
        line = view.line_of(path, lambda row: bool(key and re.match(r"\s*(-o\s+)?%s\s*=" % re.escape(key), row)))
        return Problem(path, text, line)


def _main_cf_value(content: bytes, key: str) -> t.Optional[str]:
    found = re.findall(r"^%s\s*=\s*((?:.*\n)(?:[ \t].*\n)*)" % re.escape(key), content.decode("utf-8", "replace"), re.MULTILINE)
    return " ".join(found[-1].split()) if found else None


def _settings(output: str) -> t.Dict[str, str]:
    """postconf's output as a dictionary."""
    pairs = (line.partition(" =") for line in output.splitlines())
    return {key: value.strip() for key, _sep, value in pairs}


class _RestrictionWords:
    """The restrictions that the installed smtpd(8) knows: the program itself is asked, so no list can grow old."""

    def __init__(self, main: t.Mapping[str, str]) -> None:
        self.classes = re.split(r"[\s,]+", main.get("smtpd_restriction_classes", ""))
        self.program = b""
        for path in ("/usr/lib/postfix/sbin/smtpd", "/usr/libexec/postfix/smtpd"):
            if os.path.exists(path):
                with open(path, "rb") as handle:
                    self.program = handle.read()

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


# -- Dovecot ------------------------------------------------------------------------------------------------------


class Dovecot(SystemdDaemon):
    name = "dovecot"
    executable = "dovecot"
    configuration = "/etc/dovecot/dovecot.conf"

    def needs_restart(self, view: View) -> bool:
        """Where its sockets lie is settled when the master starts."""
        pattern = re.compile(rb"^base_dir\s*=\s*(.*)$", re.MULTILINE)
        new = view.read(self.configuration) or b""
        return pattern.findall(new) != pattern.findall(View().read(self.configuration) or b"")

    def validate(self, view: View) -> t.List[Problem]:
        content = view.read(self.configuration)
        if content is None:
            return [Problem(self.configuration, "does not exist")]
        with temporary_directory() as directory:
            copy = os.path.join(directory, "dovecot.conf")
            with open(copy, "wb") as handle:
                handle.write(content)
            code, out, err = run_command(["doveconf", "-c", copy, "-n"])
        problems = []  # type: t.List[Problem]
        for line in err.splitlines():
            if code or "Obsolete setting" in line or "Unknown" in line:
                problem = self._locate(line, copy)
                if problem not in problems:
                    problems.append(problem)
        if code and not problems:
            problems.append(Problem(self.configuration, "doveconf ends with %d" % code))
        return problems or self._look_up(out, view)

    def _locate(self, line: str, copy: str) -> Problem:
        # "doveconf: Fatal: Error in configuration file FILE line N: X: Unknown setting: X"
        text = line.replace(copy, self.configuration)
        found = re.search(r"(?:Error in configuration file )?%s line (\d+): (.*)" % re.escape(self.configuration), text)
        if found:
            return Problem(self.configuration, found.group(2), int(found.group(1)))
        return Problem(self.configuration, re.sub(r"^\S*doveconf: (Fatal|Error|Warning): ", "", text))

    def _look_up(self, settings: str, view: View) -> t.List[Problem]:
        """``settings``: what doveconf -n printed, so the same for every way to write it."""
        found = []  # type: t.List[t.Tuple[str, str]]
        certificate = key = None
        for line in settings.splitlines():
            name, _equals, value = (part.strip() for part in line.partition("="))
            value = value.strip('"')
            if name in ("ssl_cert", "ssl_server_cert_file"):
                certificate = value.lstrip("<")
            if name in ("ssl_key", "ssl_server_key_file"):
                key = value.lstrip("<")
            for path in self._files_in(name, value):
                if not view.exists(path):
                    found.append((name, "%s does not exist" % path))
            if name == "auth_mechanisms":
                for mechanism in value.split():
                    if not self._knows_mechanism(mechanism):
                        found.append((name, "this Dovecot has no mechanism %s" % mechanism))
            if name == "mail_plugins":
                for plugin in value.split():
                    if not self._has_plugin(plugin):
                        found.append((name, "plugin %s is not installed" % plugin))
            if name in ("user", "group", "mail_uid", "mail_gid", "default_internal_user", "default_login_user") and value:
                if not self._has_account(name, value):
                    found.append((name, "this server has no user or group %s" % value))
        if certificate and key and view.exists(certificate) and view.exists(key):
            trouble = key_pair_trouble([key, certificate], view)
            if trouble:
                found.append(("ssl", trouble))
        return [
            Problem(
                self.configuration,
                "%s: %s" % (name, text),
                view.line_of(self.configuration, lambda row, name=name: bool(re.match(r"\s*%s\b" % re.escape(name), row))),  # type: ignore[misc]
            )
            for name, text in found
        ]

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
        for path in ("/usr/lib/dovecot/auth", "/usr/libexec/dovecot/auth"):
            if os.path.exists(path):
                with open(path, "rb") as handle:
                    return mechanism.upper().encode() in handle.read()
        return True

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


# -- by name ------------------------------------------------------------------------------------------------------

_DAEMONS = {"postfix": Postfix, "dovecot": Dovecot}  # type: t.Dict[str, t.Type[SystemdDaemon]]


def daemon(name: str) -> Daemon:
    return _DAEMONS[name]()


def activation(name: str, proofs: t.Sequence[t.Dict[str, t.Any]], certificate: t.Optional[str] = None) -> Activation:
    """A daemon with what proves it. ``proofs``: keyword arguments of Proof. ``certificate``: the PEM file it has to serve."""
    tries = [Proof(**p) for p in proofs]
    return Activation(daemon(name), lambda: prove(tries, certificate), {"proofs": list(proofs), "certificate": certificate})


def running_activations() -> t.List[Activation]:
    """The daemons that other transactions set up here and that run now, with the proofs remembered from then."""
    found = []
    for name, remembered in remembered_proofs().items():
        one = activation(name, remembered.get("proofs", []), remembered.get("certificate"))
        if one.daemon.installed() and one.daemon.running():
            # remembered by the daemon's own transaction already
            found.append(one._replace(remember=None))
    return found
