# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two servers of this collection and a foreign one, in a network with its own DNS."""

import email
import email.message
import email.policy
import json
import os
import pathlib
import re
import smtplib
import time
import typing as t

import controller
import pytest
import yaml
from conftest import MAIL_HOSTS, SCENARIO, Site, machine, site
from mailclient import mail, received, submit, token, until
from testinfra.host import Host

MILTER = "/var/spool/postfix/rspamd/milter.sock"


def write(here: Site, recipient: str, word: str) -> None:
    """alice writes."""
    alice = here.account("alice")
    submit(here.server, alice, recipient, mail(alice.address, recipient, word))


def read(site: Site, who: str, word: str, folder: str = "INBOX") -> email.message.EmailMessage:
    (text,) = received(site.server, site.account(who), word, folder)
    return t.cast(email.message.EmailMessage, email.message_from_bytes(text, policy=email.policy.default))


def results(message: email.message.EmailMessage) -> t.Dict[str, t.List[str]]:
    """What our server says of a mail: method -> results. There has to be one such header."""
    (header,) = message.get_all("Authentication-Results", [])
    found: t.Dict[str, t.List[str]] = {}
    for method, result in re.findall(r"\b(spf|dkim|dmarc|arc)=(\w+)", str(header)):
        found.setdefault(method, []).append(result)
    return found


def read_at_exim(exim: Host, word: str) -> email.message.EmailMessage:
    for text in until(lambda: exim.run("cat /var/mail/reader").stdout):
        for one in re.split(r"^From .*\n", text, flags=re.MULTILINE):
            if f"Subject: {word}" in one:
                return t.cast(email.message.EmailMessage, email.message_from_string(one, policy=email.policy.default))
    raise AssertionError(
        f"{word} did not arrive at exim.test\n{exim.run('exim4 -bp; tail /var/log/exim4/mainlog').stdout}"
    )


def send_from_exim(exim: Host, sender: str, recipient: str, word: str) -> None:
    text = mail(sender, recipient, word).decode().replace("\r\n", "\n")
    exim.run_expect([0], f"cat <<'END' | /usr/sbin/exim4 -f {sender} {recipient}\n{text}END")


def up_again(site: Site, *units: str) -> None:
    """Started anew, with nothing remembered, and ready."""
    site.host.check_output(f"systemctl restart {' '.join(units)}")
    for ready in until(lambda: site.host.run("ss -Hxl src unix:" + MILTER).stdout):
        if ready:
            return
    raise AssertionError("rspamd does not come up")


def bring(site: Site, sender: str, message: bytes, recipient: str = "bob") -> t.Tuple[int, str]:
    """As a server does that no SPF record knows; the reply to the mail as a whole."""
    with smtplib.SMTP(site.server.address, 25, "mx.impostor.example", timeout=60) as smtp:
        try:
            smtp.sendmail(sender, [f"{recipient}@{site.domain}"], message, ["BODY=8BITMIME"])
        except smtplib.SMTPResponseException as refused:
            return refused.smtp_code, str(refused.smtp_error)
        except smtplib.SMTPRecipientsRefused as refused:
            return next(iter(refused.recipients.values()))[0], str(refused)
    return 250, ""


# -- believed ---------------------------------------------------------------------------------------------------------


def test_there_and_back(way: t.Tuple[Site, Site]) -> None:
    here, there = way
    word = token()
    write(here, f"bob@{there.domain}", word)
    message = read(there, "bob", word)
    assert results(message) == {"spf": ["pass"], "dkim": ["pass", "pass"], "dmarc": ["pass"]}
    assert message["Authentication-Results"].startswith(there.server.name + ";")
    # port 25, which people's mail clients never see, with TLS and the name that DNS says
    (hop,) = [str(one) for one in message.get_all("Received", []) if "ESMTPS" in one and there.server.name in one]
    assert re.search(rf"from {here.server.name} \({here.server.name} ", hop), hop
    assert "TLSv1.3" in hop


def test_second_domain(way: t.Tuple[Site, Site]) -> None:
    """Whoever is postmaster of the second domain gets the mail of the first's root; its MX leads here, too."""
    here, there = way
    word = token()
    recipient = f"postmaster@second-{there.domain}"
    write(here, recipient, word)
    assert results(read(there, "alice", word))["dmarc"] == ["pass"]


