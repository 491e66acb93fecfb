"""DescribeConfigs, AlterConfigs, IncrementalAlterConfigs; DescribeCluster, DescribeLogDirs, FindCoordinator."""


from .batches import batch

TOPIC, BROKER, LOGGER, CLIENT_METRICS, GROUP = 2, 4, 8, 16, 32
SET, DELETE, APPEND, SUBTRACT = 0, 1, 2, 3


def one(answer):
    """The one result, without its configs' order."""
    if not isinstance(answer, dict):
        return answer
    results = answer["Results"]
    return next(iter(results.values())) if isinstance(results, dict) else results[0]


def describe(w, name, kind=TOPIC, version=4, keys=None, **more):
    return one(w.say("DescribeConfigs", version, Resources=[
        {"ResourceType": kind, "ResourceName": name, "ConfigurationKeys": keys}], **more))


def describe_configs(w):
    topic = w.topic("configs", retention_ms=1234, cleanup_policy="compact,delete")
    for version in range(1, 5):
        more = {"IncludeDocumentation": True} if version >= 3 else {}
        yield f"v{version}", describe(w, topic, version=version, IncludeSynonyms=True, **more)
    yield "without synonyms", describe(w, topic, keys=["retention.ms", "segment.ms"])
    yield "some keys", describe(w, topic, keys=["retention.ms", "no.such"])
    yield "no keys", describe(w, topic, keys=[])
    yield "unknown topic", describe(w, w.prefix + "unknown")
    yield "bad name", describe(w, "a b")
    yield "empty name", describe(w, "")
    for kind in (0, 1, 3, 5, 127):
        yield f"kind {kind}", describe(w, "x", kind)
    twice = {"ResourceType": TOPIC, "ResourceName": topic, "ConfigurationKeys": ["retention.ms"]}
    yield "twice", len(w.say("DescribeConfigs", 4, Resources=[twice, twice])["Results"])


def describe_broker_configs(w):
    keys = ["num.partitions", "auto.create.topics.enable", "message.max.bytes", "log.retention.ms", "log.segment.bytes",
            "default.replication.factor", "socket.request.max.bytes", "compression.type", "log.cleanup.policy"]
    yield "this broker", describe(w, str(w.node), BROKER, keys=keys, IncludeSynonyms=True)
    yield "default broker", describe(w, "", BROKER, keys=keys)
    yield "another broker", describe(w, str(w.node + 8), BROKER, keys=keys)
    yield "not a number", describe(w, "first", BROKER, keys=keys)
    yield "another logger", describe(w, str(w.node + 8), LOGGER)


def alter_configs(w):
    topic = w.topic("alter", retention_ms=1234)

    def alter(version=2, name=topic, kind=TOPIC, dry=False, **configs):
        return one_response(w.say("AlterConfigs", version, ValidateOnly=dry, Resources=[
            {"ResourceType": kind, "ResourceName": name,
             "Configs": [{"Name": key.replace("_", "."), "Value": value} for key, value in configs.items()]}]))

    def now():
        w.pause()
        found = describe(w, topic, keys=["retention.ms", "max.message.bytes", "cleanup.policy"])["Configs"]
        return {name: [config["Value"], config["ConfigSource"]] for name, config in found.items()}

    for version in range(3):
        yield f"v{version}", alter(version, max_message_bytes=str(5000 + version))
        yield f"after v{version}", now()
    yield "only validated", alter(dry=True, max_message_bytes="9999")
    yield "unknown", alter(no_such="1")
    yield "bad", alter(retention_ms="x")
    yield "null", alter(retention_ms=None)
    yield "good and bad", alter(retention_ms="77", max_message_bytes="-5")
    yield "after those", now()
    yield "none", alter()
    yield "after none", now()
    yield "unknown topic", alter(name=w.prefix + "unknown", retention_ms="1")
    yield "kind 1", alter(kind=1, retention_ms="1")


def one_response(answer):
    if not isinstance(answer, dict):
        return answer
    responses = answer["Responses"]
    found = next(iter(responses.values())) if isinstance(responses, dict) else responses[0]
    return [found["ErrorCode"], found["ErrorMessage"]]


