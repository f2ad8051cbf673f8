# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""A key and a certificate that do not belong together are found, whichever daemon is given them."""

import pathlib
import subprocess
import typing as t

from ansible_collections.port587.mail.plugins.module_utils._daemons.dovecot_values import doveconf, key_troubles
from ansible_collections.port587.mail.plugins.module_utils._daemons.key_pairs import key_pair_trouble
from ansible_collections.port587.mail.plugins.module_utils._daemons.postfix_values import RestrictionWords, Values
from ansible_collections.port587.mail.plugins.module_utils._transaction.tree import File
from ansible_collections.port587.mail.plugins.module_utils._transaction.view import View


def test_key_that_does_not_fit(tmp_path: pathlib.Path) -> None:
    for name in ("a", "b"):
        subprocess.check_call(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=x", "-keyout"]
            + [str(tmp_path / (name + ".key")), "-out", str(tmp_path / (name + ".crt"))],
            stderr=subprocess.DEVNULL,
        )
    a_key, a, b = (str(tmp_path / name) for name in ("a.key", "a.crt", "b.crt"))
    assert key_pair_trouble([a_key, a], View()) is None
    trouble = key_pair_trouble([a_key, b], View())
    assert trouble is not None
    assert "%s and %s can't be used" % (a_key, b) in trouble
    # the one that will be there counts, not the one that is
    new = View([File(b, (tmp_path / "a.crt").read_bytes())])
    assert key_pair_trouble([a_key, b], new) is None
    assert key_pair_trouble([a], View()) is not None

    def look_up(*pairs: t.Tuple[str, str]) -> t.List[str]:
        said = "\n".join("local_name x {\n  ssl_cert = <%s\n  ssl_key = <%s\n}" % pair for pair in pairs)
        return list(key_troubles(doveconf(said), View()))

    values = Values({}, [], RestrictionWords({}, ""), View())
    (trouble_of_one,) = values.wrong("tls_server_sni_maps", "inline:{ a.test=%s }" % a)
    assert "can't be used" in trouble_of_one[0]

    # each pair for itself
    b_key = str(tmp_path / "b.key")
    assert list(values.wrong("smtpd_tls_chain_files", ", ".join([a_key, a, b_key, b]))) == []
    ((trouble, _absent),) = values.wrong("smtpd_tls_chain_files", ", ".join([a_key, a, b_key, a]))
    assert trouble.startswith("key and certificate in %s and %s can't be used" % (b_key, a))
    assert look_up((a, a_key), (b, str(tmp_path / "b.key"))) == []
    assert len(look_up((a, a_key), (b, a_key))) == 1
