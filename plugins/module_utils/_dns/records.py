# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Runs on the controller and on any vantage host: Python 3.6 and the standard library only.

"""Compute the DNS records of a site, and find mistakes in them. No function here sends a query."""

import hashlib
import ipaddress
import re
import typing as t

Record = t.Dict[str, t.Any]

_LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_DOMAIN = re.compile(r"(%s\.)+[a-z][a-z0-9-]{0,61}[a-z0-9]\Z" % _LABEL)
#: RFC 7208 4.6.4: terms that cause a look-up, and the limit for an SPF record with all its includes.
_LOOKUPS = re.compile(
    r"[+?~-]?(?:(?:include|exists):|a(?=[:/ ]|$)|mx(?=[:/ ]|$)|ptr(?=[: ]|$)|redirect=)", re.IGNORECASE
)
SPF_LOOKUPS = 10
#: RFC 8301: signers use at least 2048.
_RSA_BITS = 2048


def is_domain(name: str) -> bool:
    return len(name) <= 253 and _DOMAIN.match(name) is not None


def records(site: t.Mapping[str, t.Any]) -> t.List[Record]:
    """All records to publish. The filter dns_records describes sites and records."""
    return list(_Site(site).records())


class _Site:
    def __init__(self, site: t.Mapping[str, t.Any]) -> None:
        self.hostname = str(site["hostname"]).lower().rstrip(".")
        self.domains = [str(domain).lower().rstrip(".") for domain in site["domains"]]
        self.addresses = [ipaddress.ip_address(str(one)) for one in site["addresses"]]
        #: names of the host that belong to one domain each
        self.names = [str(name).lower() for name in site.get("sni") or ()]
        self.site = site
        #: where reports about the domains' mail go
        self.reports = str(site.get("reports") or "").lower()

    def records(self) -> t.Iterator[Record]:
        yield from self._host()
        for domain in self.domains:
            yield from self._domain(domain)
        for name, value in sorted(dict(self.site.get("dkim") or {}).items()):
            yield self._record(name, "TXT", value, "key for DKIM signatures")
        for address in self.addresses:
            pointer = self._record(address.reverse_pointer, "PTR", self.hostname + ".", "reverse name of %s" % address)
            yield dict(pointer, zone="")

    def _host(self) -> t.Iterator[Record]:
        for name in [self.hostname] + self.names:
            for address in self.addresses:
                yield self._record(name, "A" if address.version == 4 else "AAAA", str(address), "the mail server")
        # a bounce has an empty sender, so receivers check the name in HELO instead
        yield self._record(self.hostname, "TXT", "v=spf1 a -all", "SPF of bounces")
        for spki in self.site.get("spki") or ():
            value = "3 1 1 %s" % spki
            yield self._record("_25._tcp." + self.hostname, "TLSA", value, "DANE; counts only in a zone with DNSSEC")
        for name in [self.hostname] + self.names if self.site.get("caa") else ():
            value = '0 issue "%s"' % self.site["caa"]
            yield self._record(name, "CAA", value, "who may issue certificates for the name")

    def _domain(self, domain: str) -> t.Iterator[Record]:
        host = self.hostname + "."
        yield self._record(domain, "MX", "10 " + host, "where mail to the domain goes")
        yield self._record(domain, "TXT", self.spf(domain), "SPF: who may send from the domain")
        yield self._record("_dmarc." + domain, "TXT", self.dmarc(), "DMARC: what to do with forged mail")
        if self.reports.endswith("@" + domain):
            # RFC 7489 7.1: or nobody would send it reports about the others
            for other in [one for one in self.domains if one != domain]:
                yield self._record(
                    "%s._report._dmarc.%s" % (other, domain), "TXT", "v=DMARC1", "DMARC: it takes reports"
                )
        services = [("submission", 0, 587), ("submissions", 0, 465), ("imaps", 0, 993)]
        for service, priority, port in services + [("pop3s", 10, 995)] * bool(self.site.get("pop3")):
            value = "%d 1 %d %s." % (priority, port, self.told(domain))
            yield self._record("_%s._tcp.%s" % (service, domain), "SRV", value, "settings for mail clients")
        if self.site.get("autoconfig"):
            for name in ("autoconfig", "autodiscover"):
                yield self._alias("%s.%s" % (name, domain), "settings for mail clients")
        if self.site.get("autoconfig") and self.site.get("mta_sts") != "none":
            yield self._alias("mta-sts." + domain, "MTA-STS: only with TLS")
            # other servers read the policy again when the id changes
            policy = "%s %s" % (self.site.get("mta_sts"), self.hostname)
            identity = hashlib.sha256(policy.encode()).hexdigest()[:20]
            yield self._record("_mta-sts." + domain, "TXT", "v=STSv1; id=%s" % identity, "MTA-STS: only with TLS")
        if self.reports or (self.site.get("autoconfig") and self.site.get("mta_sts") != "none"):
            report = "v=TLSRPTv1; rua=mailto:" + (self.reports or "postmaster@" + domain)
            yield self._record("_smtp._tls." + domain, "TXT", report, "where to report that TLS fails")

    def told(self, domain: str) -> str:
        """The host name for mail clients of the domain's users."""
        names = [self.hostname] + self.names
        return next((name for name in names if name == domain or name.endswith("." + domain)), self.hostname)

    def dmarc(self) -> str:
        text = str(self.site["dmarc"])
        return text.rstrip("; ") + "; rua=mailto:" + self.reports if self.reports and "rua=" not in text else text

    def spf(self, domain: str) -> str:
        given = self.site["spf"]
        return str(given.get(domain, "v=spf1 mx -all") if isinstance(given, dict) else given)

    def _alias(self, name: str, purpose: str) -> Record:
        # addresses instead of the CNAME are fine, too
        record = self._record(name, "CNAME", self.hostname + ".", purpose)
        return dict(record, addresses=[str(one) for one in self.addresses])

    def _record(self, name: str, kind: str, value: str, purpose: str) -> Record:
        return {
            "zone": self.zone(name),
            "name": name,
            "type": kind,
            "value": value,
            "ttl": int(self.site.get("ttl", 3600)),
            "purpose": purpose,
        }

    def zone(self, name: str) -> str:
        """The mail domain that contains the name. For a host elsewhere, the name without its first label."""
        above = [domain for domain in self.domains if name == domain or name.endswith("." + domain)]
        return max(above, key=len) if above else self.hostname.partition(".")[2]


