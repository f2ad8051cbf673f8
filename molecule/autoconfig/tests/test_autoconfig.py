# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests of mail clients, browsers and other mail servers, and requests that must be refused."""

import contextlib
import json
import os
import pathlib
import plistlib
import re
import socket
import ssl
import time
import typing as t
import uuid
import xml.etree.ElementTree as ET

import controller
import pytest
from testinfra.host import Host

SCENARIO = pathlib.Path(os.environ["MOLECULE_SCENARIO_DIRECTORY"])
TIMEOUT = 20
#: Seconds after which nginx has forgotten what an address asked: its burst of 100 requests at 20 a second, and one.
FORGOTTEN = 6

testinfra_hosts = ["ansible://mail"]


class Answer(t.NamedTuple):
    status: int
    headers: t.Dict[str, str]
    body: bytes

    def kind(self) -> str:
        return self.headers.get("content-type", "").partition(";")[0]


class Server(t.NamedTuple):
    name: str
    domains: t.List[str]
    address: str
    tls: ssl.SSLContext

    def connect(self, https: bool, name: str) -> socket.socket:
        plain = socket.create_connection((self.address, 443 if https else 80), TIMEOUT)
        return self.tls.wrap_socket(plain, server_hostname=name) if https else plain

    def say(self, request: bytes, https: bool = True, name: str = "") -> Answer:
        """What comes back for these very bytes."""
        with self.connect(https, name or self.name) as connection:
            connection.sendall(request)
            received = b""
            # a server that refuses the rest of a request may also break the connection
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                for chunk in iter(lambda: connection.recv(65536), b""):
                    received += chunk
        head, _, body = received.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        return Answer(int(first.split()[1]), headers, body)

    def ask(
        self, target: str, host: str = "", https: bool = True, method: str = "GET", body: bytes = b"", **headers: str
    ) -> Answer:
        # HTTP/1.0, so that nothing comes back in chunks
        lines = [f"{method} {target} HTTP/1.0", f"Host: {host or self.name}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        lines += [f"Content-Length: {len(body)}"] if body else []
        return self.say("\r\n".join([*lines, "", ""]).encode() + body, https, host)


@pytest.fixture(scope="module")
def server(host: Host) -> Server:
    variables = host.ansible.get_variables()
    tls = ssl.create_default_context(cadata=host.check_output("openssl x509 -in /etc/ssl/private/mail.pem"))
    return Server(variables["mail_hostname"], variables["mail_domains"], variables["ansible_host"], tls)


def play(host: Host, **variables: t.Any) -> controller.Played:
    """Run the play again on one host, with some variables set otherwise."""
    return controller.play(SCENARIO / "converge.yml", host.ansible.get_variables()["inventory_hostname"], **variables)


# -- the page ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("preference", "language"),
    [
        ("", "en"),
        ("ja", "ja"),
        ("ja-JP,ja;q=0.9,en-US;q=0.8,en;q=0.7", "ja"),
        ("en-US,en;q=0.9,ja;q=0.8", "en"),
        ("fr, en;q=0.8, ja;q=0.5", "en"),
        ("fr, ja;q=0.5", "ja"),
        ("de", "en"),
        ("jam", "en"),
    ],
)
def test_the_page_is_in_the_browsers_language(server: Server, preference: str, language: str) -> None:
    answer = server.ask("/", Accept_Language=preference)
    assert answer.status == 200
    assert f'<html lang="{language}">'.encode() in answer.body
    assert answer.headers["vary"] == "Accept-Language"
    assert server.ask(f"/{language}").body == answer.body


@pytest.mark.parametrize("path", ["/en", "/ja"])
def test_the_page_says_what_to_type(server: Server, path: str) -> None:
    text = server.ask(path).body.decode()
    servers = re.findall(r"<section.*?</section>", text, re.DOTALL)
    values = [re.findall(r"<dd>(.*?)</dd>", one)[:3] for one in servers]
    assert values == [[server.name, "993", "SSL/TLS"], [server.name, "587", "STARTTLS"]]


