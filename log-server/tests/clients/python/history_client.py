"""One client of a history (confluent-kafka, that is librdkafka): `history_client.py ROLE NAME BOOTSTRAP PREFIX SEED`.

Writes the events that `anomalies.py` knows to its standard output, one line each, before or after what they tell of. Roles:

- `transactions`: a transactional producer: commits, aborts, now and then holds a transaction open until the broker ends it
- `zombie`: the same under a name that another process has too: they fence each other
- `plain`: an idempotent producer
- `reader`: reads as committed; assigns itself partitions, and jumps
- `member`, `new-member`: two of one group, which the broker assigns; of the classic protocol and of KIP-848
- `loop`: makes one record of `PREFIX-out` of each of `PREFIX-in`, its offsets in the same transaction
"""

import faulthandler
import json
import os
import random
import signal
import sys
import time

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

from transactional import patiently, rewind, send_offsets

ROLE, NAME, BOOTSTRAP, PREFIX, SEED = sys.argv[1:6]
PARTITIONS = 3
WRITTEN = [(f"{PREFIX}-{kind}", partition) for kind in ("in", "t") for partition in range(PARTITIONS)]
TRANSACTION_MS = 6_000
dice = random.Random(f"{SEED} {NAME}")
asked_to_leave = False


def leave(*_):
    global asked_to_leave
    asked_to_leave = True


signal.signal(signal.SIGTERM, leave)
# Says where it is, for one that does not end.
faulthandler.register(signal.SIGUSR1)
signal.signal(signal.SIGINT, signal.SIG_IGN)


def say(event, **fields):
    line = json.dumps({"event": event, "process": NAME, "at": time.monotonic_ns(), **fields}) + "\n"
    os.write(1, line.encode())


def note(text):
    print(f"{NAME}: {text}", file=sys.stderr, flush=True)


COMMON = {"bootstrap.servers": BOOTSTRAP, "reconnect.backoff.ms": 20, "reconnect.backoff.max.ms": 300,
          "retry.backoff.ms": 20, "socket.timeout.ms": 5_000, "log_level": 0}
READING = {**COMMON, "isolation.level": "read_committed", "auto.offset.reset": "earliest", "fetch.wait.max.ms": 50,
           "enable.auto.commit": False, "session.timeout.ms": 6_000, "heartbeat.interval.ms": 500}


class Transactions:
    """Units, one after the other; a producer that is of no use any longer is followed by another.

    A producer that aborted records whose answers it never got is of none: librdkafka (2.16) uses their sequences again in the same
    epoch, and if the broker has the first ones, it takes the next transaction's records for them and acknowledges what it does not
    keep. Against Apache Kafka 4.3 the same happens, so it is no fault that these histories look for.
    """

    def __init__(self, transactional_id):
        self.transactional_id = transactional_id
        self.producer = None
        self.count = 0
        self.has_doubt = False

    def ready(self):
        if self.producer is None:
            producer = Producer({**COMMON, "transactional.id": self.transactional_id, "linger.ms": dice.choice((0, 5)),
                                 "transaction.timeout.ms": TRANSACTION_MS, "message.timeout.ms": TRANSACTION_MS - 1_000})
            try:
                producer.init_transactions(10)
            except KafkaException as failure:
                note(f"cannot begin: {failure}")
                return False
            self.producer, self.has_doubt = producer, False
        return True

    def send(self, unit, value, place):
        def heard(error, message):
            if error is None:
                say("acked", value=value, place=place, offset=message.offset())
            else:
                self.has_doubt = True

        say("write", value=value, place=place, unit=unit)
        self.producer.produce(place[0], value=value, partition=place[1], on_delivery=heard)

    def run(self, work, commits=True):
        """A unit: what `work(unit)` does, and its end. Returns whether it was committed, as far as is known."""
        self.count += 1
        unit, asked = f"{NAME}-{self.count}", False
        try:
            self.producer.begin_transaction()
            work(unit)
            if commits:
                say("commit", unit=unit)
                asked = True
                patiently(self.producer.commit_transaction)
                say("end", unit=unit, outcome="ok")
                return True
            if dice.random() < 0.5:
                self.producer.flush(5)
            self.abort(unit)
        except KafkaException as failure:
            self.give_up(unit, failure.args[0], asked)
        return False

    def abort(self, unit):
        patiently(self.producer.abort_transaction)
        say("end", unit=unit, outcome="fail")
        # Hears what became of its records.
        self.producer.poll(0)
        if self.has_doubt:
            self.producer = None

    def give_up(self, unit, error, asked):
        note(f"{unit}: {error}")
        try:
            if error.txn_requires_abort():
                return self.abort(unit)
        except KafkaException as failure:
            note(f"{unit}: abort: {failure}")
        self.producer = None
        say("end", unit=unit, outcome="info" if asked else "fail")


def transactions(transactional_id):
    units = Transactions(transactional_id)

    def work(unit):
        for part in range(dice.randint(1, 5)):
            units.send(unit, f"{unit}-{part}", dice.choice(WRITTEN))
            if dice.random() < 0.3:
                units.producer.poll(dice.random() / 50)
        if dice.random() < 0.01:
            # Longer than the broker allows: it ends the transaction, and what comes is refused.
            units.producer.flush(TRANSACTION_MS / 1_000 + 3)
            time.sleep(TRANSACTION_MS / 1_000 + 3)

    while not asked_to_leave:
        if units.ready():
            units.run(work, commits=dice.random() < 0.75)
            if ROLE == "zombie":
                time.sleep(dice.random())


