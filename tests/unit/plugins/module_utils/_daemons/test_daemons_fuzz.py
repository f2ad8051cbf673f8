# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fuzz the parsers of daemons' output: milters, postconf, nginx -T, doveconf, /proc, journals."""

import contextlib
import json
import pathlib
import struct
import typing as t

import pytest
from ansible_collections.port587.mail.plugins.module_utils._daemons import milter, nginx_syntax, postconf
from ansible_collections.port587.mail.plugins.module_utils._inspect import dovecot, log
from ansible_collections.port587.mail.plugins.module_utils._server import apt, facts, ports, proc
from ansible_collections.port587.mail.plugins.module_utils._transaction import state
from ansible_collections.port587.mail.plugins.module_utils._wire.errors import WireError
from fuzzing import bytes_of, text_of, wire
from hypothesis import given
from hypothesis import strategies as st

MESSAGE = milter.Message("eve@example.com", "bob@example.org", [("From", "eve@example.com")])
PACKETS = [
    b"\0\0\0\x0dO\0\0\0\6\0\0\1\xff\0\x0f\xf0\x80",
    b"\0\0\0\1c",
    b"\0\0\0\1a",
    b"\0\0\0\0",
    b"\xff\xff\xff\xff",
    b"\0\0\0\5hX\0y\0",
]


@given(bytes_of(*PACKETS))
def test_a_milter(said: bytes) -> None:
    with contextlib.suppress(WireError):
        assert isinstance(milter.scan(wire(PACKETS[0] + said), MESSAGE), milter.Outcome)


NAME = st.text("abc_", min_size=1, max_size=12)
VALUE = st.text("abc =,:$/{}", max_size=20).map(str.strip)


@given(st.dictionaries(NAME, VALUE, max_size=9))
def test_postconf(settings: t.Dict[str, str]) -> None:
    output = "".join(f"{name} = {value}\n" for name, value in settings.items())
    assert postconf.parse_parameters(output) == settings


@given(
    text_of("a = b\n", "=", " ", "\n", "smtp inet n - y - - smtpd\n", "smtp/inet/x = y\n", "/", "ssl_cert = </x\n"),
    text_of("smtp/inet/x = y\n", "/", " ", "\n"),
)
def test_output_that_is_read_line_by_line(output: str, overrides: str) -> None:
    """None of these has an error: what is not as expected is left out."""
    postconf.parse_services(output, overrides)
    dovecot.certificates(output)
    log.parse_killed(output)
    facts.parse_os_release(output)
    facts.parse_other_mtas(output)
    facts.parse_policy(output)
    apt.parse_broken(output)
    ports.parse_socket_units(output)


HEX = st.text("0123456789ABCDEF", min_size=8, max_size=8)


@given(
    st.lists(st.tuples(HEX, st.integers(0, 65535), st.sampled_from(["0A", "01"]), st.integers(1, 99999)), max_size=9)
)
def test_proc_net_tcp(rows: t.List[t.Tuple[str, int, str, int]]) -> None:
    text = "  sl  local_address ...\n" + "".join(
        f"  0: {address}:{port:04X} 00000000:0000 {state} 0:0 0:0 0 0 0 {inode} 1\n"
        for address, port, state, inode in rows
    )
    expected = [(port, str(inode)) for _address, port, state, inode in rows if state == "0A"]
    assert [(one.port, one.inode) for one in proc.parse_listening(text)] == expected


PROC = text_of(
    "  sl\n", "0: 0100007F:0050 0:0 0A 0 0 0 0 0 77 1\n", "1 (a b) S 1 2 3\n", ":", " ", "\n", "0::/a.service\n"
)


@given(PROC)
def test_proc(text: str) -> None:
    for parse in (proc.parse_listening, proc.parse_stat, proc.parse_unit, facts.parse_dpkg):
        # the kernel and dpkg write no such thing
        with contextlib.suppress(ValueError, IndexError):
            t.cast(t.Any, parse)(text)


@given(
    st.lists(
        st.one_of(
            text_of("{", "}", '"MESSAGE":"x"', '"', ","),
            st.dictionaries(st.text(max_size=9), st.text(max_size=9)).map(json.dumps),
        )
    )
)
def test_a_journal_of_systemd(rows: t.List[str]) -> None:
    log.parse_log("\n".join(rows))


WORDS = st.text(st.characters(blacklist_categories=("Cs",)), max_size=12)


def directives(children: t.Any) -> t.Any:
    words = st.lists(WORDS, min_size=1, max_size=3)
    return st.lists(st.builds(nginx_syntax.Directive, words, st.one_of(st.none(), children)), max_size=3)


def written(tree: t.List[t.Any]) -> str:
    """The directives as nginx reads them, all words in quotes."""
    text = ""
    for words, block in tree:
        text += " ".join('"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"' for word in words)
        text += ";\n" if block is None else " {\n" + written(block) + "}\n"
    return text


@given(st.recursive(st.just([]), directives, max_leaves=6))
def test_nginx_reads_what_was_written(tree: t.List[t.Any]) -> None:
    assert nginx_syntax.parse(written(tree)) == tree


@given(
    text_of(
        "server {", "}", ";", "listen 80;", "# configuration file /a:\n", "include /a;", '"', "'", "\\", "${", " ", "#"
    )
)
def test_nginx_of_anything(text: str) -> None:
    nginx_syntax.parse(text)
    nginx_syntax.servers("# configuration file /a:\n" + text)


SIMPLE = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=9)),
    lambda children: st.one_of(
        st.lists(children, max_size=4), st.dictionaries(st.text(max_size=9), children, max_size=4)
    ),
    max_leaves=9,
)


@given(st.dictionaries(st.text(max_size=9), SIMPLE, max_size=5))
def test_journals_and_manifests(value: t.Dict[str, t.Any]) -> None:
    assert json.loads(state.dump_json(value).decode("utf-8")) == value


def test_files_of_json_with_anything_in_them(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "manifest.json"

    @given(bytes_of(b"{", b"}", b'"files"', b":", b"[", b"]", b",", b"1e99", b"\\ud800", b"\0"))
    def check(content: bytes) -> None:
        path.write_bytes(content)
        with contextlib.suppress(ValueError, RecursionError):
            assert isinstance(state.load_json(str(path)), dict)

    check()


def test_a_milter_that_changes_without_end() -> None:
    change = b"\0\0\0\5hX\0y\0"
    with pytest.raises(WireError, match="does not end"):
        milter.scan(wire(PACKETS[0] + change * 20000), MESSAGE)
    with pytest.raises(WireError, match="does not end"):
        milter.scan(wire(PACKETS[0] + struct.pack("!I", 0xFFFFFFFF)), MESSAGE)
