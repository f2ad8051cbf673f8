# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""rspamd alone, with an existing Postfix: signatures of outgoing mail, and verdicts on incoming mail."""

import functools
import os
import pathlib
import re
import smtplib
import time
import typing as t

import controller
import pytest
from controller import Played
from testinfra.host import Host

SCENARIO = pathlib.Path(os.environ["MOLECULE_SCENARIO_DIRECTORY"])
KEYS = "/var/lib/rspamd/dkim"
DEFAULT = [{"name": "rsa1", "type": "rsa", "state": "sign"}, {"name": "ed1", "type": "ed25519", "state": "sign"}]

testinfra_hosts = ["ansible://mail"]


@pytest.fixture
def play(host: Host) -> t.Callable[..., Played]:
    """Run the play again, with other values."""
    name = host.ansible.get_variables()["inventory_hostname"]
    return functools.partial(controller.play, SCENARIO / "converge.yml", name)


@pytest.fixture
def as_converged(play: t.Callable[..., Played]) -> t.Iterator[None]:
    """Afterwards the server is again as the scenario made it; but removed keys are new ones then."""
    yield
    assert play().code == 0


def arrived(host: Host, subject: str) -> t.Dict[str, t.List[str]]:
    """The headers of a mail in root's mailbox, by name in small letters."""
    for _attempt in range(100):
        for mail in re.split(r"^From .*\n", host.run("cat /var/mail/root").stdout, flags=re.MULTILINE):
            head = mail.partition("\n\n")[0]
            if f"Subject: {subject}" in head:
                headers: t.Dict[str, t.List[str]] = {}
                for name, value in re.findall(r"^([\w-]+):(.*(?:\n[ \t].*)*)", head, re.MULTILINE):
                    headers.setdefault(name.lower(), []).append(" ".join(value.split()))
                return headers
        time.sleep(0.2)
    raise AssertionError(f"{subject} did not arrive\n{host.run('mailq').stdout}")


def signatures(headers: t.Dict[str, t.List[str]]) -> t.List[str]:
    """By which keys a mail is signed."""
    found = [dict(re.findall(r"(\w+)=(\S+?)(?:;|$)", value)) for value in headers.get("dkim-signature", [])]
    return sorted(f"{tags['s']}._domainkey.{tags['d']}" for tags in found)


def send(host: Host, sender: str, subject: str, author: str = "") -> None:
    """As programs on the machine do."""
    mail = f"From: {author or sender}\\nTo: root\\nSubject: {subject}\\n\\nHello\\n"
    host.check_output(f"printf '{mail}' | sendmail -f {sender} root")


def bring(host: Host, sender: str, subject: str, headers: str = "") -> None:
    """As another server does."""
    name = host.check_output("postconf -h myhostname")
    with smtplib.SMTP(host.ansible.get_variables()["ansible_host"], 25, "mx.elsewhere.example", timeout=30) as smtp:
        mail = f"From: {sender}\r\nTo: root@{name}\r\nSubject: {subject}\r\n{headers}\r\nHello\r\n"
        smtp.sendmail(sender, [f"root@{name}"], mail)


@pytest.mark.parametrize("domain", ["example.com", "example.org", "mail.example.com"])
def test_signs_what_the_machine_sends(host: Host, domain: str) -> None:
    send(host, f"eve@{domain}", f"from {domain}")
    assert signatures(arrived(host, f"from {domain}")) == [f"ed1._domainkey.{domain}", f"rsa1._domainkey.{domain}"]


def test_signs_for_no_other_domain(host: Host) -> None:
    send(host, "eve@other.example", "from another")
    assert signatures(arrived(host, "from another")) == []


@pytest.mark.usefixtures("as_converged")
def test_strangers_are_not_from_here(host: Host, play: t.Callable[..., Played]) -> None:
    """This client's address is a private one, as in a provider's network: no reason to trust it, nor to sign for it."""
    for domain in ("example.com", "mail.example.com"):
        with pytest.raises(smtplib.SMTPDataError, match="SPF or DKIM"):
            bring(host, f"eve@{domain}", "refused")
    for what, spam in (("junk", ["Yes"]), ("accept", [])):
        assert play(rspamd_own_domains=what).changed == 1
        bring(host, "eve@example.com", f"own, {what}")
        headers = arrived(host, f"own, {what}")
        assert headers.get("x-spam", []) == spam
        assert signatures(headers) == []
        assert len(headers["authentication-results"]) == 1
        assert re.search(r"\bspf=", headers["authentication-results"][0]), headers


@pytest.mark.usefixtures("as_converged")
def test_networks_that_postfix_trusts(host: Host, play: t.Callable[..., Played]) -> None:
    """Another machine of the same people sends without a login, and its mail is signed."""
    networks = ["127.0.0.0/8", "[::1]/128", f"{host.ansible.get_variables()['ansible_host'].rpartition('.')[0]}.0/24"]
    assert play(postfix_main={"mynetworks": networks}).changed == 1
    bring(host, "eve@example.com", "from a trusted network")
    assert len(signatures(arrived(host, "from a trusted network"))) == 2


