#!/usr/bin/env bash
# Takes programs out of Debian's packages without installing anything: `debian.sh OUT PACKAGE...` leaves their files below OUT.
# Needs apt-get and dpkg. What is there already is not fetched again.
set -euo pipefail
out=${1:?where to}
shift
mkdir -p "$out"
out=$(cd "$out" && pwd)
for package in "$@"; do
  [ ! -f "$out/$package.done" ] || continue
  work=$(mktemp -d)
  (cd "$work" && apt-get -q download "$package" >/dev/null 2>&1) || {
    echo "apt-get cannot download $package (try apt-get update)" >&2
    rm -rf "$work"
    exit 1
  }
  dpkg -x "$work"/*.deb "$out"
  basename "$work"/*.deb >"$out/$package.done"
  rm -rf "$work"
done
