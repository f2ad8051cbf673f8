# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A certificate that a real authority (Pebble) issues and renews, as clients see it on every port."""

import ssl
import time

import pytest
from conftest import PORTS, Site, submissions
from exposure import too_exposed
from mailclient import Imap, Smtp

testinfra_hosts = ["mail"]

AUTOCONFIG = ("autoconfig", "autodiscover", "mta-sts")
#: without the web server's
MAIL = [port for port in PORTS if port != 443]
FILES = "/etc/port587/tls /var/lib/port587/acme.json"

# Spoils what certbot has, so that another certificate is asked for.
NEW_KEY = (
    "openssl ecparam -name prime256v1 -genkey -noout > $(echo /var/lib/port587/acme/*_14000_*/live/ecdsa/privkey.pem)"
)

# Kills the program when it has just begun to write (staging), or has replaced files and proved nothing (swapping).
KILL = """
import os, signal, subprocess, sys, time
program = subprocess.Popen(["/usr/local/lib/port587/certificates", "--force"], stderr=subprocess.DEVNULL)
while program.poll() is None:
    if os.path.exists("/var/lib/port587/journal." + sys.argv[1]):
        program.send_signal(signal.SIGKILL)
    time.sleep(0.001)
sys.exit(program.wait() != -signal.SIGKILL)
"""


def in_one_line(played):
    """Without the line ends that a terminal would have."""
    return " ".join(played.output.split())


def diff(played):
    return [line for line in played.output.splitlines() if line.startswith(("+", "-", "@"))]


def test_every_port_shows_the_issued_chain(site):
    assert site.serial()
    # the second domain has no such names in DNS, which keeps nobody else from theirs
    assert sorted(site.names()) == sorted(f"{name}.{site.domain}" for name in ("mail", *AUTOCONFIG))
    assert set(site.state()["missing"]) == {f"{name}.second-{site.domain}" for name in AUTOCONFIG}
    assert site.state()["stand_in"] is False


def test_nothing_is_done_when_nothing_is_due(site):
    assert site.host.service("port587-certificates.timer").is_running
    assert site.host.service("port587-certificates.timer").is_enabled
    serial = site.serial()
    # asked all the same, twice a day: certbot finds that it is too early
    assert site.renew()[0] == 0
    assert site.serial() == serial
    before = site.do(f"ls -l --time-style=full-iso {FILES}")
    site.do("systemctl start port587-certificates.service")
    assert site.do(f"ls -l --time-style=full-iso {FILES}") == before


def test_the_renewal_is_restricted(site):
    assert too_exposed(site.host, "port587-certificates") == {}


@pytest.mark.usefixtures("as_converged")
def test_renewal_while_mail_goes_on(site):
    """Certificates that end after minutes; the one of this authority is another lineage, and comes from a play."""
    played = site.play(certificates_acme_directory=f"https://acme-{site.inventory_name}.test:14001/dir")
    assert (played.code, played.changed) == (0, 1), played.output
    before = site.serial()
    # a short one is due when half of its time is over
    ends = ssl.cert_time_to_seconds(site.handshake(587)["notAfter"])
    time.sleep(max(0.0, ends - site.variables["acme_authorities"]["short"]["seconds"] / 2 - 5 - time.time()))
    with submissions(site) as wrong, Imap(site.server) as imap, Smtp(site.server, 587) as smtp:
        imap.log_in(site.alice)
        assert smtp.authenticate(site.alice).code == 235
        end = time.monotonic() + 120
        while True:
            code, said = site.renew()
            assert code == 0, said
            if site.serial() != before:
                break
            assert time.monotonic() < end, "not renewed"
            time.sleep(2)
        installed = float(site.do("stat -c %Z /etc/port587/tls/combined.pem"))
        assert time.time() - installed < 20
        # sessions from before go on
        assert imap.select()[0] == "OK"
        assert smtp.ask(site.alice.address, site.alice.address).code == 250
    assert wrong == []
    # good nonces were refused (RFC 8555, 6.5)
    assert site.do("grep -l badNonce /var/log/letsencrypt/port587/*")


@pytest.mark.usefixtures("as_converged")
def test_a_certificate_of_six_days_is_kept_for_half_of_them(site):
    """Old certbots would get a new one at every turn: there are less than 30 days left."""
    played = site.play(certificates_acme_directory=f"https://acme-{site.inventory_name}.test:14002/dir")
    assert played.code == 0, played.output
    before = site.serial()
    for _ in range(2):
        assert site.renew()[0] == 0
    assert site.serial() == before
    assert site.verify() == {}


