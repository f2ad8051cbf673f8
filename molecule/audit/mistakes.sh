#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
# The three classic mistakes, made on the server of guide.sh: the submission service is still commented out, so logins were
# switched on for port 25 instead, and the certificate is the one that came with the system.
set -euo pipefail

export DEBIAN_FRONTEND=noninteractive
apt-get -q -y --no-install-recommends install ssl-cert
postconf -MX submission/inet
postconf -e 'smtpd_sasl_auth_enable = yes' \
  'smtpd_tls_cert_file = /etc/ssl/certs/ssl-cert-snakeoil.pem' 'smtpd_tls_key_file = /etc/ssl/private/ssl-cert-snakeoil.key'
sed -i 's,/etc/ssl/certs/mail.pem,/etc/ssl/certs/ssl-cert-snakeoil.pem,; s,/etc/ssl/private/mail.key,/etc/ssl/private/ssl-cert-snakeoil.key,' \
  /etc/dovecot/local.conf
systemctl restart dovecot postfix
