"""Fills compacted topics, has them compacted, and compares what is left with what must be: `compacted.py BOOTSTRAP PHASE`.

Each phase (1, 2, ...) appends the same records at any broker, with the log's dirt not counting yet, then a record whose time
lies so far ahead that it begins a new segment; so everything before it can be compacted, and is as soon as the dirt counts. What
must be left, record by record, follows from what was sent in this phase and those before. Prints {topic: [records, digest]}.
"""

import hashlib
import json
import sys
import time

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import (AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewTopic,
                                   ResourceType)

CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
COMPACTED = {"cleanup.policy": "compact", "segment.bytes": "1048576", "segment.ms": "600000",
             "min.cleanable.dirty.ratio": "1.0"}
TOPICS = {
    **{f"dump-compacted-{codec}": COMPACTED for codec in CODECS},
    # Its tombstones are gone after the second compaction.
    "dump-compacted-forgetful": {**COMPACTED, "delete.retention.ms": "1"},
}
PARTITIONS = 2
RECORDS = 6000
SECONDS_MAX = 120


def records(topic, phase):
    """What is sent in a phase: partition, key, value."""
    for i in range(RECORDS):
        key = f"key-{i * 7919 % 400}" if i % 5 else f"once-{phase}-{i}"
        is_tombstone = i % 13 == 0 or (phase == 2 and i % 400 == 3)
        value = None if is_tombstone else f"{topic} {phase} {i} " + "abcdefgh"[i % 8] * (i * 37 % 900)
        yield i % PARTITIONS, key, value


def time_of(phase, index):
    """Times of a phase lie within segment.ms; the last record of a phase lies behind it, and the next phase too."""
    return PHASE_ZERO + phase * 3_600_000 + index


def send(bootstrap, topic, phase):
    codec = topic.rsplit("-", 1)[1]
    producer = Producer({"bootstrap.servers": bootstrap, "compression.type": codec if codec in CODECS else "none",
                         "batch.num.messages": 50, "enable.idempotence": True, "linger.ms": 2})
    for index, (partition, key, value) in enumerate(records(topic, phase)):
        producer.produce(topic, value, key, partition=partition, timestamp=time_of(phase, index),
                         headers=[("n", str(index))], on_delivery=fail_on_error)
        producer.poll(0)
    producer.flush(60)
    for partition in range(PARTITIONS):
        producer.produce(topic, f"end of {phase}", "roller", partition=partition,
                         timestamp=time_of(phase, 1_800_000), on_delivery=fail_on_error)
    producer.flush(60)


def must_be_left(topic, phases):
    """Partition, offset, key and value of each record that is left after the compaction of the last of these phases."""
    left = []
    for partition in range(PARTITIONS):
        log = []
        for phase in phases:
            log += [(phase, key, value) for at, key, value in records(topic, phase) if at == partition]
            log.append((phase, "roller", f"end of {phase}"))
        last = {key: offset for offset, (_, key, _) in enumerate(log[:-1])}
        for offset, (phase, key, value) in enumerate(log):
            is_active = offset == len(log) - 1
            is_forgotten = value is None and topic.endswith("forgetful") and phase < phases[-1]
            if is_active or (last[key] == offset and not is_forgotten):
                left.append([partition, offset, key, value])
    return left


def read(bootstrap, topic):
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "compacted", "enable.partition.eof": True,
                         "enable.auto.commit": False})
    consumer.assign([TopicPartition(topic, partition, 0) for partition in range(PARTITIONS)])
    found, ended = [], set()
    while len(ended) < PARTITIONS:
        message = consumer.poll(30)
        if message is None:
            raise SystemExit(f"{topic}: nothing more to read after {len(found)} records")
        if message.error():
            if message.error().name() != "_PARTITION_EOF":
                raise SystemExit(f"{topic}: {message.error()}")
            ended.add(message.partition())
            continue
        text = [None if part is None else part.decode() for part in (message.key(), message.value())]
        found.append([message.partition(), message.offset(), *text])
    consumer.close()
    return sorted(found, key=lambda record: record[:2])


def set_ratio(admin, ratio):
    entry = ConfigEntry("min.cleanable.dirty.ratio", ratio, incremental_operation=AlterConfigOpType.SET)
    changes = [ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry]) for topic in TOPICS]
    for future in admin.incremental_alter_configs(changes).values():
        future.result(30)


def fail_on_error(error, _):
    if error:
        raise SystemExit(f"not delivered: {error}")


def difference(found, expected):
    found, expected = ({tuple(record) for record in records} for records in (found, expected))
    return f"missing {sorted(expected - found, key=str)[:3]}, unexpected {sorted(found - expected, key=str)[:3]}"


def main():
    bootstrap, phase = sys.argv[1], int(sys.argv[2])
    admin = AdminClient({"bootstrap.servers": bootstrap})
    if phase == 1:
        made = admin.create_topics([NewTopic(name, PARTITIONS, 1, config=config) for name, config in TOPICS.items()])
        for future in made.values():
            future.result(30)
    for topic in TOPICS:
        send(bootstrap, topic, phase)
    set_ratio(admin, "0.0")
    deadline = time.monotonic() + SECONDS_MAX
    result = {}
    for topic in TOPICS:
        expected = must_be_left(topic, range(1, phase + 1))
        while (found := read(bootstrap, topic)) != expected:
            if deadline < time.monotonic():
                raise SystemExit(f"{topic}: {len(found)} records are left, {len(expected)} should be; "
                                 f"{difference(found, expected)}")
            time.sleep(0.2)
        result[topic] = [len(found), hashlib.sha256(json.dumps(found).encode()).hexdigest()[:16]]
    set_ratio(admin, "1.0")
    print(json.dumps(result))


# Every phase lies in the past, so that no time is too far ahead.
PHASE_ZERO = 1_700_000_000_000
main()
