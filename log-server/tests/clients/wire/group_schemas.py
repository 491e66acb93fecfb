"""The messages of KIP-848, whose schemas the kafka-python package does not ship, in the form in which it ships them."""


def field(name, kind, fields=None):
    return {"name": name, "type": kind, "versions": "0+", **({"fields": fields} if fields else {})}


ASSIGNMENT = [field("TopicPartitions", "[]TopicPartitions", [
    field("TopicId", "uuid"), field("TopicName", "string"), field("Partitions", "[]int32")])]


def nullable(name):
    return {"name": name, "type": "string", "versions": "0+", "nullableVersions": "0+"}


def optional(name, kind, since=0, fields=None):
    return {**field(name, kind, fields), "versions": f"{since}+", "nullableVersions": f"{since}+", "default": "null"}


OWNED = [field("TopicId", "uuid"), field("Partitions", "[]int32")]

SCHEMAS = {
    "ConsumerGroupHeartbeatRequest": {
        "apiKey": 68, "type": "request", "name": "ConsumerGroupHeartbeatRequest", "validVersions": "0-1",
        "flexibleVersions": "0+",
        "fields": [
            field("GroupId", "string"), field("MemberId", "string"), field("MemberEpoch", "int32"),
            optional("InstanceId", "string"), optional("RackId", "string"),
            {**field("RebalanceTimeoutMs", "int32"), "default": "-1"}, optional("SubscribedTopicNames", "[]string"),
            optional("SubscribedTopicRegex", "string", 1), optional("ServerAssignor", "string"),
            optional("TopicPartitions", "[]TopicPartitions", 0, OWNED),
        ],
    },
    "ConsumerGroupHeartbeatResponse": {
        "apiKey": 68, "type": "response", "name": "ConsumerGroupHeartbeatResponse", "validVersions": "0-1",
        "flexibleVersions": "0+",
        "fields": [
            field("ThrottleTimeMs", "int32"), field("ErrorCode", "int16"), nullable("ErrorMessage"), nullable("MemberId"),
            field("MemberEpoch", "int32"), field("HeartbeatIntervalMs", "int32"),
            {**field("Assignment", "Assignment", [field("TopicPartitions", "[]TopicPartitions", OWNED)]),
             "nullableVersions": "0+"},
        ],
    },
    "ConsumerGroupDescribeRequest": {
        "apiKey": 69, "type": "request", "name": "ConsumerGroupDescribeRequest", "validVersions": "0-1",
        "flexibleVersions": "0+",
        "fields": [field("GroupIds", "[]string"), field("IncludeAuthorizedOperations", "bool")],
    },
    "ConsumerGroupDescribeResponse": {
        "apiKey": 69, "type": "response", "name": "ConsumerGroupDescribeResponse", "validVersions": "0-1",
        "flexibleVersions": "0+",
        "fields": [field("ThrottleTimeMs", "int32"), field("Groups", "[]DescribedGroup", [
            field("ErrorCode", "int16"), nullable("ErrorMessage"), field("GroupId", "string"),
            field("GroupState", "string"), field("GroupEpoch", "int32"), field("AssignmentEpoch", "int32"),
            field("AssignorName", "string"),
            field("Members", "[]Member", [
                field("MemberId", "string"), nullable("InstanceId"), nullable("RackId"), field("MemberEpoch", "int32"),
                field("ClientId", "string"), field("ClientHost", "string"),
                field("SubscribedTopicNames", "[]string"), nullable("SubscribedTopicRegex"),
                field("Assignment", "Assignment", ASSIGNMENT), field("TargetAssignment", "Assignment", ASSIGNMENT),
                {"name": "MemberType", "type": "int8", "versions": "1+", "default": "-1"},
            ]),
            field("AuthorizedOperations", "int32"),
        ])],
    },
}
