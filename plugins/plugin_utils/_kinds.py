# Copyright (c) The port587.mail contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this plugin util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""The kinds of values that variables can have, beyond their types: the table that roles/*/meta/checks.yml refers to.

A kind has a test, a complaint about a value that fails it, and what to write instead.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
import typing as t

from ansible_collections.port587.mail.plugins.module_utils._certificate.acme import DIRECTORIES


class Kind(t.NamedTuple):
    """One row of the table. A message is `variable: 'value' COMPLAINT; write RIGHT`."""

    fits: t.Callable[[t.Any], bool]
    complaint: str
    #: With {} for the example: the variable's default, or else the one that follows.
    right: str
    example: t.Any = ""
    #: Whether a message repeats the value. False for passwords and long texts.
    shown: bool = True


def _matches(pattern: str, flags: int = 0) -> t.Callable[[t.Any], bool]:
    compiled = re.compile(pattern, flags)
    return lambda value: compiled.fullmatch(str(value)) is not None


def _is_number_from(least: int) -> t.Callable[[t.Any], bool]:
    return lambda value: re.fullmatch(r"[+-]?[0-9]+", str(value)) is not None and int(value) >= least


def _is_at_least_0(value: t.Any) -> bool:
    return re.fullmatch(r"[0-9]+(\.[0-9]+)?", str(value)) is not None


def _is_sender(value: t.Any) -> bool:
    return (
        _is_name(str(value))
        or re.fullmatch(r"[^\s@\"\\]+@[A-Za-z0-9.-]+", str(value)) is not None
        or re.fullmatch(r"[0-9a-fA-F.:]+(/[0-9]+)?", str(value)) is not None
        and _are_networks([value])
    )


def _is_ip_address(value: t.Any) -> bool:
    try:
        ipaddress.ip_address(str(value))
    except ValueError:
        return False
    return True


def _are_networks(value: t.Any) -> bool:
    """A list, or text as Postfix has it, with commas or blanks between and with brackets around IPv6: [::1]/128."""
    networks = value if isinstance(value, (list, tuple)) else str(value).replace(",", " ").split()
    try:
        for network in networks:
            ipaddress.ip_network(re.sub(r"[][]", "", str(network)), strict=False)
    except ValueError:
        return False
    return True


def _is_port(value: t.Any) -> bool:
    found = re.fullmatch(r"([0-9]{1,5})(/tcp|/udp)?", str(value))
    return found is not None and 0 < int(found[1]) < 65536


def _is_listen_address(value: t.Any) -> bool:
    in_brackets = re.fullmatch(r"\[(.+)\]", str(value))
    return (
        value == "*"
        or _is_ip_address(in_brackets[1] if in_brackets else value)
        and bool(in_brackets) == (":" in str(value))
    )


def _is_base64(value: t.Any) -> bool:
    try:
        return base64.b64decode(str(value), validate=True) != b""
    except (binascii.Error, ValueError):
        return False


def _is_one_line(value: t.Any) -> bool:
    entries = value if isinstance(value, (list, tuple)) else [value]
    return not any("\n" in str(entry) for entry in entries)


_LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
#: RFC 1123 names with at least one dot; the last label begins with a letter, which that of an IP address doesn't.
_NAME = rf"(?=.{{4,253}}\Z)({_LABEL}\.)+[a-z]([a-z0-9-]{{0,61}}[a-z0-9])?"
_is_name = _matches(_NAME, re.IGNORECASE)

_OCTET = r"(2(5[0-5]|[0-4][0-9])|1?[0-9]?[0-9])"
_RANGE = rf"{_OCTET}(\.\.{_OCTET})?"
#: One of the four parts of an answer that counts: 4, or [2;4..7].
_PART = rf"({_OCTET}|\[{_RANGE}(;{_RANGE})*\])"
#: Block lists may have underscores in their names.
_LIST_NAME = r"([A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9])?\.)+[A-Za-z][A-Za-z0-9-]*[A-Za-z0-9]"

