# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Orders from the authority, parsing of certbot's output, and the renewal program without Ansible."""

import datetime
import os
import socket
import subprocess
import sys
import typing as t

import pytest
from ansible_collections.port587.mail.plugins.module_utils._certificate import (
    acme,
    certbot,
    challenge,
    orders,
    renewal,
    served,
)
from ansible_collections.port587.mail.plugins.module_utils._certificate.acme import Settings
from ansible_collections.port587.mail.plugins.module_utils._certificate.certificate import Facts, Pair
from ansible_collections.port587.mail.plugins.module_utils._server.proc import Socket

SETTINGS = Settings(
    ["mail.example.com", "autoconfig.example.com"],
    "ecdsa",
    "https://ca.example.com:14000/dir",
    "eve@example.com",
    "http",
)


def pair(names: t.Sequence[str] = SETTINGS.names, age: float = 0, days: float = 90) -> Pair:
    begins = acme.now() - datetime.timedelta(days=age)
    ends = begins + datetime.timedelta(days=days)
    return Pair([], "", Facts("CN=x", list(names), "CN=y", "ECDSA 256 bit", begins, ends))


# What certbot 1.12 and 4.0 say, with the names changed.
REFUSED_1 = """\
Saving debug log to /var/log/letsencrypt/letsencrypt.log
Plugins selected: Authenticator standalone, Installer None
Obtaining a new certificate
Performing the following challenges:
http-01 challenge for mail.example.com
Waiting for verification...
Challenge failed for domain mail.example.com
http-01 challenge for mail.example.com
Cleaning up challenges
Some challenges have failed.
IMPORTANT NOTES:
 - The following errors were reported by the server:

   Domain: mail.example.com
   Type:   connection
   Detail: Fetching http://mail.example.com/.well-known/acme-challenge/x:
   Connection refused

   To fix these errors, please make sure that your domain name was
   entered correctly and the DNS A/AAAA record(s) for that domain
   contain(s) the right IP address.
"""
REFUSED_4 = """\
Saving debug log to /var/log/letsencrypt/letsencrypt.log
Requesting a certificate for mail.example.com and autoconfig.example.com

Certbot failed to authenticate some domains (authenticator: standalone). The Certificate Authority said:
  Domain: mail.example.com
  Type:   connection
  Detail: Fetching http://mail.example.com/.well-known/acme-challenge/x: Connection refused
  Domain: autoconfig.example.com
  Type:   dns
  Detail: NXDOMAIN looking up A for autoconfig.example.com

Hint: The Certificate Authority failed to download the challenge files from the temporary standalone webserver.

Some challenges have failed.
Ask for help or search for solutions at https://community.letsencrypt.org. See the logfile for details.
"""


def test_names_that_were_refused():
    connection = "Fetching http://mail.example.com/.well-known/acme-challenge/x: Connection refused (connection)"
    assert certbot.refusals(REFUSED_1) == {"mail.example.com": connection}
    assert certbot.refusals(REFUSED_4) == {
        "mail.example.com": connection,
        "autoconfig.example.com": "NXDOMAIN looking up A for autoconfig.example.com (dns)",
    }
    assert certbot.words(REFUSED_1) == "mail.example.com: " + connection


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (
            "Saving debug log to /var/log/x\nRequesting a certificate for mail.example.com\n"
            "An unexpected error occurred:\nrequests.exceptions.ConnectionError: Connection refused\n"
            "Ask for help or search for solutions at https://community.letsencrypt.org.\n",
            "An unexpected error occurred: requests.exceptions.ConnectionError: Connection refused",
        ),
        ("", "certbot gives no reason"),
    ],
)
def test_words_without_talk(said, words):
    assert certbot.words(said) == words


