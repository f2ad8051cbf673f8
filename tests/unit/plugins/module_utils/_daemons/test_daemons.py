# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is found wrong with a configuration that Postfix's and Dovecot's own checkers accept."""

import pathlib
import socket
import subprocess
import typing as t

import pytest
from ansible_collections.port587.mail.plugins.module_utils._daemons import daemons
from ansible_collections.port587.mail.plugins.module_utils._daemons.daemons import Dovecot, Nginx, Postfix, Unbound
from ansible_collections.port587.mail.plugins.module_utils._transaction import files as tree_files
from ansible_collections.port587.mail.plugins.module_utils._transaction.files import File, Problem, View


class Words(daemons._RestrictionWords):
    """Of an smtpd that knows three."""

    def __init__(self, classes: str = "") -> None:
        super().__init__({"smtpd_restriction_classes": classes}, "")
        self.program = b"\0permit_mynetworks\0reject_unauth_destination\0check_policy_service\0reject\0"


@pytest.fixture
def values() -> daemons._Values:
    defaults = {"smtpd_helo_required": "no", "smtpd_forbid_bare_newline": "no", "smtpd_banner": "$myhostname"}
    files = [File("/etc/postfix/there", b"", map=True), File("/etc/postfix/patterns", b"")]
    return daemons._Values(defaults, ["hash", "regexp", "cidr", "static"], Words("mine"), View(files))


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("smtpd_helo_required", "yes", []),
        ("smtpd_helo_required", "No", []),
        ("smtpd_helo_required", "true", ["has to be yes or no"]),
        ("smtpd_banner", "true", []),
        ("smtpd_forbid_bare_newline", "normalize", []),
        ("smtpd_forbid_bare_newline", "normalise", ["has to be yes or no"]),
        ("smtpd_tls_security_level", "encrypt", []),
        ("smtpd_tls_security_level", "encypt", ["is no TLS level; one of none, may, encrypt"]),
        ("smtpd_tls_security_level", "dane", ["is no TLS level; one of none, may, encrypt"]),
        ("smtp_tls_security_level", "dane", []),
        ("smtpd_relay_restrictions", "permit_mynetworks, reject_unauth_destination", []),
        ("smtpd_relay_restrictions", "PERMIT_MYNETWORKS reject", []),
        ("smtpd_relay_restrictions", "mine, check_policy_service unix:private/x", []),
        ("smtpd_relay_restrictions", "check_policy_service { inet:host:1, timeout=10s }", []),
        (
            "smtpd_relay_restrictions",
            "permit_mynetwork, reject",
            ["permit_mynetwork is no restriction that this Postfix knows"],
        ),
        # the end of another word is none
        ("smtpd_relay_restrictions", "mynetwork", ["mynetwork is no restriction that this Postfix knows"]),
        ("virtual_alias_maps", "hash:/etc/postfix/there", []),
        ("virtual_alias_maps", "proxy:hash:/etc/postfix/there, static:x", []),
        ("virtual_alias_maps", "hash:/etc/postfix/none", ["the table /etc/postfix/none.db does not exist"]),
        ("virtual_alias_maps", "lmdb:/etc/postfix/there", ["this Postfix has no lmdb tables"]),
        ("header_checks", "regexp:/etc/postfix/patterns", []),
        ("header_checks", "regexp:/etc/postfix/none", ["the table /etc/postfix/none does not exist"]),
        ("smtpd_tls_cert_file", "/etc/none.pem", ["/etc/none.pem does not exist"]),
        ("smtpd_tls_eckey_file", "/etc/none.key", ["/etc/none.key does not exist"]),
        ("smtpd_tls_cert_file", "$other", []),
        ("tls_server_sni_maps", "inline:{ a.test=/etc/none.pem }", ["/etc/none.pem does not exist"]),
    ],
)
def test_values_of_postfix(values: daemons._Values, key: str, value: str, expected: t.List[str]) -> None:
    assert [text for text, _absent in values.wrong(key, value)] == expected


