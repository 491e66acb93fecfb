"""OffsetCommit, OffsetFetch and OffsetDelete, at every version, without members and with one of the classic protocol."""

import struct

from .codec import ZERO_ID, random_id


def group(w, name):
    """The full name of a group whose coordinator answers; a real broker first makes the topic behind it."""
    full = w.prefix + name
    w.settle("a coordinator's topic", lambda: w.ask("FindCoordinator", 2, Key=full, KeyType=0)["ErrorCode"] == 0)
    w.settle("a group's coordinator",
             lambda: w.ask("OffsetFetch", 7, GroupId=full, Topics=[])["ErrorCode"] not in (14, 15, 16))
    return full


def row(partition, offset, **more):
    return {"PartitionIndex": partition, "CommittedOffset": offset, **more}


def commit(w, version, name, topics, **more):
    """Commits for a group without members, unless `more` says otherwise; topics by name, or by id where there are no names."""
    rows = [{**({"TopicId": topic_id(w, topic)} if version >= 10 else {"Name": topic}), "Partitions": parts}
            for topic, parts in topics]
    return w.say("OffsetCommit", version, GroupId=name, **{"GenerationIdOrMemberEpoch": -1, "MemberId": "",
                                                           "Topics": rows, **more})


def topic_id(w, topic):
    known = [each for each, name in w.topic_ids.items() if w.prefix + name == topic]
    return known[-1] if known else topic


def fetch(w, version, name, topics, member=None, **more):
    """What a group has committed; `topics` None for all of it."""
    if version < 8:
        rows = None if topics is None else [{"Name": topic, "PartitionIndexes": parts} for topic, parts in topics]
        return w.say("OffsetFetch", version, GroupId=name, Topics=rows, **more)
    rows = None if topics is None else [
        {**({"TopicId": topic_id(w, topic)} if version >= 10 else {"Name": topic}), "PartitionIndexes": parts}
        for topic, parts in topics]
    answer = w.say("OffsetFetch", version, Groups=[{"GroupId": name, "Topics": rows, **(member or {})}], **more)
    return in_order(answer)


def in_order(answer):
    """A broker lists all topics of a group in the order of its tables; by id they have no name to be sorted by."""
    if isinstance(answer, dict):
        for each in answer["Groups"]:
            if isinstance(each["Topics"], list):
                each["Topics"].sort(key=lambda topic: topic["TopicId"])
    return answer


def offset_commit(w):
    topic, name = w.topic("read", 3), group(w, "commits")
    for version in range(2, 11):
        more = {"CommittedLeaderEpoch": 0} if version >= 6 else {}
        yield f"v{version}", commit(w, version, name, [
            (topic, [row(0, version, CommittedMetadata=f"by {version}", **more), row(1, 10 * version), row(7, 1)])])
        yield f"v{version} stored", fetch(w, 5, name, [(topic, [0, 1, 2, 7])])
    for version in (2, 8, 9):
        yield f"unknown topic v{version}", commit(w, version, name, [(w.prefix + "unknown", [row(0, 1)])])
        yield f"and a known one v{version}", commit(w, version, name, [(w.prefix + "unknown", [row(0, 1)]),
                                                                       (topic, [row(0, 1)])])
    yield "unknown id", commit(w, 10, name, [(random_id(), [row(0, 1), row(1, 1)]), (topic, [row(0, 1)])])
    yield "zero id", commit(w, 10, name, [(ZERO_ID, [row(0, 1)])])
    yield "negative partition", commit(w, 9, name, [(topic, [row(-1, 1)])])
    for offset in (-1, -2, 2**62):
        yield f"offset {offset}", commit(w, 9, name, [(topic, [row(0, offset)])])
        yield f"offset {offset} stored", fetch(w, 9, name, [(topic, [0])])
    for epoch in (-1, -2, 77):
        yield f"epoch {epoch}", commit(w, 9, name, [(topic, [row(0, 1, CommittedLeaderEpoch=epoch)])])
        yield f"epoch {epoch} stored", fetch(w, 9, name, [(topic, [0])])
    for metadata in (None, "", "m" * 4096, "m" * 4097, "ä" * 4096, "ä" * 4097, "\U0001f600" * 2048, "\U0001f600" * 2049):
        first = (metadata or "")[:1]
        yield f"metadata {first} {metadata and len(metadata)}", commit(w, 9, name, [
            (topic, [row(0, 1, CommittedMetadata=metadata), row(1, 2)])])
    yield "metadata stored", [len(part["Metadata"]) for part in w.ask("OffsetFetch", 7, GroupId=name, Topics=[
        {"Name": topic, "PartitionIndexes": [0]}])["Topics"][0]["Partitions"]]
    yield "no topics", commit(w, 9, name, [])
    yield "no partitions", commit(w, 9, name, [(topic, [])])
    yield "twice", commit(w, 9, name, [(topic, [row(2, 1), row(2, 5)]), (topic, [row(2, 3)])])
    yield "twice stored", fetch(w, 9, name, [(topic, [2])])
    for version in (2, 4):
        yield f"retention v{version}", commit(w, version, group(w, "retained"), [(topic, [row(0, 1)])],
                                              RetentionTimeMs=3_600_000)
    for version in (2, 8, 9, 10):
        yield f"empty group v{version}", commit(w, version, "", [(topic, [row(0, 1)])])
    yield "empty group is stored", fetch(w, 9, "", [(topic, [0])])
    yield "internal topic", commit(w, 9, name, [("__consumer_offsets", [row(0, 1)])])


