"""Produce and InitProducerId: what a broker refuses, and how it knows a retry."""

import gzip
import time

import kafka.codec
import lz4.frame
import zstandard

from . import batches, codec
from .batches import batch

DAY_MS = 86_400_000


def short(part):
    """Without what is the same everywhere."""
    return {key: value for key, value in part.items() if key not in ("Index", "LogStartOffset")}


def risky(w, topic, data):
    """As `produce`, for what a broker may answer by closing or not at all."""
    try:
        shown = short(w.produce(topic, data))
        # Which offset depends on what was taken before.
        shown["BaseOffset"] = "an offset" if shown["BaseOffset"] >= 0 else shown["BaseOffset"]
        return shown
    except TimeoutError:
        return "silent"
    except ConnectionError:
        return "closed"


def produce_versions(w):
    topic = w.topic("versions", retention_ms=-1)
    for version in range(3, 14):
        where = {"TopicId": w.id_of(topic)} if version >= 13 else {"Name": topic}
        yield f"v{version}", w.say("Produce", version, Acks=-1, TimeoutMs=15_000, TopicData=[
            {**where, "PartitionData": [{"Index": 0, "Records": batch()}]}])


def produce_acks(w):
    topic = w.topic("acks")
    for acks in (5, -2, 2, 1, -1):
        yield f"acks {acks}", short(w.produce(topic, batch(), acks=acks))


def produce_without_answer(w):
    """acks=0: no answer when it worked, and the connection closes when it did not."""
    topic = w.topic("acks-0")

    def send(data, partition=0):
        request = codec.encode_request("Produce", 9, {"Acks": 0, "TimeoutMs": 1000, "TopicData": [
            {"Name": topic, "PartitionData": [{"Index": partition, "Records": data}]}]}, 7)
        then = codec.encode_request("Metadata", 12, {"Topics": []}, 8)
        w.connect()
        w.socket.settimeout(5)
        try:
            w.socket.sendall(request + then)
            return codec.Reader(w.read_frame()).get(">i")
        except ConnectionError:
            return "closed"
        finally:
            w.close()

    yield "good: next answer is of request", send(batch())
    yield "bad checksum", send(batch(crc_mask=1))
    yield "unknown partition", send(batch(), 77)


def produce_bad_batches(w):
    topic = w.topic("bad-batches", retention_ms=-1)
    good = batch(3)
    for name, data in {
        "null": None, "no bytes": b"", "cut in the header": good[:30], "cut in the records": good[:-2],
        "bytes behind": good + b"\0\0\0", "bad checksum": batch(crc_mask=1), "two batches": good + good,
        "magic 0": batches.old_message(0), "magic 1": batches.old_message(1), "magic 3": batch(magic=3),
        "length too large": batch(length_extra=9), "length too small": batch(length_extra=-5),
        "length negative": batch(length_extra=-1000),
        "no records": batch(0, last_delta=-1), "count too large": batch(3, record_count=4),
        "count too small": batch(3, record_count=2), "count negative": batch(3, record_count=-1),
        "count 2^31-1": batch(3, record_count=0x7FFFFFFF),
        "last delta too large": batch(3, last_delta=7), "last delta too small": batch(3, last_delta=1),
        "last delta negative": batch(3, last_delta=-1),
        "control": batch(attributes=0x20), "transactional": batch(attributes=0x10),
        "transactional with producer": batch(attributes=0x10, pid=w.producer()[0], epoch=0, sequence=0),
        "append time bit": batch(attributes=0x08), "delete horizon bit": batch(attributes=0x40),
        "unused bit": batch(attributes=0x80),
        "codec 5": batch(attributes=5), "codec 7": batch(attributes=7),
        "gzip": batch(3, attributes=1), "snappy that is none": batch(3, records=b"not snappy", attributes=2),
        "lz4 that is none": batch(3, records=b"not lz4", attributes=3), "zstd that is none": batch(3, records=b"not zstd", attributes=4),
        "record deltas not in order": batch(2, records=batches.record(1) + batches.record(0)),
        "record deltas with a gap": batch(2, records=batches.record(0) + batches.record(2), last_delta=2),
        "record delta negative": batch(1, records=batches.record(-1)),
        "record cut": batch(1, records=batches.record(0)[:-1]),
        "record with bytes behind": batch(1, records=batches.record(0) + b"\0"),
        "record of negative length": batch(1, records=batches.zigzag(-5) + b"\0\0\0\0\0\0"),
        "header with null name": batch(1, records=batches.record(0, headers=[(None, b"x")])),
        "max timestamp too small": batch(3, step=10, max_timestamp=1_700_000_000_000),
        "max timestamp negative": batch(3, max_timestamp=-1), "timestamp -1": batch(1, timestamp=-1),
        "timestamp -5": batch(1, timestamp=-5),
        "base offset 77": batch(3, base_offset=77), "leader epoch 99": batch(3, leader_epoch=99),
        "sequence without producer": batch(3, sequence=5), "producer without sequence": batch(3, pid=w.producer()[0], epoch=0),
        "producer -2": batch(3, pid=-2, epoch=0, sequence=0),
        "epoch -2": batch(3, pid=w.producer()[0], epoch=-2, sequence=0),
    }.items():
        yield name, risky(w, topic, data)
    yield "zstd below v7", short(w.produce(topic, batch(attributes=4), version=6))


