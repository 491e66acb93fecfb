"""Metadata, CreateTopics, DeleteTopics, CreatePartitions and DescribeTopicPartitions."""

from .batches import batch
from .codec import ZERO_ID, random_id


def metadata(w):
    topic = w.topic("described", 2)
    for version in range(14):
        yield f"v{version}", w.say("Metadata", version, Topics=[{"Name": topic}])
    yield "no topics", w.say("Metadata", 12, Topics=[])
    yield "v0 empty is all", topic.removeprefix(w.prefix) in w.say("Metadata", 0, Topics=[])["Topics"]
    yield "null is all", topic.removeprefix(w.prefix) in w.say("Metadata", 12, Topics=None)["Topics"]
    yield "twice", w.say("Metadata", 12, Topics=[{"Name": topic}, {"Name": topic}])["Topics"]
    yield "operations", w.say("Metadata", 9, Topics=[{"Name": topic}], IncludeClusterAuthorizedOperations=True,
                              IncludeTopicAuthorizedOperations=True)


def metadata_unknown(w):
    def ask(name, version=12, auto=False):
        topics = w.say("Metadata", version, Topics=[{"Name": name}], AllowAutoTopicCreation=auto)
        return topics["Topics"] if isinstance(topics, dict) else topics

    yield "unknown", ask(w.prefix + "unknown")
    yield "still unknown", ask(w.prefix + "unknown")
    for name in ("", ".", "..", "a b", "a/b", "ä", "x" * 249, "x" * 250):
        yield f"name {name[:3]} {len(name)}", ask(name)
        if len(name) != 249:
            yield f"name {name[:3]} {len(name)} auto", ask(name, auto=True)


def metadata_auto_create(w):
    name = w.prefix + "made-by-metadata"
    first = w.ask("Metadata", 12, Topics=[{"Name": name}], AllowAutoTopicCreation=True)["Topics"][0]
    yield "first is created or about to be", first["ErrorCode"] in (0, 3, 5)
    found = {}

    def is_there():
        found.update(w.ask("Metadata", 12, Topics=[{"Name": name}], AllowAutoTopicCreation=True)["Topics"][0])
        return found["ErrorCode"] == 0 and found["Partitions"]

    w.settle("a topic made by asking", is_there)
    w.topic_ids[found["TopicId"]] = "made-by-metadata"
    yield "then", w.comparable(found)


def metadata_by_id(w):
    topic = w.topic("by-id")
    topic_id = w.id_of(topic)
    for version in (12, 13):
        def ask(*topics):
            answer = w.say("Metadata", version, Topics=list(topics))
            return answer["Topics"] if isinstance(answer, dict) else answer
        yield f"v{version} known", ask({"TopicId": topic_id, "Name": None})
        yield f"v{version} unknown", ask({"TopicId": random_id(), "Name": None})
        yield f"v{version} known and name", ask({"TopicId": topic_id, "Name": topic})
        yield f"v{version} id of one and name of none", ask({"TopicId": topic_id, "Name": w.prefix + "other"})
        yield f"v{version} neither", ask({"TopicId": ZERO_ID, "Name": None})
    yield "v10 null name", w.say("Metadata", 10, Topics=[{"TopicId": topic_id, "Name": None}])


def create(w, topic, version=7, **more):
    fields = {"Name": w.prefix + topic, "NumPartitions": 1, "ReplicationFactor": 1, **more}
    dry = fields.pop("validateOnly", False)
    answer = w.say("CreateTopics", version, Topics=[fields], timeoutMs=15_000, validateOnly=dry)
    if not isinstance(answer, dict):
        return answer
    [[_, one]] = answer["Topics"].items() if isinstance(answer["Topics"], dict) else [("", answer["Topics"][0])]
    one.pop("TopicId", None)
    if one.get("Configs"):
        one["Configs"] = len(one["Configs"])
    return one


def create_topics(w):
    for version in range(2, 8):
        yield f"v{version}", create(w, f"created-{version}", version)
    yield "defaults", create(w, "created-default", NumPartitions=-1, ReplicationFactor=-1)
    yield "defaults v3", create(w, "created-default-3", 3, NumPartitions=-1, ReplicationFactor=-1)
    yield "again", create(w, "created-7")
    for name, more in {
        "0 partitions": {"NumPartitions": 0}, "-2 partitions": {"NumPartitions": -2},
        "replication 0": {"ReplicationFactor": 0}, "replication 2": {"ReplicationFactor": 2},
        "replication -2": {"ReplicationFactor": -2},
    }.items():
        yield name, create(w, "not-created", **more)
        yield f"{name}, only validated", create(w, "not-created", validateOnly=True, **more)
    yield "only validated", create(w, "not-created", validateOnly=True)
    yield "only validated, exists", create(w, "created-7", validateOnly=True)
    answer = w.say("Metadata", 12, Topics=[{"Name": w.prefix + "not-created"}])
    yield "none of those exists", answer["Topics"]