def plain():
    producer = Producer({**COMMON, "enable.idempotence": True, "message.timeout.ms": 30_000, "linger.ms": dice.choice((0, 5))})

    def heard(value, place):
        def hear(error, message):
            if error is None:
                say("acked", value=value, place=place, offset=message.offset())
                say("end", unit=value, outcome="ok")
        return hear

    count = 0
    while not asked_to_leave:
        for _ in range(dice.randint(1, 8)):
            count += 1
            # Not into what the loop reads: it would not keep up.
            value, place = f"{NAME}-{count}", (f"{PREFIX}-t", dice.randrange(PARTITIONS))
            say("write", value=value, place=place, unit=value)
            say("commit", unit=value)
            producer.produce(place[0], value=value, partition=place[1], on_delivery=heard(value, place))
        producer.poll(0.01)
        time.sleep(dice.random() / 10)
    producer.flush(60)


class Reader:
    """What was read since the last `poll` event; an `assign` event comes behind it."""

    def __init__(self, **settings):
        self.consumer = Consumer({**READING, "group.id": f"{PREFIX}-{NAME}", **settings})
        self.records = []
        self.messages = []

    def assigned(self, positions):
        self.tell()
        say("assign", positions=[[list(place), offset] for place, offset in positions.items()])

    def tell(self):
        records, self.records = self.records, []
        if records:
            say("poll", records=records)

    def read(self, count, seconds=0.05):
        """So many records at most; fewer when none comes for a moment, or when partitions go meanwhile."""
        self.messages = messages = []
        while len(messages) < count and not asked_to_leave:
            message = self.consumer.poll(seconds)
            if message is None:
                break
            if message.error():
                note(f"reading: {message.error()}")
                continue
            messages.append(message)
            self.records.append([[message.topic(), message.partition()], message.offset(), message.value().decode()])
        self.tell()
        return messages


def reader():
    me, seen = Reader(), {}
    while not asked_to_leave:
        places = dice.sample(WRITTEN, dice.randint(1, len(WRITTEN)))
        positions = {}
        for place in places:
            last = seen.get(place, 0)
            positions[place] = dice.choice((last, last, 0, dice.randint(0, last)))
        me.assigned(positions)
        me.consumer.assign([TopicPartition(*place, offset) for place, offset in positions.items()])
        for _ in range(dice.randint(5, 60)):
            for message in me.read(50):
                place = (message.topic(), message.partition())
                seen[place] = max(seen.get(place, 0), message.offset() + 1)
            if dice.random() < 0.03 and seen:
                place = dice.choice(places)
                positions = {one: None for one in places} | {place: dice.randint(0, seen.get(place, 0))}
                try:
                    me.consumer.seek(TopicPartition(*place, positions[place]))
                except KafkaException:
                    # It has not begun there yet.
                    break
                me.assigned(positions)
    me.consumer.close()


def subscribe(me, topics):
    """Reads what the broker assigns. Where it goes on there, the broker knows."""
    owned = set()

    def gained(_, partitions):
        owned.update((one.topic, one.partition) for one in partitions)
        me.assigned({place: None for place in owned})

    def gone(_, partitions):
        owned.difference_update((one.topic, one.partition) for one in partitions)
        # Whoever gets them reads again what was not committed.
        me.messages[:] = [one for one in me.messages if (one.topic(), one.partition()) in owned]
        me.assigned({place: None for place in owned})

    me.consumer.subscribe(topics, on_assign=gained, on_revoke=gone, on_lost=gone)
    return owned


def new_protocol(settings):
    """A member of KIP-848 is told its times by the broker."""
    kept = {name: value for name, value in settings.items() if name not in ("session.timeout.ms", "heartbeat.interval.ms")}
    return {**kept, "group.protocol": "consumer"}


def member():
    settings = {"group.id": f"{PREFIX}-{ROLE}", "enable.auto.commit": True, "auto.commit.interval.ms": 300}
    me = Reader(**settings)
    if ROLE == "new-member":
        me.consumer = Consumer(new_protocol({**READING, **settings}))
    subscribe(me, [f"{PREFIX}-in", f"{PREFIX}-t"])
    while not asked_to_leave:
        me.read(200, 0.1)
    me.consumer.close()


def loop():
    me = Reader(**{"group.id": f"{PREFIX}-loop"})
    owned = subscribe(me, [f"{PREFIX}-in"])
    units = Transactions(f"{PREFIX}-{NAME.split('.')[0]}")

    def go_back():
        """Whatever was read and not committed comes again."""
        failure = rewind(me.consumer, sorted(owned))
        if failure:
            note(f"rewind: {failure}")
            return False
        me.assigned({place: None for place in owned})
        return True

    is_behind = False
    while not asked_to_leave:
        if not units.ready():
            continue
        if is_behind:
            # The group goes on meanwhile, and is asked again.
            is_behind = not go_back()
            if is_behind:
                me.consumer.poll(0)
                time.sleep(0.1)
                continue
        messages = me.read(dice.randint(1, 20))
        if not messages:
            continue

        def work(unit):
            for message in messages:
                units.send(unit, f"of {message.value().decode()} by {unit}", (f"{PREFIX}-out", message.partition()))
            send_offsets(units.producer, messages, me.consumer.consumer_group_metadata())

        is_behind = not units.run(work, commits=dice.random() < 0.9)
    me.consumer.close()


{"transactions": lambda: transactions(f"{PREFIX}-{NAME.split('.')[0]}"), "zombie": lambda: transactions(f"{PREFIX}-shared"),
 "plain": plain, "reader": reader, "member": member, "new-member": member, "loop": loop}[ROLE]()
