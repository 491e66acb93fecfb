"""Clients' own metrics (KIP-714): GetTelemetrySubscriptions, PushTelemetry, and subscriptions as settings.

The real Kafka of this comparison has a plugin that takes all metrics (`java/TakesClientMetrics.java`); without one it serves neither.
"""

import base64
import gzip
import time

from . import codec
from .configs_and_cluster import CLIENT_METRICS, DELETE, SET, describe, one_response

NO_ID = codec.ZERO_ID
# Instances of the cases' own: the ids of subscriptions follow from them.
FIRST, SECOND, THIRD = (base64.urlsafe_b64encode(bytes([start]) * 16).decode()[:22] for start in (17, 34, 51))
# MetricsData with the gauge "g", which is 1.
METRICS = bytes.fromhex("0a14121212100a01672a0b0a0921000000000000f03f")
INTERVAL_MS = 1000


def subscribe(w, name, *changes):
    answer = w.say("IncrementalAlterConfigs", 1, Resources=[{"ResourceType": CLIENT_METRICS, "ResourceName": name, "Configs": [
        {"Name": key, "ConfigOperation": operation, "Value": value} for key, operation, value in changes]}])
    w.pause()
    return one_response(answer)


def unsubscribe(w, name):
    return subscribe(w, name, *((key, DELETE, None) for key in ("metrics", "interval.ms", "match")))


def ask(w, instance=NO_ID):
    return w.say("GetTelemetrySubscriptions", 0, ClientInstanceId=instance)


def push(w, instance, subscription, metrics=METRICS, terminating=False, compression=0):
    answer = w.say("PushTelemetry", 0, ClientInstanceId=instance, SubscriptionId=subscription, Terminating=terminating,
                   CompressionType=compression, Metrics=metrics)
    return answer if isinstance(answer, str) else answer["ErrorCode"]


def hello(w):
    w.ask("ApiVersions", 3, ClientSoftwareName="wire", ClientSoftwareVersion="1.0")


def telemetry_configs(w):
    name = w.prefix + "subscription"
    yield "unknown", describe(w, name, CLIENT_METRICS, IncludeSynonyms=True)
    yield "empty name", describe(w, "", CLIENT_METRICS)["ErrorCode"]
    yield "set", subscribe(w, name, ("metrics", SET, "org.apache.kafka.,a"), ("interval.ms", SET, "5000"))
    yield "is set", describe(w, name, CLIENT_METRICS, IncludeSynonyms=True, IncludeDocumentation=True)
    for key, value in (("interval.ms", "99"), ("interval.ms", "100"), ("interval.ms", "3600000"), ("interval.ms", "3600001"),
                       ("interval.ms", "x"), ("interval.ms", ""), ("match", "client_id=a.*,client_source_port=1"),
                       ("match", "client_id"), ("match", "client_id="), ("match", "client_id=a=b"), ("match", "=a"),
                       ("match", "client_id=("), ("match", "colour=red"), ("metrics", "*"), ("no.such", "1")):
        yield f"{key}={value}", subscribe(w, name, (key, SET, value))
    yield "set to nothing", subscribe(w, name, ("interval.ms", SET, None))
    yield "empty name is altered", subscribe(w, "", ("interval.ms", SET, "5000"))
    yield "one is deleted", subscribe(w, name, ("interval.ms", DELETE, None))
    yield "is deleted", describe(w, name, CLIENT_METRICS, keys=["interval.ms", "metrics"])
    answer = w.say("ListConfigResources", 0)["ConfigResources"]
    yield "listed", sorted(answer) if isinstance(answer, dict) else answer
    yield "all are deleted", unsubscribe(w, name)
    answer = w.say("ListConfigResources", 0)["ConfigResources"]
    yield "not listed any more", answer


def telemetry_nothing_wanted(w):
    hello(w)
    answer = ask(w, FIRST)
    yield "asks", answer
    yield "asks again", ask(w, FIRST)
    yield "pushes", push(w, FIRST, answer["SubscriptionId"])
    w.connect()
    answer = ask(w)
    yield "without an id", {**answer, "ClientInstanceId": answer["ClientInstanceId"] != NO_ID, "SubscriptionId": "some"}


def telemetry_pushes(w):
    name = w.prefix + "all"
    subscribe(w, name, ("metrics", SET, "*"), ("interval.ms", SET, str(INTERVAL_MS)), ("match", SET, "client_software_name=wire"))
    stranger = ask(w, THIRD)
    yield "said nothing of its software", [stranger["RequestedMetrics"], stranger["PushIntervalMs"]]
    w.connect()
    hello(w)
    answer = ask(w, FIRST)
    yield "asks", answer
    subscription = answer["SubscriptionId"]
    yield "behind the question", push(w, FIRST, subscription)
    yield "too early", push(w, FIRST, subscription)
    yield "asks too early", ask(w, FIRST)
    yield "no instance", push(w, NO_ID, subscription)
    time.sleep(1.1 * INTERVAL_MS / 1000)
    yield "in time, packed", push(w, FIRST, subscription, gzip.compress(METRICS), compression=1)
    time.sleep(1.1 * INTERVAL_MS / 1000)
    yield "of another subscription", push(w, FIRST, subscription + 1)
    yield "asks behind that", ask(w, FIRST)["ErrorCode"]
    w.connect()
    hello(w)
    subscription = ask(w, SECOND)["SubscriptionId"]
    yield "an unknown codec", push(w, SECOND, subscription, compression=9)
    time.sleep(1.1 * INTERVAL_MS / 1000)
    yield "too large", push(w, SECOND, subscription, bytes(2**20 + 1))
    time.sleep(1.1 * INTERVAL_MS / 1000)
    yield "nothing", push(w, SECOND, subscription, b"")
    yield "the last", push(w, SECOND, subscription, terminating=True)
    time.sleep(1.1 * INTERVAL_MS / 1000)
    yield "after the last", push(w, SECOND, subscription)
    # Over another connection ours may have forgotten it by then, for it said that it was its last push.
    unsubscribe(w, name)


CASES = (telemetry_configs, telemetry_nothing_wanted, telemetry_pushes)