@pytest.mark.usefixtures("as_converged")
def test_the_table_of_senders(host: Host, play: t.Callable[..., Played]) -> None:
    """It has to be there, for rspamd to read; by whom it is asked for is the business of the whole server."""
    table, configuration = "/etc/senders-of-mine", "cat /etc/rspamd/rspamd.conf.local.override"
    before = host.check_output(configuration)
    host.check_output(f"install -m 0600 /dev/null {table}")
    played = play(rspamd_senders=table)
    assert "does not refuse a message of a login that is not in the table: 451" in played.output
    assert host.check_output(configuration) == before
    host.check_output(f"chmod 0640 {table}; chgrp postfix {table}")
    played = play(rspamd_senders=table)
    assert played.code == 0, played.output
    assert play(rspamd_senders=table).changed == 0
    # what has no login: the domain of the envelope may be signed for, and no other
    send(host, "eve@example.com", "as before")
    assert len(signatures(arrived(host, "as before"))) == 2
    send(host, "eve@example.com", "as another", author="eve@example.org")
    assert signatures(arrived(host, "as another")) == []


def test_believes_no_results_of_others(host: Host) -> None:
    name = host.check_output("postconf -h myhostname")
    forged = f"Authentication-Results: {name}; dkim=pass header.d=bank.example; dmarc=pass\r\n"
    bring(
        host, "eve@elsewhere.example", "forged results", forged + "authentication-results: other.example; spf=pass\r\n"
    )
    (results,) = arrived(host, "forged results")["authentication-results"]
    assert results.startswith(f"{name};")
    assert "pass" not in results


def test_keys_are_for_rspamd_alone(host: Host) -> None:
    for name in ("example.com", "example.org", "mail.example.com"):
        for selector in ("rsa1", "ed1"):
            key = host.file(f"{KEYS}/{name}.{selector}.key")
            assert (key.user, key.group, key.mode) == ("root", "_rspamd", 0o640)
    assert host.file(KEYS).mode == 0o750
    assert "Permission denied" in host.run(f"runuser -u postfix -- ls {KEYS}").stderr


def test_socket_is_for_postfix_alone(host: Host) -> None:
    for user, may in (("postfix", True), ("nobody", False)):
        done = host.run(f"runuser -u {user} -- test -S /var/spool/postfix/rspamd/milter.sock")
        assert (done.rc == 0) is may, user


def test_listens_nowhere_else(host: Host) -> None:
    assert "rspamd" not in host.check_output("ss -Htlnp")


@pytest.mark.one_host
@pytest.mark.usefixtures("as_converged")
def test_a_key_s_life(host: Host, play: t.Callable[..., Played]) -> None:
    """Published, signed with, retired, gone; and mail is signed all the time."""
    old, new = dict(DEFAULT[0]), {"name": "rsa2", "type": "rsa", "state": "publish"}
    old_key = host.check_output(f"sha256sum {KEYS}/example.com.rsa1.key")
    steps = [
        ("publish", [old, new], ["rsa1"], ["rsa1", "rsa2"]),
        ("sign", [{**old, "state": "retire"}, {**new, "state": "sign"}], ["rsa2"], ["rsa1", "rsa2"]),
        ("gone", [{**new, "state": "sign"}], ["rsa2"], ["rsa2"]),
    ]
    for step, selectors, signed_with, there in steps:
        played = play(rspamd_dkim_selectors=selectors)
        assert played.code == 0, played.output
        assert "PRIVATE KEY" not in played.output
        send(host, "eve@example.com", step)
        assert signatures(arrived(host, step)) == [f"{name}._domainkey.example.com" for name in signed_with], step
        keys = host.check_output(f"ls {KEYS} | grep ^example.com").split()
        assert keys == [f"example.com.{name}.key" for name in there]
        if "rsa1" in there:
            assert host.check_output(f"sha256sum {KEYS}/example.com.rsa1.key") == old_key
    assert play(rspamd_dkim_selectors=steps[-1][1]).changed == 0


@pytest.mark.one_host
@pytest.mark.usefixtures("as_converged")
def test_a_domain_leaves_and_comes_back(host: Host, play: t.Callable[..., Played]) -> None:
    """What stands in its DNS is right again."""
    keys = host.check_output(f"sha256sum {KEYS}/*.key")
    away = play(rspamd_domains=["example.com"])
    assert away.code == 0, away.output
    said = " ".join(away.output.split())
    assert f"no longer used, and kept: {KEYS}/example.org.ed1.key, {KEYS}/example.org.rsa1.key" in said
    assert "PRIVATE KEY" not in away.output
    assert play(rspamd_domains=["example.com"]).changed == 0
    assert host.check_output(f"sha256sum {KEYS}/*.key") == keys
    back = play()
    assert back.code == 0, back.output
    assert "kept" not in back.output
    assert host.check_output(f"sha256sum {KEYS}/*.key") == keys
    send(host, "eve@example.org", "is back")
    assert signatures(arrived(host, "is back")) == [f"{name}._domainkey.example.org" for name in ("ed1", "rsa1")]


