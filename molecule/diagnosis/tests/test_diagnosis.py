# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One fault at a time on a server that site.yml built: verify names the part and the cause, and never another one."""

import typing as t

import pytest

testinfra_hosts = ["mail"]


class Fault(t.NamedTuple):
    """How to break the server, and what has to be said about it."""

    name: str
    script: str
    component: str
    diagnosis: str
    verdict: str = "fail"
    account: str = "alice"
    password: str = "alice's own"


# a certificate from the server's own CA: NAME, DAYS it is still valid, and the CA that signs it
CERTIFICATE = """
certificate() {
  openssl ecparam -name prime256v1 -genkey -noout -out leaf.key
  openssl req -new -key leaf.key -subj /CN=leaf -out leaf.csr
  printf '%s\\n' "subjectAltName=DNS:$1" basicConstraints=critical,CA:FALSE keyUsage=critical,digitalSignature \\
    extendedKeyUsage=serverAuth authorityKeyIdentifier=keyid > leaf.ext
  openssl x509 -req -in leaf.csr -days "$2" -extfile leaf.ext -CA "$3.pem" -CAkey "$3.key" -CAcreateserial -out leaf.pem
  cat leaf.key leaf.pem > /etc/port587/tls/combined.pem
}
old_certificate() {
  certificate "$1" 30 "$3"
  printf '%s\\n' "[ca]" default_ca=own "[own]" database=index new_certs_dir=. rand_serial=yes default_md=sha256 \\
    policy=any "[any]" commonName=optional > ca.cnf
  : > index
  openssl ca -batch -notext -config ca.cnf -in leaf.csr -extfile leaf.ext -cert "$3.pem" -keyfile "$3.key" \\
    -out leaf.pem -startdate "$(date -u -d '-57 days' +%Y%m%d%H%M%SZ)" \\
    -enddate "$(date -u -d "+$2 days" +%Y%m%d%H%M%SZ)"
  cat leaf.key leaf.pem > /etc/port587/tls/combined.pem
}
intermediate() {
  openssl ecparam -name prime256v1 -genkey -noout -out ca2.key
  openssl req -new -key ca2.key -subj /CN=intermediate -out ca2.csr
  printf '%s\\n' basicConstraints=critical,CA:TRUE keyUsage=critical,keyCertSign,cRLSign subjectKeyIdentifier=hash \\
    authorityKeyIdentifier=keyid > ca2.ext
  openssl x509 -req -in ca2.csr -days 90 -extfile ca2.ext -CA /etc/port587/ca/ca.pem -CAkey /etc/port587/ca/ca.key \\
    -CAcreateserial -out ca2.pem
}
set -e
cd /root
name=$(postconf -h myhostname)
"""
CA = "/etc/port587/ca/ca"
RESTART = "systemctl restart postfix"
BOTH = "systemctl restart postfix dovecot"

# a service that holds port 587 instead of Postfix
INSTEAD = """
postconf -MX submission/inet && systemctl restart postfix
systemd-run --unit=fault --quiet python3 -c '
import socket, time
s = socket.socket(socket.AF_INET6)
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(("::", 587))
%s'
for try in $(seq 50); do ss -ltn | grep -q ":587 " && break; sleep 0.1; done; sleep 0.3
"""
# the queue of accepted connections is full: the kernel drops what comes, as a firewall does
DROPS = """
s.listen(0)
full = [socket.create_connection(("127.0.0.1", 587), 1)]
try:
    full.append(socket.create_connection(("127.0.0.1", 587), 1))
except OSError:
    pass
time.sleep(600)
"""
TALKS_HTTP = """
s.listen(9)
while True:
    c = s.accept()[0]
    c.sendall(b"HTTP/1.1 400 Bad Request\\r\\n\\r\\n")
    c.close()
"""

# a packet filter of the server's own; bound to an interface it may be open elsewhere, and so stands in for a provider's
FIREWALL = """
nft add table inet fault && nft add chain inet fault input '{ type filter hook input priority 0; }'
nft add chain inet fault output '{ type filter hook output priority 0; }' && nft add rule inet fault %s
"""
# what waits for a server outside
QUEUED = """
printf 'Subject: out\\n\\nout\\n' | sendmail -f alice@$(hostname -d) somebody@example.org
for try in $(seq 100); do postqueue -p | grep -q "%s" && break; sleep 0.3; done
"""
# the copy for the chroot is made at the start; nothing listens there
OUTSIDE = "systemctl restart postfix; echo 'nameserver 127.0.0.9' > /var/spool/postfix/etc/resolv.conf"
BLOCKED = f"""
{FIREWALL % "output tcp dport 25 drop"}
postconf 'transport_maps=inline:{{example.org=smtp:[192.0.2.1]}}' smtp_connect_timeout=2s; {RESTART}"""
# an hour ahead, for the program that puts mail into mailboxes
CLOCK = """
faketime=$(echo /usr/lib/*/faketime/libfaketime.so.1)
echo "service lmtp {
  executable = /usr/bin/env LD_PRELOAD=$faketime FAKETIME=+1h /usr/lib/dovecot/lmtp
}" >> /etc/dovecot/dovecot.conf
systemctl restart dovecot
"""

