"""Stream processors and connectors of other people, unchanged, on our server, while they and the broker are killed and restarted.

    frameworks.py                             all of them, our server
    frameworks.py --frameworks streams,quix   some of them
    frameworks.py --broker kafka              a real Kafka: does it give what is asked here?
    frameworks.py --rounds 10                 more of each fault

`streams` is Kafka Streams with exactly_once_v2 (`java/StreamsApplication.java`), `quix` is Quix Streams with exactly-once
processing (`python/quix_application.py`), `connect` Kafka Connect in stand-alone mode with the connectors for files, and
`connect-distributed` two workers of it with a source that is exactly once. What comes out is compared with what must: record by
record where a framework promises that.
"""

import argparse
import collections
import itertools
import json
import pathlib
import random
import secrets
import shutil
import tempfile
import time
import urllib.error
import urllib.request

from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

import brokers
import toolbox
from exactly_once import SETTINGS
from in_and_out import Committed, Feed, differences
from instances import Instance

PARTITIONS = 4
INSTANCES = 2
KEYS = [f"key-{number}" for number in range(7)]
WORDS = [f"word{number}" for number in range(40)]
WORDS_PER_LINE = 5
WINDOW_MS = 10_000
ROUND_MS = 100
ROUNDS_UNDER_WAY_MAX = 300
# Between two faults as many rounds of records come through.
ROUNDS_BETWEEN_FAULTS = 60
FAULTS = ("instance killed", "instance restarted", "broker killed", "broker restarted")
LINES = 500
# A JVM that gets a tenth of a core takes a minute to begin.
WAIT_SECONDS_MAX = 300
SMALL = ("-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")


class Late(Exception):
    """What was waited for did not come."""


def until(holds, what):
    deadline = time.monotonic() + WAIT_SECONDS_MAX
    while not holds():
        if deadline < time.monotonic():
            raise Late(f"waited for {what}")
        time.sleep(0.1)


class Run:
    """What the runs of all frameworks have: a broker, a directory, topics under a name of their own, and counts."""

    def __init__(self, name, broker, directory, arguments, dice):
        self.name, self.broker, self.directory, self.dice = name, broker, directory, dice
        self.rounds = arguments.rounds
        self.prefix = f"{name}-{secrets.token_hex(3)}"
        self.counts = collections.Counter()
        self.instances = []
        self.admin = AdminClient({"bootstrap.servers": broker.bootstrap, "log_level": 0})

    def topics(self, partitions, *names):
        for made in self.admin.create_topics([NewTopic(f"{self.prefix}-{name}", partitions) for name in names]).values():
            made.result(30)

    def start(self, command):
        """An instance; `command` makes its command from its state directory."""
        name = f"{self.name}-{len(self.instances)}"
        self.instances.append(Instance(name, lambda _: command(self.directory / f"{name}.state"), self.directory))

    def faults(self):
        """Every fault in each round, in any order."""
        for _ in range(self.rounds):
            yield from self.dice.sample(FAULTS, len(FAULTS))

    def carry_out(self, fault):
        self.counts[fault] += 1
        instance = self.dice.choice(self.instances)
        steps = {"instance killed": [instance.replace], "instance restarted": [instance.leave, instance.start],
                 "broker killed": [self.broker.kill, self.broker.start],
                 "broker restarted": [self.broker.stop, self.broker.start]}
        for step in steps[fault]:
            step()

    def leave(self):
        for instance in self.instances:
            instance.leave()

    def close(self):
        for instance in self.instances:
            instance.kill_all()


# -- stream processors

def lines_and_numbers(prefix, start, dice):
    """Rounds of records: a line of words, and a number for each key."""
    for count in itertools.count():
        at = start + count * ROUND_MS
        line = " ".join(dice.choices(WORDS, k=WORDS_PER_LINE))
        yield [(f"{prefix}-lines", None, line, at),
               *((f"{prefix}-numbers", key, str(dice.randrange(100)), at) for key in KEYS)]


