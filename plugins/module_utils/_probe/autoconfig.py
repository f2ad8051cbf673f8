# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# May run on any vantage host: Python 3.6 and the standard library only.

"""The web server: the automatic configuration of mail clients, which start from an address only, and webmail."""

import re
import typing as t

from ansible_collections.port587.mail.plugins.module_utils._probe.dns import (
    Addresses,
    Lookup,
    is_loopback,
    resolve,
    system_lookup,
)
from ansible_collections.port587.mail.plugins.module_utils._probe.walk import Settings, Shared, Walk
from ansible_collections.port587.mail.plugins.module_utils._wire import http

WEBMAIL = "/webmail/"
DOCUMENT = "/.well-known/autoconfig/mail/config-v1.1.xml"

#: Servers that the document must list: protocol, port, and the kind of security.
_OFFERS = (("imap", 993, "SSL"), ("smtp", 587, "STARTTLS"), ("smtp", 465, "SSL"))


class Autoconfig(Walk):
    """Check that the web server's settings are correct, and that clients find them."""

    SERVICE = "autoconfig"
    COMPONENT = "MUA"
    LABEL = "autoconfig"
    WELL = "mail clients find the settings by an address"
    STEPS: t.Sequence[str] = ("connect", "certificate", "page", "settings", "name")
    CLOSED = ("autoconfig-closed", "warn")
    IMPLICIT_TLS = True

    def __init__(
        self, settings: Settings, shared: Shared, addresses: Addresses, lookup: Lookup = system_lookup
    ) -> None:
        super().__init__(settings, shared)
        self.addresses = addresses
        self.lookup = lookup
        if settings.webmail:
            self.STEPS = (*self.STEPS, "webmail")

    def walk(self) -> None:
        self.start_tls(self.open())
        self.begin("page")
        status, text = self.get("/")
        if status != 200:
            self.note("autoconfig-wrong", f"https://{self.settings.host}/ is answered with {status}")
        else:
            self.ok(f"{len(text)} characters")
        self.begin("settings")
        status, text = self.get(DOCUMENT)
        found = offers(text) if status == 200 else []
        names = {self.settings.host, *self.settings.names}
        missing = [offer for offer in _OFFERS if not any((offer[0], name, *offer[1:]) in found for name in names)]
        if status != 200:
            self.note("autoconfig-wrong", f"{DOCUMENT} is answered with {status}")
        elif missing:
            said = "; ".join(" ".join(map(str, offer)) for offer in found) or "no server"
            self.note("autoconfig-wrong", f"it says: {said}")
        else:
            self.ok(", ".join(f"{offer[0]} {offer[2]}" for offer in found))
        self.begin("name")
        self.find()
        if self.settings.webmail:
            self.begin("webmail")
            self.see_webmail()

    def get(self, path: str) -> t.Tuple[int, str]:
        """Status and text. Each request uses a new connection, which the server closes."""
        wire = self.connect()
        wire.start_tls(self.settings.context, self.settings.host)
        status = http.get(wire, self.settings.host, path).code
        return status, http.body(wire)

    def see_webmail(self) -> None:
        """The step ``webmail``: its page has a form to log in."""
        status, text = self.get(WEBMAIL)
        if status != 200 or 'type="password"' not in text:
            self.note("webmail-down", f"https://{self.settings.host}{WEBMAIL} is answered with {status}")
        else:
            self.ok(f"{len(text)} characters")

    def find(self) -> None:
        """The step ``name``: clients ask for the settings of eve@example.com at autoconfig.example.com."""
        domain = self.settings.mailbox.rpartition("@")[2]
        if not domain or is_loopback(self.settings.address) or self.settings.address not in self.addresses.all():
            # another step reports faults of the server's own name
            self.skip("no name to ask for" if not domain else "the server's own name does not lead there from here")
            return
        name = f"autoconfig.{domain}"
        found = resolve(name, self.settings.timeout, self.lookup).all()
        seen = f"{name}: {', '.join(found) or 'no address'}"
        if set(found) & set(self.addresses.all()):
            self.ok(seen)
        else:
            self.warn("autoconfig-name", seen)


def offers(document: str) -> t.List[t.Tuple[str, str, int, str]]:
    """Type, host, port and security of each server. The document may come from anybody: it is not parsed as XML."""
    found = []
    for part in re.split(r"<(?=(?:incoming|outgoing)Server )", document)[1:]:
        part, closed, _rest = part.partition("Server>")
        kind = re.match(r'\w+ type="(\w+)">', part)
        if not closed or not kind:
            continue
        values = {name: value.strip() for name, value in re.findall(r"<(\w+)>([^<]*)</", part)}
        port = re.fullmatch("[0-9]{1,5}", values.get("port", ""))
        found.append(
            (kind.group(1), values.get("hostname", ""), int(port.group()) if port else 0, values.get("socketType", ""))
        )
    return found
