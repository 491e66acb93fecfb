#!/usr/bin/env bash
# What our broker alone needs: memory after 1 M and 10 M records, under 100 connections and with 10,000 partitions; descriptors and
# maps of a partition; the size of the program; and how long it takes from `kill -9` to the first acknowledged record. A start in an
# empty directory is `compare --only "start and memory"`.
#
# GIB says how much lies in the 1,000 partitions before the kill (20), ROUNDS how often it is killed (5). Data lie below
# target/footprint and are removed; that takes 48 GiB of the disk, or what the check below says for other numbers. Needs
# `cargo build --release -p log-server` and python3. Nothing else should run meanwhile.
set -Eeuo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
target=${CARGO_TARGET_DIR:-$here/../../target}
stratalog=$target/release/stratalog
data=$target/footprint
gib=${GIB:-20}
rounds=${ROUNDS:-5}
relaxed=flush.messages=9223372036854775807
ulimit -n "$(ulimit -Hn)"
rm -rf "$data"
mkdir -p "$data"
server=
stop() {
  [ -z "$server" ] || kill "$server" 2>/dev/null || true
  [ -z "$server" ] || wait "$server" 2>/dev/null || true
  server=
}
trap 'stop; rm -rf "$data"' EXIT

# left: what is left of the disk, in GiB.
left() {
  df -k --output=avail "$data" | awk 'END { print int($1 / 2^20) }'
}

# Whatever fails says where, and what broker and load said last: their files go with this program.
failed() {
  local status=$? lines=${BASH_LINENO[*]::${#BASH_LINENO[@]}-1} said
  {
    echo "footprint.sh: \`$1\` ended with $status, in line ${lines// /, from line }; $(left) GiB of the disk are left"
    for said in "$data"/*.log; do
      echo "-- the end of $said:"
      tail -n 10 "$said"
    done
  } >&2 || true
}
trap 'failed "$BASH_COMMAND"' ERR

# In GiB: what is produced; prepared space, as much again at the most; and 2 s of a load before each kill. The 10 M
# records and the load of 100 connections take 18.
needed=$((gib + (gib < 16 ? gib : 16) + 2 * rounds + 2))
needed=$((needed < 18 ? 18 : needed))
if (($(left) < needed)); then
  echo "footprint.sh: $data has $(left) GiB of the disk left; GIB=$gib ROUNDS=$rounds needs $needed" >&2
  exit 1
fi

# start DIR: begins a broker there, and comes back when it is ready.
start() {
  rm -f "$data/ready"
  "$stratalog" serve --data-dir "$data/$1" --kafka-listen 127.0.0.1:0 --http-listen 127.0.0.1:0 --ready-file "$data/ready" \
    >>"$data/broker.log" 2>&1 &
  server=$!
  at=
  until [ -n "$at" ]; do
    kill -0 "$server"
    sleep 0.01
    at=$(sed -n 's/.*"kafka": *"\([^"]*\)".*/\1/p' "$data/ready" 2>/dev/null || true)
  done
}
bench() {
  "$stratalog" bench "$@" --bootstrap "$at" --quiet --no-verify --output "$data/result.json" >"$data/bench.log" 2>&1
}
# told FIELD: a memory of the last result, in MiB.
told() {
  python3 -c 'import json, sys; print(round(json.load(open(sys.argv[1]))["cost"][sys.argv[2]] / 2**20, 2))' "$data/result.json" "$1"
}
anonymous() {
  awk '/^RssAnon/ { print $2 / 1024 }' "/proc/$server/status"
}
counts() {
  echo "$(find "/proc/$server/fd" -mindepth 1 | wc -l) descriptors, $(wc -l <"/proc/$server/maps") maps, $(anonymous) MiB anonymous"
}

echo "program: $(stat -Lc %s "$stratalog") bytes"

start memory
"$stratalog" topic create many -p 4 --bootstrap "$at" >/dev/null
echo "idle: $(counts)"
bench produce --topic many --records 1000000
echo "after 1 M records of 1 KiB: $(told broker_anonymous_after_bytes) MiB anonymous"
bench produce --topic many --records 9000000
echo "after 10 M, the last 9 M over other connections: $(told broker_anonymous_after_bytes) MiB anonymous"
for _ in {1..16}; do
  bench produce --topic many --records 1000
done
echo "after 16 times 1,000 records, over other connections each time: $(told broker_anonymous_after_bytes) MiB anonymous"
bench produce --connections 100 --partitions 8 --duration 5s
echo "100 connections, as fast as it goes: $(told broker_anonymous_max_bytes) MiB anonymous at most"
stop
rm -rf "$data/memory"

# What records alone leave behind: new connections leave more.
start memory
"$stratalog" topic create many -p 4 --bootstrap "$at" >/dev/null
bench produce --topic many --records 10000000
echo "after 10 M of 1 KiB over the same connections: $(told broker_anonymous_after_bytes) MiB anonymous"
stop
rm -rf "$data/memory"

start partitions
echo "without partitions: $(counts)"
bench partitions --partitions 10000 --records 100000 --batch 1k --topic-config "$relaxed" --keep-topic
echo "10,000 partitions, each written to: $(counts)"
stop
start partitions
echo "10,000 partitions, after a start, not used yet: $(counts)"
stop
rm -rf "$data/partitions"

start killed
"$stratalog" topic create wide -p 1000 --bootstrap "$at" >/dev/null
"$stratalog" topic create first -p 1 --bootstrap "$at" >/dev/null
bench produce --topic wide --records $((gib << 20))
for round in $(seq "$rounds"); do
  # Killed while it writes.
  bench produce --topic wide --duration 1m --timeout 1s || true &
  load=$!
  sleep 2
  kill -KILL "$server"
  wait "$server" "$load" 2>/dev/null || true
  rm -f "$data/ready"
  begun=$(date +%s%N)
  "$stratalog" serve --data-dir "$data/killed" --kafka-listen "$at" --http-listen 127.0.0.1:0 --ready-file "$data/ready" >>"$data/broker.log" 2>&1 &
  server=$!
  # Refused at once while nobody listens, so this asks again and again.
  patience=$((SECONDS + 600))
  until bench produce --topic first --records 1 --connections 1; do
    kill -0 "$server"
    ((SECONDS < patience))
  done
  echo "killed with $gib GiB in 1,000 partitions, $round: $((($(date +%s%N) - begun) / 1000000)) ms to the first acknowledged record"
done
