# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A server gets a part and loses it again, and is given back as it was before. The tests follow each other."""

import re
import smtplib
import socket
import ssl
import typing as t

import mailclient
import pytest
from conftest import Vps
from mailclient import Account, Imap, Server, Smtp

#: Everything that can be switched off, with what it brings: a port that listens, a unit, a file.
SWITCHES: t.List[t.Tuple[t.Dict[str, t.Any], t.Dict[str, t.Any], t.List[str]]] = [
    (
        {"mail_rspamd": False},
        {"mail_rspamd": True},
        ["unit rspamd.service active", "/etc/rspamd/override.d/logging.inc "],
    ),
    (
        {"mail_spam_filter": False, "mail_training": False},
        # and what people have moved, which comes with it
        {"mail_spam_filter": True, "mail_training": True},
        ["unit port587-redis.service active", "/etc/dovecot/training/bin/learn ", "/etc/port587/redis.conf "],
    ),
    (
        {"mail_autoconfig": False},
        {"mail_autoconfig": True},
        ["unit nginx.service active", "port tcp 443", "/etc/port587/autoconfig/en.html "],
    ),
    (
        {"postfix_greylisting": False},
        {"postfix_greylisting": True},
        ["unit postgrey.service active", "/etc/systemd/system/postgrey.service.d/port587.conf "],
    ),
    (
        {"postfix_mta_sts": False},
        {"postfix_mta_sts": True},
        ["unit postfix-mta-sts-resolver.service active", "port tcp 8461"],
    ),
    (
        {"postfix_send_limits": {}, "postfix_send_limits_by_login": []},
        {"postfix_send_limits": {"hour": 200}},
        ["unit port587-send-limits.service active", "/usr/local/lib/port587/send-limits "],
    ),
    (
        {"postfix_quota_policy": ""},
        {"postfix_quota_policy": "unix:private/quota-status"},
        ["unit port587-recipients.service active", "/usr/local/lib/port587/recipients "],
    ),
    (
        {"dovecot_login_limit": 0},
        {"dovecot_login_limit": 60},
        ["unit port587-login-limits.service active", "port tcp 8587", "/usr/local/lib/port587/login-limits "],
    ),
    ({"dovecot_pop3": False}, {"dovecot_pop3": True}, ["port tcp 995", "port tcp 110"]),
    (
        {"postfix_relays": []},
        {"postfix_relays": [{"host": "relay.example", "domains": ["far.example"], "username": "a", "password": "b"}]},
        ["/etc/postfix/relay_passwords "],
    ),
]
OFF = {name: value for off, _on, _brings in SWITCHES for name, value in off.items()}
ON = {name: value for _off, on, _brings in SWITCHES for name, value in on.items()}

#: Their comments say which machine made them.
SSH_KEYS = [f"/etc/ssh/ssh_host_{kind}_key.pub" for kind in ("ed25519", "ecdsa", "rsa")]
OTHERS = re.compile(r"^. (/etc/port587/tls/|/var/vmail|/var/lib/port587)")


def differences(before: t.Set[str], after: t.Set[str]) -> t.List[str]:
    """What is gone, and what is new."""
    return sorted([f"- {line}" for line in before - after] + [f"+ {line}" for line in after - before])


def test_the_first_run_takes_the_place_of_the_earlier_server(vps: Vps, by_hand: bool) -> None:
    vps.seen["first"] = vps.listing()
    assert "port tcp 25" in vps.seen["first"]
    if not by_hand:
        # a person replaces an earlier mail server, with the commands that the role preflight says
        vps.run("systemctl", "stop", "exim4")
        vps.run("systemctl", "disable", "exim4")
        vps.run("env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-q", "-y", "install", "postfix")
        vps.seen["replaced"] = vps.listing()
    vps.site(**OFF)
    vps.seen["mail"] = vps.serves()
    vps.seen["off"] = vps.listing()


def test_what_was_switched_off_is_gone(vps: Vps, by_hand: bool) -> None:
    if not by_hand:
        pytest.skip("tried on the other host")
    vps.site(**ON)
    vps.serves()
    on = vps.listing()
    for _off, _on, brings in SWITCHES:
        for line in brings:
            assert any(one.startswith(line) for one in on - vps.seen["off"]), line
    vps.site(**OFF)
    vps.serves()
    # the certificate had other names meanwhile; mail and records are not configuration
    left = [line for line in differences(vps.seen["off"], vps.listing()) if not OTHERS.search(line)]
    assert not left, "\n".join(left)


def speaks_as(server: Server) -> None:
    """Each port has a certificate of this name, and the daemons say it."""
    for port in (25, 587, 465):
        with Smtp(server, port) as smtp:
            assert (smtp.ehlo_resp or b"").startswith(server.name.encode())
    for port in (143, 993):
        Imap(server, port).logout()


def fetched(server: Server, name: str, path: str) -> str:
    """A page of the web server under one of its names."""
    plain = socket.create_connection((server.address, 443), 30)
    with server.context().wrap_socket(plain, server_hostname=name) as web:
        web.sendall(f"GET {path} HTTP/1.0\r\nHost: {name}\r\n\r\n".encode())
        return b"".join(iter(lambda: web.recv(4096), b"")).decode()


def sent(vps: Vps, account: Account, recipient: str) -> t.Tuple[str, str]:
    """A mail from this account to an address that is hers: its word, and how it lies there."""
    word = mailclient.token()
    message = mailclient.mail(account.address, recipient, word)
    mailclient.submit(vps.server, account, recipient, message)
    return word, mailclient.received(vps.server, account, word)[0].decode()


def test_the_server_and_a_domain_get_new_names(vps: Vps, by_hand: bool) -> None:
    """As docs/removing.md says, step by step; and back again, which is what removing the new names is."""
    if not by_hand:
        pytest.skip("tried on the other host")
    old, (domain, *others) = vps.server, vps.domains
    new, new_domain = old._replace(name=f"mx.{domain}"), f"not-{domain}"
    dns = {"dns_resolvers": ["127.0.0.1"], "dns_addresses": [old.address], "dns_dir": f"{old.ca_file}.dns"}
    parts = {**OFF, "mail_rspamd": True, "mail_autoconfig": True}
    before, _text = sent(vps, vps.alice, vps.alice.address)

    # the server, whose old name keeps a certificate for the clients; and the new domain
    renamed = {**parts, "mail_hostname": new.name, "mail_domains": [domain, *others, new_domain]}
    vps.site(**renamed, mail_sni=[old.name])
    for server in (old, new):
        with Smtp(server, 587), Smtp(server, 465), Imap(server, 993):
            pass
    speaks_as(new)
    vps.server = new
    _word, text = sent(vps, vps.alice, vps.alice.address)
    assert f"by {new.name} " in text
    assert old.name not in text
    config = fetched(new, f"autoconfig.{domain}", f"/mail/config-v1.1.xml?emailaddress={vps.alice.address}")
    assert f"<hostname>{new.name}</hostname>" in config
    assert f"mx: {new.name}" in fetched(new, f"mta-sts.{domain}", "/.well-known/mta-sts.txt").splitlines()
    assert vps.play("dns.yml", **renamed, **dns).code == 0
    zone = vps.published(dns["dns_dir"], domain)
    assert re.search(rf"^{domain}\.\s.*\sMX\s+10 {new.name}\.", zone, re.MULTILINE), zone
    assert old.name not in zone

    # the domain: a mailbox moves into its place
    vps.run("systemctl", "stop", "postfix", "dovecot")
    vps.run("mkdir", "-p", f"/var/vmail/{new_domain}")
    vps.run("chown", "vmail:vmail", f"/var/vmail/{new_domain}")
    vps.run("chmod", "0700", f"/var/vmail/{new_domain}")
    vps.run("mv", "-nT", f"/var/vmail/{domain}/alice", f"/var/vmail/{new_domain}/alice")
    alice = vps.alice._replace(address=f"alice@{new_domain}")
    people = [{"address": alice.address, "password": alice.password}]
    people += [{"address": f"carol@{new_domain}", "password": "carol's own"}]
    aliases = [{"address": vps.alice.address, "to": [alice.address]}]
    vps.site(**renamed, mail_accounts=people, mail_aliases=aliases)
    assert len(mailclient.received(new, alice, before)) == 1
    _word, text = sent(vps, alice, vps.alice.address)
    assert f"d={new_domain};" in text
    carol = Account(f"carol@{new_domain}", "carol's own")
    kept, _text = sent(vps, carol, carol.address)
    with Smtp(new, 587) as smtp, pytest.raises(smtplib.SMTPAuthenticationError):
        smtp.login(vps.alice.address, vps.alice.password)
    # the old name has no certificate any more, and is in no file but those of the machine
    with pytest.raises(ssl.SSLCertVerificationError):
        Imap(old, 993)
    files = vps.run("grep", "-rlF", old.name, "/etc", "/usr/local", check=False).splitlines()
    assert set(files) <= {"/etc/hosts", "/etc/hostname", "/etc/mailname", "/etc/aliases.db", *SSH_KEYS}, files

    # all of it back: the new domain is removed, with a mailbox in it
    vps.run("systemctl", "stop", "postfix", "dovecot")
    vps.run("mv", "-nT", f"/var/vmail/{new_domain}/alice", f"/var/vmail/{domain}/alice")
    back = vps.site(**parts)
    vps.server = old
    assert f"/var/vmail/{new_domain}/carol" in back.output
    for name in (new.name, new_domain):
        assert re.search(rf"no longer used, and kept: .*/var/lib/rspamd/dkim/{name}\.", back.output.replace("\n", " "))
    speaks_as(old)
    assert len(mailclient.received(old, vps.alice, before)) == 1
    with Smtp(old, 25) as smtp:
        smtp.mail("somebody@elsewhere.example")
        assert smtp.rcpt(carol.address)[0] == 554
    assert vps.run("grep", "-rlF", kept, f"/var/vmail/{new_domain}/carol/Maildir/cur").count("\n") == 1
    told = vps.play("dns.yml", **parts, **dns)
    assert f"/var/lib/rspamd/dkim: {new.name}, {new_domain}. " in told.output


