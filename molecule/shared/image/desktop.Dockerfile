# SPDX-License-Identifier: GPL-3.0-or-later
# Somebody's computer, with the mail clients that people use, a browser, and a screen that nobody sits at (Xvfb).
ARG BASE
FROM ${BASE}
RUN export DEBIAN_FRONTEND=noninteractive \
 && apt-get -q update \
 && apt-get -q -y --no-install-recommends install thunderbird claws-mail chromium chromium-driver xvfb xdotool imagemagick fonts-noto-cjk \
      msmtp isync neomutt fetchmail getmail6 curl openssl \
      swaks libnet-ssleay-perl libauthen-sasl-perl libio-socket-ssl-perl \
 && apt-get clean
