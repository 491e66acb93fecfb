"""A member of a group through confluent-kafka, that is librdkafka; PROTOCOL is `classic` or `consumer`."""

from confluent_kafka import Consumer, KafkaException, TopicPartition

from group_member import (BOOTSTRAP, GROUP, HEARTBEAT_MS, PROTOCOL, SESSION_MS, TOPIC, Leave, Owned, committed,
                          delivered, say)

settings = {"bootstrap.servers": BOOTSTRAP, "group.id": GROUP, "group.protocol": PROTOCOL, "enable.auto.commit": False,
            "auto.offset.reset": "earliest", "fetch.wait.max.ms": 50, "reconnect.backoff.max.ms": 500}
if PROTOCOL == "classic":
    settings |= {"session.timeout.ms": SESSION_MS, "heartbeat.interval.ms": HEARTBEAT_MS}

leave, owned = Leave(), Owned()
consumer = Consumer(settings)


def numbers(partitions):
    return [one.partition for one in partitions]


consumer.subscribe([TOPIC], on_assign=lambda _, some: owned.add(numbers(some)),
                   on_revoke=lambda _, some: owned.remove(numbers(some)),
                   on_lost=lambda _, some: owned.remove(numbers(some)))
while not leave:
    messages = consumer.consume(100, 0.1)
    for message in messages:
        if message.error():
            say("error", text=str(message.error()))
    ends = delivered((one.partition(), one.offset()) for one in messages if not one.error())
    if ends:
        try:
            done = consumer.commit(offsets=[TopicPartition(TOPIC, *end) for end in ends.items()], asynchronous=False)
            committed({one.partition: one.offset for one in done if not one.error})
        except KafkaException as failure:
            say("refused", text=str(failure))
consumer.close()
