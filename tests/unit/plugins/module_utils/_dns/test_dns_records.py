# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The DNS records of a site."""

import re
import typing as t

import pytest
from ansible_collections.port587.mail.plugins.module_utils._dns import records as records

KEY = "v=DKIM1; k=rsa; p=" + "A" * 392
SITE = {
    "hostname": "mail.example.com",
    "domains": ["example.com", "example.org"],
    "addresses": ["192.0.2.7", "2001:db8::7"],
    "spf": "v=spf1 mx -all",
    "dmarc": "v=DMARC1; p=quarantine",
    "dkim": {"rsa1._domainkey.example.com": KEY},
    "spki": ["ab" * 32],
    "caa": "letsencrypt.org",
    "pop3": True,
    "autoconfig": True,
    "mta_sts": "testing",
    "ttl": 300,
}  # type: t.Dict[str, t.Any]


def lines(**changes: t.Any) -> t.List[str]:
    found = records.records(dict(SITE, **changes))
    return ["%(name)s %(type)s %(value)s" % record for record in found]


def test_an_address_for_reports() -> None:
    found = lines(reports="Dmarc@example.org", autoconfig=False)
    for domain in ("example.com", "example.org"):
        assert "_dmarc.%s TXT v=DMARC1; p=quarantine; rua=mailto:dmarc@example.org" % domain in found
        assert "_smtp._tls.%s TXT v=TLSRPTv1; rua=mailto:dmarc@example.org" % domain in found
    # the domain of the address says that it takes them
    assert [line for line in found if "_report" in line] == ["example.com._report._dmarc.example.org TXT v=DMARC1"]
    own = "v=DMARC1; p=none; rua=mailto:a@elsewhere.example"
    assert "_dmarc.example.com TXT " + own in lines(reports="dmarc@example.org", dmarc=own)


@pytest.mark.parametrize("address", ["dmarc", "a;b@example.org", "dmarc@", "a b@example.org", "dmarc@localhost"])
def test_an_address_for_reports_that_is_none(address: str) -> None:
    assert records.problems(dict(SITE, reports=address)) == [
        "dns_reports: %r is not a mail address; write one such as dmarc@example.com" % address
    ]


def test_everything() -> None:
    known = re.sub("id=[0-9a-f]{20}", "id=?", "\n".join(lines())).split("\n")
    per_domain = [
        "{0} MX 10 mail.example.com.",
        "{0} TXT v=spf1 mx -all",
        "_dmarc.{0} TXT v=DMARC1; p=quarantine",
        "_submission._tcp.{0} SRV 0 1 587 mail.example.com.",
        "_submissions._tcp.{0} SRV 0 1 465 mail.example.com.",
        "_imaps._tcp.{0} SRV 0 1 993 mail.example.com.",
        "_pop3s._tcp.{0} SRV 10 1 995 mail.example.com.",
        "autoconfig.{0} CNAME mail.example.com.",
        "autodiscover.{0} CNAME mail.example.com.",
        "mta-sts.{0} CNAME mail.example.com.",
        "_mta-sts.{0} TXT v=STSv1; id=?",
        "_smtp._tls.{0} TXT v=TLSRPTv1; rua=mailto:postmaster@{0}",
    ]
    assert known == [
        "mail.example.com A 192.0.2.7",
        "mail.example.com AAAA 2001:db8::7",
        "mail.example.com TXT v=spf1 a -all",
        "_25._tcp.mail.example.com TLSA 3 1 1 " + "ab" * 32,
        'mail.example.com CAA 0 issue "letsencrypt.org"',
        *(line.format("example.com") for line in per_domain),
        *(line.format("example.org") for line in per_domain),
        "rsa1._domainkey.example.com TXT " + KEY,
        "7.2.0.192.in-addr.arpa PTR mail.example.com.",
        "7.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa PTR mail.example.com.",
    ]


