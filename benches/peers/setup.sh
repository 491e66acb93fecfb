#!/usr/bin/env bash
# Makes the client programs of the comparison: `setup.sh OUT` leaves in OUT the program `load` (librdkafka), the classes of the
# Java client, and `class-path`. Needs cc, librdkafka's header (Debian: librdkafka-dev), python3, a JDK and Maven.
# `setup.sh OUT java` leaves `load` out, and needs a JDK and Maven only.
#
# The library itself is the one of the pinned confluent-kafka wheel, which is newer than what distributions have;
# STRATALOG_LIBRDKAFKA names another.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
clients=$here/../../log-server/tests/clients
cache=${STRATALOG_TEST_CACHE:-$here/../../target/clients}
out=${1:?where to}
mkdir -p "$out"

lacks() {
  echo "librdkafka cannot be used: $1" >&2
  exit 1
}

make_load() {
  if ! echo '#include <librdkafka/rdkafka.h>' | cc -E -o /dev/null - 2>/dev/null; then
    lacks "there is no cc that finds the header librdkafka/rdkafka.h (Debian: apt install gcc libc6-dev librdkafka-dev)"
  fi
  library=${STRATALOG_LIBRDKAFKA:-}
  if [ -z "$library" ]; then
    python3 "$clients/toolbox.py" confluent >&2 || true
    library=$(find "$cache" -path '*confluent_kafka.libs/librdkafka-*.so*' 2>/dev/null | sort | tail -1 || true)
  fi
  if ! [ -f "$library" ]; then
    lacks "the library ${library:-of the confluent-kafka wheel} is not there: let STRATALOG_LIBRDKAFKA name librdkafka.so (Debian: of the package librdkafka-dev)"
  fi
  library=$(realpath "$library")
  cc -O2 -Wall -Wextra -o "$out/load" "$here/librdkafka/load.c" "$library" -Wl,-rpath,"$(dirname "$library")" -lpthread
}

[ "${2:-}" = java ] || make_load
class_path=$("$clients/kafka/jars.sh" broker)
javac -nowarn -cp "$class_path" -d "$out" "$here"/java/*.java
echo "$out:$class_path" >"$out/class-path"