@pytest.mark.parametrize("path", ["/", "/ja", "/nothing", "/apple.mobileconfig"])
def test_a_page_asks_nobody_else_and_runs_nothing(server: Server, path: str) -> None:
    answer = server.ask(path)
    text = answer.body.decode()
    assert not re.search(r"<script|javascript:|\bon\w+=|style=", text)
    assert all(link.startswith("/") for link in re.findall(r'(?:href|src|action)="(.*?)"', text))
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["strict-transport-security"] == "max-age=31536000"


# -- Thunderbird ------------------------------------------------------------------------------------------------------


def servers_in(document: bytes) -> t.List[t.Tuple[str, ...]]:
    root = ET.fromstring(document)
    assert (root.tag, root.attrib) == ("clientConfig", {"version": "1.1"})
    keys = ("hostname", "port", "socketType", "authentication", "username")
    found = [one for one in root[0] if one.tag.endswith("Server")]
    return [(one.attrib["type"], *(one.findtext(key, "") for key in keys)) for one in found]


@pytest.mark.parametrize("https", [True, False])
@pytest.mark.parametrize("path", ["/mail/config-v1.1.xml", "/.well-known/autoconfig/mail/config-v1.1.xml"])
def test_thunderbird_is_told(server: Server, path: str, https: bool) -> None:
    for domain in server.domains:
        for target in (path, f"{path}?emailaddress=eve%40{domain}", f"{path}?emailaddress=eve@{domain.upper()}"):
            answer = server.ask(target, f"autoconfig.{domain}", https)
            assert (answer.status, answer.kind()) == (200, "text/xml")
            root = ET.fromstring(answer.body)
            assert [root[0].attrib["id"], root[0].findtext("domain")] == [domain, domain]
            login = (server.name, "password-cleartext", "%EMAILADDRESS%")
            assert servers_in(answer.body) == [
                ("imap", server.name, "993", "SSL", *login[1:]),
                ("pop3", server.name, "995", "SSL", *login[1:]),
                ("smtp", server.name, "587", "STARTTLS", *login[1:]),
                ("smtp", server.name, "465", "SSL", *login[1:]),
            ]


def test_thunderbird_may_ask_any_of_the_names(server: Server) -> None:
    """It asks at the name of the MX record, too."""
    for domain in server.domains:
        answer = server.ask(f"/.well-known/autoconfig/mail/config-v1.1.xml?emailaddress=eve%40{domain}")
        assert f"<domain>{domain}</domain>".encode() in answer.body
        other = next(name for name in server.domains if name != domain)
        assert other.encode() not in answer.body.replace(server.name.encode(), b"").replace(domain.encode(), b"")


@pytest.mark.parametrize("address", ["eve%40nowhere.example", "eve", "%40", "eve@{domain}.example", "eve@sub.{domain}"])
def test_thunderbird_is_not_told_of_a_foreign_domain(server: Server, address: str) -> None:
    target = f"/mail/config-v1.1.xml?emailaddress={address.format(domain=server.domains[0])}"
    assert server.ask(target).status == 404


def test_the_documents_are_served_over_ipv6(host: Host, server: Server) -> None:
    over_ipv6 = server._replace(address=host.ansible.get_variables()["vps_ipv6"])
    assert over_ipv6.ask("/mail/config-v1.1.xml").status == 200
    assert over_ipv6.ask("/mail/config-v1.1.xml", https=False).status == 200


# -- Apple ------------------------------------------------------------------------------------------------------------


