# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The checks of nginx, and the changes that need a restart."""

import pathlib
import socket
import typing as t

import pytest
from ansible_collections.port587.mail.plugins.module_utils._daemons import nginx as nginx_daemon
from ansible_collections.port587.mail.plugins.module_utils._daemons.nginx import Nginx
from ansible_collections.port587.mail.plugins.module_utils._transaction.tree import File
from ansible_collections.port587.mail.plugins.module_utils._transaction.view import View

DESCRIPTION = {"unit": "nginx", "kind": "nginx"}
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

        monkeypatch.setattr(nginx_daemon, "run_command", run)
        (tmp_path / "nginx" / "sites-enabled").mkdir(parents=True)
        (tmp_path / "nginx" / "nginx.conf").write_text("include %s/nginx/sites-enabled/*;" % tmp_path)
        return Tried(DESCRIPTION)

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
    assert Nginx._problem(text).pending
    assert not Nginx._problem('cannot load certificate "/etc/hostname": PEM_read_bio() failed').pending


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
        monkeypatch.setattr(nginx_daemon, "run_command", lambda _argv: (0, live, ""))
        monkeypatch.setattr(type(daemon), "running", lambda _self: True)
        assert daemon._look_up(view) == []


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
    assert Nginx(DESCRIPTION).needs_restart(view) is restarts
