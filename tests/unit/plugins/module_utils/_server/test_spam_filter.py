# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which server filters spam by default."""

from ansible_collections.port587.mail.plugins.module_utils._server import facts

WITH = "port587 {\n    domains = [];\n    spam_filter {\n        junk = 6;\n"
WITHOUT = "port587 {\n    domains = [];\n}\n# spam_filter {\n"


def test_memory_decides_and_what_a_server_has_stays() -> None:
    enough = 1536 * 1024 * 1024
    assert facts.filters_spam(enough, "")
    assert facts.filters_spam(enough, WITHOUT)
    assert not facts.filters_spam(enough - 1, "")
    assert not facts.filters_spam(enough - 1, WITHOUT)
    assert facts.filters_spam(enough - 1, WITH)