HOOK_1 = """\
Performing the following challenges:
dns-01 challenge for mail.example.com
Running manual-auth-hook command: /etc/port587/acme/hook auth
manual-auth-hook command "/etc/port587/acme/hook auth" returned error code 3
Error output from manual-auth-hook command hook:
no such zone
Waiting for verification...
"""
HOOK_4 = """\
Hook '--manual-auth-hook' for mail.example.com reported error code 3
Hook '--manual-auth-hook' for mail.example.com ran with error output:
 Traceback:
 no such zone
Hook '--manual-cleanup-hook' for mail.example.com reported error code 1
"""


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (HOOK_1, "The hook failed: exit code 3, no such zone. "),
        (HOOK_4, "The hook failed: exit code 3, no such zone. "),
        (HOOK_4.splitlines()[0], "The hook failed: exit code 3. "),
        (HOOK_4.splitlines()[-1], ""),
        (REFUSED_4, ""),
    ],
)
def test_hooks_that_fail(said, words):
    assert certbot.failed_hook(said) == words


@pytest.mark.parametrize(("listens", "reached"), [("0.0.0.0", "127.0.0.1"), ("::", "::1"), ("192.0.2.1", "192.0.2.1")])
def test_where_a_web_server_is_reached(listens, reached):
    assert challenge._own_address(Socket(listens, 80, "7")) == reached


def test_a_name_that_is_not_in_dns_is_left_out(monkeypatch):
    monkeypatch.setattr(challenge, "_on_port_80", lambda: None)

    def only_mail(name: str, port: int) -> t.List[t.Any]:
        if name == "mail.example.com":
            return [name]
        raise socket.gaierror

    monkeypatch.setattr(challenge.socket, "getaddrinfo", only_mail)
    missing = {"autoconfig.example.com": "it is not in DNS"}
    assert orders.names_to_order(SETTINGS, None) == (["mail.example.com"], missing)
    # the certificate has it already: a moment without DNS takes nothing away
    assert orders.names_to_order(SETTINGS, pair()) == (SETTINGS.names, {})
    # nobody has to come to where the name leads
    assert orders.names_to_order(SETTINGS._replace(challenge="nsupdate"), None) == (SETTINGS.names, {})


def test_a_name_that_the_web_server_does_not_know_is_left_out(monkeypatch):
    monkeypatch.setattr(challenge, "_is_in_dns", lambda name: True)
    monkeypatch.setattr(challenge, "_on_port_80", lambda: Socket("127.0.0.1", 80, "7"))
    monkeypatch.setattr(challenge, "_web_server_answers", lambda listener, name: name == "mail.example.com")
    missing = {"autoconfig.example.com": "the web server on port 80 does not answer for it"}
    assert orders.names_to_order(SETTINGS, None) == (["mail.example.com"], missing)


@pytest.mark.parametrize(
    ("present", "why"),
    [
        (None, "there is no valid certificate"),
        (pair(), ""),
        (pair(SETTINGS.names[::-1]), ""),
        (pair(["mail.example.com"]), "for mail.example.com, autoconfig.example.com instead of mail.example.com"),
        (pair(age=59), ""),
        (pair(age=61), "the present one ends on"),
        # as long as certificates of today and tomorrow are: 6, 45 and 64 days
        (pair(age=2.9, days=6), ""),
        (pair(age=3.1, days=6), "the present one ends on"),
        (pair(age=29, days=45), ""),
        (pair(age=31, days=45), "the present one ends on"),
        (pair(age=42, days=64), ""),
        (pair(age=43, days=64), "the present one ends on"),
        (pair(age=540, days=825), ""),
        (pair(age=560, days=825), "the present one ends on"),
    ],
)
def test_when_to_ask(present, why):
    found = acme.why_order(SETTINGS.names, present)
    assert (why in found) if why else (found == "")


def commands(monkeypatch, answers: t.Sequence[t.Tuple[int, str]]) -> t.List[t.List[str]]:
    """Let certbot answer so; returns the names that it is asked for."""
    asked: t.List[t.List[str]] = []
    left = list(answers)

    def run(argv: t.List[str], stdin: t.Optional[bytes] = None) -> t.Tuple[int, str, str]:
        if argv == ["env", "certbot", "--version"]:
            return 0, "certbot 2.1.0\n", ""
        asked.append([name for option, name in zip(argv, argv[1:]) if option == "-d"])
        code, said = left.pop(0)
        return code, "", said

    monkeypatch.setattr(certbot, "run_command", run)
    monkeypatch.setattr(challenge, "_on_port_80", lambda: None)
    return asked


