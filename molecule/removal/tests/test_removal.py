# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A server gets a part and loses it again, and is given back as it was before. The tests follow each other."""

import re
import typing as t

import pytest
from conftest import Vps

#: Everything that can be switched off, with what it brings: a port that listens, a unit, a file.
SWITCHES: t.List[t.Tuple[t.Dict[str, t.Any], t.Dict[str, t.Any], t.List[str]]] = [
    (
        {"mail_rspamd": False},
        {"mail_rspamd": True},
        ["unit rspamd.service active", "/etc/rspamd/override.d/logging.inc "],
    ),
    (
        {"mail_training": False},
        {"mail_training": True},
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
    exim = re.compile("^(/etc/.*exim|unit .*exim|port )")
    before, after = ({line for line in lines if exim.search(line)} for lines in (vps.seen["first"], vps.listing()))
    assert not differences(before, after)