def test_an_apple_device_gets_a_profile(server: Server) -> None:
    profiles = []
    for domain in server.domains:
        address = f"Eve.B_c-1@{domain}"
        answer = server.ask(f"/apple.mobileconfig?address={address.replace('@', '%40')}")
        assert (answer.status, answer.kind()) == (200, "application/x-apple-aspen-config")
        profile = plistlib.loads(answer.body)
        assert profile["PayloadType"] == "Configuration"
        (account,) = profile["PayloadContent"]
        assert account["PayloadType"] == "com.apple.mail.managed"
        assert account["EmailAddress"] == account["IncomingMailServerUsername"] == address
        assert account["OutgoingMailServerUsername"] == address
        for way, port in (("Incoming", 993), ("Outgoing", 465)):
            assert account[f"{way}MailServerHostName"] == server.name
            assert account[f"{way}MailServerPortNumber"] == port
            assert account[f"{way}MailServerUseSSL"] is True
            assert account[f"{way}MailServerAuthentication"] == "EmailAuthPassword"
        profiles += [uuid.UUID(one["PayloadUUID"]) for one in (profile, account)]
    assert {one.version for one in profiles} == {4}
    assert len(set(profiles)) == 4


@pytest.mark.parametrize(
    "address",
    [
        "",
        "eve",
        "eve%40nowhere.example",
        "%40{domain}",
        "eve%40{domain}.nowhere.example",
        "eve%3C%2Fstring%3E%40{domain}",
        "eve</string>@{domain}",
        "eve&amp;@{domain}",
        "eve\"@{domain}",
        "eve%0d%0aX-Injected:1%40{domain}",
        "<!--#include virtual=\"/etc/passwd\"-->@{domain}",
        "$host@{domain}",
        "a" * 65 + "%40{domain}",
        "%00eve%40{domain}",
        "eve%40{domain}%00",
    ],
)  # fmt: skip
def test_an_address_that_is_none_here_gets_no_profile(server: Server, address: str) -> None:
    address = address.format(domain=server.domains[0]).replace(" ", "%20")
    answer = server.ask(f"/apple.mobileconfig?address={address}")
    assert answer.status == 404
    assert "x-injected" not in answer.headers
    assert not address or address.encode() not in answer.body


# -- Outlook ----------------------------------------------------------------------------------------------------------

REQUEST = """<?xml version="1.0" encoding="utf-8"?>
<Autodiscover xmlns="http://schemas.microsoft.com/exchange/autodiscover/outlook/requestschema/2006">
  <Request>
    <EMailAddress>{address}</EMailAddress>
    <AcceptableResponseSchema>http://schemas.microsoft.com/exchange/autodiscover/outlook/responseschema/2006a</AcceptableResponseSchema>
  </Request>
</Autodiscover>
"""
NAMESPACES = {
    "a": "http://schemas.microsoft.com/exchange/autodiscover/responseschema/2006",
    "o": "http://schemas.microsoft.com/exchange/autodiscover/outlook/responseschema/2006a",
}
POX = "/autodiscover/autodiscover.xml"


@pytest.mark.parametrize("path", [POX, "/Autodiscover/Autodiscover.xml", "/AutoDiscover/AutoDiscover.xml"])
def test_outlook_is_told(server: Server, path: str) -> None:
    for domain in server.domains:
        for mark in ("", "\N{BYTE ORDER MARK}"):
            body = (mark + REQUEST.format(address=f"Eve@{domain}")).encode()
            answer = server.ask(path, f"autodiscover.{domain}", method="POST", body=body, Content_Type="text/xml")
            assert (answer.status, answer.kind()) == (200, "text/xml")
            account = ET.fromstring(answer.body).find("o:Response/o:Account", NAMESPACES)
            assert account is not None
            assert account.findtext("o:Action", "", NAMESPACES) == "settings"
            keys = ("Type", "Server", "Port", "SSL", "Encryption", "LoginName")
            found = [
                tuple(one.findtext(f"o:{key}", "", NAMESPACES) for key in keys)
                for one in account.findall("o:Protocol", NAMESPACES)
            ]
            assert found == [
                ("IMAP", server.name, "993", "on", "", f"Eve@{domain}"),
                ("POP3", server.name, "995", "on", "", f"Eve@{domain}"),
                ("SMTP", server.name, "587", "", "TLS", f"Eve@{domain}"),
            ]


