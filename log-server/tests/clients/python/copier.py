"""One instance of a loop that copies a topic in transactions (confluent-kafka, that is librdkafka).

`copier.py BOOTSTRAP GROUP TOPIC NAME PROTOCOL OUTPUT SEED` does what `java/Copier.java` does, and says and ends the same.
"""

import random
import sys
import time

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer

from group_member import BOOTSTRAP, GROUP, NAME, PROTOCOL, TOPIC, Leave, say
from transactional import patiently, rewind, send_offsets

OUTPUT, SEED = sys.argv[6:8]
FENCED, OF_NO_USE = 3, 4
ABORTED_ONE_IN = 10
RECORDS_MAX = 60
COMMON = {"bootstrap.servers": BOOTSTRAP, "reconnect.backoff.ms": 20, "reconnect.backoff.max.ms": 300,
          "retry.backoff.ms": 20, "socket.timeout.ms": 5_000, "log_level": 0}
WRITING = {**COMMON, "transactional.id": NAME, "transaction.timeout.ms": 10_000, "message.timeout.ms": 9_000, "linger.ms": 0}
READING = {**COMMON, "group.id": GROUP, "group.protocol": PROTOCOL, "enable.auto.commit": False, "auto.offset.reset": "earliest",
           "isolation.level": "read_committed", "fetch.wait.max.ms": 50}
if PROTOCOL == "classic":
    READING |= {"session.timeout.ms": 3_000, "heartbeat.interval.ms": 300}


def note(text):
    print(f"{NAME}: {text}", file=sys.stderr, flush=True)


class Copier:
    def __init__(self):
        self.dice = random.Random(SEED)
        self.leave = Leave()
        self.messages = []
        self.metadata = None
        self.producer = Producer(WRITING)
        self.consumer = Consumer(READING)
        self.consumer.subscribe([TOPIC], on_assign=self.gained, on_revoke=self.gone, on_lost=self.gone)

    def gained(self, consumer, _):
        # Asked for later, when the member was thrown out meanwhile, it may name no generation at all, which nobody checks.
        self.metadata = consumer.consumer_group_metadata()

    def gone(self, _, partitions):
        """What is in hand of them is another's now."""
        gone = {one.partition for one in partitions}
        self.messages = [message for message in self.messages if message.partition() not in gone]

    def read(self):
        """Some records, as many as there are at the moment."""
        self.messages = []
        while len(self.messages) < RECORDS_MAX and not self.leave:
            message = self.consumer.poll(0.02 if self.messages else 0.1)
            if message is None:
                break
            if message.error():
                note(f"reading: {message.error()}")
            else:
                self.messages.append(message)
        return self.messages

    def copy(self, messages):
        """One transaction; how it ended. Raises when the producer is of no use any longer."""
        try:
            self.producer.begin_transaction()
            for message in messages:
                self.producer.produce(OUTPUT, message.value(), message.key())
                self.producer.poll(0)
            time.sleep(self.dice.random() / 50)
            metadata = self.metadata if PROTOCOL == "classic" else self.consumer.consumer_group_metadata()
            send_offsets(self.producer, messages, metadata)
            if self.dice.randrange(ABORTED_ONE_IN):
                patiently(self.producer.commit_transaction)
                return "committed"
            outcome = "aborted"
        except KafkaException as failure:
            note(failure)
            if not failure.args[0].txn_requires_abort():
                raise
            outcome = "failed"
        patiently(self.producer.abort_transaction)
        while failure := rewind(self.consumer, [(one.topic, one.partition) for one in self.consumer.assignment()]):
            # The group goes on meanwhile, and is asked again; whatever is read here comes again, too.
            note(f"rewind: {failure}")
            self.consumer.poll(0.1)
        return outcome

    def run(self):
        patiently(self.producer.init_transactions)
        while not self.leave:
            messages = self.read()
            if messages:
                say("end", outcome=self.copy(messages), records=len(messages))
        self.consumer.close()


def main():
    try:
        Copier().run()
    except KafkaException as failure:
        error = failure.args[0]
        note(error)
        is_fenced = error.code() in (KafkaError._FENCED, KafkaError.PRODUCER_FENCED, KafkaError.INVALID_PRODUCER_EPOCH)
        sys.exit(FENCED if is_fenced else OF_NO_USE)


main()
