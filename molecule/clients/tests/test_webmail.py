# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Webmail in a browser, on a screen and on a phone. Screenshots are kept in .cache/clients."""

import contextlib
import email
import email.policy
import imaplib
import typing as t

import pytest
from conftest import PICTURES, Desktop, Site
from mailclient import Account, Imap, Sieve, deliver, mail, received, token, until
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

testinfra_hosts = ["ansible://mail"]

PORT = 9515
#: Pictures are taken when the page has stopped moving.
STILL = "return document.getAnimations().every(one => one.playState != 'running')"


@pytest.fixture(scope="module")
def driver(desktop: Desktop, trusted: None) -> t.Iterator[str]:
    """The address of the program that starts browsers on the desktop."""
    start = f"systemd-run --quiet --unit=chromedriver chromedriver --port={PORT} --allowed-ips= --allowed-origins=*"
    desktop.machine.check_output(f"{start}; until ss -ltn | grep -q :{PORT}; do sleep 0.1; done")
    yield f"http://{desktop.variables['ansible_host']}:{PORT}"
    desktop.machine.check_output("systemctl stop chromedriver")


class Browser:
    """Chromium with a person's webmail."""

    def __init__(self, driver: webdriver.Remote, site: Site, name: str) -> None:
        self.driver, self.url, self.name = driver, f"https://{site.server.name}/webmail/", name

    def go(self, **query: str) -> None:
        self.driver.get(self.url + "?" + "&".join(f"_{key}={value}" for key, value in query.items()))

    def until(self, script: str, *arguments: t.Any) -> t.Any:
        """Wait until a script of the page says yes."""
        return WebDriverWait(self.driver, 30).until(lambda driver: driver.execute_script(script, *arguments))

    def type(self, selector: str, text: str) -> None:
        self.until("return document.querySelector(arguments[0])?.offsetParent", selector)
        self.driver.find_element(By.CSS_SELECTOR, selector).send_keys(text)

    def photograph(self, page: str) -> None:
        self.until(STILL)
        PICTURES.mkdir(parents=True, exist_ok=True)
        file = PICTURES / f"webmail-{self.name}-{page}.png"
        assert self.driver.get_screenshot_as_file(str(file))
        assert file.stat().st_size > 5000

    def log_in(self, person: Account) -> None:
        self.go()
        self.type("input[name=_user]", person.address)
        self.type("input[name=_pass]", person.password)
        self.photograph("login")
        self.driver.find_element(By.CSS_SELECTOR, "#login-form [type=submit]").click()
        self.until("return window.rcmail?.env.task == 'mail' && rcmail.message_list?.rowcount > 0")

    def complaints(self) -> t.List[str]:
        """What the browser refused or could not do."""
        return [
            entry["message"]
            for entry in self.driver.execute("getLog", {"type": "browser"})["value"]
            if entry["level"] == "SEVERE"
        ]


@contextlib.contextmanager
def browser(driver: str, site: Site, language: str, width: int) -> t.Iterator[Browser]:
    options = webdriver.ChromeOptions()
    for argument in ("headless=new", "no-sandbox", "disable-gpu", f"lang={language}", f"window-size={width},900"):
        options.add_argument(f"--{argument}")
    options.add_experimental_option("prefs", {"intl.accept_languages": language})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    if width < 500:
        metrics = {"deviceMetrics": {"width": width, "height": 800, "pixelRatio": 1}}
        options.add_experimental_option("mobileEmulation", metrics)
    remote = webdriver.Remote(driver, options=options)
    remote.command_executor.add_command("getLog", "POST", "/session/$sessionId/se/log")
    try:
        yield Browser(remote, site, f"{language}-{width}")
    finally:
        remote.quit()


# Roundcube keeps the language of a person's first login
@pytest.mark.parametrize(("name", "language", "width"), [("bob", "ja", 390), ("alice", "en", 1280)])
def test_reads(site: Site, driver: str, name: str, language: str, width: int) -> None:
    person, word = site.account(name), token()
    text = mail(
        "kim@elsewhere.example", person.address, f"=?utf-8?b?44GT44KT44Gr44Gh44Gv?= {word}", "海です。\r\n".encode()
    )
    deliver(site.server, person.address, text)
    received(site.server, person, word)
    with browser(driver, site, language, width) as chromium:
        chromium.log_in(person)
        assert chromium.driver.find_element(By.TAG_NAME, "html").get_attribute("lang")[:2] == language
        assert f"こんにちは {word}" in chromium.driver.find_element(By.ID, "messagelist").text
        chromium.photograph("list")
        rows = "const rows = rcmail.message_list.rows;"
        found = "Object.keys(rows).find(uid => rows[uid].obj.innerText.includes(arguments[0]))"
        chromium.driver.execute_script(f"{rows} rcmail.show_message({found})", word)
        assert "海です。" in chromium.until("return document.querySelector('#messagebody')?.innerText")
        chromium.photograph("mail")
        assert chromium.complaints() == []


def test_writes_and_is_away(site: Site, desktop: Desktop, driver: str) -> None:
    bob, kim, word = site.account("bob"), site.account("kim"), token()
    deliver(site.server, kim.address, mail("eve@elsewhere.example", kim.address, word))
    received(site.server, kim, word)
    desktop.machine.check_output("printf picture > /tmp/photo.png")
    with browser(driver, site, "en", 1280) as chromium:
        chromium.log_in(kim)
        chromium.go(task="mail", action="compose")
        chromium.type(".recipient-input input", bob.address)
        chromium.type("#compose-subject", f"Away {word}")
        chromium.type("#composebody", "To the sea.")
        chromium.driver.find_element(By.CSS_SELECTOR, "#uploadform input[type=file], input[type=file]").send_keys(
            "/tmp/photo.png"
        )
        chromium.until(
            "return Object.keys(rcmail.env.attachments || {}).some(name => rcmail.env.attachments[name].complete)"
        )
        chromium.photograph("compose")
        chromium.driver.execute_script("rcmail.command('send', '', document.createElement('a'))")
        read = email.message_from_bytes(received(site.server, bob, word)[0], policy=email.policy.default)
        assert [one.get_filename() for one in read.iter_attachments()] == ["photo.png"]

        chromium.go(task="settings", action="plugin.managesieve-vacation")
        chromium.type("[name=vacation_reason]", "On the beach.")
        chromium.driver.execute_script("document.querySelector('[name=vacation_status]').value = 'on'")
        chromium.photograph("vacation")
        chromium.driver.execute_script("rcmail.command('plugin.managesieve-save', '', this)")
        with Sieve(site.server).log_in(kim) as sieve:
            for scripts in until(lambda: sieve.say(b"LISTSCRIPTS")):
                if '"webmail" ACTIVE' in scripts:
                    break
            assert '"webmail" ACTIVE' in scripts
        assert chromium.complaints() == []


def test_changes_the_password(site: Site, driver: str) -> None:
    kim, new = site.account("kim"), f"harbour {token()} lamp"
    with browser(driver, site, "en", 1280) as chromium:
        chromium.log_in(kim)
        chromium.go(task="settings", action="plugin.password")
        for field, text in (("curpasswd", kim.password), ("newpasswd", new), ("confpasswd", new)):
            chromium.type(f"#{field}", text)
        chromium.photograph("password")
        chromium.driver.execute_script("rcmail.command('plugin.password-save', '', this)")
        assert "saved" in chromium.until("return document.querySelector('#messagestack')?.innerText")
        assert chromium.complaints() == []
    Imap(site.server).log_in(kim._replace(password=new)).logout()
    with pytest.raises(imaplib.IMAP4.error):
        Imap(site.server).log_in(kim)
