#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# The reference: the distribution's Postfix and Dovecot with as few settings of their own as a mail client needs to log in on 587.
# Users of the system, PAM, Maildir, and the key and chain in /root/combined.pem. For Dovecot 2.4.
set -eu
export DEBIAN_FRONTEND=noninteractive
apt-get -q update
apt-get -q -y --no-install-recommends install postfix dovecot-imapd
postconf -e myhostname=mail.bench.example "mydestination=bench.example, localhost" home_mailbox=Maildir/ \
  smtpd_tls_chain_files=/root/combined.pem smtpd_tls_security_level=may smtpd_sasl_type=dovecot smtpd_sasl_path=private/auth
postconf -M "submission/inet=submission inet n - y - - smtpd"
postconf -P submission/inet/smtpd_tls_security_level=encrypt submission/inet/smtpd_sasl_auth_enable=yes \
  "submission/inet/smtpd_relay_restrictions=permit_sasl_authenticated,reject"
cat >/etc/dovecot/conf.d/99-bench.conf <<'END'
mail_driver = maildir
mail_path = ~/Maildir
mail_inbox_path = ~/Maildir
ssl_server_cert_file = /root/combined.pem
ssl_server_key_file = /root/combined.pem
service auth {
  unix_listener /var/spool/postfix/private/auth {
    mode = 0660
    user = postfix
    group = postfix
  }
}
END
for n in 0 1 2 3 4 5 6 7; do
  useradd --create-home "u$n"
  echo "u$n:$1" | chpasswd
done
systemctl restart postfix dovecot