def values_by_key(records):
    found = collections.defaultdict(list)
    for key, value in records:
        found[key].append(value)
    return found


def running(pairs, step):
    """Every value that an aggregate by key goes through."""
    now = collections.Counter()
    for key, value in pairs:
        now[key] += step(value)
        yield key, str(now[key])


def windows(numbers):
    """What is aggregated by key and window: the window's start, the key and the number."""
    return [(at // WINDOW_MS * WINDOW_MS, key, value) for key, value, at in numbers]


def by_streams(sent, prefix, end):
    """What the Streams application must write; no window that goes on at `end` is final."""
    words = [(word, 1) for topic, _, line, _ in sent if topic == f"{prefix}-lines" for word in line.split()]
    places = windows(numbers_of(sent, prefix))
    summed = list(running(((f"{key}@{start}", value) for start, key, value in places), int))
    last = dict(summed)
    over = {f"{key}@{start}" for start, key, _ in places if start + WINDOW_MS <= end}
    return {"counts": values_by_key(running(words, int)), "sums": values_by_key(summed),
            "final": {key: [value] for key, value in last.items() if key in over}}


def by_quix(sent, prefix, _):
    """What the Quix application must write; a window is over when the next number of its key is behind it."""
    numbers = numbers_of(sent, prefix)
    last = dict(running((((start, key), value) for start, key, value in windows(numbers)), int))
    latest = {key: start for start, key in last}
    said = [(key, f"{start} {value}") for (start, key), value in last.items() if start < latest[key]]
    return {"totals": values_by_key(running(((key, value) for key, value, _ in numbers), int)), "windows": values_by_key(said)}


def numbers_of(sent, prefix):
    return [(key, value, at) for topic, key, value, at in sent if topic == f"{prefix}-numbers"]


def process(run, command, must_come, progress):
    """Two instances of an application among faults; `progress` is the topic with one record for each number."""
    run.topics(PARTITIONS, "lines", "numbers", *must_come([], run.prefix, 0))
    start = (int(time.time()) - 3600) * 1000 // WINDOW_MS * WINDOW_MS
    # Behind all windows of the run.
    end = start + 50 * 60_000 // WINDOW_MS * WINDOW_MS
    out = Committed(run.broker.bootstrap, f"{run.prefix}-{progress}", PARTITIONS)
    feed = Feed(run.broker.bootstrap, lines_and_numbers(run.prefix, start, run.dice),
                lambda sent: sent // (1 + len(KEYS)) < out.count // len(KEYS) + ROUNDS_UNDER_WAY_MAX)
    try:
        for _ in range(INSTANCES):
            run.start(command)
        for fault in run.faults():
            comes_through(run, out, out.count + ROUNDS_BETWEEN_FAULTS * len(KEYS))
            run.carry_out(fault)
        # The time goes on in every partition, so that every window is over.
        sent = feed.stop(*(((f"{run.prefix}-numbers", f"end-{partition}", "0", end), {"partition": partition})
                           for partition in range(PARTITIONS)))
        expected = must_come(sent, run.prefix, end)
        for name, by_key in expected.items():
            reader = Committed(run.broker.bootstrap, f"{run.prefix}-{name}", PARTITIONS)
            comes_through(run, reader, sum(map(len, by_key.values())), may_be_late=True)
        run.leave()
    finally:
        feed.stopping.set()
    run.counts["records in"] = len(sent)
    complaints = []
    for name, by_key in expected.items():
        reader = Committed(run.broker.bootstrap, f"{run.prefix}-{name}", PARTITIONS).read_all()
        run.counts[f"{name} out"] = reader.count
        complaints += [f"{name}: {line}" for line in differences(by_key, reader.by_key)]
    return complaints


def comes_through(run, reader, count, may_be_late=False):
    """Reads until so many records have come; one that is missing in the end is told as a difference."""
    deadline = time.monotonic() + WAIT_SECONDS_MAX
    while reader.count < count:
        if deadline < time.monotonic():
            if may_be_late:
                return
            raise Late(f"{reader.count} records came out, {count} were waited for")
        reader.read(0.2)
        for instance in run.instances:
            instance.revive()


def streams(run):
    program = toolbox.java("StreamsApplication", *SMALL, profile="frameworks")
    return process(run, lambda state: [*program, run.broker.bootstrap, run.prefix, state], by_streams, "sums")


def quix(run):
    interpreter = toolbox.python("quix.txt")
    program = [interpreter, pathlib.Path(__file__).parent / "python/quix_application.py", run.broker.bootstrap, run.prefix]
    return process(run, lambda state: [*program, state], by_quix, "totals")


# -- connectors

class Lines:
    """A text file that grows."""

    def __init__(self, path):
        self.path, self.count = path, 0
        path.touch()

    def grow(self, count=LINES):
        with open(self.path, "a") as file:
            file.writelines(f"line {number}\n" for number in range(self.count, self.count + count))
        self.count += count

    def all(self):
        return self.path.read_text().splitlines()


def write_properties(path, **settings):
    path.write_text("".join(f"{name.replace('_', '.')}={value}\n" for name, value in settings.items()))
    return path


def worker_settings(run, port):
    text = "org.apache.kafka.connect.storage.StringConverter"
    return {"bootstrap_servers": run.broker.bootstrap, "key_converter": text, "value_converter": text,
            "listeners": f"http://127.0.0.1:{port}", "plugin_discovery": "service_load", "offset_flush_interval_ms": 300,
            "consumer_session_timeout_ms": 3000, "consumer_heartbeat_interval_ms": 300}


def worker(mode):
    return [*toolbox.jvm(toolbox.jars("frameworks"), *SMALL), f"org.apache.kafka.connect.cli.Connect{mode}"]


FILE_SOURCE = "org.apache.kafka.connect.file.FileStreamSourceConnector"
FILE_SINK = "org.apache.kafka.connect.file.FileStreamSinkConnector"
ONE_PARTITION = {"topic.creation.default.partitions": "1", "topic.creation.default.replication.factor": "1"}


def connect(run):
    """From a file through a topic into a file. Nothing is lost; nothing comes twice unless something was killed."""
    start, topic = worker("Standalone"), f"{run.prefix}-lines"
    [port] = brokers.free_ports(1)
    source, target = Lines(run.directory / "source.txt"), Lines(run.directory / "target.txt")
    group = f"connect-{run.prefix}-sink"

    def command(state):
        settings = worker_settings(run, port) | {"offset_storage_file_filename": f"{state}.offsets"}
        return [*start, write_properties(run.directory / "worker.properties", **settings),
                write_properties(run.directory / "source.properties", name=f"{run.prefix}-source", connector_class=FILE_SOURCE,
                                 tasks_max=1, file=source.path, topic=topic, **ONE_PARTITION),
                write_properties(run.directory / "sink.properties", name=f"{run.prefix}-sink", connector_class=FILE_SINK,
                                 tasks_max=1, file=target.path, topics=topic)]

    source.grow()
    run.start(command)
    [instance] = run.instances
    for fault in ("none", "instance restarted", "broker restarted"):
        if fault != "none":
            source.grow()
            run.carry_out(fault)
        source.grow()
        until(lambda: source.count <= len(target.all()), f"all lines after {fault}")
        if target.all() != source.all():
            return [f"after {fault}: the files differ"]
    complaints = []
    for fault in [fault for fault in run.faults() if fault.endswith("killed")]:
        source.grow()
        run.carry_out(fault)
        source.grow()
        until(lambda: set(source.all()) == set(target.all()), f"all lines after {fault}")
        instance.revive()
    # What is acknowledged in order is committed.
    run.leave()
    run.counts["lines"] = source.count
    run.counts["lines again"] = len(target.all()) - source.count
    if list(dict.fromkeys(target.all())) != source.all():
        complaints.append("the lines do not come in order")
    reader = Consumer({"bootstrap.servers": run.broker.bootstrap, "group.id": group})
    [committed] = reader.committed([TopicPartition(topic, 0)], 30)
    _, end = reader.get_watermark_offsets(committed, 30)
    if committed.offset != end:
        complaints.append(f"the sink has committed {committed.offset} of {end}")
    return complaints


def ask(port, method, path, body=None):
    """A request to a worker; None when it cannot answer yet."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", method=method,
                                     data=json.dumps(body).encode() if body else None,
                                     headers={"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.loads(answer.read() or b"{}")
    except (urllib.error.URLError, OSError):
        return None


def connect_distributed(run):
    """Two workers; the lines of a file become records of a topic in transactions: each is there once, in order."""
    start, ports = worker("Distributed"), brokers.free_ports(INSTANCES)
    topic = f"{run.prefix}-lines"
    source = Lines(run.directory / "distributed.txt")
    shared = {"group_id": run.prefix, "exactly_once_source_support": "enabled", "scheduled_rebalance_max_delay_ms": 500,
              "session_timeout_ms": 6000, "heartbeat_interval_ms": 1000}
    for store in ("config", "offset", "status"):
        shared |= {f"{store}_storage_topic": f"{run.prefix}-{store}", f"{store}_storage_replication_factor": 1}
    for port in ports:
        properties = write_properties(run.directory / f"worker-{port}.properties", **worker_settings(run, port), **shared)
        run.start(lambda _, properties=properties: [*start, properties])
    connector = {"connector.class": FILE_SOURCE, "tasks.max": "1", "file": str(source.path), "topic": topic,
                 "exactly.once.support": "required", **ONE_PARTITION}
    until(lambda: ask(ports[0], "PUT", f"/connectors/{run.prefix}/config", connector), "the connector to be taken")
    source.grow()
    until(lambda: topic in run.admin.list_topics(timeout=30).topics, "the topic")
    reader = Committed(run.broker.bootstrap, topic, 1)
    for fault in run.faults():
        source.grow()
        run.carry_out(fault)
        source.grow()
        comes_through(run, reader, source.count)
    run.leave()
    everything = Committed(run.broker.bootstrap, topic, 1).read_all()
    run.counts["lines"] = everything.count
    return differences({None: source.all()}, everything.by_key)


FRAMEWORKS = {"streams": streams, "connect": connect, "connect-distributed": connect_distributed, "quix": quix}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--broker", choices=("stratalog", "kafka"), default="stratalog")
    parser.add_argument("--frameworks", default=",".join(FRAMEWORKS), help="comma-separated names")
    parser.add_argument("--rounds", type=int, default=2, help="of all faults")
    parser.add_argument("--seed", type=int, default=None)
    arguments = parser.parse_args()
    seed = secrets.randbelow(1 << 48) if arguments.seed is None else arguments.seed
    print(f"seed {seed}", flush=True)
    kind = {"stratalog": brokers.Stratalog, "kafka": brokers.Kafka}[arguments.broker]
    directory = pathlib.Path(tempfile.mkdtemp(prefix="frameworks-"))
    passed, failed = 0, 0
    for name in arguments.frameworks.split(","):
        with kind(directory / f"{name}-data", SETTINGS) as broker:
            run = Run(name, broker, directory, arguments, random.Random(f"{seed} {name}"))
            began = time.monotonic()
            try:
                complaints = FRAMEWORKS[name](run)
            except (Late, RuntimeError) as failure:
                complaints = [f"{type(failure).__name__}: {failure}"]
            finally:
                run.close()
        print(f"{name:20} {'FAILED' if complaints else 'ok'}  {time.monotonic() - began:.0f} s, {dict(run.counts)}", flush=True)
        print("\n".join(f"  {line}" for line in complaints[:20]), end="\n" if complaints else "", flush=True)
        passed, failed = passed + (not complaints), failed + bool(complaints)
    if failed:
        print(f"logs are kept: {directory}")
    else:
        shutil.rmtree(directory, ignore_errors=True)
    print(f"frameworks: {passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    toolbox.run(main)
