"""Groups of KIP-848: heartbeats, what they are answered, and descriptions."""

import json
import struct

from .offsets import commit, group, row
from .offsets import join as classic_join
from .offsets import sync as classic_sync


def at_once(w, name):
    """A group that a real broker assigns anew at once too (it waits a second otherwise; we do not)."""
    full = group(w, name)
    w.ask("IncrementalAlterConfigs", 1, ValidateOnly=False, Resources=[
        {"ResourceType": 32, "ResourceName": full, "Configs": [
            {"Name": "consumer.assignment.interval.ms", "ConfigOperation": 0, "Value": "0"}]}])
    return full


def beat(w, name, member, epoch, version=1, **more):
    return w.say("ConsumerGroupHeartbeat", version, GroupId=name, MemberId=member, MemberEpoch=epoch,
                 **{"RebalanceTimeoutMs": -1, "SubscribedTopicNames": None, "TopicPartitions": None, **more})


def join(w, name, member, topics, version=1, **more):
    return beat(w, name, member, 0, version, **{"RebalanceTimeoutMs": 60_000, "SubscribedTopicNames": topics,
                                                "TopicPartitions": [], **more})


def own(w, name, member, epoch, topic, partitions, **more):
    rows = [{"TopicId": w.id_of(topic), "Partitions": partitions}] if partitions else []
    return beat(w, name, member, epoch, TopicPartitions=rows, **more)


def describe(w, *names, version=1):
    answer = w.say("ConsumerGroupDescribe", version, GroupIds=list(names), IncludeAuthorizedOperations=False)
    if isinstance(answer, dict):
        for each in answer["Groups"]:
            each["Members"].sort(key=lambda member: member["MemberId"])
    return answer


def consumer_group_steps(w):
    # A group begins with epoch 1, and the first subscription raises it.
    topic, name = w.topic("six", 6), at_once(w, "steps")
    yield "first", join(w, name, "a", [topic])
    yield "nothing new", beat(w, name, "a", 2)
    yield "described", describe(w, name)
    yield "second", join(w, name, "b", [topic])
    yield "described when it came", describe(w, name)
    yield "first gives up", beat(w, name, "a", 2)
    yield "second waits", beat(w, name, "b", 3)
    yield "described while one waits", describe(w, name, version=0)
    yield "first gave up", own(w, name, "a", 2, topic, [0, 1, 2])
    yield "second gets", beat(w, name, "b", 3)
    yield "everything again", own(w, name, "b", 3, topic, [3, 4, 5], RebalanceTimeoutMs=60_000, SubscribedTopicNames=[topic])
    yield "described in the end", describe(w, name)
    for label, member, epoch, partition, version in (
            ("own", "a", 3, 0, 9), ("epoch before", "a", 2, 0, 9), ("given up", "a", 2, 4, 9), ("too new", "a", 4, 0, 9),
            ("others'", "a", 3, 4, 9), ("got later", "b", 2, 4, 9), ("old version", "a", 3, 0, 8), ("stranger", "c", 3, 0, 9)):
        yield f"commit {label}", commit(w, version, name, [(topic, [row(partition, 1)])],
                                        GenerationIdOrMemberEpoch=epoch, MemberId=member)
    yield "lost answer", own(w, name, "a", 2, topic, [0, 1, 2])
    yield "lost answer, too much", own(w, name, "a", 2, topic, [0, 1, 2, 3])
    yield "epoch before", beat(w, name, "a", 2)
    yield "epoch ahead", beat(w, name, "a", 8)
    yield "joins again", join(w, name, "a", [topic])
    yield "other topics", beat(w, name, "b", 3, SubscribedTopicNames=[w.prefix + "none"])
    yield "gave all up", own(w, name, "b", 3, topic, [])
    yield "first takes over", beat(w, name, "a", 3)
    yield "said that it has it", own(w, name, "a", 4, topic, [0, 1, 2, 3, 4, 5])
    yield "leaves", beat(w, name, "b", -1)
    yield "left", beat(w, name, "b", 4)
    yield "leaves twice", beat(w, name, "b", -1)
    yield "last leaves", beat(w, name, "a", -1)
    yield "described empty", describe(w, name)


def consumer_group_static(w):
    topic, name = w.topic("four", 4), at_once(w, "static")
    yield "first", join(w, name, "a", [topic], InstanceId="one")
    yield "joins again", join(w, name, "a", [topic], InstanceId="one")
    yield "second", join(w, name, "b", [topic], InstanceId="two")
    yield "taken", join(w, name, "c", [topic], InstanceId="one")
    yield "away", beat(w, name, "a", -2, InstanceId="one")
    yield "described away", describe(w, name)
    yield "away, asks", beat(w, name, "a", 2, InstanceId="one")
    yield "back as another", join(w, name, "c", [topic], InstanceId="one")
    yield "fenced", beat(w, name, "a", 2, InstanceId="one")
    yield "fenced leaves", beat(w, name, "a", -1, InstanceId="one")
    yield "unknown static id", beat(w, name, "a", 2, InstanceId="three")
    yield "without its static id", beat(w, name, "c", 2)
    yield "away without static id", beat(w, name, "c", -2)
    yield "leaves", beat(w, name, "c", -1, InstanceId="one")
    yield "described", describe(w, name)


