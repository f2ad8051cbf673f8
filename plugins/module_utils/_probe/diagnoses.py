# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# May run on any vantage host: Python 3.6 and the standard library only.

"""Everything that can be wrong: which part it is, the likely cause, and the cure.

Each name is also a heading in docs/troubleshooting.md.
"""

import typing as t

#: Where a name of this catalogue is explained at length: galaxy.yml's documentation, to be read from anywhere.
DOC = "https://github.com/port587/mail/tree/main/docs/troubleshooting.md#"


class Diagnosis(t.NamedTuple):
    #: MUA, MSA, MTA, MDA, MRA, DNS or network. Empty: the one that serves the port.
    component: str
    cause: str
    cure: str


DIAGNOSES: t.Dict[str, Diagnosis] = {
    # finding and reaching the server
    "name-unknown": Diagnosis(
        "DNS",
        "the name has no address in DNS, so no mail client can find the server",
        "publish an A record (and AAAA, if the server has IPv6) for it",
    ),
    "name-elsewhere": Diagnosis(
        "DNS",
        "the name leads to another machine than this server",
        "point its A and AAAA records at this server, or wait until the old ones have expired",
    ),
    "dns-record-missing": Diagnosis(
        "DNS",
        "not all that other servers and mail clients look for is published",
        "publish what `ansible-playbook playbooks/dns.yml` shows as missing",
    ),
    "dns-record-different": Diagnosis(
        "DNS",
        "something else is published than this server needs",
        "change what `ansible-playbook playbooks/dns.yml` shows as different",
    ),
    "ipv6-silent": Diagnosis(
        "DNS",
        "an IPv6 address is published, but nothing answers there: clients wait, or fail where they prefer IPv6",
        "let the server listen on IPv6 and open its firewall, or remove the AAAA record",
    ),
    "server-unreachable": Diagnosis(
        "network",
        "no mail port answers: the server is down, the address is wrong, or a firewall stands in between",
        "check the address, that the machine runs, and the provider's firewall",
    ),
    "port-filtered": Diagnosis(
        "network",
        "a firewall drops the connection, at the provider, on the server, or where this test runs",
        "open port {port} in the provider's firewall and on the server",
    ),
    "port-25-filtered": Diagnosis(
        "network",
        "most likely the network that this test runs in blocks outgoing port 25, as home networks and clouds do",
        "test port 25 from another place; if it is silent there too, open it in the server's firewall",
    ),
    "port-rejected": Diagnosis(
        "network",
        "the server listens on port {port}, but connections are refused from outside: a firewall rejects them",
        "open port {port} in the provider's firewall and on the server (nft list ruleset)",
    ),
    "host-firewall": Diagnosis(
        "network",
        "the firewall on the server itself keeps the port shut for everybody",
        "type the command that was seen on the server; the provider's firewall may have to be opened as well",
    ),
    "loopback-only": Diagnosis(
        "",
        "port {port} is open for the server itself only, so nobody else can connect",
        "Postfix: inet_interfaces = all, and restart it; Dovecot: listen = *, ::",
    ),
    "port-taken": Diagnosis(
        "",
        "another program holds port {port}, so the mail server can't listen there",
        "stop and disable that program, or move it to another port; then restart Postfix and Dovecot",
    ),
    "submission-closed": Diagnosis(
        "MSA",
        "Postfix's service on port {port} is not switched on; it is shipped commented out in master.cf",
        "enable the service in /etc/postfix/master.cf and restart Postfix",
    ),
    "smtp-closed": Diagnosis(
        "MTA",
        "nothing listens on port 25, so no other server can deliver mail here",
        "enable smtp in /etc/postfix/master.cf, let inet_interfaces be all, and restart Postfix",
    ),
    "retrieval-closed": Diagnosis(
        "MRA",
        "nothing listens on port {port}",
        "switch the protocol on in Dovecot (protocols, inet_listener) and restart it",
    ),
    "sieve-closed": Diagnosis(
        "MDA",
        "ManageSieve is not switched on, so clients can't manage filters",
        "add sieve to Dovecot's protocols, with dovecot-managesieved installed",
    ),
    "postfix-stopped": Diagnosis(
        "MTA",
        "Postfix does not run: ports 25, 587 and 465 are closed",
        "start Postfix; journalctl -u 'postfix*' says why it stopped",
    ),
    "dovecot-stopped": Diagnosis(
        "MRA",
        "Dovecot does not run: nobody can read mail or log in for sending, as Postfix asks Dovecot about passwords",
        "start Dovecot; journalctl -u dovecot says why it stopped",
    ),
    "dovecot-auth-broken": Diagnosis(
        "MRA",
        "Dovecot runs, but the part of it that checks passwords does not start",
        "journalctl -u dovecot names the reason, such as an unknown word in auth_mechanisms",
    ),
    "restarts-often": Diagnosis(
        "MTA",
        "a daemon ends again and again, and is started again each time; meanwhile nobody is served",
        "journalctl -u UNIT says why it ends; memory that is short is a frequent reason",
    ),
    "not-at-boot": Diagnosis(
        "MTA",
        "it runs now, but will not be started at the next boot",
        "systemctl enable postfix dovecot",
    ),
    "autoconfig-closed": Diagnosis(
        "MUA",
        "nothing listens on port {port}, so mail clients can't ask for their settings, and people have to type them in",
        "start nginx (journalctl -u nginx says why it stopped), or do without: mail_autoconfig: false",
    ),
    "autoconfig-wrong": Diagnosis(
        "MUA",
        "what mail clients are told of this server is not what it serves",
        "see which site answers for the server's name (nginx -T), and run the playbook again",
    ),
    "autoconfig-name": Diagnosis(
        "DNS",
        "mail clients ask for their settings at a name that does not lead to this server",
        "publish it as a CNAME record that names the mail host",
    ),
    # a service that answers wrongly
    "service-dies": Diagnosis(
        "",
        "the program behind port {port} dies as soon as somebody connects",
        "the server's journal has its last words (fatal: ...); correct that and restart the service",
    ),
    "service-stalls": Diagnosis(
        "",
        "the server takes the connection on port {port}, but does not answer in time",
        "look at the server's load and journal (Postfix: throttling after a fatal error), then restart the service",
    ),
    "service-confused": Diagnosis(
        "",
        "the program behind port {port} does not speak the protocol that belongs there, or hangs up in the middle",
        "see which program listens on port {port} (ss -ltnp) and read its journal",
    ),
    "service-busy": Diagnosis(
        "",
        "the server refuses to talk to this address for now",
        "read its journal for the reason: a ban after failed logins, too many connections, or no resources",
    ),
    "tls-from-the-start": Diagnosis(
        "",
        "port {port} speaks TLS from the first byte, but clients expect STARTTLS there",
        "remove smtpd_tls_wrappermode from the service on port {port}; it belongs to 465",
    ),
    "tls-not-from-the-start": Diagnosis(
        "",
        "port {port} starts in clear, but clients expect TLS from the first byte there",
        "for 465 set smtpd_tls_wrappermode = yes; for 993 and 995 set ssl = yes in Dovecot's inet_listener",
    ),
    # TLS
    "starttls-missing": Diagnosis(
        "",
        "STARTTLS is not offered on port {port}",
        "Postfix: smtpd_tls_security_level = encrypt (may on 25) with a certificate; Dovecot: ssl = required",
    ),
    "tls-broken": Diagnosis(
        "",
        "TLS is promised but the handshake fails, most often because the server can't read its key or certificate",
        "make key and certificate readable and matching, and restart the service",
    ),
    "certificate-expired": Diagnosis(
        "",
        "the certificate has expired",
        "renew it; if it was renewed already, reload Postfix and Dovecot so that they serve it",
    ),
    "certificate-not-yet-valid": Diagnosis(
        "",
        "the certificate is not valid yet: the clock here or on the server that made it is wrong",
        "set both clocks (timedatectl), then make the certificate again if it was the server's",
    ),
    "certificate-wrong-name": Diagnosis(
        "",
        "the certificate is for another name than the one clients connect to",
        "get a certificate that contains this name, or let clients use the name that it contains",
    ),
    "certificate-chain": Diagnosis(
        "",
        "the server sends its certificate alone, and its issuer is not known here: the intermediate is missing",
        "serve the full chain (fullchain.pem, leaf first); where the CA is your own, clients have to import its file",
    ),
    "certificate-untrusted": Diagnosis(
        "",
        "the certificate comes from a certification authority that is not trusted here",
        "import the CA's file into clients (and give it to this test), or get a certificate from a public CA",
    ),
    "certificate-expires-soon": Diagnosis(
        "",
        "the certificate expires soon and has not been renewed, though it was time to",
        "look why the automatic renewal does not run, or renew it by hand",
    ),
    "certificate-not-loaded": Diagnosis(
        "",
        "the certificate was exchanged, but the daemon still serves the old one",
        "systemctl reload postfix dovecot, and let what renews the certificate do that from now on",
    ),
    "certificate-not-issued": Diagnosis(
        "MSA",
        "the certificate's authority (ACME) has not issued any yet, so another certificate stands in",
        "mend what the authority complains of; the server asks again every hour, or now: "
        "systemctl start port587-certificates",
    ),
    "renewal-failed": Diagnosis(
        "MSA",
        "the last attempt to renew the certificate failed; the present one is served as long as it is valid",
        "mend what is complained of; the server asks again twice a day, or now: systemctl start port587-certificates",
    ),
    "renewal-off": Diagnosis(
        "MSA",
        "nothing renews the certificate: the timer does not run",
        "run site.yml, or: systemctl enable --now port587-certificates.timer",
    ),
    "key-weak": Diagnosis(
        "",
        "the key is shorter than 2048 bits",
        "make a new ECDSA P-256 or RSA 3072 key and certificate",
    ),
    # logging in
    "login-in-clear": Diagnosis(
        "",
        "a login is offered before TLS: passwords can be read on the way",
        "Postfix: smtpd_tls_auth_only = yes; Dovecot: disable_plaintext_auth = yes (2.4: auth_allow_cleartext = no)",
    ),
    "login-not-offered": Diagnosis(
        "",
        "no login with a password is offered on port {port}",
        "Postfix: smtpd_sasl_auth_enable = yes on this service; Dovecot: auth_mechanisms = plain login",
    ),
    "login-only-plain": Diagnosis(
        "MSA",
        "the mechanism LOGIN is not offered, which Outlook needs",
        "auth_mechanisms = plain login in Dovecot",
    ),
    "login-socket": Diagnosis(
        "MSA",
        "Postfix can't ask Dovecot about passwords: the login socket is missing, elsewhere, or closed to postfix",
        "Dovecot: service auth with unix_listener /var/spool/postfix/private/auth (mode 0660, user and group postfix); "
        "Postfix: smtpd_sasl_type = dovecot, smtpd_sasl_path = private/auth; then restart both",
    ),
    "login-refused": Diagnosis(
        "MUA",
        "user name or password is wrong, or the account is switched off",
        "use the full mail address as user name; set the password again",
    ),
    "login-wrong-backend": Diagnosis(
        "MSA",
        "the same password is accepted for reading mail: Postfix does not ask Dovecot",
        "smtpd_sasl_type = dovecot and smtpd_sasl_path = private/auth",
    ),
    "login-not-for-reading": Diagnosis(
        "MRA",
        "the same password is accepted for sending: the account may not read mail",
        "if it is not meant to be send-only, allow it in Dovecot's passdb",
    ),
    "login-on-25": Diagnosis(
        "MTA",
        "a login is offered on port 25, where robots guess passwords",
        "smtpd_sasl_auth_enable = no for smtp, yes only for submission and submissions in master.cf",
    ),
    # sending
    "open-without-login": Diagnosis(
        "MSA",
        "mail is taken on port {port} without a login",
        "smtpd_relay_restrictions (and recipient restrictions) = permit_sasl_authenticated, reject on this service",
    ),
    "open-relay": Diagnosis(
        "MTA",
        "anybody can send mail to anywhere through this server; it will be listed as a source of spam within hours",
        "mynetworks only loopback, and reject_unauth_destination in smtpd_relay_restrictions",
    ),
    "relay-unclear": Diagnosis(
        "MTA",
        "the server did not refuse relaying for good, but for now",
        "test again later, or from another address",
    ),
    "sender-refused": Diagnosis(
        "MSA",
        "the login may not send with this address",
        "list the address for this login in smtpd_sender_login_maps, or correct the address in the client",
    ),
    "send-limit": Diagnosis(
        "MSA",
        "a login has sent to as many recipients as it may, and is put off",
        "somebody else may know its password: look what it sent, and change it; if all is well, raise its limit "
        "(postfix_send_limits_by_login)",
    ),
    "recipient-unknown": Diagnosis(
        "",
        "the server does not know the account's own address",
        "list the address in the table that virtual_mailbox_maps names, run postmap on it, and its domain in "
        "virtual_mailbox_domains",
    ),
    "domain-is-local": Diagnosis(
        "",
        "the domain stands in mydestination, so Postfix looks for system users instead of mailboxes",
        "take it out of mydestination; it belongs only into virtual_mailbox_domains",
    ),
    "mailbox-full": Diagnosis("MDA", "the mailbox is full", "delete mail, or raise the account's quota"),
    "lookup-failed": Diagnosis(
        "",
        "Postfix can't read one of its tables, or a restriction is misspelt",
        "the journal names it (warning: ... lookup error); run postmap on the table, or correct the word",
    ),
    "disk-full": Diagnosis("", "the server's disk is full", "make room in /var/spool/postfix and /var/vmail"),
    "disk-nearly-full": Diagnosis(
        "MDA", "less than 5 % of a disk is left", "make room before mail is refused: du -x -d 2 / | sort -n | tail"
    ),
    "memory-short": Diagnosis(
        "MDA",
        "memory ran out, and the kernel killed programs",
        "add swap or memory, or let fewer clients in at a time (default_process_limit, client_limit)",
    ),
    "kernel-limit": Diagnosis(
        "MRA",
        "the kernel lets this server have less than its sessions need, so some people see new mail half a minute late",
        "sysctl --system; in a container only the machine around it can raise the limit",
    ),
    "table-stale": Diagnosis(
        "MTA",
        "a table was changed but not compiled, so that Postfix still works with the old one",
        "run postmap on it (postalias for aliases)",
    ),
    "milter-socket": Diagnosis(
        "MTA",
        "Postfix can't show mail to the milter that signs and checks it, and puts it off until it can",
        "start the milter (systemctl restart rspamd); its socket has to let the user postfix in",
    ),
    "policy-socket": Diagnosis(
        "MTA",
        "Postfix can't ask a policy service that it was told to ask: mail is put off, or goes on unasked",
        "start what listens on that socket (full mailboxes: port587-recipients, which asks Dovecot's service "
        "quota-status; sending limits: port587-send-limits), or correct check_policy_service",
    ),
    "mail-refused": Diagnosis("", "the server refused the test message", "its answer and its journal say why"),
    "mail-in-refused": Diagnosis(
        "MTA",
        "mail from outside to this account is refused, or put off, on port 25",
        "the answer says why; greylisting is meant, and an address on a block list is only this test's own",
    ),
    "unknown-user-accepted": Diagnosis(
        "MTA",
        "mail to an address that does not exist is taken: a catch-all, or it bounces later to forged senders",
        "if no catch-all is meant, list the mailboxes in virtual_mailbox_maps so that Postfix refuses all others",
    ),
    # delivery and reading
    "not-delivered": Diagnosis(
        "MDA",
        "Postfix took the message, but it did not reach the mailbox: it waits in the queue, or a filter took it",
        "postqueue -p shows why it waits; Dovecot must listen on /var/spool/postfix/private/dovecot-lmtp for postfix",
    ),
    "delivery-socket": Diagnosis(
        "MDA",
        "Postfix can't hand mail to Dovecot: the LMTP socket is missing, elsewhere, or closed to postfix",
        "Dovecot: service lmtp with unix_listener /var/spool/postfix/private/dovecot-lmtp (mode 0600, user and group "
        "postfix); Postfix: virtual_transport = lmtp:unix:private/dovecot-lmtp; then restart both",
    ),
    "queue-stuck": Diagnosis(
        "MTA",
        "mail waits in the queue for hours",
        "postqueue -p shows why; when the reason is gone: postqueue -f",
    ),
    "resolver-in-chroot": Diagnosis(
        "MTA",
        "Postfix asks other name servers than the rest of the server: its copy of resolv.conf is old",
        "systemctl restart postfix, which copies it anew",
    ),
    "resolver-fails": Diagnosis(
        "DNS",
        "the resolver on the mail server does not answer, or can't validate, so mail to and from others is put off",
        "journalctl -u unbound says why; where name servers of the world can't be reached: unbound_forwarders",
    ),
    "outgoing-25-blocked": Diagnosis(
        "network",
        "no connection to port 25 of any other server comes about: most clouds block it until they are asked",
        "ask the provider to open outgoing port 25, or send through another server (postfix_relays)",
    ),
    "delivered-elsewhere": Diagnosis(
        "MDA", "a filter put the message into another folder", "look at the account's and the server's Sieve scripts"
    ),
    "message-changed": Diagnosis(
        "MDA",
        "the message did not come back as it was sent",
        "look for a milter, a content filter or a Sieve script that rewrites mail",
    ),
    "mailbox-unreadable": Diagnosis(
        "MRA",
        "the password is right but the mailbox can't be opened, most often because its files belong to somebody else",
        "chown -R vmail:vmail /var/vmail; journalctl -u dovecot names the folder",
    ),
    "not-removed": Diagnosis(
        "MRA",
        "the test message could not be removed again",
        "delete the message with 'port587 verify' in its subject",
    ),
    "clock-wrong": Diagnosis(
        "",
        "the server's clock and the one here differ",
        "look at both with timedatectl, and let systemd-timesyncd or chrony run where it is wrong",
    ),
}