@pytest.mark.parametrize(
    ("changes", "gone"),
    [
        ({"pop3": False}, "_pop3s"),
        ({"autoconfig": False}, "autoconfig|autodiscover|mta-sts|_smtp._tls"),
        ({"mta_sts": "none"}, "mta-sts|_smtp._tls"),
        ({"spki": []}, "TLSA"),
        ({"caa": ""}, "CAA"),
        ({"dkim": {}}, "_domainkey"),
        ({"addresses": ["192.0.2.7"]}, " AAAA 2|ip6.arpa"),
    ],
)
def test_what_is_switched_off(changes: t.Dict[str, t.Any], gone: str) -> None:
    before, after = lines(), lines(**changes)
    assert [line for line in before if line not in after and not re.search(gone, line)] == []
    assert not [line for line in after if re.search(gone, line)]
    assert any(re.search(gone, line) for line in before)


def test_a_policy_has_another_id_when_it_changes() -> None:
    ids = {line for mode in ("testing", "enforce") for line in lines(mta_sts=mode) if "_mta-sts.example.com" in line}
    assert len(ids) == 2


def test_spf_by_domain() -> None:
    known = lines(spf={"example.org": "v=spf1 include:_spf.relay.example -all"})
    assert "example.com TXT v=spf1 mx -all" in known
    assert "example.org TXT v=spf1 include:_spf.relay.example -all" in known


@pytest.mark.parametrize(
    ("hostname", "domains", "zone"),
    [
        ("mail.example.com", ["example.com"], "example.com"),
        ("mx.eu.example.com", ["example.com", "eu.example.com"], "eu.example.com"),
        ("mail.provider.example", ["example.com"], "provider.example"),
    ],
)
def test_zone_of_the_host(hostname: str, domains: t.List[str], zone: str) -> None:
    found = records.records(dict(SITE, hostname=hostname, domains=domains, dkim={}))
    assert {record["zone"] for record in found if record["name"] == hostname} == {zone}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"domains": ["example.com", "exa mple.org"]}, "mail_domains: 'exa mple.org' is not a domain"),
        ({"domains": ["a" * 64 + ".example"]}, "mail_domains"),
        ({"domains": [".".join(["abcdefghi"] * 26)]}, "mail_domains"),
        ({"hostname": "mail"}, "mail_hostname: 'mail' is not a domain"),
        ({"addresses": ["192.0.2.300"]}, "dns_addresses: '192.0.2.300' is not an IP address"),
        ({"addresses": []}, "dns_addresses: it is empty"),
        ({"spf": "v=spf2 mx -all"}, "dns_spf: 'v=spf2 mx -all': an SPF record begins with v=spf1"),
        ({"spf": "v=spf1 mx"}, "it has to end with"),
        ({"spf": "v=spf1 -all mx"}, "it has to end with"),
        ({"spf": "v=spf1 mx +all"}, "lets everybody send"),
        ({"spf": 'v=spf1 "mx" -all'}, "characters that do not belong there"),
        (
            {"spf": "v=spf1 a mx " + "".join("include:%d.example " % n for n in range(9)) + "-all"},
            "it causes 11 look-ups",
        ),
        ({"spf": {"example.net": "v=spf1 mx -all"}}, "dns_spf: 'example.net' is none of mail_domains"),
        ({"dmarc": "p=reject"}, "a DMARC record begins with v=DMARC1"),
        ({"dmarc": "v=DMARC1; p=refuse"}, "p has to be none, quarantine or reject"),
        ({"dkim": {"no_good._domainkey.example.com": KEY}}, "no_good._domainkey.example.com: no such name"),
        ({"dkim": {"old._domainkey.example.com": "v=DKIM1; k=rsa; p=" + "A" * 216}}, "the key has 1024 bits"),
    ],
)
def test_problems(changes: t.Dict[str, t.Any], words: str) -> None:
    found = records.problems(dict(SITE, **changes))
    assert len(found) == 1
    assert words in found[0]


