"""Feeds through confluent-kafka: `feed.py BOOTSTRAP create TOPIC PARTITIONS`, `write TOPIC CODEC` from standard input,
`read TOPIC PARTITION:offset|time:AT…` to standard output. The unit separator stands between fields, a line with
the group separator ends each reading.
"""

import sys

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

SEPARATOR = "\x1f"
SECONDS_MAX = 60


def create(bootstrap, topic, partitions):
    admin = AdminClient({"bootstrap.servers": bootstrap})
    new = NewTopic(topic, int(partitions), 1, config={"retention.ms": "-1"})
    admin.create_topics([new])[topic].result(SECONDS_MAX)


def write(bootstrap, topic, codec):
    producer = Producer({"bootstrap.servers": bootstrap, "compression.type": codec, "enable.idempotence": True,
                         "partitioner": "murmur2_random", "queue.buffering.max.messages": 1_000_000})
    failures = []
    for line in sys.stdin.buffer.read().decode().split("\n"):
        if line:
            key, at, headers, value = line.split(SEPARATOR, 3)
            more = {"timestamp": int(at)} if at else {}
            more["headers"] = [tuple(pair.split("=", 1)) for pair in headers.split(",")]
            producer.produce(topic, value, key, on_delivery=lambda error, _: error and failures.append(error), **more)
            producer.poll(0)
    if producer.flush(SECONDS_MAX) or failures:
        raise SystemExit(f"not delivered: {failures[:3]}")


def read(bootstrap, topic, *wanted):
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "unused", "enable.auto.commit": False,
                         "auto.offset.reset": "error", "check.crcs": True, "fetch.wait.max.ms": 10})
    for one in wanted:
        partition, position, at = one.split(":")
        where = TopicPartition(topic, int(partition), int(at))
        if position == "time":
            [where] = consumer.offsets_for_times([where], SECONDS_MAX)
        read_on(consumer, where)
        sys.stdout.buffer.write(b"\x1d\n")
    consumer.close()


def read_on(consumer, where):
    """Everything from an offset to the end of its partition."""
    _, end = consumer.get_watermark_offsets(TopicPartition(where.topic, where.partition), SECONDS_MAX)
    next_offset = where.offset
    if 0 <= next_offset < end:
        consumer.assign([where])
    while 0 <= next_offset < end:
        message = consumer.poll(SECONDS_MAX)
        if message is None or message.error():
            raise SystemExit(f"cannot read {where}: {message and message.error()}")
        headers = ",".join(f"{name}={value.decode()}" for name, value in message.headers() or ())
        parts = (str(message.offset()), str(message.timestamp()[1]), message.key().decode(), headers, message.value().decode())
        sys.stdout.buffer.write((SEPARATOR.join(parts) + "\n").encode())
        next_offset = message.offset() + 1
    consumer.unassign()


{"create": create, "write": write, "read": read}[sys.argv[2]](sys.argv[1], *sys.argv[3:])