def test_what_is_absent_is_named(values: daemons._Values) -> None:
    assert list(values.wrong("alias_maps", "hash:/etc/port587/accounts/none")) == [
        ("the table /etc/port587/accounts/none.db does not exist", "/etc/port587/accounts/none.db")
    ]
    assert tree_files.made_here("/etc/port587/accounts/none.db")
    assert tree_files.made_here("vmail")
    assert not tree_files.made_here("/etc/postfix/none.db")
    assert not tree_files.made_here(None)


def test_ports() -> None:
    assert Postfix._port_is_known("587", {})
    assert Postfix._port_is_known("smtp", {})
    assert Postfix._port_is_known("sub", {"known_tcp_ports": "lmtp=24, sub=submission=587"})
    assert not Postfix._port_is_known("submisson", {"known_tcp_ports": "lmtp=24, submission=587"})


def test_place_of_a_problem() -> None:
    postfix = Postfix()
    view = View(
        [File("/etc/postfix/main.cf", b"first = 1\nother = 2\n"), File("/etc/postfix/master.cf", b"x\n  -o third=3\n")]
    )
    cases = [
        ("/tmp/t/main.cf: unused parameter: other=2", Problem("/etc/postfix/main.cf", "unused parameter: other=2", 2)),
        (
            "/tmp/t/master.cf: unused parameter: third=3",
            Problem("/etc/postfix/master.cf", "unused parameter: third=3", 2),
        ),
        ("/tmp/t/main.cf, line 7: missing '=' after", Problem("/etc/postfix/main.cf", "missing '=' after", 7)),
        ("/tmp/t/master.cf: line 2: bad field", Problem("/etc/postfix/master.cf", "bad field", 2)),
    ]
    for text, expected in cases:
        assert postfix._locate(Problem("/tmp/t/main.cf", text), "/tmp/t", view)[:3] == expected[:3]
    # check mode has to know that it is only not there yet
    assert postfix._locate(Problem("/tmp/t/main.cf", "other = /y", absent="/y"), "/tmp/t", view).absent == "/y"


@pytest.mark.parametrize(
    ("old", "new", "restart"),
    [
        ("inet_interfaces = all\n", "inet_interfaces = all\nbiff = no\n", False),
        ("inet_interfaces = all\n", "inet_interfaces =\n  all\n", False),
        ("inet_interfaces = all\n", "inet_interfaces = loopback-only\n", True),
        ("", "inet_protocols = ipv4\n", True),
    ],
)
def test_what_postfix_restarts_for(tmp_path: pathlib.Path, old: str, new: str, restart: bool) -> None:
    postfix = Postfix()
    postfix.directory = str(tmp_path)
    (tmp_path / "main.cf").write_text(old)
    assert postfix.needs_restart(View([File(str(tmp_path / "main.cf"), new.encode())])) is restart


@pytest.mark.parametrize("unit", ["postfix", "postfix@-"])
def test_postfix_restarts_for_another_resolver(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, unit: str
) -> None:
    paths = [path.replace("/etc/", f"{tmp_path}/") for path in (Postfix.resolver, *Postfix.drop_ins)]
    monkeypatch.setattr(Postfix, "resolver", paths[0])
    monkeypatch.setattr(Postfix, "drop_ins", tuple(paths[1:]))
    monkeypatch.setattr(Postfix, "units", f"{tmp_path}/systemd/system/")
    (drop_in,) = [path for path in paths if f"/{unit}.service.d/" in path]
    files = [File(path, b"x") for path in paths]
    assert Postfix().needs_restart(View(files))
    for path in paths:
        pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
        pathlib.Path(path).write_bytes(b"x")
    assert not Postfix().needs_restart(View(files))
    # it has to see the machine's own again
    assert Postfix().needs_restart(View([], [drop_in]))


