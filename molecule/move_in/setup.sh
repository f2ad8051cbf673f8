#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# What the old servers have besides their configuration.
set -eu

# the packages of Cyrus and of Dovecot refuse each other, so the program of one is unpacked beside the other
cd /var/tmp
apt-get -q download cyrus-imapd
dpkg -x cyrus-imapd_*.deb /
systemd-tmpfiles --create cyrus-imapd.conf

openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN=client.test -addext subjectAltName=DNS:client.test \
  -addext keyUsage=critical,digitalSignature,keyCertSign -keyout /etc/old.key -out old.crt
chgrp mail /etc/old.key
chmod 0640 /etc/old.key

printf %s "carla's old one" | saslpasswd2 -p -c -u client.test carla
printf %s "mover's own" | saslpasswd2 -p -c -u client.test mover
chown cyrus:mail /etc/sasldb2
useradd --system --home-dir /var/old --create-home old

# this comes last: it says that all is done
mv old.crt /etc/old.crt
