# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each kind of value: good values, and the messages about bad ones."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.port587.mail.plugins.plugin_utils._kinds import KINDS, problem

LONG = "a" * 63

#: By kind: what fits, and what doesn't.
TABLE: dict[str, tuple[list[t.Any], list[t.Any]]] = {
    "filled": ([["a"], {"a": 1}], [[], {}, ""]),
    "empty": ([""], ["a", [], None, 0]),
    "host_name": (
        ["mail.example.com", "Mail.Example.com", f"{LONG}.example", "xn--bcher-kva.example", "1.example"],
        ["mail", "192.0.2.1", "mail.example.com.", "ma il.example.com", "a..com", "", f"{LONG}a.example", "a_b.example"]
        + ["mail.example.com\n", "-a.example", "a-.example", "bücher.example", f"{LONG}." * 4 + "example", None, 5],
    ),
    "domain": (["example.com", "example.co.jp"], ["example", "example.com; x", "one.example\ntwo.example"]),
    "mx_host": (["mail.example.com", "*.example.com"], ["*", "mail example", "*.*.example.com"]),
    "certificate_name": (["mail.example.com", "*.example.com"], ["*", "imap", "a b.example.com", "*.*.example.com"]),
    "host": (["relay.example", "localhost", "192.0.2.1"], ["[192.0.2.1]", "a b", "", "relay.example:587"]),
    "relayed_domain": (["example.org", ".example.org"], ["x y", "eve@example.org", ""]),
    "sender": (
        ["eve@example.com", "example.com", "192.0.2.1", "192.0.2.0/24", "2001:db8::/32"],
        ["", "eve", "@example.com", "a b@example.com", "192.0.2.0/33", "192.0.2.256", 'eve"@example.com'],
    ),
    "points": ([0, 4, 6.5, "15", "0.5"], [-1, "many", "", None, "1e3", "6,5"]),
    "more_than_0": ([1, 0.5, "6"], [0, "0.0", -1, "x", ""]),
    "ip_address": (["192.0.2.1", "2001:db8::1", "::1"], ["192.0.2", "192.0.2.256", "[::1]", "ns.example.net", ""]),
    "networks": (
        ["10.0.0.0/8", "10.0.0.0/8, [::1]/128 192.0.2.1", ["10.0.0.1/24", "::1"], []],
        ["10.0.0.0/33", ["10.0.0.0/8", "foo"], "hash:/etc/networks"],
    ),
    "listen_address": (["*", "[::]", "[2001:db8::1]", "192.0.2.1"], ["::1", "[192.0.2.1]", "localhost", "[]", ""]),
    "mail_address": (["eve@example.com", "eve+x@example.com"], ["eve", "eve@", "@example.com", "a b@example.com"]),
    "port": (["443", 443, "443/tcp", "51820/udp"], [0, 65536, "ssh", "443/sctp", "1-5", "", "443/tcp, 80"]),
    "tcp_port": ([22, "2222"], [0, "22/tcp", "22/udp", 70000, ""]),
    "limit": ([0, 1, "200"], [-1, "-200", "many"]),
    "positive": ([1, "300"], [0, "0", -1, "x"]),
    "certificate_days": ([60, "60", 825], [59, 826, "x"]),
    "percent": ([1, "80", 100], [0, 101, "80%", -5]),
    "size": (["0", 0, "1G", "500M"], ["1 GB", "01G", "1", "G", "1g"]),
    "backup_repository": (
        ["/srv/backup", "sftp:user@backup.example.com:/srv/mail", "s3:https://s3.example.com/mail", "rclone:x:mail"],
        ["", "srv/backup", "/srv/my backup", "sftp:", "SFTP:x"],
    ),
    "keep_period": (["last", "hourly", "yearly"], ["", "day", "Daily", "weekly\n"]),
    "path": (["/var/vmail", "/etc/a-b_c.pem"], ["var/vmail", "/a b", "", "/", "/a;b", "/a\n"]),
    "socket": (["/run/a/b.sock"], ["/x", "run/a/b.sock", "/run/a/"]),
    "user": (["postfix", "_rspamd", "www-data"], ["Postfix", "1a", "a b", ""]),
    "folder": (["Junk", "Sent Items", "a/b.c"], ["a  b", " a", "a ", "", 'a"b']),
    "header": (["X-Spam"], ["X Spam", "X-Spam:", ""]),
    "dkim_selector": (["rsa1", "2026.mail", "a"], ["A", "a_b", "-a", "a.", ""]),
    "block_list": (
        ["zen.spamhaus.org", "list.example=127.0.0.2", "list.example=127.0.0.[2;4..7]", "_x.list.example"],
        ["zen", "list.example=127.0.0.[2..256]", "list.example=127.0.0", "list.example=", "list.example=127.0.0.[2;]"],
    ),
    "trust_anchor": (
        [". IN DS 20326 8 2 E06D44B8", ". 3600 DNSKEY 257 3 8 AwEAAa+/ ab=="],
        [". IN A 192.0.2.1", "DS 1 2 3 4", ". IN DS 20326 8 2 ", ". IN DS x 8 2 E0\n"],
    ),
    "relay_login": (["eve@example.com"], ["a b", "a:b", ""]),
    "relay_password": (["a", "a b:c"], [" a", "a ", "a\nb", ""]),
    "main_cf_name": (["smtpd_banner", "2bounce"[1:]], ["a b", "1a", "a-b", ""]),
    "one_line": (["a", "", 5, True, ["a", "b"]], ["a\nb", ["a", "b\n"]]),
    "acme_directory": (
        ["letsencrypt", "letsencrypt-staging", "https://ca.example.com:14000/dir", "https://ca.example.com"],
        ["letsencypt", "http://ca.example.com", "https://", "https://a b/"],
    ),
    "acme_email": (["eve@example.com"], ["", "eve", "eve@example", "a b@example.com"]),
    "tsig_name": (["acme", "acme.example.com"], ["a key", ""]),
    "base64": (["c2VjcmV0"], ["se cret", "abc"]),
}


