"""What the Python programs share that read, transform and write in transactions: patience, offsets, and the way back."""

import signal
import time

from confluent_kafka import KafkaException, TopicPartition

PATIENCE_SECONDS_MAX = 60
HANGING_SECONDS = 15


def patiently(step):
    """A step that may be tried again is, as long as the broker is away."""
    until = time.monotonic() + PATIENCE_SECONDS_MAX
    while True:
        try:
            return step(5)
        except KafkaException as failure:
            if not failure.args[0].retriable() or until < time.monotonic():
                raise


def send_offsets(producer, messages, group_metadata):
    """The offsets behind these messages, as a part of the transaction."""
    ends = {}
    for message in messages:
        ends[(message.topic(), message.partition())] = message.offset() + 1
    positions = [TopicPartition(*place, offset) for place, offset in ends.items()]
    # While the coordinator is away this call may never return, whatever its timeout (librdkafka issue 5456): then
    # the process ends here, and the driver starts another.
    signal.alarm(HANGING_SECONDS)
    try:
        patiently(lambda seconds: producer.send_offsets_to_transaction(positions, group_metadata, seconds))
    finally:
        signal.alarm(0)


def rewind(consumer, places):
    """What was read of these partitions and not committed comes again. Returns what went wrong, if anything."""
    try:
        for found in consumer.committed([TopicPartition(*place) for place in places], 10) if places else []:
            found.offset = max(found.offset, 0)
            consumer.seek(found)
    except KafkaException as failure:
        return failure
    return None
