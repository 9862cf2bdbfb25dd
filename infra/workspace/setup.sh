#!/bin/sh
# What a session's image needs beside the agent, as root and in an image of Debian's: the usual tools and the packages
# named, the session's user, its folders. Leaves no lists, caches or logs.
set -eu

apt-get update
DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends \
    ca-certificates curl jq less procps unzip xz-utils zip "$@"
rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/cache/debconf/* /var/cache/ldconfig/aux-cache \
    /var/log/apt /var/log/alternatives.log /var/log/dpkg.log

if taken=$(getent passwd 1000); then # node's images have a user
    userdel --remove "${taken%%:*}"
fi
groupadd --gid 1000 user
useradd --uid 1000 --gid 1000 --home-dir /workspace --no-create-home --shell /bin/bash user
install --directory --owner=1000 --group=1000 /workspace /data

# Where the image has no Python, the agent's is there for `runpython` and for scripts: complete, yet without pip.
command -v python3 >/dev/null || ln -s /opt/onmemos/python/bin/python3 /usr/bin/python3
