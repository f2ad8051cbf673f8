# SPDX-License-Identifier: GPL-3.0-or-later
# Another VPS in the network, with mail clients that nobody here wrote.
ARG BASE
FROM ${BASE}
RUN export DEBIAN_FRONTEND=noninteractive \
 && apt-get -q update \
 && apt-get -q -y --no-install-recommends install swaks libnet-ssleay-perl libauthen-sasl-perl libio-socket-ssl-perl \
      msmtp isync curl openssl python3-aiosmtpd \
 && apt-get clean