def test_a_removal_wants_the_servers_name(vps: Vps) -> None:
    before = vps.listing()
    for name in ("", "mail.example.com"):
        refused = vps.remove(**OFF, remove_confirm=name)
        assert refused.code != 0
        assert f"write -e remove_confirm={vps.server.name}" in refused.output.replace("\n", " "), refused.output
    assert not differences(before, vps.listing())


def test_check_mode_shows_it(vps: Vps) -> None:
    before = vps.listing()
    shown = vps.remove("--check", **OFF)
    assert shown.code == 0
    for word in ("Would be done", "The originals return: /etc/postfix/main.cf", "/etc/port587/ca: the CA"):
        assert word in shown.output
    assert not differences(before, vps.listing())


def test_mail_and_keys_stay_and_a_new_run_finds_them(vps: Vps, by_hand: bool) -> None:
    if not by_hand:
        pytest.skip("tried on the other host")
    with_keys = {**OFF, "mail_rspamd": True}
    vps.site(**with_keys)
    keys = vps.run(
        "sha256sum",
        *vps.run("sh", "-c", "ls /var/lib/rspamd/dkim/* /etc/port587/ca/ca.pem /etc/port587/accounts/passwd").split(),
    )
    vps.run("sh", "-c", "echo '# mine' >> /etc/postfix/main.cf")
    vps.write("/etc/port587/mine", "a file of somebody else\n")

    removed = vps.remove(**with_keys)
    assert removed.code == 0
    told = removed.output.replace("\n", " ")
    edited = "/var/lib/port587/edited/etc/postfix/main.cf"
    for word in (edited, "/etc/port587: has files of others", "/var/vmail: the mail"):
        assert word in told, word
    assert vps.run("tail", "-1", edited) == "# mine\n"
    assert " ESMTP before" in vps.run("bash", "-c", "read -r line </dev/tcp/127.0.0.1/25; echo $line")
    assert vps.run("systemctl", "is-active", "rspamd", check=False) == "inactive\n"
    again = vps.remove(**with_keys)
    assert again.code == again.changed == 0

    vps.run("rm", "/etc/port587/mine")
    vps.site(**with_keys)
    assert vps.has(vps.seen["mail"])
    assert keys == vps.run("sha256sum", *[line.split()[1] for line in keys.splitlines()])


def test_everything_goes_if_that_is_wanted(vps: Vps, by_hand: bool) -> None:
    removed = vps.remove(**OFF, remove_packages=True, remove_mail=True)
    assert removed.code == 0
    after = vps.listing()
    left = differences(vps.seen["first" if by_hand else "replaced"], after)
    # what others had in the folders of packages is kept aside
    left = [line for line in left if "/edited" not in line and "lib/port587 " not in line]
    assert not left, "\n".join(left)
    if by_hand:
        assert " ESMTP before" in vps.run("bash", "-c", "read -r line </dev/tcp/127.0.0.1/25; echo $line")
        assert "Dovecot before" in vps.run("bash", "-c", "read -r line </dev/tcp/127.0.0.1/143; echo $line")
    else:
        assert "apt-get install exim4" in removed.output
    again = vps.remove(**OFF, remove_packages=True, remove_mail=True)
    assert again.code == again.changed == 0


def test_exim_comes_back(vps: Vps, by_hand: bool) -> None:
    if by_hand:
        pytest.skip("the other host had exim")
    # as docs/removing.md says; packages that came with the package postfix are the person's own
    install = ["apt-get", "-q", "-y", "--no-install-recommends", "install", "exim4-daemon-light"]
    vps.run("env", "DEBIAN_FRONTEND=noninteractive", *install)
    vps.run("systemctl", "enable", "exim4")
    vps.run("systemctl", "restart", "exim4")
    assert " ESMTP Exim " in vps.run("bash", "-c", "read -r line </dev/tcp/127.0.0.1/25; echo $line")
    # without its timer, which prepare.yml has kept apt from starting
    exim = re.compile(r"^(/etc/.*exim|unit exim4\.service|port )")
    before, after = ({line for line in lines if exim.search(line)} for lines in (vps.seen["first"], vps.listing()))
    assert not differences(before, after)
