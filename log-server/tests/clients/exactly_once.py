"""Reading, transforming and writing through other people's clients while everything is killed: each record comes out once, in order.

    exactly_once.py                                       our server, a short run of each client
    exactly_once.py --client java --kill broker --minutes 10
    exactly_once.py --broker kafka                        a real Kafka: does it keep what is asked here?
    exactly_once.py --broker kafka --store                stores what its clients are told

First what a transactional producer is told when it commits, aborts, takes too long, is fenced, and sends offsets of a member that
is gone (`java/TransactionCases.java`, `python/transaction_cases.py`), compared with what a real Kafka tells it. Then two
instances of a loop (`java/Copier.java`, `python/copier.py`) copy a topic of six partitions into another, in transactions. At random
moments one of them is killed with SIGKILL and replaced under its transactional id, or is paused, replaced, and comes back; every few
seconds the broker is killed. A reader of committed records looks on. In the end the output must be what went in, each record
once, for each key in order.
"""

import argparse
import collections
import itertools
import json
import pathlib
import random
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from confluent_kafka.admin import AdminClient, NewTopic

import brokers
import toolbox
from differences import Known
from in_and_out import Committed, Feed, differences
from instances import Instance
from transcripts import compare

HERE = pathlib.Path(__file__).resolve().parent
STORED = HERE / "golden/transactions"
PARTITIONS = 6
KEYS = [f"key-{number}" for number in range(23)]
INSTANCES = 2
UNDER_WAY_MAX = 2_000
CALM_SECONDS_MAX = 180
# Members that were killed are forgotten soon. Ours ends a transaction when its time is over, Kafka looks now and then.
SETTINGS = {
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "1000",
    "group.consumer.min.session.timeout.ms": "1000",
    "group.consumer.session.timeout.ms": "3000",
    "group.consumer.min.heartbeat.interval.ms": "100",
    "group.consumer.heartbeat.interval.ms": "300",
}
KAFKA_SETTINGS = {"transaction.abort.timed.out.transaction.cleanup.interval.ms": "500"}
FAULTS = {
    "clients": {"instance killed": 4, "instance paused": 1},
    "broker": {"broker killed": 1},
    "both": {"instance killed": 4, "instance paused": 1, "broker killed": 3},
}
# As copiers end by themselves: fenced; with a producer that is of no use; librdkafka's call that does not return.
FENCED, OF_NO_USE, HANGING = 3, 4, -signal.SIGALRM
ENDS = {FENCED: "fenced", OF_NO_USE: "of no use", HANGING: "hung"}
# A JVM takes its time to begin, of which it shall have some left.
PAUSE_SECONDS = {"java": (0.5, 6), "confluent": (0.3, 4)}