@pytest.mark.usefixtures("as_converged")
def test_a_reload_refuses_nobody(host: Host, play: t.Callable[..., Played]) -> None:
    name = host.check_output("postconf -h myhostname")
    sender = f"for n in $(seq 1 200); do echo Hello | sendmail -f eve@example.com root@{name}; done"
    host.check_output(f"systemd-run --unit=sender sh -c '{sender}'")
    assert play(rspamd_extra="spf { spf_cache_size = 4k; }").changed == 1
    assert "active" in host.run("systemctl is-active sender").stdout, "it ended too early to tell"
    host.run("systemctl stop sender")
    assert "milter" not in host.check_output(
        "journalctl --since=-30s -q -o cat SYSLOG_FACILITY=2 | grep warning || true"
    )


def test_a_milter_that_is_down_lets_nothing_through(host: Host) -> None:
    host.check_output("systemctl stop rspamd")
    try:
        with pytest.raises(smtplib.SMTPResponseException) as refused:
            bring(host, "eve@elsewhere.example", "while it was down")
        assert refused.value.smtp_code == 451
    finally:
        host.check_output("systemctl start rspamd")


BAD: t.List[t.Tuple[t.Dict[str, t.Any], t.List[str]]] = [
    ({"rspamd_domains": ["example.com", "no domain"]}, ["rspamd_domains", "'no domain'", "example.com"]),
    ({"rspamd_dkim_selectors": [{"name": "big one"}]}, ["rspamd_dkim_selectors", "'big one'", "rsa2"]),
    ({"rspamd_dkim_selectors": [{"name": "a"}, {"name": "a"}]}, ["rspamd_dkim_selectors", "twice"]),
    ({"rspamd_dkim_selectors": [{"name": "a", "state": "sing"}]}, ["sing", "publish, sign, retire"]),
    ({"rspamd_dkim_rsa_bits": 1024}, ["rspamd_dkim_rsa_bits", "1024", "2048"]),
    ({"rspamd_nameservers": ["dns.example"]}, ["rspamd_nameservers", "'dns.example'", "IP address"]),
    ({"rspamd_own_domains": "reject"}, ["rspamd_own_domains", "refuse, junk, accept"]),
    ({"rspamd_spam": {"junk": 4, "greylist": 5}}, ["rspamd_spam", "greylist (5", "above junk (4"]),
    ({"rspamd_spam": {"junk": 6, "refuse": 5}}, ["rspamd_spam", "refuse (5", "not above junk (6"]),
    ({"rspamd_spam": {"junk": 0}}, ["rspamd_spam", "junk", "is not above 0", "such as 6"]),
    ({"rspamd_spam": {"outgoing": -1}}, ["rspamd_spam", "outgoing", "-1", "such as 15"]),
    ({"rspamd_allow": [{"from": "no sender"}]}, ["rspamd_allow", "'no sender'", "eve@example.com"]),
    ({"rspamd_deny": [{"from": "example.com", "to": "me"}]}, ["rspamd_deny", "eve@example.com", "'me'"]),
    ({"rspamd_block_lists": True}, ["rspamd_block_lists", "no resolver of your own", "mail_resolver"]),
    ({"rspamd_modules": ["neutral"]}, ["rspamd_modules", "has neutral", "neural"]),
    ({"rspamd_senders": "hash:/etc/senders"}, ["rspamd_senders", "'hash:/etc/senders'", "absolute path"]),
    ({"rspamd_senders_group": "no group"}, ["'no group'", "rspamd_senders_group"]),
    ({"postfix_main": {"mynetworks": "127.0.0.1 hash:/n"}}, ["rspamd_local_networks", "hash:/n'", "10.0.0.0/24"]),
    ({"rspamd_extra": "spf { spf_cache_size = "}, ["not valid, this change was not made"]),
    # what rspamd's own checker does not see: a key that was there before, and is none
    (
        {"rspamd_dkim_selectors": [*DEFAULT, {"name": "broken"}]},
        ["not valid, this change was not made", "example.com.broken.key", "neither PEM nor an Ed25519 key"],
    ),
    ({"rspamd_socket_user": "nosuch"}, ["nosuch"]),
]


@pytest.fixture(scope="module")
def refusals(host: Host) -> t.Dict[str, str]:
    """All bad values in one play, and what it says of each."""
    host.check_output(f"install -g _rspamd -m 0640 /etc/hostname {KEYS}/example.com.broken.key")
    state = f"find /etc/rspamd {KEYS} -type f -printf '%p %m %u %g %T@\\n' | sort"
    before = host.check_output(state)
    cases = {words[-1]: values for values, words in BAD}
    assert len(cases) == len(BAD)
    refusal = controller.refused(SCENARIO / "converge.yml", host.ansible.get_variables()["inventory_hostname"], cases)
    assert host.check_output(state) == before
    send(host, "eve@example.com", "after bad values")
    assert len(signatures(arrived(host, "after bad values"))) == 2
    return refusal.said


@pytest.mark.parametrize("words", [words for _, words in BAD])
def test_bad_values(refusals: t.Dict[str, str], words: t.List[str]) -> None:
    for word in words:
        assert word in refusals[words[-1]]