@pytest.fixture(autouse=True)
def _directories(monkeypatch, tmp_path):
    for module in (acme, certbot):
        monkeypatch.setattr(module, "CERTBOT", str(tmp_path / "acme"))
    monkeypatch.setattr(acme, "STATE", str(tmp_path / "acme.json"))


def test_a_refused_name_does_not_keep_the_others(monkeypatch):
    refused = REFUSED_4.replace("mail.example.com", "imap.example.com")
    asked = commands(monkeypatch, [(1, refused), (0, "")])
    report = certbot.order(SETTINGS, ["mail.example.com", "imap.example.com", "autoconfig.example.com"])
    assert asked[1] == ["mail.example.com"]
    assert report.error == ""
    assert sorted(report.missing) == ["autoconfig.example.com", "imap.example.com"]


def test_an_order_that_is_refused_as_a_whole_for_one_name(monkeypatch):
    said = (
        "An unexpected error occurred:\nError creating new order :: Cannot issue for "
        '"autoconfig.example.com": Domain name does not end with a valid public suffix (TLD)\n'
    )
    asked = commands(monkeypatch, [(1, said), (0, "")])
    report = certbot.order(SETTINGS, SETTINGS.names)
    assert asked == [SETTINGS.names, ["mail.example.com"]]
    assert report.error == ""
    assert "valid public suffix" in report.missing["autoconfig.example.com"]


def test_without_the_mail_host_there_is_nothing_to_try_again(monkeypatch):
    asked = commands(monkeypatch, [(1, REFUSED_1)])
    report = certbot.order(SETTINGS, SETTINGS.names)
    assert len(asked) == 1
    assert report == (certbot.words(REFUSED_1), {})


def test_refused_nonces_are_not_the_end(monkeypatch):
    asked = commands(monkeypatch, [(1, "urn:ietf:params:acme:error:badNonce")] * 2 + [(0, "")])
    assert certbot.order(SETTINGS, SETTINGS.names) == ("", {})
    assert len(asked) == 3


def test_an_authority_that_forgot_the_account_gets_a_new_one(monkeypatch, tmp_path):
    accounts = tmp_path / "acme" / "ca.example.com_14000_dir" / "accounts"
    accounts.mkdir(parents=True)
    commands(monkeypatch, [(1, "urn:ietf:params:acme:error:accountDoesNotExist"), (0, "")])
    assert certbot.order(SETTINGS, SETTINGS.names) == ("", {})
    assert not accounts.exists()


@pytest.mark.parametrize(
    ("version", "present", "certbot_is_asked", "forced"),
    [
        # Older ones would get a new one as soon as less than 30 days are left: at every turn, or too early,
        ("1.12.0", pair(age=1, days=6), False, False),
        ("2.1.0", pair(age=16, days=45), False, False),
        ("2.1.0", pair(age=29, days=90), False, False),
        # and too late.
        ("1.12.0", pair(age=4, days=6), True, True),
        ("2.1.0", pair(age=300, days=397), True, True),
        ("2.1.0", pair(["mail.example.com"]), True, False),
        ("2.1.0", None, True, False),
        ("4.0.0", pair(age=1, days=6), False, False),
        # from 4.1 on it knows better itself: it asks the authority
        ("4.1.0", pair(age=1, days=6), True, False),
        ("5.1.0", pair(age=29, days=90), True, False),
    ],
)
def test_who_says_when_to_renew(monkeypatch, version, present, certbot_is_asked, forced):
    asked: t.List[t.List[str]] = []

    def run(argv: t.List[str], stdin: t.Optional[bytes] = None) -> t.Tuple[int, str, str]:
        if argv == ["env", "certbot", "--version"]:
            return 0, "certbot %s\n" % version, ""
        asked.append(argv)
        return 0, "", ""

    monkeypatch.setattr(certbot, "run_command", run)
    monkeypatch.setattr(challenge, "_on_port_80", lambda: None)
    monkeypatch.setattr(certbot, "obtained", lambda settings: present)
    assert certbot.order(SETTINGS, SETTINGS.names) == ("", {})
    assert bool(asked) == certbot_is_asked
    assert any("--force-renewal" in argv for argv in asked) == forced