def test_the_table_has_every_kind() -> None:
    assert set(TABLE) == set(KINDS)


@pytest.mark.parametrize("kind", TABLE)
def test_what_fits(kind: str) -> None:
    good, bad = TABLE[kind]
    assert [value for value in good if not KINDS[kind].fits(value)] == []
    assert [value for value in bad if KINDS[kind].fits(value)] == []


@pytest.mark.parametrize("kind", KINDS)
def test_an_example_fits(kind: str) -> None:
    if KINDS[kind].example:
        assert KINDS[kind].fits(KINDS[kind].example)
        assert "{}" in KINDS[kind].right


@pytest.mark.parametrize(
    ("kinds", "value", "default", "message"),
    [
        (["domain"], "x", None, "'x' is not a domain; write one such as example.com"),
        # a variable's own default is the best example, if it is one
        (["path"], "x", "/var/vmail", "'x' is not a plain absolute path; write one such as /var/vmail"),
        (["path"], "x", "{{ y }}", "'x' is not a plain absolute path; write one such as /srv/mail/file"),
        (["path"], "x", "", "'x' is not a plain absolute path; write one such as /srv/mail/file"),
        (["positive"], 0, 300, "0 is less than 1; write one such as 300"),
        (["empty", "header"], "X Spam", None, "'X Spam' is not the name of a header; write one such as X-Spam, or ''"),
        (["empty", "header"], "", None, ""),
        (["filled"], [], None, "is empty; write at least one"),
        (["relay_password"], " geheim", None, "begins or ends with a space"),
    ],
)
def test_message(kinds: list[str], value: t.Any, default: t.Any, message: str) -> None:
    said = problem(kinds, value, default)
    assert said.startswith(message) if message else said == ""
    assert "geheim" not in said


def test_a_secret_is_not_repeated() -> None:
    assert problem(["base64"], "se cret", secret=True).startswith("is not base64; write")
