# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures: a mail host, the rest of the network, and a client for each port."""

import contextlib
import json
import os
import pathlib
import smtplib
import socket
import ssl
import threading
import time
import typing as t

import controller
import pytest
import yaml
from by_host import pytest_collection_modifyitems as pytest_collection_modifyitems
from by_host import pytest_xdist_make_scheduler as pytest_xdist_make_scheduler
from mailclient import Account, Imap, Pop3, Server, Sieve, Smtp

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parent.parent.parent
SERVICE = "port587-certificates.service"
PORTS = (25, 587, 465, 993, 995, 143, 110, 4190, 443)


class Site:
    """A mail host that gets its certificate from one of the authorities on the client."""

    def __init__(self, host: t.Any, name: str = "") -> None:
        self.host = host
        self.variables = host.ansible.get_variables()
        self.name = name or self.variables["mail_hostname"]
        self.domain = self.variables["mail_domains"][0]
        self.key = self.variables["acme_key"]
        self.ephemeral = pathlib.Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"])
        self.roots = self.ephemeral / "roots.pem"
        self.server = Server(self.name, self.variables["ansible_host"], str(self.roots))
        self.alice = Account(f"alice@{self.domain}", "alice's own")
        self.inventory_name = self.variables["inventory_hostname"]
        self.world = host.get_host("ansible://world", ansible_inventory=host.backend.ansible_inventory)
        self.client_address = self.world.ansible.get_variables()["ansible_host"]

    def handshake(self, port: int, ca: t.Optional[str] = None) -> t.Dict[str, t.Any]:
        """The certificate that a client is shown on the port, after it has verified chain and name."""
        server = self.server._replace(ca_file=ca or self.server.ca_file)
        if port in (25, 587, 465):
            with Smtp(server, port) as smtp:
                return smtp.sock.getpeercert()
        if port in (993, 143):
            with Imap(server, port) as imap:
                return imap.sock.getpeercert()
        if port in (995, 110):
            with Pop3(server, port) as pop3:
                return pop3.sock.getpeercert()
        if port == 4190:
            with Sieve(server) as sieve:
                return sieve._socket.getpeercert()
        plain = socket.create_connection((server.address, port), 10)
        with server.context().wrap_socket(plain, server_hostname=server.name) as tls:
            return tls.getpeercert()

    def serial(self, *ports: int, ca: t.Optional[str] = None) -> str:
        """The one that all ports show."""
        serials = {port: self.handshake(port, ca)["serialNumber"] for port in ports or PORTS}
        assert len(set(serials.values())) == 1, serials
        return t.cast(str, serials[25])

    def names(self) -> t.List[str]:
        return [name for _kind, name in self.handshake(587)["subjectAltName"]]

    def do(self, script: str) -> str:
        """Run it in a shell on the server."""
        done = self.host.run("bash -c %s", script)
        assert done.rc == 0, done.stdout + done.stderr
        return t.cast(str, done.stdout)

    def renew(self) -> t.Tuple[int, str]:
        """What the timer runs, as if the authority had been asked long ago; exit code, and what is in the journal."""
        began = self.do("date +%s.%N").strip()
        self.do('sed -i \'s/"asked": .*/"asked": 0,/\' /var/lib/port587/acme.json')
        code = self.host.run(f"systemctl start {SERVICE}").rc
        return code, self.do(f"journalctl --quiet --no-pager -o cat -u {SERVICE} --since @{began}")

    def force(self) -> t.Tuple[int, str]:
        """The same program, told to get a new certificate although the present one is good; what it says."""
        done = self.host.run("/usr/local/lib/port587/certificates --force")
        return done.rc, done.stdout + done.stderr

    def state(self) -> t.Dict[str, t.Any]:
        return dict(json.loads(self.do("cat /var/lib/port587/acme.json")))

    def dns(self, *updates: str) -> None:
        """Change the world's DNS."""
        lines = [
            f"key hmac-sha256:{self.key['key_name']} {self.key['key_secret']}",
            "server 127.0.0.1",
            *updates,
            "send",
        ]
        done = self.world.run("nsupdate <<'E'\n%s\nE" % "\n".join(lines))
        assert done.rc == 0, done.stderr

    def lead(self, name: str, where: str = "") -> None:
        """Let a name lead to an address, or nowhere."""
        records = [f"update add {name}. 1 A {where}"] if where else []
        self.dns(f"update delete {name}. A", f"update delete {name}. AAAA", *records)
        said = self.world.check_output(f"dig +short @127.0.0.1 {name} A; dig +short @127.0.0.1 {name} AAAA")
        assert said.split() == ([where] if where else [])

    def verify(self) -> t.Dict[str, t.Any]:
        """What verify.yml finds: diagnosis -> what was seen."""
        report = self.ephemeral / "verify" / f"{self.name}.json"
        done = self._playbook(ROOT / "playbooks" / "verify.yml", verify_report_dir=str(report.parent))
        result = json.loads(report.read_text(encoding="utf-8"))
        assert (done.code != 0) == (result["verdict"] == "fail"), done.output
        return {found["diagnosis"]: found for found in result["findings"]}

    def play(self, *options: str, playbook: str = "certificates.yml", **values: t.Any) -> controller.Played:
        """Run the role again, or the site, with other values."""
        return self._playbook(HERE.parent / playbook, *options, **values)

    def _playbook(self, path: pathlib.Path, *options: str, **values: t.Any) -> controller.Played:
        converged = yaml.safe_load((HERE.parent / "converge.yml").read_text(encoding="utf-8"))[0]["vars"]
        return controller.play(path, self.inventory_name, *options, **{**converged, **values})


@pytest.fixture(scope="module")
def site(host: t.Any) -> Site:
    return Site(host)


@pytest.fixture
def as_converged(site: Site) -> t.Iterator[None]:
    """Afterwards the server is again as the scenario made it."""
    yield
    played = site.play()
    assert played.code == 0, played.output


@contextlib.contextmanager
def submissions(site: Site) -> t.Iterator[t.List[str]]:
    """Meanwhile mail is sent on 587, one after the other, each in a session of its own; yields what went wrong."""
    stop, wrong, sent = threading.Event(), [], [0]  # type: t.Any

    def send() -> None:
        while not stop.is_set():
            try:
                with Smtp(site.server, 587) as smtp:
                    assert smtp.authenticate(site.alice).code == 235
                    text = f"From: {site.alice.address}\r\nSubject: meanwhile\r\n\r\nHello.\r\n"
                    smtp.sendmail(site.alice.address, [site.alice.address], text)
                sent[0] += 1
            except (OSError, smtplib.SMTPException, AssertionError, ssl.SSLError) as exc:
                wrong.append(f"after {sent[0]}: {exc!r}")
            time.sleep(0.2)

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield wrong
    finally:
        stop.set()
        thread.join()
    assert sent[0] > 5
