# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Forwarding to a domain that takes nothing that fails SPF or DMARC: SRS, ARC, bounces, loops."""

import base64
import hashlib
import hmac
import re
import smtplib
import time
import typing as t

import controller
from conftest import MAIL_HOSTS, SCENARIO, Site, site
from exposure import too_exposed
from mailclient import mail, token, until
from test_internet import bring, play, read, read_at_exim, results, send_from_exim, write
from testinfra.host import Host

WRITER = "writer@exim.test"
#: Digits of the day in SRS addresses.
DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"


def srs_address(here: Site, days_ago: int, secret: str = "") -> str:
    """As postsrsd makes it of WRITER, on another day or with another secret."""
    secret = secret or here.host.check_output("cat /etc/postsrsd.secret")
    day = int(time.time() // 86400) - days_ago
    stamp = DIGITS[day >> 5 & 31] + DIGITS[day & 31]
    user, _at, domain = WRITER.partition("@")
    digest = hmac.new(secret.strip().encode(), f"{stamp}{domain}{user}".lower().encode(), hashlib.sha1).digest()
    return f"SRS0={base64.b64encode(digest).decode()[:4]}={stamp}={domain}={user}@{here.server.name}"


def bounce(here: Site, recipient: str) -> t.Tuple[int, str]:
    """As a server does that could not deliver a mail; the reply, and the word in it."""
    word = token()
    with smtplib.SMTP(here.server.address, 25, "mail.exim.test", timeout=60) as smtp:
        try:
            smtp.sendmail("", [recipient], mail("postmaster@none.test", recipient, word))
        except smtplib.SMTPRecipientsRefused as refused:
            return next(iter(refused.recipients.values()))[0], word
    return 250, word


def test_a_foreign_sender_is_replaced_only_outside(here: Site, exim: Host) -> None:
    word = token()
    send_from_exim(exim, WRITER, f"both@{here.domain}", word)
    forwarded = read_at_exim(exim, word)
    sender = forwarded["Return-path"].strip("<>")
    assert re.fullmatch(rf"SRS0=\S{{4}}=..=exim\.test=writer@{re.escape(here.server.name)}", sender), sender
    assert sender == srs_address(here, 0)
    assert "dkim=pass x1._domainkey.exim.test" in {str(one) for one in forwarded.get_all("X-Seen", [])}
    assert read(here, "bob", word)["Return-Path"] == f"<{WRITER}>"
    # the log leads from one queue ID to the other
    log = here.host.check_output("journalctl --since=-60s -q -o cat -t postfix/smtpd -t postfix/srs/smtpd")
    assert re.search(r"orig_queue_id=\w+, orig_client=\S*\[", log)


def test_people_here_keep_their_sender(here: Site, exim: Host) -> None:
    word = token()
    write(here, f"strict@{here.domain}", word)
    assert read_at_exim(exim, word)["Return-path"] == f"<alice@{here.domain}>"


def test_the_seal_is_right(here: Site, exim: Host) -> None:
    """It is still there after another server, and says what was found here."""
    word = token()
    send_from_exim(exim, WRITER, f"strict@{here.domain}", word)
    forwarded = read_at_exim(exim, word)
    assert f"d={here.domain};" in str(forwarded["ARC-Seal"])
    assert "spf=pass" in str(forwarded["ARC-Authentication-Results"])
    there = site(MAIL_HOSTS[-1])
    code, text = bring(there, "list@elsewhere.test", forwarded.as_bytes().replace(b"\n", b"\r\n"))
    assert code == 250, text
    assert results(read(there, "bob", word))["arc"] == ["pass"]


def test_a_sieve_script_forwards(here: Site, exim: Host) -> None:
    word = token()
    script = f'if header :contains "Subject" "{word}" {{ redirect "reader@strict.exim.test"; }}'
    here.host.check_output(f"echo '{script}' | doveadm sieve put -u bob@{here.domain} -a forward")
    try:
        send_from_exim(exim, WRITER, f"bob@{here.domain}", word)
        assert read_at_exim(exim, word)["Return-path"].startswith("<SRS0=")
    finally:
        here.host.check_output(f"doveadm sieve deactivate -u bob@{here.domain}")


def test_a_bounce_comes_back(here: Site, exim: Host) -> None:
    """The target refuses a mail whose writer does not sign: SPF of the domain in From can't pass there."""
    word = token()
    send_from_exim(exim, "unsigned@exim.test", f"strict@{here.domain}", word)
    for text in until(lambda: exim.run("cat /var/mail/reader").stdout):
        bounces = [one for one in text.split("\nFrom ") if f"Subject: {word}" in one]
        if bounces:
            break
    else:
        raise AssertionError(here.host.run("journalctl -n 50 -q -o cat").stdout)
    assert "Return-path: <>" in bounces[0]
    assert "To: unsigned@exim.test" in bounces[0]
    assert "DMARC: the policy of exim.test says reject" in bounces[0]
    # and the owner of the server gets to know
    running = controller.start("ansible", here.name, "all", "--module-name=port587.mail.inspect_info")
    said = controller.end(running).output
    assert "forward-refused" in said
    assert "strict.exim.test refused" in said


def test_addresses_that_are_not_ours(here: Site, exim: Host) -> None:
    code, word = bounce(here, srs_address(here, 3))
    assert code == 250
    assert read_at_exim(exim, word)["Return-path"] == "<>"
    assert bounce(here, srs_address(here, 3).lower())[0] == 250
    assert bounce(here, srs_address(here, 40))[0] == 550
    assert bounce(here, srs_address(here, 3, "guessed"))[0] == 550
    assert bounce(here, srs_address(here, 3).replace("=writer@", "=eve@"))[0] == 550


def test_a_loop_ends(here: Site, exim: Host) -> None:
    word = token()
    send_from_exim(exim, WRITER, f"loop@{here.domain}", word)
    for text in until(lambda: exim.run("cat /var/mail/reader").stdout, 90):
        if any(f"Subject: {word}" in one and "Return-path: <>" in one for one in text.split("\nFrom ")):
            break
    else:
        raise AssertionError(here.host.run("journalctl -n 50 -q -o cat").stdout)
    assert [one.queued(word) for one in map(site, set(MAIL_HOSTS))] == [[]] * len(set(MAIL_HOSTS))


def test_the_way_is_for_postfix_alone(here: Site) -> None:
    """Programs of others could send under foreign names by it."""
    talk = (
        "import smtplib; s = smtplib.SMTP('127.0.0.1', 10026); s.ehlo('x'); s.mail('eve@exim.test');"
        " print(s.rcpt('reader@exim.test')[0])"
    )
    assert here.host.check_output(f'runuser -u nobody -- python3 -c "{talk}"') == "550"


def test_mail_waits_while_nobody_can_say(here: Site, exim: Host) -> None:
    """What is forwarded, and bounces; nothing else."""
    words = token(), token()
    here.host.check_output("systemctl stop postsrsd")
    try:
        send_from_exim(exim, WRITER, f"strict@{here.domain}", words[0])
        send_from_exim(exim, WRITER, f"bob@{here.domain}", words[1])
        assert read(here, "bob", words[1])
        here.waits(words[0])
        assert bounce(here, srs_address(here, 3))[0] == 451
    finally:
        here.host.check_output("systemctl start postsrsd")
    here.flush(words[0])
    assert read_at_exim(exim, words[0])


def test_what_makes_the_addresses_is_restricted(here: Site) -> None:
    assert too_exposed(here.host, "postsrsd") == {}
    assert here.host.check_output("stat -c '%U %a' /etc/postsrsd.secret") == "root 600"


def test_off_and_on(exim: Host) -> None:
    sites = [site(name) for name in sorted(set(MAIL_HOSTS))]
    secrets = [one.host.check_output("cat /etc/postsrsd.secret") for one in sites]
    output = play(SCENARIO / "part.yml", *sites, parts=["postfix"], postfix_srs=False).output
    try:
        for here in sites:
            assert not here.host.service("postsrsd").is_running
            assert not here.host.service("postsrsd").is_enabled
            assert "10026" not in here.host.check_output("ss -Hltn")
            assert here.host.run("grep -rl -i srs /etc/postfix").stdout == ""
            # which is why there is SRS
            word = token()
            send_from_exim(exim, WRITER, f"strict@{here.domain}", word)
            for text in until(lambda: exim.run("cat /var/mail/reader").stdout):
                bounces = [one for one in text.split("\nFrom ") if f"Subject: {word}" in one]
                if bounces:
                    break
            assert "may not send mail of exim.test" in bounces[0]
    finally:
        output += play(SCENARIO / "part.yml", *sites, parts=["postfix"]).output
    assert [one.host.check_output("cat /etc/postsrsd.secret") for one in sites] == secrets
    assert not [one for one in secrets if one in output]
