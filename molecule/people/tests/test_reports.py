# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reports of other servers arrive, are read over IMAP, and are put away."""

import gzip
import pathlib
import re
import time
import typing as t
from email.message import EmailMessage

import pytest
from conftest import Vps
from mailclient import Imap, received, submit, token

testinfra_hosts = ["ansible://mail"]

ROW = """<record><row><source_ip>{ip}</source_ip><count>{count}</count>
<policy_evaluated><disposition>none</disposition><dkim>{result}</dkim><spf>{result}</spf></policy_evaluated>
</row></record>"""
REPORT = """<?xml version="1.0"?><feedback><report_metadata><org_name>example.net</org_name>
<report_id>{identity}</report_id>
<date_range><begin>{begin}</begin><end>{begin}</end></date_range></report_metadata>
<policy_published><domain>{domain}</domain></policy_published>{rows}</feedback>"""


def arrives(vps: Vps, word: str, attachment: bytes) -> None:
    """A mail with an attachment is in the inbox of the first person."""
    message = EmailMessage()
    message["From"], message["To"] = vps.bob.address, vps.alice.address
    message["Subject"] = f"Report Domain: {vps.domain} Submitter: example.net Report-ID: {word}"
    message.add_attachment(attachment, "application", "gzip", filename="report.xml.gz")
    submit(vps.server, vps.bob, vps.alice.address, message.as_bytes())
    assert received(vps.server, vps.alice, word)


@pytest.mark.one_host
def test_reports_are_read_and_put_away(vps: Vps, tmp_path: pathlib.Path) -> None:
    good, broken = token(), token()
    rows = ROW.format(ip=vps.server.address, count=41, result="pass") + ROW.format(
        ip="192.0.2.66", count=7, result="fail"
    )
    values = {"identity": good, "begin": int(time.time()) - 86400, "domain": vps.domain, "rows": rows}
    arrives(vps, good, gzip.compress(REPORT.format(**values).encode()))
    arrives(vps, broken, gzip.compress(REPORT.format(**values).encode()[:300]))

    def reads(*options: str) -> t.Tuple[int, str]:
        given = {"reports_address": vps.alice.address, "reports_password": vps.alice.password}
        done = vps.play("../../playbooks/reports.yml", *options, reports_archive="Reports", **given)
        assert done.code == 0, done.output
        said = re.sub(r"\s+", " ", done.output)
        assert f"{vps.server.address} (this server): 41 passed" in said
        assert "192.0.2.66: 7 of 7 failed since" in said
        assert "the XML is broken" in said
        assert vps.alice.password not in said
        return done.changed, said

    assert reads("--check")[0] == 1
    assert received(vps.server, vps.alice, good)
    changed, said = reads()
    assert changed == 1
    assert "a page, with a plot: " in said
    page = pathlib.Path(re.findall(r"a page, with a plot: (\S+)", said)[0])
    assert "<svg" in page.read_text(encoding="utf-8")
    assert received(vps.server, vps.alice, good, "Reports")
    with Imap(vps.server).log_in(vps.alice) as imap:
        assert imap.search_subject(good) == []
        # what nobody could read stays
        assert len(imap.search_subject(broken)) == 1
    assert reads()[0] == 0
