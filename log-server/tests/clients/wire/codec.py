"""Encodes requests and decodes responses from Kafka's own message schemas, which the kafka-python package ships.

A message is a dict with the schema's field names; what a request leaves out takes the schema's default. Nothing is
checked on the way out, because the cases want to send what no client would.
"""

import base64
import functools
import struct
import uuid

from kafka.protocol.schemas.load_json import load_json

from . import group_schemas, telemetry_schemas

INTEGERS = {"int8": ">b", "int16": ">h", "uint16": ">H", "int32": ">i", "uint32": ">I", "int64": ">q", "float64": ">d"}
ZERO_ID = "AAAAAAAAAAAAAAAAAAAAAA"


@functools.cache
def schema(name):
    return group_schemas.SCHEMAS.get(name) or telemetry_schemas.SCHEMAS.get(name) or load_json(name)


@functools.cache
def versions(text):
    """(first, last) of a schema's version range, or a range that is never met."""
    if not text or text == "none":
        return (1, 0)
    first, _, last = text.partition("-")
    if text.endswith("+"):
        return (int(text[:-1]), 32767)
    return (int(first), int(last or first))


def within(text, version):
    first, last = versions(text)
    return first <= version <= last


def is_flexible(name, version):
    return within(schema(name)["flexibleVersions"], version)


class Writer:
    def __init__(self):
        self.parts = []

    def put(self, pattern, value):
        self.parts.append(struct.pack(pattern, value))

    def varint(self, value):
        while value > 0x7F:
            self.parts.append(bytes([value & 0x7F | 0x80]))
            value >>= 7
        self.parts.append(bytes([value]))

    def length(self, length, flexible, pattern):
        """A length, or null where it is None."""
        if flexible:
            self.varint(0 if length is None else length + 1)
        else:
            self.put(pattern, -1 if length is None else length)

    def bytes(self):
        return b"".join(self.parts)


class Reader:
    def __init__(self, data):
        self.data = data
        self.at = 0

    def take(self, size):
        if size < 0 or len(self.data) < self.at + size:
            raise ValueError(f"response ends at {len(self.data)}, wanted {size} bytes at {self.at}")
        self.at += size
        return self.data[self.at - size:self.at]

    def get(self, pattern):
        return struct.unpack(pattern, self.take(struct.calcsize(pattern)))[0]

    def varint(self):
        value = shift = 0
        while True:
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    def length(self, flexible, pattern):
        length = self.varint() - 1 if flexible else self.get(pattern)
        return None if length == -1 else length


def default(field):
    kind = field["type"]
    given = field.get("default")
    if kind.startswith("[]"):
        return None if given == "null" else []
    if kind == "string":
        return None if given == "null" else given or ""
    if kind in ("bytes", "records"):
        return None if given == "null" or kind == "records" else b""
    if kind == "uuid":
        return ZERO_ID
    if kind == "bool":
        return given in (True, "true")
    if kind in INTEGERS:
        return int(given, 0) if isinstance(given, str) and given else given or 0
    return None if given == "null" else {}


def write_value(out, kind, field, value, version, flexible):
    if kind.startswith("[]"):
        out.length(None if value is None else len(value), flexible, ">i")
        # `nullableVersions` of such a field is about the array, not about its elements.
        element = {**field, "nullableVersions": None}
        for each in value or ():
            write_value(out, kind[2:], element, each, version, flexible)
    elif kind in INTEGERS:
        out.put(INTEGERS[kind], value)
    elif kind == "bool":
        out.put(">?", value)
    elif kind == "uuid":
        out.parts.append(id_bytes(value))
    elif kind == "string":
        data = None if value is None else value.encode()
        out.length(None if data is None else len(data), flexible, ">h")
        out.parts.append(data or b"")
    elif kind in ("bytes", "records"):
        out.length(None if value is None else len(value), flexible, ">i")
        out.parts.append(value or b"")
    elif value is None:
        out.put(">b", -1)
    else:
        if within(field.get("nullableVersions"), version):
            out.put(">b", 1)
        write_fields(out, field["fields"], value, version, flexible)


def write_fields(out, fields, message, version, flexible):
    unknown = set(message) - {field["name"] for field in fields}
    if unknown:
        raise KeyError(f"no such fields: {unknown}")
    tagged = []
    for field in fields:
        if within(field.get("taggedVersions"), version):
            if field["name"] in message:
                tagged.append(field)
        elif within(field["versions"], version):
            value = message.get(field["name"], default(field))
            strict = flexible and not within(field.get("flexibleVersions", "0+"), version)
            write_value(out, field["type"], field, value, version, flexible and not strict)
    if flexible:
        out.varint(len(tagged))
        for field in tagged:
            part = Writer()
            write_value(part, field["type"], field, message[field["name"]], version, True)
            out.varint(field["tag"])
            out.varint(len(part.bytes()))
            out.parts.append(part.bytes())


def read_value(data, kind, field, version, flexible):
    if kind.startswith("[]"):
        count = data.length(flexible, ">i")
        element = {**field, "nullableVersions": None}
        return None if count is None else [read_value(data, kind[2:], element, version, flexible) for _ in range(count)]
    if kind in INTEGERS:
        return data.get(INTEGERS[kind])
    if kind == "bool":
        return data.get(">?")
    if kind == "uuid":
        return id_text(data.take(16))
    if kind == "string":
        length = data.length(flexible, ">h")
        return None if length is None else data.take(length).decode()
    if kind in ("bytes", "records"):
        length = data.length(flexible, ">i")
        return None if length is None else data.take(length)
    if within(field.get("nullableVersions"), version) and data.get(">b") < 0:
        return None
    return read_fields(data, field["fields"], version, flexible)


def read_fields(data, fields, version, flexible):
    message = {}
    for field in fields:
        if within(field["versions"], version) and not within(field.get("taggedVersions"), version):
            message[field["name"]] = read_value(data, field["type"], field, version, flexible)
    if flexible:
        known = {field["tag"]: field for field in fields if within(field.get("taggedVersions"), version)}
        for _ in range(data.varint()):
            tag, size = data.varint(), data.varint()
            part = Reader(data.take(size))
            if tag in known:
                message[known[tag]["name"]] = read_value(part, known[tag]["type"], known[tag], version, True)
            else:
                message[f"tag {tag}"] = part.data.hex()
    return message


def encode_request(name, version, message, correlation=1, client="wire"):
    """A whole frame, its length in front."""
    out = Writer()
    out.put(">h", schema(f"{name}Request")["apiKey"])
    out.put(">h", version)
    out.put(">i", correlation)
    out.length(len(client), False, ">h")
    out.parts.append(client.encode())
    flexible = is_flexible(f"{name}Request", version)
    if flexible:
        out.varint(0)
    write_fields(out, schema(f"{name}Request")["fields"], message, version, flexible)
    return frame(out.bytes())


def frame(body):
    return struct.pack(">i", len(body)) + body


def decode_response(name, version, data):
    """(correlation id, message). Bytes left over are an error: the layout would be another version's."""
    reader = Reader(data)
    correlation = reader.get(">i")
    flexible = is_flexible(f"{name}Response", version)
    if flexible and name != "ApiVersions":
        for _ in range(reader.varint()):
            reader.varint()
            reader.take(reader.varint())
    message = read_fields(reader, schema(f"{name}Response")["fields"], version, flexible)
    if reader.at != len(data):
        raise ValueError(f"{name} v{version}: {len(data) - reader.at} bytes left over")
    return correlation, message


def id_bytes(text):
    return base64.urlsafe_b64decode(text + "==")


def id_text(data):
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def random_id():
    return id_text(uuid.uuid4().bytes)
