"""What kcat can say of the scenario: it produces, fetches, lists metadata and looks up offsets by time.

kcat cannot create topics (confluent-kafka does it here) and cannot set timestamps, so summaries leave them out.
"""

import hashlib
import json
import subprocess
import sys

from confluent_kafka.admin import AdminClient, NewTopic

from scenario import CODECS, PARTITIONS, Refused, Transcript, records_of

SECONDS_MAX = 40


class Kcat:
    def __init__(self, bootstrap, prefix):
        self.bootstrap = bootstrap
        self.topic = f"{prefix}.records"
        self.small = f"{prefix}.small"
        self.prefix = prefix
        self.out = Transcript()

    def run(self, *arguments, lines=""):
        done = subprocess.run(["kcat", "-b", self.bootstrap, "-X", "socket.timeout.ms=10000", *arguments],
                              input=lines, capture_output=True, text=True, timeout=SECONDS_MAX, check=False)
        if done.returncode:
            raise Refused(f"client {self.reason(done.stderr)}")
        return done.stdout

    @staticmethod
    def reason(errors):
        """The broker's own sentence in kcat's last line of errors, without what differs between runs."""
        found = [line for line in errors.splitlines() if "Broker:" in line or "rror" in line]
        return found[-1].rsplit("Broker: ", 1)[-1] if found else "failed"

    def play(self):
        admin = AdminClient({"bootstrap.servers": self.bootstrap})
        admin.create_topics([NewTopic(self.topic, PARTITIONS, 1)])[self.topic].result(30)
        admin.create_topics([NewTopic(self.small, 1, 1, config={"max.message.bytes": "1000"})])[self.small].result(30)
        self.out.attempt("describe-topic", self.describe)
        for codec in CODECS:
            self.out.attempt("produce", self.produce, codec, codec=codec)
        self.out.attempt("produce-too-large", self.produce_one, self.small, "k|" + "y" * 2000)
        self.out.attempt("produce-auto-created", self.produce_one, f"{self.prefix}.auto", "k|v")
        for partition in range(PARTITIONS):
            self.out.attempt("fetch-from-start", self.fetch, partition, "beginning", partition=partition)
        for partition in range(PARTITIONS):
            self.out.attempt("fetch-from-middle", self.fetch, partition, "25", partition=partition)
        self.out.attempt("fetch-from-end", self.fetch, 0, "-5", partition=0)
        time = self.run("-C", "-t", self.topic, "-p", "0", "-o", "20", "-c", "1", "-q", "-f", "%T")
        self.out.attempt("fetch-from-time", self.fetch, 0, f"s@{time}", partition=0)
        for name, asked in (("earliest", "-2"), ("latest", "-1"), ("exact", time), ("after", str(int(time) * 2))):
            self.out.attempt("offsets-for-time", self.query, asked, time=name)
        self.out.attempt("fetch-unknown-topic", self.run, "-C", "-t", f"{self.prefix}.unknown", "-p", "0", "-e",
                         "-X", "allow.auto.create.topics=false")
        for future in admin.delete_topics([self.topic, self.small, f"{self.prefix}.auto"]).values():
            future.result(30)

    def describe(self):
        [found] = json.loads(self.run("-L", "-J", "-t", self.topic))["topics"]
        return {"partitions": [one["partition"] for one in found["partitions"]],
                "replicas": [len(one["replicas"]) for one in found["partitions"]],
                "isr": [len(one["isrs"]) for one in found["partitions"]]}

    def produce(self, codec):
        for partition in range(PARTITIONS):
            lines = [f"{record.key.decode()}|{record.value.decode()}\n" for record in records_of(codec)
                     if record.partition == partition]
            self.run("-P", "-t", self.topic, "-p", str(partition), "-K", "|", "-z", codec, "-X",
                     "enable.idempotence=true", "-H", f"codec={codec}", "-H", "empty=", lines="".join(lines))
        return "sent"

    def produce_one(self, topic, line):
        self.run("-P", "-t", topic, "-p", "0", "-K", "|", lines=line + "\n")
        return "sent"

    def fetch(self, partition, offset):
        out = self.run("-C", "-t", self.topic, "-p", str(partition), "-o", offset, "-e", "-q",
                       "-X", "check.crcs=true", "-f", "%o|%k|%s|%h\n")
        offsets = [int(line.split("|")[0]) for line in out.splitlines()]
        return {"count": len(offsets), "first": offsets[0], "last": offsets[-1],
                "sha256": hashlib.sha256(out.encode()).hexdigest()}

    def query(self, time):
        asked = [part for partition in range(PARTITIONS) for part in ("-t", f"{self.topic}:{partition}:{time}")]
        out = self.run("-Q", *asked)
        return sorted(line.split(" ", 1)[1] for line in out.splitlines())


Kcat(*sys.argv[1:3]).play()