def test_foreign_server(here: Site, exim: Host) -> None:
    word = token()
    write(here, "reader@exim.test", word)
    message = read_at_exim(exim, word)
    seen = {str(one) for one in message.get_all("X-Seen", [])}
    assert [one for one in seen if re.fullmatch(rf"dkim=pass \w+\._domainkey\.{here.domain}", one)], seen
    assert not [one for one in seen if "fail" in one], seen
    assert "(TLS)" in message["Received"]

    answer = token()
    send_from_exim(exim, "reader@exim.test", f"alice@{here.domain}", answer)
    assert results(read(here, "alice", answer)) == {"spf": ["pass"], "dkim": ["pass"], "dmarc": ["pass"]}


def test_forwarded_mail_keeps_its_signature(here: Site, exim: Host) -> None:
    word = token()
    send_from_exim(exim, "writer@exim.test", f"away@{here.domain}", word)
    message = read_at_exim(exim, word)
    assert here.server.name in str(message.get_all("Received", []))
    assert "dkim=pass x1._domainkey.exim.test" in {str(one) for one in message.get_all("X-Seen", [])}


def test_bounces_are_signed(here: Site) -> None:
    """The domain takes no mail, so the server itself has to tell the writer."""
    word = token()
    write(here, "nobody@empty.test", word)
    for bounces in until(lambda: received(here.server, here.account("alice"), "Undelivered")):
        mine = [email.message_from_bytes(text) for text in bounces if word in text.decode()]
        if mine:
            break
    assert mine[0]["Return-Path"] == "<>"
    assert f"d={here.server.name};" in str(mine[0].get_all("DKIM-Signature", []))


def test_bounce_to_the_other_server(way: t.Tuple[Site, Site]) -> None:
    """It comes from nobody, and is believed by the signature and the SPF record of the host's name."""
    here, there = way
    word = token()
    write(here, f"bob@{there.domain}", word)
    read(there, "bob", word)
    there.host.check_output(
        f"printf 'From: MAILER-DAEMON@{there.server.name}\\nSubject: bounce-{word}\\n\\nSorry.\\n'"
        f" | sendmail -f '<>' alice@{here.domain}"
    )
    message = read(here, "alice", f"bounce-{word}")
    assert message["Return-Path"] == "<>"
    assert results(message)["spf"] == ["pass"]
    assert results(message)["dkim"] == ["pass", "pass"]


# -- not believed -----------------------------------------------------------------------------------------------------


def test_an_impostor_is_refused(here: Site) -> None:
    code, text = bring(here, "alice@reject.test", mail("alice@reject.test", f"bob@{here.domain}", token()))
    assert (code, "DMARC" in text) == (554, True), text


def impostors(here: Site) -> t.List[t.Tuple[int, bool]]:
    """Code, and whether the reason is the right one, of mails in the names of people and of the host."""
    names = [f"alice@{here.domain}", f"alice@second-{here.domain}", f"root@{here.server.name}"]
    pairs = [(name, name) for name in names] + [("eve@none.test", name) for name in names] + [("", names[0])]
    answers = [bring(here, envelope, mail(author, f"bob@{here.domain}", token())) for envelope, author in pairs]
    return [(code, "domain of this server" in text) for code, text in answers]


@pytest.mark.parametrize("records", ["all", "none"])
def test_nobody_outside_is_from_here(here: Site, dns: Host, records: str) -> None:
    """Whatever DNS says of these domains, or if it says nothing."""
    zones = " ".join(f"/var/cache/bind/published/{zone}.zone" for zone in (here.domain, f"second-{here.domain}"))
    if records == "none":
        dns.check_output(f"for zone in {zones}; do sed -i.all '/ TXT /d' $zone; done; zones.sh")
        time.sleep(6)  # what is remembered
    try:
        assert set(impostors(here)) == {(554, True)}
    finally:
        if records == "none":
            dns.check_output(f"for zone in {zones}; do mv $zone.all $zone; done; zones.sh")
            time.sleep(6)