def incremental_alter_configs(w):
    topic = w.topic("increment", retention_ms=1234)

    def alter(*changes, version=1, name=topic, kind=TOPIC, dry=False):
        return one_response(w.say("IncrementalAlterConfigs", version, ValidateOnly=dry, Resources=[
            {"ResourceType": kind, "ResourceName": name, "Configs": [
                {"Name": key, "ConfigOperation": operation, "Value": value} for key, operation, value in changes]}]))

    def now(*names):
        w.pause()
        found = describe(w, topic, keys=list(names) or ["retention.ms", "max.message.bytes", "cleanup.policy"])["Configs"]
        return {name: [config["Value"], config["ConfigSource"]] for name, config in found.items()}

    yield "v0", alter(("max.message.bytes", SET, "5000"), version=0)
    yield "v1", alter(("max.message.bytes", SET, "6000"))
    yield "after", now()
    yield "delete", alter(("max.message.bytes", DELETE, None))
    yield "delete what is not set", alter(("segment.ms", DELETE, None))
    yield "append", alter(("cleanup.policy", APPEND, "compact"))
    yield "after append", now("cleanup.policy")
    yield "append again", alter(("cleanup.policy", APPEND, "compact"))
    yield "after append again", now("cleanup.policy")
    yield "subtract", alter(("cleanup.policy", SUBTRACT, "delete"))
    yield "after subtract", now("cleanup.policy")
    yield "subtract what is not there", alter(("cleanup.policy", SUBTRACT, "delete"))
    yield "append to a number", alter(("retention.ms", APPEND, "5"))
    yield "subtract to nothing", alter(("cleanup.policy", SUBTRACT, "compact"))
    yield "after all", now()
    yield "operation 9", alter(("retention.ms", 9, "5"))
    yield "same key twice", alter(("retention.ms", SET, "5"), ("retention.ms", SET, "6"))
    yield "set null", alter(("retention.ms", SET, None))
    yield "set bad", alter(("retention.ms", SET, "many"))
    yield "unknown", alter(("no.such", SET, "1"))
    yield "delete unknown", alter(("no.such", DELETE, None))
    yield "only validated", alter(("retention.ms", SET, "99"), dry=True)
    yield "good and bad", alter(("retention.ms", SET, "99"), ("segment.bytes", SET, "1"))
    yield "after those", now()
    yield "32,767 letters", alter(("follower.replication.throttled.replicas", SET, "x" * 32_767))
    yield "empty value", alter(("follower.replication.throttled.replicas", SET, ""))
    yield "none", alter()
    yield "unknown topic", alter(("retention.ms", SET, "1"), name=w.prefix + "unknown")
    yield "kind 1", alter(("retention.ms", SET, "1"), kind=1)
    same = {"ResourceType": TOPIC, "ResourceName": topic, "Configs": [
        {"Name": "retention.ms", "ConfigOperation": SET, "Value": "7"}]}
    answer = w.say("IncrementalAlterConfigs", 1, Resources=[same, same])
    yield "same resource twice", answer if isinstance(answer, str) else sorted(
        each["ErrorCode"] for each in answer["Responses"].values())


def configs_take_effect(w):
    """A change counts for the next request, without a restart."""
    topic = w.topic("effective")
    data = batch(value=b"v" * 500)
    yield "before", w.produce(topic, data)["ErrorCode"]
    w.ask("IncrementalAlterConfigs", 1, Resources=[{"ResourceType": TOPIC, "ResourceName": topic, "Configs": [
        {"Name": "max.message.bytes", "ConfigOperation": SET, "Value": "300"}]}])
    codes = []
    w.settle("a setting's effect", lambda: codes.append(w.produce(topic, data)["ErrorCode"]) or codes[-1])
    yield "after", codes[-1]


def describe_cluster(w):
    for version in range(3):
        yield f"v{version}", w.say("DescribeCluster", version, IncludeClusterAuthorizedOperations=True)
    yield "without operations", w.say("DescribeCluster", 1)
    yield "controllers", w.say("DescribeCluster", 1, EndpointType=2)["ErrorCode"]
    yield "endpoint 9", w.say("DescribeCluster", 1, EndpointType=9)["ErrorCode"]


def describe_log_dirs(w):
    topic = w.topic("log-dirs", 2)
    w.fill(topic, [3])
    for version in range(1, 6):
        yield f"v{version}", w.say("DescribeLogDirs", version, Topics=[{"Topic": topic, "Partitions": [0]}])
    yield "unknown topic", w.say("DescribeLogDirs", 4, Topics=[{"Topic": w.prefix + "unknown", "Partitions": [0]}])
    yield "unknown partition", w.say("DescribeLogDirs", 4, Topics=[{"Topic": topic, "Partitions": [9]}])
    yield "none", w.say("DescribeLogDirs", 4, Topics=[])
    everything = w.say("DescribeLogDirs", 4, Topics=None)["Results"]
    yield "all has it", any("log-dirs" in each["Topics"] for each in everything)


def find_coordinator(w):
    def settle(**more):
        """A real broker first makes the topic that the answer depends on."""
        w.settle("a coordinator's topic", lambda: w.ask("FindCoordinator", 2, **more)["ErrorCode"] != 15)

    settle(Key="group", KeyType=0)
    settle(Key="transaction", KeyType=1)
    for version in range(4):
        more = {"KeyType": 0} if version else {}
        yield f"v{version}", w.say("FindCoordinator", version, Key="group", **more)
    for version in range(4, 7):
        yield f"v{version}", w.say("FindCoordinator", version, KeyType=0, CoordinatorKeys=["group", "other"])
    yield "transaction", w.say("FindCoordinator", 4, KeyType=1, CoordinatorKeys=["transaction"])
    yield "kind 9", w.say("FindCoordinator", 4, KeyType=9, CoordinatorKeys=["x"])
    yield "empty group", w.say("FindCoordinator", 4, KeyType=0, CoordinatorKeys=[""])
    yield "none", w.say("FindCoordinator", 4, KeyType=0, CoordinatorKeys=[])
    yield "bad share key", w.say("FindCoordinator", 6, KeyType=2, CoordinatorKeys=["x"])


CASES = (describe_configs, describe_broker_configs, alter_configs, incremental_alter_configs, configs_take_effect,
         describe_cluster, describe_log_dirs, find_coordinator)
