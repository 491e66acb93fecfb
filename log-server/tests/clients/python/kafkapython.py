"""The scenario through kafka-python with its defaults (its producer is idempotent)."""

import kafka.errors as errors
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.protocol.consumer.offsets import OffsetSpec

from scenario import Client, Record, Refused, play

MILLISECONDS_MAX = 30_000


def ask(call, *arguments, **more):
    try:
        return call(*arguments, **more)
    except errors.KafkaError as failure:
        raise Refused(code_of(failure)) from failure


def code_of(failure):
    code = getattr(failure, "errno", None)
    return code if isinstance(code, int) and 0 < code else f"client {type(failure).__name__}"


class KafkaPython(Client):
    sends_null_headers = False

    def __init__(self, bootstrap):
        super().__init__(bootstrap)
        self.admin = KafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=MILLISECONDS_MAX)

    def describe_cluster(self):
        cluster = self.admin.describe_cluster()
        return {"nodes": len(cluster["brokers"]), "cluster-id": bool(cluster["cluster_id"]),
                "controller-known": cluster["controller_id"] == cluster["brokers"][0]["broker_id"]}

    def create_topic(self, topic, partitions, replicas, configs, validate_only=False):
        new = {topic: {"num_partitions": partitions, "replication_factor": replicas, "configs": configs}}
        answer = ask(self.admin.create_topics, new, validate_only=validate_only, wait_for_metadata=not validate_only)
        [one] = answer["topics"]
        return {"partitions": one["num_partitions"], "replicas": one["replication_factor"],
                "configs": len(one.get("configs", {}))}

    def describe_topic(self, topic):
        [found] = ask(self.admin.describe_topics, [topic])
        if found["error_code"]:
            raise Refused(found["error_code"])
        partitions = sorted(found["partitions"], key=lambda one: one["partition_index"])
        return {"partitions": [one["partition_index"] for one in partitions],
                "replicas": sorted({len(one["replica_nodes"]) for one in partitions}),
                "isr": sorted({len(one["isr_nodes"]) for one in partitions}),
                "leader-epochs": sorted({one["leader_epoch"] for one in partitions}),
                "id": bool(found.get("topic_id")), "internal": found["is_internal"]}

    def list_topics(self):
        return sorted(self.admin.list_topics())

    def produce(self, topic, codec, records):
        codec = None if codec == "none" else codec
        producer = KafkaProducer(bootstrap_servers=self.bootstrap, compression_type=codec,
                                 request_timeout_ms=MILLISECONDS_MAX, max_block_ms=MILLISECONDS_MAX)
        try:
            futures = [ask(producer.send, topic, record.value, record.key, record.headers, record.partition,
                           record.timestamp) for record in records]
            producer.flush()
            answers = [ask(future.get, 30) for future in futures]
        finally:
            producer.close()
        return [(one.partition, one.offset, one.timestamp) for one in answers]

    def consumer(self):
        return KafkaConsumer(bootstrap_servers=self.bootstrap, auto_offset_reset="none", group_id=None,
                             allow_auto_create_topics=False)

    def fetch(self, topic, partition, offset, count):
        where = TopicPartition(topic, partition)
        consumer = self.consumer()
        records = []
        try:
            consumer.assign([where])
            consumer.seek(where, offset)
            while len(records) < count:
                got = ask(consumer.poll, timeout_ms=MILLISECONDS_MAX).get(where)
                if not got:
                    raise Refused("client timeout")
                records += [Record(one.key, one.value, one.timestamp, one.headers, offset=one.offset,
                                   timestamp_type=one.timestamp_type) for one in got]
        finally:
            consumer.close()
        return records[:count]

    def offsets_for_time(self, topic, partitions, timestamp):
        consumer = self.consumer()
        try:
            asked = {TopicPartition(topic, partition): timestamp for partition in partitions}
            found = ask(consumer.offsets_for_times, asked)
        finally:
            consumer.close()
        return {where.partition: at and [at.offset, at.timestamp, at.leader_epoch] for where, at in found.items()}

    def list_offsets(self, topic, partitions, position):
        spec = {"earliest": OffsetSpec.EARLIEST, "latest": OffsetSpec.LATEST,
                "max-timestamp": OffsetSpec.MAX_TIMESTAMP}[position]
        asked = {TopicPartition(topic, partition): spec for partition in partitions}
        found = ask(self.admin.list_partition_offsets, asked)
        return {where.partition: [at.offset, at.timestamp, at.leader_epoch] for where, at in found.items()}

    def delete_records(self, topic, offsets):
        asked = {TopicPartition(topic, partition): offset for partition, offset in offsets.items()}
        answers = ask(self.admin.delete_records, asked)
        return {where.partition: answer["low_watermark"] for where, answer in answers.items()}

    def create_partitions(self, topic, total):
        ask(self.admin.create_partitions, {topic: total})

    def describe_configs(self, topic):
        asked = [ConfigResource(ConfigResourceType.TOPIC, topic)]
        found = ask(self.admin.describe_configs, asked, include_synonyms=True, config_filter="all")
        configs = found["topic"][topic]
        for config in configs.values():
            config.pop("documentation", None)
        return configs

    def set_config(self, topic, name, value):
        return self.answered(ask(self.admin.alter_configs, [ConfigResource(ConfigResourceType.TOPIC, topic, {name: value})],
                                 raise_on_unknown=False))

    def delete_config(self, topic, name):
        return self.answered(ask(self.admin.reset_configs, [ConfigResource(ConfigResourceType.TOPIC, topic, {name: None})]))

    @staticmethod
    def answered(answer):
        """"OK", or the code out of an error's text, whose wording is the broker's own."""
        [outcome] = answer["topic"].values()
        return str(outcome).split("]")[0].removeprefix("[")

    def delete_topic(self, topic):
        ask(self.admin.delete_topics, [topic])

    def close(self):
        self.admin.close()


play(KafkaPython)