def offset_commit_of_members(w):
    """Who says that they are members, where there is none, and groups that are not there."""
    topic, name = w.topic("read", 1), group(w, "nobody")
    for version in (2, 8, 9, 10):
        more = {"GenerationIdOrMemberEpoch": 1, "MemberId": "somebody"}
        yield f"unknown group v{version}", commit(w, version, w.prefix + "new", [(topic, [row(0, 1)])], **more)
        more = {"GenerationIdOrMemberEpoch": -1, "MemberId": "somebody"}
        yield f"unknown group, a member without generation v{version}", commit(
            w, version, w.prefix + f"new {version}", [(topic, [row(0, 1)])], **more)
    yield "made", commit(w, 8, name, [(topic, [row(0, 1)])])
    for version in (7, 9):
        for label, more in {
            "a generation": {"GenerationIdOrMemberEpoch": 0},
            "a member": {"MemberId": "somebody"},
            "a member and a generation": {"MemberId": "somebody", "GenerationIdOrMemberEpoch": 0},
            "an instance": {"GroupInstanceId": "static"},
            "a member and an instance": {"MemberId": "somebody", "GroupInstanceId": "static"},
            "generation -2": {"GenerationIdOrMemberEpoch": -2},
        }.items():
            yield f"{label} v{version}", commit(w, version, name, [(topic, [row(0, 1)]), (w.prefix + "no", [row(0, 1)])],
                                                **more)
    yield "a member, but no known topic", commit(w, 9, name, [(w.prefix + "no", [row(0, 1)])],
                                                 MemberId="somebody", GenerationIdOrMemberEpoch=5)


def offset_fetch(w):
    topic, other, name = w.topic("read", 3), w.topic("also", 1), group(w, "fetches")
    commit(w, 9, name, [(topic, [row(0, 11, CommittedLeaderEpoch=0, CommittedMetadata="m"), row(2, 22)]),
                        (other, [row(0, 33)])])
    for version in range(1, 11):
        yield f"v{version}", fetch(w, version, name, [(topic, [0, 1, 2, 9])])
        yield f"unknown topic v{version}", fetch(w, version, name, [(w.prefix + "unknown" if version < 10 else
                                                                    random_id(), [0, 1])])
        if version >= 2:
            yield f"all v{version}", fetch(w, version, name, None)
        yield f"no topics v{version}", fetch(w, version, name, [])
        yield f"unknown group v{version}", fetch(w, version, w.prefix + "unknown", [(topic, [0])])
        if version >= 2:
            yield f"all of an unknown group v{version}", fetch(w, version, w.prefix + "unknown", None)
        yield f"empty group id v{version}", fetch(w, version, "", [(topic, [0])])
        if version >= 7:
            yield f"stable v{version}", fetch(w, version, name, [(topic, [0, 1])], RequireStable=True)
    yield "a known and an unknown id", fetch(w, 10, name, [(random_id(), [0]), (topic, [0]), (ZERO_ID, [1])])
    yield "twice", fetch(w, 9, name, [(topic, [0, 0]), (topic, [0])])
    yield "no partitions", fetch(w, 9, name, [(topic, [])])
    for version in (8, 9, 10):
        where = {"TopicId": w.id_of(topic)} if version >= 10 else {"Name": topic}
        asked = [{**where, "PartitionIndexes": [0]}]
        yield f"several v{version}", w.say("OffsetFetch", version, Groups=[
            {"GroupId": name, "Topics": asked}, {"GroupId": "", "Topics": asked},
            {"GroupId": w.prefix + "unknown", "Topics": asked}, {"GroupId": name, "Topics": asked}])
    yield "no groups", w.say("OffsetFetch", 8, Groups=[])
    for version in (9, 10):
        for label, member in {
            "unknown member": {"MemberId": "somebody", "MemberEpoch": 1},
            "no member, an epoch": {"MemberId": None, "MemberEpoch": 1},
            "empty member, an epoch": {"MemberId": "", "MemberEpoch": 1},
            "empty member, no epoch": {"MemberId": "", "MemberEpoch": -1},
        }.items():
            yield f"{label} v{version}", fetch(w, version, name, [(topic, [0])], member)
            yield f"{label}, unknown group v{version}", fetch(w, version, w.prefix + "unknown", [(topic, [0])], member)