FAULTS = [
    # what doesn't run or doesn't listen
    Fault("dovecot stopped", "systemctl stop dovecot", "MRA", "dovecot-stopped"),
    Fault("postfix stopped", "systemctl stop postfix", "MTA", "postfix-stopped"),
    Fault("no submission", f"postconf -MX submission/inet; {RESTART}", "MSA", "submission-closed"),
    Fault("no submissions", f"postconf -MX 465/inet; {RESTART}", "MSA", "submission-closed"),
    Fault("no smtp", f"postconf -MX smtp/inet; {RESTART}", "MTA", "smtp-closed"),
    Fault("no IPv6", f"postconf inet_protocols=ipv4; {RESTART}", "DNS", "ipv6-silent"),
    Fault(
        "dies again and again",
        "for time in 1 2 3; do systemctl kill --kill-who=main --signal=KILL dovecot; sleep 2; done",
        "MTA",
        "restarts-often",
        "warn",
    ),
    Fault("not enabled", "systemctl disable postfix", "MTA", "not-at-boot", "warn"),
    Fault("only for itself", f"postconf inet_interfaces=loopback-only; {RESTART}", "MTA", "loopback-only"),
    Fault("587 dropped", FIREWALL % "input iifname eth0 tcp dport 587 drop", "network", "port-filtered"),
    Fault(
        "587 rejected", FIREWALL % "input iifname eth0 tcp dport 587 reject with tcp reset", "network", "port-rejected"
    ),
    Fault("587 shut by the server", FIREWALL % "input tcp dport 587 drop", "network", "host-firewall"),
    Fault("587 taken", INSTEAD % DROPS, "MSA", "port-taken"),
    Fault("587 is a web server", INSTEAD % TALKS_HTTP, "MSA", "port-taken"),
    # TLS
    # 0 days: over as soon as it is made
    Fault("expired", f"{CERTIFICATE} certificate $name 0 {CA}; sleep 1; {BOTH}", "MSA", "certificate-expired"),
    Fault(
        "expired for Dovecot only",
        # Dovecot reads it when somebody connects first, and keeps it until it is told of a new one
        f"{CERTIFICATE} cp /etc/port587/tls/combined.pem good.pem; certificate $name 0 {CA}; systemctl restart dovecot;"
        " openssl s_client -connect localhost:993 < /dev/null > said 2>&1; cp good.pem /etc/port587/tls/combined.pem",
        "MRA",
        "certificate-not-loaded",
    ),
    Fault(
        "expires soon", f"{CERTIFICATE} old_certificate $name 3 {CA}; {BOTH}", "MSA", "certificate-expires-soon", "warn"
    ),
    Fault("wrong name", f"{CERTIFICATE} certificate other.test 30 {CA}; {BOTH}", "MSA", "certificate-wrong-name"),
    Fault(
        "no intermediate",
        f"{CERTIFICATE} intermediate; certificate $name 30 /root/ca2; {BOTH}",
        "MSA",
        "certificate-chain",
    ),
    Fault(
        "self-signed",
        f"{CERTIFICATE} certificate $name 30 {CA}; openssl req -x509 -key /root/leaf.key -subj /CN=$name -days 30"
        f' -addext "subjectAltName=DNS:$name" -out /root/self.pem;'
        f" cat /root/leaf.key /root/self.pem > /etc/port587/tls/combined.pem; {BOTH}",
        "MSA",
        "certificate-untrusted",
    ),
    Fault("key unreadable", f"mv /etc/port587/tls/combined.pem /root/; {RESTART}", "MSA", "tls-broken"),
    Fault(
        "no STARTTLS",
        f"postconf -P submission/inet/smtpd_tls_security_level=none; {RESTART}",
        "MSA",
        "starttls-missing",
    ),
    Fault(
        "587 with TLS", f"postconf -P submission/inet/smtpd_tls_wrappermode=yes; {RESTART}", "MSA", "tls-from-the-start"
    ),
    Fault("465 in clear", f"postconf -P 465/inet/smtpd_tls_wrappermode=no; {RESTART}", "MSA", "tls-not-from-the-start"),
    # logging in
    Fault("SASL socket elsewhere", f"postconf smtpd_sasl_path=private/nowhere; {RESTART}", "MSA", "login-socket"),
    Fault(
        "SASL socket of root",
        "cd /var/spool/postfix/private; chown root:root auth; chmod 0600 auth",
        "MSA",
        "login-socket",
    ),
    Fault(
        "absolute SASL path",
        f"postconf smtpd_sasl_path=/var/spool/postfix/private/auth; {RESTART}",
        "MSA",
        "login-socket",
    ),
    Fault("Cyrus", f"postconf smtpd_sasl_type=cyrus; {RESTART}", "MSA", "login-socket"),
    Fault(
        "login in clear",
        "postconf -P submission/inet/smtpd_tls_auth_only=no submission/inet/smtpd_tls_security_level=may;" + RESTART,
        "MSA",
        "login-in-clear",
    ),
    Fault("no AUTH", f"postconf -P submission/inet/smtpd_sasl_auth_enable=no; {RESTART}", "MSA", "login-not-offered"),
    Fault("AUTH on 25", f"postconf smtpd_sasl_auth_enable=yes; {RESTART}", "MTA", "login-on-25"),
    Fault(
        "unknown mechanism",
        "sed -i '/^auth_mechanisms/s/login/logn/' /etc/dovecot/dovecot.conf; systemctl restart dovecot",
        "MRA",
        "dovecot-auth-broken",
    ),
    Fault(
        "only PLAIN",
        "sed -i '/^auth_mechanisms/s/login//' /etc/dovecot/dovecot.conf; systemctl restart dovecot",
        "MSA",
        "login-only-plain",
        "warn",
    ),
    Fault("wrong password", "true", "MUA", "login-refused", password="not that one"),
    Fault("disabled account", "true", "MUA", "login-refused", account="gone", password="knew it once"),
    Fault("send-only account", "true", "MRA", "login-not-for-reading", account="printer", password="only sends"),
    # sending
    Fault("open relay", f"postconf 'mynetworks=0.0.0.0/0'; {RESTART}", "MTA", "open-relay"),
    Fault(
        "587 without login",
        "s=submission/inet; postconf -P $s/smtpd_client_restrictions= $s/smtpd_sender_restrictions="
        f" $s/smtpd_relay_restrictions=reject_unauth_destination $s/smtpd_recipient_restrictions=; {RESTART}",
        "MSA",
        "open-without-login",
    ),
    Fault(
        "sender of somebody else",
        "cd /etc/port587/accounts; sed -i /^alice@/d senders; postmap hash:senders; systemctl restart postfix",
        "MSA",
        "sender-refused",
    ),
    Fault(
        "mailbox not listed",
        "cd /etc/port587/accounts; sed -i /^alice@/d mailboxes; postmap hash:mailboxes; systemctl restart postfix",
        "MSA",
        "recipient-unknown",
    ),
    Fault(
        "stale map",
        # the line is put back into the text, and Postfix does not see it
        "cd /etc/port587/accounts; cp -p mailboxes whole; sed -i /^alice@/d mailboxes; postmap hash:mailboxes;"
        " sleep 1; cat whole > mailboxes; systemctl restart postfix",
        "MTA",
        "table-stale",
    ),
    Fault("map missing", f"rm /etc/port587/accounts/mailboxes.db; {RESTART}", "MSA", "lookup-failed"),
    Fault(
        "restriction misspelt",
        f"postconf -P submission/inet/smtpd_recipient_restrictions=permitt_sasl_authenticated,reject; {RESTART}",
        "MSA",
        "lookup-failed",
    ),
    Fault(
        "domain in mydestination",
        "postconf mydestination=localhost,$(hostname -d); " + RESTART,
        "MSA",
        "domain-is-local",
    ),
    Fault(
        "everybody exists",
        f"postconf virtual_mailbox_maps=static:all; {RESTART}",
        "MTA",
        "unknown-user-accepted",
        "warn",
    ),
    Fault(
        "disk full",
        "systemctl stop postfix dovecot rspamd port587-recipients port587-send-limits port587-local-senders;"
        " cp -a /var/spool/postfix /root/queue;"
        " mount -t tmpfs -o size=40m tmpfs /var/spool/postfix; cp -a /root/queue/. /var/spool/postfix/;"
        " systemctl start rspamd port587-recipients port587-send-limits port587-local-senders dovecot postfix",
        "MSA",
        "disk-full",
    ),
    Fault(
        "quota full",
        "home=/var/vmail/$(hostname -d)/bob; mkdir -p $home/Maildir/{cur,new,tmp};"
        " head -c 2000000 /dev/zero | base64 > $home/Maildir/new/1.big; chown -R vmail:vmail $home;"
        " doveadm quota recalc -u bob@$(hostname -d)",
        "MDA",
        "mailbox-full",
        account="bob",
        password="bob's own",
    ),
    # delivery and reading
    Fault("LMTP socket missing", "rm /var/spool/postfix/private/dovecot-lmtp", "MDA", "delivery-socket"),
    Fault(
        "quota service missing",
        "rm /var/spool/postfix/private/quota-status",
        "MTA",
        "policy-socket",
    ),
    Fault("asked by nobody", "systemctl stop port587-recipients", "MTA", "policy-socket"),
    Fault("queue and resolver", f"{OUTSIDE}; {QUEUED % 'Name service'}", "MTA", "resolver-in-chroot"),
    Fault("outgoing 25 blocked", f"{BLOCKED}; {QUEUED % 'timed out'}", "network", "outgoing-25-blocked"),
    Fault("rspamd stopped", "systemctl stop rspamd", "MTA", "milter-socket"),
    Fault("clock wrong", CLOCK, "MRA", "clock-wrong"),
    Fault(
        "filter",
        'home=/var/vmail/*/alice; printf \'require "fileinto";\\nfileinto "Junk";\\n\' > $(echo $home)/.dovecot.sieve;'
        " chown vmail:vmail $(echo $home)/.dovecot.sieve",
        "MDA",
        "delivered-elsewhere",
        "warn",
    ),
    Fault(
        "mailbox of root",
        "chown -R root:root /var/vmail/*/alice; chmod -R go= /var/vmail/*/alice",
        "MRA",
        "mailbox-unreadable",
    ),
]


