# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The resolver: only the mail server's programs use it, and it refuses records with invalid signatures."""

import controller
from conftest import MAIL_HOSTS, SCENARIO, Site, comes_back, machine, site
from mailclient import token, until
from test_internet import read_at_exim, variables, write

SITE = SCENARIO.parents[1] / "playbooks/site.yml"


def test_the_rest_of_the_machine_asks_as_before(here: Site) -> None:
    """The mail of all the other tests finds its way by names that only our resolver knows."""
    assert here.host.run("getent ahosts mail.exim.test").rc == 2
    assert "nameserver 127.0.0.1" not in here.host.check_output("cat /etc/resolv.conf").splitlines()


def test_a_new_lease_takes_it_away_from_nobody(here: Site) -> None:
    """What the distribution's hooks for network interfaces do."""
    here.host.check_output("cp /etc/resolv.conf /var/spool/postfix/etc/resolv.conf && systemctl reload postfix")
    word = token()
    write(here, "reader@exim.test", word)
    read_at_exim(machine("exim"), word)


def test_what_is_not_signed_as_it_should_be_does_not_exist(here: Site) -> None:
    zones = "/var/cache/bind/zones"
    dns = machine("dns")
    dns.check_output(
        "echo 'bogus.test. MX 10 mail.exim.test.' >/var/cache/bind/published/bogus.test.zone && zones.sh"
        f" && sed -i 's/MX\\(.*\\)10 mail.exim.test/MX\\1 20 mail.exim.test/' {zones}/bogus.test.signed && rndc reload"
    )
    try:
        assert dns.check_output("dig +short bogus.test mx @localhost") == "20 mail.exim.test."
        word = token()
        write(here, "reader@bogus.test", word)
        (waiting,) = here.waits(word)
        assert "Name service error for name=bogus.test type=MX: Host not found, try again" in waiting
    finally:
        here.host.check_output("postsuper -d ALL 2>&1")
        dns.check_output("rm /var/cache/bind/published/bogus.test.zone && zones.sh")


def test_what_is_said_of_it(here: Site) -> None:
    def inspected() -> str:
        return controller.end(
            controller.start("ansible", here.name, "all", "--module-name=port587.mail.inspect_info")
        ).output

    well = inspected()
    assert "step: resolver" in well
    assert "resolver-" not in well
    here.host.check_output("systemctl stop unbound")
    try:
        assert "resolver-fails" in inspected()
    finally:
        here.host.check_output("systemctl start unbound")


def test_it_comes_back(here: Site) -> None:
    comes_back(here, unbound=(53, "", ""))


def test_switched_off_and_on() -> None:
    here = site(MAIL_HOSTS[-1])
    own = "/etc/unbound/port587.conf /etc/port587/resolv.conf /etc/systemd/system/postfix*.service.d/port587.conf"
    done = controller.play(SITE, here.name, **{**variables(), "mail_resolver": False})
    assert done.code == 0, done.output
    assert here.host.run("systemctl is-active unbound").stdout == "inactive\n"
    assert here.host.run("systemctl is-enabled unbound").stdout == "disabled\n"
    assert here.host.run(f"ls {own}").stdout == ""
    here.host.check_output("cmp /etc/resolv.conf /var/spool/postfix/etc/resolv.conf")
    write(here, "reader@exim.test", token())
    log = "journalctl --since=-60s -q -o cat -t postfix/smtp"
    # Docker knows the machine by this name, and nothing of its MX record
    for lines in until(lambda: here.host.check_output(log)):
        if "relay=exim.test[" in lines:
            break
    assert "relay=exim.test[" in lines

    done = controller.play(SITE, here.name, **variables())
    assert (done.code, done.changed > 0) == (0, True), done.output
    done = controller.play(SCENARIO / "part.yml", here.name, **variables(), parts=["unbound", "rspamd", "postfix"])
    assert (done.code, done.changed) == (0, 0), done.output
    word = token()
    write(here, "reader@exim.test", word)
    read_at_exim(machine("exim"), word)
