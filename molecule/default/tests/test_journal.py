# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The log has only warnings of Postfix and Dovecot that these tests provoke."""

import json
import re
import typing as t

import pytest
from mailclient import token, until

testinfra_hosts = ["ansible://mail"]

#: What they may say since the machine was started, and why.
ALLOWED = {
    # -- test_logins.py: wrong passwords
    r"warning: .* SASL (PLAIN|LOGIN) authentication failed": "nobody with a wrong password is let in",
    # -- test_tls.py and test_clients.py: handshakes that have to fail
    r"warning: TLS library problem: .*alert (unknown ca|bad certificate)": "clients without the CA",
    r"warning: TLS library problem: .*(unsupported protocol|version too low)": "a client with TLS 1.1",
    r"warning: TLS library problem: .*no shared cipher": "a client with weak ciphers",
    # -- test_mta.py: syntax that only who has logged in may use
    r"warning: Illegal address syntax from \S+ in MAIL command: somebody@elsewhere\.example": "no brackets, on 25",
    r"warning: TLS library problem: .*(no suitable key share|unknown protocol)": "sslyze with other groups, and SSL 2",
    r"warning: TLS library problem: .*(unexpected message|alert handshake failure)": "sslyze with old attacks on TLS",
    # -- playbooks/verify.yml
    # at a line feed among its random bytes a second command begins
    r"warning: non-SMTP command from ": "TLS to 587 from the first byte, a wrong setting of clients",
    # -- test_changes.py: the play was run again with changed values
    r"master: Warning: SIGHUP received - reloading configuration": "Dovecot was told to reload",
    r"master: Warning: Processes aren't dying after reload": "Postfix and sessions hold on to helpers of before",
    r"master: Warning: (service\(\w+\): )?Sent SIGTERM to \d+ (auth|stats) processes": "so Dovecot ends them",
    r"(auth|stats): Warning: Killed with signal 15 \(by pid=\d+ uid=0 code=kill\)": "and they say so",
    # -- test_quota.py: the program that Postfix asks is stopped
    r"warning: .*port587/recipients": "Postfix says that nobody answers, and goes on",
    # -- test_own_passwords.py: whoever is logged in with the old password is out
    r"imap\(\S+\)(<\S+>)?: Warning: Killed with signal 15 \(by pid=\d+ uid=0 code=kill\)": "kicked, with Dovecot 2.3",
    # -- the machine under the container
    r"warning: file system clock is 1 seconds ahead of local clock": "two clocks that differ by some milliseconds",
    r"warning: resetting file time stamps - this hurts performance": "the same",
    # -- below
    r"warning: said by a test [0-9a-f]{32}$": "shows that a line which is not listed here is noticed",
}


class Line(t.NamedTuple):
    """A line of the journal."""

    who: str
    priority: int
    text: str

    def is_complaint(self) -> bool:
        """Of Postfix, of Dovecot, or of systemd about them; by its priority or by its words."""
        if self.who == "systemd":
            return self.priority <= 4 and re.search("postfix|dovecot", self.text) is not None
        if not self.who.startswith(("postfix", "dovecot")):
            return False
        return self.priority <= 4 or re.search(r"\b(warning|error|fatal|panic): ", self.text, re.IGNORECASE) is not None

    def is_allowed(self) -> bool:
        """By the list above."""
        return any(re.search(pattern, self.text) for pattern in ALLOWED)


def journal(host: t.Any) -> t.Iterator[Line]:
    """All that was said since the machine was started, when the daemons weren't even installed."""
    fields = "--output-fields=SYSLOG_IDENTIFIER,PRIORITY,MESSAGE"
    for entry in map(json.loads, host.check_output(f"journalctl --boot --output=json {fields}").splitlines()):
        text = entry.get("MESSAGE") or ""
        # what is no UTF-8 is a list of bytes
        text = text if isinstance(text, str) else bytes(text).decode("utf-8", "replace")
        yield Line(entry.get("SYSLOG_IDENTIFIER", ""), int(entry.get("PRIORITY", 6)), text)


def test_complains_of_nothing_else(host: t.Any) -> None:
    unexpected = [line for line in journal(host) if line.is_complaint() and not line.is_allowed()]
    assert not unexpected, "\n".join(f"{line.who}: {line.text}" for line in unexpected)


@pytest.mark.parametrize(
    ("who", "how"),
    [("postfix/smtpd", "mail.warning"), ("dovecot", "mail.info"), ("postfix/postfix-script", "mail.err")],
)
def test_complaint_is_noticed(host: t.Any, who: str, how: str) -> None:
    """The test above can fail."""
    text = f"warning: said by a test {token()}"
    host.check_output("logger --priority %s --tag %s %s", how, who, text)
    for lines in until(lambda: list(journal(host))):
        if any(line.text == text and line.is_complaint() for line in lines):
            return
    raise AssertionError(f"{who} complained, and nobody noticed")