@pytest.mark.parametrize("through", ["a list", "a forwarder"])
def test_mail_of_people_here_comes_back(here: Site, exim: Host, through: str) -> None:
    """By the signature: a list puts itself into the envelope, and who forwards leaves it as it is."""
    word = token()
    write(here, "reader@exim.test", word)
    text = read_at_exim(exim, word).as_string()
    envelope = "list@exim.test" if through == "a list" else f"alice@{here.domain}"
    exim.run_expect([0], f"cat <<'END' | /usr/sbin/exim4 -f {envelope} bob@{here.domain}\n{text}\nEND")
    message = read(here, "bob", word)
    assert message["Return-Path"] == f"<{envelope}>"
    assert results(message)["dmarc"] == ["pass"]

    # a list that writes into the text is not believed
    signed = text[text.index("DKIM-Signature:") :].replace("Hello.", "Hello. Sent by the list.")
    code, reply = bring(here, envelope, signed.replace("\n", "\r\n").encode())
    assert (code, "domain of this server" in reply) == (554, True), reply


def test_an_impostor_behind_another_envelope_is_refused(here: Site) -> None:
    """SPF would say nothing against it: the envelope's domain has no record."""
    code, text = bring(here, "alice@elsewhere.test", mail(f"alice@{here.domain}", f"bob@{here.domain}", token()))
    assert code == 554, text


@pytest.mark.parametrize("domain", ["nothing.test", "empty.test", "mailless.test"])
def test_a_sender_who_could_not_be_answered(here: Site, domain: str) -> None:
    """There is no such domain, no server for its mail, or it says itself that it takes none (RFC 7505)."""
    code, text = bring(here, f"eve@{domain}", mail("eve@elsewhere.test", f"bob@{here.domain}", token()))
    assert (code, "Sender address rejected" in text) == (550, True), text


@pytest.mark.parametrize(("domain", "folder"), [("quarantine.test", "Junk"), ("none.test", "INBOX")])
def test_softer_policies(here: Site, domain: str, folder: str) -> None:
    word = token()
    code, text = bring(here, f"eve@{domain}", mail(f"eve@{domain}", f"bob@{here.domain}", word))
    assert code == 250, text
    message = read(here, "bob", word, folder)
    assert results(message)["spf"] == ["fail"]
    assert results(message)["dmarc"] == ["fail"]


def test_a_broken_signature(way: t.Tuple[Site, Site]) -> None:
    """Somebody takes a signed mail, changes it, and sends it on."""
    here, there = way
    word = token()
    write(here, f"bob@{there.domain}", word)
    (text,) = received(there.server, there.account("bob"), word)
    signed = text[text.index(b"DKIM-Signature:") :]
    # as it was, it is believed even from another server
    assert bring(there, f"alice@{here.domain}", signed.replace(b"X-Nothing", b""))[0] == 250
    changed = signed.replace(b"Hello.", b"Send me money.")
    code, reply = bring(there, f"alice@{here.domain}", changed)
    assert code == 554, reply


def test_forged_results(here: Site) -> None:
    word = token()
    headers = f"Authentication-Results: {here.server.name}; spf=pass; dkim=pass header.d=bank.example; dmarc=pass\r\n"
    assert bring(here, "eve@none.test", mail("eve@none.test", f"bob@{here.domain}", word, headers=headers))[0] == 250
    assert results(read(here, "bob", word))["dmarc"] == ["fail"]


def test_forged_results_of_people_here(way: t.Tuple[Site, Site]) -> None:
    here, _there = way
    word = token()
    headers = f"Authentication-Results: {here.server.name}; dkim=pass header.d=bank.example\r\n"
    text = mail(f"alice@{here.domain}", f"bob@{here.domain}", word, headers=headers)
    submit(here.server, here.account("alice"), f"bob@{here.domain}", text)
    assert read(here, "bob", word).get_all("Authentication-Results", []) == []


def test_nobody_can_sign_as_a_colleague_of_another_domain(here: Site) -> None:
    """Postfix sees to the envelope, and rspamd to what stands in From."""
    text = mail(f"alice@second-{here.domain}", f"bob@{here.domain}", token())
    with pytest.raises(smtplib.SMTPDataError, match="may not send as alice@second"):
        submit(here.server, here.account("alice"), f"bob@{here.domain}", text)