def asked_when(monkeypatch, present: t.Optional[Pair], patient: bool) -> bool:
    """Whether the authority is asked, when certbot has this."""
    asked = []

    def obtain(settings: Settings, names: t.List[str], force: bool) -> acme.Report:
        asked.append(names)
        return acme.Report("", {"imap.example.com": "refused"} if "imap.example.com" in names else {})

    monkeypatch.setattr(challenge, "_on_port_80", lambda: None)
    monkeypatch.setattr(challenge, "_is_in_dns", lambda name: True)
    monkeypatch.setattr(certbot, "order", obtain)
    monkeypatch.setattr(acme, "obtained", lambda settings: present)
    orders.order_if_due(SETTINGS, patient=patient)
    return bool(asked)


def test_the_timer_asks_twice_a_day_and_at_once_for_what_is_new(monkeypatch):
    # never asked; just now; without any certificate; half a day ago
    assert asked_when(monkeypatch, pair(), patient=True)
    assert not asked_when(monkeypatch, pair(), patient=True)
    assert asked_when(monkeypatch, None, patient=True)
    assert not asked_when(monkeypatch, pair(), patient=True)
    orders.note(SETTINGS, asked=orders.time.time() - 12 * 3600)
    assert asked_when(monkeypatch, pair(), patient=True)
    # a name that could not be asked for before; and one that was refused already
    assert asked_when(monkeypatch, pair(["mail.example.com"]), patient=True)
    orders.note(SETTINGS, refused=["autoconfig.example.com"])
    assert not asked_when(monkeypatch, pair(["mail.example.com"]), patient=True)
    # a person who runs a play has perhaps mended that
    assert asked_when(monkeypatch, pair(["mail.example.com"]), patient=False)
    assert not asked_when(monkeypatch, pair(), patient=False)


def test_names_with_a_certificate_of_their_own(monkeypatch, tmp_path):
    """One order for each; what keeps one of them away is no matter of the others'."""
    monkeypatch.setattr(challenge, "_is_in_dns", lambda name: name != "mail.example.net")
    monkeypatch.setattr(served, "TLS", str(tmp_path))
    asked = commands(monkeypatch, [(1, REFUSED_1.replace("mail.example.com", "mail.example.org")), (0, "")])
    got: t.List[str] = []
    monkeypatch.setattr(
        acme, "pair_in", lambda directory: pair([os.path.basename(directory)[: -len("-ecdsa")]]) if got else None
    )
    settings = SETTINGS._replace(sni=["mail.example.org", "mail.example.net"])
    lacking = orders.order_others(settings)
    assert asked == [["mail.example.org"]]
    assert sorted(lacking) == ["mail.example.net", "mail.example.org"]
    assert lacking["mail.example.net"] == "it is not in DNS"
    assert "Connection refused" in lacking["mail.example.org"]
    # until then the mail host's is shown
    host = pair()._replace(key="key of the host")
    assert [file.content for file in renewal.to_install(settings, host)[2:]] == [b"key of the host"] * 2
    # it is there: nobody is asked, and it is what is shown
    got.append("both")
    assert orders.order_others(settings) == {"mail.example.org": lacking["mail.example.org"]}
    assert len(asked) == 1
    files = renewal.to_install(settings, host)
    assert [file.path for file in files[2:]] == [f"{tmp_path}/mail.example.org.pem", f"{tmp_path}/mail.example.net.pem"]
    assert [file.content for file in files[2:]] == [b"", b""]


