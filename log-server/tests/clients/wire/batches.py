"""Record batches by hand, so that every field can be wrong on purpose, and a short view of those that come back."""

import struct
import zlib

HEADER = ">qiibIhiqqqhii"
HEADER_SIZE = struct.calcsize(HEADER)
CRC_AT = 17


def crc_table():
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    return table


TABLE = crc_table()


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ TABLE[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def zigzag(value):
    value = value << 1 ^ value >> 63
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def sized(data):
    return zigzag(-1) if data is None else zigzag(len(data)) + data


def record(offset_delta, key=b"k", value=b"v", timestamp_delta=0, headers=()):
    body = b"\0" + zigzag(timestamp_delta) + zigzag(offset_delta) + sized(key) + sized(value) + zigzag(len(headers))
    body += b"".join(sized(name) + sized(data) for name, data in headers)
    return zigzag(len(body)) + body


def batch(count=1, timestamp=1_700_000_000_000, key=b"k", value=b"v", records=None, pid=-1, epoch=-1, sequence=-1,
          attributes=0, magic=2, base_offset=0, leader_epoch=-1, last_delta=None, record_count=None, max_timestamp=None,
          step=0, crc_mask=0, length_extra=0, packed=None):
    """A batch of `count` like records, `step` milliseconds apart, or of the given encoded `records`. `packed` is what
    stands for the records as it is, compressed already."""
    body = records if packed is None else packed
    if body is None:
        body = b"".join(record(i, key, value, i * step) for i in range(count))
    if attributes & 7 == 1 and packed is None:
        packer = zlib.compressobj(wbits=31)
        body = packer.compress(body) + packer.flush()
    last_delta = count - 1 if last_delta is None else last_delta
    record_count = count if record_count is None else record_count
    max_timestamp = timestamp + (count - 1) * step if max_timestamp is None else max_timestamp
    head = struct.pack(HEADER, base_offset, HEADER_SIZE - 12 + len(body) + length_extra, leader_epoch, magic, 0, attributes,
                       last_delta, timestamp, max_timestamp, pid, epoch, sequence, record_count)
    data = bytearray(head + body)
    struct.pack_into(">I", data, CRC_AT, crc32c(data[CRC_AT + 4:]) ^ crc_mask)
    return bytes(data)


def old_message(magic, value=b"v"):
    """A message set of format 0 or 1, as clients before 0.11 sent it."""
    body = struct.pack(">bb", magic, 0) + (struct.pack(">q", 1_700_000_000_000) if magic else b"")
    body += struct.pack(">i", -1) + struct.pack(">i", len(value)) + value
    message = struct.pack(">I", zlib.crc32(body)) + body
    return struct.pack(">qi", 0, len(message)) + message


def view(data):
    """The batches of a fetch answer: offsets, times and whose they are. An incomplete last one is only named."""
    shown = []
    while data:
        if len(data) < HEADER_SIZE or len(data) < 12 + struct.unpack_from(">i", data, 8)[0]:
            shown.append("incomplete")
            break
        (base, length, leader_epoch, magic, crc, attributes, last_delta, first_time, last_time, pid, epoch, sequence,
         count) = struct.unpack_from(HEADER, data)
        whole, data = data[:12 + length], data[12 + length:]
        shown.append({"base": base, "last": base + last_delta, "records": count, "leader-epoch": leader_epoch,
                      "magic": magic, "attributes": attributes, "first-time": first_time, "last-time": last_time,
                      "ProducerId": pid, "producer-epoch": epoch, "sequence": sequence,
                      "crc": crc == crc32c(whole[CRC_AT + 4:])})
    return shown
