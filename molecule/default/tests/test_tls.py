# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every port with TLS serves the host's certificate, and no port accepts outdated TLS."""

import contextlib
import pathlib
import re
import select
import socket
import ssl
import threading
import typing as t
import warnings

import pytest
import sslyze
from conftest import Site
from mailclient import IMPLICIT_TLS, Server
from sslyze.mozilla_tls_profile import tls_config_checker as mozilla
from sslyze.plugins.openssl_cipher_suites.cipher_suites import CipherSuitesRepository

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
WEB = 443

ports = pytest.mark.parametrize("port", PORTS)


def connect(server: Server, port: int) -> socket.socket:
    """A connection on which TLS comes next."""
    plain = socket.create_connection((server.address, port), 20)
    file = plain.makefile("rb")
    for say, answer in STARTTLS.get(port, []):
        plain.sendall(say)
        lines = iter(file.readline, b"")
        assert any(line.startswith(answer) for line in lines), f"closed instead of {answer!r}"
    return plain


def handshake(server: Server, port: int, context: ssl.SSLContext) -> ssl.SSLSocket:
    return context.wrap_socket(connect(server, port), server_hostname=server.name)


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


# -- What public checkers say: sslyze, which is the engine of internet.nl ---------------------------------------------

#: What can't be otherwise with a CA of one's own: it may vouch for longer than a public one.
NO_FAULT = {"maximum_certificate_lifespan"}

#: What NCSC's guidelines of 2025 (internet.nl) don't call "phase out" or worse, of what OpenSSL can do.
NCSC_GROUPS = {"X25519", "secp256r1", "secp384r1"}
NCSC_CIPHERS = {
    f"TLS_ECDHE_{key}_WITH_{cipher}"
    for key in ("ECDSA", "RSA")
    for cipher in ("AES_256_GCM_SHA384", "AES_128_GCM_SHA256", "CHACHA20_POLY1305_SHA256")
}
NCSC_RSA_BITS = 3072

Scans = t.Dict[int, sslyze.ServerScanResult]


def pump(plain: socket.socket, other: socket.socket) -> None:
    """Carry what one says to the other, until one of them goes."""
    with plain, other, contextlib.suppress(OSError):
        while True:
            for one in select.select([plain, other], [], [], 60)[0]:
                data = one.recv(65536)
                if not data:
                    return
                (other if one is plain else plain).sendall(data)


@contextlib.contextmanager
def after_starttls(server: Server, port: int) -> t.Iterator[int]:
    """A port of this machine on which TLS comes first: sslyze knows no ManageSieve, and no patience with SMTP."""

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                accepted = listener.accept()[0]
                threading.Thread(target=meet, args=(accepted,), daemon=True).start()

    def meet(accepted: socket.socket) -> None:
        with accepted:
            pump(accepted, connect(server, port))

    with socket.create_server(("127.0.0.1", 0), backlog=100) as listener:
        threading.Thread(target=serve, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


OLD_VERSIONS = {sslyze.TlsVersionEnum.SSL_3_0, sslyze.TlsVersionEnum.TLS_1_0, sslyze.TlsVersionEnum.TLS_1_1}


@contextlib.contextmanager
def few_old_ciphers() -> t.Iterator[None]:
    """Before TLS 1.2 only those that most servers would take: who refuses a version does so whatever is offered."""
    every = CipherSuitesRepository.get_all_cipher_suites

    def some(version: sslyze.TlsVersionEnum) -> t.Set[sslyze.CipherSuite]:
        if version not in OLD_VERSIONS:
            return every(version)
        return {suite for suite in every(version) if re.fullmatch("TLS_.*RSA_WITH_AES_..._CBC_SHA", suite.name)}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CipherSuitesRepository, "get_all_cipher_suites", some)
        yield


def scan(ports: t.Mapping[int, t.Tuple[str, int]], server: Server) -> Scans:
    """What sslyze finds on these."""
    extra = sslyze.ScanCommandsExtraArguments(
        certificate_info=sslyze.CertificateInfoExtraArgument(custom_ca_file=pathlib.Path(server.ca_file))
    )
    requests = [
        sslyze.ServerScanRequest(
            sslyze.ServerNetworkLocation(hostname=server.name, ip_address=address, port=number),
            sslyze.ServerNetworkConfiguration(tls_server_name_indication=server.name, network_timeout=30),
            scan_commands=mozilla.SCAN_COMMANDS_NEEDED_BY_MOZILLA_CHECKER,
            scan_commands_extra_arguments=extra,
        )
        for address, number in ports.values()
    ]
    numbers = {number: port for port, (_address, number) in ports.items()}
    # Dovecot 2.4 starts a process for each connection: no more at a time than the machine has room for
    scanner = sslyze.Scanner(per_server_concurrent_connections_limit=2, concurrent_server_scans_limit=4)
    with few_old_ciphers():
        scanner.queue_scans(requests)
        results = {numbers[result.server_location.port]: result for result in scanner.get_results()}
    for port, result in results.items():
        assert result.connectivity_error_trace is None, (port, str(result.connectivity_error_trace))
    return results


