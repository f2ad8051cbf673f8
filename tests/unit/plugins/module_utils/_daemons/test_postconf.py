# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Parsing of postconf's output."""

from ansible_collections.port587.mail.plugins.module_utils._daemons import postconf


def test_parameters() -> None:
    printed = "myhostname = mail.example.com\nrelayhost =\nsmtpd_milters = inet:a=b, unix:c\n\n"
    assert postconf.parse_parameters(printed) == {
        "myhostname": "mail.example.com",
        "relayhost": "",
        "smtpd_milters": "inet:a=b, unix:c",
    }


def test_services_with_their_settings() -> None:
    master = "smtp       inet  n       -       y       -       -       smtpd\n465 inet n - n - - smtpd -o a=b\n"
    overrides = "465/inet/smtpd_tls_wrappermode = yes\n465/inet/smtpd_sasl_path = private/auth\n"
    smtp, submissions = postconf.parse_services(master, overrides)
    assert (smtp.chroot, smtp.settings, submissions.chroot) == (True, {}, False)
    assert submissions.settings == {"smtpd_tls_wrappermode": "yes", "smtpd_sasl_path": "private/auth"}
    assert postconf.parse_services("smtp inet n - - - - smtpd\n", "", chroot_by_default=True)[0].chroot
