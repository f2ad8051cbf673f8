# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The spam filter: 64 mails, half of them wanted; whom it believes, and what it lets people send."""

import email
import email.policy
import functools
import os
import pathlib
import smtplib
import time
import typing as t

import controller
import mails
import pytest
from controller import Played
from testinfra.host import Host

SCENARIO = pathlib.Path(os.environ["MOLECULE_SCENARIO_DIRECTORY"])
#: From 1.5 GB of memory on, site.yml does the same.
FILTER: t.Dict[str, t.Any] = {
    "mail_spam_filter": True,
    "rspamd_training_least": 16,
    # this server has no mailboxes
    "rspamd_training_user": "root",
    "rspamd_spam": {"greylist": 0},
}
LISTS: t.Dict[str, t.Any] = {
    **FILTER,
    "rspamd_spam": {"greylist": 4, "junk": 6, "refuse": 0},
    "rspamd_allow": [{"from": "partner.example"}, {"from": "203.0.113.0/24"}],
    "rspamd_deny": [{"from": "pest.example"}, {"from": "eve@friend.example", "to": "nobody@example.com"}],
    "rspamd_nameservers": ["127.0.0.53"],
    "rspamd_block_lists": True,
}
LEARN = "rspamc -h /var/spool/rspamd/training.sock"
REDIS = "$(command -v redis-cli || command -v valkey-cli) -s /run/port587-redis/redis.sock"
#: What the filter brings, and what has to be gone afterwards.
TRACES = (
    "find /etc/rspamd /etc/port587 /etc/systemd/system /usr/local/sbin -type f | xargs md5sum | sort;"
    " systemctl list-units --no-legend 'rspamd*' 'port587-*'"
)

Play = t.Callable[..., Played]

testinfra_hosts = ["ansible://mail"]


@pytest.fixture(scope="module")
def play(host: Host) -> t.Iterator[Play]:
    """Run the play again, with other values; at the end without the filter."""
    name = host.ansible.get_variables()["inventory_hostname"]
    run = functools.partial(controller.play, SCENARIO / "converge.yml", name)
    before = set(host.check_output(TRACES).splitlines())
    # other machines than this one, as they would connect
    host.check_output("postconf -e smtpd_authorized_xclient_hosts=0.0.0.0/0; postfix reload")
    yield run
    assert run().code == 0
    host.check_output("postconf -X smtpd_authorized_xclient_hosts; postfix reload")
    assert set(host.check_output(TRACES).splitlines()) ^ before == set()


class Came(t.NamedTuple):
    """What became of a mail: the server's words, if it refused the mail; else its headers."""

    refused: str
    headers: t.Mapping[str, str]

    @property
    def junk(self) -> bool:
        return bool(self.refused) or self.headers.get("X-Spam") == "Yes"


def recipient(host: Host) -> str:
    return f"root@{host.check_output('postconf -h myhostname')}"


def bring(host: Host, entry: mails.Entry, address: str = "192.0.2.55") -> t.Tuple[str, str]:
    """As another server does. The server's words, if it refuses; and the mail's number."""
    text, sender = mails.made(entry, recipient(host)), mails.sender(entry)
    number = email.message_from_bytes(text)["Message-ID"]
    name = f"mail.{sender.partition('@')[2]}"
    with smtplib.SMTP(host.ansible.get_variables()["ansible_host"], 25, name, timeout=60) as smtp:
        smtp.ehlo()
        known = name if entry.get("client") != "none" else "[UNAVAILABLE]"
        assert smtp.docmd("XCLIENT", f"NAME={known} ADDR={address}")[0] == 220
        smtp.ehlo(name)
        try:
            smtp.sendmail(sender, [recipient(host)], text)
        except smtplib.SMTPResponseException as exc:
            return f"{exc.smtp_code} {t.cast(bytes, exc.smtp_error).decode()}", number
    return "", number


def came(host: Host, entries: t.Sequence[mails.Entry], **options: str) -> t.List[Came]:
    sent = [bring(host, entry, **options) for entry in entries]
    for _attempt in range(150):
        box = host.run("cat /var/mail/root").stdout_bytes
        there = [
            email.message_from_bytes(text.partition(b"\n")[2], policy=email.policy.default)
            for text in (b"\n" + box).split(b"\nFrom ")[1:]
        ]
        found = {str(one["Message-ID"]): {name: str(value) for name, value in one.items()} for one in there}
        if all(refused or number in found for refused, number in sent):
            return [Came(refused, {} if refused else found[number]) for refused, number in sent]
        time.sleep(0.2)
    raise AssertionError(host.run("mailq").stdout)


def teach(host: Host, kind: str) -> None:
    for number, entry in enumerate(mails.mails(f"learn_{kind}")):
        host.run(f"cat > /root/learn-{number} <<'END'\n{mails.made(entry, recipient(host)).decode()}\nEND")
    said = host.check_output(f"{LEARN} learn_{kind} /root/learn-*; rm /root/learn-*")
    assert said.count("success = true") == len(mails.mails(f"learn_{kind}")), said


