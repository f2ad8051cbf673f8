# SPDX-License-Identifier: GPL-3.0-or-later
# The rest of a test internet: a name server, a mail server of another kind, a certificate authority. Scenarios configure and start them.
ARG BASE
FROM ${BASE}
RUN export DEBIAN_FRONTEND=noninteractive \
 && printf '#!/bin/sh\nexit 101\n' > /usr/sbin/policy-rc.d && chmod 0755 /usr/sbin/policy-rc.d \
 && apt-get -q update \
 && apt-get -q -y --no-install-recommends install bind9 bind9-utils bind9-dnsutils exim4-daemon-light pebble \
 && apt-get clean \
 && rm /usr/sbin/policy-rc.d \
 && systemctl disable named exim4
