# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The first start of Thunderbird, on a screen, with an empty profile."""

import json
import socket
import subprocess
import time
import typing as t

import pytest
from conftest import Desktop, Site
from mailclient import mail, received, submit, token
from marionette import Marionette

testinfra_hosts = ["ansible://mail"]

POLICIES = "/etc/thunderbird/policies/policies.json"
SERVICES = """
    const {MailServices} = ChromeUtils.importESModule("resource:///modules/MailServices.sys.mjs");
    const account = MailServices.accounts.accounts.find(one => one.defaultIdentity);
    const outgoing = MailServices.outgoingServer.servers[0]?.QueryInterface(Ci.nsISmtpServer);
"""
#: nsMsgSocketType and nsMsgAuthMethod
NO_TLS, STARTTLS, TLS, NORMAL_PASSWORD = 0, 2, 3, 3


class Thunderbird(Marionette):
    """A new one on the desktop."""

    desktop: Desktop

    def photograph(self, name: str) -> None:
        """What is on the screen, dialogues and all."""
        self.desktop.machine.check_output("DISPLAY=:99 import -window root /tmp/screen.png")
        self.desktop.keep("/tmp/screen.png", name)

    def has_set_up(self) -> t.Dict[str, t.Any]:
        return self.run(
            SERVICES
            + """
            const incoming = account?.incomingServer;
            return account && {
              incoming: [incoming.type, incoming.hostname, incoming.port,
                incoming.socketType, incoming.username, incoming.authMethod],
              outgoing: [outgoing.hostname, outgoing.port, outgoing.socketType, outgoing.username, outgoing.authMethod],
              from: [account.defaultIdentity.fullName, account.defaultIdentity.email],
            };
            """
        )

    def sends_on(self, port: int, security: int) -> None:
        """Change that in the settings."""
        script = "[outgoing.port, outgoing.socketType] = arguments; outgoing.closeCachedConnections();"
        self.run(SERVICES + script, port, security)

    def sends(self, recipient: str, subject: str) -> str:
        """Write a mail and press Send. What Thunderbird says if that fails."""
        self.run(
            SERVICES
            + """
            const fields = Cc["@mozilla.org/messengercompose/composefields;1"].createInstance(Ci.nsIMsgCompFields);
            [fields.to, fields.subject, fields.body] = [arguments[0], arguments[1], "Hello."];
            const parameters = Cc["@mozilla.org/messengercompose/composeparams;1"]
              .createInstance(Ci.nsIMsgComposeParams);
            parameters.composeFields = fields;
            parameters.identity = account.defaultIdentity;
            MailServices.compose.OpenComposeWindowWithParams(null, parameters);
            """,
            recipient,
            subject,
        )
        # the window is there before it is ready
        self.wait(
            """
            const compose = Services.wm.getMostRecentWindow("msgcompose");
            if (!compose?.gWindowLock === false || !compose?.document.querySelector(".address-pill")) return false;
            // not from here: a dialogue that comes up would hold this script
            compose.setTimeout(() => compose.goDoCommand("cmd_sendNow"), 500);
            return true;
            """
        )
        time.sleep(1)
        return self.wait(
            """
            const all = [...Services.wm.getEnumerator(null)];
            const dialogue = all.find(one => one.location.href.includes("commonDialog"));
            if (dialogue) return dialogue.document.documentElement.textContent;
            return Services.wm.getMostRecentWindow("msgcompose") ? "" : "sent";
            """
        )

    def closes_the_dialogue_and_the_mail(self) -> None:
        self.run(
            """
            const all = [...Services.wm.getEnumerator(null)];
            const dialogue = all.find(one => one.location.href.includes("commonDialog"));
            dialogue.setTimeout(() => dialogue.close());
            """
        )
        self.wait(
            """
            const compose = Services.wm.getMostRecentWindow("msgcompose");
            // what is being sent or saved still is asked about, and that question would hold this script
            if (compose && !compose.gSendOperationInProgress && !compose.gSaveOperationInProgress) {
              compose.gMsgCompose.bodyModified = compose.gContentChanged = false;
              compose.setTimeout(() => compose.close());
            }
            return !compose;
            """
        )

    def shows_the_mail(self, subject: str) -> str:
        """Get messages, click on the one, read it."""
        self.run(
            SERVICES
            + """
            const inbox = account.incomingServer.rootFolder.getFolderWithFlags(Ci.nsMsgFolderFlags.Inbox);
            document.getElementById("tabmail").currentAbout3Pane.displayFolder(inbox.URI);
            goDoCommand("cmd_getNewMessages");
            """
        )
        return self.wait(
            """
            const pane = document.getElementById("tabmail").currentAbout3Pane;
            for (let row = 0; row < (pane.gDBView?.rowCount ?? 0); row++) {
              const subject = pane.gDBView.getMsgHdrAt(row).mime2DecodedSubject;
              if (subject == arguments[0]) pane.threadTree.selectedIndex = row;
            }
            const message = pane.messageBrowser?.contentWindow;
            if (message?.gMessage?.mime2DecodedSubject != arguments[0]) return false;
            return message.getMessagePaneBrowser().contentDocument.body?.innerText;
            """,
            subject,
        )


