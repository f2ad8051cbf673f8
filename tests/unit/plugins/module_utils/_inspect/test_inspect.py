# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The inspection from inside, and how it explains findings from outside."""

import copy
import json
import os
import typing as t

import pytest
from ansible_collections.port587.mail.plugins.module_utils._inspect import dovecot, log, look, postfix
from ansible_collections.port587.mail.plugins.module_utils._inspect.judge import judge
from ansible_collections.port587.mail.plugins.module_utils._probe.join import join
from ansible_collections.port587.mail.plugins.module_utils._probe.records import Record

HEALTHY: t.Dict[str, t.Any] = {
    "time": 1000.0,
    "daemons": {"postfix": {"running": True, "at_boot": True}, "dovecot": {"running": True, "at_boot": True}},
    "listeners": [
        {"port": port, "loopback": False, "program": "master (pid 9)", "ours": True} for port in (25, 465, 587, 993)
    ],
    "message_size_limit": 50_000_000,
    "tables": [{"path": "/etc/aliases", "trouble": ""}],
    "queue": {"messages": 0, "oldest": 0, "reasons": []},
    "resolver": {"chroot": True, "seen": ["192.0.2.53"], "real": ["192.0.2.53"], "trouble": {}},
    "sockets": [
        {"protocol": "sasl", "path": "/q/private/auth", "setting": "smtpd_sasl_path = private/auth", "trouble": ""}
    ],
    "mailboxes": {"path": "/var/vmail", "foreign": []},
    "disks": {"/": {"free": 5 * 10**9, "share": 0.5, "inodes": 0.9, "size": 10**10}},
    "certificates": {"imaps": {"file": "/c.pem", "port": 993, "other": False}},
    "killed": [],
    "restarts": [],
    "too_low": [],
    "log": [],
    "firewall": [],
}
TOO_LOW = {"name": "fs.inotify.max_user_instances", "wanted": 500, "present": 128}
SESSIONS = "master: Warning: service(imap): process_limit (500) reached, client connections are being dropped"
INOTIFY = "imap(eve@example.com): Warning: Inotify instance limit for user 5000 (UID vmail) exceeded, disabling."
TIMED_OUT = "connect to mx.example.org[192.0.2.1]:25: Connection timed out"
NO_NAME = "Host or domain name not found. Name service error for name=example.org type=MX: Host not found, try again"


def found(change: t.Dict[str, t.Any], controller: t.Optional[float] = None) -> t.List[t.Tuple[str, str, str]]:
    records = judge({**copy.deepcopy(HEALTHY), **change}, controller)
    return [(one.verdict, one.component, one.diagnosis) for one in records if one.verdict != "ok"]


def test_a_healthy_server_has_nothing_to_say() -> None:
    assert found({}, 1000.0) == []
    # twice is no habit, and what is long ago is over
    assert found({"restarts": [{"unit": "x.service", "times": 2, "ago": 60.0}]}) == []
    assert found({"restarts": [{"unit": "x.service", "times": 9, "ago": 90000.0}]}) == []
    # the first backup comes within a day
    assert found({"backup": {"since": 990.0, "timer": True}}) == []
    assert found({"backup": {"good": 1000.0 - 25 * 3600, "timer": True, "kind": "", "problem": ""}}) == []
    # nobody has needed more
    assert found({"too_low": [TOO_LOW]}) == []
    assert found({"queue": {"messages": 3, "oldest": 600, "reasons": [{"reason": "greylisted", "count": 3}]}}) == []