# -- mistakes -----------------------------------------------------------------------------------------------------


def problems(site: t.Mapping[str, t.Any]) -> t.List[str]:
    """Descriptions of all mistakes, each beginning with the variable to change."""
    found = [
        "%s: %r is not a domain; write one such as example.com" % (variable, name)
        for variable, names in (("mail_domains", site["domains"]), ("mail_hostname", [site["hostname"]]))
        for name in names
        if not is_domain(str(name).lower().rstrip("."))
    ]
    for address in site["addresses"]:
        try:
            ipaddress.ip_address(str(address))
        except ValueError:
            found.append(
                "dns_addresses: %r is not an IP address; write one such as 192.0.2.1 or 2001:db8::1" % (address,)
            )
    if not site["addresses"]:
        found.append("dns_addresses: it is empty, and the server could not tell; write its public IP addresses")
    local, _at, domain = str(site.get("reports") or "x@example.com").rpartition("@")
    if not re.match(r"[^\s@;,!]+\Z", local) or not is_domain(domain.lower()):
        found.append("dns_reports: %r is not a mail address; write one such as dmarc@example.com" % (site["reports"],))
    spf = site["spf"]
    for text in spf.values() if isinstance(spf, dict) else [spf]:
        found += ["dns_spf: %r: %s" % (text, trouble) for trouble in spf_troubles(str(text))]
    for domain in spf if isinstance(spf, dict) else ():
        if domain not in site["domains"]:
            found.append("dns_spf: %r is none of mail_domains; write one of %s" % (domain, ", ".join(site["domains"])))
    found += ["dns_dmarc: %r: %s" % (site["dmarc"], trouble) for trouble in _dmarc_troubles(str(site["dmarc"]))]
    for name, value in sorted(dict(site.get("dkim") or {}).items()):
        found += ["rspamd_dkim_selectors: %s: %s" % (name, trouble) for trouble in _dkim_troubles(name, str(value))]
    return found


def spf_lookups(text: str) -> int:
    """The number of look-ups that the record itself causes. Its includes cause more."""
    return sum(_LOOKUPS.match(term) is not None for term in text.split()[1:])


def spf_troubles(text: str) -> t.Iterator[str]:
    terms = text.lower().split()
    if not _printable(text):
        yield "it has characters that do not belong there"
    elif terms[:1] != ["v=spf1"]:
        yield "an SPF record begins with v=spf1, as in v=spf1 mx -all"
    else:
        ends = [term for term in terms if re.match(r"[+?~-]?all$|redirect=", term)]
        if not ends or ends[-1] != terms[-1]:
            yield "it has to end with what becomes of all others, such as -all"
        if terms[-1] in ("all", "+all"):
            yield "it lets everybody send from the domain; end it with -all"
    if spf_lookups(text) > SPF_LOOKUPS:
        yield "it causes %d look-ups, and receivers stop after %d" % (spf_lookups(text), SPF_LOOKUPS)


