# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""verify inspects a server that was built by hand, given only its name and one login."""

import json
import pathlib
import typing as t

import pytest
from controller import play

testinfra_hosts = ["mail"]

SCENARIO = pathlib.Path(__file__).parent.parent
VERIFY = SCENARIO.parent.parent / "playbooks" / "verify.yml"

#: What it must leave as it was: all but logs, caches and counters.
TREE = "find /etc /home /root /usr/local /var/mail -xdev -type f ! -path '*/Maildir/*'"


@pytest.fixture(params=[False, True], ids=["from outside", "and from inside"])
def audit(request: pytest.FixtureRequest, host: t.Any, tmp_path: pathlib.Path) -> t.Callable[[], t.Dict[str, t.Any]]:
    """Run the playbook as for a server that is in no inventory of mail hosts; with a login by SSH, and without."""
    known = host.ansible.get_variables()
    ca_file = tmp_path / "trusted.pem"
    ca_file.write_text(host.file("/etc/ssl/certs/mail.pem").content_string, encoding="utf-8")

    def run() -> t.Dict[str, t.Any]:
        done = play(
            VERIFY,
            known["inventory_hostname"],
            verify_hosts=known["inventory_hostname"],
            verify_address=f"eve@{known['mail_domains'][0]}",
            verify_login="eve",
            verify_password="set-by-hand",
            verify_ca_file=str(ca_file),
            verify_from="client",
            verify_report_dir=str(tmp_path),
            # what the shared inventory says of hosts that the collection has built
            mail_accounts=[],
            mail_autoconfig=False,
            **({"verify_inside": True} if request.param else {}),
        )
        assert "set-by-hand" not in done.output
        result = json.loads((tmp_path / f"{known['mail_hostname']}.json").read_text(encoding="utf-8"))
        inside = [record for record in result["records"] if record["service"] == "inside"]
        assert bool(inside) == request.param
        return dict(result, code=done.code)

    return run


def test_a_server_that_is_right(host, audit):
    before = host.check_output(f"{TREE} -exec sha256sum {{}} + | sort")
    result = audit()
    assert [(one["verdict"], one["diagnosis"], one["seen"]) for one in result["findings"]] == []
    assert (result["verdict"], result["code"]) == ("ok", 0)
    assert host.check_output(f"{TREE} -exec sha256sum {{}} + | sort") == before
    assert host.run("find /home/eve/Maildir -type f -path '*/cur/*' -o -type f -path '*/new/*'").stdout == ""


def test_a_server_with_the_three_classic_mistakes(host, audit):
    script = (SCENARIO / "mistakes.sh").read_text(encoding="utf-8")
    assert host.run("bash -c %s", script).rc == 0
    result = audit()
    found = {(one["verdict"], one["component"], one["diagnosis"]) for one in result["findings"]}
    assert found == {
        ("fail", "MSA", "submission-closed"),
        ("fail", "MTA", "login-on-25"),
        ("fail", "MSA", "certificate-untrusted"),
    }
    assert result["code"] != 0