# -- what is down, and comes back -------------------------------------------------------------------------------------


def test_the_milter_is_down(way: t.Tuple[Site, Site]) -> None:
    here, there = way
    word = token()
    there.host.check_output("systemctl stop rspamd")
    try:
        write(here, f"bob@{there.domain}", word)
        for waiting in until(lambda: here.queued(word)):
            if waiting and re.search("45[14] 4", waiting[0]):
                break
        assert len(waiting) == 1
        # where a key stands in DNS, STARTTLS is the first thing that is put off
        assert re.search("45[14] 4", waiting[0])
        # and people there are told, too, instead of sending what is not signed
        text = mail(f"bob@{there.domain}", f"alice@{here.domain}", token())
        with pytest.raises(smtplib.SMTPException, match="4[0-9][0-9]"):
            submit(there.server, there.account("bob"), f"alice@{here.domain}", text)
    finally:
        up_again(there, "rspamd")
    here.flush(word)
    assert results(read(there, "bob", word))["dmarc"] == ["pass"]


def test_dns_is_down(way: t.Tuple[Site, Site], dns: Host) -> None:
    here, there = way
    word = token()
    # what is remembered from before would do for a while
    for one in way:
        up_again(one, "unbound", "rspamd")
    dns.check_output("systemctl stop named")
    try:
        write(here, f"bob@{there.domain}", word)
        for sender in ("eve@exim.test", f"alice@{there.domain}"):
            code, text = bring(there, sender, mail(sender, f"bob@{there.domain}", token()))
            assert 400 <= code < 500, text
        assert len(here.queued(word)) == 1
    finally:
        dns.check_output("systemctl start named")
    greeting = mail("eve@none.test", f"bob@{there.domain}", token())
    for reply in until(lambda: bring(there, "eve@none.test", greeting)):
        if reply[0] == 250:
            break
    here.flush(word)
    assert results(read(there, "bob", word))["dmarc"] == ["pass"]


def test_a_domain_whose_name_servers_are_silent(here: Site) -> None:
    code, text = bring(here, "eve@silent.test", mail("eve@silent.test", f"bob@{here.domain}", token()))
    assert 400 <= code < 500, text


def test_the_resolver_is_down(here: Site) -> None:
    up_again(here, "rspamd")
    word = token()
    here.host.check_output("systemctl stop unbound")
    try:
        code, text = bring(here, "eve@none.test", mail("eve@none.test", f"bob@{here.domain}", token()))
        assert 400 <= code < 500, text
        write(here, "reader@exim.test", word)
        assert len(here.queued(word)) == 1
    finally:
        here.host.check_output("systemctl start unbound")
    here.flush(word)
    seen = read_at_exim(machine("exim"), word)
    assert "dkim=pass" in str(seen.get_all("X-Seen", []))


# -- DANE -------------------------------------------------------------------------------------------------------------


def test_dane(way: t.Tuple[Site, Site], dns: Host) -> None:
    """A key in DNS that the server doesn't have stops mail to it, until the right one is there."""
    here, there = way
    zone = f"/var/cache/bind/published/{there.domain}.zone"

    word = token()
    write(here, f"bob@{there.domain}", word)
    read(there, "bob", word)
    log = here.host.check_output("journalctl --since=-120s -q -o cat -t postfix/smtp")
    assert f"Verified TLS connection established to {there.server.name}" in log

    dns.check_output(f"sed -i.right -E 's/(TLSA 3 1 1) ..../\\1 0000/' {zone} && zones.sh")
    time.sleep(6)  # what is remembered
    try:
        word = token()
        write(here, f"bob@{there.domain}", word)
        for waiting in until(lambda: here.queued(word)):
            if waiting and "certificate" in waiting[0]:
                break
        assert waiting
        assert re.search("Server certificate not (trusted|verified)", waiting[0])
    finally:
        dns.check_output(f"mv {zone}.right {zone} && zones.sh")
    time.sleep(6)
    here.flush(word)
    read(there, "bob", word)


# -- a key's life -----------------------------------------------------------------------------------------------------


def variables() -> t.Dict[str, t.Any]:
    """What the plays were given."""
    converge = yaml.safe_load((SCENARIO / "converge.yml").read_text(encoding="utf-8"))
    return {**converge[0]["vars"], **converge[1]["vars"]}