@pytest.mark.parametrize(
    ("running", "before", "taken", "expected"),
    [
        (False, False, False, []),
        (True, True, True, []),
        (True, False, True, ["unbound runs here already, set up by somebody else, and would lose its configuration"]),
        (False, False, True, ["another program answers on port 53 of 127.0.0.1"]),
    ],
)
def test_resolver_that_is_there_already(
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    running: bool,
    before: bool,
    taken: bool,
    expected: t.List[str],
) -> None:
    path = tmp_path / "port587.conf"
    if before:
        path.write_text("server:\n")
    checked: t.List[bytes] = []

    def check(argv: t.List[str]) -> t.Tuple[int, str, str]:
        checked.append(pathlib.Path(argv[-1]).read_bytes())
        return 0, "", ""

    monkeypatch.setattr(Unbound, "configuration", str(path))
    monkeypatch.setattr(Unbound, "checks", {str(path): ["unbound-checkconf"]})
    monkeypatch.setattr(Unbound, "running", lambda _self: running)
    monkeypatch.setattr(daemons, "run_command", check)
    monkeypatch.setattr(daemons, "_is_taken", lambda *_asked: taken)
    new = File(str(path), b'auto-trust-anchor-file: "/var/lib/unbound/root.key"\n')
    assert [problem.text for problem in Unbound().validate(View([new]))] == expected
    # what unbound makes at its first start can't be missed before
    assert checked == [b'auto-trust-anchor-file: "/usr/share/dns/root.key"\n']


def test_what_dovecot_restarts_for(tmp_path: pathlib.Path) -> None:
    dovecot = Dovecot()
    dovecot.configuration = str(tmp_path / "dovecot.conf")
    (tmp_path / "dovecot.conf").write_text("listen = *\n")
    assert not dovecot.needs_restart(View([File(dovecot.configuration, b"listen = ::\n")]))
    assert dovecot.needs_restart(View([File(dovecot.configuration, b"base_dir = /run/x\n")]))
    assert dovecot.needs_restart(View([File(dovecot.configuration, b"import_environment = TZ A=b\n")]))
    dovecot.drop_in = str(tmp_path / "port587.conf")
    assert dovecot.needs_restart(View([File(dovecot.drop_in, b"[Service]\nLimitNOFILE=65535\n")]))