def produce_compressed(w):
    """What a broker finds only by unpacking the records, codec by codec."""
    topic = w.topic("compressed", retention_ms=-1)
    good = [batches.record(i) for i in range(3)]
    for name, attributes, pack in (
            ("gzip", 1, gzip.compress), ("snappy", 2, kafka.codec.snappy_encode),
            ("raw snappy", 2, lambda data: kafka.codec.snappy_encode(data, xerial_compatible=False)),
            ("lz4", 3, lambda data: lz4.frame.compress(data, block_linked=False)), ("zstd", 4, zstandard.compress)):
        for what, packed in {
            "good": pack(b"".join(good)), "cut": pack(b"".join(good))[:-3], "nothing": b"", "of nothing": pack(b""),
            "of garbage": pack(b"garbage"), "a record missing": pack(b"".join(good[:2])),
            "a record too many": pack(b"".join([*good, good[2]])), "cut inside": pack(b"".join(good)[:-2]),
            "deltas with a gap": pack(good[0] + good[2] + batches.record(3)),
            "long record cut": pack(b"".join(good[:2]) + batches.record(2, value=b"v" * 100_000)[:-2]),
        }.items():
            yield f"{name}: {what}", risky(w, topic, batch(3, attributes=attributes, packed=packed))
    # Of a single block the library makes an independent one, whatever it is told.
    linked = lz4.frame.compress(batches.record(0, value=b"v" * 200_000), block_linked=True)
    yield "lz4: linked blocks", risky(w, topic, batch(attributes=3, packed=linked))


def produce_targets(w):
    topic = w.topic("target", 2)

    def send(name, partition=0, version=9, **more):
        return w.say("Produce", version, Acks=-1, TimeoutMs=1000, TopicData=[
            {"Name": name, "PartitionData": [{"Index": partition, "Records": batch()}]}], **more)

    yield "unknown topic", send(w.prefix + "unknown")
    yield "bad name", send("a b")
    yield "partition 99", send(topic, 99)
    yield "partition -1", send(topic, -1)
    yield "transactional id without batch", send(topic, TransactionalId="t")
    yield "one good one bad", w.say("Produce", 9, Acks=-1, TimeoutMs=1000, TopicData=[
        {"Name": topic, "PartitionData": [{"Index": 0, "Records": batch()}, {"Index": 1, "Records": batch(crc_mask=1)}]},
        {"Name": w.prefix + "unknown", "PartitionData": [{"Index": 0, "Records": batch()}]}])
    yield "unknown id", w.say("Produce", 13, Acks=-1, TimeoutMs=1000, TopicData=[
        {"TopicId": codec.random_id(), "PartitionData": [{"Index": 0, "Records": batch()}]}])
    yield "nothing", w.say("Produce", 9, Acks=-1, TimeoutMs=1000)
    yield "partition twice", w.say("Produce", 9, Acks=-1, TimeoutMs=1000, TopicData=[
        {"Name": topic, "PartitionData": [{"Index": 1, "Records": batch()}, {"Index": 1, "Records": batch()}]}])


def produce_sizes(w):
    topic = w.topic("sizes", max_message_bytes=200)
    # Header 61, record 7 and a value: the limit counts the whole batch.
    for size in (100, 128, 129, 130, 131, 132, 133, 140, 5000):
        data = batch(value=b"v" * size)
        yield f"batch of {len(data)}", short(w.produce(topic, data))


def produce_timestamps(w):
    now = int(time.time() * 1000)
    topic = w.topic("timestamps")
    yield "2 h ahead", short(w.produce(topic, batch(timestamp=now + 7_200_000)))
    yield "50 min ahead", short(w.produce(topic, batch(timestamp=now + 3_000_000)))
    yield "second record 2 h ahead", short(w.produce(topic, batch(2, timestamp=now, step=7_200_000)))
    strict = w.topic("timestamps-strict", message_timestamp_before_max_ms=DAY_MS)
    yield "2 days old", short(w.produce(strict, batch(timestamp=now - 2 * DAY_MS)))
    yield "1 h old", short(w.produce(strict, batch(timestamp=now - 3_600_000)))
    yield "no timestamp", short(w.produce(topic, batch(timestamp=-1)))
    stamped = w.topic("timestamps-append", message_timestamp_type="LogAppendTime")
    yield "append time", short(w.produce(stamped, batch(3, step=1000)))
    yield "append time, 2 h ahead", short(w.produce(stamped, batch(timestamp=now + 7_200_000)))
    yield "as fetched", w.say("Fetch", 12, MaxWaitMs=100, MinBytes=1, Topics=[
        {"Topic": stamped, "Partitions": [{"Partition": 0, "PartitionMaxBytes": 100_000}]}])