def create_topics_names(w):
    full = w.prefix
    for name in ("", ".", "..", "a b", "a/b", "a\nb", "ä", "a:b", "x" * 249, "x" * 250, "__cluster_metadata"):
        w.prefix = ""
        yield f"{name[:20]!r} {len(name)}", create(w, name)["ErrorCode"]
        w.prefix = full
    w.prefix = ""
    w.ask("DeleteTopics", 5, TopicNames=["x" * 249], TimeoutMs=10_000)
    w.prefix = full
    yield "dotted", create(w, "collide.dotted")["ErrorCode"]
    yield "its twin with underscore", create(w, "collide_dotted")["ErrorCode"]


def create_topics_assignments(w):
    def assign(*rows):
        return {"NumPartitions": -1, "ReplicationFactor": -1,
                "Assignments": [{"PartitionIndex": index, "BrokerIds": list(brokers)} for index, brokers in rows]}

    node = w.node
    yield "two partitions", create(w, "assigned", **assign((0, [node]), (1, [node])))
    yield "unknown broker", create(w, "not-assigned", **assign((0, [node + 7])))
    yield "gap", create(w, "not-assigned", **assign((0, [node]), (2, [node])))
    yield "twice", create(w, "not-assigned", **assign((0, [node]), (0, [node])))
    yield "broker twice", create(w, "not-assigned", **assign((0, [node, node])))
    yield "no brokers", create(w, "not-assigned", **assign((0, [])))
    yield "and a count", create(w, "not-assigned", **{**assign((0, [node])), "NumPartitions": 1})
    yield "and a factor", create(w, "not-assigned", **{**assign((0, [node])), "ReplicationFactor": 1})


def create_topics_configs(w):
    def configs(**named):
        return {"Configs": [{"Name": name.replace("_", "."), "Value": value} for name, value in named.items()]}

    for name, more in {
        "unknown": configs(no_such="1"), "null value": configs(retention_ms=None), "not a number": configs(retention_ms="x"),
        "empty": configs(retention_ms=""), "blank": configs(retention_ms=" 5 "),
        "too small": configs(segment_bytes="13"), "negative": configs(segment_bytes="-1"),
        "below 1 MiB": configs(segment_bytes="1048575"),
        "retention -2": configs(retention_ms="-2"), "bad policy": configs(cleanup_policy="burn"),
        "both policies": configs(cleanup_policy="compact,delete"), "no policy": configs(cleanup_policy=""),
        "bad type": configs(compression_type="brotli"), "producer": configs(compression_type="producer"),
        "bad time type": configs(message_timestamp_type="Whenever"),
        "ratio over 1": configs(min_cleanable_dirty_ratio="1.5"), "bool": configs(preallocate="maybe"),
        "bool upper": configs(preallocate="TRUE"), "isr 0": configs(min_insync_replicas="0"),
        "isr 3": configs(min_insync_replicas="3"), "remote": configs(remote_storage_enable="true"),
        "too large int": configs(max_message_bytes="3000000000"),
        "32,767 letters": configs(leader_replication_throttled_replicas="x" * 32_767),
        "throttled all": configs(leader_replication_throttled_replicas="*"),
        "old format": configs(message_format_version="2.0"), "gzip level": configs(compression_gzip_level="10"),
        "local retention above": configs(local_retention_ms="99", retention_ms="5"),
        "max lag below min": configs(max_compaction_lag_ms="1", min_compaction_lag_ms="2"),
    }.items():
        answer = create(w, "config-" + name.replace(" ", "-").replace(",", ""), validateOnly=True, **more)
        yield name, answer["ErrorCode"] if isinstance(answer, dict) else answer
    twice = {"Configs": [{"Name": "retention.ms", "Value": "1"}, {"Name": "retention.ms", "Value": "2"}]}
    yield "same name twice", create(w, "config-twice", **twice)["ErrorCode"]


def create_topics_twice_in_one(w):
    same = {"Name": w.prefix + "twin", "NumPartitions": 1, "ReplicationFactor": 1}
    other = {**same, "Name": w.prefix + "single"}
    answer = w.say("CreateTopics", 7, Topics=[same, same, other], timeoutMs=15_000)
    yield "answer", {name: one["ErrorCode"] for name, one in answer["Topics"].items()}
    yield "none asked", w.say("CreateTopics", 7, Topics=[], timeoutMs=15_000)


