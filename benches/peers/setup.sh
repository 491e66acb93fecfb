#!/usr/bin/env bash
# Makes the client programs of the comparison: `setup.sh OUT` leaves in OUT the program `load` (librdkafka), the classes of the
# Java client, and `class-path`. Needs cc, librdkafka's header (Debian: librdkafka-dev), python3, a JDK and Maven.
#
# The library itself is the one of the pinned confluent-kafka wheel, which is newer than what distributions have;
# STRATALOG_LIBRDKAFKA names another.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
clients=$here/../../log-server/tests/clients
cache=${STRATALOG_TEST_CACHE:-$here/../../target/clients}
out=${1:?where to}
mkdir -p "$out"
library=${STRATALOG_LIBRDKAFKA:-}
if [ -z "$library" ]; then
  python3 "$clients/toolbox.py" confluent >&2
  library=$(find "$cache" -path '*confluent_kafka.libs/librdkafka-*.so*' | sort | tail -1)
fi
library=$(realpath "$library")
cc -O2 -Wall -Wextra -o "$out/load" "$here/librdkafka/load.c" "$library" -Wl,-rpath,"$(dirname "$library")" -lpthread
class_path=$("$clients/kafka/jars.sh" broker)
javac -nowarn -cp "$class_path" -d "$out" "$here"/java/*.java
echo "$out:$class_path" >"$out/class-path"
