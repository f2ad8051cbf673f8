# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures: a server that a test breaks and probes from outside; it is repaired afterwards."""

import json
import pathlib
import typing as t

import pytest
from controller import play

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parent.parent.parent

KEEP = "etc/postfix etc/dovecot etc/port587 var/vmail"
# rspamd compiles its lists when it starts, for seconds: it is left alone where the fault left it alone
RESTORE = f"""
systemctl stop postfix dovecot fault 2>/dev/null
if mountpoint -q /var/spool/postfix; then
  systemctl stop rspamd port587-recipients port587-send-limits port587-local-senders; umount /var/spool/postfix
fi
nft flush ruleset; systemctl -q is-enabled postfix || systemctl -q enable postfix
cd / && rm -rf {KEEP} && tar xpf /root/whole.tar
systemctl reset-failed
systemctl start rspamd port587-recipients port587-send-limits port587-local-senders dovecot postfix
postsuper -d ALL 2>/dev/null
for port in 25 587 465 993 4190; do
  for try in $(seq 50); do (exec 3<>/dev/tcp/127.0.0.1/$port) 2>/dev/null && break; sleep 0.1; done
done
"""


class Server:
    """A mail host."""

    def __init__(self, host: t.Any, variables: t.Dict[str, t.Any], reports: pathlib.Path) -> None:
        self.host = host
        self.name = variables["inventory_hostname"]
        self.hostname = variables["mail_hostname"]
        self.domain = variables["mail_domains"][0]
        self.container = variables["vps_container"]
        self.reports = reports

    def do(self, script: str) -> None:
        """Run it in a shell on the server."""
        done = self.host.run("bash -c %s", script)
        assert done.rc == 0, done.stdout + done.stderr

    def verify(self, account: str = "alice", password: str = "alice's own", **more: t.Any) -> t.Dict[str, t.Any]:
        """What the playbook says about the server, as seen from another machine."""
        values = {
            "verify_address": f"{account}@{self.domain}",
            "verify_password": password,
            "verify_from": "client",
            "verify_report_dir": str(self.reports),
            **more,
        }
        done = play(ROOT / "playbooks" / "verify.yml", self.name, **values)
        report = self.reports / f"{self.hostname}.json"
        assert report.exists(), done.output
        result = json.loads(report.read_text(encoding="utf-8"))
        report.unlink()
        # the exit code is for scripts, and must say the same
        assert (done.code != 0) == (result["verdict"] == "fail"), done.output
        assert password not in done.output
        return dict(result, output=done.output)


@pytest.fixture(scope="module")
def whole(host: t.Any) -> None:
    """Remember how the server was, and give it what some faults need."""
    done = host.run(
        f"tar cpf /root/whole.tar -C / {KEEP} && apt-get -q -y --no-install-recommends install nftables faketime"
    )
    assert done.rc == 0, done.stderr


@pytest.fixture
def server(host: t.Any, whole: None, tmp_path: pathlib.Path) -> t.Iterator[Server]:
    yield Server(host, host.ansible.get_variables(), tmp_path)
    host.run("bash -c %s", RESTORE)
