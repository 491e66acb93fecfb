#!/usr/bin/env bash
# Takes the figures of one of the goals for speed: `goals.sh GOAL`, GOAL being produce, requests, durable, fetch, tail, small or growth
# (footprint.sh has the figures of one broker alone). docs/BENCHMARKS.md says what each is and how long it takes.
#
# Prints tables, and leaves them with every single result and a page below OUT (by default target/goals). ROUNDS says how many
# rounds count (5), PEERS_LEFT_OUT which peers cannot be had here ("redis,nats"). Nothing else should run meanwhile. Needs what
# `cargo build --release -p log-server -p log-bench` makes, and python3 for `tail`.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
goal=${1:?which goal: produce, requests, durable, fetch, tail, small or growth}
target=${CARGO_TARGET_DIR:-$here/../../target}
out=${OUT:-$target/goals}
rounds=${ROUNDS:-5}
left_out=,${PEERS_LEFT_OUT:-},
mkdir -p "$out"
# Ten thousand partitions are as many files and more.
ulimit -n "$(ulimit -Hn)"

# present PEER,...: those that can be had.
present() {
  local peer kept=()
  IFS=, read -ra wanted <<<"$1"
  for peer in "${wanted[@]}"; do
    case $left_out in *",$peer,"*) ;; *) kept+=("$peer") ;; esac
  done
  (IFS=,; echo "${kept[*]}")
}

# take NAME PEERS LOAD...: one table. The first peer is what the others are compared with; loads are parted by --.
take() {
  local name=$1 peers=$2 file=$out/$goal-$1
  shift 2
  echo "## $goal: $name"
  echo "peers: $peers; load: $*"
  "$target/release/peers" --peers "$(present "$peers")" --rounds "$rounds" \
    --stratalog "$target/release/stratalog" --null-broker "$target/release/null_broker" --directory "$target/peers" \
    --output "$file.json" --page "$file.html" -- "$@" | tee "$file.md"
}

case $goal in
produce)
  # Half a GB each; what is not looked at costs the load nothing.
  load=(produce --records 500000 --no-verify)
  take 4-connections stratalog-relaxed,null,stratalog,kafka,redis,nats "${load[@]}" --connections 4 --partitions 8
  take 1-connection stratalog-relaxed,null,stratalog,kafka,redis,nats "${load[@]}" --connections 1 --partitions 4
  ;;
requests)
  load=(produce --batch 1k --batch-records 1 --no-verify)
  take 64-in-flight stratalog-relaxed,null "${load[@]}" --records 400000 --connections 1 --partitions 1 --in-flight 64
  take 64-in-flight-4-connections stratalog-relaxed,null "${load[@]}" --records 400000 --partitions 4 --in-flight 64
  take one-at-a-time stratalog-relaxed,null "${load[@]}" --records 50000 --connections 1 --partitions 1 --in-flight 1
  ;;
durable)
  echo "## durable: the bare calls"
  cargo bench --quiet --manifest-path "$here/../Cargo.toml" --bench append -- --rounds "$rounds" "on the disk" | tee "$out/durable-bare.md"
  load=(produce --no-verify --connections 1 --partitions 1 --in-flight 1)
  take 4k stratalog,null-synced "${load[@]}" --batch 4k --records 16000
  take 64k stratalog,null-synced "${load[@]}" --batch 64k --records 192000
  take 1m stratalog,null-synced produce --no-verify --batch 1m --records 500000 --connections 4 --partitions 4
  take 64-connections stratalog,null-synced produce --no-verify --batch 1k --batch-records 1 --records 150000 --connections 64 --partitions 1 --in-flight 1
  ;;
fetch)
  load=(fetch --duration 2s --no-verify)
  take 64k stratalog,null,null-map,kafka "${load[@]}" --fetch 64k
  take 1m stratalog,null,null-map,kafka "${load[@]}" --fetch 1m
  ;;
tail)
  wanted=$rounds
  # The largest rate that Kafka keeps up with, however late.
  rounds=1
  take peak kafka end-to-end --find-knee --knee-p99 1s --duration 2s
  peak=$(python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))[0]["knee"]["records_per_s"] or 0)' "$out/tail-peak.json")
  rounds=$wanted
  for percent in 20 50 80; do
    rate=$(python3 -c 'import sys; print(round(float(sys.argv[1]) * float(sys.argv[2]) / 100))' "$peak" "$percent")
    take "$percent-percent" stratalog,stratalog-relaxed,kafka end-to-end --rate "$rate" --duration 4s
  done
  # What the machine itself adds.
  take null null-synced,null end-to-end --rate "$(python3 -c 'import sys; print(round(float(sys.argv[1]) / 2))' "$peak")" --duration 4s
  # The load looks at nothing, so that what moves the live records is the broker's work as far as it can be.
  live=(end-to-end --rate 5000 --duration 8s --no-verify)
  take cold-replay stratalog "${live[@]}" -- "${live[@]}" --replays 1 --prefill 4g --cold
  ;;
small)
  take raw stratalog,stratalog-relaxed,kafka produce --record-size 100 --records 4000000 --no-verify
  take 5000-a-second stratalog-relaxed,stratalog,redis,nats,kafka end-to-end --record-size 100 --rate 5000 --duration 5s
  echo "## small: librdkafka"
  "$target/release/compare" --rounds "$rounds" --stratalog "$target/release/stratalog" --directory "$target/compare" \
    --record-bytes 100 --records 4000000 --latency-seconds 5 --only "librdkafka, acks=all, ours synced" | tee "$out/small-librdkafka.md"
  ;;
growth)
  load=(produce --records 480000 --batch 16k --no-verify --timeout 1m)
  take partitions stratalog-relaxed "${load[@]}" --partitions 10 -- "${load[@]}" --partitions 1000 -- "${load[@]}" --partitions 10000
  # The same bytes in one segment and in 256 of them.
  load=(fetch --partitions 1 --duration 2s --no-verify)
  take segments stratalog "${load[@]}" -- "${load[@]}" --topic-config segment.bytes=1048576
  load=(connections --duration 5s)
  take idle-connections stratalog "${load[@]}" --idle-connections 1 -- "${load[@]}" --idle-connections 5000
  ;;
*)
  echo "no goal $goal: produce, requests, durable, fetch, tail, small or growth" >&2
  exit 2
  ;;
esac