def test_authority_is_down(site):
    before = site.serial()
    # nobody listens there
    site.lead(f"acme-{site.inventory_name}.test", site.server.address)
    try:
        code, said = site.force()
        assert code == 1
        assert "NOT RENEWED, the certificate from before is served on: " in said
        assert "Connection refused" in said
        assert site.serial() == before
        found = site.verify()
        assert "Connection refused" in found["renewal-failed"]["seen"]
        assert found["renewal-failed"]["verdict"] == "warn"
    finally:
        site.lead(f"acme-{site.inventory_name}.test", site.client_address)
    assert site.renew()[0] == 0
    assert site.state()["error"] == ""
    assert site.verify() == {}


def test_name_leads_elsewhere(site):
    before = site.serial()
    site.lead(site.name, site.client_address)
    try:
        code, said = site.force()
        assert code == 1, said
        assert f"{site.name}: " in said
        assert site.client_address in said
        assert site.serial() == before
    finally:
        site.lead(site.name, site.server.address)
    assert site.force()[0] == 0
    assert site.serial() != before


def test_port_80(site):
    before = site.serial()
    site.do(
        "systemctl stop nginx; systemd-run --quiet --unit=other python3 -m http.server 80 --directory /srv;"
        " until ss -ltn | grep -q ':80 '; do sleep 0.1; done"
    )
    try:
        code, said = site.force()
        assert code == 1
        assert "port 80, to which the authority connects, is taken by python3" in said
        assert site.handshake(993)["serialNumber"] == before
        # and if nobody has it, certbot answers by itself
        site.do("systemctl stop other")
        assert site.force()[0] == 0
        assert site.handshake(993)["serialNumber"] != before
    finally:
        site.do("systemctl stop other 2>/dev/null; systemctl start nginx")


@pytest.mark.one_host
@pytest.mark.parametrize("phase", ["staging", "swapping"])
def test_killed_while_it_installs(site, phase):
    before = site.serial()
    site.host.run("python3 -c %s " + phase, KILL)
    # whichever it is, key and chain are of one certificate, on all ports that were not reloaded and on those that were
    for port in PORTS:
        site.handshake(port)
    # nobody is asked again: what certbot has is not what is served, and that is enough
    site.do("systemctl start port587-certificates.service")
    assert site.serial() != before
    assert site.do("find /etc/port587 -name '.port587-*'; ls /var/lib/port587 | grep journal; true") == ""


@pytest.mark.one_host
def test_key_of_another_certificate(site):
    before = site.serial()
    site.do(NEW_KEY)
    site.lead(f"acme-{site.inventory_name}.test", site.server.address)
    try:
        assert site.renew()[0] != 0
        assert site.serial() == before
    finally:
        site.lead(f"acme-{site.inventory_name}.test", site.client_address)
    assert site.renew()[0] == 0
    assert site.serial() != before
    assert site.state()["error"] == ""


@pytest.mark.one_host
def test_a_daemon_that_does_not_serve_it(site):
    """Somebody has given Postfix a copy. What is new would reach no client there: it is taken back, and told."""
    before = site.serial()
    site.do(
        "cp -a /etc/port587/tls/combined.pem /etc/postfix/main.cf /root/;"
        " postconf -e smtpd_tls_chain_files=/root/combined.pem; postfix reload"
    )
    site.do(NEW_KEY)
    try:
        code, said = site.renew()
        assert code == 1
        assert "NOT INSTALLED, the certificate from before is served on: " in said
        assert "serves another certificate than the one installed" in said
        assert site.do("journalctl --quiet -p err --since=-1min -o cat UNIT=port587-certificates.service")
        assert site.serial() == before
        assert "serves another certificate" in site.verify()["renewal-failed"]["seen"]
    finally:
        site.do("mv /root/main.cf /etc/postfix/main.cf; postfix reload")
    assert site.renew()[0] == 0
    assert site.serial() != before
    assert site.state()["not_installed"] == ""


@pytest.mark.one_host
def test_names_come_and_go_with_dns(site):
    later = [f"{name}.second-{site.domain}" for name in AUTOCONFIG]
    for name in later:
        site.lead(name, site.server.address)
    code, said = site.renew()
    assert code == 0, said
    assert set(later) < set(site.names())
    assert site.state()["missing"] == {}
    for name in later:
        site.lead(name)
    # a moment without DNS takes nothing away
    assert site.renew()[0] == 0
    assert set(later) < set(site.names())


