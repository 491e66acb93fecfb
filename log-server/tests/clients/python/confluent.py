"""The scenario through confluent-kafka, that is librdkafka, with its defaults (idempotence switched on)."""

import time

from confluent_kafka import (Consumer, IsolationLevel, KafkaException, Producer, TopicCollection,
                             TopicPartition)
from confluent_kafka.admin import (AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewPartitions,
                                   NewTopic, OffsetSpec)

from scenario import Client, Record, Refused, play

SECONDS_MAX = 30


def code_of(error):
    code = error.code()
    return code if 0 <= code else f"client {error.name()}"


def wait(future):
    try:
        return future.result(SECONDS_MAX)
    except KafkaException as failure:
        raise Refused(code_of(failure.args[0])) from failure


def only(futures):
    [future] = futures.values()
    return wait(future)


class Confluent(Client):
    def __init__(self, bootstrap):
        super().__init__(bootstrap)
        self.admin = AdminClient({"bootstrap.servers": bootstrap})

    def describe_cluster(self):
        cluster = wait(self.admin.describe_cluster())
        return {"nodes": len(cluster.nodes), "controller-known": cluster.controller.id == cluster.nodes[0].id}

    def create_topic(self, topic, partitions, replicas, configs, validate_only=False):
        new = NewTopic(topic, partitions, replicas, config=configs)
        only(self.admin.create_topics([new], validate_only=validate_only))
        while not validate_only and self.admin.list_topics(topic, 5).topics[topic].error:
            time.sleep(0.05)

    def describe_topic(self, topic):
        found = only(self.admin.describe_topics(TopicCollection([topic])))
        return {"partitions": [one.id for one in found.partitions],
                "replicas": sorted({len(one.replicas) for one in found.partitions}),
                "isr": sorted({len(one.isr) for one in found.partitions}),
                "leaders": all(one.leader is not None for one in found.partitions),
                "id": str(found.topic_id) != "AAAAAAAAAAAAAAAAAAAAAA", "internal": found.is_internal}

    def list_topics(self):
        return sorted(self.admin.list_topics(timeout=SECONDS_MAX).topics)

    def produce(self, topic, codec, records):
        settings = {"bootstrap.servers": self.bootstrap, "compression.type": codec, "enable.idempotence": True,
                    "message.timeout.ms": 1000 * SECONDS_MAX}
        producer = Producer(settings)
        reports = []
        for record in records:
            more = {} if record.timestamp is None else {"timestamp": record.timestamp}
            producer.produce(topic, record.value, record.key, record.partition, headers=record.headers,
                             on_delivery=lambda error, message: reports.append((error, message)), **more)
        producer.flush(SECONDS_MAX)
        for error, _ in reports:
            if error:
                raise Refused(code_of(error))
        return [(message.partition(), message.offset(), message.timestamp()[1]) for _, message in reports]

    def fetch(self, topic, partition, offset, count):
        consumer = Consumer({"bootstrap.servers": self.bootstrap, "group.id": "unused", "enable.auto.commit": False,
                             "auto.offset.reset": "error", "check.crcs": True})
        consumer.assign([TopicPartition(topic, partition, offset)])
        records = []
        try:
            while len(records) < count:
                message = consumer.poll(SECONDS_MAX)
                if message is None:
                    raise Refused("client timeout")
                if message.error():
                    raise Refused(code_of(message.error()))
                kind, timestamp = message.timestamp()
                records.append(Record(message.key(), message.value(), timestamp, message.headers() or [],
                                      offset=message.offset(), timestamp_type=kind))
        finally:
            consumer.close()
        return records

    def offsets_for_time(self, topic, partitions, timestamp):
        return self.offsets(topic, partitions, OffsetSpec.for_timestamp(timestamp))

    def list_offsets(self, topic, partitions, position):
        spec = {"earliest": OffsetSpec.earliest, "latest": OffsetSpec.latest,
                "max-timestamp": OffsetSpec.max_timestamp}[position]()
        return self.offsets(topic, partitions, spec)

    def offsets(self, topic, partitions, spec):
        asked = {TopicPartition(topic, partition): spec for partition in partitions}
        answers = self.admin.list_offsets(asked, isolation_level=IsolationLevel.READ_UNCOMMITTED)
        return {where.partition: wait(future).offset for where, future in answers.items()}

    def delete_records(self, topic, offsets):
        asked = [TopicPartition(topic, partition, offset) for partition, offset in offsets.items()]
        answers = self.admin.delete_records(asked)
        return {where.partition: wait(future).low_watermark for where, future in answers.items()}

    def create_partitions(self, topic, total):
        only(self.admin.create_partitions([NewPartitions(topic, total)]))
        while len(self.admin.list_topics(topic, 5).topics[topic].partitions) < total:
            time.sleep(0.05)

    def describe_configs(self, topic):
        entries = only(self.admin.describe_configs([ConfigResource("topic", topic)]))
        return {name: {"value": entry.value, "source": entry.source, "read-only": entry.is_read_only,
                       "default": entry.is_default, "sensitive": entry.is_sensitive,
                       "synonyms": sorted([each.name, each.value, each.source] for each in entry.synonyms.values())}
                for name, entry in sorted(entries.items())}

    def set_config(self, topic, name, value):
        self.alter(topic, ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET))

    def delete_config(self, topic, name):
        self.alter(topic, ConfigEntry(name, None, incremental_operation=AlterConfigOpType.DELETE))

    def alter(self, topic, entry):
        only(self.admin.incremental_alter_configs([ConfigResource("topic", topic, incremental_configs=[entry])]))

    def delete_topic(self, topic):
        only(self.admin.delete_topics([topic]))


play(Confluent)
