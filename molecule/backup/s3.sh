#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Serves S3 on port 9000: one OpenStack Swift with one disk, and one account with a key ID and a key. Makes one bucket.
#
# Usage: s3.sh KEY_ID KEY BUCKET    The key ID is ACCOUNT:USER
set -euo pipefail

cd /etc/swift
[ ! -e account.builder ] || exit 0
cat >swift.conf <<'END'
[swift-hash]
swift_hash_path_suffix = of-tests
[storage-policy:0]
name = one
default = yes
END
port=6200
for kind in object container account; do
  swift-ring-builder $kind.builder create 2 1 1
  swift-ring-builder $kind.builder add r1z1-127.0.0.1:$port/disk 1
  # 1 is a warning: one disk is no redundancy
  swift-ring-builder $kind.builder rebalance || [ $? -eq 1 ]
  cat >$kind-server.conf <<END
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = $port
devices = /srv/swift
mount_check = false
workers = 0
[pipeline:main]
pipeline = $kind-server
[app:$kind-server]
use = egg:swift#$kind
END
  port=$((port + 1))
done
cat >proxy-server.conf <<END
[DEFAULT]
bind_port = 9000
workers = 0
[pipeline:main]
pipeline = catch_errors cache s3api tempauth proxy-server
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:cache]
use = egg:swift#memcache
[filter:s3api]
use = egg:swift#s3api
allow_multipart_uploads = false
[filter:tempauth]
use = egg:swift#tempauth
user_${1/:/_} = $2 .admin
END
install -d -o swift -g swift /srv/swift/disk
chown -R swift /etc/swift
systemctl start swift-object swift-container swift-account swift-proxy
# curl's own signatures take no key ID with a colon
date=$(date --utc '+%a, %d %b %Y %H:%M:%S GMT')
signature=$(printf 'PUT\n\n\n%s\n/%s' "$date" "$3" | openssl dgst -sha1 -hmac "$2" -binary | base64)
# the four of them start at their own pace
curl --silent --show-error --fail --retry 60 --retry-delay 1 --retry-connrefused --request PUT \
  --header "Date: $date" --header "Authorization: AWS $1:$signature" "http://127.0.0.1:9000/$3"