@pytest.mark.one_host
@pytest.mark.usefixtures("as_converged")
def test_names_come_and_go_with_the_play(site):
    """In a site, nginx learns of a new name after the certificate's turn. One that leads elsewhere harms nobody."""
    values = {"certificates_names": [f"imap.{site.domain}", f"elsewhere.{site.domain}"]}
    site.lead(f"elsewhere.{site.domain}", site.client_address)
    played = site.play(playbook="converge.yml", **values)
    assert played.code == 0, played.output
    assert set(site.names()) == {site.name, f"imap.{site.domain}"}
    assert site.client_address in site.state()["missing"][f"elsewhere.{site.domain}"]
    assert f"The certificate lacks elsewhere.{site.domain}: " in in_one_line(played)

    predicted = site.play("--check", certificates_names=[])
    played = site.play(certificates_names=[])
    assert (predicted.code, predicted.changed, played.code, played.changed) == (0, 1, 0, 1), played.output
    assert diff(predicted) == diff(played)
    assert site.names() == [site.name]


@pytest.mark.one_host
def test_two_names_under_sni(site):
    """Each with a certificate of its own, which is renewed with the others; then they go again, daemons first.

    And one more, with an RSA key, which all ports show to who knows nothing else.
    """
    names = [f"mail.second-{site.domain}", f"imap.{site.domain}"]
    wanted = {"mail_sni": names, "certificates_key_type": "both"}
    old = Site(site.host)
    old.server = old.server._replace(ciphers="aRSA")
    site.lead(names[0], site.server.address)
    try:
        played = site.play(playbook="converge.yml", **wanted)
        assert played.code == 0, played.output
        before = {name: served_for(site, name) for name in names}
        host = site.serial()
        before["rsa"] = old.serial()
        # without those that a test before has taken out of DNS again
        gone = {f"{name}.second-{site.domain}" for name in AUTOCONFIG}
        assert set(old.names()) == set(site.names()) - gone
        assert len({host, *before.values()}) == 4
        # who asks for a name that is nobody's is shown the mail host's
        stranger = Site(site.host, f"nobody.{site.domain}")
        for port in MAIL:
            with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
                stranger.handshake(port)
            assert Site(site.host).handshake(port)["serialNumber"] == host

        assert site.play(playbook="converge.yml", **wanted).changed == 0
        assert site.force()[0] == 0
        after = {name: served_for(site, name) for name in names}
        after["rsa"] = old.serial()
        assert not set(after.values()) & set(before.values())
        assert site.serial() not in {host, *after.values()}

        predicted = site.play("--check", playbook="converge.yml")
        assert site.do("ls /etc/port587/tls").split() == sorted(
            ["combined.pem", "fullchain.pem", "rsa.pem", *(f"{name}.pem" for name in names)]
        )
    finally:
        played = site.play(playbook="converge.yml")
        site.lead(names[0])
    assert (played.code, predicted.code) == (0, 0), predicted.output + played.output
    assert predicted.changed == played.changed
    assert site.do("ls /etc/port587/tls").split() == ["combined.pem", "fullchain.pem"]


def served_for(site, name):
    """The serial number of the certificate that is for this name alone, on each port that has it."""
    shown = [Site(site.host, name).handshake(port) for port in MAIL]
    assert {one["subjectAltName"] for one in shown} == {(("DNS", name),)}
    assert len({one["serialNumber"] for one in shown}) == 1
    return shown[0]["serialNumber"]


@pytest.mark.usefixtures("as_converged")
def test_records_in_dns_instead(site, tmp_path):
    """By an update, and by a program of the user's; both can have wildcards."""
    wanted = {"certificates_names": [f"*.{site.domain}"], "certificates_key_type": "rsa"}
    update = {"server": site.client_address, "wait": 1, **site.key}
    played = site.play("-vvv", certificates_acme_challenge="nsupdate", certificates_acme_nsupdate=update, **wanted)
    assert played.code == 0, played.output
    assert set(site.names()) == {f"*.{site.domain}", site.name}
    assert (
        "RSA"
        in site.do("openssl x509 -noout -text -in /etc/port587/tls/fullchain.pem | grep 'Public Key Algorithm'").upper()
    )
    assert site.key["key_secret"] not in played.output

    hook = tmp_path / "hook"
    hook.write_text(HOOK % {"server": site.client_address, **site.key})
    wanted["certificates_names"] = [f"*.{site.domain}", f"*.second-{site.domain}"]
    played = site.play(certificates_acme_challenge="hook", certificates_acme_hook=str(hook), **wanted)
    assert played.code == 0, played.output
    assert site.state()["error"] == ""
    assert f"*.second-{site.domain}" in site.names()
    # what the other way needed is gone
    assert not site.host.file("/etc/port587/acme/nsupdate.ini").exists


