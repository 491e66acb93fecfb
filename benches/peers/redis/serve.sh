#!/usr/bin/env bash
# Serves a Redis with an append-only file, in the foreground: `serve.sh CACHE DATA_DIR PORT FSYNC`, FSYNC being everysec or always.
#
# Settings that differ from the defaults: the append-only file is on, since a stream without it is in memory alone; snapshots are
# off, and so is the rewriting of the file, which would run in the middle of a load. All three are to Redis's advantage. The
# program comes from Debian (7.0.15) unless one is on the path.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${1:?cache} data=${2:?data directory} port=${3:?port} fsync=${4:?everysec or always}
mkdir -p "$data"
program=$(command -v redis-server || true)
if [ -z "$program" ]; then
  "$here/../debian.sh" "$cache/redis" redis-server redis-tools libjemalloc2 liblzf1 liblua5.1-0 lua-cjson lua-bitop
  program=$cache/redis/usr/bin/redis-server
  libraries=$(find "$cache/redis" -name '*.so*' -printf '%h\n' | sort -u | paste -sd:)
  export LD_LIBRARY_PATH=$libraries${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
fi
exec "$program" --port "$port" --bind 127.0.0.1 --dir "$data" --save '' --appendonly yes --appendfsync "$fsync" \
  --auto-aof-rewrite-percentage 0 --daemonize no --loglevel warning