def test_dovecot_2_2_is_given_the_time_to_compute_its_parameters(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 3:
            (tmp_path / "ssl-parameters.dat").write_bytes(b"x")

    dovecot = Dovecot()
    monkeypatch.setattr(dovecot, "parameters", str(tmp_path / "ssl-parameters.dat"))
    monkeypatch.setattr(dovecot, "parameters_program", str(tmp_path / "ssl-params"))
    monkeypatch.setattr(daemons.time, "sleep", sleep)
    monkeypatch.setattr(Dovecot, "running", lambda _self: True)
    # since 2.3 there is no such program
    dovecot.prove({})
    assert slept == []
    (tmp_path / "ssl-params").write_bytes(b"x")
    # one that is asked whether it serves now
    dovecot.prove({}, patience=0)
    assert slept == []
    dovecot.prove({})
    assert len(slept) == 3
    # one that has died has nothing to wait for
    (tmp_path / "ssl-parameters.dat").unlink()
    monkeypatch.setattr(Dovecot, "running", lambda _self: False)
    dovecot.prove({})
    assert len(slept) == 3


@pytest.mark.parametrize(
    ("faulty", "expected", "note"),
    [
        ([], ["table", "main.cf", "master.cf"], False),
        (["new main.cf"], ["table", "master.cf", "main.cf"], False),
        (["new main.cf", "new master.cf"], ["table", "main.cf", "master.cf"], True),
    ],
)
def test_order_in_which_postfix_s_files_are_swapped(
    monkeypatch: pytest.MonkeyPatch, faulty: t.List[str], expected: t.List[str], note: bool
) -> None:
    """A state in between is one that Postfix can load: whichever way round that is."""

    def validate(_self: Postfix, view: View) -> t.List[Problem]:
        # in between, all are new but one
        state = "new master.cf" if "/etc/postfix/master.cf" in view.files else "new main.cf"
        assert "/etc/postfix/table" in view.files
        assert len(view.files) == 2
        unused = Problem("/etc/postfix/main.cf", "unused parameter: x=1")
        return [unused] + [Problem("/etc/postfix/main.cf", "no")] * (state in faulty)

    monkeypatch.setattr(Postfix, "validate", validate)
    files = [File("/etc/postfix/" + name, b"") for name in ("main.cf", "master.cf", "table")]
    ordered, said = Postfix().in_order(files, View(files))
    assert [f.path[len("/etc/postfix/") :] for f in ordered] == expected
    assert bool(said) is note
    assert Postfix().in_order(files[1:], View(files))[0] == [files[2], files[1]]


def test_values_of_dovecot(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Dovecot, "_knows_mechanism", staticmethod(lambda word: word in ("plain", "login")))
    monkeypatch.setattr(Dovecot, "_has_plugin", staticmethod(lambda word: word == "quota"))
    there = tmp_path / "passwd"
    there.write_text("")
    settings = "\n".join(
        [
            "auth_mechanisms = plain log-in",
            "mail_plugins = quota none",
            "passdb {",
            "  args = scheme=X username_format=%%Lu %s" % there,
            "  args = /nowhere/passwd",
            "  args = /etc/dovecot/sql.conf.ext",
            "}",
            "ssl_dh = </nowhere/dh.pem",
            "    user = nobody-has-this-name",
            "    user = root",
            "    group = $SET:x",
        ]
    )
    view = View([File("/etc/dovecot/dovecot.conf", b"\nauth_mechanisms = plain log-in\n")])
    problems = Dovecot()._look_up(settings, view)
    assert [(p.text, p.line, p.absent) for p in problems] == [
        ("auth_mechanisms: this Dovecot has no mechanism log-in", 2, None),
        ("mail_plugins: plugin none is not installed", None, None),
        ("args: /nowhere/passwd does not exist", None, "/nowhere/passwd"),
        ("ssl_dh: /nowhere/dh.pem does not exist", None, "/nowhere/dh.pem"),
        ("user: this server has no user or group nobody-has-this-name", None, "nobody-has-this-name"),
    ]


def test_place_of_dovecot_s_problem() -> None:
    line = "doveconf: Fatal: Error in configuration file /etc/dovecot/dovecot.conf line 3: Unknown setting: x"
    assert Dovecot()._locate(line) == Problem("/etc/dovecot/dovecot.conf", "Unknown setting: x", 3)
    assert Dovecot()._locate("doveconf: Fatal: no") == Problem("/etc/dovecot/dovecot.conf", "no")


def test_dovecot_s_own_files_are_checked_together(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What dovecot.conf includes is found beside it: the new file where there is one, else the live one."""
    dovecot = Dovecot()
    dovecot.configuration = str(tmp_path / "dovecot.conf")
    for name in ("dovecot.conf", "old.conf", "local.conf"):
        (tmp_path / name).write_text("live")
    seen = {}

    def doveconf(argv: t.Sequence[str], stdin: t.Optional[bytes] = None) -> t.Tuple[int, str, str]:
        seen.update({p.name: p.read_text() for p in pathlib.Path(argv[2]).parent.iterdir()})
        return (
            89,
            "",
            "doveconf: Fatal: Error in configuration file %s line 1: no" % argv[2].replace("dovecot.conf", "old.conf"),
        )

    monkeypatch.setattr(daemons, "run_command", doveconf)
    new = [File(str(tmp_path / name), b"new") for name in ("dovecot.conf", "old.conf")]
    assert dovecot.validate(View(new)) == [Problem(str(tmp_path / "old.conf"), "no", 1)]
    assert seen == {"dovecot.conf": "new", "old.conf": "new", "local.conf": "live"}


def test_key_that_does_not_fit(tmp_path: pathlib.Path, values: daemons._Values) -> None:
    for name in ("a", "b"):
        subprocess.check_call(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=x", "-keyout"]
            + [str(tmp_path / (name + ".key")), "-out", str(tmp_path / (name + ".crt"))],
            stderr=subprocess.DEVNULL,
        )
    a_key, a, b = (str(tmp_path / name) for name in ("a.key", "a.crt", "b.crt"))
    assert daemons.key_pair_trouble([a_key, a], View()) is None
    trouble = daemons.key_pair_trouble([a_key, b], View())
    assert trouble is not None
    assert "%s and %s can't be used" % (a_key, b) in trouble
    # the one that will be there counts, not the one that is
    new = View([File(b, (tmp_path / "a.crt").read_bytes())])
    assert daemons.key_pair_trouble([a_key, b], new) is None
    assert daemons.key_pair_trouble([a], View()) is not None

    def look_up(*pairs: t.Tuple[str, str]) -> t.List[str]:
        said = "\n".join("local_name x {\n  ssl_cert = <%s\n  ssl_key = <%s\n}" % pair for pair in pairs)
        return [problem.text for problem in Dovecot()._look_up(said, View())]

    (trouble_of_one,) = values.wrong("tls_server_sni_maps", "inline:{ a.test=%s }" % a)
    assert "can't be used" in trouble_of_one[0]

    # each pair for itself
    b_key = str(tmp_path / "b.key")
    assert list(values.wrong("smtpd_tls_chain_files", ", ".join([a_key, a, b_key, b]))) == []
    ((trouble, _absent),) = values.wrong("smtpd_tls_chain_files", ", ".join([a_key, a, b_key, a]))
    assert trouble.startswith("key and certificate in %s and %s can't be used" % (b_key, a))
    assert look_up((a, a_key), (b, str(tmp_path / "b.key"))) == []
    assert len(look_up((a, a_key), (b, a_key))) == 1


def test_what_doveconf_prints_in_both_dialects() -> None:
    new = (
        "ssl_server {\n  cert_file = /a\n  key_file = /b\n}\n"
        "mail_plugins {\n  quota = yes\n}\nssl = required\nservice x {\n  user = y\n}\n"
    )
    assert daemons._doveconf(new) == [
        ("ssl_server_cert_file", "/a"),
        ("ssl_server_key_file", "/b"),
        ("mail_plugins", "quota"),
        ("ssl", "required"),
        ("user", "y"),
    ]
    old = 'ssl_cert = </a\nprotocol imap {\n  mail_plugins = " quota imap_quota"\n}\n'
    assert daemons._doveconf(old) == [("ssl_cert", "</a"), ("mail_plugins", " quota imap_quota")]


def test_port_of_another_program() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        port = other.getsockname()[1]
        other.listen(1)
        assert daemons._is_taken(port)
        assert not daemons._is_taken(port, "127.0.0.53")
        assert not daemons._is_taken(port, "127.0.0.1", socket.SOCK_DGRAM)
    assert not daemons._is_taken(port)


def test_reload_waits_until_the_daemon_has_heard_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = ["", "", "master: Warning: SIGHUP received - reloading configuration"]
    monkeypatch.setattr(daemons, "run_command", lambda argv: (0, lines.pop(0) if "journalctl" in argv else "", ""))
    Dovecot().reload()
    assert lines == []


def test_listener_that_a_reload_went_on_without(monkeypatch: pytest.MonkeyPatch) -> None:
    log = (
        "master: Warning: SIGHUP received - reloading configuration\n"
        "master: Error: service(imap-login): listen(*, 2525) failed: Address already in use\n"
        "imap(a): Error: of a person's own\n"
    )
    monkeypatch.setattr(daemons, "run_command", lambda _argv: (0, log, ""))
    assert Dovecot().complaints_since(0.0) == log.splitlines()[1:2]


# -- nginx --------------------------------------------------------------------------------------------------------

SITE = "/etc/nginx/sites-enabled/zz-port587.conf"


@pytest.fixture
def nginx(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> t.Callable[..., Nginx]:
    """A tree with another site, and an nginx that says what a test wants it to say."""

    def make(code: int, says: str, listens: str = "") -> Nginx:
        class Tried(Nginx):
            directory = str(tmp_path / "nginx")

            def running(self) -> bool:
                return bool(listens)

        def run(argv: t.Sequence[str], stdin: t.Optional[bytes] = None) -> t.Tuple[int, str, str]:
            if argv[1] == "-T":
                return 0, listens, ""
            tree = pathlib.Path(argv[3]).parent
            assert (tree / "nginx.conf").read_text() == "include %s/sites-enabled/*;" % tree
            assert (tree / "sites-enabled" / "new").read_text() == "server { listen 1.2.3.4:80; }"
            return code, "", says.replace("TREE", str(tree))

        monkeypatch.setattr(daemons, "run_command", run)
        (tmp_path / "nginx" / "sites-enabled").mkdir(parents=True)
        (tmp_path / "nginx" / "nginx.conf").write_text("include %s/nginx/sites-enabled/*;" % tmp_path)
        return Tried()

    return make


@pytest.mark.parametrize(
    ("code", "says", "text", "line"),
    [
        (0, "nginx: configuration file TREE/nginx.conf test is successful", None, None),
        (0, "nginx: [warn] something old in TREE/nginx.conf:3", None, None),
        (1, 'nginx: [emerg] unknown directive "lisen" in TREE/sites-enabled/new:7', 'unknown directive "lisen"', 7),
        (
            1,
            '2026/11/02 10:00:00 [emerg] 12#12: unknown directive "x" in TREE/nginx.conf:1',
            'unknown directive "x"',
            1,
        ),
        (1, "Killed", "nginx -t ends with 1", None),
    ],
)
def test_what_nginx_says(
    nginx: t.Callable[..., Nginx], code: int, says: str, text: t.Optional[str], line: t.Optional[int]
) -> None:
    daemon = nginx(code, says, "# configuration file /etc/nginx/nginx.conf:\nhttp { server { listen 80; } }\n")
    problems = daemon.validate(View([File(daemon.directory + "/sites-enabled/new", b"server { listen 1.2.3.4:80; }")]))
    assert [(problem.text, problem.line) for problem in problems] == ([(text, line)] if text else [])
    assert all(problem.path.startswith(daemon.directory) for problem in problems)


def test_a_certificate_that_is_absent_is_named() -> None:
    text = 'cannot load certificate "/etc/port587/tls/combined.pem": BIO_new_file() failed (No such file or directory)'
    assert Nginx._problem(text).absent == "/etc/port587/tls/combined.pem"
    assert Nginx._problem('cannot load certificate "/etc/hostname": PEM_read_bio() failed').absent is None


def test_a_port_that_another_program_has(nginx: t.Callable[..., Nginx], monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen(1)
        port = other.getsockname()[1]
        daemon = nginx(0, "")
        view = View([File(daemon.directory + "/sites-enabled/new", b"server {\n  listen *:%d ssl;\n}\n" % port)])
        assert [problem.text for problem in daemon._look_up(view)] == ["another program listens on port %d" % port]
        # that program is nginx itself, whose file has all of it on one line
        live = "# configuration file /etc/nginx/nginx.conf:\nhttp { server { listen [::]:%d; return 204; } }\n" % port
        monkeypatch.setattr(daemons, "run_command", lambda _argv: (0, live, ""))
        monkeypatch.setattr(type(daemon), "running", lambda _self: True)
        assert daemon._look_up(view) == []


@pytest.mark.parametrize(
    ("master", "served"),
    [
        ("smtp       inet  n  -  y  -  -  smtpd\nsmtps inet n - y - - smtpd\n", {25, 465}),
        ("127.0.0.1:10025 inet n - n - 25 smtpd\npickup unix n - y 60 1 pickup\n", {10025}),
        ("no-such-name inet n - n - - smtpd\n", set()),
    ],
)
def test_ports_that_postfix_has(monkeypatch: pytest.MonkeyPatch, master: str, served: t.Set[int]) -> None:
    monkeypatch.setattr(daemons, "run_command", lambda _argv: (0, master, ""))
    assert Postfix._served() == served


@pytest.mark.parametrize(
    ("before", "after", "restarts"),
    [
        (b"  listen *:80;\n", b"  listen *:80;\n  root /x;\n", False),
        (b"  listen *:80;\n", b"  listen 192.0.2.1:80;\n", True),
        (None, b"  listen *:80;\n", False),
    ],
)
def test_other_addresses_need_a_restart(
    tmp_path: pathlib.Path, before: t.Optional[bytes], after: bytes, restarts: bool
) -> None:
    old = tmp_path / "old"
    if before is not None:
        old.write_bytes(before)
    view = View([File(SITE, after)], (), {SITE: str(old) if before is not None else None})
    assert Nginx().needs_restart(view) is restarts


def test_rspamd_s_includes_lead_to_the_copy(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are named by variables that are compiled in, so a changed file would not be seen otherwise."""
    live = tmp_path / "rspamd"
    (live / "override.d").mkdir(parents=True)
    (live / "rspamd.conf").write_text('.include "$CONFDIR/a.inc"\n.include "${LOCAL_CONFDIR}/override.d/b.inc"\n')
    (live / "override.d" / "gone.inc").write_text("x")
    monkeypatch.setattr(daemons.Rspamd, "directory", str(live))
    new = str(live / "override.d" / "b.inc")
    seen = {}

    def configtest(argv: t.Sequence[str]) -> t.Tuple[int, str, str]:
        tree = pathlib.Path(argv[-1]).parent
        seen["conf"] = pathlib.Path(argv[-1]).read_text().replace(str(tree), "TREE")
        seen["new"] = (tree / "override.d" / "b.inc").read_text()
        seen["gone"] = str((tree / "override.d" / "gone.inc").exists())
        text = "symbol 'A' has its score defined, error\nucl parser error in %s/override.d/b.inc: line: 1, column: 2\n"
        return 1, text % tree, "syntax BAD"

    monkeypatch.setattr(daemons, "run_command", configtest)
    view = View([File(new, b"enabled = ", 0o644)], [str(live / "override.d" / "gone.inc")])
    problems = daemons.Rspamd().validate(view)
    assert seen == {
        "conf": '.include "TREE/a.inc"\n.include "TREE/override.d/b.inc"\n',
        "new": "enabled = ",
        "gone": "False",
    }
    assert len(problems) == 1
    assert "b.inc: line: 1, column: 2" in problems[0].text
    monkeypatch.setattr(daemons, "run_command", lambda _argv: (0, "", "symbol 'A' has its score defined"))
    assert daemons.Rspamd().validate(view) == []


def test_a_key_for_signatures_that_is_too_short(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daemons.Rspamd, "_lay_out", lambda *_arguments: None)
    run = daemons.run_command
    monkeypatch.setattr(daemons, "run_command", lambda argv: (0, "", "") if argv[0] == "rspamadm" else run(argv))
    path = "/var/lib/rspamd/dkim/example.com.rsa1.key"

    def said(content: bytes) -> t.List[t.Tuple[str, str]]:
        return [(one.path, one.text) for one in daemons.Rspamd().validate(View([File(path, content)]))]

    for bits, text in ((1024, "the key has 1024 bits, and many refuse what has less than 2048"), (2048, "")):
        key = subprocess.check_output(["openssl", "genrsa", str(bits)], stderr=subprocess.DEVNULL)
        assert said(key) == ([(path, text)] if text else [])
    assert said(b"nonsense") == [(path, "it is neither PEM nor an Ed25519 key in base64")]
    # check mode, which makes none
    assert said(b"") == []


def test_rspamd_starts_again_after_it_has_compiled(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    restarts = []

    def restart(_daemon: t.Any) -> None:
        restarts.append(1)
        (tmp_path / "a.hsmp").write_text("")

    monkeypatch.setattr(daemons.Rspamd, "state", str(tmp_path))
    monkeypatch.setattr(daemons.Rspamd, "restart", restart)
    monkeypatch.setattr(daemons.Rspamd, "_workers", staticmethod(lambda: {"1"}))
    daemons.Rspamd().start()
    assert len(restarts) == 2
    daemons.Rspamd().start()
    assert len(restarts) == 3


def test_a_new_certificate_concerns_who_serves_tls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unbound and rspamd have none to serve, and go on undisturbed."""
    proofs = {
        "postfix": {"proofs": [{"protocol": "smtp", "port": 25, "tls": "starttls"}], "certificate": "/x.pem"},
        "dovecot": {
            "proofs": [{"protocol": "sasl", "path": "/s"}, {"protocol": "imap", "port": 993, "tls": "implicit"}]
        },
        "rspamd": {"proofs": [{"protocol": "milter", "path": "/m"}], "certificate": None},
        "unbound": {"proofs": [{"protocol": "dns", "port": 53, "tls": "none"}]},
    }
    monkeypatch.setattr(daemons, "remembered_proofs", lambda: proofs)
    for daemon in (daemons.Postfix, daemons.Dovecot, daemons.Rspamd, daemons.Unbound):
        monkeypatch.setattr(daemon, "installed", lambda _self: True)
        monkeypatch.setattr(daemon, "running", lambda _self: True)
    found = daemons.serving_activations()
    assert [one.daemon.name for one in found] == ["postfix", "dovecot"]
    assert found[0].proof == proofs["postfix"]
