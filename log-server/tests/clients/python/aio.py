"""The scenario through aiokafka, its producer idempotent. Its admin client lacks what is marked unsupported."""

import asyncio

import aiokafka.errors as errors
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from scenario import Client, Record, Refused, Unsupported, play

SECONDS_MAX = 30


def refuse_if(code):
    if code:
        raise Refused(code)


def code_of(failure):
    code = getattr(failure, "errno", None)
    return code if isinstance(code, int) and 0 < code else f"client {type(failure).__name__}"


class Aio(Client):
    def __init__(self, bootstrap):
        super().__init__(bootstrap)
        self.loop = asyncio.new_event_loop()
        asyncio.set_event_loop(self.loop)
        self.admin = self.run(self.start(AIOKafkaAdminClient))

    async def start(self, kind, **settings):
        client = kind(bootstrap_servers=self.bootstrap, **settings)
        await client.start()
        return client

    def run(self, work):
        try:
            return self.loop.run_until_complete(asyncio.wait_for(work, SECONDS_MAX))
        except errors.KafkaError as failure:
            raise Refused(code_of(failure)) from failure
        except asyncio.TimeoutError as failure:
            raise Refused("client timeout") from failure

    def describe_cluster(self):
        cluster = self.run(self.admin.describe_cluster())
        return {"nodes": len(cluster["brokers"]), "cluster-id": bool(cluster["cluster_id"]),
                "controller-known": cluster["controller_id"] == cluster["brokers"][0]["node_id"]}

    def create_topic(self, topic, partitions, replicas, configs, validate_only=False):
        if partitions < 0:
            raise Unsupported
        new = NewTopic(topic, partitions, replicas, topic_configs=configs)
        answer = self.run(self.admin.create_topics([new], validate_only=validate_only))
        refuse_if(answer.topic_errors[0][1])

    def topic(self, topic):
        [found] = self.run(self.admin.describe_topics([topic]))
        return found

    def describe_topic(self, topic):
        found = self.topic(topic)
        refuse_if(found["error_code"])
        partitions = sorted(found["partitions"], key=lambda one: one["partition"])
        return {"partitions": [one["partition"] for one in partitions],
                "replicas": sorted({len(one["replicas"]) for one in partitions}),
                "isr": sorted({len(one["isr"]) for one in partitions}), "internal": found["is_internal"]}

    def list_topics(self):
        return sorted(self.run(self.admin.list_topics()))

    def produce(self, topic, codec, records):
        return self.run(self.send_all(topic, None if codec == "none" else codec, records))

    async def send_all(self, topic, codec, records):
        producer = await self.start(AIOKafkaProducer, compression_type=codec, enable_idempotence=True)
        try:
            sent = [await producer.send(topic, record.value, record.key, record.partition, record.timestamp,
                                        record.headers) for record in records]
            answers = [await one for one in sent]
        finally:
            await producer.stop()
        return [(one.partition, one.offset, one.timestamp) for one in answers]

    def fetch(self, topic, partition, offset, count):
        return self.run(self.read(topic, partition, offset, count))

    async def read(self, topic, partition, offset, count):
        where = TopicPartition(topic, partition)
        consumer = await self.start(AIOKafkaConsumer, auto_offset_reset="none")
        records = []
        try:
            consumer.assign([where])
            consumer.seek(where, offset)
            while len(records) < count:
                one = await consumer.getone(where)
                records.append(Record(one.key, one.value, one.timestamp, list(one.headers), offset=one.offset,
                                      timestamp_type=one.timestamp_type))
        finally:
            await consumer.stop()
        return records

    def offsets_for_time(self, topic, partitions, timestamp):
        async def look_up():
            consumer = await self.start(AIOKafkaConsumer)
            try:
                return await consumer.offsets_for_times(
                    {TopicPartition(topic, partition): timestamp for partition in partitions})
            finally:
                await consumer.stop()
        return {where.partition: at and [at.offset, at.timestamp] for where, at in self.run(look_up()).items()}

    def list_offsets(self, topic, partitions, position):
        if position == "max-timestamp":
            raise Unsupported

        async def look_up():
            consumer = await self.start(AIOKafkaConsumer)
            try:
                call = {"earliest": consumer.beginning_offsets, "latest": consumer.end_offsets}[position]
                return await call([TopicPartition(topic, partition) for partition in partitions])
            finally:
                await consumer.stop()
        return {where.partition: offset for where, offset in self.run(look_up()).items()}

    def delete_records(self, topic, offsets):
        asked = {TopicPartition(topic, partition): RecordsToDelete(offset) for partition, offset in offsets.items()}
        answers = self.run(self.admin.delete_records(asked))
        return {where.partition: low for where, low in answers.items()}

    def create_partitions(self, topic, total):
        self.run(self.admin.create_partitions({topic: NewPartitions(total)}))

    def describe_configs(self, topic):
        asked = [ConfigResource(ConfigResourceType.TOPIC, topic)]
        [answer] = self.run(self.admin.describe_configs(asked, include_synonyms=True))
        [(code, _, _, _, entries)] = answer.resources
        refuse_if(code)
        return {entry[0]: {"value": entry[1], "read-only": entry[2], "source": entry[3], "sensitive": entry[4],
                           "synonyms": [list(synonym)[:3] for synonym in entry[5]]} for entry in entries}

    def set_config(self, topic, name, value):
        """The library has only the call that replaces all settings of a topic."""
        self.alter(topic, {"retention.ms": "-1", name: value})

    def delete_config(self, topic, name):
        self.alter(topic, {"retention.ms": "-1"})

    def alter(self, topic, configs):
        asked = [ConfigResource(ConfigResourceType.TOPIC, topic, configs)]
        [answer] = self.run(self.admin.alter_configs(asked))
        refuse_if(answer.resources[0][0])

    def delete_topic(self, topic):
        answer = self.run(self.admin.delete_topics([topic]))
        refuse_if(answer.topic_error_codes[0][1])

    def close(self):
        self.run(self.admin.close())


play(Aio)