def test_a_server_with_nothing_of_mail_is_no_error() -> None:
    nothing = {"time": 0.0, "daemons": {}, "listeners": [], "disks": {}, "certificates": {}, "killed": []}
    nothing.update(restarts=[], too_low=[], log=[], firewall=[])
    assert [one.verdict for one in judge(nothing)] == ["ok"] * 6


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"daemons": {"postfix": {"running": False, "at_boot": True}}}, ("fail", "MTA", "postfix-stopped")),
        ({"daemons": {"dovecot": {"running": True, "at_boot": False}}}, ("warn", "MTA", "not-at-boot")),
        (
            {"listeners": [{"port": 587, "loopback": False, "program": "exim4 (pid 7)", "ours": False}]},
            ("fail", "MSA", "port-taken"),
        ),
        (
            {"listeners": [{"port": 25, "loopback": True, "program": "master (pid 9)", "ours": True}]},
            ("fail", "MTA", "loopback-only"),
        ),
        ({"backup": {"good": 1000.0 - 27 * 3600, "timer": True}}, ("warn", "MRA", "backup-old")),
        ({"backup": {"good": 900.0, "timer": False}}, ("warn", "MRA", "backup-old")),
        ({"backup": {"since": 1000.0 - 27 * 3600, "timer": True}}, ("warn", "MRA", "backup-old")),
        ({"backup": {"good": 900.0, "timer": True, "kind": "full", "problem": "x"}}, ("warn", "MRA", "backup-full")),
        ({"firewall": [{"ports": [587], "by": "ufw", "cure": "x"}]}, ("fail", "network", "host-firewall")),
        (
            {"bans": {"running": True, "banned": ["192.0.2.7"], "here": ["192.0.2.7"]}},
            ("fail", "network", "address-banned"),
        ),
        ({"own_firewall": {"loaded": False}}, ("warn", "network", "firewall-off")),
        ({"bans": {"running": False, "banned": [], "here": []}}, ("warn", "network", "bans-stopped")),
        # some shut it on purpose
        ({"firewall": [{"ports": [4190], "by": "ufw", "cure": "x"}]}, ("warn", "network", "host-firewall")),
        (
            {"sockets": [{"protocol": "sasl", "path": "/q/a", "setting": "x = a", "trouble": "does not exist"}]},
            ("fail", "MSA", "login-socket"),
        ),
        (
            {"sockets": [{"protocol": "lmtp", "path": "/q/a", "setting": "x = a", "trouble": "does not exist"}]},
            ("fail", "MDA", "delivery-socket"),
        ),
        (
            {"sockets": [{"protocol": "policy", "path": "/q/a", "setting": "x = a", "trouble": "does not exist"}]},
            ("fail", "MTA", "policy-socket"),
        ),
        ({"tables": [{"path": "/a", "trouble": "/a.db does not exist"}]}, ("fail", "MTA", "lookup-failed")),
        ({"tables": [{"path": "/a", "trouble": "/a was changed at 12:00, ..."}]}, ("warn", "MTA", "table-stale")),
        (
            {"certificates": {"imaps": {"file": "/c.pem", "port": 993, "other": True}}},
            ("fail", "MRA", "certificate-not-loaded"),
        ),
        (
            {"renewal": {"timer": True, "stand_in": True, "error": "mail.example.com: NXDOMAIN (dns)"}},
            ("warn", "MSA", "certificate-not-issued"),
        ),
        (
            {"renewal": {"timer": True, "lacking": {"mail.example.org": "it is not in DNS"}}},
            ("warn", "MSA", "certificate-not-issued"),
        ),
        ({"renewal": {"timer": True, "error": "429 too many"}}, ("warn", "MSA", "renewal-failed")),
        ({"renewal": {"timer": True, "not_installed": "rolled back"}}, ("warn", "MSA", "renewal-failed")),
        ({"renewal": {"timer": False}}, ("warn", "MSA", "renewal-off")),
        (
            {"queue": {"messages": 1, "oldest": 5 * 3600, "reasons": [{"reason": "so", "count": 1}]}},
            ("warn", "MTA", "queue-stuck"),
        ),
        (
            {"refused_forwards": [{"domain": "example.org", "count": 2, "said": "550 5.7.26 DMARC"}]},
            ("warn", "MTA", "forward-refused"),
        ),
        ({"at_limit": ["eve@example.com: 200 recipients within one hour"]}, ("warn", "MSA", "send-limit")),
        (
            {"queue": {"messages": 1, "oldest": 60, "reasons": [{"reason": TIMED_OUT, "count": 1}], "sent": False}},
            ("fail", "network", "outgoing-25-blocked"),
        ),
        (
            {
                "resolver": {"chroot": True, "seen": ["127.0.0.9"], "real": ["192.0.2.53"]},
                "queue": {"messages": 1, "oldest": 60, "reasons": [{"reason": NO_NAME, "count": 1}]},
            },
            ("fail", "MTA", "resolver-in-chroot"),
        ),
        (
            {"resolver": {"chroot": True, "seen": [], "real": ["192.0.2.53"]}},
            ("warn", "MTA", "resolver-in-chroot"),
        ),
        (
            {
                "resolver": {
                    "chroot": True,
                    "seen": ["127.0.0.1"],
                    "real": ["127.0.0.1"],
                    "trouble": {"127.0.0.1": "answers without having validated"},
                }
            },
            ("fail", "DNS", "resolver-fails"),
        ),
        # less than one and a half of the largest message
        ({"disks": {"/": {"free": 70_000_000, "share": 0.5, "inodes": 1.0, "size": 10**8}}}, ("fail", "", "disk-full")),
        (
            {"disks": {"/": {"free": 4 * 10**8, "share": 0.04, "inodes": 1.0, "size": 10**10}}},
            ("warn", "MDA", "disk-nearly-full"),
        ),
        (
            {"disks": {"/": {"free": 4 * 10**9, "share": 0.4, "inodes": 0.01, "size": 10**10}}},
            ("warn", "MDA", "disk-nearly-full"),
        ),
        ({"killed": ["imap"]}, ("warn", "MDA", "memory-short")),
        ({"log": [{"time": 0.0, "program": "dovecot", "text": SESSIONS}]}, ("warn", "MRA", "sessions-full")),
        ({"restarts": [{"unit": "x.service", "times": 3, "ago": 60.0}]}, ("warn", "MTA", "restarts-often")),
        (
            {"too_low": [TOO_LOW], "log": [{"time": 0.0, "program": "dovecot", "text": INOTIFY}]},
            ("warn", "MRA", "kernel-limit"),
        ),
        (
            {"mailboxes": {"path": "/v", "foreign": [{"path": "/v/d/u", "owner": "root", "wanted": "vmail"}]}},
            ("fail", "MRA", "mailbox-unreadable"),
        ),
    ],
    ids=lambda value: value[2] if isinstance(value, tuple) else "",
)
def test_one_thing_wrong(change: t.Dict[str, t.Any], expected: t.Tuple[str, str, str]) -> None:
    verdict, component, diagnosis = expected
    assert found(change) == [(verdict, component or "MTA", diagnosis)]