HOOK = """#!/usr/bin/python3
import os, sys
import dns.query, dns.tsigkeyring, dns.update
key = dns.tsigkeyring.from_text({"%(key_name)s": "%(key_secret)s"})
update = dns.update.Update("test", keyring=key, keyalgorithm="hmac-sha256")
name = "_acme-challenge." + os.environ["CERTBOT_DOMAIN"] + "."
if sys.argv[1] == "auth":
    update.add(name, 1, "TXT", '"' + os.environ["CERTBOT_VALIDATION"] + '"')
else:
    update.delete(name, "TXT")
sys.exit(dns.query.tcp(update, "%(server)s").rcode())
"""


# Lines of a hook, whether it is certbot's own (deploy-hook), whether there is a new certificate nevertheless, and the
# words of the program's. The collection's hook sets and removes a record.
HANGS = "trap '' TERM; touch /run/hangs; sleep 7654"
HOOKS = {
    "the record is not set": ('[ "$1" = cleanup ] || { echo no such zone >&2; exit 3; }', False, False, "no such zone"),
    "setting it hangs": (f'[ "$1" = cleanup ] || {{ {HANGS}; }}', False, False, "certbot was killed"),
    "certbot is killed meanwhile": ('[ "$1" = cleanup ] || pkill -9 -x certbot', False, False, "certbot was killed"),
    "removing it is killed": ('[ "$1" = auth ] || kill -9 $$', False, True, ""),
    "deploying fails": ("exit 3", True, True, ""),
    "deploying hangs": (HANGS, True, True, "certbot was killed"),
}

# Gets a new certificate. Where a hook hangs, the time of timeout(1) is over at once.
WITH_HOOKS = """
rm -f /run/hangs /run/asked
/usr/local/lib/port587/certificates --force & program=$!
while kill -0 $program 2>/dev/null; do
    [ ! -e /run/hangs ] || pkill -ALRM -x timeout
    sleep 0.1
done
! pgrep -f 'sleep 765[4]' || exit 99
wait $program
"""

# What a certbot leaves that was killed while it wrote, in its directory.
HALF_WRITTEN = {
    "description": ": > renewal/$name.conf",
    "chain": "truncate -s 200 $(readlink -f live/$name/fullchain.pem)",
    "nothing but directories": "rm renewal/$name.conf live/$name/* archive/$name/*",
}


@pytest.mark.one_host
@pytest.mark.usefixtures("as_converged")
def test_hooks_that_fail_or_hang(site, tmp_path):
    """What was served is served on, and the next turn gets a new certificate."""
    hook = tmp_path / "hook"
    hook.write_text(HOOK % {"server": site.client_address, **site.key})
    values = {"certificates_acme_challenge": "hook", "certificates_acme_hook": str(hook), "certificates_names": []}
    site.do("apt-get -q -y --no-install-recommends install python3-dnspython")
    played = site.play(**values)
    assert played.code == 0, played.output
    site.do(
        "mv /etc/port587/acme/hook /root/good; touch /etc/letsencrypt/cli.ini; cp -p /etc/letsencrypt/cli.ini /root/;"
        r" printf '\ndeploy-hook = /root/deploy\n' >> /etc/letsencrypt/cli.ini"
    )
    try:
        for name, (lines, deploy, is_new, words) in HOOKS.items():
            write_hook(site, "/root/deploy", lines if deploy else "")
            more = "" if deploy else lines
            write_hook(site, "/etc/port587/acme/hook", "touch /run/asked", more, 'exec /root/good "$@"')
            # for one of a hundred orders Pebble is content with what the one before has shown
            for _ in range(3):
                before = site.handshake(993)["serialNumber"]
                done = site.host.run("bash -c %s", WITH_HOOKS)
                if site.host.file("/run/asked").exists:
                    break
            said = done.stdout + done.stderr
            assert (done.rc, words in said) == (bool(words), True), f"{name}: {said}"
            assert (site.handshake(993)["serialNumber"] != before) is is_new, f"{name}: {said}"
            if words:
                assert words in site.state()["error"]
        assert "certbot was killed" in site.verify()["renewal-failed"]["seen"]
    finally:
        site.do("mv /root/cli.ini /etc/letsencrypt/; mv /root/good /etc/port587/acme/hook")
    assert site.renew()[0] == 0
    assert site.state()["error"] == ""


