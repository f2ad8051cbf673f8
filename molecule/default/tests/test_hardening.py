# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""systemd restricts the daemons, and programs that they start for people still do what they do without that."""

import contextlib
import shlex
import typing as t

from conftest import Site
from exposure import too_exposed
from mailclient import received, token
from test_own_mail import aliases, only_trusted_users_send, send, wait_for

testinfra_hosts = ["ansible://mail"]

#: Reads a file in the machine's /tmp, and sends mail: for that, postdrop gets its group by its file's mode.
PROGRAM = """#!/bin/sh
cat >/dev/null
{{ printf 'Subject: {word}\\n\\n'; id -un; cat /tmp/hardening; }} | /usr/sbin/sendmail -i {recipient}
"""


@contextlib.contextmanager
def trusted(host: t.Any, *users: str) -> t.Iterator[None]:
    """Before Postfix 3.6, the administrator has to name who may use sendmail."""
    if not only_trusted_users_send(host):
        yield
        return
    host.run_expect([0], "cp -p /etc/postfix/main.cf /root")
    host.run_expect([0], f"postconf -e authorized_submit_users=root,{','.join(users)}")
    try:
        yield
    finally:
        host.run_expect([0], "cp -p /root/main.cf /etc/postfix/main.cf")


def test_each_service_is_restricted(host: t.Any) -> None:
    own = ["port587-login-limits", "port587-recipients", "port587-send-limits"]
    assert too_exposed(host, "postfix", "dovecot", "rspamd", "nginx", *own) == {}


def test_programs_in_aliases(site: Site, host: t.Any) -> None:
    alice, word = site.account("alice"), token()
    text = PROGRAM.format(word=word, recipient=alice.address)
    host.run_expect([0], f"echo there >/tmp/hardening && printf %s {shlex.quote(text)} >/usr/local/bin/answers")
    host.run_expect([0], "chmod 0755 /usr/local/bin/answers && install -d -o nobody /var/local/kept")
    lines = 'answers: "|/usr/local/bin/answers"\nkept: /var/local/kept/mail'
    with aliases(host, lines), trusted(host, "www-data", "nobody"):
        send(host, "www-data", "answers", "a question")
        send(host, "www-data", "kept", word)
        (content,) = received(site.server, alice, word)
        assert b"nobody" in content
        assert b"there" in content
        wait_for(host, "/var/local/kept/mail", word)


def test_mailboxes_in_home_directories(host: t.Any) -> None:
    word = token()
    host.run_expect([0], "useradd -m lee && echo '~/Mail/' >/home/lee/.forward && chown lee /home/lee/.forward")
    try:
        send(host, "root", "lee", word)
        wait_for(host, "/home/lee/Mail/new/*", word)
    finally:
        host.run("userdel -r lee")
