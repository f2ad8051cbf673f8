# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What became of a mail, from lines as Postfix, rspamd and Dovecot write them."""

import typing as t

from ansible_collections.port587.mail.plugins.module_utils._inspect import why

NUMBER = "<4711@elsewhere.example>"
RSPAMD = (
    "<dff16e>; proxy; rspamd_task_write_log: id: <4711@elsewhere.example>, qid: <1F03C766065>, "
    "ip: 172.19.0.1, from: <eve@elsewhere.example>, "
    "(default: T (add header): [8.60/15.00] [BAYES_SPAM(5.10){100.00%;},RDNS_NONE(2.00){},"
    "HTTP_TO_IP(1.50){},DMARC_NA(0.00){elsewhere.example;},"
    "ARC_NA(0.00){}]), len: 4774, time: 3.8ms, dns req: 5"
)


def lines(*texts: t.Tuple[str, str]) -> t.List[t.Dict[str, t.Any]]:
    return [{"time": float(number), "program": program, "text": text} for number, (program, text) in enumerate(texts)]


def test_the_way_of_a_mail() -> None:
    events, queue_ids = why.look(
        lines(
            ("postfix/smtpd", "1F03C766065: client=mx.elsewhere.example[172.19.0.1]"),
            ("postfix/smtpd", "2AAAA766065: client=other.example[172.19.0.2]"),
            ("postfix/cleanup", f"1F03C766065: message-id={NUMBER}"),
            ("rspamd", RSPAMD),
            ("postfix/qmgr", "1F03C766065: from=<eve@elsewhere.example>, size=4774, nrcpt=1 (queue active)"),
            (
                "postfix/lmtp",
                "1F03C766065: to=<bob@example.com>, relay=mail[private/dovecot-lmtp], delay=0.1, "
                "delays=0/0/0/0.1, dsn=2.0.0, status=sent "
                "(250 2.0.0 <bob@example.com> aB Saved)",
            ),
            ("dovecot", f"lmtp(bob@example.com)<12><aB>: sieve: msgid={NUMBER}: stored mail into mailbox 'Junk'"),
            ("postfix/qmgr", "1F03C766065: removed"),
        ),
        " 4711@elsewhere.example ",
    )
    assert queue_ids == ["1F03C766065"]
    texts = [event["text"] for event in events]
    assert texts[0] == "Postfix began to receive it from mx.elsewhere.example[172.19.0.1], without a login"
    verdict = texts[1].split("\n")
    assert (
        verdict[0] == "rspamd marked the mail as spam, so that it is delivered into Junk: 8.60 points, "
        "from 15.00 on it refuses mail"
    )
    assert verdict[1] == "  +5.1 BAYES_SPAM: resembles what people here have moved into Junk"
    assert verdict[-1] == "  +0.0 DMARC_NA: DMARC: the domain in From has no policy"
    assert " ARC_NA" not in texts[1]
    assert texts[2] == "Postfix queued it: 4774 bytes, for 1 recipient(s)"
    assert texts[3].startswith(
        "Postfix delivered it to bob@example.com (2.0.0, through mail[private/dovecot-lmtp]): 250"
    )
    assert "stored mail into mailbox 'Junk'" in texts[4]
    assert texts[5:] == ["Postfix is done with it"]


def test_a_mail_that_was_refused() -> None:
    refusal = "1F03C766065: milter-reject: END-OF-MESSAGE from x[192.0.2.1]: 5.7.1 it is spam; from=<a@b.example>"
    events, _ids = why.look(
        lines(("postfix/cleanup", f"1F03C766065: message-id={NUMBER}"), ("postfix/cleanup", refusal)), NUMBER
    )
    assert [event["text"] for event in events] == ["Postfix answered x[192.0.2.1]: 5.7.1 it is spam"]


def test_a_login_and_a_mail_that_waits() -> None:
    events, _ids = why.look(
        lines(
            (
                "postfix/submission/smtpd",
                "1F03C766065: client=x[192.0.2.1], sasl_username=eve@example.com",
            ),
            ("postfix/cleanup", f"1F03C766065: message-id={NUMBER}"),
            (
                "postfix/smtp",
                "1F03C766065: to=<a@b.example>, relay=none, delay=1, dsn=4.4.1, status=deferred (connect timed out)",
            ),
        ),
        NUMBER,
    )
    assert [event["text"] for event in events] == [
        "Postfix began to receive it from x[192.0.2.1], after a login as eve@example.com",
        "Postfix could not deliver it to a@b.example yet, and tries again (4.4.1, through none): connect timed out",
    ]


def test_a_mail_that_is_not_there() -> None:
    assert why.look(lines(("rspamd", RSPAMD)), "other@elsewhere.example") == ([], [])
    # a part of another's Message-ID is not it
    assert why.look(lines(("rspamd", RSPAMD)), "11@elsewhere.example") == ([], [])
