#!/usr/bin/env bash
# Serves a real Apache Kafka, one combined KRaft node, in the foreground: `serve.sh DATA_DIR PORT CONTROLLER_PORT`.
# With --format-only as a fourth argument it only writes the storage's format, which a Kafka needs before its first start.
#
# Everything is a default of Kafka's that one node allows, heap and collector included. Two settings differ: deleted
# topics leave the disk after a second, not a minute, so that runs of a comparison do not pile up; and the
# internal topics have one replica. MORE_PROPERTIES has lines to add. The jars come from Maven Central (see ../README.md).
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
clients=$here/../../../log-server/tests/clients/kafka
data=${1:?data directory} port=${2:?port} controller=${3:?port of the controller} format_only=${4:-}
class_path=$("$clients/jars.sh" broker)
log="-Dlog4j2.configurationFile=$clients/log4j2.properties"
mkdir -p "$data"
cat >"$data/server.properties" <<PROPERTIES
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$controller
listeners=PLAINTEXT://127.0.0.1:$port,CONTROLLER://127.0.0.1:$controller
advertised.listeners=PLAINTEXT://127.0.0.1:$port
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
log.dirs=$data/logs
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
log.segment.delete.delay.ms=1000
${MORE_PROPERTIES:-}
PROPERTIES
if [ ! -f "$data/logs/meta.properties" ]; then
  java "$log" -cp "$class_path" kafka.tools.StorageTool format -t c3RyYXRhbG9nLWJlbmNoZQ -c "$data/server.properties" >"$data/format.log" 2>&1
fi
[ -z "$format_only" ] || exit 0
# What bin/kafka-server-start.sh sets, and nothing more.
exec java ${KAFKA_HEAP_OPTS:--Xmx1G -Xms1G} -server -XX:+UseG1GC -XX:MaxGCPauseMillis=20 \
  -XX:InitiatingHeapOccupancyPercent=35 -XX:+ExplicitGCInvokesConcurrent -Djava.awt.headless=true \
  -Dkafka.level=warn "$log" -cp "$class_path" kafka.Kafka "$data/server.properties"
