"""ApiVersions, versions out of range, and what is not Kafka at all."""

import struct

from . import codec
from .codec import frame

# Served from the first release on; other keys belong to later ones.
SERVED = ("Produce", "Fetch", "ListOffsets", "Metadata", "FindCoordinator", "ApiVersions", "CreateTopics", "DeleteTopics",
          "DeleteRecords", "InitProducerId", "OffsetForLeaderEpoch", "DescribeConfigs", "AlterConfigs",
          "DescribeLogDirs", "CreatePartitions", "IncrementalAlterConfigs", "DescribeCluster",
          "DescribeTopicPartitions")


def header(api_key, version, client=b"wire"):
    return struct.pack(">hhih", api_key, version, 1, len(client)) + client


def answered(reply):
    """`closed`, `silent`, or the bytes of an answer whose layout no schema here knows."""
    return reply if isinstance(reply, str) else f"answer of {len(reply)} bytes"


def api_versions(w):
    for version in range(5):
        name = {"ClientSoftwareName": "wire", "ClientSoftwareVersion": "1.0"} if version >= 3 else {}
        yield f"v{version}", w.say("ApiVersions", version, **name)


def api_versions_too_new(w):
    for version in (5, 99, 32767):
        reply = w.raw(frame(header(18, version) + b"\0"))
        yield f"v{version}", reply if isinstance(reply, str) else w.comparable(codec.decode_response("ApiVersions", 0, reply)[1])


def api_versions_bad_software_name(w):
    for name in ("", "with space", "-dash-first", "fine-1.0", "ü"):
        answer = w.say("ApiVersions", 3, ClientSoftwareName=name, ClientSoftwareVersion="1.0")
        yield name or "empty", answer["ErrorCode"] if isinstance(answer, dict) else answer


def versions_out_of_range(w):
    for name in SERVED:
        if name == "ApiVersions":
            continue
        key = codec.schema(f"{name}Request")["apiKey"]
        for version in (-1, 99):
            yield f"{name} v{version}", answered(w.raw(frame(header(key, version) + b"\0" * 40), 5))


def every_version_in_range(w):
    """An almost empty request at each version that the broker says it takes: answered in that version's layout?"""
    table = w.ask("ApiVersions", 0)["ApiKeys"]
    ranges = {row["ApiKey"]: (row["MinVersion"], row["MaxVersion"]) for row in table}
    for name in SERVED:
        key = codec.schema(f"{name}Request")["apiKey"]
        first, last = ranges.get(key, (0, -1))
        newest = codec.versions(codec.schema(f"{name}Response")["validVersions"])[1]
        for version in range(first, min(last, newest) + 1):
            fields = {"Acks": -1, "TimeoutMs": 100} if name == "Produce" else {}
            answer = w.say(name, version, **fields)
            yield f"{name} v{version}", "decoded" if isinstance(answer, dict) else answer


def produce_below_range(w):
    for version in (0, 1, 2):
        body = struct.pack(">hii", -1, 1000, 0)
        yield f"v{version}", answered(w.raw(frame(header(0, version) + body), 5))


def unknown_api_key(w):
    for key in (999, -1, 4, 5, 6, 7, 10_000):
        yield str(key), answered(w.raw(frame(header(key, 0) + b"\0" * 8), 5))


def bad_frames(w):
    good = codec.encode_request("Metadata", 12, {"Topics": None})
    yield "length 0", answered(w.raw(struct.pack(">i", 0), 5))
    yield "length -1", answered(w.raw(struct.pack(">i", -1), 5))
    yield "length 2^31-1", answered(w.raw(struct.pack(">i", 0x7FFFFFFF), 5))
    yield "length 100 MiB and one", answered(w.raw(struct.pack(">i", 104_857_601), 5))
    yield "header only", answered(w.raw(frame(header(3, 12)), 5))
    yield "half a header", answered(w.raw(frame(b"\0\3\0"), 5))
    yield "body cut short", answered(w.raw(frame(good[4:-3]), 5))
    yield "body with bytes left over", answered(w.raw(frame(good[4:] + b"\0\0\0"), 5)) != "closed"
    yield "array of 2^31-1", answered(w.raw(frame(header(3, 1) + struct.pack(">i", 0x7FFFFFFF)), 5))
    yield "array of -2", answered(w.raw(frame(header(3, 1) + struct.pack(">i", -2)), 5)) != "closed"
    yield "string beyond the frame", answered(w.raw(frame(header(3, 1) + struct.pack(">ih", 1, 0x7FFF)), 5))
    yield "null client id", answered(w.raw(frame(struct.pack(">hhih", 18, 0, 1, -1)), 5)) != "closed"
    yield "half a frame and goodbye", answered(w.raw(good[:10], 5, half_close=True))


def other_protocols(w):
    yield "http", isinstance(w.raw(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", 5), bytes)
    hello = bytes.fromhex("16030100c8010000c40303") + bytes(190)
    yield "tls", isinstance(w.raw(hello, 5), bytes)


def pipelining(w):
    """Answers come in the order of the requests, though the first one has to wait."""
    topic = w.topic("pipelined")
    requests = [codec.encode_request("Fetch", 12, {"MaxWaitMs": 300, "MinBytes": 1, "Topics": [
                    {"Topic": topic, "Partitions": [{"Partition": 0, "PartitionMaxBytes": 1000}]}]}, 1)]
    requests += [codec.encode_request("Metadata", 12, {"Topics": []}, number) for number in (2, 3, 4)]
    w.connect()
    w.socket.sendall(b"".join(requests))
    yield "order", [struct.unpack_from(">i", w.read_frame())[0] for _ in requests]
    w.close()


CASES = (api_versions, api_versions_too_new, api_versions_bad_software_name, versions_out_of_range,
         every_version_in_range, produce_below_range, unknown_api_key, bad_frames, other_protocols, pipelining)