def test_a_name_of_its_own_changes_nothing_for_the_host():
    orders.note(SETTINGS, error="NXDOMAIN")
    assert orders.last(SETTINGS._replace(sni=["mail.example.org"]))["error"] == "NXDOMAIN"
    (one,) = acme.others(SETTINGS._replace(sni=["mail.example.org"]))
    assert orders.last(one) == {}
    assert acme.lineage(one).endswith("/live/mail.example.org-ecdsa")
    assert acme.lineage(SETTINGS).endswith("/live/ecdsa")


def test_both_kinds_of_key(monkeypatch, tmp_path):
    monkeypatch.setattr(served, "TLS", str(tmp_path))
    settings = SETTINGS._replace(rsa_too=True, sni=["mail.example.org"])
    rsa, of_one_name = acme.others(settings)
    assert (rsa.names, rsa.key_type, acme.called(rsa)) == (SETTINGS.names, "rsa", "mail.example.com (RSA)")
    assert (of_one_name.names, of_one_name.key_type) == (["mail.example.org"], "ecdsa")
    # who had RSA before goes on with it
    assert acme.lineage(rsa) == acme.lineage(SETTINGS._replace(key_type="rsa"))
    assert orders.last(settings) == orders.last(SETTINGS)
    # it is there, as the only one
    monkeypatch.setattr(acme, "pair_in", lambda path: pair()._replace(key="RSA") if path.endswith("/rsa") else None)
    files = renewal.to_install(settings, pair()._replace(key="ECDSA"))
    assert [(file.path, file.content) for file in files[2:]] == [
        (f"{tmp_path}/rsa.pem", b"RSA"),
        (f"{tmp_path}/mail.example.org.pem", b"ECDSA"),
    ]


@pytest.mark.parametrize(
    ("version", "command"),
    [("0.27.0", ["register", "--update-registration"]), ("0.30.0", ["update_account"]), ("4.0.0", ["update_account"])],
)
def test_another_address_to_write_to(monkeypatch, version, command):
    told = []

    def run(argv: t.List[str], *_more: t.Any) -> t.Tuple[int, str, str]:
        if argv[-1] == "--version":
            return 0, "certbot %s" % version, ""
        told.append(argv)
        return (1, "", "the authority is not there") if len(told) == 1 else (0, "", "")

    monkeypatch.setattr(certbot, "run_command", run)
    # the account is made with it
    assert certbot.update_email(SETTINGS) == ""
    os.makedirs(certbot._accounts(SETTINGS))
    certbot.write_json(certbot._email(SETTINGS), {"email": SETTINGS.email})
    assert certbot.update_email(SETTINGS) == ""
    assert told == []
    # it is told until it has been told
    other = SETTINGS._replace(email="other@example.com")
    assert certbot.update_email(other) == "the authority is not there"
    assert certbot.update_email(other) == certbot.update_email(other) == ""
    assert len(told) == 2
    assert told[1][told[1].index("--email") + 1] == "other@example.com"
    assert [word for word in told[1] if word in ("register", "--update-registration", "update_account")] == command


def test_a_disk_without_room_is_an_answer_too(monkeypatch):
    def full(*_arguments: t.Any, **_more: t.Any) -> None:
        raise OSError(28, "No space left on device", "/var/lib/port587/acme")

    monkeypatch.setattr(certbot.os, "makedirs", full)
    assert "No space left on device" in certbot.order(SETTINGS, SETTINGS.names).error


def test_what_was_said_of_other_names_is_forgotten():
    orders.note(SETTINGS, error="NXDOMAIN")
    assert orders.last(SETTINGS)["error"] == "NXDOMAIN"
    assert orders.last(SETTINGS._replace(names=["mx.example.com"])) == {}


def test_the_program_is_the_same_each_time_and_runs_without_ansible(tmp_path):
    assert renewal.program() == renewal.program()
    program = tmp_path / "certificates"
    program.write_bytes(renewal.program())
    done = subprocess.run(
        [sys.executable, "-I", str(program)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        universal_newlines=True,
        check=False,
    )
    # there are no settings here, but all of the code was found
    assert "ImportError" not in done.stdout
    assert "ModuleNotFoundError" not in done.stdout
    assert "missing" in done.stdout