def test_wanted_mail_and_spam(host: Host, play: Play) -> None:
    played = play(**FILTER)
    assert played.code == 0, played.output
    host.check_output(f"{REDIS} flushall")
    ham, spam = mails.mails("ham"), mails.mails("spam")
    assert len(ham) + len(spam) >= 60
    for who, least in (("rules alone", 0.6), ("rules, and what was learned", 0.8)):
        wanted, unwanted = came(host, ham), came(host, spam)
        right = [one.junk for one in unwanted].count(True)
        wrong = [entry["subject"] for entry, one in zip(ham, wanted) if one.junk]
        print(f"{who}: {right} of {len(spam)} spam above the threshold, {len(wrong)} of {len(ham)} wanted mails")
        assert wrong == []
        assert right >= least * len(spam), [entry["subject"] for entry, one in zip(spam, unwanted) if not one.junk]
        if least < 0.8:
            teach(host, "spam")
            teach(host, "ham")
    # the headers say why
    assert any("BAYES_SPAM=" in one.headers["X-Spam-Status"] for one in unwanted if not one.refused)
    assert all(one.headers["X-Spam-Status"].startswith("No, score=") for one in wanted)
    assert any("this mail looks like spam (" in one.refused for one in unwanted)


def test_what_people_send(host: Host, play: Play) -> None:
    """A stolen login: refused with words that help, and said in the journal. Their other mail is not marked."""
    assert play(**FILTER).code == 0
    for entry, refused in ((mails.mails("spam")[-7], True), (mails.mails("ham")[0], False)):
        text = mails.made(entry, "friend@elsewhere.example").decode()
        said = host.check_output(
            f"{LEARN} --user eve@example.com --ip 192.0.2.7 --from eve@example.com <<'END'\n{text}\nEND"
        )
        assert ("this mail looks like spam (" in said) is refused, said
        assert ("Action: reject" in said) is refused, said
        assert "Action: add header" not in said
    said = host.check_output("journalctl -q -o cat -t rspamd --since=-60s")
    assert "outgoing spam refused: login eve@example.com" in said


def test_whom_it_believes(host: Host, play: Play) -> None:
    host.run(
        "cat > /root/names.py <<'END'\n"
        + pathlib.Path(__file__).with_name("names.py").read_text(encoding="utf-8")
        + "\nEND"
    )
    host.check_output("systemd-run --unit=names python3 /root/names.py")
    try:
        assert play(**LISTS).code == 0
        # whom it has seen before
        host.check_output(f"{REDIS} flushall")
        spam = {**mails.mails("spam")[0], "client": "none"}
        # its address is on the list, or SPF proves the domain
        (by_address,) = came(host, [spam], address="203.0.113.9")
        (proved,) = came(host, [{**spam, "from": "Eve <eve@partner.example>"}])
        for one in (by_address, proved):
            assert not one.junk
            assert "ALLOWED_SENDER=-100.0" in one.headers["X-Spam-Status"]
        # greylisted, from another machine than partner.example's; after five minutes it may come
        forged = {**spam, "from": "Eve <eve@partner.example>"}
        (first,) = came(host, [forged], address="198.51.100.7")
        assert first.refused.startswith("451"), first
        for refused, sender in (
            (True, "eve@pest.example"),
            (True, "eve@sub.pest.example"),
            (False, "eve@friend.example"),
        ):
            (one,) = came(host, [{**mails.mails("ham")[0], "from": f"Eve <{sender}>"}], address="192.0.2.55")
            assert ("takes no mail from this sender" in one.refused) is refused, one
        (listed,) = came(host, [{**mails.mails("ham")[0], "from": "Eve <eve@listed.example>"}], address="192.0.2.99")
        assert listed.refused.startswith("451"), listed
        assert "RBL_SPAMHAUS_SBL" in host.check_output("journalctl -q -o cat -t rspamd --since=-60s")
        # as if five minutes had passed
        host.check_output(f"for key in $({REDIS} keys 'rg*'); do {REDIS} setex $key 3600 $(($(date +%s) - 400)); done")
        (again,) = came(host, [forged], address="198.51.100.7")
        assert again.headers["X-Spam"] == "Yes"
        # what the person who runs the server is told of it
        name = host.ansible.get_variables()["inventory_hostname"]
        why = controller.play(SCENARIO / "../../playbooks/why.yml", name, message_id=again.headers["Message-ID"]).output
        # YAML wraps lines
        why = " ".join(why.split())
        assert "marked the mail as spam, so that it is delivered into Junk: " in why
        assert "RDNS_NONE: the sending machine has no name in DNS" in why
        assert f"delivered it to {recipient(host)}" in why
        assert (
            "never reached this server"
            in controller.play(SCENARIO / "../../playbooks/why.yml", name, message_id="0@nowhere.example").output
        )
    finally:
        host.run("systemctl stop names; rm -f /root/names.py")
