#!/usr/bin/env bash
# Prints a class path of one Kafka release: `jars.sh clients` or `jars.sh broker`. The first call fetches the jars
# with Maven into STRATALOG_TEST_CACHE (default: target/clients of this repository), later calls only read.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
profile=${1:?clients or broker}
cache=${STRATALOG_TEST_CACHE:-$here/../../../../target/clients}
dir=$cache/jars-$profile-$(sha256sum "$here/pom.xml" | cut -c1-12)
if [ ! -f "$dir/.complete" ]; then
  mkdir -p "$dir"
  mvn -q -B -Dstyle.color=never -f "$here/pom.xml" -P "$profile" dependency:copy-dependencies -DoutputDirectory="$dir" >&2
  touch "$dir/.complete"
fi
find "$dir" -name '*.jar' | sort | paste -sd:
