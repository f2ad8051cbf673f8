# SPDX-License-Identifier: GPL-3.0-or-later
# Storage that others save to: SFTP, and S3 by OpenStack Swift. Scenarios configure and start it. It has a mail client, too.
ARG BASE
FROM ${BASE}
RUN export DEBIAN_FRONTEND=noninteractive \
 && printf '#!/bin/sh\nexit 101\n' > /usr/sbin/policy-rc.d && chmod 0755 /usr/sbin/policy-rc.d \
 && find /etc/systemd/system -type l | sort > /tmp/before \
 && apt-get -q update \
 && apt-get -q -y --no-install-recommends install curl isync openssl swift-proxy swift-account swift-container swift-object \
 && apt-get clean \
 && rm /usr/sbin/policy-rc.d \
 && find /etc/systemd/system -type l | sort | comm -13 /tmp/before - | xargs rm