@pytest.mark.parametrize(
    ("dmarc", "words"),
    [
        (
            "v=DMARC1; p=reject; pct=25",
            ["receivers pass over pct (RFC 9989 has removed it) and apply the policy to all mail"],
        ),
        ("v=DMARC1; p=none; rf=afrf; ri=86400", ["receivers pass over rf", "receivers pass over ri"]),
        ("v=DMARC1;p=reject; T = Y", ["t=y asks receivers not to apply the policy"]),
        ("v=DMARC1; p=reject; t=n; sp=none; np=reject; rua=mailto:pct@example.com", []),
        ("v=DMARC1; p=quarantine", []),
    ],
)
def test_what_receivers_pass_over_in_dmarc(dmarc: str, words: t.List[str]) -> None:
    site = dict(SITE, dmarc=dmarc)
    assert records.problems(site) == []
    # once, for however many domains
    found = records.dmarc_warnings(records.records(site))
    assert len(found) == len(words)
    for sentence, beginning in zip(found, words):
        assert sentence.startswith("dns_dmarc: %r: %s" % (dmarc, beginning))


def test_no_problems() -> None:
    assert records.problems(SITE) == []
    ten = "v=spf1 ip4:192.0.2.0/24 a mx " + "".join("include:%d.example " % n for n in range(7)) + "redirect=x.example"
    assert records.spf_lookups(ten) == 10
    assert records.problems(dict(SITE, spf=ten)) == []
    assert records.problems(dict(SITE, domains=["example.com", "xn--bcher-kva.example"])) == []


def test_zone_file() -> None:
    found = records.records(SITE)
    text = records.zone_file("example.com", found)
    assert "\nexample.com. 300 IN MX 10 mail.example.com.\n" in text
    assert '\nmail.example.com. 300 IN CAA 0 issue "letsencrypt.org"\n' in text
    (key,) = re.findall(r"^rsa1\._domainkey\.example\.com\. 300 IN TXT (.*)$", text, re.MULTILINE)
    pieces = re.findall('"([^"]*)"', key)
    assert [len(piece) for piece in pieces] == [255, len(KEY) - 255]
    assert "".join(pieces) == KEY
    assert "example.org" not in text
    assert "PTR" not in text


def test_table() -> None:
    found = [dict(record, state="different", seen="what is there") for record in records.records(SITE)]
    text = records.table(found)
    assert re.search(r"^in the zone example\.com$", text, re.MULTILINE)
    assert re.search(r"^  different  @ +MX +10 mail\.example\.com\.   # where mail", text, re.MULTILINE)
    assert re.search(r"^ +\^ what is there$", text, re.MULTILINE)
    # in one piece, to be pasted
    assert KEY in text
    assert re.search(r"^  different  7\.2\.0\.192\.in-addr\.arpa +PTR", text, re.MULTILINE)
    assert records.table(records.records(SITE)).count("different") == 0


def test_names_that_are_for_the_people_of_one_domain() -> None:
    known = lines(sni=["mail.example.org", "imap.example.com"])
    for name in ("mail.example.com", "mail.example.org", "imap.example.com"):
        assert f"{name} A 192.0.2.7" in known
        assert f"{name} AAAA 2001:db8::7" in known
        assert f'{name} CAA 0 issue "letsencrypt.org"' in known
    assert "_imaps._tcp.example.org SRV 0 1 993 mail.example.org." in known
    assert "_imaps._tcp.example.com SRV 0 1 993 mail.example.com." in known
    # other servers know one name only
    assert "example.org MX 10 mail.example.com." in known


def test_a_record_for_each_key() -> None:
    known = lines(spki=["ab" * 32, "cd" * 32])
    assert [line for line in known if "TLSA" in line] == [
        "_25._tcp.mail.example.com TLSA 3 1 1 " + digits * 32 for digits in ("ab", "cd")
    ]
