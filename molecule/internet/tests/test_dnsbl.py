# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Block lists: port 25 refuses listed clients, and no others, for all answers of a list, and for none."""

import typing as t

import pytest
from conftest import MAIL_HOSTS, SCENARIO, Site, machine, site
from mailclient import mail, submit, token
from test_internet import bring, play, read

ZONE = "/var/cache/bind/published/list.test.zone"
#: None of these keeps anybody out.
HARMLESS = [
    "empty.list.test",
    # by such an answer, a list says that it does not serve who asks
    "error.list.test",
    # that answer does not count
    "other.list.test=127.0.0.[3;9..11]",
    "bl.silent.test",
]


@pytest.fixture(scope="module")
def here() -> t.Iterator[Site]:
    dns, here = machine("dns"), site(MAIL_HOSTS[-1])
    # whoever asks is listed
    lines = "".join(
        f"*.{name}list.test. A {answer}\n"
        for name, answer in (("", "127.0.0.2"), ("error.", "127.255.255.254"), ("other.", "127.0.0.2"))
    )
    dns.check_output(f"printf '{lines}empty.list.test. TXT x\\n' >{ZONE} && zones.sh")
    yield here
    dns.check_output(f"rm {ZONE} && zones.sh")
    play(SCENARIO / "part.yml", here, parts=["postfix"])


def send(here: Site, word: str) -> str:
    """From the foreign server, whose dialogue it gives."""
    text = mail("reader@exim.test", f"alice@{here.domain}", word).decode().replace("\r\n", "\n")
    command = f"exim4 -v -odi -f reader@exim.test alice@{here.domain}"
    done = machine("exim").run(f"cat <<'END' | /usr/sbin/{command} 2>&1\n{text}END")
    return done.stdout


def test_lists_that_keep_nobody_out(here: Site) -> None:
    play(SCENARIO / "part.yml", here, parts=["postfix"], postfix_dnsbl=HARMLESS)
    word = token()
    assert "554" not in send(here, word)
    read(here, "alice", word)
    assert "NOQUEUE" not in here.host.check_output("journalctl --since=-20s -q -o cat -t postfix/smtpd")


def test_who_is_listed(here: Site) -> None:
    play(SCENARIO / "part.yml", here, parts=["postfix"], postfix_dnsbl=[*HARMLESS[:-1], "list.test"])
    assert "blocked using list.test" in send(here, token())
    code, text = bring(here, "eve@none.test", mail("eve@none.test", f"bob@{here.domain}", token()))
    assert (code, "blocked using list.test" in text) == (554, True), text
    # people may write from wherever they are
    for port in (587, 465):
        word = token()
        alice = here.account("alice")
        submit(here.server, alice, f"bob@{here.domain}", mail(alice.address, f"bob@{here.domain}", word), port)
        read(here, "bob", word)