@contextlib.contextmanager
def known_by_name(host: t.Any, address: str) -> t.Iterator[None]:
    """Postfix looks up who connects, thousands of times here: that is nothing to ask a name server."""
    hosts = "/var/spool/postfix/etc/hosts"
    host.check_output(f"echo '{address} tests.example' >> {hosts}")
    yield
    host.check_output(f"sed -i '/ tests.example$/d' {hosts}")


@pytest.fixture(scope="module")
def scans(host: t.Any, site: Site) -> Scans:
    with socket.create_connection((site.server.address, 25), 20) as connection:
        address = connection.getsockname()[0]
    with known_by_name(host, address), contextlib.ExitStack() as stack:
        ports = {port: (site.server.address, port) for port in (*IMPLICIT_TLS, WEB)}
        for port in STARTTLS:
            ports[port] = ("127.0.0.1", stack.enter_context(after_starttls(site.server, port)))
        return scan(ports, site.server)


@pytest.mark.parametrize("port", [*PORTS, WEB])
def test_as_mozilla_says(scans: Scans, port: int) -> None:
    wanted = mozilla.MozillaTlsConfiguration.get(mozilla.TlsConfigurationEnum.MOZILLA_INTERMEDIATE)
    issues: t.Dict[str, str] = {}
    try:
        mozilla.check_server_against_tls_configuration(scans[port], wanted)
    except mozilla.ServerNotCompliantWithTlsConfiguration as found:
        issues = found.issues
    assert {kind: said for kind, said in issues.items() if kind not in NO_FAULT} == {}


@pytest.mark.parametrize("port", [*PORTS, WEB])
def test_as_ncsc_says(scans: Scans, port: int) -> None:
    found = scans[port].scan_result
    groups = {group.name for group in found.elliptic_curves.result.supported_curves}
    assert groups == NCSC_GROUPS
    offered = {accepted.cipher_suite.name for accepted in found.tls_1_2_cipher_suites.result.accepted_cipher_suites}
    assert offered
    assert offered <= NCSC_CIPHERS
    for deployed in found.certificate_info.result.certificate_deployments:
        key = deployed.received_certificate_chain[0].public_key()
        assert getattr(key, "curve", None) or key.key_size >= NCSC_RSA_BITS


def test_who_checks_for_people_is_not_put_off(host: t.Any) -> None:
    """600 connections within a minute, from an address that the limits are for, unlike those of the tests."""
    address = "203.0.113.5"
    script = (
        "import socket\n"
        "for _ in range(600):\n"
        f"    with socket.create_connection(('{address}', 25), 20, ('{address}', 0)) as connection:\n"
        "        print(connection.recv(3).decode())\n"
    )
    host.check_output(f"ip address add {address}/32 dev lo")
    try:
        with known_by_name(host, address):
            assert host.check_output("python3 -c %s", script).split() == ["220"] * 600
    finally:
        host.check_output(f"ip address del {address}/32 dev lo")


def where(port: int) -> str:
    """For openssl s_client, on the server itself: its OpenSSL may know more than that of the tests' machine."""
    starttls = {25: "smtp", 587: "smtp", 143: "imap", 110: "pop3", 4190: "sieve"}.get(port)
    return f"-connect localhost:{port}" + (f" -starttls {starttls}" if starttls else "")


def test_clients_may_not_negotiate_anew(host: t.Any) -> None:
    """sslyze asks this too, but takes a greeting that comes first for the refusal. R is what s_client knows for it."""
    ports = [*PORTS, WEB]
    # a client that is greeted while it negotiates gives up by itself; where nobody greets, the handshake's end will do
    greetings = {465: "220 ", 993: "* OK ", 995: "+OK ", 4190: "OK "}
    refused = "grep -a -s -l 'no renegotiation'"
    patience = "|| [ $SECONDS -gt 20 ]; do sleep 0.2; done"
    asked = []
    for port in ports:
        begun = f"grep -a -s -q -F '{greetings.get(port, 'Verify return code')}' anew-{port}"
        typed = f"until {begun} {patience}; echo R; until {refused} anew-{port} >&2 {patience}"
        asked.append(f"({typed}) | openssl s_client -tls1_2 {where(port)} >anew-{port} 2>&1 &")
    found = ["wait", "grep -a -l RENEGOTIATING anew-*", f"{refused} anew-*"]
    said = host.run("bash -c %s", "\n".join(["cd $(mktemp -d)", *asked, *found])).stdout
    names = [f"anew-{port}" for port in ports]
    assert {name: said.split().count(name) for name in names} == dict.fromkeys(names, 2), said


@pytest.mark.parametrize("port", [*PORTS, WEB])
def test_post_quantum_key_exchange_comes_first(host: t.Any, site: Site, port: int) -> None:
    """Where OpenSSL has it: it is the server itself that is asked, as the machine of the tests may be older."""
    if not host.run("openssl list -kem-algorithms").stdout.count("X25519MLKEM768"):
        pytest.skip("this server's OpenSSL does not know X25519MLKEM768")
    options = f"{where(port)} -servername {site.server.name}"
    said = host.run(f"openssl s_client -brief {options} </dev/null 2>&1").stdout
    assert "group: X25519MLKEM768" in said, said
    refused = host.run(f"openssl s_client -brief {options} -groups secp521r1:X448:ffdhe2048 </dev/null 2>&1").stdout
    assert "handshake failure" in refused, refused
