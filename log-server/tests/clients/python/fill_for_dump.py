"""Fills topics with what a data directory can hold: `fill_for_dump.py BOOTSTRAP [again] [without-small-index]`.

Each codec, as producers compress and as the broker does, idempotent and plain producers, small segments with dense indexes, append time, nulls and headers,
deleted records, transactions of which some were aborted. With `again` it only adds to the topics that a first call made. A real Kafka cannot recover a segment
whose index is full (it does not start any more), hence the other word. Prints {topic: record count}.
"""

import json
import sys

from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
SMALL = {"segment.bytes": "1048576", "index.interval.bytes": "512", "retention.ms": "-1"}
TOPICS = {
    **{f"dump-{codec}": SMALL for codec in CODECS},
    **{f"dump-to-{codec}": {**SMALL, "compression.type": codec.replace("none", "uncompressed")} for codec in CODECS},
    "dump-plain": SMALL,
    "dump-append-time": {**SMALL, "message.timestamp.type": "LogAppendTime"},
    "dump-deleted": SMALL,
    "dump-small-index": {**SMALL, "segment.index.bytes": "256"},
    "dump-transactions": SMALL,
    "dump-empty": {},
}
RECORDS = 4000
TRANSACTIONS = 60
RECORDS_PER_TRANSACTION = 50
FIRST_TIMESTAMP = 1_700_000_000_000


def codec_of(topic):
    """What its producer compresses with: another codec than the topic's own, where it names one."""
    codec = topic.rsplit("-", 1)[1]
    if topic.startswith("dump-to-"):
        return CODECS[CODECS.index(codec) - 1]
    return codec if codec in CODECS else "none"


def fill(bootstrap, topic):
    codec = codec_of(topic)
    producer = Producer({"bootstrap.servers": bootstrap, "compression.type": codec, "batch.num.messages": 50,
                         "enable.idempotence": topic != "dump-plain", "linger.ms": 2, "queue.buffering.max.messages": 0})
    for i in range(RECORDS):
        key = None if i % 7 == 0 else f"key-{i % 100}"
        value = None if i % 11 == 0 else f"{topic} {i} " + "abcdefgh"[i % 8] * (i * 37 % 1200)
        headers = [("n", str(i)), ("null", None)] if i % 3 == 0 else []
        producer.produce(topic, value, key, partition=i % 2, timestamp=FIRST_TIMESTAMP + 10 * i, headers=headers,
                         on_delivery=fail_on_error)
        producer.poll(0)
    producer.flush(60)


def fill_transactions(bootstrap, topic):
    """Transactions of two producers, each begun before the one before it ends; every third is aborted."""
    producers = [Producer({"bootstrap.servers": bootstrap, "transactional.id": f"{topic}-{n}", "linger.ms": 2})
                 for n in range(2)]
    for producer in producers:
        producer.init_transactions(60)
    for number in range(TRANSACTIONS):
        producer = producers[number % 2]
        producer.begin_transaction()
        for i in range(RECORDS_PER_TRANSACTION):
            producer.produce(topic, f"{topic} {number} {i} " + "x" * 400, f"key-{i}", partition=i % 2,
                             timestamp=FIRST_TIMESTAMP + 10 * i, on_delivery=fail_on_error)
        producer.flush(60)
        if 0 < number:
            end(producers[1 - number % 2], number - 1)
    end(producers[1 - TRANSACTIONS % 2], TRANSACTIONS - 1)


def end(producer, number):
    if number % 3 == 0:
        producer.abort_transaction(60)
    else:
        producer.commit_transaction(60)


def fail_on_error(error, _):
    if error:
        raise SystemExit(f"not delivered: {error}")


def main():
    bootstrap = sys.argv[1]
    if "without-small-index" in sys.argv:
        del TOPICS["dump-small-index"]
    admin = AdminClient({"bootstrap.servers": bootstrap})
    if "again" not in sys.argv:
        made = admin.create_topics([NewTopic(name, 2, 1, config=config) for name, config in TOPICS.items()])
        for future in made.values():
            future.result(30)
    filled = [topic for topic in TOPICS if topic not in ("dump-empty", "dump-transactions")]
    for topic in filled:
        fill(bootstrap, topic)
    fill_transactions(bootstrap, "dump-transactions")
    for future in admin.delete_records([TopicPartition("dump-deleted", 0, 1500)]).values():
        future.result(30)
    sent = dict.fromkeys(filled, RECORDS)
    print(json.dumps({**sent, "dump-transactions": TRANSACTIONS * RECORDS_PER_TRANSACTION}))


main()