DELIVERIES = """\
A1: from=<SRS0=H11G=JR=example.net=eve@mail.example.com>, size=3281, nrcpt=1 (queue active)
B2: from=<eve@example.net>, size=3281, nrcpt=1 (queue active)
C3: from=<bob@example.com>, size=3281, nrcpt=1 (queue active)
A1: to=<kim@example.org>, relay=mx.example.org[192.0.2.1]:25, delay=1, dsn=5.7.1, status=bounced (host mx.example.org[192.0.2.1] said: 550 DMARC says reject (in reply to end of DATA command))
B2: to=<kim@example.org>, orig_to=<k@example.com>, relay=mx.example.org[192.0.2.1]:25, delay=1, dsn=5.7.26, status=bounced (host mx.example.org[192.0.2.1] said: 550 5.7.26 unauthenticated (in reply to end of DATA command))
B2: to=<kim@example.com>, orig_to=<k@example.com>, relay=mx.example.com[192.0.2.1]:25, delay=1, dsn=5.1.1, status=bounced (host mx.example.com[192.0.2.1] said: 550 5.1.1 unknown (in reply to RCPT TO command))
C3: to=<kim@example.net>, relay=mx.example.net[192.0.2.1]:25, delay=1, dsn=5.7.1, status=bounced (host mx.example.net[192.0.2.1] said: 550 SPF fail (in reply to MAIL FROM command))
C3: to=<kim@example.edu>, orig_to=<x@example.com>, relay=mx.example.edu[192.0.2.1]:25, dsn=4.7.1, status=deferred (host mx.example.edu[192.0.2.1] said: 450 SPF)
"""  # noqa: E501


def test_forwards_that_were_refused_because_of_their_sender() -> None:
    """Neither what people here have sent themselves, nor what had another reason, nor what waits."""
    said = "550 5.7.26 unauthenticated (in reply to end of DATA command)"
    assert log.parse_refused(DELIVERIES) == [{"domain": "example.org", "count": 2, "said": said}]
    assert log.parse_refused("") == []


