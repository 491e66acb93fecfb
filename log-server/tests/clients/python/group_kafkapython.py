"""A member of a group through kafka-python, which has the classic protocol only."""

from kafka import ConsumerRebalanceListener, KafkaConsumer, TopicPartition
from kafka.errors import KafkaError
from kafka.structs import OffsetAndMetadata

from group_member import (BOOTSTRAP, GROUP, HEARTBEAT_MS, SESSION_MS, TOPIC, Leave, Owned, committed, delivered, say)

leave, owned = Leave(), Owned()


class Listener(ConsumerRebalanceListener):
    def on_partitions_assigned(self, assigned):
        owned.add(one.partition for one in assigned)

    def on_partitions_revoked(self, revoked):
        owned.remove(one.partition for one in revoked)

    def on_partitions_lost(self, lost):
        owned.remove(one.partition for one in lost)


consumer = KafkaConsumer(bootstrap_servers=BOOTSTRAP, group_id=GROUP, enable_auto_commit=False,
                         auto_offset_reset="earliest", session_timeout_ms=SESSION_MS,
                         heartbeat_interval_ms=HEARTBEAT_MS, fetch_max_wait_ms=50, reconnect_backoff_max_ms=500)
consumer.subscribe([TOPIC], listener=Listener())
while not leave:
    try:
        batches = consumer.poll(100)
        ends = delivered((where.partition, one.offset) for where, records in batches.items() for one in records)
        if ends:
            consumer.commit({TopicPartition(TOPIC, partition): OffsetAndMetadata(end, "", -1)
                             for partition, end in ends.items()})
            committed(ends)
    except KafkaError as failure:
        say("refused", text=repr(failure))
consumer.close()
