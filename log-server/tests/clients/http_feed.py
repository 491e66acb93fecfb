"""HTTP as one of the programs of feeds.py: a feed goes in as one stream of NDJSON, and comes out in every form that reading and
following have, which must all say the same: JSON, JSON with base64, NDJSON, record batches, events, lines, and single values.

Runs in the Python environment of the client tests: batches are taken apart, and their checksums looked at, by kafka-python.
"""

import base64
import http.client
import json
import urllib.parse
import zlib

from kafka.record import MemoryRecords

SECONDS_MAX = 300
# Pieces of the body; where they end is no concern of the lines.
PIECE_BYTES = 50_001
# Reading in base64 goes over many pages, the other forms take what the broker gives.
SMALL_PAGE = 100
UNTIL_END = {"reason": "until"}


class Http:
    """The API of one broker, on one connection. A body goes in as it is, or compressed with gzip."""

    sets_timestamps = True
    codecs = ("none", "gzip")

    def __init__(self, address):
        self.connection = http.client.HTTPConnection(address, timeout=SECONDS_MAX)

    @staticmethod
    def kept(headers):
        return headers

    # -- in

    def write(self, topic, codec, feed):
        """The last line of the answer says whether everything was read and written."""
        text = "".join(line(*record) for record in feed).encode()
        pieces = (text[at:at + PIECE_BYTES] for at in range(0, len(text), PIECE_BYTES))
        kind = {"content-type": "application/x-ndjson"}
        if codec == "gzip":
            pieces, kind["content-encoding"] = packed(pieces), "gzip"
        # A body that is made of pieces is sent in chunks, without its length.
        _, answer = self.ask("POST", f"/v1/topics/{topic}/records", pieces, kind)
        last = json.loads(answer.splitlines()[-1])
        if last != {"done": True, "lines": len(feed), "records": len(feed), "failed": 0}:
            raise RuntimeError(f"{len(feed)} lines went in, and the answer ends with {last}")

    # -- out

    def read(self, topic, wanted):
        return [self.read_one(topic, *one) for one in wanted]

    def read_one(self, topic, partition, position, at):
        """What JSON says, if all other forms say it, too."""
        start = {position: at}
        rows = self.by_page(topic, partition, start, {}, from_document)
        others = {
            "base64": self.by_page(topic, partition, start,
                                   {"encoding": "base64", "key_encoding": "base64", "limit": SMALL_PAGE}, from_base64),
            "ndjson": self.by_page(topic, partition, start, {"format": "ndjson"}, from_lines),
            # The first batch may begin before the record that is asked for.
            "batches": [row for row in self.by_page(topic, partition, start, {"format": "batches"}, from_batches)
                        if not rows or rows[0][0] <= row[0]],
            "events": self.follow(topic, partition, {**start, "format": "sse"}, from_events),
            "lines": self.follow(topic, partition, {**start, "format": "ndjson"}, from_stream),
        }
        for form, found in others.items():
            if found != rows:
                place = next((at for at, pair in enumerate(zip(rows, found)) if pair[0] != pair[1]), min(len(rows), len(found)))
                raise RuntimeError(f"{topic}-{partition} from {position} {at}: JSON has {len(rows)} records and {form} {len(found)}; "
                                   f"at {place} {rows[place:place + 1]} and {found[place:place + 1]}")
        for row in {rows[0], rows[len(rows) // 2], rows[-1]} if rows else ():
            self.check_value(topic, partition, row)
        if rows:
            self.check_resumed(topic, partition, rows[len(rows) // 2:])
        return rows

    def by_page(self, topic, partition, start, form, parse):
        """Goes from page to page by their links, until one is empty."""
        address = records(topic, partition, {**start, **form})
        rows = []
        while True:
            answer, content = self.ask("GET", address)
            page = parse(content)
            rows += page
            if not page:
                return rows
            address = answer.headers["link"].split(">")[0].removeprefix("<")

    def follow(self, topic, partition, query, parse, **more):
        query = urllib.parse.urlencode({**query, "partitions": partition, "until": "end"})
        _, content = self.ask("GET", f"/v1/topics/{topic}/follow?{query}", **more)
        return parse(content)

    def check_value(self, topic, partition, row):
        """One record by itself: its bytes, and the rest in headers."""
        offset, timestamp, _, value, _ = row
        answer, content = self.ask("GET", records(topic, partition, {"offset": offset, "format": "value"}))
        found = (int(answer.headers["x-offset"]), int(answer.headers["x-timestamp"]), content)
        if found != (offset, timestamp, value.encode()):
            raise RuntimeError(f"{topic}-{partition}: the value at {offset} is {found}, not {row}")

    def check_resumed(self, topic, partition, rows):
        """A follower that comes back with the id of an event hears of what is behind it."""
        last_heard = {"last-event-id": f"{partition}:{rows[0][0]}"}
        found = self.follow(topic, partition, {}, from_events, headers=last_heard)
        if found != rows:
            raise RuntimeError(f"{topic}-{partition}: {len(found)} records behind {last_heard}, not {len(rows)}")

    def ask(self, method, address, body=None, headers=None):
        self.connection.request(method, address, body, headers or {})
        answer = self.connection.getresponse()
        content = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"{method} {address}: {answer.status} {content[:500]!r}")
        return answer, content


def records(topic, partition, query):
    return f"/v1/topics/{topic}/partitions/{partition}/records?{urllib.parse.urlencode(query)}"


def line(key, value, at, headers):
    pairs = [pair.split("=", 1) for pair in headers.split(",")] if headers else []
    record = {"key": key, "value": value, "headers": [{"name": name, "value": text} for name, text in pairs]}
    if at is not None:
        record["timestamp"] = at
    return json.dumps(record, ensure_ascii=False) + "\n"


def packed(pieces):
    packer = zlib.compressobj(wbits=31)
    for piece in pieces:
        yield packer.compress(piece)
    yield packer.flush()


# -- what each form has, as rows (offset, timestamp, key, value, headers)

def row_of(record, text=lambda record, field: record[field]):
    headers = ",".join(f"{one['name']}={one['value']}" for one in record.get("headers", ()))
    return record["offset"], record["timestamp"], text(record, "key"), text(record, "value"), headers


def unpacked(record, field):
    return base64.b64decode(record[f"{field}_base64"], validate=True).decode()


def from_document(content):
    return [row_of(record) for record in json.loads(content)["records"]]


def from_base64(content):
    return [row_of(record, unpacked) for record in json.loads(content)["records"]]


def from_lines(content):
    return [row_of(json.loads(text)) for text in content.splitlines()]


def from_stream(content):
    """Lines, of which empty ones are heartbeats, and the last is the end."""
    *lines, last = filter(None, content.splitlines())
    if json.loads(last) != {"end": UNTIL_END}:
        raise RuntimeError(f"the lines end with {last}")
    return from_lines(b"\n".join(lines))


def from_events(content):
    *events, rest = content.decode().split("\n\n")
    fields = [dict(text.split(": ", 1) for text in event.split("\n")) for event in events]
    last = fields.pop()
    if rest or last.get("event") != "end" or json.loads(last["data"]) != UNTIL_END:
        raise RuntimeError(f"the events end with {last} {rest!r}")
    rows = []
    for event in fields:
        if "event" in event:
            raise RuntimeError(f"{event} among the records")
        # One without data is a heartbeat.
        if "data" in event:
            record = json.loads(event["data"])
            if event["id"] != f"{record['partition']}:{record['offset'] + 1}":
                raise RuntimeError(f"{event} has another id than its record")
            rows.append(row_of(record))
    return rows


def from_batches(content):
    batches, rows = MemoryRecords(content), []
    while batches.has_next():
        batch = batches.next_batch()
        if not batch.validate_crc():
            raise RuntimeError(f"the batch at {batch.base_offset} fails its checksum")
        for record in batch:
            headers = ",".join(f"{name}={value.decode()}" for name, value in record.headers)
            rows.append((record.offset, record.timestamp, record.key.decode(), record.value.decode(), headers))
    return rows