def _dmarc_tags(text: str) -> t.List[t.Tuple[str, str]]:
    parts = [part.partition("=") for part in text.split(";") if part.strip()]
    return [(name.strip(), value.strip()) for name, _equals, value in parts]


def _dmarc_troubles(text: str) -> t.Iterator[str]:
    tags = _dmarc_tags(text)
    policy = {name.lower(): value.lower() for name, value in tags}
    if not _printable(text) or tags[:1] != [("v", "DMARC1")]:
        yield "a DMARC record begins with v=DMARC1, as in v=DMARC1; p=quarantine"
    elif policy.get("p") not in ("none", "quarantine", "reject"):
        yield "p has to be none, quarantine or reject, as in v=DMARC1; p=quarantine"


def dmarc_warnings(wanted: t.Sequence[Record]) -> t.List[str]:
    """Valid parts of a DMARC record that have no effect, or an unexpected one (RFC 9989)."""
    texts = [str(one["value"]) for one in wanted if one["type"] == "TXT" and one["name"].startswith("_dmarc.")]
    return ["dns_dmarc: %r: %s" % (text, words) for text in dict.fromkeys(texts) for words in _dmarc_remarks(text)]


def _dmarc_remarks(text: str) -> t.Iterator[str]:
    said = {
        "pct": "receivers pass over pct (RFC 9989 has removed it) and apply the policy to all mail; leave it out",
        "rf": "receivers pass over rf (RFC 9989 has removed it); leave it out",
        "ri": "receivers pass over ri (RFC 9989 has removed it); leave it out",
    }
    policy = {name.lower(): value.lower() for name, value in _dmarc_tags(text)}
    for tag in said:
        if tag in policy:
            yield said[tag]
    if policy.get("t") == "y":
        yield "t=y asks receivers not to apply the policy to forged mail; leave it out when the trial is over"


def _dkim_troubles(name: str, value: str) -> t.Iterator[str]:
    selector, _dot, domain = name.partition("._domainkey.")
    if not re.match(r"%s(\.%s)*\Z" % (_LABEL, _LABEL), selector) or not is_domain(domain):
        yield "no such name can be in DNS"
    key = re.search(r"k=rsa;.*p=([A-Za-z0-9+/=]+)", value)
    bits = rsa_bits(len(key.group(1)) * 3 // 4) if key else _RSA_BITS
    if bits < _RSA_BITS:
        yield "the key has %d bits, and many refuse what has less than %d" % (bits, _RSA_BITS)


def rsa_bits(length: int) -> int:
    """The size of an RSA key by the length of its SubjectPublicKeyInfo, of which 34 to 38 bytes are not the modulus."""
    return -(-(length - 38) * 8 // 64) * 64


def _printable(text: str) -> bool:
    return re.match(r"[\x20\x21\x23-\x5b\x5d-\x7e]+\Z", text) is not None


# -- output -------------------------------------------------------------------------------------------------------


def presentation(record: Record) -> str:
    """The value in zone file format: texts in pieces of at most 255 bytes (RFC 1035 3.3)."""
    value = str(record["value"])
    if record["type"] != "TXT":
        return value
    return " ".join('"%s"' % value[at : at + 255] for at in range(0, len(value), 255))


def zone_file(zone: str, wanted: t.Sequence[Record]) -> str:
    """The records of a zone, to import, or to include in a zone file with SOA and NS records."""
    lines = ["; What the zone %s has to say of the mail server." % zone]
    for record in (one for one in wanted if one["zone"] == zone):
        lines.append("%s. %d IN %s %s" % (record["name"], record["ttl"], record["type"], presentation(record)))
    return "\n".join(lines) + "\n"


def table(wanted: t.Sequence[Record]) -> str:
    """Tables to copy from: one per zone, names as in the forms of DNS providers, values in one piece."""
    blocks = []
    # records that the server's provider sets come last
    for zone in sorted({record["zone"] for record in wanted}, key=lambda zone: (not zone, zone)):
        rows = [["state", "name", "type", "value"]] if "state" in wanted[0] else [["name", "type", "value"]]
        for record in (one for one in wanted if one["zone"] == zone):
            row = [_relative(record["name"], zone), record["type"], "%(value)s   # %(purpose)s" % record]
            rows.append(([record["state"]] if "state" in record else []) + row)
            if record.get("seen"):
                rows.append([""] * (len(rows[0]) - 1) + ["^ " + record["seen"]])
        # the last column is not padded
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)] + [0]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]
        title = "in the zone %s" % zone if zone else "to be set by the provider of the server"
        blocks.append("\n".join([title] + ["  " + line for line in lines]))
    return "\n\n".join(blocks) + "\n"


def _relative(name: str, zone: str) -> str:
    if not zone:
        return name
    return "@" if name == zone else name[: -len(zone) - 1]
