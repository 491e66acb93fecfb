"""A connection that shows what a broker does: answers, closes, or stays silent. And how answers become comparable."""

import collections
import socket
import struct
import time

from . import batches, codec

SECONDS_MAX = 10
KAFKA_PAUSE_SECONDS = 0.3
# An answer's place in time differs between runs and brokers, its being near now does not (some cases send two hours on).
RECENT_MS = 3 * 3_600_000
NODE_FIELDS = {"NodeId", "BrokerId", "ControllerId", "LeaderId", "LeaderNode"}
NODE_LISTS = {"ReplicaNodes", "IsrNodes", "OfflineReplicas"}
TIMES = {"LogAppendTimeMs", "first-time", "last-time"}
NAMES = ("ApiKey", "Name", "TopicName", "Topic", "ResourceName", "PartitionIndex", "Partition", "Index", "Key")


class Wire:
    """One broker under test. `prefix` begins all topic names of a run and is cut from what is shown. A real Kafka answers
    before it acts on what it was told, so cases are patient with it; ours has to be done when it answers."""

    def __init__(self, bootstrap, prefix, is_patient=True, waits=None):
        self.is_patient = is_patient
        self.waits = collections.Counter() if waits is None else waits
        host, port = bootstrap.rsplit(":", 1)
        self.address = (host, int(port))
        self.prefix = prefix
        self.socket = None
        self.correlation = 0
        self.topic_ids = {}
        self.producer_ids = {}
        self.node = None
        self.node = self.ask("Metadata", 9, Topics=[])["Brokers"][0]["NodeId"]

    # -- talking

    def connect(self):
        self.close()
        self.socket = socket.create_connection(self.address, SECONDS_MAX)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def close(self):
        if self.socket:
            self.socket.close()
            self.socket = None

    def read_exactly(self, size):
        data = b""
        while len(data) < size:
            part = self.socket.recv(min(1 << 20, size - len(data)))
            if not part:
                raise ConnectionResetError
            data += part
        return data

    def read_frame(self):
        return self.read_exactly(struct.unpack(">i", self.read_exactly(4))[0])

    def send(self, data):
        if self.socket is None:
            self.connect()
        self.socket.sendall(data)

    def ask(self, api, version, **fields):
        """The decoded answer to a well-formed request; ConnectionError if the broker closes instead."""
        if api == "Metadata" and version >= 4:
            fields = {"AllowAutoTopicCreation": False, **fields}
        self.correlation += 1
        try:
            self.send(codec.encode_request(api, version, fields, self.correlation))
            correlation, message = codec.decode_response(api, version, self.read_frame())
        except (OSError, ValueError):
            self.close()
            raise
        if correlation != self.correlation:
            raise ValueError(f"answer to {correlation} instead of {self.correlation}")
        return message

    def say(self, api, version, **fields):
        """The same, made comparable; `closed` or `silent` where there is no answer."""
        try:
            return self.comparable(self.ask(api, version, **fields))
        except socket.timeout:
            return "silent"
        except ConnectionError:
            return "closed"
        except ValueError as wrong:
            return f"not decodable: {wrong}"

    def raw(self, data, wait=SECONDS_MAX, half_close=False):
        """What comes back for any bytes on a connection of its own: frame bytes, `closed` or `silent`."""
        self.connect()
        try:
            self.socket.settimeout(wait)
            self.socket.sendall(data)
            if half_close:
                self.socket.shutdown(socket.SHUT_WR)
            return self.read_frame()
        except socket.timeout:
            return "silent"
        except ConnectionError:
            return "closed"
        finally:
            self.close()

    # -- setting up

    def topic(self, name, partitions=1, **configs):
        """Creates a topic and waits until its leaders are there; returns its full name."""
        full = self.prefix + name
        settings = [{"Name": key.replace("_", "."), "Value": str(value)} for key, value in configs.items()]
        made = self.ask("CreateTopics", 7, timeoutMs=15_000, Topics=[
            {"Name": full, "NumPartitions": partitions, "ReplicationFactor": 1, "Configs": settings}])
        [topic] = made["Topics"]
        if topic["ErrorCode"]:
            raise RuntimeError(f"cannot create {name}: {topic}")
        self.topic_ids[topic["TopicId"]] = name
        self.settle("a topic's leaders", lambda: self.leads(full, partitions))
        return full

    def settle(self, what, is_settled):
        """Waits for what a broker is still about to do, and counts how often it had to be asked again."""
        deadline = time.monotonic() + SECONDS_MAX
        while not is_settled():
            self.waits[what] += 1
            if not self.is_patient:
                raise RuntimeError(f"{what}: not there when the broker had answered")
            if deadline < time.monotonic():
                raise RuntimeError(f"{what}: not there within {SECONDS_MAX} s")
            time.sleep(0.02)

    def leads(self, topic, partitions):
        """Whether the broker says that it is the leader, and acts so; a real one begins a little later."""
        [found] = self.ask("Metadata", 12, Topics=[{"Name": topic}])["Topics"]
        if found["ErrorCode"]:
            return False
        asked = [{"PartitionIndex": index, "Timestamp": -1} for index in range(partitions)]
        [answer] = self.ask("ListOffsets", 7, ReplicaId=-1, Topics=[{"Name": topic, "Partitions": asked}])["Topics"]
        return not any(part["ErrorCode"] for part in answer["Partitions"])

    def id_of(self, name):
        [found] = [topic_id for topic_id, topic in self.topic_ids.items() if topic == name.removeprefix(self.prefix)]
        return found

    def producer(self):
        made = {}

        def is_made():
            made.update(self.ask("InitProducerId", 4, TransactionalId=None, TransactionTimeoutMs=0))
            return made["ErrorCode"] not in (14, 15)  # A real broker loads its coordinator first.

        self.settle("a producer id", is_made)
        return made["ProducerId"], made["ProducerEpoch"]

    def produce(self, topic, data, partition=0, acks=-1, version=9):
        """The partition's part of a Produce answer, retried while a new leader is still being told."""
        where = {"TopicId": self.id_of(topic)} if version >= 13 else {"Name": topic}
        for _ in range(100):
            answer = self.ask("Produce", version, Acks=acks, TimeoutMs=15_000, TopicData=[
                {**where, "PartitionData": [{"Index": partition, "Records": data}]}])
            [part] = answer["Responses"][0]["PartitionResponses"]
            if part["ErrorCode"] not in (3, 6, 100) or partition != 0:
                break
            time.sleep(0.05)
        return self.comparable(part)

    def fill(self, topic, sizes, partition=0, **more):
        """One batch per size, offsets following each other."""
        for size in sizes:
            part = self.produce(topic, batches.batch(size, **more), partition)
            if part["ErrorCode"]:
                raise RuntimeError(f"cannot fill {topic}: {part}")

    def pause(self):
        """A real broker answers a change of settings before it acts on it, or before it does not; ours gets no pause."""
        if self.is_patient:
            time.sleep(KAFKA_PAUSE_SECONDS)

    # -- making comparable

    def comparable(self, value, name=""):
        if isinstance(value, dict):
            return {key: self.comparable(part, key) for key, part in value.items()}
        if isinstance(value, list):
            parts = [self.comparable(part, name) for part in value]
            keys = [key for key in NAMES if parts and all(isinstance(part, dict) and key in part for part in parts)]
            if not keys:
                return parts
            named = {}
            for part in parts:
                base = label = str(part[keys[0]])
                while label in named:
                    label += "'"
                named[label] = {key: each for key, each in part.items() if key != keys[0]} if base else part
            return named
        return self.leaf(name, value)

    def leaf(self, name, value):
        if name == "Records":
            return None if value is None else self.comparable(batches.view(value), "batches")
        if name in ("Host", "ClusterId", "LogDir") or name == "Port":
            return None if value is None else "*"
        if name in NODE_FIELDS or name in NODE_LISTS:
            return "node" if value == self.node and value is not None else value
        if name == "TopicId":
            return self.topic_ids.get(value, "zero" if value == codec.ZERO_ID else "unknown")
        if name in ("ErrorMessage", "TopicConfigErrorMessage", "BatchIndexErrorMessage", "Documentation"):
            return value and "text"
        if name == "ProducerId" and value >= 0:
            return self.producer_ids.setdefault(value, f"producer {len(self.producer_ids)}")
        if name == "FinalizedFeaturesEpoch":
            return "known" if value >= 0 else value
        if name == "SessionId":
            return "session" if value else 0
        if name in TIMES and abs(value - time.time() * 1000) < RECENT_MS:
            return "now"
        if name in ("TotalBytes", "UsableBytes"):
            return "bytes" if value > 0 else value
        if isinstance(value, str):
            return value.replace(self.prefix, "")
        if isinstance(value, bytes):
            return value.hex()
        return value
