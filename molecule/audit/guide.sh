#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
# A mail server as many guides build it by hand: people are users of the system, their mail lies in ~/Maildir, and the
# distribution's files are edited where they lie. This one is done right.
#
# Usage: guide.sh HOSTNAME DOMAIN USER PASSWORD
set -euo pipefail
hostname=$1 domain=$2 user=$3 password=$4

export DEBIAN_FRONTEND=noninteractive
apt-get -q update
debconf-set-selections <<< "postfix postfix/main_mailer_type select Internet Site"
debconf-set-selections <<< "postfix postfix/mailname string $domain"
apt-get -q -y --no-install-recommends install postfix dovecot-imapd dovecot-pop3d dovecot-lmtpd dovecot-managesieved dovecot-sieve openssl

id "$user" 2> /dev/null || adduser --quiet --disabled-password --gecos '' "$user"
echo "$user:$password" | chpasswd

openssl req -x509 -newkey rsa:2048 -nodes -days 90 -subj "/CN=$hostname" -addext "subjectAltName=DNS:$hostname" \
  -addext keyUsage=critical,digitalSignature,keyCertSign -keyout /etc/ssl/private/mail.key -out /etc/ssl/certs/mail.pem 2> /dev/null
chmod 600 /etc/ssl/private/mail.key

postconf -e "myhostname = $hostname" "mydestination = \$myhostname, $domain, localhost" 'mynetworks = 127.0.0.0/8 [::1]/128' \
  'smtpd_tls_cert_file = /etc/ssl/certs/mail.pem' 'smtpd_tls_key_file = /etc/ssl/private/mail.key' \
  'smtpd_tls_security_level = may' 'smtpd_tls_auth_only = yes' \
  'smtpd_sasl_type = dovecot' 'smtpd_sasl_path = private/auth' \
  'smtpd_relay_restrictions = permit_mynetworks, permit_sasl_authenticated, reject_unauth_destination' \
  'mailbox_transport = lmtp:unix:private/dovecot-lmtp' 'inet_interfaces = all'
for service in submission:encrypt:no 465:may:yes; do
  IFS=: read -r port level wrapped <<< "$service"
  postconf -M "$port/inet=$port inet n - y - - smtpd"
  postconf -P "$port/inet/smtpd_tls_security_level=$level" "$port/inet/smtpd_tls_wrappermode=$wrapped" \
    "$port/inet/smtpd_sasl_auth_enable=yes" "$port/inet/smtpd_client_restrictions=permit_sasl_authenticated,reject"
done

# read after all that the distribution has in conf.d
cat > /etc/dovecot/local.conf <<'END'
mail_location = maildir:~/Maildir
auth_mechanisms = plain login
auth_username_format = %Ln
ssl = required
ssl_cert = </etc/ssl/certs/mail.pem
ssl_key = </etc/ssl/private/mail.key
service auth {
  unix_listener /var/spool/postfix/private/auth {
    mode = 0660
    user = postfix
    group = postfix
  }
}
service lmtp {
  unix_listener /var/spool/postfix/private/dovecot-lmtp {
    mode = 0600
    user = postfix
    group = postfix
  }
}
END
systemctl restart dovecot postfix
