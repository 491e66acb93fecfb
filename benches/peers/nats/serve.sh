#!/usr/bin/env bash
# Serves NATS with JetStream on files, in the foreground: `serve.sh CACHE DATA_DIR PORT`.
#
# All defaults but the addresses, and a ping interval beyond a run: pings cost nothing, but the load would have to answer
# them. This version (2.9) syncs its files every two minutes and cannot be told to sync before it acknowledges, so there is
# no synced row of NATS. The program comes from Debian (2.9.10) unless one is on the path.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${1:?cache} data=${2:?data directory} port=${3:?port}
mkdir -p "$data"
program=$(command -v nats-server || true)
if [ -z "$program" ]; then
  "$here/../debian.sh" "$cache/nats" nats-server
  program=$(find "$cache/nats" -name nats-server -type f -perm -u+x | head -1)
fi
cat >"$data/nats.conf" <<CONF
listen: "127.0.0.1:$port"
jetstream { store_dir: "$data/store" }
ping_interval: "1h"
CONF
exec "$program" -c "$data/nats.conf"
