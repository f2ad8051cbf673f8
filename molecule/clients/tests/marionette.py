# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Control Thunderbird like a user, through Marionette, Mozilla's remote control."""

import contextlib
import json
import socket
import time
import typing as t

#: A window's document with all that its parts hide in shadow trees, as far as it can be seen.
SEEN = """
    const seen = [];
    (function walk(root) {
      for (const element of root.querySelectorAll("*")) {
        if (element.checkVisibility({visibilityProperty: true}) && element.getClientRects().length) seen.push(element);
        if (element.shadowRoot) walk(element.shadowRoot);
      }
    })(document);
"""


class Marionette:
    """The protocol: `length:[0, number, command, parameters]` there, `length:[1, number, error, result]` back."""

    def __init__(self, port: int, patience: float = 60) -> None:
        end = time.monotonic() + patience
        while True:
            self.socket = socket.create_connection(("127.0.0.1", port), patience)
            self.reader = self.socket.makefile("rb")
            # behind a forwarded port, a connection that nobody takes is closed at once
            if self.reader.peek(1):
                break
            self.socket.close()
            assert time.monotonic() < end, "Thunderbird does not start"
            time.sleep(0.5)
        self.number = 0
        self._read()
        self.call("WebDriver:NewSession", capabilities={})
        self.call("Marionette:SetContext", value="chrome")

    def _read(self) -> t.Any:
        length = b""
        while not length.endswith(b":"):
            more = self.reader.read(1)
            assert more, "Thunderbird is gone"
            length += more
        return json.loads(self.reader.read(int(length[:-1])))

    def call(self, command: str, **parameters: t.Any) -> t.Any:
        self.number += 1
        text = json.dumps([0, self.number, command, parameters]).encode()
        self.socket.sendall(b"%d:%s" % (len(text), text))
        try:
            _kind, _number, error, result = self._read()
        except TimeoutError as exc:
            raise AssertionError(f"no answer to {command} {parameters}") from exc
        assert not error, error
        return result

    def run(self, script: str, *arguments: t.Any) -> t.Any:
        """Run a script in the main window."""
        return self.call("WebDriver:ExecuteScript", script=script, args=list(arguments), newSandbox=False)["value"]

    def wait(self, script: str, *arguments: t.Any, patience: float = 40) -> t.Any:
        """Run it until it returns something."""
        end = time.monotonic() + patience
        while True:
            value = self.run(script, *arguments)
            if value:
                return value
            if time.monotonic() > end:
                raise AssertionError(f"{script} {arguments}: {self.sees()}")
            time.sleep(0.3)

    def quit(self) -> None:
        with contextlib.suppress(OSError, ValueError, AssertionError):
            self.call("Marionette:Quit", flags=["eForceQuit"])
        self.socket.close()

    # what a person does

    def sees(self) -> t.List[str]:
        return self.run(
            SEEN
            + "return seen.filter(one => !one.children.length && one.localName != 'style')"
            + ".map(one => one.textContent.trim()).filter(text => text);"
        )

    def types(self, name: str, value: str) -> None:
        self.wait(
            SEEN
            + """
            const field = seen.find(one => one.id == arguments[0] && !one.disabled);
            if (!field) return false;
            field.focus();
            field.value = arguments[1];
            for (const event of ["input", "change"]) {
              field.dispatchEvent(new Event(event, {bubbles: true, composed: true}));
            }
            return field.value == arguments[1];
            """,
            name,
            value,
        )

    def clicks(self, name: str) -> None:
        self.wait(
            SEEN + "const one = seen.find(one => one.id == arguments[0] && !one.disabled); one?.click(); return !!one;",
            name,
        )

    def clicks_until(self, name: str, following: str) -> None:
        """What is clicked is not ready at once; the next thing to click or to type in says that it was."""
        self.wait(
            SEEN
            + """
            if (seen.some(one => one.id == arguments[1])) return true;
            seen.find(one => one.id == arguments[0] && !one.disabled)?.click();
            """,
            name,
            following,
        )

    def reads(self, *words: str) -> t.List[str]:
        """Wait until all these words are on the screen; what else is there."""
        self.wait(SEEN + "return arguments[0].every(word => seen.some(one => one.textContent.trim() == word));", words)
        return self.sees()
