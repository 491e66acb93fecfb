"""Fetch and fetch sessions, ListOffsets, OffsetForLeaderEpoch, DeleteRecords."""

import time

from .batches import batch
from .codec import random_id


def part_of(answer):
    """The one partition of a Fetch answer."""
    if not isinstance(answer, dict) or not answer.get("Responses"):
        return answer
    responses = answer["Responses"]
    [topic] = responses.values() if isinstance(responses, dict) else responses
    [part] = topic["Partitions"].values()
    return part


def fetch(w, topic, offset=0, version=12, partition=0, **more):
    inner = {"Partition": partition, "FetchOffset": offset, "PartitionMaxBytes": more.pop("PartitionMaxBytes", 1_000_000)}
    for name in ("CurrentLeaderEpoch", "LastFetchedEpoch", "LogStartOffset"):
        if name in more:
            inner[name] = more.pop(name)
    where = {"TopicId": w.id_of(topic)} if version >= 13 else {"Topic": topic}
    fields = {"MaxWaitMs": 50, "MinBytes": 1, "Topics": [{**where, "Partitions": [inner]}], **more}
    return w.say("Fetch", version, **fields)


def bases(answer):
    """Error and the batches' first and last offsets."""
    part = part_of(answer)
    if not isinstance(part, dict) or "Records" not in part:
        return part
    return [part["ErrorCode"], [one if isinstance(one, str) else [one["base"], one["last"]] for one in part["Records"] or []]]


def fetch_versions(w):
    topic = w.topic("fetch-versions", retention_ms=-1)
    w.fill(topic, [3, 4])
    for version in range(4, 19):
        yield f"v{version}", fetch(w, topic, 3, version)


def fetch_places(w):
    topic = w.topic("fetch-places", retention_ms=-1)
    w.fill(topic, [3, 4, 5])
    w.ask("DeleteRecords", 2, TimeoutMs=10_000, Topics=[{"Name": topic, "Partitions": [{"PartitionIndex": 0, "Offset": 4}]}])
    for offset in (-1, 0, 3, 4, 5, 6, 7, 11, 12, 13, 1 << 40):
        yield f"offset {offset}", part_of(fetch(w, topic, offset))


def fetch_sizes(w):
    """The first batch always comes whole; a limit cuts behind a batch or within it, never skips one."""
    topic = w.topic("fetch-sizes", 2, retention_ms=-1)
    w.fill(topic, [1, 1, 1, 1], value=b"x" * 100)
    w.fill(topic, [1, 1], partition=1, value=b"x" * 100)
    for limit in (-1, 0, 1, 100, 169, 170, 171, 400, 100_000):
        yield f"partition {limit}", bases(fetch(w, topic, PartitionMaxBytes=limit))
        yield f"request {limit}", bases(fetch(w, topic, MaxBytes=limit))

    def two(limit, each):
        answer = w.say("Fetch", 12, MaxWaitMs=50, MinBytes=1, MaxBytes=limit, Topics=[{"Topic": topic, "Partitions": [
            {"Partition": index, "FetchOffset": 0, "PartitionMaxBytes": each} for index in (0, 1)]}])
        parts = answer["Responses"]["fetch-sizes"]["Partitions"]
        return {index: bases({"Responses": [{"Partitions": {index: part}}]}) for index, part in parts.items()}

    for limit, each in ((1, 1), (1, 100_000), (400, 170), (100_000, 1), (100_000, 200)):
        yield f"two partitions, {limit} and {each}", two(limit, each)


def fetch_segments(w):
    """Reading goes on across segments; one answer need not."""
    topic = w.topic("fetch-segments", retention_ms=-1, segment_bytes=1_048_576)
    for _ in range(5):
        w.fill(topic, [1], value=b"y" * 400_000)
    offset, seen = 0, []
    while offset < 5:
        shown = bases(fetch(w, topic, offset, PartitionMaxBytes=900_000))
        seen += [one for one in shown[1] if isinstance(one, list)]
        offset = seen[-1][1] + 1
    yield "batches", seen


def fetch_waiting(w):
    topic = w.topic("fetch-waiting", retention_ms=-1)
    w.fill(topic, [1])

    def timed(**more):
        began = time.monotonic()
        answer = fetch(w, topic, **more)
        took = time.monotonic() - began
        return {"answer": bases(answer), "waited": took > 0.35}

    yield "at the end", timed(offset=1, MaxWaitMs=400)
    yield "min bytes not there", timed(offset=0, MaxWaitMs=400, MinBytes=100_000)
    yield "min bytes 0 at the end", timed(offset=1, MaxWaitMs=400, MinBytes=0)
    yield "wait 0", timed(offset=1, MaxWaitMs=0)
    yield "out of range", timed(offset=9, MaxWaitMs=400)
    yield "unknown partition", timed(offset=0, MaxWaitMs=400, partition=7)
    yield "unknown beside waiting", waited(w, topic)