KINDS: dict[str, Kind] = {
    "filled": Kind(bool, "is empty", "at least one", shown=False),
    "empty": Kind(lambda value: value == "", "is not empty", "''"),
    # names and addresses
    "host_name": Kind(_is_name, "is not a fully qualified host name", "one such as {}", "mail.example.com"),
    "domain": Kind(_is_name, "is not a domain", "one such as {}", "example.com"),
    "mx_host": Kind(
        lambda value: _is_name(str(value).removeprefix("*.")),
        "is not a host name",
        "one such as {}",
        "mail.example.com",
    ),
    "certificate_name": Kind(
        lambda value: _is_name(str(value).removeprefix("*.")),
        "is not a fully qualified host name, nor a wildcard",
        "one such as {} or *.example.com",
        "imap.example.com",
    ),
    "host": Kind(_matches(r"[A-Za-z0-9.-]+"), "is not a host name", "one such as {}", "smtp.example.net"),
    "relayed_domain": Kind(_matches(r"[A-Za-z0-9.-]+"), "is not a domain", "one such as {}", "example.org"),
    "ip_address": Kind(_is_ip_address, "is not an IP address", "one such as 192.0.2.1 or 2001:db8::1"),
    "networks": Kind(_are_networks, "has an entry that is not a network", "networks such as [10.0.0.0/24]"),
    "port": Kind(_is_port, "is not a port", "one such as 443 or 51820/udp"),
    "tcp_port": Kind(lambda value: _is_port(str(value) + "/tcp"), "is not a port", "a number such as 22"),
    "listen_address": Kind(
        _is_listen_address, "is not an address as nginx writes it", "one such as *, 192.0.2.1 or [2001:db8::1]"
    ),
    "mail_address": Kind(
        _matches(r"[A-Za-z0-9.+_-]+@[A-Za-z0-9.-]+"), "is not an e-mail address", "one such as {}", "eve@example.com"
    ),
    "sender": Kind(
        _is_sender,
        "is not an address, a domain or a network",
        "one such as eve@example.com, example.com or 192.0.2.0/24",
    ),
    "acme_email": Kind(
        _matches(r"[^@\s]+@[^@\s]+\.[^@\s.]+"), "is not an e-mail address", "one such as {}", "eve@example.com"
    ),
    "acme_directory": Kind(
        lambda value: value in DIRECTORIES or re.fullmatch(r"https://[^\s/]+(/\S*)?", str(value)) is not None,
        "is not an authority",
        f"{' or '.join(DIRECTORIES)}, or the https:// URL of another authority's ACME directory",
    ),
    # numbers
    "limit": Kind(_is_number_from(0), "is less than 0", "a number, or 0 for no limit"),
    "positive": Kind(_is_number_from(1), "is less than 1", "one such as {}", 1),
    "points": Kind(_is_at_least_0, "is not a number of points", "one such as 15, or 0 for never"),
    "more_than_0": Kind(
        lambda value: _is_at_least_0(value) and float(value) > 0, "is not above 0", "one such as {}", 6
    ),
    "percent": Kind(
        lambda value: _is_number_from(1)(value) and int(value) <= 100, "is not from 1 to 100", "one such as {}", 80
    ),
    # renewed when 30 days are left, and Apple's clients refuse certificates that are valid for more than 825
    "certificate_days": Kind(
        lambda value: _is_number_from(60)(value) and int(value) <= 825, "is not from 60 to 825", "one such as {}", 825
    ),
    "size": Kind(
        _matches(r"0|[1-9][0-9]*[KMGT]"),
        "is not a size",
        "a number with K, M, G or T, such as {}, or 0 for no limit",
        "1G",
    ),
    # files and users
    "path": Kind(
        _matches(r"/[A-Za-z0-9._/-]+"),
        "is not a plain absolute path",
        "one such as {}",
        "/srv/mail/file",
    ),
    "socket": Kind(
        _matches(r"/[A-Za-z0-9._/-]+/[A-Za-z0-9._-]+"),
        "is not a plain absolute path in a directory of its own",
        "one such as {}",
        "/var/spool/postfix/rspamd/milter.sock",
    ),
    "backup_repository": Kind(
        _matches(r"/[^\s]+|[a-z0-9]+:[^\s]+"),
        "is not a repository",
        "one such as {}",
        "sftp:user@backup.example.com:/srv/mail",
    ),
    "keep_period": Kind(
        _matches("last|hourly|daily|weekly|monthly|yearly"),
        "is not a period",
        "last, hourly, daily, weekly, monthly or yearly",
    ),
    "user": Kind(_matches(r"[a-z_][a-z0-9_-]*"), "is not the name of a user or group", "one such as {}", "postfix"),
    # keywords of programs and protocols
    "folder": Kind(
        _matches(r"[A-Za-z0-9._/-]+( [A-Za-z0-9._/-]+)*"),
        "can't be a folder's name here",
        "letters, digits, dots, dashes and single spaces",
    ),
    "header": Kind(_matches(r"[A-Za-z0-9-]+"), "is not the name of a header", "one such as {}", "X-Spam"),
    "dkim_selector": Kind(
        _matches(rf"{_LABEL}(\.{_LABEL})*"),
        "can't be a name in DNS",
        "small letters, digits and dashes, such as rsa2",
    ),
    "tsig_name": Kind(_matches(r"\S+"), "can't be a key's name", "one without blanks"),
    "base64": Kind(_is_base64, "is not base64", "the key's secret as the name server's configuration has it"),
    "block_list": Kind(
        _matches(rf"{_LIST_NAME}(={_PART}(\.{_PART}){{3}})?"),
        "is not a list's name",
        "one such as zen.spamhaus.org, or name=127.0.0.[2;4..7]",
    ),
    "trust_anchor": Kind(
        _matches(r"\S+( [0-9]+)?( IN)? (DS|DNSKEY) [0-9]+ [0-9]+ [0-9]+ [A-Za-z0-9+/= ]+"),
        "is not a DS or DNSKEY record",
        "one such as . IN DS 20326 8 2 E06D44B8...",
    ),
    "relay_login": Kind(_matches(r"[^\s:]+"), "has a space or a colon in it, which Postfix can't store", "one without"),
    "relay_password": Kind(
        _matches(r"\S([^\n]*\S)?"),
        "begins or ends with a space, or has a line break in it, which Postfix can't store",
        "one without",
        shown=False,
    ),
    "main_cf_name": Kind(
        _matches(r"[A-Za-z][A-Za-z0-9_]*"), "is not the name of a parameter", "one that postconf(5) lists"
    ),
    "one_line": Kind(_is_one_line, "has more than one line", "it in one", shown=False),
}


def problem(kinds: t.Sequence[str], value: t.Any, default: t.Any = None, secret: bool = False) -> str:
    """The mistake in a value that should be of one of the kinds; empty if it is. The default serves as an example."""
    if any(KINDS[name].fits(value) for name in kinds):
        return ""
    kind = KINDS[kinds[-1]]
    example = default if default and "{{" not in str(default) and kind.fits(default) else kind.example
    shown = "" if secret or not kind.shown else f"{value!r} " if isinstance(value, str) else f"{value} "
    alternative = ", or '' for none" if "empty" in kinds else ""
    return f"{shown}{kind.complaint}; write {kind.right.format(example)}{alternative}"