def delete_topics(w):
    for version in range(1, 7):
        topic = w.topic(f"deleted-{version}")
        asked = {"TopicNames": [topic]} if version < 6 else {"Topics": [{"Name": topic}]}
        yield f"v{version}", w.say("DeleteTopics", version, TimeoutMs=15_000, **asked)

    def delete(*topics):
        return w.say("DeleteTopics", 6, TimeoutMs=15_000, Topics=list(topics))["Responses"]

    topic = w.topic("deleted-by-id")
    topic_id = w.id_of(topic)
    yield "by id", delete({"Name": None, "TopicId": topic_id})
    yield "by id again", delete({"Name": None, "TopicId": topic_id})
    yield "unknown name", delete({"Name": w.prefix + "unknown"})
    yield "unknown id", delete({"Name": None, "TopicId": random_id()})
    yield "neither", delete({"Name": None, "TopicId": ZERO_ID})
    yield "bad name", delete({"Name": "a b"})
    topic = w.topic("deleted-twice")
    yield "name and id", delete({"Name": topic, "TopicId": w.id_of(topic)})
    yield "twice", delete({"Name": topic}, {"Name": topic})
    yield "none", delete()


def recreated_topic(w):
    """The same name again is another topic: new id, empty log, and the old id is unknown."""
    topic = w.topic("again")
    old = w.id_of(topic)
    w.fill(topic, [3])
    w.ask("DeleteTopics", 6, TimeoutMs=15_000, Topics=[{"Name": topic}])
    w.settle("a topic's end", lambda: w.ask("Metadata", 12, Topics=[{"Name": topic}])["Topics"][0]["ErrorCode"] == 3)
    del w.topic_ids[old]
    w.topic("again")
    yield "new id", w.id_of(topic) != old
    yield "first offset", w.produce(topic, batch())["BaseOffset"]
    yield "old id in Metadata", w.say("Metadata", 12, Topics=[{"TopicId": old, "Name": None}])["Topics"]
    yield "old id in Fetch", w.say("Fetch", 13, MaxWaitMs=10, MinBytes=1, Topics=[
        {"TopicId": old, "Partitions": [{"Partition": 0, "PartitionMaxBytes": 1000}]}])
    yield "old id in Produce", w.say("Produce", 13, Acks=-1, TimeoutMs=1000, TopicData=[
        {"TopicId": old, "PartitionData": [{"Index": 0, "Records": batch()}]}])


def create_partitions(w):
    topic = w.topic("growing")

    def grow(count, version=3, topic=topic, **more):
        dry = more.pop("ValidateOnly", False)
        answer = w.say("CreatePartitions", version, TimeoutMs=15_000, ValidateOnly=dry, Topics=[
            {"Name": topic, "Count": count, "Assignments": None, **more}])
        return answer["Results"] if isinstance(answer, dict) else answer

    for version in range(4):
        yield f"v{version}", grow(version + 2, version)
    yield "same", grow(5)
    yield "fewer", grow(2)
    yield "zero", grow(0)
    yield "unknown topic", grow(3, topic=w.prefix + "unknown")
    yield "only validated", grow(9, ValidateOnly=True)
    yield "assigned", grow(6, Assignments=[{"BrokerIds": [w.node]}])
    yield "assigned too many", grow(7, Assignments=[{"BrokerIds": [w.node]}] * 2)
    yield "assigned unknown", grow(7, Assignments=[{"BrokerIds": [w.node + 7]}])
    twice = {"Name": topic, "Count": 9, "Assignments": None}
    yield "twice", w.say("CreatePartitions", 3, TimeoutMs=1000, Topics=[twice, twice])["Results"]

    def partitions():
        return sorted(w.say("Metadata", 12, Topics=[{"Name": topic}])["Topics"]["growing"]["Partitions"])

    w.settle("added partitions", lambda: len(partitions()) == 6)
    yield "in the end", partitions()


def describe_topic_partitions(w):
    one, two = w.topic("paged-a", 3), w.topic("paged-b", 3)

    def ask(topics, limit=2000, cursor=None):
        answer = w.say("DescribeTopicPartitions", 0, Topics=[{"Name": topic} for topic in topics],
                       ResponsePartitionLimit=limit, Cursor=cursor)
        return answer

    yield "one", ask([one])
    yield "unknown", ask([w.prefix + "unknown"])
    yield "bad name", ask(["a b"])
    yield "page 1", ask([one, two], 2)
    yield "page 2", ask([one, two], 2, {"TopicName": one, "PartitionIndex": 2})
    yield "page 3", ask([one, two], 2, {"TopicName": two, "PartitionIndex": 1})
    yield "cursor beyond the partitions", ask([one, two], 2, {"TopicName": one, "PartitionIndex": 9})
    yield "cursor of another topic", ask([one], 2, {"TopicName": two, "PartitionIndex": 0})
    yield "negative cursor", ask([one], 2, {"TopicName": one, "PartitionIndex": -1})
    yield "limit 0", ask([one], 0)
    yield "unsorted and twice", list(ask([two, one, two])["Topics"])
    yield "all", {"paged-a", "paged-b"} <= set(ask([])["Topics"])


CASES = (metadata, metadata_unknown, metadata_auto_create, metadata_by_id, create_topics, create_topics_names,
         create_topics_assignments, create_topics_configs, create_topics_twice_in_one, delete_topics, recreated_topic,
         create_partitions, describe_topic_partitions)