Start = t.Callable[..., Thunderbird]


@pytest.fixture
def start(site: Site, desktop: Desktop) -> t.Iterator[Start]:
    """Start Thunderbird with an empty profile; `trusting`: with the server's authority imported."""
    machine, variables = desktop
    running = []

    def run(trusting: bool = True) -> Thunderbird:
        certificates = [f"/usr/local/share/ca-certificates/{site.server.name}.crt"] if trusting else []
        policies = {"Certificates": {"Install": certificates}, "DisableAppUpdate": True, "DisableTelemetry": True}
        desktop.write(POLICIES, json.dumps({"policies": policies}))
        machine.check_output("systemctl stop thunderbird; rm -rf /tmp/profile && mkdir /tmp/profile")
        machine.check_output("systemctl is-active screen || systemd-run --unit screen Xvfb :99 -screen 0 1280x900x24")
        machine.check_output(
            "systemd-run --unit thunderbird --collect --setenv=DISPLAY=:99 --setenv=HOME=/root --setenv=LANG=C.UTF-8"
            " dbus-run-session thunderbird --profile /tmp/profile --no-remote -marionette --remote-allow-system-access"
        )
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        tunnel = subprocess.Popen(
            [
                "ssh",
                *variables["ansible_ssh_common_args"].split(),
                *("-i", variables["ansible_ssh_private_key_file"], "-o", "ExitOnForwardFailure=yes"),
                *("-N", "-L", f"{port}:127.0.0.1:2828", f"root@{variables['ansible_host']}"),
            ]
        )
        running.append(tunnel)
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.2)
        thunderbird = Thunderbird(port)
        thunderbird.desktop = desktop
        return thunderbird

    yield run
    machine.run("systemctl stop thunderbird")
    for tunnel in running:
        tunnel.terminate()
        tunnel.wait()


