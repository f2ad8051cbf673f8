# SPDX-License-Identifier: GPL-3.0-or-later
# A VPS that has the packages of a whole mail server, as the collection installs them: nothing is configured, no service has run.
# For scenarios that begin where site.yml ends. `default` and the roles alone start on a bare VPS.
ARG BASE
FROM ${BASE}
COPY first-boot.service /etc/systemd/system/
RUN systemctl enable first-boot.service

# policy-rc.d: services are enabled and not started, and not started by the first boot either. See first-boot.service.
RUN export DEBIAN_FRONTEND=noninteractive \
 && printf '#!/bin/sh\nexit 101\n' > /usr/sbin/policy-rc.d && chmod 0755 /usr/sbin/policy-rc.d \
 && find /etc/systemd/system -type l | sort > /tmp/before \
 && apt-get -q update \
 && apt-get -q -y --no-install-recommends install openssl ca-certificates postfix dovecot-core dovecot-imapd dovecot-pop3d \
      dovecot-lmtpd dovecot-sieve dovecot-managesieved rspamd nginx \
 && apt-get clean \
 && rm /usr/sbin/policy-rc.d \
 && find /etc/systemd/system -type l | sort | comm -13 /tmp/before - > /tmp/enabled \
 && tar -cf /usr/local/share/enabled.tar -T /tmp/enabled && xargs rm < /tmp/enabled \
 && rm /tmp/before /tmp/enabled

# At its first start rspamd compiles the list of all public suffixes, which takes 10 s of a core. It keeps the result.
RUN rspamd --no-fork --user _rspamd --group _rspamd > /tmp/log 2>&1 & pid=$! \
 && for second in $(seq 120); do sleep 1; ! find /var/lib/rspamd -name '*.hsmp' -size +10M | grep -q . || break; done \
 && kill $pid && wait $pid; cat /tmp/log \
 && find /var/lib/rspamd -name '*.hsmp' -size +10M | grep . \
 && find /var/lib/rspamd -type f ! -name '*.hsmp' -delete \
 && rm -rf /tmp/log /var/log/rspamd/* /var/lib/rspamd/rspamd.sock /run/rspamd
