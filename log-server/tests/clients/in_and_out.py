"""What goes into a broker and what comes out of it: each record once, whatever becomes of the broker meanwhile."""

import collections
import threading
import time

from confluent_kafka import Consumer, Producer, TopicPartition

# Both give up much later than any broker of a test is away.
PATIENCE_MS = 180_000
WHILE_AWAY = {"reconnect.backoff.ms": 20, "reconnect.backoff.max.ms": 500, "log_level": 0, "log.connection.close": False}
# The pace of the load, not a wait for anything.
ROUND_SECONDS = 0.02


class Feed:
    """Writes what `rounds` yields, lists of (topic, key, value, timestamp), a round now and then, until it is stopped."""

    def __init__(self, bootstrap, rounds, has_room=lambda count: True):
        """`has_room` is asked with the number of records so far, so that whoever reads can keep up."""
        self.rounds, self.has_room = rounds, has_room
        self.sent = []
        self.stopping = threading.Event()
        self.failures = []
        self.producer = Producer({**WHILE_AWAY, "bootstrap.servers": bootstrap, "enable.idempotence": True, "linger.ms": 5,
                                  "message.timeout.ms": PATIENCE_MS})
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        while not self.stopping.wait(ROUND_SECONDS):
            if self.has_room(len(self.sent)):
                for record in next(self.rounds):
                    self.send(*record)
            self.producer.poll(0)

    def send(self, topic, key, value, timestamp=0, **more):
        self.producer.produce(topic, value, key, timestamp=timestamp, on_delivery=self.heard, **more)
        self.sent.append((topic, key, value, timestamp))

    def heard(self, error, _):
        if error:
            self.failures.append(str(error))

    def stop(self, *last):
        """Sends what comes last, too, and returns everything that was sent once all of it was acknowledged."""
        self.stopping.set()
        self.thread.join()
        for record, more in last:
            self.send(*record, **more)
        left = self.producer.flush(PATIENCE_MS / 1000)
        if left or self.failures:
            raise RuntimeError(f"{left} records were not delivered, others not either: {self.failures[:3]}")
        return self.sent


class Committed:
    """A reader of committed records that looks at a topic from its beginning on; `by_key` is what came, in order."""

    def __init__(self, bootstrap, topic, partitions):
        self.by_key = collections.defaultdict(list)
        self.count = 0
        self.at_end = set()
        self.partitions = partitions
        self.consumer = Consumer({**WHILE_AWAY, "bootstrap.servers": bootstrap, "group.id": f"reader-of-{topic}",
                                  "enable.auto.commit": False, "isolation.level": "read_committed", "fetch.wait.max.ms": 50,
                                  "enable.partition.eof": True})
        self.consumer.assign([TopicPartition(topic, partition, 0) for partition in range(partitions)])

    def read(self, seconds):
        """What comes within that time, whatever becomes of the broker."""
        until = time.monotonic() + seconds
        while 0 < (left := until - time.monotonic()):
            self.take(self.consumer.poll(left))

    def read_all(self):
        """To where readers stop now; for a reader that is new."""
        until = time.monotonic() + PATIENCE_MS / 1000
        while len(self.at_end) < self.partitions:
            if until < time.monotonic():
                raise RuntimeError(f"the reader gets nothing more after {self.count} records")
            self.take(self.consumer.poll(1))
        return self

    def take(self, message):
        if message is None:
            return
        if message.error():
            if message.error().name() == "_PARTITION_EOF":
                self.at_end.add(message.partition())
            return
        key = None if message.key() is None else message.key().decode()
        self.by_key[key].append(message.value().decode())
        self.count += 1


def differences(expected, found):
    """Lines about keys whose values are not exactly those that must be, in their order."""
    complaints = []
    for key in sorted(expected.keys() | found.keys(), key=str):
        wanted, got = expected.get(key, []), found.get(key, [])
        if wanted != got:
            at = next((at for at, pair in enumerate(zip(wanted, got)) if pair[0] != pair[1]), min(len(wanted), len(got)))
            repeated = sum(count - 1 for count in collections.Counter(got).values())
            complaints.append(f"{key}: {len(wanted)} values must be, {len(got)} are, {len(set(wanted) - set(got))} of them missing, "
                              f"{repeated} repeated; at {at} must be {wanted[at:at + 3]}, is {got[at:at + 3]}")
    return complaints
