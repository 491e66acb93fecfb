"""Histories of transactional clients among faults, and what is wrong with them: `histories.py [--seconds 20] [--rounds 1]`.

    histories.py                          our server, a short run
    histories.py --rounds 30 --seconds 120  an hour
    histories.py --broker kafka           the same against a real Kafka: is what the checker wants what Kafka gives?
    histories.py --check DIRECTORY        looks at a kept history again

Producers with and without transactions, among them two that fence each other, readers that jump, two groups, and a loop of two
instances that transforms each record once run in processes of their own (`python/history_client.py`). Meanwhile the broker is killed
and paused, and so are the clients. When all is over, everything is read once more, and `anomalies.py` judges. A history with anomalies
is kept. The seed chooses what clients and faults do; how they meet is the machine's choice.
"""

import argparse
import collections
import json
import pathlib
import random
import secrets
import shutil
import signal
import sys
import tempfile
import time
import unittest

from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

import anomalies_test
import brokers
import history_process_test
import toolbox
from anomalies import anomalies, transformed
from history_process import CALM_SECONDS_MAX, Client

PARTITIONS = 3
KINDS_OF_TOPICS = ("in", "t", "out")
SETTINGS = {
    "group.initial.rebalance.delay.ms": "0",
    "group.consumer.min.session.timeout.ms": "6000",
    "group.consumer.session.timeout.ms": "6000",
    "group.consumer.min.heartbeat.interval.ms": "500",
    "group.consumer.heartbeat.interval.ms": "500",
}
# Ours ends a transaction when its time is over, and has no interval of looking.
KAFKA_SETTINGS = {"transaction.abort.timed.out.transaction.cleanup.interval.ms": "500"}
CAST = {"transactions": 3, "zombie": 2, "plain": 1, "reader": 2, "member": 2, "new-member": 2, "loop": 2}
WRITERS = ("transactions", "zombie", "plain")