def produce_compacted(w):
    topic = w.topic("compacted", cleanup_policy="compact")
    keyless = batches.record(1, key=None)
    yield "keyed", short(w.produce(topic, batch(2)))
    yield "keyless", short(w.produce(topic, batch(1, key=None)))
    yield "second keyless", short(w.produce(topic, batch(3, records=batches.record(0) + keyless + batches.record(2))))
    yield "all keyless", short(w.produce(topic, batch(3, key=None)))
    yield "empty key", short(w.produce(topic, batch(1, key=b"")))
    yield "null value", short(w.produce(topic, batch(1, value=None)))
    yield "keyless at v7", short(w.produce(topic, batch(1, key=None), version=7))


def idempotence(w):
    topic = w.topic("idempotence")
    pid, epoch = w.producer()

    def send(sequence, count=1, **more):
        part = w.produce(topic, batch(count, pid=pid, epoch=more.pop("epoch", epoch), sequence=sequence, **more))
        return [part["ErrorCode"], part["BaseOffset"], part["LogAppendTimeMs"], part["LogStartOffset"]]

    for sequence in range(7):
        yield f"batch {sequence}", send(sequence)
    for sequence in range(6, -1, -1):
        yield f"batch {sequence} again", send(sequence)
    yield "gap", send(9)
    yield "after the gap", send(7, 3)
    yield "same first, other count", send(7, 2)
    yield "overlap", send(8, 3)
    yield "behind", send(10)
    yield "old epoch", send(11, epoch=epoch - 1)
    yield "new epoch, not 0", send(11, epoch=epoch + 1)
    yield "new epoch, 0", send(0, epoch=epoch + 1)
    yield "epoch before that", send(11)
    yield "again", send(0, epoch=epoch + 1)


def idempotence_edges(w):
    topic = w.topic("idempotence-edges")
    pid, epoch = w.producer()

    def send(sequence, count=1, pid=pid, epoch=epoch):
        part = w.produce(topic, batch(count, pid=pid, epoch=epoch, sequence=sequence))
        return [part["ErrorCode"], part["BaseOffset"]]

    yield "starts at 5", send(5)
    stranger, _ = w.producer()
    yield "unknown producer starts at 9", send(9, pid=stranger)
    yield "never given out", send(0, pid=987_654_321)
    wrapping, _ = w.producer()
    yield "near the end", send(0x7FFFFFFE, pid=wrapping)
    yield "wraps inside", send(0x7FFFFFFF, 3, pid=wrapping)
    yield "after the wrap", send(2, pid=wrapping)
    yield "wrapped again", send(0x7FFFFFFF, 3, pid=wrapping)
    straight, _ = w.producer()
    yield "last", send(0x7FFFFFFF, pid=straight)
    yield "then 0", send(0, pid=straight)
    late, _ = w.producer()
    yield "epoch 3 first", send(4, pid=late, epoch=3)
    yield "epoch 2 then", send(0, pid=late, epoch=2)
    yield "epoch 4, sequence 1", send(1, pid=late, epoch=4)


def idempotence_in_one_request(w):
    """Two partitions, each with its own sequence; and acks=1 knows duplicates as well."""
    topic = w.topic("idempotence-two", 2)
    pid, epoch = w.producer()
    data = batch(2, pid=pid, epoch=epoch, sequence=0)
    asked = [{"Name": topic, "PartitionData": [{"Index": 0, "Records": data}, {"Index": 1, "Records": data}]}]
    for name in ("first", "again"):
        yield name, w.say("Produce", 9, Acks=1, TimeoutMs=1000, TopicData=asked)


def idempotence_describes(w):
    topic = w.topic("idempotence-mixed")
    pid, epoch = w.producer()
    yield "idempotent", w.produce(topic, batch(2, pid=pid, epoch=epoch, sequence=0))["BaseOffset"]
    yield "plain between", w.produce(topic, batch(2))["BaseOffset"]
    yield "idempotent next", w.produce(topic, batch(2, pid=pid, epoch=epoch, sequence=2))["BaseOffset"]
    yield "first again", w.produce(topic, batch(2, pid=pid, epoch=epoch, sequence=0))["BaseOffset"]


def init_producer_id(w):
    w.producer()

    def ask(version, **more):
        fields = {"TransactionalId": None, "TransactionTimeoutMs": 60_000, **more}
        return w.say("InitProducerId", version, **fields)

    for version in range(6):
        yield f"v{version}", ask(version)
    pid, epoch = w.producer()
    yield "distinct", len({w.producer()[0] for _ in range(20)})
    yield "with id and epoch", ask(4, ProducerId=pid, ProducerEpoch=epoch)
    yield "with id only", ask(4, ProducerId=pid, ProducerEpoch=-1)
    yield "with epoch only", ask(4, ProducerId=-1, ProducerEpoch=0)
    yield "timeout 0", ask(4, TransactionTimeoutMs=0)
    yield "timeout -1", ask(4, TransactionTimeoutMs=-1)
    yield "empty transactional id", ask(4, TransactionalId="")


CASES = (produce_versions, produce_acks, produce_without_answer, produce_bad_batches, produce_compressed,
         produce_targets, produce_sizes, produce_timestamps, produce_compacted, idempotence, idempotence_edges, idempotence_in_one_request,
         idempotence_describes, init_producer_id)