def play(playbook: pathlib.Path, *sites: Site, **values: t.Any) -> controller.Played:
    done = controller.play(playbook, ",".join(site.name for site in sites), **{**variables(), **values})
    assert done.code == 0, done.output
    return done


def publish(site: Site, dns: Host) -> t.Dict[str, str]:
    """What dns.yml says now is in DNS, and nothing else. Gives the states that records had before, by name and type."""
    ephemeral = pathlib.Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"])
    play(SCENARIO.parents[1] / "playbooks/dns.yml", site)
    for zone in site.host.ansible.get_variables()["mail_domains"]:
        text = (ephemeral / "dns" / f"{zone}.zone").read_text(encoding="utf-8")
        dns.run_expect([0], f"cat <<'END' >/var/cache/bind/published/{zone}.zone\n{text}END")
    dns.check_output("zones.sh")
    time.sleep(6)  # what others remember
    records = json.loads((ephemeral / "dns" / f"{site.server.name}.json").read_text(encoding="utf-8"))
    return {f"{one['name']} {one['type']}": one["state"] for one in records}


def test_all_is_published(here: Site, dns: Host) -> None:
    assert set(publish(here, dns).values()) == {"present"}


def test_what_is_missing_is_published(dns: Host) -> None:
    """By somebody else's tasks, record by record, but not beside what would make it worthless."""
    here = site(MAIL_HOSTS[0])
    zone = f"/var/cache/bind/published/{here.domain}.zone"
    with_hook = {"dns_publish": str(SCENARIO / "tasks/publish.yml")}
    playbook = SCENARIO.parents[1] / "playbooks/dns.yml"
    before = dns.check_output(f"sort {zone}")
    dns.check_output(f"sed -i '/^_dmarc/d' {zone} && zones.sh")
    play(playbook, here, **with_hook)
    assert dns.check_output(f"sort {zone}") == before

    dns.check_output(f"cp {zone} {zone}.right && echo '{here.domain}. TXT \"v=spf1 a -all\"' >>{zone}")
    dns.check_output(f"sed -i '/^_dmarc/d' {zone} && zones.sh")
    try:
        with pytest.raises(AssertionError, match=f"{here.domain} TXT: there are 2 of them, and receivers take none"):
            play(playbook, here, **with_hook)
        assert "_dmarc" not in dns.check_output(f"cat {zone}")
    finally:
        dns.check_output(f"mv {zone}.right {zone} && zones.sh")


def test_a_new_key_without_one_lost_mail(dns: Host) -> None:
    """Afterwards the keys have other names: one that comes back would be another key, and others remember."""
    here, there = site(MAIL_HOSTS[0]), site(MAIL_HOSTS[-1])
    keys = here.host.check_output("ls /var/lib/rspamd/dkim")
    (present,) = set(re.findall(rf"^{here.domain}\.(\w+)\.key$", keys, re.MULTILINE)) - {"ed1"}
    old, new, other = {"name": present}, {"name": f"k{token()[:8]}"}, {"name": "ed1", "type": "ed25519"}
    steps: t.List[t.Tuple[t.List[t.Dict[str, str]], str, t.List[t.Dict[str, str]]]] = [
        ([old, {**new, "state": "publish"}, other], "missing", [old, other]),
        ([{**old, "state": "retire"}, new, other], "present", [new, other]),
        ([new, other], "present", [new, other]),
    ]
    for selectors, state_before, signed_with in steps:
        play(SCENARIO / "part.yml", here, parts=["rspamd"], rspamd_dkim_selectors=selectors)
        states = publish(here, dns)
        assert states[f"{new['name']}._domainkey.{here.domain} TXT"] == state_before
        assert (f"{present}._domainkey.{here.domain} TXT" in states) is (len(selectors) == 3)
        word = token()
        write(here, f"bob@{there.domain}", word)
        message = read(there, "bob", word)
        assert results(message)["dkim"] == ["pass", "pass"], message["Authentication-Results"]
        signed = re.findall(r"\bs=(\w+);", " ".join(str(one) for one in message.get_all("DKIM-Signature", [])))
        assert sorted(signed) == sorted(one["name"] for one in signed_with)