def disturb(broker, clients, seconds, dice, counts):
    """Kills and pauses, until the time is over. Leaves everything running."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        time.sleep(min(left, dice.uniform(0.5, 3)))
        counts.update(filter(None, (client.revive() for client in clients)))
        fault = dice.choices(("broker killed", "broker paused", "client killed", "client paused"), (3, 2, 3, 2))[0]
        counts[fault] += 1
        client = dice.choice(clients)
        if fault == "broker killed":
            broker.kill()
            time.sleep(dice.uniform(0, 1))
            broker.start()
        elif fault == "broker paused":
            broker.process.send_signal(signal.SIGSTOP)
            time.sleep(dice.uniform(0.1, 3))
            broker.process.send_signal(signal.SIGCONT)
        elif fault == "client killed":
            counts.update(filter(None, [client.replace()]))
        else:
            # Longer than a transaction or a session lasts, sometimes: it comes back as one that is out of date.
            client.pause(dice.choice((0.5, 2, 8)))


def read_all(bootstrap, topics):
    """Everything that can be read as committed, once no transaction is open any longer."""
    settings = {"bootstrap.servers": bootstrap, "group.id": "last", "enable.auto.commit": False, "auto.offset.reset": "earliest",
                "enable.partition.eof": True, "isolation.level": "read_committed", "log_level": 0}
    everything = Consumer({**settings, "isolation.level": "read_uncommitted"})
    reader = Consumer(settings)
    places = [TopicPartition(topic, partition, 0) for topic in topics for partition in range(PARTITIONS)]
    until = time.monotonic() + CALM_SECONDS_MAX
    while any(everything.get_watermark_offsets(place, 10) != reader.get_watermark_offsets(place, 10) for place in places):
        if until < time.monotonic():
            raise RuntimeError("a transaction stays open")
        time.sleep(0.1)
    reader.assign(places)
    records, ended = [], set()
    while len(ended) < len(places):
        message = reader.poll(30)
        if message is None:
            raise RuntimeError("the last reader gets nothing more")
        if message.error():
            ended.add((message.topic(), message.partition()))
        else:
            records.append([[message.topic(), message.partition()], message.offset(), message.value().decode()])
    everything.close()
    reader.close()
    return records


def origin(value):
    return value.removeprefix("of ").split(" by ")[0] if value.startswith("of ") else None


def read_events(directory):
    events = []
    for path in sorted(directory.glob("*.jsonl")):
        # A client that was killed may not have written its last line to its end.
        whole = path.read_bytes().rpartition(b"\n")[0]
        events += [json.loads(line) for line in whole.splitlines()]
    return events


def judge(directory):
    events = read_events(directory)
    final = next(event for event in events if event["event"] == "final")
    prefix = final["records"][0][0][0].rpartition("-")[0]
    found = anomalies(events) + transformed(events, f"{prefix}-in", f"{prefix}-out", origin)
    ends = collections.Counter(event["outcome"] for event in events if event["event"] == "end")
    polled = sum(len(event["records"]) for event in events if event["event"] == "poll")
    return found, ends, polled, len(final["records"])


def play(broker, prefix, seed, seconds, directory, counts):
    """A round: its history is in `directory` afterwards."""
    dice = random.Random(seed)
    topics = [f"{prefix}-{kind}" for kind in KINDS_OF_TOPICS]
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    for done in admin.create_topics([NewTopic(topic, PARTITIONS) for topic in topics]).values():
        done.result(30)
    clients = [Client(role, number, broker.bootstrap, prefix, seed, directory)
               for role, count in CAST.items() for number in range(count)]
    try:
        disturb(broker, clients, seconds, dice, counts)
        counts.update(filter(None, (client.end() for client in clients if client.role in WRITERS)))
        until = time.monotonic() + CALM_SECONDS_MAX
        while True:
            try:
                final = {"event": "final", "process": "last", "at": time.monotonic_ns(),
                         "records": read_all(broker.bootstrap, topics)}
            except KafkaException as failure:
                raise RuntimeError(f"the last reader: {failure}") from failure
            # The loop may still be at it.
            missing = transformed([final], topics[0], topics[2], origin)
            if all(kind != "output-lost" for kind, _ in missing) or until < time.monotonic():
                break
            counts.update(filter(None, (client.revive() for client in clients)))
            time.sleep(0.5)
        counts.update(filter(None, (client.end() for client in clients if client.role not in WRITERS)))
    finally:
        for client in clients:
            client.kill()
    (directory / "last.jsonl").write_text(json.dumps(final) + "\n")


def check_the_checker():
    load = unittest.defaultTestLoader.loadTestsFromModule
    suite = unittest.TestSuite(load(module) for module in (anomalies_test, history_process_test))
    result = unittest.TextTestRunner(stream=sys.stdout, verbosity=0).run(suite)
    return result.testsRun, len(result.failures) + len(result.errors)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--broker", choices=("stratalog", "kafka"), default="stratalog")
    parser.add_argument("--seconds", type=float, default=20, help="of faults in each round")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--check", type=pathlib.Path, metavar="DIRECTORY")
    arguments = parser.parse_args()
    if arguments.check:
        found, ends, polled, final = judge(arguments.check)
        for kind, text in found:
            print(f"{kind}: {text}")
        print(f"{dict(ends)}, {polled} records read, {final} in the end, {len(found)} anomalies")
        return 1 if found else 0
    tests, failed = check_the_checker()
    seed = secrets.randbelow(1 << 48) if arguments.seed is None else arguments.seed
    print(f"seed {seed}", flush=True)
    kind, settings = {"stratalog": (brokers.Stratalog, SETTINGS),
                      "kafka": (brokers.Kafka, SETTINGS | KAFKA_SETTINGS)}[arguments.broker]
    passed, counts = tests - failed, collections.Counter()
    directory = pathlib.Path(tempfile.mkdtemp(prefix="histories-"))
    with kind(directory / "data", settings) as broker:
        for number in range(arguments.rounds):
            where = directory / f"round-{number}"
            where.mkdir()
            play(broker, f"h{number}", seed + number, arguments.seconds, where, counts)
            found, ends, polled, final = judge(where)
            print(f"round {number}: {dict(ends)}, {polled} records read, {final} in the end, {len(found)} anomalies", flush=True)
            for anomaly, text in found[:20]:
                print(f"  {anomaly}: {text}", flush=True)
            if found:
                failed += 1
                print(f"  the history is kept: {where}")
            else:
                passed += 1
                shutil.rmtree(where)
    print(dict(counts))
    if not failed:
        shutil.rmtree(directory, ignore_errors=True)
    print(f"histories: {passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    toolbox.run(main)
