"""What a transactional producer of confluent-kafka, that is librdkafka, is told, case by case: `transaction_cases.py BOOTSTRAP PREFIX`.

The cases are those of `java/TransactionCases.java`. A refusal is told by its name and by what may be done about it.
"""

import json
import sys
import time

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

BOOTSTRAP, PREFIX = sys.argv[1:3]
WAIT_SECONDS_MAX = 60
COMMON = {"bootstrap.servers": BOOTSTRAP, "log_level": 0}


class Case:
    """One case: its topic, whose name is also the transactional id, and what its calls came to."""

    def __init__(self, name):
        self.topic = f"{PREFIX}-{name}"
        self.group = f"{self.topic}-group"
        self.result = {}
        admin = AdminClient(COMMON)
        admin.create_topics([NewTopic(self.topic, 1)])[self.topic].result(30)

    def play(self, script):
        script(self)
        self.settle()
        self.result |= {"committed": self.values("read_committed"), "all": self.values("read_uncommitted")}
        return self.result

    # -- steps

    def ready(self, **more):
        settings = {name.replace("_", "."): value for name, value in more.items()}
        producer = Producer({**COMMON, "transactional.id": self.topic, **settings})
        producer.init_transactions(30)
        return producer

    def send(self, producer, *values):
        producer.begin_transaction()
        for value in values:
            producer.produce(self.topic, value)
        producer.flush()

    def call(self, name, step, *arguments):
        try:
            step(*arguments, 30)
            self.result[name] = "ok"
        except KafkaException as failure:
            error = failure.args[0]
            ways = {"fatal": error.fatal(), "retriable": error.retriable(), "abortable": error.txn_requires_abort()}
            self.result[name] = " ".join([error.name(), *(way for way, holds in ways.items() if holds)])

    def at(self, offset):
        return [TopicPartition(self.topic, 0, offset)]

    # -- what there is

    def consumer(self, **more):
        settings = {name.replace("_", "."): value for name, value in more.items()}
        return Consumer({**COMMON, "group.id": self.group, "enable.auto.commit": False, "fetch.wait.max.ms": 50,
                         "enable.partition.eof": True, **settings})

    def committed(self):
        """The group's offset, once no transaction may change it any longer; -1 when there is none."""
        consumer = self.consumer(isolation_level="read_committed")
        [found] = consumer.committed([TopicPartition(self.topic, 0)], 30)
        consumer.close()
        return max(found.offset, -1)

    def settle(self):
        """Waits until no transaction is open."""
        committed, everything = self.consumer(isolation_level="read_committed"), self.consumer(isolation_level="read_uncommitted")
        place = TopicPartition(self.topic, 0)
        until = time.monotonic() + WAIT_SECONDS_MAX
        while committed.get_watermark_offsets(place, 10) != everything.get_watermark_offsets(place, 10):
            if until < time.monotonic():
                raise RuntimeError("a transaction stays open")
            time.sleep(0.02)
        committed.close()
        everything.close()

    def values(self, isolation):
        consumer = self.consumer(isolation_level=isolation)
        consumer.assign(self.at(0))
        values = []
        while True:
            message = consumer.poll(WAIT_SECONDS_MAX)
            if message is None or message.error():
                break
            values.append(message.value().decode())
        consumer.close()
        return values


def commit(case):
    producer = case.ready()
    case.send(producer, "a", "b")
    case.call("commit", producer.commit_transaction)


def abort(case):
    producer = case.ready()
    case.send(producer, "a")
    case.call("abort", producer.abort_transaction)
    case.send(producer, "b")
    case.call("commit", producer.commit_transaction)


def open_transaction(case):
    """What stands behind a transaction that is open waits for it."""
    producer, plain = case.ready(), Producer(COMMON)
    case.send(producer, "a")
    plain.produce(case.topic, "b")
    plain.flush()
    case.result["committed while it is open"] = case.values("read_committed")
    case.result["all while it is open"] = case.values("read_uncommitted")
    case.call("commit", producer.commit_transaction)


def metadata_of_nobody(case):
    """What names the group and no member of it."""
    consumer = case.consumer()
    metadata = consumer.consumer_group_metadata()
    consumer.close()
    return metadata


def offsets(case):
    producer, metadata = case.ready(), metadata_of_nobody(case)
    case.send(producer, "a")
    case.call("offsets", producer.send_offsets_to_transaction, case.at(7), metadata)
    case.call("abort", producer.abort_transaction)
    case.result["after the abort"] = case.committed()
    case.send(producer, "b")
    case.call("offsets again", producer.send_offsets_to_transaction, case.at(9), metadata)
    case.call("commit", producer.commit_transaction)
    case.result["after the commit"] = case.committed()


def timeout(case):
    """The broker ends it when its time is over, and the producer can only make way for another."""
    producer = case.ready(transaction_timeout_ms=2000)
    case.send(producer, "a")
    case.settle()
    case.call("commit", producer.commit_transaction)
    case.call("abort", producer.abort_transaction)
    following = case.ready()
    case.send(following, "b")
    case.call("commit of the next", following.commit_transaction)


def fencing(case):
    first = case.ready()
    case.send(first, "a")
    second = case.ready()
    case.call("commit of the first", first.commit_transaction)
    case.call("abort of the first", first.abort_transaction)
    case.send(second, "b")
    case.call("commit of the second", second.commit_transaction)


def fencing_between(case):
    """Another comes while nothing is open; the first has to find that out."""
    first = case.ready()
    case.send(first, "a")
    case.call("commit of the first", first.commit_transaction)
    second = case.ready()
    first.begin_transaction()
    first.produce(case.topic, "b")
    case.call("second commit of the first", first.commit_transaction)
    case.send(second, "c")
    case.call("commit of the second", second.commit_transaction)


def stale_member(case):
    """Offsets of a member that is not in the group any longer are refused, and the transaction with them."""
    consumer = case.consumer()
    consumer.subscribe([case.topic])
    while not consumer.assignment():
        consumer.poll(0.05)
    metadata = consumer.consumer_group_metadata()
    consumer.close()
    producer = case.ready()
    case.send(producer, "a")
    case.call("offsets", producer.send_offsets_to_transaction, case.at(1), metadata)
    case.call("abort", producer.abort_transaction)
    case.send(producer, "b")
    case.call("commit", producer.commit_transaction)


CASES = {"commit": commit, "abort": abort, "open": open_transaction, "offsets": offsets, "timeout": timeout,
         "fencing": fencing, "fencing-between": fencing_between, "stale-member": stale_member}
for step, script in CASES.items():
    print(json.dumps({"step": step, "result": Case(step).play(script)}), flush=True)
