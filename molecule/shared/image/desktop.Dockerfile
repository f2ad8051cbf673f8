# SPDX-License-Identifier: GPL-3.0-or-later
# Somebody's computer, with the mail clients that people use and a browser, on a screen that nobody looks at (Xvfb).
ARG BASE
FROM ${BASE}
RUN export DEBIAN_FRONTEND=noninteractive \
 && apt-get -q update \
 && apt-get -q -y --no-install-recommends install thunderbird chromium claws-mail xvfb xdotool imagemagick fonts-noto-cjk \
      msmtp isync neomutt fetchmail getmail6 swaks libnet-ssleay-perl libauthen-sasl-perl libio-socket-ssl-perl curl openssl \
      libnss3-tools procmail- python3-pip python3-venv dbus-x11 \
 && apt-get clean