def test_a_healthy_server_gives_no_finding(server):
    result = server.verify()
    assert (result["verdict"], result["findings"]) == ("ok", [])
    assert {record["verdict"] for record in result["records"]} == {"ok"}
    assert result["seconds"] < 15
    assert f"{server.hostname}  port 587" in result["output"]


def test_it_leaves_nothing_behind(server):
    server.verify()
    mailboxes = server.host.run("doveadm mailbox status -u alice@%s messages '*'", server.domain).stdout
    assert "messages=0" in mailboxes
    assert not [line for line in mailboxes.splitlines() if not line.endswith("messages=0")]
    assert "Mail queue is empty" in server.host.run("postqueue -p").stdout


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_fault(server, fault):
    server.do(fault.script)
    result = server.verify(fault.account, fault.password)
    found = [(finding["verdict"], finding["component"], finding["diagnosis"]) for finding in result["findings"]]
    assert found == [(fault.verdict, fault.component, fault.diagnosis)]


def test_nothing_runs(server):
    server.do("systemctl stop postfix dovecot")
    found = {finding["diagnosis"]: finding for finding in server.verify()["findings"]}
    assert sorted(found) == ["dovecot-stopped", "postfix-stopped"]


def test_from_outside_alone(server):
    """Where nobody may log in to the server, what can be seen is still named."""
    server.do("systemctl stop postfix dovecot")
    result = server.verify(verify_inside=False)
    assert [finding["diagnosis"] for finding in result["findings"]] == ["server-unreachable"]
    assert not [record for record in result["records"] if record["service"] == "inside"]


def test_the_server_says_why(server):
    server.do(f"postconf -P submission/inet/smtpd_recipient_restrictions=permitt_sasl_authenticated,reject; {RESTART}")
    (finding,) = server.verify()["findings"]
    assert "unknown smtpd restriction" in finding["log"]


def test_name_leads_elsewhere(server):
    client = server.host.get_host("ansible://client", ansible_inventory=server.host.backend.ansible_inventory)
    client.run("cp /etc/hosts /root/hosts && echo '203.0.113.9 %s' >> /etc/hosts", server.hostname)
    try:
        result = server.verify()
    finally:
        client.run("cat /root/hosts > /etc/hosts")
    assert [(finding["component"], finding["diagnosis"]) for finding in result["findings"]] == [
        ("DNS", "name-elsewhere")
    ]
