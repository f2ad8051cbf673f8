# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# May run on any vantage host: Python 3.6 and the standard library only.

"""The catalogue of diagnoses: the part that fails, the likely cause, and the cure.

Each name is also a heading in docs/troubleshooting.md.
"""

import typing as t

#: URL of the page that explains each diagnosis: galaxy.yml's documentation, readable without a checkout.
DOC = "https://github.com/port587/mail/tree/main/docs/troubleshooting.md#"


class Diagnosis(t.NamedTuple):
    #: MUA, MSA, MTA, MDA, MRA, DNS or network. Empty: the service on the port.
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
        "the name points to another machine, not to this server",
        "point its A and AAAA records at this server, or wait until the old ones have expired",
    ),
    "dns-record-missing": Diagnosis(
        "DNS",
        "some records that other servers and mail clients look for are missing",
        "publish the records that `ansible-playbook playbooks/dns.yml` shows as missing",
    ),
    "dns-record-different": Diagnosis(
        "DNS",
        "a published record differs from the one that this server needs",
        "change the records that `ansible-playbook playbooks/dns.yml` shows as different",
    ),
    "ipv6-silent": Diagnosis(
        "DNS",
        "an IPv6 address is published, but does not answer: clients are slow, or fail if they prefer IPv6",
        "make the server listen on IPv6 and open its firewall, or remove the AAAA record",
    ),
    "server-unreachable": Diagnosis(
        "network",
        "no mail port answers: the server is down, the address is wrong, or a firewall blocks it",
        "check the address, whether the machine runs, and the provider's firewall",
    ),
    "port-filtered": Diagnosis(
        "network",
        "a firewall drops the connection, at the provider, on the server, or where this test runs",
        "open port {port} in the provider's firewall and on the server",
    ),
    "port-25-filtered": Diagnosis(
        "network",
        "most likely the network that this test runs in blocks outgoing port 25, as home networks and clouds do",
        "test port 25 from another network; if it does not answer there either, open it in the server's firewall",
    ),
    "port-rejected": Diagnosis(
        "network",
        "the server listens on port {port}, but connections are refused from outside: a firewall rejects them",
        "open port {port} in the provider's firewall and on the server (nft list ruleset)",
    ),
    "host-firewall": Diagnosis(
        "network",
        "the firewall on the server itself blocks the port for all clients",
        "run the command shown under 'seen' on the server; you may also have to open the provider's firewall",
    ),
    "address-banned": Diagnosis(
        "network",
        "the server has banned this test's own address, because of wrong logins from there, maybe of another program",
        "run the command shown under 'seen' on the server; `journalctl -u port587-login-limits` has the wrong logins",
    ),
    "bans-stopped": Diagnosis(
        "network",
        "fail2ban does not run, so nobody who guesses passwords is banned",
        "systemctl restart fail2ban; journalctl -u fail2ban shows why it stopped",
    ),
    "firewall-off": Diagnosis(
        "network",
        "the server's own firewall is not in force: another program has deleted all rules, or it could not be loaded",
        "systemctl restart port587-firewall; journalctl -u port587-firewall shows why it could not be loaded",
    ),
    "loopback-only": Diagnosis(
        "",
        "the service on port {port} listens for the server itself only, so clients cannot connect",
        "Postfix: inet_interfaces = all, and restart it; Dovecot: listen = *, ::",
    ),
    "port-taken": Diagnosis(
        "",
        "another program listens on port {port}, so the mail server cannot",
        "stop and disable that program, or move it to another port; then restart Postfix and Dovecot",
    ),
    "submission-closed": Diagnosis(
        "MSA",
        "Postfix's service on port {port} is not enabled; it is commented out in master.cf as packaged",
        "enable the service in /etc/postfix/master.cf and restart Postfix",
    ),
    "smtp-closed": Diagnosis(
        "MTA",
        "nothing listens on port 25, so no other server can deliver mail here",
        "enable smtp in /etc/postfix/master.cf, set inet_interfaces = all, and restart Postfix",
    ),
    "retrieval-closed": Diagnosis(
        "MRA",
        "nothing listens on port {port}",
        "enable the protocol in Dovecot (protocols, inet_listener) and restart Dovecot",
    ),
    "sieve-closed": Diagnosis(
        "MDA",
        "ManageSieve is not enabled, so clients cannot manage filters",
        "install dovecot-managesieved and add sieve to Dovecot's protocols",
    ),
    "postfix-stopped": Diagnosis(
        "MTA",
        "Postfix does not run: ports 25, 587 and 465 are closed",
        "start Postfix; journalctl -u 'postfix*' shows why it stopped",
    ),
    "dovecot-stopped": Diagnosis(
        "MRA",
        "Dovecot does not run: clients cannot read mail, or log in for sending, as Dovecot checks the passwords",
        "start Dovecot; journalctl -u dovecot shows why it stopped",
    ),
    "dovecot-auth-broken": Diagnosis(
        "MRA",
        "Dovecot runs, but its authentication process does not start",
        "journalctl -u dovecot shows the reason, such as an unknown word in auth_mechanisms",
    ),
    "restarts-often": Diagnosis(
        "MTA",
        "a daemon ends repeatedly; it is restarted each time, but cannot serve clients meanwhile",
        "journalctl -u UNIT shows why it ends; a frequent reason is lack of memory",
    ),
    "not-at-boot": Diagnosis(
        "MTA",
        "the daemon runs now, but will not start at the next boot",
        "systemctl enable postfix dovecot",
    ),
    "autoconfig-closed": Diagnosis(
        "MUA",
        "nothing listens on port {port}, so mail clients cannot configure themselves and users must type the settings",
        "start nginx (journalctl -u nginx shows why it stopped), or disable it: mail_autoconfig: false",
    ),
    "autoconfig-wrong": Diagnosis(
        "MUA",
        "the settings published for mail clients differ from what the server offers",
        "find the site that answers for the server's name (nginx -T), then run the playbook again",
    ),
    "autoconfig-name": Diagnosis(
        "DNS",
        "the name where mail clients request their settings does not point to this server",
        "publish a CNAME record for it that names the mail host",
    ),
    "webmail-down": Diagnosis(
        "MUA",
        "the page of webmail does not appear",
        "journalctl -u port587-webmail shows why; systemctl restart port587-webmail, or set mail_webmail: false",
    ),
    # a service that answers wrongly
    "service-dies": Diagnosis(
        "",
        "the program behind port {port} ends as soon as a client connects",
        "the server's journal has the reason (fatal: ...); correct it and restart the service",
    ),
    "service-stalls": Diagnosis(
        "",
        "the server accepts the connection on port {port}, but does not answer in time",
        "check the server's load and journal (Postfix: throttling after a fatal error), then restart the service",
    ),
    "service-confused": Diagnosis(
        "",
        "the program behind port {port} does not speak the expected protocol, or closes the connection early",
        "find the program that listens on port {port} (ss -ltnp) and read its journal",
    ),
    "service-endless": Diagnosis(
        "",
        "the program behind port {port} sends an answer that does not end, or that is far larger than any mail "
        "server's; the test has hung up",
        "see which program listens on port {port} (ss -ltnp); a mail server does not do this, so the address may lead "
        "to another machine, or to one that was broken into",
    ),
    "service-busy": Diagnosis(
        "",
        "the server temporarily refuses connections from this address",
        "its journal has the reason: a ban after failed logins, too many connections, or no resources",
    ),
    "tls-from-the-start": Diagnosis(
        "",
        "port {port} speaks TLS from the first byte, but clients expect STARTTLS",
        "remove smtpd_tls_wrappermode from the service on port {port}; it belongs to 465",
    ),
    "tls-not-from-the-start": Diagnosis(
        "",
        "port {port} starts without TLS, but clients expect TLS from the first byte",
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
        "the server offers TLS but the handshake fails, most often because it cannot read its key or certificate",
        "make key and certificate readable and check that they match, then restart the service",
    ),
    "certificate-expired": Diagnosis(
        "",
        "the certificate has expired",
        "renew it; if it was renewed already, reload Postfix and Dovecot so that they serve it",
    ),
    "certificate-not-yet-valid": Diagnosis(
        "",
        "the certificate is not valid yet: the clock here, or on the server that created it, is wrong",
        "set both clocks (timedatectl), then create the certificate again if the server's clock was wrong",
    ),
    "certificate-wrong-name": Diagnosis(
        "",
        "the certificate is for another name than the one clients connect to",
        "get a certificate that contains this name, or let clients use the name that it contains",
    ),
    "certificate-chain": Diagnosis(
        "",
        "the server sends only its own certificate, and its issuer is unknown here: the intermediate is missing",
        "serve the full chain (fullchain.pem, leaf first); with a CA of your own, import its file into clients",
    ),
    "certificate-untrusted": Diagnosis(
        "",
        "the certificate comes from a certification authority that is not trusted here",
        "import the CA's file into clients (and set verify_ca_file), or get a certificate from a public CA",
    ),
    "certificate-expires-soon": Diagnosis(
        "",
        "the certificate expires soon, and the renewal that was due did not happen",
        "find out why the automatic renewal does not run, or renew it by hand",
    ),
    "certificate-not-loaded": Diagnosis(
        "",
        "the certificate file is new, but the daemon still serves the old certificate",
        "systemctl reload postfix dovecot, and add this reload to the renewal",
    ),
    "certificate-not-issued": Diagnosis(
        "MSA",
        "the ACME authority has not issued the certificate yet; a temporary certificate is in use",
        "solve the problem that the authority reports; the server retries every hour, or now: "
        "systemctl start port587-certificates",
    ),
    "renewal-failed": Diagnosis(
        "MSA",
        "the last renewal of the certificate failed; the present one stays in use while it is valid",
        "solve the reported problem; the server retries twice a day, or now: systemctl start port587-certificates",
    ),
    "renewal-off": Diagnosis(
        "MSA",
        "the timer that renews the certificate does not run",
        "run site.yml, or: systemctl enable --now port587-certificates.timer",
    ),
    "key-weak": Diagnosis(
        "",
        "the key is shorter than 2048 bits",
        "create a new ECDSA P-256 or RSA 3072 key and certificate",
    ),
    # logging in
    "login-in-clear": Diagnosis(
        "",
        "the server offers logins before TLS, so passwords can be read on the way",
        "Postfix: smtpd_tls_auth_only = yes; Dovecot: disable_plaintext_auth = yes (2.4: auth_allow_cleartext = no)",
    ),
    "login-not-offered": Diagnosis(
        "",
        "port {port} does not offer a login with a password",
        "Postfix: smtpd_sasl_auth_enable = yes on this service; Dovecot: auth_mechanisms = plain login",
    ),
    "login-only-plain": Diagnosis(
        "MSA",
        "the server does not offer the mechanism LOGIN, which Outlook needs",
        "auth_mechanisms = plain login in Dovecot",
    ),
    "login-socket": Diagnosis(
        "MSA",
        "Postfix cannot use Dovecot's login socket: it is missing, has another path, or is closed to postfix",
        "Dovecot: service auth with unix_listener /var/spool/postfix/private/auth (mode 0660, user and group postfix); "
        "Postfix: smtpd_sasl_type = dovecot, smtpd_sasl_path = private/auth; then restart both",
    ),
    "login-refused": Diagnosis(
        "MUA",
        "the user name or the password is wrong, or the account is disabled",
        "use the full mail address as user name; set the password again",
    ),
    "password-changed": Diagnosis(
        "MUA",
        "the tested person has changed the password on the server, so the one in the variables is refused",
        "put an account of your own for tests first in mail_accounts, or set verify_address and verify_password",
    ),
    "login-wrong-backend": Diagnosis(
        "MSA",
        "the same password works for reading mail, so Postfix does not use Dovecot to check passwords",
        "smtpd_sasl_type = dovecot and smtpd_sasl_path = private/auth",
    ),
    "login-not-for-reading": Diagnosis(
        "MRA",
        "the same password works for sending, but the account may not read mail",
        "unless the account is send-only on purpose, allow reading in Dovecot's passdb",
    ),
    "login-on-25": Diagnosis(
        "MTA",
        "port 25 offers logins, and bots guess passwords there",
        "smtpd_sasl_auth_enable = no for smtp, yes only for submission and submissions in master.cf",
    ),
    # sending
    "open-without-login": Diagnosis(
        "MSA",
        "port {port} accepts mail without a login",
        "smtpd_relay_restrictions (and recipient restrictions) = permit_sasl_authenticated, reject on this service",
    ),
    "open-relay": Diagnosis(
        "MTA",
        "the server relays mail for everybody to any destination; it will be listed as a source of spam within hours",
        "set mynetworks to loopback only, and add reject_unauth_destination to smtpd_relay_restrictions",
    ),
    "relay-unclear": Diagnosis(
        "MTA",
        "the server refused relaying only temporarily",
        "test again later, or from another address",
    ),
    "sender-refused": Diagnosis(
        "MSA",
        "the login may not send with this address",
        "list the address for this login in smtpd_sender_login_maps, or correct the address in the client",
    ),
    "send-limit": Diagnosis(
        "MSA",
        "a login has reached its limit of recipients, and its mail is deferred",
        "somebody else may know its password: check the sent mail and change the password; otherwise raise the limit "
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
        "the domain is in mydestination, so Postfix looks for system users instead of mailboxes",
        "remove it from mydestination; it belongs in virtual_mailbox_domains only",
    ),
    "mailbox-full": Diagnosis("MDA", "the mailbox is full", "delete mail, or raise the account's quota"),
    "lookup-failed": Diagnosis(
        "",
        "Postfix cannot read one of its tables, or a restriction is misspelt",
        "the journal names it (warning: ... lookup error); run postmap on the table, or correct the word",
    ),
    "disk-full": Diagnosis("", "the server's disk is full", "free some space in /var/spool/postfix and /var/vmail"),
    "disk-nearly-full": Diagnosis(
        "MDA",
        "less than 5 % of a disk is free",
        "free some space before mail is refused: du -x -d 2 / | sort -n | tail",
    ),
    "memory-short": Diagnosis(
        "MDA",
        "memory ran out, and the kernel killed programs",
        "add swap or memory, or allow fewer clients at a time (default_process_limit, client_limit)",
    ),
    "sessions-full": Diagnosis(
        "MRA",
        "as many sessions were open as the server has room for, and further ones were closed",
        "doveadm who shows who has them; dovecot_extra can raise the service's process_limit if there is memory",
    ),
    "kernel-limit": Diagnosis(
        "MRA",
        "a kernel limit is too low for the number of sessions, so some users see new mail half a minute late",
        "sysctl --system; for a container, only its host can raise the limit",
    ),
    "table-stale": Diagnosis(
        "MTA",
        "a table was changed but not compiled, so Postfix still uses the old one",
        "run postmap on it (postalias for aliases)",
    ),
    "milter-socket": Diagnosis(
        "MTA",
        "Postfix cannot reach the milter that signs and checks mail, and defers mail until it can",
        "start the milter (systemctl restart rspamd); the user postfix must be able to open its socket",
    ),
    "policy-socket": Diagnosis(
        "MTA",
        "Postfix cannot reach a policy service: it defers mail, or accepts it without that check",
        "start the service that belongs to the socket (full mailboxes: port587-recipients, which uses Dovecot's "
        "service quota-status; sending limits: port587-send-limits), or correct check_policy_service",
    ),
    "mail-refused": Diagnosis("", "the server refused the test message", "its answer and its journal have the reason"),
    "mail-in-refused": Diagnosis(
        "MTA",
        "port 25 rejects or defers mail from outside for this account",
        "the answer has the reason; greylisting is intended, and a block list concerns this test's own address only",
    ),
    "unknown-user-accepted": Diagnosis(
        "MTA",
        "the server accepts mail to an address that does not exist: a catch-all, or later bounces to forged senders",
        "without an intended catch-all, list the mailboxes in virtual_mailbox_maps so that Postfix refuses all others",
    ),
    # delivery and reading
    "not-delivered": Diagnosis(
        "MDA",
        "Postfix accepted the message, but it did not reach the mailbox: it is in the queue, or a filter moved it",
        "postqueue -p shows the reason; Dovecot must listen on /var/spool/postfix/private/dovecot-lmtp for postfix",
    ),
    "delivery-socket": Diagnosis(
        "MDA",
        "Postfix cannot pass mail to Dovecot: the LMTP socket is missing, has another path, or is closed to postfix",
        "Dovecot: service lmtp with unix_listener /var/spool/postfix/private/dovecot-lmtp (mode 0600, user and group "
        "postfix); Postfix: virtual_transport = lmtp:unix:private/dovecot-lmtp; then restart both",
    ),
    "queue-stuck": Diagnosis(
        "MTA",
        "mail has been in the queue for hours",
        "postqueue -p shows the reason; after the repair: postqueue -f",
    ),
    "forward-refused": Diagnosis(
        "MTA",
        "another server refuses forwarded mail, since neither SPF nor DKIM of the sender's domain passes there; the "
        "senders get a bounce",
        "set mail_srs to true if it is not; mail without a DKIM signature is lost on servers that enforce DMARC, so "
        "have the person read it here, or fetch it from here",
    ),
    "resolver-in-chroot": Diagnosis(
        "MTA",
        "Postfix uses other name servers than the rest of the server: its copy of resolv.conf is old",
        "systemctl restart postfix, which makes a new copy",
    ),
    "resolver-fails": Diagnosis(
        "DNS",
        "the server's own resolver does not answer or cannot validate, so mail to and from other servers is deferred",
        "journalctl -u unbound shows the reason; if the network blocks other name servers: unbound_forwarders",
    ),
    "outgoing-25-blocked": Diagnosis(
        "network",
        "port 25 of other servers cannot be reached: most clouds block it until you ask",
        "ask the provider to open outgoing port 25, or send through another server (postfix_relays)",
    ),
    "delivered-elsewhere": Diagnosis(
        "MDA", "a filter moved the message to another folder", "check the account's and the server's Sieve scripts"
    ),
    "message-changed": Diagnosis(
        "MDA",
        "the received message differs from the sent one",
        "find the milter, content filter or Sieve script that rewrites mail",
    ),
    "mailbox-unreadable": Diagnosis(
        "MRA",
        "the password is right but the mailbox cannot be opened, most often because its files have the wrong owner",
        "chown -R vmail:vmail /var/vmail; journalctl -u dovecot names the folder",
    ),
    "backup-old": Diagnosis(
        "MRA",
        "the last good backup is older than a day",
        "systemctl start port587-backup; journalctl -u port587-backup shows why it fails",
    ),
    "backup-unreachable": Diagnosis(
        "MRA",
        "the backup's repository is gone or cannot be reached",
        "check the backup server or mount the disk; if the repository is lost, write another backup_repository",
    ),
    "backup-full": Diagnosis(
        "MRA",
        "the backup's disk is full",
        "make space there, or keep fewer snapshots (backup_keep)",
    ),
    "backup-password": Diagnosis(
        "MRA",
        "the backup's password is not the one of the repository",
        "set backup_password to the password with which the repository was made",
    ),
    "backup-locked": Diagnosis(
        "MRA",
        "another program holds the backup's repository",
        "wait until it has ended; the next backup removes locks that nobody has renewed for half an hour",
    ),
    "backup-damaged": Diagnosis(
        "MRA",
        "files of the backup's repository are damaged or missing, so a restore may lack mail",
        "write another backup_repository at once, then look at the disk; docs/backup.md says how to repair the old one",
    ),
    "backup-foreign": Diagnosis(
        "MRA",
        "the backup's repository belongs to another server, or is another one than before",
        "write a backup_repository of this server alone",
    ),
    "backup-shrunk": Diagnosis(
        "MRA",
        "earlier backups have more than twice as many mails",
        "if mail is missing here, run the playbook restore with restore_at; if it was deleted on purpose, "
        "run python3 /usr/local/lib/port587/backup accept",
    ),
    "not-removed": Diagnosis(
        "MRA",
        "the test message could not be removed",
        "delete the message with 'port587 verify' in its subject",
    ),
    "clock-wrong": Diagnosis(
        "",
        "the clocks of the server and of this machine differ",
        "check both with timedatectl, and run systemd-timesyncd or chrony where the clock is wrong",
    ),
}