def waited(w, topic):
    began = time.monotonic()
    w.say("Fetch", 12, MaxWaitMs=400, MinBytes=1, Topics=[{"Topic": topic, "Partitions": [
        {"Partition": index, "FetchOffset": 1, "PartitionMaxBytes": 1000} for index in (0, 7)]}])
    return time.monotonic() - began > 0.35


def fetch_unknown(w):
    topic = w.topic("fetch-unknown")
    yield "partition", part_of(fetch(w, topic, partition=9))
    yield "partition v17", part_of(fetch(w, topic, partition=9, version=17))
    for version in (4, 12):
        yield f"topic v{version}", w.say("Fetch", version, MaxWaitMs=10, MinBytes=1, Topics=[
            {"Topic": w.prefix + "nowhere", "Partitions": [{"Partition": 0, "PartitionMaxBytes": 1000}]}])
    for version in (13, 17):
        yield f"id v{version}", w.say("Fetch", version, MaxWaitMs=10, MinBytes=1, Topics=[
            {"TopicId": random_id(), "Partitions": [{"Partition": 0, "PartitionMaxBytes": 1000}]}])
    yield "nothing asked", w.say("Fetch", 12, MaxWaitMs=10, MinBytes=1)
    yield "cluster id", fetch(w, topic, ClusterId="another")


def fetch_epochs(w):
    topic = w.topic("fetch-epochs")
    w.fill(topic, [3])
    for epoch in (-1, 0, 1, 99, -5):
        yield f"current {epoch}", part_of(fetch(w, topic, CurrentLeaderEpoch=epoch))
        yield f"last fetched {epoch}", part_of(fetch(w, topic, 2, LastFetchedEpoch=epoch, version=17))


def fetch_sessions(w):
    topic = w.topic("sessions", 2, retention_ms=-1)
    w.fill(topic, [2])
    w.fill(topic, [2], partition=1)

    def ask(session, epoch, partitions, forgotten=(), offset=0, version=12):
        topics = [{"Topic": topic, "Partitions": [
            {"Partition": index, "FetchOffset": offset, "PartitionMaxBytes": 10_000} for index in partitions]}]
        answer = w.ask("Fetch", version, MaxWaitMs=100, MinBytes=1, SessionId=session, SessionEpoch=epoch,
                       Topics=topics if partitions else [],
                       ForgottenTopicsData=[{"Topic": topic, "Partitions": list(forgotten)}] if forgotten else [])
        found = answer["SessionId"]
        answer = w.comparable(answer)
        parts = answer["Responses"]["sessions"]["Partitions"] if answer["Responses"] else {}
        return found, {"error": answer["ErrorCode"], "session": answer["SessionId"], "parts": {
            index: bases({"Responses": [{"Partitions": {index: part}}]}) for index, part in parts.items()}}

    session, shown = ask(0, 0, (0, 1))
    yield "opened", shown
    yield "incremental, nothing new asked", ask(session, 1, ())[1]
    yield "incremental, one moved to its end", ask(session, 2, (0,), offset=2)[1]
    yield "wrong epoch, the last again", ask(session, 2, ())[1]
    yield "wrong epoch, far", ask(session, 99, ())[1]
    yield "epoch after the wrong one", ask(session, 3, ())[1]
    yield "forget one", ask(session, 4, (), forgotten=(1,))[1]
    w.fill(topic, [1])
    w.fill(topic, [1], partition=1)
    yield "news of the other only", ask(session, 5, ())[1]
    yield "unknown partition added", ask(session, 6, (7,))[1]
    yield "is repeated", ask(session, 7, ())[1]
    yield "unknown id", ask(123_456_789, 1, (0,))[1]
    yield "negative epoch", ask(session, -7, (0,))[1]
    other, shown = ask(session, -1, (0, 1))
    yield "closed", shown
    yield "after closing", ask(session, 8, ())[1]
    yield "closing one that is not", ask(987_654, -1, (0,))[1]
    yield "opening again by an old id", ask(session, 0, (0,))[1]
    yield "no session at all", ask(0, -1, (0,))[1]
    yield "epoch 5 without id", ask(0, 5, (0,))[1]


