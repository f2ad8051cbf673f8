# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Webmail: people log in, read, write, filter, are away, and change their passwords."""

import email
import email.policy
import imaplib
import re
import typing as t

import pytest
from conftest import Vps
from exposure import too_exposed
from mailclient import Account, Imap, Sieve, Smtp, deliver, mail, received, submit, token, until
from roundcube import Browser

testinfra_hosts = ["ansible://mail"]


@pytest.fixture
def browser(vps: Vps) -> Browser:
    """Alice's, in which she is logged in."""
    browser = Browser(vps.server)
    assert browser.log_in(vps.alice)
    return browser


def test_the_login(vps: Vps) -> None:
    """The page speaks the browser's language, and only the right password opens a mailbox."""
    assert '<html lang="ja"' in Browser(vps.server, "ja").get().text
    assert not Browser(vps.server).log_in(vps.alice._replace(password="wrong"))
    # a name without its domain is enough
    assert Browser(vps.server).log_in(vps.alice._replace(address="alice"))


def test_what_protects_the_session(vps: Vps) -> None:
    browser = Browser(vps.server)
    page = browser.get()
    cookies = page.headers["Set-Cookie"].lower()
    for word in ("secure", "httponly", "samesite=strict", "path=/webmail/"):
        assert word in cookies, cookies
    assert "form-action 'self'" in page.headers["Content-Security-Policy"]
    assert "X-Powered-By" not in page.headers
    # what is not for browsers, and other names
    for path in (
        "config/config.inc.php",
        "SQL/sqlite.initial.sql",
        "program/include/iniset.php",
        "bin/updatedb.sh",
        "plugins/port587/port587.php",
    ):
        assert browser.get(f"/webmail/{path}").status == 404, path
    assert browser.get("/webmail/program/js/app.min.js").status == 200
    # without the page's token, another site has sent it
    assert browser.log_in(vps.alice)
    browser.token = "forged"
    sent = browser.post({"_action": "save-prefs", "_section": "general", "_timezone": "auto"}, task="settings")
    assert "REQUEST CHECK FAILED" in sent.text, sent


def test_reads_and_writes(vps: Vps, browser: Browser) -> None:
    word = token()
    deliver(
        vps.server,
        vps.alice.address,
        mail("kim@elsewhere.example", vps.alice.address, f"=?utf-8?b?44GT44KT44Gr44Gh44Gv?= {word}"),
    )
    received(vps.server, vps.alice, word)
    assert f"こんにちは {word}" in browser.subjects()

    begun = browser.get(task="mail", action="compose")
    page = browser.get(
        begun.headers["Location"].replace("./", "/webmail/").partition("?")[0],
        task="mail",
        action="compose",
        id=re.findall(r"_id=([0-9a-f]+)", begun.headers["Location"])[0],
    )
    compose = page.variables()["compose_id"]
    uploaded = browser.upload(
        "写真.png", b"\x89PNG picture", task="mail", action="upload", id=compose, uploadid=1, remote=1
    )
    assert "add2attachment_list" in uploaded.text, uploaded
    answer = token()
    sender = re.findall(r'<option value="(\d+)" selected', page.text) or re.findall(
        r'name="_from"[^>]*value="(\d+)"', page.text
    )
    form = {
        "_task": "mail",
        "_action": "send",
        "_id": compose,
        "_from": sender[0],
        "_to": vps.bob.address,
        "_subject": f"返事 {answer}",
        "_message": "写真を送ります。",
    }
    sent = browser.post(form, task="mail", framed=1)
    assert "sent_successfully" in sent.text, sent.text[-3000:]
    read = email.message_from_bytes(received(vps.server, vps.bob, answer)[0], policy=email.policy.default)
    assert read["Subject"] == f"返事 {answer}"
    assert [one.get_filename() for one in read.iter_attachments()] == ["写真.png"]
    # nothing of the server or of the browser, and kept among what was sent
    assert "127.0.0.1" not in str(read["Received"])
    assert "User-Agent" not in read
    received(vps.server, vps.alice, answer, "Sent")


def remove_filters(vps: Vps) -> None:
    with Sieve(vps.server).log_in(vps.alice) as sieve:
        sieve.say(b'SETACTIVE ""')
        for line in sieve.say(b"LISTSCRIPTS"):
            if line.startswith('"'):
                sieve.say(b"DELETESCRIPT " + line.encode())


@pytest.fixture
def no_filters(vps: Vps) -> t.Iterator[None]:
    """Alice has none, before and afterwards."""
    remove_filters(vps)
    yield
    remove_filters(vps)


@pytest.mark.usefixtures("no_filters")
def test_filters_and_vacation(vps: Vps, browser: Browser) -> None:
    """What the pages write, Dovecot does."""
    word = token()
    rule = {
        "_task": "settings",
        "_action": "plugin.managesieve-save",
        "_framed": 1,
        "_fid": "",
        "_name": word,
        "_enabled": 1,
        "_join": "allof",
        "_header[]": ["subject"],
        "_rule_op[subject]": "contains",
        "_rule_op[0]": "contains",
        "_rule_target[0]": word,
        "_rule_mod[0]": "",
        "_action_type[]": ["fileinto"],
        "_action_mailbox[0]": "Archive",
    }
    saved = browser.post(rule, task="settings", action="plugin.managesieve-save", framed=1)
    assert "error" not in saved.variables(), saved.text[-3000:]
    away = {
        "_task": "settings",
        "_action": "plugin.managesieve-vacation",
        "vacation_status": "on",
        "vacation_subject": f"Away {word}",
        "vacation_reason": "海にいます。",
        "vacation_interval": 7,
        "vacation_interval_type": "days",
        "vacation_action": "",
        "vacation_addresses[]": [vps.alice.address],
    }
    browser.post(away, task="settings", action="plugin.managesieve-vacation", framed=1)
    with Sieve(vps.server).log_in(vps.alice) as sieve:
        assert '"webmail" ACTIVE' in sieve.say(b"LISTSCRIPTS")
    submit(vps.server, vps.bob, vps.alice.address, mail(vps.bob.address, vps.alice.address, word))
    received(vps.server, vps.alice, word, "Archive")
    received(vps.server, vps.bob, word)