def test_an_address_and_a_password_are_enough(site: Site, start: Start) -> None:
    alice, bob, subject, answer = site.account("alice"), site.account("bob"), token(), token()
    thunderbird = start()
    thunderbird.types("realName", "Alice")
    thunderbird.types("email", alice.address)
    thunderbird.clicks("forward")

    # it has found them itself, and says so
    shown = thunderbird.reads("Account settings found automatically.", "IMAP", "Outgoing")
    thunderbird.photograph("thunderbird-found.png")
    incoming, outgoing = shown[shown.index("Incoming") : shown.index("Outgoing")], shown[shown.index("Outgoing") :]
    assert [site.server.name, "993", "SSL/TLS", alice.address, "Normal Password"] == incoming[3::2]
    assert [site.server.name, "587", "STARTTLS", alice.address, "Normal Password"] == outgoing[3:12:2]

    thunderbird.clicks("forward")
    thunderbird.types("password", alice.password)
    thunderbird.clicks("forward")
    # both servers were tried, or it would not be content
    thunderbird.reads("Finish")
    thunderbird.clicks("forward")
    assert thunderbird.has_set_up() == {
        "incoming": ["imap", site.server.name, 993, TLS, alice.address, NORMAL_PASSWORD],
        "outgoing": [site.server.name, 587, STARTTLS, alice.address, NORMAL_PASSWORD],
        "from": ["Alice", alice.address],
    }

    assert thunderbird.sends(bob.address, subject) == "sent"
    (sent,) = received(site.server, bob, subject)
    assert b"Received: " in sent
    submit(site.server, bob, alice.address, mail(bob.address, alice.address, answer, b"Hello Alice.\r\n"))
    assert "Hello Alice." in thunderbird.shows_the_mail(answer)
    thunderbird.photograph("thunderbird-answer.png")


def test_typed_in_by_hand(site: Site, start: Start) -> None:
    bob, subject = site.account("bob"), token()
    thunderbird = start()
    thunderbird.types("realName", "Bob")
    thunderbird.types("email", bob.address)
    thunderbird.clicks("forward")
    thunderbird.clicks("editConfiguration")
    for name, value in {
        "incomingHostname": site.server.name,
        "incomingPort": "993",
        "incomingConnectionSecuritySelect": str(TLS),
        "incomingAuthMethodSelect": str(NORMAL_PASSWORD),
        "incomingUsername": bob.address,
    }.items():
        thunderbird.types(name, value)
    thunderbird.clicks("forward")
    for name, value in {
        "outgoingHostname": site.server.name,
        "outgoingPort": "587",
        "outgoingConnectionSecuritySelect": str(STARTTLS),
        "outgoingAuthMethodSelect": str(NORMAL_PASSWORD),
        "outgoingUsername": bob.address,
    }.items():
        thunderbird.types(name, value)
    # "Test"; before that there is no going on
    thunderbird.clicks("custom")
    thunderbird.photograph("thunderbird-by-hand.png")
    thunderbird.clicks_until("forward", "password")
    thunderbird.types("password", bob.password)
    thunderbird.clicks("forward")
    thunderbird.reads("Finish")
    thunderbird.clicks("forward")
    assert thunderbird.has_set_up()["outgoing"] == [site.server.name, 587, STARTTLS, bob.address, NORMAL_PASSWORD]
    assert thunderbird.sends(site.account("alice").address, subject) == "sent"
    assert received(site.server, site.account("alice"), subject)

    # what old instructions say
    thunderbird.sends_on(25, NO_TLS)
    assert "Relay access denied" in thunderbird.sends("somebody@elsewhere.example", token())
    thunderbird.photograph("thunderbird-25.png")
    thunderbird.closes_the_dialogue_and_the_mail()
    thunderbird.sends_on(587, STARTTLS)
    assert thunderbird.sends("somebody@elsewhere.example", token()) == "sent"


def test_without_the_authority_no_password_is_given_away(site: Site, start: Start) -> None:
    """The certificates were verified above."""
    alice = site.account("alice")
    thunderbird = start(trusting=False)
    thunderbird.types("realName", "Alice")
    thunderbird.types("email", alice.address)
    thunderbird.clicks("forward")
    thunderbird.reads("Account settings found automatically.")
    thunderbird.clicks("forward")
    thunderbird.types("password", alice.password)
    thunderbird.clicks("forward")
    asks = thunderbird.wait(
        """
        const all = [...Services.wm.getEnumerator(null)];
        const dialogue = all.find(one => one.location.href.includes("exceptionDialog"));
        return dialogue?.document.getElementById("locationTextBox").value;
        """
    )
    thunderbird.photograph("thunderbird-untrusted.png")
    assert asks == f"{site.server.name}:993"
    assert not thunderbird.has_set_up()