def list_offsets(w):
    topic = w.topic("list-offsets", 3, retention_ms=-1)
    base = 1_700_000_000_000
    for time_ in (base + 50, base + 900, base + 100, base + 900, base + 300):
        w.fill(topic, [2], timestamp=time_)
    w.fill(topic, [3], partition=1, timestamp=base, step=10)

    def ask(timestamp, version=7, partition=0, **more):
        inner = {"PartitionIndex": partition, "Timestamp": timestamp}
        if "CurrentLeaderEpoch" in more:
            inner["CurrentLeaderEpoch"] = more.pop("CurrentLeaderEpoch")
        answer = w.say("ListOffsets", version, ReplicaId=-1, Topics=[{"Name": topic, "Partitions": [inner]}], **more)
        return answer["Topics"]["list-offsets"]["Partitions"][str(partition)] if isinstance(answer, dict) else answer

    for version in range(1, 12):
        for timestamp in (-1, -2, -3, -4, -5, -6, -7):
            yield f"v{version} {timestamp}", ask(timestamp, version)
    for delta in (-100, 0, 50, 51, 100, 101, 300, 899, 900, 901):
        yield f"time {delta}", ask(base + delta)
    for delta in (0, 5, 10, 15, 20, 21):
        yield f"inside a batch {delta}", ask(base + delta, partition=1)
    for timestamp in (-1, -2, -3, -4, -5, 0, base):
        yield f"empty {timestamp}", ask(timestamp, 9, partition=2)
    yield "committed", ask(-1, IsolationLevel=1)
    yield "partition 9", ask(-1, partition=9)
    for epoch in (0, 1, -5):
        yield f"epoch {epoch}", ask(-1, CurrentLeaderEpoch=epoch)
    twice = {"PartitionIndex": 0, "Timestamp": -1}
    yield "twice", w.say("ListOffsets", 7, ReplicaId=-1, Topics=[{"Name": topic, "Partitions": [twice, twice]}])
    yield "unknown topic", w.say("ListOffsets", 7, ReplicaId=-1, Topics=[{"Name": w.prefix + "no", "Partitions": [twice]}])
    yield "as a follower", w.say("ListOffsets", 7, ReplicaId=5, Topics=[{"Name": topic, "Partitions": [twice]}])
    yield "as a debugger", w.say("ListOffsets", 7, ReplicaId=-2, Topics=[{"Name": topic, "Partitions": [twice]}])


def offset_for_leader_epoch(w):
    topic = w.topic("leader-epoch")
    w.fill(topic, [3])

    def ask(epoch, version=4, current=-1, partition=0, replica=-1):
        fields = {"ReplicaId": replica} if version >= 3 else {}
        answer = w.say("OffsetForLeaderEpoch", version, Topics=[{"Topic": topic, "Partitions": [
            {"Partition": partition, "CurrentLeaderEpoch": current, "LeaderEpoch": epoch}]}], **fields)
        return answer["Topics"]["leader-epoch"]["Partitions"] if isinstance(answer, dict) else answer

    for version in (2, 3, 4):
        for epoch in (0, 1, -1, 99):
            yield f"v{version} epoch {epoch}", ask(epoch, version)
    yield "current newer", ask(0, current=7)
    yield "current right", ask(0, current=0)
    yield "partition 9", ask(0, partition=9)
    yield "unknown topic", w.say("OffsetForLeaderEpoch", 4, ReplicaId=-1, Topics=[
        {"Topic": w.prefix + "no", "Partitions": [{"Partition": 0, "LeaderEpoch": 0}]}])


def delete_records(w):
    topic = w.topic("delete-records", 2, retention_ms=-1)
    w.fill(topic, [5, 5])

    def ask(offset, version=2, partition=0, topic=topic):
        return w.say("DeleteRecords", version, TimeoutMs=10_000, Topics=[
            {"Name": topic, "Partitions": [{"PartitionIndex": partition, "Offset": offset}]}])

    yield "v0", ask(1, 0)
    yield "v1", ask(2, 1)
    yield "inside a batch", ask(7)
    yield "log start in Fetch", part_of(fetch(w, topic, 7))
    yield "below the start", ask(3)
    yield "beyond the end", ask(11)
    yield "-2", ask(-2)
    yield "all", ask(-1)
    yield "next offset", w.produce(topic, batch())["BaseOffset"]
    yield "empty partition to 0", ask(0, partition=1)
    yield "empty partition to 1", ask(1, partition=1)
    yield "partition 9", ask(0, partition=9)
    yield "unknown topic", ask(0, topic=w.prefix + "unknown")
    yield "twice", w.say("DeleteRecords", 2, TimeoutMs=10_000, Topics=[{"Name": topic, "Partitions": [
        {"PartitionIndex": 0, "Offset": 10}, {"PartitionIndex": 0, "Offset": 11}]}])
    compacted = w.topic("delete-records-compacted", cleanup_policy="compact")
    yield "compacted", ask(0, topic=compacted)
    both = w.topic("delete-records-both", cleanup_policy="compact,delete")
    yield "compacted and deleted", ask(0, topic=both)


CASES = (fetch_versions, fetch_places, fetch_sizes, fetch_segments, fetch_waiting, fetch_unknown, fetch_epochs,
         fetch_sessions, list_offsets, offset_for_leader_epoch, delete_records)
