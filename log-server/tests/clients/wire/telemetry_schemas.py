"""The messages of KIP-714, whose schemas the kafka-python package does not ship, in the form in which it ships others."""

from .group_schemas import field


def message(name, key, kind, *fields):
    return {"apiKey": key, "type": kind, "name": name, "validVersions": "0", "flexibleVersions": "0+", "fields": list(fields)}


SCHEMAS = {each["name"]: each for each in (
    message("GetTelemetrySubscriptionsRequest", 71, "request", field("ClientInstanceId", "uuid")),
    message("GetTelemetrySubscriptionsResponse", 71, "response",
            field("ThrottleTimeMs", "int32"), field("ErrorCode", "int16"), field("ClientInstanceId", "uuid"),
            field("SubscriptionId", "int32"), field("AcceptedCompressionTypes", "[]int8"), field("PushIntervalMs", "int32"),
            field("TelemetryMaxBytes", "int32"), field("DeltaTemporality", "bool"), field("RequestedMetrics", "[]string")),
    message("PushTelemetryRequest", 72, "request",
            field("ClientInstanceId", "uuid"), field("SubscriptionId", "int32"), field("Terminating", "bool"),
            field("CompressionType", "int8"), field("Metrics", "bytes")),
    message("PushTelemetryResponse", 72, "response", field("ThrottleTimeMs", "int32"), field("ErrorCode", "int16")),
)}
