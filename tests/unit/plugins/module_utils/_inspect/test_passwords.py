# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Passwords that were changed on the server."""

import pathlib

from ansible_collections.port587.mail.plugins.module_utils._accounts import own
from ansible_collections.port587.mail.plugins.module_utils._inspect.passwords import has_own

EVE = "eve@example.com"


def test_has_own(tmp_path: pathlib.Path) -> None:
    path, passwd = str(tmp_path / "own_passwords"), tmp_path / "passwd"
    assert not has_own(EVE, path, str(passwd))
    passwd.write_text("# made\n%s:{SHA512-CRYPT}x:::::: quota\n" % EVE, encoding="utf-8")
    assert not has_own(EVE, path, str(passwd))
    (tmp_path / "own_passwords").write_text(own.text({EVE: own.digest("{SHA512-CRYPT}x")}), encoding="utf-8")
    assert has_own(EVE, path, str(passwd))
    assert not has_own("bob@example.com", path, str(passwd))
    # a run has replaced it since
    passwd.write_text("%s:{SHA512-CRYPT}y::::::\n" % EVE, encoding="utf-8")
    assert not has_own(EVE, path, str(passwd))
