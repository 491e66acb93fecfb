"""A producer and a consumer of librdkafka (confluent-kafka) that push their own metrics: BOOTSTRAP TOPIC PREFIX.

They work until something comes in, and say first that both have heard of the broker.
"""

import select
import sys

from confluent_kafka import Consumer, Producer, TopicPartition

BOOTSTRAP, TOPIC, PREFIX = sys.argv[1:4]

producer = Producer({"bootstrap.servers": BOOTSTRAP, "client.id": f"{PREFIX}-producer"})
consumer = Consumer({"bootstrap.servers": BOOTSTRAP, "client.id": f"{PREFIX}-consumer", "group.id": f"{PREFIX}-group",
                     "auto.offset.reset": "earliest"})
consumer.assign([TopicPartition(TOPIC, 0, 0)])
for one in (producer, consumer):
    one.list_topics(TOPIC, 30)
print("ready", flush=True)
while not select.select([sys.stdin], [], [], 0)[0]:
    producer.produce(TOPIC, b"value")
    producer.flush(10)
    consumer.consume(100, 0.02)
consumer.close()
