"""A member of a group through aiokafka, which has the classic protocol only."""

import asyncio
import signal

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import KafkaError

from group_member import BOOTSTRAP, GROUP, HEARTBEAT_MS, SESSION_MS, TOPIC, Owned, committed, delivered, say

owned = Owned()


class Listener(ConsumerRebalanceListener):
    async def on_partitions_assigned(self, assigned):
        owned.add(one.partition for one in assigned)

    async def on_partitions_revoked(self, revoked):
        owned.remove(one.partition for one in revoked)


async def main():
    leave = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, leave.set)
    consumer = AIOKafkaConsumer(bootstrap_servers=BOOTSTRAP, group_id=GROUP, enable_auto_commit=False,
                                auto_offset_reset="earliest", session_timeout_ms=SESSION_MS,
                                heartbeat_interval_ms=HEARTBEAT_MS, fetch_max_wait_ms=50)
    consumer.subscribe([TOPIC], listener=Listener())
    await consumer.start()
    while not leave.is_set():
        try:
            batches = await consumer.getmany(timeout_ms=100)
            ends = delivered((where.partition, one.offset) for where, records in batches.items() for one in records)
            if ends:
                await consumer.commit({TopicPartition(TOPIC, partition): end for partition, end in ends.items()})
                committed(ends)
        except KafkaError as failure:
            say("refused", text=repr(failure))
    # What was assigned is given up before the group is told.
    owned.set([])
    await consumer.stop()


asyncio.run(main())