def consumer_group_errors(w):
    topic, name = w.topic("one", 1), at_once(w, "errors")
    yield "unknown group", beat(w, name, "a", 1)
    yield "unknown group, leaves", beat(w, name, "a", -1)
    yield "unknown group described", describe(w, name, "")
    for version in (0, 1):
        yield f"no member id v{version}", beat(w, name, "", 1, version)
        yield f"no member id, leaves v{version}", beat(w, name, "", -1, version)
        yield f"no group id v{version}", join(w, "", "a", [topic], version)
    yield "blank group id", join(w, " ", "a", [topic])
    yield "joins without member id", join(w, name, "", [topic])
    yield "empty static id", join(w, name, "a", [topic], InstanceId="")
    yield "empty rack", join(w, name, "a", [topic], RackId="")
    yield "no timeout", join(w, name, "a", [topic], RebalanceTimeoutMs=-1)
    yield "no partitions", join(w, name, "a", [topic], TopicPartitions=None)
    yield "partitions", join(w, name, "a", [topic], TopicPartitions=[{"TopicId": w.id_of(topic), "Partitions": [0]}])
    yield "no topics", join(w, name, "a", None)
    yield "epoch -3", beat(w, name, "a", -3)
    yield "epoch -2 without static id", beat(w, name, "a", -2)
    yield "assignor", join(w, name, "a", [topic], ServerAssignor="sticky")
    yield "pattern", join(w, name, "a", None, SubscribedTopicRegex="(")
    yield "empty topics", join(w, name, "a", [])
    yield "unknown member", beat(w, name, "b", 1)
    yield "range", join(w, name, "a", [topic], ServerAssignor="range")
    yield "described", describe(w, name)


def classic_subscription(topic, owned):
    """A consumer's metadata, version 1, with what it reads."""
    name = struct.pack(">h", len(topic)) + topic.encode()
    has = struct.pack(">i", 1) + name + struct.pack(f">i{len(owned)}i", len(owned), *owned) if owned else struct.pack(">i", 0)
    return struct.pack(">hi", 1, 1) + name + struct.pack(">i", -1) + has


def classic_assignment(topic, partitions):
    name = struct.pack(">h", len(topic)) + topic.encode()
    return struct.pack(">hi", 1, 1) + name + struct.pack(f">i{len(partitions)}i", len(partitions), *partitions) + struct.pack(">i", -1)


def consumer_group_migration(w):
    """A classic member and one of KIP-848 in one group, from the one protocol to the other and back."""
    topic, name = w.topic("moved", 2), at_once(w, "migration")

    def shown(answer, old):
        text = json.dumps(answer)
        return json.loads(text.replace(old, "the old one").replace(topic.encode().hex(), "topic"))

    def classic(api, version, **more):
        return shown(w.say(api, version, GroupId=name, **more), old)

    def rejoin(owned):
        return classic("JoinGroup", 5, MemberId=old, SessionTimeoutMs=30_000, RebalanceTimeoutMs=30_000, ProtocolType="consumer",
                       Protocols=[{"Name": "range", "Metadata": classic_subscription(topic, owned)}])

    def sync_again(generation):
        return classic("SyncGroup", 5, MemberId=old, GenerationId=generation, ProtocolType="consumer", ProtocolName="range",
                       Assignments=[])

    old, generation = classic_join(w, name, metadata=classic_subscription(topic, []))
    classic_sync(w, name, old, generation, classic_assignment(topic, [0, 1]))
    yield "joins", join(w, name, "new", [topic])
    yield "described", shown(describe(w, name), old)
    yield "classic heartbeat", classic("Heartbeat", 4, MemberId=old, GenerationId=1)
    yield "classic joins to give up", rejoin([0, 1])
    yield "classic gives up", sync_again(1)
    yield "classic heartbeat while it gives up", classic("Heartbeat", 4, MemberId=old, GenerationId=1)
    yield "classic gave up", rejoin([0])
    yield "classic goes on", sync_again(2)
    yield "classic syncs with another generation", sync_again(1)
    yield "classic heartbeat in the new epoch", classic("Heartbeat", 4, MemberId=old, GenerationId=2)
    yield "gets", beat(w, name, "new", 2)
    yield "described in the end", shown(describe(w, name), old)
    yield "a heartbeat of the other protocol", w.say("Heartbeat", 4, GroupId=name, MemberId="new", GenerationId=2)
    yield "a stranger's", w.say("Heartbeat", 4, GroupId=name, MemberId="nobody", GenerationId=2)
    yield "another type", w.say("JoinGroup", 5, GroupId=name, MemberId="", SessionTimeoutMs=30_000, RebalanceTimeoutMs=30_000,
                                ProtocolType="connect", Protocols=[{"Name": "range", "Metadata": b""}])
    yield "leaves", beat(w, name, "new", -1)
    yield "classic heartbeat in the classic group", classic("Heartbeat", 4, MemberId=old, GenerationId=2)
    joined, generation = classic_join(w, name, old, metadata=classic_subscription(topic, [0]))
    yield "classic joins the classic group", [joined == old, generation]


CASES = (consumer_group_steps, consumer_group_static, consumer_group_errors, consumer_group_migration)