def test_whose_address_counts(vps: Vps) -> None:
    """A wrong login counts where the browser is, also for the bans; a program elsewhere can't claim another address."""
    since = vps.run("date", "+%F %T").strip()
    assert Browser(vps.server).log_in(vps.alice)
    me = vps.run("sh", "-c", "tail -n 1 /var/log/nginx/access.log").split()[0]
    for log in until(lambda: vps.run("journalctl", "--no-pager", "-t", "dovecot", "--since", since)):
        if f"user=<{vps.alice.address}>" in log:
            break
    assert re.search(rf"imap-login: .*user=<{vps.alice.address}>.* rip={re.escape(me)},", log), log
    imap = Imap(vps.server)
    imap.xatom("ID", '("x-originating-ip" "192.0.2.99")')
    imap.log_in(vps.bob).logout()
    assert "192.0.2.99" not in vps.run("journalctl", "--no-pager", "-t", "dovecot", "--since", since)


def change(browser: Browser, old: str, new: str) -> str:
    """What the page says about it."""
    form = {
        "_task": "settings",
        "_action": "plugin.password-save",
        "_curpasswd": old,
        "_newpasswd": new,
        "_confpasswd": new,
    }
    page = browser.post(form, task="settings", action="plugin.password-save")
    return " ".join(re.findall(r'display_message\("(.*?)"', page.text))


def works(vps: Vps, account: Account) -> bool:
    """Whether a password opens everything; it has to be all or nothing."""
    try:
        Imap(vps.server).log_in(account).logout()
        imap = True
    except imaplib.IMAP4.error:
        imap = False
    with Smtp(vps.server, 587) as session:
        smtp = session.authenticate(account).code == 235
    web = Browser(vps.server).log_in(account)
    assert imap == smtp == web, (imap, smtp, web)
    return web


def test_changes_the_password(vps: Vps) -> None:
    dora, new = vps.account("dora"), f"harbour {token()} lamp"
    browser = Browser(vps.server)
    assert browser.log_in(dora)
    assert "incorrect" in change(browser, "not that", new)
    assert "Not changed" in change(browser, dora.password, "password")
    assert "uccessfully saved" in change(browser, dora.password, new)
    assert works(vps, dora._replace(password=new))
    assert not works(vps, dora)
    # whoever changed it stays logged in, and a run leaves it as it is
    assert browser.subjects() is not None
    played = vps.play("converge.yml")
    assert played.code == 0, played.output
    # what other tests have changed comes back
    assert dora.address not in "".join(played.changes().values())
    assert works(vps, dora._replace(password=new))
    assert "uccessfully saved" in change(browser, new, dora.password)


#: What is on the server because of webmail.
TRACES = """
find /etc /run /usr/local /var/cache /var/lib/roundcube/plugins \\
  -path '*port587*webmail*' -print -o -path '*/plugins/port587*' -print
"""


@pytest.mark.one_host
def test_is_switched_off_and_on(vps: Vps, browser: Browser, host: t.Any) -> None:
    """What people have set stays; the service, its files and their sessions go. verify notices when it is down."""
    form = {"_task": "settings", "_action": "save-prefs", "_section": "general", "_timezone": "Asia/Tokyo"}
    assert "uccessfully saved" in browser.post(form, task="settings", action="save-prefs").text
    assert [unit for unit in too_exposed(host, "port587-webmail") if "webmail" in unit] == []
    key = vps.run("cat", "/var/lib/port587-webmail/key").strip()
    vps.run("systemctl", "stop", "port587-webmail")
    down = vps.play("../../playbooks/verify.yml", mail_webmail=True)
    vps.run("systemctl", "start", "port587-webmail")
    assert down.code != 0
    assert "webmail-down" in down.output

    assert "/etc/port587/webmail" in vps.run("sh", "-c", TRACES).split()
    off = vps.play("converge.yml", mail_webmail=False)
    assert off.code == 0
    assert key not in off.output
    assert vps.run("sh", "-c", TRACES, check=False).split() == []
    assert vps.run("ls", "-A", "/var/lib/private/port587-webmail").split() == ["key", "roundcube.sqlite"]
    assert browser.get().status == 404
    assert "login_trusted_networks" not in vps.run("doveconf", "-n")

    on = vps.play("converge.yml")
    assert on.code == 0
    assert key not in on.output
    assert vps.play("webmail.yml", mail_own_passwords=True).changed == 0
    # the session is gone, the setting is not
    assert 'name="_pass"' in browser.get(task="mail").text
    assert browser.log_in(vps.alice)
    assert (
        "Asia/Tokyo"
        in re.findall(
            r'<option value="[^"]*" selected="selected">',
            browser.get(task="settings", action="edit-prefs", section="general").text,
        )[1]
    )
    assert vps.run("cat", "/var/lib/port587-webmail/key").strip() == key