@pytest.mark.one_host
def test_half_written_files(site):
    """They are set aside, and the certificate keeps its name."""
    for name, spoil in HALF_WRITTEN.items():
        before = site.serial()
        site.do(f"cd /var/lib/port587/acme/*_14000_*/ && name=ecdsa && {spoil}")
        code, said = site.renew()
        assert (code, site.serial() != before) == (0, True), f"{name}: {said}"
    assert site.do("cd /var/lib/port587/acme/*_14000_*/ && ls live | grep '^ecdsa'").split() == ["ecdsa"]


def write_hook(site, path, *lines):
    site.do("cat > %s <<'E'\n#!/bin/sh\n%s\nE\nchmod 700 %s" % (path, "\n".join(lines), path))


@pytest.mark.one_host
@pytest.mark.usefixtures("as_converged")
def test_without_a_certificate_another_one_stands_in(site):
    """The name is not in DNS yet; when it is, the server gets its certificate without a play."""
    later, ca = f"mx.{site.domain}", site.variables["certificates_ca_file"]
    values = {"certificates_hostname": later, "certificates_names": []}
    # the web server was told of that name by nobody
    site.do("systemctl stop nginx")
    try:
        played = site.play(**values)
        assert played.code == 0, played.output
        assert "another one stands in" in in_one_line(played)
        assert later in in_one_line(played).split("another one stands in")[1]
        waiting = Site(site.host, later)
        assert waiting.serial(*MAIL, ca=ca)
        found = site.verify()
        assert later in found["certificate-not-issued"]["seen"]
        assert site.renew()[0] == 1

        site.lead(later, site.server.address)
        # as the timer does: nothing has to be told that it is time
        site.do("systemctl start port587-certificates.service")
        assert waiting.serial(*MAIL)
        assert site.state()["stand_in"] is False
    finally:
        site.lead(later)
        site.do("systemctl start nginx")


@pytest.mark.one_host
def test_no_timer(site):
    site.do("systemctl stop port587-certificates.timer")
    assert site.verify()["renewal-off"]["verdict"] == "warn"
    played = site.play()
    assert (played.code, played.changed) == (0, 1), played.output
    assert site.verify() == {}


@pytest.mark.one_host
def test_from_files_and_back(site, tmp_path):
    before = site.serial()
    site.do(
        "cd /root; openssl req -x509 -newkey rsa:2048 -nodes -days 90 -keyout files.key -out files.pem"
        f" -subj /CN={site.name} -addext subjectAltName=DNS:{site.name}"
    )
    for name in ("files.key", "files.pem"):
        (tmp_path / name).write_text(site.do(f"cat /root/{name}"))
    files = {
        "certificates_files_key": str(tmp_path / "files.key"),
        "certificates_files_chain": str(tmp_path / "files.pem"),
    }
    values = {"certificates_source": "files", "certificates_acme_ca": "", "certificates_names": [], **files}
    predicted = site.play("--check", **values)
    played = site.play(**values)
    assert (played.code, played.changed) == (0, 1), played.output
    assert (predicted.code, predicted.changed) == (0, 1), predicted.output
    assert site.serial(ca=str(tmp_path / "files.pem"))
    units = "/etc/systemd/system/port587-certificates* /etc/systemd/system/*/port587-certificates*"
    left = f"/usr/local/lib/port587/certificates* /etc/port587/acme {units}"
    assert site.do(f"find {left} -type f -o -type l 2>/dev/null; true") == ""
    assert not site.host.service("port587-certificates.timer").is_running
    assert "not-found" in site.do("systemctl show -p LoadState port587-certificates.timer")
    assert site.play(**values).changed == 0

    # and from a CA of the server's own
    own = site.variables["certificates_ca_file"]
    played = site.play(certificates_source="selfsigned", certificates_acme_ca="", certificates_names=[])
    assert played.code == 0, played.output
    assert site.serial(ca=own)
    assert not site.host.service("port587-certificates.timer").is_running

    # the certificate of before is still good: the authority is not troubled
    played = site.play(certificates_acme_email=f"eve@{site.domain}")
    assert played.code == 0, played.output
    assert site.serial() == before
    assert site.host.service("port587-certificates.timer").is_running
    # which has been told of another address to write to
    assert "could not be sent" not in played.output
    assert site.domain in site.do("grep -h eve@ /var/lib/port587/acme/*_14000_*/email.json")
