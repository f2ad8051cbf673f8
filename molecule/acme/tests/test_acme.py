# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A certificate that is issued and renewed by a real authority (Pebble), as the clients of every port see it."""

testinfra_hosts = ["mail"]


def test_every_port_shows_the_issued_chain(site):
    names = site.names()
    assert site.serial()
    # the second domain has no such names in DNS, which keeps nobody else from theirs
    assert sorted(names) == sorted(
        f"{name}.{site.domain}" for name in ("mail", "autoconfig", "autodiscover", "mta-sts")
    )
    assert set(site.state()["missing"]) == {
        f"{name}.second-{site.domain}" for name in ("autoconfig", "autodiscover", "mta-sts")
    }
    assert site.state()["stand_in"] is False


def test_timer(site):
    assert site.host.service("port587-certificates.timer").is_running
    assert site.host.service("port587-certificates.timer").is_enabled
    # nothing is due: nobody is asked, nothing is touched
    before = site.do("ls -l --time-style=full-iso /etc/port587/tls /var/lib/port587/acme.json")
    site.do("systemctl start port587-certificates.service")
    assert site.do("ls -l --time-style=full-iso /etc/port587/tls /var/lib/port587/acme.json") == before
