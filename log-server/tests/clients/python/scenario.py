"""The scenario of SCENARIO.md for the Python libraries: the steps stand here, a library only fills in `Client`.

Also holds what kcat's script shares: the records, the digest and the transcript.
"""

import hashlib
import json
import sys
import time
from dataclasses import dataclass, field

CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
PARTITIONS = 6
RECORDS_PER_CODEC = 60
FIRST_TIMESTAMP = 1_700_000_000_000
# A real broker answers a change before it shows it.
SETTLE_SECONDS_MAX = 5


def settled(look, is_settled):
    """What `look` sees once it is as expected, or after a while as it is then."""
    deadline = time.monotonic() + SETTLE_SECONDS_MAX
    while True:
        seen = look()
        if is_settled(seen) or deadline < time.monotonic():
            return seen
        time.sleep(0.02)


class Refused(Exception):
    """A broker's error code, or a client's own refusal."""

    def __init__(self, code):
        super().__init__(str(code))
        self.code = code


class Unsupported(Exception):
    """The library has no such call."""


@dataclass
class Record:
    key: bytes | None
    value: bytes | None
    timestamp: int | None = None
    headers: list = field(default_factory=list)
    partition: int | None = None
    offset: int | None = None
    timestamp_type: int | None = None


def records_of(codec):
    number = CODECS.index(codec)
    for i in range(RECORDS_PER_CODEC):
        yield Record(
            key=f"key-{i:03}".encode(),
            value=f"{codec} value {i:03} {'x' * (7 * i)}".encode(),
            timestamp=FIRST_TIMESTAMP + 1000 * (RECORDS_PER_CODEC * number + i),
            headers=[("codec", codec.encode()), ("n", str(i).encode()), ("empty", b"")],
            partition=i % PARTITIONS,
        )


def summary(records):
    """What a fetched run of records is shown as."""
    digest = hashlib.sha256()
    for record in records:
        headers = "".join(f"{name}={text(value)};" for name, value in record.headers)
        line = f"{record.offset}|{record.timestamp}|{text(record.key)}|{text(record.value)}|{headers}\n"
        digest.update(line.encode())
    return {
        "count": len(records),
        "first": records[0].offset if records else None,
        "last": records[-1].offset if records else None,
        "sha256": digest.hexdigest(),
    }


def text(value):
    return "null" if value is None else value.decode()


class Transcript:
    def step(self, step, **fields):
        print(json.dumps({"step": step, **fields}, sort_keys=True), flush=True)

    def attempt(self, step, call, *arguments, **fields):
        """Prints what the call returned under `result`, or the error it was refused with."""
        try:
            result = call(*arguments)
        except Refused as refusal:
            self.step(step, error=refusal.code, **fields)
            return None
        except Unsupported:
            self.step(step, unsupported=True, **fields)
            return None
        self.step(step, result=result, **fields)
        return result


class Client:
    """What a library must offer. A missing call raises `Unsupported`; a refused one raises `Refused`."""

    sends_null_headers = True

    def __init__(self, bootstrap):
        self.bootstrap = bootstrap

    def describe_cluster(self):
        raise Unsupported

    def create_topic(self, topic, partitions, replicas, configs, validate_only=False):
        raise Unsupported

    def describe_topic(self, topic):
        raise Unsupported

    def list_topics(self):
        raise Unsupported

    def produce(self, topic, codec, records):
        """Sends all and returns (partition, offset, timestamp) of each, in order."""
        raise Unsupported

    def fetch(self, topic, partition, offset, count):
        raise Unsupported

    def offsets_for_time(self, topic, partitions, timestamp):
        raise Unsupported

    def list_offsets(self, topic, partitions, position):
        """`position` is "earliest", "latest" or "max-timestamp"."""
        raise Unsupported

    def delete_records(self, topic, offsets):
        raise Unsupported

    def create_partitions(self, topic, total):
        raise Unsupported

    def describe_configs(self, topic):
        raise Unsupported

    def set_config(self, topic, name, value):
        raise Unsupported

    def delete_config(self, topic, name):
        raise Unsupported

    def delete_topic(self, topic):
        raise Unsupported

    def close(self):
        pass


def play(make_client):
    bootstrap, prefix = sys.argv[1:3]
    client = make_client(bootstrap)
    try:
        Scenario(client, prefix, Transcript()).play()
    finally:
        client.close()