def test_outlook_finds_the_way_from_http(server: Server) -> None:
    """Its third try: a redirection, by 302 and no other number."""
    answer = server.ask(POX, f"autodiscover.{server.domains[1]}", https=False)
    assert answer.status == 302
    assert answer.headers["location"] == f"https://autodiscover.{server.domains[1]}{POX}"


@pytest.mark.parametrize(
    "body",
    [
        "",
        "<",
        "not XML",
        REQUEST.format(address="eve@{domain}")[:-20],
        REQUEST.format(address="<a>eve@{domain}</a>"),
        '<!DOCTYPE a [<!ENTITY e SYSTEM "file:///etc/passwd">]>' + REQUEST.format(address="&e;"),
        "\0" * 1000,
        "<Autodiscover>" * 1000,
    ],
)
def test_outlook_says_something_malformed(server: Server, body: str) -> None:
    answer = server.ask(POX, method="POST", body=body.replace("{domain}", server.domains[0]).encode())
    assert answer.status == 400
    assert ET.fromstring(answer.body).findtext(".//{*}ErrorCode") == "600"


def cpu(host: Host) -> float:
    """Seconds that nginx has worked."""
    ticks = host.check_output("cat $(pgrep -x nginx | sed 's,.*,/proc/&/stat,') | awk '{n += $14 + $15} END {print n}'")
    return int(ticks) / 100


