# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Runs on the server: Python 3.6 and the standard library only.

"""Mistakes in values of main.cf that Postfix's own check accepts."""

import re
import typing as t

from ansible_collections.port587.mail.plugins.module_utils._daemons.key_pairs import key_pair_trouble, pairs
from ansible_collections.port587.mail.plugins.module_utils._daemons.tables import POSTMAP, compiled_path
from ansible_collections.port587.mail.plugins.module_utils._transaction.files import read_file
from ansible_collections.port587.mail.plugins.module_utils._transaction.view import View

#: Allowed values of TLS levels, postconf(5) smtp_tls_security_level and smtpd_tls_security_level.
_CLIENT_TLS_LEVELS = ("", "none", "may", "encrypt", "dane", "dane-only", "fingerprint", "verify", "secure")
_SERVER_TLS_LEVELS = ("", "none", "may", "encrypt")

_TABLE = re.compile(r"(?<![\w$}-])(?:proxy:)?([a-z]+):(/[^\s,;{}]+)")
_COMPILED_TABLES = ("hash", "btree", "lmdb", "cdb", "dbm", "sdbm")


class Values:
    """The mistakes that a parameter's value can have: each a text, and the missing path, if that is the mistake."""

    def __init__(
        self, defaults: t.Dict[str, str], table_types: t.Sequence[str], words: "RestrictionWords", view: View
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
            for pair in pairs(paths, self.view) if key == "smtpd_tls_chain_files" and not absent else ():
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
        # Postfix makes a cache when it first needs it
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
            if not (source and source.compiler is POSTMAP) and not self.view.exists(compiled):
                yield "the table %s does not exist" % compiled, compiled
        elif kind in ("texthash", "regexp", "pcre", "cidr") and not self.view.exists(path):
            yield "the table %s does not exist" % path, path


class RestrictionWords:
    """The restrictions that the installed smtpd(8) supports, read from the program, so no list can go out of date."""

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
            # match the end of a string only: linkers store "reject" as the end of a longer string
            if self.program and word.lower().encode() + b"\0" not in self.program:
                yield word