def offsets_of_deleted_topics(w):
    topic, kept, name = w.topic("gone", 2), w.topic("kept", 1), group(w, "deleted")
    yield "committed", commit(w, 9, name, [(topic, [row(0, 5), row(1, 6)]), (kept, [row(0, 7)])])
    w.ask("DeleteTopics", 5, TopicNames=[topic], TimeoutMs=15_000)
    w.settle("a deleted topic's offsets", lambda: len(w.ask("OffsetFetch", 7, GroupId=name, Topics=None)["Topics"]) == 1)
    yield "by name", fetch(w, 9, name, [(topic, [0, 1])])
    yield "by id", fetch(w, 10, name, [(topic, [0, 1])])
    yield "all by name", fetch(w, 9, name, None)
    yield "all by id", fetch(w, 10, name, None)
    yield "committed again", commit(w, 9, name, [(topic, [row(0, 5)])])
    w.topic("gone", 1)
    yield "a topic of the same name", fetch(w, 9, name, [(topic, [0])])


def offset_delete(w):
    topic, other, name = w.topic("read", 3), w.topic("also", 1), group(w, "deletes")

    def delete(group_id, *topics):
        return w.say("OffsetDelete", 0, GroupId=group_id, Topics=[
            {"Name": each, "Partitions": [{"PartitionIndex": part} for part in parts]} for each, parts in topics])

    yield "unknown group", delete(w.prefix + "unknown", (topic, [0]))
    yield "empty group id", delete("", (topic, [0]))
    commit(w, 9, name, [(topic, [row(0, 1), row(1, 2), row(2, 3)]), (other, [row(0, 33)])])
    yield "one, and what is not there", delete(name, (topic, [0, 9, -1]), (w.prefix + "unknown", [0]))
    yield "left", fetch(w, 9, name, None)
    yield "again", delete(name, (topic, [0]))
    yield "twice", delete(name, (topic, [1, 1]))
    yield "no partitions", delete(name, (topic, []))
    yield "no topics", delete(name)
    yield "only unknown ones", delete(name, (w.prefix + "unknown", [0]))
    yield "the rest", delete(name, (topic, [2]), (other, [0]))
    yield "nothing is left", fetch(w, 9, name, None)
    yield "not even the group, after a while", delete(name, (topic, [2]))


def subscription(topics):
    """A consumer's metadata, version 0."""
    data = struct.pack(">hi", 0, len(topics))
    for topic in topics:
        data += struct.pack(">h", len(topic)) + topic.encode()
    return data + struct.pack(">i", -1)


def join(w, name, member="", protocol_type="consumer", metadata=b"", **more):
    """The id of the only member of a group and its generation, before it syncs."""
    fields = {"GroupId": name, "SessionTimeoutMs": 30_000, "RebalanceTimeoutMs": 30_000, "ProtocolType": protocol_type,
              "Protocols": [{"Name": "range", "Metadata": metadata}], **more}
    joined = w.ask("JoinGroup", 5, MemberId=member, **fields)
    if joined["ErrorCode"] == 79:
        joined = w.ask("JoinGroup", 5, MemberId=joined["MemberId"], **fields)
    if joined["ErrorCode"]:
        raise RuntimeError(f"cannot join {name}: {joined['ErrorCode']}")
    return joined["MemberId"], joined["GenerationId"]