class Scenario:
    def __init__(self, client, prefix, transcript):
        self.client = client
        self.prefix = prefix
        self.out = transcript
        self.records = f"{prefix}.records"
        self.small = f"{prefix}.small"
        self.compacted = f"{prefix}.compacted"
        self.stamped = f"{prefix}.append-time"
        self.auto = f"{prefix}.auto"

    def play(self):
        self.out.attempt("describe-cluster", self.client.describe_cluster)
        self.create()
        self.produce()
        self.fetch()
        self.list_offsets("list-offsets")
        self.delete_records()
        self.create_partitions()
        self.configs()
        self.delete()

    def create(self):
        attempt, create = self.out.attempt, self.client.create_topic
        forever = {"retention.ms": "-1"}
        attempt("create-topic", create, self.records, PARTITIONS, 1, forever)
        attempt("create-topic-again", create, self.records, PARTITIONS, 1, forever)
        attempt("create-topic-bad-name", create, f"{self.prefix} bad/name", 1, 1, {})
        attempt("create-topic-unknown-config", create, f"{self.prefix}.x", 1, 1, {"no.such.config": "1"})
        attempt("create-topic-bad-config", create, f"{self.prefix}.x", 1, 1, {"retention.ms": "soon"})
        attempt("create-topic-no-partitions", create, f"{self.prefix}.x", 0, 1, {})
        attempt("create-topic-two-replicas", create, f"{self.prefix}.x", 1, 2, {})
        attempt("create-topic-validate-only", create, f"{self.prefix}.x", 1, 1, {}, True)
        attempt("created-by-validate-only", lambda: f"{self.prefix}.x" in self.client.list_topics())
        attempt("create-topic-defaults", create, f"{self.prefix}.defaults", -1, -1, {})
        attempt("describe-topic", self.client.describe_topic, self.records)
        attempt("describe-unknown-topic", self.client.describe_topic, f"{self.prefix}.unknown")
        for topic, configs in (
            (self.small, {**forever, "max.message.bytes": "1000"}),
            (self.compacted, {"cleanup.policy": "compact"}),
            (self.stamped, {"message.timestamp.type": "LogAppendTime"}),
        ):
            attempt("create-more", create, topic, 1, 1, configs, topic=topic[len(self.prefix):])

    def produce(self):
        for codec in CODECS:
            self.out.attempt("produce", self.offsets_by_partition, codec, codec=codec)
        headers = [("h", None if self.client.sends_null_headers else b"")]
        nulls = [Record(key=None, value=b"no key", timestamp=FIRST_TIMESTAMP, partition=0, headers=headers),
                 Record(key=b"no value", value=None, timestamp=FIRST_TIMESTAMP + 1, partition=0),
                 Record(key=b"", value=b"", timestamp=FIRST_TIMESTAMP + 2, partition=0)]
        self.out.attempt("produce-nulls", self.offsets_of, self.small, "none", nulls)
        large = [Record(key=b"k", value=b"y" * 2000, timestamp=FIRST_TIMESTAMP, partition=0)]
        self.out.attempt("produce-too-large", self.offsets_of, self.small, "none", large)
        keyless = [Record(key=None, value=b"v", partition=0)]
        self.out.attempt("produce-keyless-to-compacted", self.offsets_of, self.compacted, "none", keyless)
        keyed = [Record(key=b"k", value=b"v", partition=0)]
        self.out.attempt("produce-keyed-to-compacted", self.offsets_of, self.compacted, "none", keyed)
        old = [Record(key=b"k", value=b"v", timestamp=FIRST_TIMESTAMP, partition=0)]
        self.out.attempt("produce-append-time", self.stamped_now, old)
        self.out.attempt("produce-auto-created", self.offsets_of, self.auto, "none", keyed)

    def offsets_by_partition(self, codec):
        by_partition = {}
        for partition, offset, _ in self.client.produce(self.records, codec, list(records_of(codec))):
            by_partition.setdefault(partition, []).append(offset)
        return {str(partition): [min(offsets), max(offsets), len(offsets)]
                for partition, offsets in sorted(by_partition.items())}

    def offsets_of(self, topic, codec, records):
        return [offset for _, offset, _ in self.client.produce(topic, codec, records)]

    def stamped_now(self, records):
        [(_, offset, timestamp)] = self.client.produce(self.stamped, "none", records)
        [read] = self.client.fetch(self.stamped, 0, 0, 1)
        recent = read.timestamp > FIRST_TIMESTAMP + 30_000_000_000
        return {"offset": offset, "answered": timestamp == read.timestamp, "recent": recent,
                "type": read.timestamp_type}

    def fetch(self):
        for partition in range(PARTITIONS):
            self.fetch_one("fetch-from-start", self.records, partition, 0, 50)
        for partition in range(PARTITIONS):
            self.fetch_one("fetch-from-middle", self.records, partition, 25, 25)
        first, last = FIRST_TIMESTAMP, FIRST_TIMESTAMP + 1000 * (RECORDS_PER_CODEC * len(CODECS) - 1)
        for name, timestamp in (("before", first - 1), ("exact", first + 150_000), ("between", first + 149_500),
                                ("last", last), ("after", last + 1)):
            found = self.out.attempt("offsets-for-time", self.offsets_for_time, timestamp, time=name)
            if name == "between" and found is not None:
                for partition, at in found.items():
                    offset = at[0] if isinstance(at, list) else at
                    self.fetch_one("fetch-from-time", self.records, int(partition), offset, 50 - offset)
        self.fetch_one("fetch-nulls", self.small, 0, 0, 3)
        self.fetch_one("fetch-out-of-range", self.records, 0, 51, 1)

    def fetch_one(self, step, topic, partition, offset, count):
        self.out.attempt(step, lambda: summary(self.client.fetch(topic, partition, offset, count)),
                         partition=partition)

    def offsets_for_time(self, timestamp):
        found = self.client.offsets_for_time(self.records, range(PARTITIONS), timestamp)
        return {str(partition): offset for partition, offset in sorted(found.items())}

    def list_offsets(self, step):
        for position in ("earliest", "latest", "max-timestamp"):
            self.out.attempt(step, self.offsets_at, position, position=position)

    def offsets_at(self, position):
        found = self.client.list_offsets(self.records, range(PARTITIONS), position)
        return {str(partition): offset for partition, offset in sorted(found.items())}

    def delete_records(self):
        self.out.attempt("delete-records", self.low_watermarks, self.records, {0: 10, 1: -1})
        self.out.attempt("delete-records-beyond-end", self.low_watermarks, self.records, {2: 51})
        self.list_offsets("list-offsets-after-delete")
        self.fetch_one("fetch-after-delete", self.records, 0, 10, 40)
        self.fetch_one("fetch-deleted", self.records, 0, 9, 1)
        self.out.attempt("delete-records-compacted", self.low_watermarks, self.compacted, {0: 1})

    def low_watermarks(self, topic, offsets):
        low = self.client.delete_records(topic, offsets)
        return {str(partition): offset for partition, offset in sorted(low.items())}

    def create_partitions(self):
        self.out.attempt("create-partitions", self.client.create_partitions, self.records, 8)
        self.out.attempt("create-partitions-same", self.client.create_partitions, self.records, 8)
        self.out.attempt("create-partitions-fewer", self.client.create_partitions, self.records, 3)
        self.out.attempt("describe-topic-grown", self.client.describe_topic, self.records)

    def configs(self):
        attempt, client = self.out.attempt, self.client
        attempt("describe-configs", client.describe_configs, self.records)
        attempt("alter-configs", client.set_config, self.records, "max.message.bytes", "2000000")
        attempt("describe-configs-altered", self.altered, "2000000")
        attempt("alter-configs-unknown", client.set_config, self.records, "no.such.config", "1")
        attempt("alter-configs-bad", client.set_config, self.records, "cleanup.policy", "burn")
        attempt("alter-configs-delete", client.delete_config, self.records, "max.message.bytes")
        attempt("describe-configs-restored", self.altered, "1048588")

    def altered(self, expected):
        """The settings, once the broker acts on the change: a real one answers before that."""
        configs = settled(lambda: self.client.describe_configs(self.records),
                          lambda configs: configs["max.message.bytes"]["value"] == expected)
        return {name: configs[name] for name in ("max.message.bytes", "retention.ms")}

    def delete(self):
        for topic in (self.records, self.small, self.compacted, self.stamped, self.auto, f"{self.prefix}.defaults"):
            self.out.attempt("delete-topic", self.client.delete_topic, topic, topic=topic[len(self.prefix):])
        self.out.attempt("delete-unknown-topic", self.client.delete_topic, f"{self.prefix}.unknown")
        self.out.attempt("list-topics", self.topics_left)

    def topics_left(self):
        def mine():
            return [topic[len(self.prefix):] for topic in self.client.list_topics() if topic.startswith(self.prefix)]
        return settled(mine, lambda topics: not topics)