@pytest.mark.parametrize(
    "part",
    [
        " ",
        "\N{BYTE ORDER MARK} ",
        "<?xml",
        "<?xml?>",
        "<Autodiscover ",
        "<EMailAddress>",
        "<EMailAddress>eve@{domain}</EMailAddress>",
        "</Autodiscover> ",
    ],
)
def test_a_document_costs_no_more_than_its_length(host: Host, server: Server, part: str) -> None:
    """Whatever it repeats. Two adjacent patterns for spaces made 16,000 of them cost a tenth of a second."""
    room = 15900
    part = part.format(domain=server.domains[0])
    for head in (
        "",
        "<Autodiscover><EMailAddress>",
        f"<Autodiscover><EMailAddress>eve@{server.domains[0]}</EMailAddress>",
    ):
        body = (head + part * (room // len(part.encode())))[: room - 200] + "."
        before = cpu(host)
        for _ in range(10):
            assert server.ask(POX, method="POST", body=body.encode()[:16000]).status == 400
        assert cpu(host) - before < 0.3
        # as many as are let in within that time: the tests that follow are the same client
        time.sleep(0.5)


@pytest.mark.parametrize("address", ["eve@nowhere.example", "eve", "", "&lt;b&gt;@{domain}", "$host@{domain}"])
def test_outlook_is_not_told_of_a_foreign_address(server: Server, address: str) -> None:
    body = REQUEST.format(address=address.format(domain=server.domains[0])).encode()
    assert server.ask(POX, method="POST", body=body).status == 404


@pytest.mark.parametrize(
    "target",
    [
        "/autodiscover/autodiscover.json?Email=eve%40{domain}&Protocol=AutodiscoverV1",
        "/autodiscover/autodiscover.json?Protocol=Autodiscoverv1&RedirectCount=1",
        "/autodiscover/autodiscover.json/v1.0/eve@{domain}?Protocol=AutodiscoverV1",
        "/Autodiscover/Autodiscover.json?protocol=autodiscoverv1",
    ],
)
def test_newer_outlooks_are_told_where_to_ask(server: Server, target: str) -> None:
    answer = server.ask(target.format(domain=server.domains[0]))
    assert (answer.status, answer.kind()) == (200, "application/json")
    assert json.loads(answer.body) == {"Protocol": "AutodiscoverV1", "Url": f"https://{server.name}{POX}"}


@pytest.mark.parametrize("query", ["", "?Protocol=ActiveSync", "?Protocol=AutodiscoverV1%22%7D"])
def test_other_protocols_of_outlook_are_not_there(server: Server, query: str) -> None:
    answer = server.ask(f"/autodiscover/autodiscover.json{query}")
    assert answer.status == 400
    assert json.loads(answer.body)["ErrorCode"] == "InvalidProtocol"


# -- other mail servers, and the certificate's authority --------------------------------------------------------------


def test_the_policy_for_other_servers(server: Server) -> None:
    for domain in server.domains:
        answer = server.ask("/.well-known/mta-sts.txt", f"mta-sts.{domain}")
        assert (answer.status, answer.kind()) == (200, "text/plain")
        assert answer.body.decode().splitlines() == [
            "version: STSv1",
            "mode: testing",
            f"mx: {server.name}",
            "max_age: 604800",
        ]


def test_the_authority_finds_its_token(host: Host, server: Server) -> None:
    folder = "/var/lib/port587/acme-challenge/.well-known/acme-challenge"
    host.check_output("install -d %s && printf 'a.b' > %s/a-b_1", folder, folder)
    answer = server.ask("/.well-known/acme-challenge/a-b_1", f"autoconfig.{server.domains[1]}", https=False)
    assert (answer.status, answer.body) == (200, b"a.b")
    assert server.ask("/.well-known/acme-challenge/../../../manifest.json", https=False).status in (302, 400)


# -- what nobody should ask for ---------------------------------------------------------------------------------------


def test_an_answer_does_not_tell_who_is_here(server: Server) -> None:
    """There is no account on this server, and every address of its domains gets an answer."""
    for address in ("eve", "nobody-has-this"):
        target = f"/mail/config-v1.1.xml?emailaddress={address}%40{server.domains[0]}"
        assert server.ask(target).body == server.ask("/mail/config-v1.1.xml").body


@pytest.mark.parametrize(
    "target",
    [
        "/../../../etc/passwd",
        "/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
        "/..%2f..%2f..%2fetc%2fpasswd",
        "//etc/passwd",
        "/mail/../../tls/combined.pem",
        "/en.html",
        "/autodiscover.xml",
        "/autodiscover-error.xml",
        "/unknown.html",
        "/port587-answer",
        "/port587-read",
        "/mail/config-v1.1.xml/",
        "/.well-known/acme-challenge/",
        "/%00",
        "/" + "a" * 5000,
    ],
)
def test_there_is_nothing_else(server: Server, target: str) -> None:
    answer = server.ask(target)
    assert answer.status in (400, 404)
    assert answer.headers["server"] == "nginx"
    assert b"root:" not in answer.body
    assert not re.search(rb"nginx/\d|PRIVATE KEY|SMTP", answer.body)


@pytest.mark.parametrize("method", ["PUT", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "POST"])
def test_other_methods_are_refused(server: Server, method: str) -> None:
    assert server.ask("/en", method=method).status == 405


def test_a_large_body_is_refused(server: Server) -> None:
    body = REQUEST.format(address="a" * 20000).encode()
    assert server.ask(POX, method="POST", body=body).status == 413
    chunks = b"".join(b"1000\r\n%s\r\n" % (b"x" * 4096) for _ in range(10)) + b"0\r\n\r\n"
    head = f"POST {POX} HTTP/1.1\r\nHost: {server.name}\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    assert server.say(head.encode() + chunks).status == 413


@pytest.mark.parametrize("request_", [b"\r\n\r\n", b"GET\r\n\r\n", b"\x16\x03\x01\x02\x00", b"GET / HTTP/1.1\r\n\r\n"])
def test_what_is_not_http_is_refused(server: Server, request_: bytes) -> None:
    with server.connect(True, server.name) as connection:
        connection.sendall(request_)
        connection.shutdown(socket.SHUT_WR)
        assert not re.search(rb"200 OK|nginx/\d", connection.recv(65536))
    assert server.ask("/en").status == 200


def test_old_tls_is_refused(server: Server) -> None:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.raises(ssl.SSLError):
        server._replace(tls=context).ask("/")


@pytest.mark.parametrize("name", ["", "nobody.example"])
def test_old_ciphers_are_refused(host: Host, server: Server, name: str) -> None:
    """Also to who asks for a name of nobody, where that is this site's to answer."""
    if name and has_another_site(host):
        pytest.skip("another site answers for names of nobody")
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    assert server._replace(tls=context).ask("/", name).status == (421 if name else 200)
    context.set_ciphers("ALL:!AESGCM:!CHACHA20:@SECLEVEL=0")
    with pytest.raises(ssl.SSLError):
        server._replace(tls=context).ask("/", name)


def test_one_address_is_put_off_and_others_are_served(host: Host, server: Server) -> None:
    head = f"HEAD /en HTTP/1.1\r\nHost: {server.name}\r\n"
    # a connection may say 100 of them
    said = (f"{head}\r\n" * 80 + f"{head}Connection: close\r\n\r\n").encode()
    # until what the tests before have asked is forgotten
    time.sleep(FORGOTTEN)
    answers = [server.say(said) for _ in range(3)]
    served, put_off = (sum(answer.body.count(b"HTTP/1.1 " + code) for answer in answers) for code in (b"200", b"429"))
    assert served >= 80
    assert put_off > 0
    ipv6 = server._replace(address=host.ansible.get_variables()["vps_ipv6"])
    assert ipv6.ask("/en").status == 200
    time.sleep(FORGOTTEN)
    assert server.ask("/en").status == 200


# -- other sites of the same nginx ------------------------------------------------------------------------------------


def has_another_site(host: Host) -> bool:
    return host.file("/etc/nginx/sites-enabled/www.example.net.conf").exists


def ask_unverified(server: Server, name: str) -> Answer:
    """As somebody who came by the address alone."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return server._replace(tls=context).ask("/", name)


def test_a_name_of_nobody_is_answered_as_it_was_before(host: Host, server: Server) -> None:
    answer = ask_unverified(server, "nobody.example")
    if has_another_site(host):
        assert (answer.status, answer.body) == (200, b"not about mail")
    else:
        assert answer.status == 421


def test_another_site_is_served_as_before(host: Host, server: Server) -> None:
    if not has_another_site(host):
        pytest.skip("nginx has no other site on this host")
    assert ask_unverified(server, "www.example.net").body == b"not about mail"


@pytest.mark.one_host
def test_another_site_with_a_name_of_the_mail_server_is_found(host: Host, server: Server) -> None:
    site = "/etc/nginx/conf.d/taken.conf"
    host.check_output("echo 'server { listen 80; server_name autoconfig.%s; }' > %s", server.domains[0], site)
    try:
        done = play(host, autoconfig_pop3=False)
    finally:
        host.check_output("rm %s", site)
    assert done.code == 2
    assert f"another site has the server_name autoconfig.{server.domains[0]} already" in done.output
    assert "this change was not made" in done.output
    assert b"pop3" in server.ask("/mail/config-v1.1.xml").body


def test_a_port_that_nginx_has_for_a_site_on_one_line_is_not_taken(host: Host, server: Server) -> None:
    ours, default = "/etc/nginx/sites-enabled/zz-port587.conf", "/etc/nginx/sites-enabled/default"
    site = "/etc/nginx/conf.d/line.conf"
    line = "server { listen 80; listen [::]:80; server_name www.example.org; return 200 'on one line'; }"
    host.check_output("mv %s %s /root && echo %s > %s && systemctl reload nginx", ours, default, line, site)
    try:
        done = play(host)
        assert done.code == 0, done.output
        assert server.ask("/", "www.example.org", https=False).body == b"on one line"
        assert server.ask("/mail/config-v1.1.xml").status == 200
    finally:
        host.check_output("rm %s && mv /root/default %s && systemctl reload nginx", site, default)


# -- changes ----------------------------------------------------------------------------------------------------------


@pytest.mark.one_host
def test_bad_values_are_found_before_anything_changes(host: Host, server: Server) -> None:
    done = play(
        host,
        autoconfig_hostname="mail",
        autoconfig_domains=["example.com; x"],
        autoconfig_addresses=["localhost"],
        autoconfig_mx=["mail example"],
        autoconfig_certificate="mail.pem",
    )
    assert done.code == 2
    assert "autoconfig_hostname: 'mail' is not a fully qualified host name" in done.output
    assert "autoconfig_domains[0]: 'example.com; x' is not a domain" in done.output
    assert "autoconfig_addresses[0]: 'localhost' is not an address" in done.output
    assert "autoconfig_mx[0]: 'mail example' is not a host name" in done.output
    assert "autoconfig_certificate: 'mail.pem' is not a plain absolute path" in done.output


@pytest.mark.parametrize(
    ("certificate", "said"),
    [
        (
            "/etc/ssl/none.pem",
            ["autoconfig_certificate: '/etc/ssl/none.pem' is not on this server; run role certificates"],
        ),
        ("/etc/hostname", ['cannot load certificate "/etc/hostname"', "this change was not made"]),
    ],
)
def test_a_bad_certificate_changes_nothing(host: Host, server: Server, certificate: str, said: t.List[str]) -> None:
    before = host.check_output("md5sum /etc/nginx/sites-enabled/* /etc/port587/autoconfig/*")
    done = play(host, autoconfig_certificate=certificate)
    assert done.code == 2
    # YAML wraps lines
    output = re.sub(r"\s+", " ", done.output.replace("''", "'"))
    for words in said:
        assert words in output
    assert host.check_output("md5sum /etc/nginx/sites-enabled/* /etc/port587/autoconfig/*") == before
    assert server.ask("/en").status == 200


@pytest.mark.one_host
def test_what_does_not_serve_is_taken_back(host: Host, server: Server) -> None:
    """A configuration that is valid, and nginx can't read what it is to serve."""
    before = host.check_output("md5sum /etc/nginx/sites-enabled/* /etc/port587/autoconfig/*")
    host.check_output("chmod 0700 /etc/port587")
    try:
        done = play(host, autoconfig_pop3=False)
    finally:
        host.check_output("chmod 0755 /etc/port587")
    assert done.code == 2
    assert "rolled back, nginx" in done.output
    assert "answers GET / HTTP/1.0" in done.output
    assert host.check_output("md5sum /etc/nginx/sites-enabled/* /etc/port587/autoconfig/*") == before
    assert server.ask("/en").status == 200


def test_a_change_arrives_and_a_file_of_others_stays(host: Host, server: Server) -> None:
    own = f"mail.{server.domains[1]}"
    done = play(host, autoconfig_pop3=False, autoconfig_mta_sts="enforce", autoconfig_sni=[own])
    assert done.code == 0, done.output
    # who is of a domain that has a name of its own is told that one, wherever it is asked; all others the host's
    for domain, told, other in ((server.domains[1], own, server.name), (server.domains[0], server.name, own)):
        posted = f"<Autodiscover><Request><EMailAddress>eve@{domain}</EMailAddress></Request></Autodiscover>"
        for answer in (
            server.ask(f"/mail/config-v1.1.xml?emailaddress=eve@{domain}"),
            server.ask("/mail/config-v1.1.xml", host=f"autoconfig.{domain}"),
            server.ask(f"/apple.mobileconfig?address=eve@{domain}"),
            server.ask("/autodiscover/autodiscover.xml", method="POST", body=posted.encode()),
            server.ask("/ja", host=f"autoconfig.{domain}"),
        ):
            assert answer.status == 200
            assert re.search(rf"<(\w+)>{re.escape(told)}</\1>".encode(), answer.body), answer.body
            assert not re.search(rf"<(hostname|Server|dd)>{re.escape(other)}</\1>".encode(), answer.body), answer.body
    assert b"pop3" not in server.ask("/mail/config-v1.1.xml").body
    assert b"995" not in server.ask("/en").body
    assert b"mode: enforce" in server.ask("/.well-known/mta-sts.txt").body
    assert play(host).code == 0
    assert b"pop3" in server.ask("/mail/config-v1.1.xml").body
    assert host.file("/etc/nginx/sites-enabled/default").exists