def sync(w, name, member, generation, assignment=b"", **more):
    synced = w.ask("SyncGroup", 3, GroupId=name, GenerationId=generation, MemberId=member, Assignments=[
        {"MemberId": member, "Assignment": assignment}], **more)
    if synced["ErrorCode"]:
        raise RuntimeError(f"cannot sync {name}: {synced['ErrorCode']}")


def leave(w, name, member):
    w.ask("LeaveGroup", 1, GroupId=name, MemberId=member)


def offsets_with_a_classic_member(w):
    topic, other, name = w.topic("read", 1), w.topic("also", 1), group(w, "member")
    commit(w, 8, name, [(other, [row(0, 3)])])
    member, generation = join(w, name, metadata=subscription([topic]))
    right = {"MemberId": member, "GenerationIdOrMemberEpoch": generation}
    for version in (5, 8, 9):
        yield f"before the sync v{version}", commit(w, version, name, [(topic, [row(0, 1)])], **right)
    yield "nobody, before the sync", commit(w, 8, name, [(topic, [row(0, 1)])])
    sync(w, name, member, generation)
    for version in range(2, 11):
        yield f"the member v{version}", commit(w, version, name, [(topic, [row(0, version)])], **right)
    for version in (5, 8, 9, 10):
        for label, more in {
            "nobody": {},
            "nobody, the right generation": {**right, "MemberId": ""},
            "somebody else": {**right, "MemberId": "somebody"},
            "an old generation": {**right, "GenerationIdOrMemberEpoch": generation - 1},
            "a generation to come": {**right, "GenerationIdOrMemberEpoch": generation + 1},
            "no generation": {**right, "GenerationIdOrMemberEpoch": -1},
        }.items():
            yield f"{label} v{version}", commit(w, version, name, [(topic, [row(0, 1)])], **more)
    yield "a static id that is not there", commit(w, 9, name, [(topic, [row(0, 1)])], GroupInstanceId="static", **right)
    yield "fetch by anybody", fetch(w, 9, name, None, {"MemberId": "somebody", "MemberEpoch": 77})
    yield "delete what is read", w.say("OffsetDelete", 0, GroupId=name, Topics=[
        {"Name": each, "Partitions": [{"PartitionIndex": 0}]} for each in (topic, other)])
    leave(w, name, member)
    yield "after it left, with its id", commit(w, 9, name, [(topic, [row(0, 1)])], **right)
    yield "after it left", commit(w, 9, name, [(topic, [row(0, 1)])])
    yield "delete what is no longer read", w.say("OffsetDelete", 0, GroupId=name, Topics=[
        {"Name": topic, "Partitions": [{"PartitionIndex": 0}]}])
    name = group(w, "connect")
    member, generation = join(w, name, protocol_type="connect")
    sync(w, name, member, generation)
    yield "delete in a group of another kind", w.say("OffsetDelete", 0, GroupId=name, Topics=[
        {"Name": topic, "Partitions": [{"PartitionIndex": 0}]}])
    leave(w, name, member)
    name = group(w, "static")
    member, generation = join(w, name, metadata=subscription([topic]), GroupInstanceId="i")
    sync(w, name, member, generation, GroupInstanceId="i")
    right = {"MemberId": member, "GenerationIdOrMemberEpoch": generation}
    for label, more in {
        "the static member": {**right, "GroupInstanceId": "i"},
        "the static member without its static id": right,
        "the static id of another": {**right, "MemberId": "somebody", "GroupInstanceId": "i"},
        "a static id alone": {"GroupInstanceId": "i"},
        "an unknown static id": {**right, "GroupInstanceId": "j"},
    }.items():
        yield label, commit(w, 9, name, [(topic, [row(0, 1)])], **more)
    w.ask("LeaveGroup", 3, GroupId=name, Members=[{"MemberId": member, "GroupInstanceId": "i"}])


CASES = (offset_commit, offset_commit_of_members, offset_fetch, offsets_of_deleted_topics, offset_delete,
         offsets_with_a_classic_member)
