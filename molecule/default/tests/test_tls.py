# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every port that speaks TLS has the certificate of the host, and none speaks a TLS that is out of date."""

import pathlib
import socket
import ssl
import typing as t
import warnings

import pytest
from conftest import Site
from mailclient import IMPLICIT_TLS, Server

testinfra_hosts = ["ansible://mail"]

#: What a client says, and how the answer ends after which TLS begins.
STARTTLS: t.Dict[int, t.List[t.Tuple[bytes, bytes]]] = {
    25: [(b"", b"220 "), (b"EHLO client.example\r\n", b"250 "), (b"STARTTLS\r\n", b"220 ")],
    587: [(b"", b"220 "), (b"EHLO client.example\r\n", b"250 "), (b"STARTTLS\r\n", b"220 ")],
    143: [(b"", b"* OK"), (b"a STARTTLS\r\n", b"a OK")],
    110: [(b"", b"+OK"), (b"STLS\r\n", b"+OK")],
    4190: [(b"", b"OK"), (b"STARTTLS\r\n", b"OK")],
}

#: Dovecot may close the connection without an alert. Either way the server ended it: of a client that wouldn't
#: talk itself, the error is another.
CLOSED = "EOF occurred in violation of protocol"

PORTS = [*STARTTLS, *IMPLICIT_TLS]

ports = pytest.mark.parametrize("port", PORTS)


def handshake(server: Server, port: int, context: ssl.SSLContext) -> ssl.SSLSocket:
    plain = socket.create_connection((server.address, port), 20)
    file = plain.makefile("rb")
    for say, answer in STARTTLS.get(port, []):
        plain.sendall(say)
        lines = iter(file.readline, b"")
        assert any(line.startswith(answer) for line in lines), f"closed instead of {answer!r}"
    return context.wrap_socket(plain, server_hostname=server.name)


@ports
@pytest.mark.parametrize("family", ["IPv4", "IPv6"])
def test_certificate(site: Site, port: int, family: str) -> None:
    """The context verifies the chain, with nothing trusted but the CA that the play saved, and the name."""
    server = site.over_ipv6() if family == "IPv6" else site.server
    with handshake(server, port, site.server.context()) as tls:
        certificate = tls.getpeercert()
        assert certificate
        assert ("DNS", site.server.name) in certificate["subjectAltName"]
        assert tls.version() == "TLSv1.3"


def test_the_page_offers_the_ca(site: Site) -> None:
    with handshake(site.server, 443, site.server.context()) as tls:
        tls.sendall(f"GET /ca.crt HTTP/1.0\r\nHost: {site.server.name}\r\n\r\n".encode())
        head, _blank, body = tls.makefile("rb").read().partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    assert b"\r\nContent-Type: application/x-x509-ca-cert\r\n" in head
    assert body == pathlib.Path(site.server.ca_file).read_bytes()


@ports
def test_other_name_or_no_ca_is_noticed(site: Site, port: int) -> None:
    """The test above could fail."""
    with pytest.raises(ssl.SSLCertVerificationError, match="self.signed"):
        handshake(site.server, port, ssl.create_default_context())
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        handshake(site.server._replace(name="mail.elsewhere.example"), port, site.server.context())


@ports
@pytest.mark.parametrize("version", ["TLSv1_1", "TLSv1_2"])
def test_versions(site: Site, port: int, version: str) -> None:
    context = site.server.context()
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion[version]
    if version == "TLSv1_2":
        handshake(site.server, port, context).close()
        return
    with pytest.raises(ssl.SSLError, match=f"alert protocol version|{CLOSED}"):
        handshake(site.server, port, context)


# not 25: without a cipher in common, other servers would send in clear
@pytest.mark.parametrize("port", [port for port in PORTS if port != 25])
def test_weak_ciphers_are_refused(site: Site, port: int) -> None:
    context = site.server.context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("AES128-SHA:AES256-SHA:AES128-GCM-SHA256:ECDHE-ECDSA-AES128-SHA:@SECLEVEL=0")
    with pytest.raises(ssl.SSLError, match=f"handshake failure|{CLOSED}"):
        handshake(site.server, port, context)