@pytest.mark.parametrize("asked", [log.refused_forwards, log.warnings])
def test_of_a_long_log_the_newest_lines_are_read(asked: t.Callable[[], t.Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """journalctl of systemd 247 takes those of --lines from the oldest on if it has --since, and not --reverse."""
    lines = (
        DELIVERIES.strip().splitlines() if asked is log.refused_forwards else ['{"MESSAGE": "1"}', '{"MESSAGE": "2"}']
    )

    def journal(*arguments: str) -> str:
        limit = next(int(one.partition("=")[2]) for one in arguments if one.startswith("--lines="))
        old = [*["{}"] * limit, *lines]
        return "\n".join((old[::-1] if "--reverse" in arguments else old)[:limit])

    monkeypatch.setattr(log, "_journal", journal)
    if asked is log.refused_forwards:
        assert asked() == log.parse_refused(DELIVERIES)
    else:
        assert [entry["text"] for entry in asked()] == ["1", "2"]


def test_a_name_that_the_certificate_lacks_is_told_and_no_fault() -> None:
    missing = {"autoconfig.example.com": "it is not in DNS"}
    assert found({"renewal": {"timer": True, "missing": missing}}) == []


def test_one_server_that_does_not_answer_is_no_blocked_port() -> None:
    queue = {"messages": 1, "oldest": 60, "reasons": [{"reason": TIMED_OUT, "count": 1}], "sent": True}
    assert found({"queue": queue}) == []
    queue = {"messages": 2, "oldest": 60, "reasons": [{"reason": reason, "count": 1} for reason in (TIMED_OUT, "450")]}
    assert found({"queue": queue}) == []


def test_an_old_password_of_a_person_is_no_fault() -> None:
    walk = {
        "records": [
            Record("imaps", "login", "MUA", "192.0.2.1", 993, "fail", "NO", "login-refused").to_dict(),
            Record("smtp", "connect", "MTA", "192.0.2.1", 25, "ok", "").to_dict(),
        ]
    }
    assert join(walk, [{"own_password": False}])["verdict"] == "fail"
    joined = join(walk, [{"own_password": True}])
    assert joined["verdict"] == "warn"
    assert [one["diagnosis"] for one in joined["findings"]] == ["password-changed"]
    assert [one["diagnosis"] for one in joined["records"]] == ["password-changed", ""]


def test_clocks_are_compared_if_there_are_two() -> None:
    assert found({}, 500.0) == [("fail", "MTA", "clock-wrong")]
    assert found({}) == []


# -- looking ------------------------------------------------------------------------------------------------------

TCP = """  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:0019 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 11 1 0 100 0 0 10 0
   1: 00000000:024B 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 12 1 0 100 0 0 10 0
   2: 0100007F:024B 0100007F:9999 01 00000000:00000000 00:00000000 00000000     0        0 13 1 0 100 0 0 10 0
"""
TCP6 = """  sl  local_address rem_address st tx_queue rx_queue tr tm->when retrnsmt uid timeout inode
   0: 00000000000000000000000000000000:0019 00000000000000000000000000000000:0000 0A 0:0 0:0 0 0 0 21 1 0
   1: 00000000000000000000000001000000:024B 00000000000000000000000000000000:0000 0A 0:0 0:0 0 0 0 22 1 0
"""


def test_listeners(tmp_path: t.Any) -> None:
    (tmp_path / "proc" / "net").mkdir(parents=True)
    (tmp_path / "proc" / "net" / "tcp").write_text(TCP)
    (tmp_path / "proc" / "net" / "tcp6").write_text(TCP6)
    (tmp_path / "proc" / "1").mkdir()
    found = [(one["port"], one["loopback"], one["ours"]) for one in look.listeners(str(tmp_path) + "/")]
    assert sorted(found) == [(25, False, False), (25, True, False), (587, False, False), (587, True, False)]


def test_what_systemd_started_again() -> None:
    said = """\
NRestarts=0
InactiveExitTimestampMonotonic=1000000
Id=postfix.service

NRestarts=12
InactiveExitTimestampMonotonic=90500000
Id=dovecot.service

Id=of.an.old.systemd.service
InactiveExitTimestampMonotonic=0
"""
    assert look.parse_restarts(said, 100.0) == [{"unit": "dovecot.service", "times": 12, "ago": 9.5}]


@pytest.mark.parametrize(
    ("written", "chroot", "path"),
    [
        ("private/auth", True, "/q/private/auth"),
        ("private/auth", False, "/q/private/auth"),
        ("/q/private/auth", False, "/q/private/auth"),
        # the classic mistake
        ("/q/private/auth", True, "/q/q/private/auth"),
    ],
)
def test_a_socket_is_looked_for_where_postfix_does(written: str, chroot: bool, path: str) -> None:
    assert postfix.socket_path(written, "/q", chroot) == path


def test_the_queue_without_addresses() -> None:
    entry = {
        "queue_name": "deferred",
        "arrival_time": 400,
        "sender": "eve@example.com",
        "recipients": [{"address": "x@example.org", "delay_reason": TIMED_OUT}],
    }
    facts = postfix.parse_queue(
        json.dumps(entry) + "\n" + json.dumps(dict(entry, arrival_time=900)) + "\nnonsense\n", 1000
    )
    assert facts == {"messages": 2, "oldest": 600, "reasons": [{"reason": TIMED_OUT, "count": 2}]}


def test_tables(tmp_path: t.Any) -> None:
    text, compiled = tmp_path / "map", tmp_path / "map.db"
    assert "does not exist" in postfix._table_trouble(str(text), str(compiled))
    compiled.write_text("")
    assert postfix._table_trouble(str(text), str(compiled)) == ""
    text.write_text("")
    os.utime(str(text), (1, 1))
    assert postfix._table_trouble(str(text), str(compiled)) == ""
    os.utime(str(compiled), (0, 0))
    assert "was changed" in postfix._table_trouble(str(text), str(compiled))


@pytest.mark.parametrize(
    ("configuration", "paths"),
    [
        ("ssl_alt_cert = </etc/r.pem\nssl_cert = </etc/c.pem\nssl_key = # hidden", ["/etc/c.pem", "/etc/r.pem"]),
        ("ssl_server {\n  alt_cert_file = /etc/r.pem\n  cert_file = /etc/c.pem\n}", ["/etc/c.pem", "/etc/r.pem"]),
        ("ssl_server_cert_file = /etc/c.pem\nssl_server_alt_cert_file = /etc/r.pem", ["/etc/c.pem", "/etc/r.pem"]),
        ("ssl_server_cert_file = /etc/c.pem", ["/etc/c.pem"]),
        ("ssl = no", []),
    ],
)
def test_dovecots_certificates(configuration: str, paths: t.List[str]) -> None:
    assert dovecot.certificates(configuration) == paths


@pytest.mark.parametrize(
    ("main", "paths"),
    [
        ({"smtpd_tls_chain_files": "/c.pem, /r.pem", "smtpd_tls_cert_file": "/old.pem"}, ["/c.pem", "/r.pem"]),
        (
            {"smtpd_tls_chain_files": "", "smtpd_tls_cert_file": "/r.pem", "smtpd_tls_eccert_file": "/c.pem"},
            ["/r.pem", "/c.pem"],
        ),
        ({"smtpd_tls_cert_file": "none"}, []),
    ],
)
def test_postfixs_certificates(main: t.Dict[str, str], paths: t.List[str]) -> None:
    assert postfix.certificates(main) == paths


def test_each_kind_of_key_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def prove(proofs: t.Sequence[t.Any], path: str, deadline: float) -> None:
        asked.append((path, proofs[0].rsa))
        if path == "/stale.pem":
            raise look.ProofError("port 993 (imap): serves another certificate than the one installed")

    monkeypatch.setattr(look, "prove", prove)
    assert look.served("imaps", ["/c.pem"])["other"] is False
    assert look.served("imaps", ["/c.pem", "/stale.pem"]) == {"file": "/stale.pem", "port": 993, "other": True}
    assert asked == [("/c.pem", False), ("/c.pem", True), ("/stale.pem", True)]


def test_log_lines() -> None:
    rows = [
        {"__REALTIME_TIMESTAMP": "1000000", "SYSLOG_IDENTIFIER": "postfix/smtpd", "MESSAGE": "fatal: so"},
        {"__REALTIME_TIMESTAMP": "2000000", "SYSLOG_IDENTIFIER": "x", "MESSAGE": [255, 254]},
    ]
    lines = log.parse_log("\n".join(json.dumps(row) for row in rows))
    assert lines == [{"time": 1.0, "program": "postfix/smtpd", "text": "fatal: so"}]


def test_what_the_kernel_killed() -> None:
    """In the words of Linux 4.15 (Ubuntu 18.04) and of newer ones."""
    old = "Out of memory: Kill process 812 (rspamd) score 900 or sacrifice child\n"
    old += "Killed process 812 (rspamd) total-vm:1000kB, anon-rss:900kB, file-rss:0kB, shmem-rss:0kB\n"
    new = "Out of memory: Killed process 900 (imap) total-vm:1000kB, anon-rss:900kB\n"
    group = "Memory cgroup out of memory: Kill process 7 (smtpd) score 1 or sacrifice child\n"
    assert log.parse_killed(old + new + group) == ["rspamd", "imap", "smtpd"]


# -- joined with what is seen from outside ------------------------------------------------------------------------


def outside(*records: Record) -> t.Dict[str, t.Any]:
    return {"records": [record.to_dict() for record in records], "findings": [], "verdict": "?"}


def connect(service: str, port: int, diagnosis: str = "") -> Record:
    verdict = "fail" if diagnosis else "ok"
    return Record(service, "connect", "MSA", "192.0.2.1", port, verdict, "connection refused", diagnosis)


def joined(change: t.Dict[str, t.Any], *records: Record, log: t.Sequence[t.Any] = ()) -> t.List[t.Dict[str, t.Any]]:
    inside = [record.to_dict() for record in judge({**copy.deepcopy(HEALTHY), **change})]
    findings: t.List[t.Dict[str, t.Any]] = join(outside(*records), [{"records": inside, "log": log}])["findings"]
    return findings


def test_what_the_server_serves_is_rejected_by_somebody_else() -> None:
    (finding,) = joined({}, connect("submission", 587, "submission-closed"))
    assert (finding["component"], finding["diagnosis"]) == ("network", "port-rejected")


def test_the_server_s_own_firewall_is_named_for_what_is_silent() -> None:
    shut = {"firewall": [{"ports": [587, 993], "by": "ufw", "cure": "ufw allow 587,993/tcp"}]}
    silent = [connect("submission", 587, "port-filtered"), connect("imaps", 993, "port-filtered")]
    (finding,) = joined(shut, connect("smtp", 25), *silent)
    assert (finding["component"], finding["diagnosis"]) == ("network", "host-firewall")
    assert finding["endpoints"] == ["192.0.2.1:587", "192.0.2.1:993"]
    assert finding["inside"][0] == "ufw lets nobody in on port 587; to open all that it shuts: ufw allow 587,993/tcp"
    # the provider's may shut another one
    found = joined(shut, *silent, connect("submissions", 465, "port-filtered"))
    assert {one["diagnosis"] for one in found} == {"host-firewall", "port-filtered"}


def test_a_server_that_its_firewall_hides_wholly() -> None:
    ports = {"smtp": 25, "submission": 587, "submissions": 465, "imaps": 993, "pop3s": 995}
    shut = {"firewall": [{"ports": sorted(ports.values()), "by": "ufw", "cure": "x"}]}
    (finding,) = joined(shut, *(connect(name, port, "port-filtered") for name, port in ports.items()))
    assert finding["diagnosis"] == "host-firewall"


def test_what_nobody_listens_on_is_closed() -> None:
    (finding,) = joined({"listeners": []}, connect("submission", 587, "submission-closed"))
    assert (finding["component"], finding["diagnosis"]) == ("MSA", "submission-closed")


def test_a_warning_from_inside_that_explains_a_failure_is_one() -> None:
    refused = Record("submission", "RCPT", "MSA", "192.0.2.1", 587, "fail", "550 5.1.1 unknown", "recipient-unknown")
    stale = {"tables": [{"path": "/a", "trouble": "/a was changed at 12:00, after it was compiled"}]}
    (finding,) = joined(stale, refused)
    assert (finding["verdict"], finding["diagnosis"], finding["hence"]) == (
        "fail",
        "table-stale",
        ["550 5.1.1 unknown"],
    )


def test_seen_from_both_sides_it_is_one_finding() -> None:
    dies = Record("submission", "EHLO", "MSA", "192.0.2.1", 587, "fail", "connection closed", "login-socket")
    gone = {"sockets": [{"protocol": "sasl", "path": "/q/a", "setting": "x = a", "trouble": "does not exist"}]}
    (finding,) = joined(gone, dies)
    assert finding["endpoints"] == ["192.0.2.1:587"]
    assert finding["inside"] == ["x = a, and /q/a: does not exist"]


def test_the_servers_own_words() -> None:
    dies = Record("submission", "EHLO", "MSA", "192.0.2.1", 587, "fail", "connection closed", "login-socket")
    log = [
        {"time": 10.0, "program": "postfix/smtpd", "text": "fatal: no SASL authentication mechanisms"},
        {"time": 500.0, "program": "postfix/smtpd", "text": "warning: SASL: Connect to private/auth failed"},
        {"time": 501.0, "program": "postfix/smtpd", "text": "warning: something else"},
    ]
    (finding,) = joined({}, dies, log=log)
    assert finding["log"] == "postfix/smtpd: warning: SASL: Connect to private/auth failed"


def test_a_host_that_nobody_could_look_into_is_judged_from_outside() -> None:
    closed = connect("submission", 587, "submission-closed")
    (finding,) = join(outside(closed), [{"skipped": True}, {"unreachable": True}])["findings"]
    assert finding["diagnosis"] == "submission-closed"