def program(client, java, python):
    if client.startswith("java"):
        return toolbox.java(java, "-Xmx96m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
    return [sys.executable, HERE / f"python/{python}.py"]


CLIENTS = {"java": "classic", "java-consumer": "consumer", "confluent": "classic", "confluent-consumer": "consumer"}


# -- what a producer is told

def play_cases(client, bootstrap, is_stored, known):
    """Complaints about what the transactional producer of a library was told."""
    command = [*program(client, "TransactionCases", "transaction_cases"), bootstrap, f"t{secrets.token_hex(4)}"]
    done = subprocess.run([str(part) for part in command], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          timeout=240, check=False)
    steps = [json.loads(line) for line in done.stdout.splitlines()]
    if done.returncode:
        return [f"  the program failed: {done.stderr.strip()[-1500:]}"]
    library = client.partition("-")[0]
    stored = STORED / f"{library}.jsonl"
    if is_stored:
        STORED.mkdir(exist_ok=True)
        stored.write_text("".join(json.dumps(step, sort_keys=True) + "\n" for step in steps))
    expected = [json.loads(line) for line in stored.read_text().splitlines()]
    return compare(library, expected, steps, known)


# -- the loop

def numbers(topic):
    """Numbers for each key, one after the other."""
    for number in itertools.count():
        yield [(topic, key, str(number), 0) for key in KEYS]


def disturb(broker, instances, output, arguments, dice, counts):
    """Kills and pauses until the time is over. Leaves everything running."""
    faults = FAULTS[arguments.kill]
    until = time.monotonic() + arguments.minutes * 60
    pause = PAUSE_SECONDS[instances[0].name.partition("-")[0]]
    while time.monotonic() < until:
        # Not to wait for something, but to reach any moment of a transaction.
        output.read(dice.uniform(*pause))
        for instance in instances:
            instance.resume()
            instance.revive()
        fault = dice.choices(list(faults), list(faults.values()))[0]
        counts[fault] += 1
        if fault == "broker killed":
            broker.kill()
            broker.start()
        elif fault == "instance killed":
            dice.choice(instances).replace()
        else:
            dice.choice(instances).pause_and_replace()
    for instance in instances:
        instance.resume()


def calm_down(instances, output, count):
    """Waits until as much came out as went in, or does not any more."""
    until = time.monotonic() + CALM_SECONDS_MAX
    while output.count < count and time.monotonic() < until:
        output.read(0.2)
        for instance in instances:
            instance.revive()
    for instance in instances:
        instance.leave()


def copy(broker, client, arguments, dice, directory):
    """The loop among faults: complaints, and what there was."""
    name = f"{client}-{secrets.token_hex(3)}"
    topics = [f"{name}-in", f"{name}-out"]
    admin = AdminClient({"bootstrap.servers": broker.bootstrap, "log_level": 0})
    for made in admin.create_topics([NewTopic(topic, PARTITIONS) for topic in topics]).values():
        made.result(30)
    start = program(client, "Copier", "copier")

    def command(place):
        return lambda _: [*start, broker.bootstrap, name, topics[0], f"{name}-{place}", CLIENTS[client], topics[1],
                          dice.randrange(1 << 31)]

    counts = collections.Counter()
    output = Committed(broker.bootstrap, topics[1], PARTITIONS)
    feed = Feed(broker.bootstrap, numbers(topics[0]), lambda count: count < output.count + UNDER_WAY_MAX)
    instances = [Instance(f"{client}-{place}", command(place), directory, ENDS) for place in range(INSTANCES)]
    try:
        disturb(broker, instances, output, arguments, dice, counts)
        sent = feed.stop()
        calm_down(instances, output, len(sent))
    finally:
        feed.stopping.set()
        for instance in instances:
            instance.kill_all()
    expected = collections.defaultdict(list)
    for _, key, value, _ in sent:
        expected[key].append(value)
    complaints = [f"  {where} {line}" for where, reader in
                  (("input", Committed(broker.bootstrap, topics[0], PARTITIONS).read_all()),
                   ("output", Committed(broker.bootstrap, topics[1], PARTITIONS).read_all()),
                   ("output, looked on at", output)) for line in differences(expected, reader.by_key)]
    for instance in instances:
        counts.update(f"transactions {event['outcome']}" for event in instance.events())
        counts.update({ENDS[code]: count for code, count in instance.ends.items()})
    counts["records"] = len(sent)
    return complaints, counts


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--broker", choices=("stratalog", "kafka"), default="stratalog")
    parser.add_argument("--client", default="java,confluent", help=f"comma-separated, of {', '.join(CLIENTS)}")
    parser.add_argument("--kill", choices=FAULTS, default="both")
    parser.add_argument("--minutes", type=float, default=0.2, help="of faults for each client; 0: only what a producer is told")
    parser.add_argument("--store", action="store_true", help="store what the producers are told instead of comparing")
    parser.add_argument("--seed", type=int, default=None)
    arguments = parser.parse_args()
    if arguments.store and arguments.broker != "kafka":
        parser.error("--store keeps what a real Kafka answers: say --broker kafka, too")
    seed = secrets.randbelow(1 << 48) if arguments.seed is None else arguments.seed
    print(f"seed {seed}", flush=True)
    kind, settings = {"stratalog": (brokers.Stratalog, SETTINGS),
                      "kafka": (brokers.Kafka, SETTINGS | KAFKA_SETTINGS)}[arguments.broker]
    known = Known(HERE / "known-differences.json", "transactions")
    directory = pathlib.Path(tempfile.mkdtemp(prefix="exactly-once-"))
    passed, failed = 0, 0
    with kind(directory / "data", settings) as broker:
        for client in arguments.client.split(","):
            complaints = play_cases(client, broker.bootstrap, arguments.store, known)
            print(f"{client}, what a producer is told: {'FAILED' if complaints else 'ok'}", flush=True)
            more = []
            if arguments.minutes:
                more, counts = copy(broker, client, arguments, random.Random(f"{seed} {client}"), directory)
                print(f"{client}, {arguments.kill} killed: {'FAILED' if more else 'ok'}, {dict(sorted(counts.items()))}", flush=True)
            print("\n".join([*complaints, *more[:20]]), end="\n" if complaints or more else "", flush=True)
            outcomes = [complaints, more] if arguments.minutes else [complaints]
            passed, failed = passed + outcomes.count([]), failed + len(outcomes) - outcomes.count([])
    is_ours_in_full = arguments.broker == "stratalog" and {"java", "confluent"} <= set(arguments.client.split(","))
    failed += bool(known.report(is_ours_in_full))
    if failed:
        print(f"logs are kept: {directory}")
    else:
        shutil.rmtree(directory, ignore_errors=True)
    print(f"transactions: {passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    toolbox.run(main)
