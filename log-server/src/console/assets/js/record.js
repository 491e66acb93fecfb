// A record as the API gives it, for people: bytes, text, previews, and how to read on from it by other means.

export function bytesOf(record, field) {
  const base64 = record[`${field}_base64`];
  if (base64 != null) return Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
  const text = record[field];
  return text == null ? null : new TextEncoder().encode(text);
}

// Text, null for nothing, undefined for bytes that are no text.
export const textOf = (record, field) => (record[`${field}_base64`] != null ? undefined : record[field] ?? null);

const PREVIEW = 240;

export function preview(record, field) {
  const text = textOf(record, field);
  if (text === null) return { text: "null", kind: "null" };
  if (text === undefined) {
    const bytes = bytesOf(record, field);
    return { text: [...bytes.slice(0, 24)].map(hex2).join(" ") + (bytes.length > 24 ? " …" : ""), kind: "bytes" };
  }
  return { text: text.length > PREVIEW ? `${text.slice(0, PREVIEW)}…` : text, kind: text === "" ? "empty" : "" };
}

const hex2 = (byte) => byte.toString(16).padStart(2, "0");

const HEX_MAX = 64 << 10;

// Lines of 16 bytes: place, hexadecimal, characters.
export function hexDump(bytes) {
  const lines = [];
  for (let at = 0; at < Math.min(bytes.length, HEX_MAX); at += 16) {
    const row = [...bytes.slice(at, at + 16)];
    const hex = row.map((byte, place) => hex2(byte) + (place === 7 ? " " : "")).join(" ");
    const text = row.map((byte) => (byte >= 32 && byte < 127 ? String.fromCharCode(byte) : ".")).join("");
    lines.push(`${at.toString(16).padStart(8, "0")}  ${hex.padEnd(49)}  ${text}`);
  }
  if (bytes.length > HEX_MAX) lines.push(`… ${bytes.length - HEX_MAX} bytes more`);
  return lines.join("\n");
}

const quote = (text) => (/^[A-Za-z0-9._-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`);

// Ways to go on from a record without this page.
export function snippets({ topic, partition, offset, http, kafka }) {
  const records = `${http}v1/topics/${encodeURIComponent(topic)}`;
  return [
    ["curl", `curl -s "${records}/partitions/${partition}/records?offset=${offset}&limit=100"`],
    ["curl, follow", `curl -sN "${records}/follow?partitions=${partition}&offset=${offset}"`],
    ["stratalog", `stratalog consume ${quote(topic)} -b ${kafka} --partition ${partition} --offset ${offset} --follow`],
    ["kcat", `kcat -b ${kafka} -C -t ${quote(topic)} -p ${partition} -o ${offset}`],
    ["Python", `from confluent_kafka import Consumer, TopicPartition

consumer = Consumer({"bootstrap.servers": "${kafka}", "group.id": "replay", "enable.auto.commit": False})
consumer.assign([TopicPartition(${JSON.stringify(topic)}, ${partition}, ${offset})])
while True:
    record = consumer.poll(1.0)
    if record is not None and record.error() is None:
        print(record.offset(), record.key(), record.value())`],
    ["Java", `var consumer = new KafkaConsumer<>(Map.of("bootstrap.servers", "${kafka}"), new ByteArrayDeserializer(), new ByteArrayDeserializer());
var partition = new TopicPartition(${JSON.stringify(topic)}, ${partition});
consumer.assign(List.of(partition));
consumer.seek(partition, ${offset}L);
while (true) consumer.poll(Duration.ofSeconds(1)).forEach(System.out::println);`],
  ];
}
