import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.SerializationFeature;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HexFormat;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.CreateTopicsOptions;
import org.apache.kafka.clients.admin.DescribeConfigsOptions;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.admin.TopicDescription;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndTimestamp;
import org.apache.kafka.clients.consumer.OffsetOutOfRangeException;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.Uuid;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.protocol.Errors;

/** The scenario of SCENARIO.md through the Java client with its defaults: acks=all, idempotent, linger 5 ms. */
public final class Scenario {
    static final List<String> CODECS = List.of("none", "gzip", "snappy", "lz4", "zstd");
    static final int PARTITIONS = 6;
    static final int RECORDS_PER_CODEC = 60;
    static final long FIRST_TIMESTAMP = 1_700_000_000_000L;
    static final Duration PATIENCE = Duration.ofSeconds(30);
    static final ObjectMapper JSON =
            new ObjectMapper().configure(SerializationFeature.ORDER_MAP_ENTRIES_BY_KEYS, true);

    final String bootstrap;
    final String prefix;
    final Admin admin;
    final String records;
    final String small;
    final String compacted;
    final String stamped;
    final String auto;

    Scenario(String bootstrap, String prefix) {
        this.bootstrap = bootstrap;
        this.prefix = prefix;
        this.admin = Admin.create(settings());
        this.records = prefix + ".records";
        this.small = prefix + ".small";
        this.compacted = prefix + ".compacted";
        this.stamped = prefix + ".append-time";
        this.auto = prefix + ".auto";
    }

    public static void main(String[] arguments) throws Exception {
        Scenario scenario = new Scenario(arguments[0], arguments[1]);
        scenario.play();
        scenario.admin.close(Duration.ofSeconds(5));
    }

    void play() throws Exception {
        attempt("describe-cluster", () -> {
            var cluster = admin.describeCluster();
            boolean known = cluster.controller().get().id() == cluster.nodes().get().iterator().next().id();
            return Map.of("nodes", cluster.nodes().get().size(), "controller-known", known,
                    "cluster-id", !cluster.clusterId().get().isEmpty());
        });
        create();
        produce();
        fetch();
        listOffsets("list-offsets");
        deleteRecords();
        createPartitions();
        configs();
        delete();
    }

    void create() throws Exception {
        Map<String, String> forever = Map.of("retention.ms", "-1");
        String spare = prefix + ".x";
        attempt("create-topic", () -> create(records, PARTITIONS, 1, forever));
        attempt("create-topic-again", () -> create(records, PARTITIONS, 1, forever));
        attempt("create-topic-bad-name", () -> create(prefix + " bad/name", 1, 1, Map.of()));
        attempt("create-topic-unknown-config", () -> create(spare, 1, 1, Map.of("no.such.config", "1")));
        attempt("create-topic-bad-config", () -> create(spare, 1, 1, Map.of("retention.ms", "soon")));
        attempt("create-topic-no-partitions", () -> create(spare, 0, 1, Map.of()));
        attempt("create-topic-two-replicas", () -> create(spare, 1, 2, Map.of()));
        attempt("create-topic-validate-only", () -> {
            NewTopic topic = new NewTopic(spare, 1, (short) 1);
            var answer = admin.createTopics(List.of(topic), new CreateTopicsOptions().validateOnly(true));
            return Map.of("partitions", answer.numPartitions(spare).get(),
                    "replicas", answer.replicationFactor(spare).get(),
                    "configs", answer.config(spare).get().entries().size());
        });
        attempt("created-by-validate-only", () -> admin.listTopics().names().get().contains(spare));
        attempt("create-topic-defaults", () -> create(prefix + ".defaults", -1, -1, Map.of()));
        attempt("describe-topic", () -> describe(records));
        attempt("describe-unknown-topic", () -> describe(prefix + ".unknown"));
        attempt("create-more", () -> create(small, 1, 1, Map.of("retention.ms", "-1", "max.message.bytes", "1000")));
        attempt("create-more", () -> create(compacted, 1, 1, Map.of("cleanup.policy", "compact")));
        attempt("create-more", () -> create(stamped, 1, 1, Map.of("message.timestamp.type", "LogAppendTime")));
    }

    Object create(String topic, int partitions, int replicas, Map<String, String> configs) throws Exception {
        NewTopic asked = new NewTopic(topic, partitions, (short) replicas).configs(configs);
        var answer = admin.createTopics(List.of(asked));
        answer.all().get();
        until(() -> describeQuietly(topic) != null);
        return Map.of("partitions", answer.numPartitions(topic).get(),
                "replicas", answer.replicationFactor(topic).get(),
                "id-known", !answer.topicId(topic).get().equals(Uuid.ZERO_UUID),
                "set", answer.config(topic).get().entries().stream().filter(one -> !one.isDefault())
                        .map(one -> one.name() + "=" + one.value()).sorted().collect(Collectors.toList()));
    }

    /**
     * Asks again and again until it is so: a real broker answers a change before every question shows it. What never comes to be so
     * is left for the transcript to show.
     */
    static void until(Callable<Boolean> isSo) throws Exception {
        long end = System.nanoTime() + PATIENCE.toNanos();
        while (!isSo.call() && System.nanoTime() < end) {
            Thread.onSpinWait();
        }
    }

    TopicDescription describeQuietly(String topic) throws Exception {
        try {
            return admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic);
        } catch (ExecutionException notYet) {
            return null;
        }
    }

    Object describe(String topic) throws Exception {
        TopicDescription found = admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic);
        return Map.of(
                "partitions", found.partitions().stream().map(one -> one.partition()).collect(Collectors.toList()),
                "replicas", distinct(found.partitions().stream().map(one -> one.replicas().size()).toList()),
                "isr", distinct(found.partitions().stream().map(one -> one.isr().size()).toList()),
                "leaders", found.partitions().stream().allMatch(one -> one.leader() != null),
                "id", !found.topicId().equals(Uuid.ZERO_UUID), "internal", found.isInternal());
    }

    static Collection<Integer> distinct(List<Integer> values) {
        return new TreeSet<>(values);
    }

    void produce() throws Exception {
        for (String codec : CODECS) {
            attempt("produce", () -> {
                Map<String, List<Long>> ranges = new TreeMap<>();
                for (RecordMetadata one : send(codec, recordsOf(codec))) {
                    String key = String.valueOf(one.partition());
                    List<Long> range = ranges.computeIfAbsent(key, any -> new ArrayList<>(List.of(one.offset(), 0L, 0L)));
                    range.set(1, one.offset());
                    range.set(2, range.get(2) + 1);
                }
                return ranges;
            }, "codec", codec);
        }
        Header nothing = new RecordHeader("h", (byte[]) null);
        attempt("produce-nulls", () -> offsets(send("none", List.of(
                new ProducerRecord<>(small, 0, FIRST_TIMESTAMP, null, bytes("no key"), List.of(nothing)),
                new ProducerRecord<>(small, 0, FIRST_TIMESTAMP + 1, bytes("no value"), (byte[]) null, List.of()),
                new ProducerRecord<>(small, 0, FIRST_TIMESTAMP + 2, bytes(""), bytes(""))))));
        attempt("produce-too-large", () -> offsets(send("none", List.of(
                new ProducerRecord<>(small, 0, FIRST_TIMESTAMP, bytes("k"), bytes("y".repeat(2000)))))));
        attempt("produce-keyless-to-compacted", () -> offsets(send("none", List.of(
                new ProducerRecord<>(compacted, 0, null, bytes("v"))))));
        attempt("produce-keyed-to-compacted", () -> offsets(send("none", List.of(
                new ProducerRecord<>(compacted, 0, bytes("k"), bytes("v"))))));
        attempt("produce-append-time", () -> {
            RecordMetadata one = send("none", List.of(
                    new ProducerRecord<>(stamped, 0, FIRST_TIMESTAMP, bytes("k"), bytes("v")))).get(0);
            ConsumerRecord<byte[], byte[]> read = fetch(stamped, 0, 0, 1).get(0);
            return Map.of("offset", one.offset(), "answered", one.timestamp() == read.timestamp(),
                    "recent", read.timestamp() > FIRST_TIMESTAMP + 30_000_000_000L,
                    "type", read.timestampType().toString());
        });
        attempt("produce-auto-created", () -> offsets(send("none", List.of(
                new ProducerRecord<>(auto, 0, bytes("k"), bytes("v"))))));
    }

    List<ProducerRecord<byte[], byte[]>> recordsOf(String codec) {
        int number = CODECS.indexOf(codec);
        return IntStream.range(0, RECORDS_PER_CODEC).mapToObj(i -> {
            List<Header> headers = List.of(new RecordHeader("codec", bytes(codec)),
                    new RecordHeader("n", bytes(String.valueOf(i))), new RecordHeader("empty", new byte[0]));
            String value = String.format("%s value %03d %s", codec, i, "x".repeat(7 * i));
            return new ProducerRecord<>(records, i % PARTITIONS,
                    FIRST_TIMESTAMP + 1000L * (RECORDS_PER_CODEC * number + i),
                    bytes(String.format("key-%03d", i)), bytes(value), headers);
        }).collect(Collectors.toList());
    }

    List<RecordMetadata> send(String codec, List<ProducerRecord<byte[], byte[]>> all) throws Exception {
        Properties settings = settings();
        settings.put("compression.type", codec);
        settings.put("key.serializer", "org.apache.kafka.common.serialization.ByteArraySerializer");
        settings.put("value.serializer", "org.apache.kafka.common.serialization.ByteArraySerializer");
        List<RecordMetadata> answers = new ArrayList<>();
        try (KafkaProducer<byte[], byte[]> producer = new KafkaProducer<>(settings)) {
            List<Future<RecordMetadata>> sent = all.stream().map(producer::send).collect(Collectors.toList());
            for (Future<RecordMetadata> one : sent) {
                answers.add(one.get());
            }
        }
        return answers;
    }

    static List<Long> offsets(List<RecordMetadata> answers) {
        return answers.stream().map(RecordMetadata::offset).collect(Collectors.toList());
    }

    void fetch() throws Exception {
        for (int partition = 0; partition < PARTITIONS; partition++) {
            show("fetch-from-start", records, partition, 0, 50);
        }
        for (int partition = 0; partition < PARTITIONS; partition++) {
            show("fetch-from-middle", records, partition, 25, 25);
        }
        long last = FIRST_TIMESTAMP + 1000L * (RECORDS_PER_CODEC * CODECS.size() - 1);
        Map<String, Long> times = new LinkedHashMap<>();
        times.put("before", FIRST_TIMESTAMP - 1);
        times.put("exact", FIRST_TIMESTAMP + 150_000);
        times.put("between", FIRST_TIMESTAMP + 149_500);
        times.put("last", last);
        times.put("after", last + 1);
        for (var time : times.entrySet()) {
            attempt("offsets-for-time", () -> offsetsForTime(time.getValue()), "time", time.getKey());
        }
        for (int partition = 0; partition < PARTITIONS; partition++) {
            show("fetch-from-time", records, partition, 25, 25);
        }
        show("fetch-nulls", small, 0, 0, 3);
        show("fetch-out-of-range", records, 0, 51, 1);
    }

    Object offsetsForTime(long time) {
        try (KafkaConsumer<byte[], byte[]> consumer = consumer()) {
            Map<TopicPartition, Long> asked = all().stream().collect(Collectors.toMap(where -> where, where -> time));
            Map<String, Object> found = new TreeMap<>();
            for (Map.Entry<TopicPartition, OffsetAndTimestamp> one : consumer.offsetsForTimes(asked).entrySet()) {
                OffsetAndTimestamp at = one.getValue();
                found.put(String.valueOf(one.getKey().partition()),
                        at == null ? null : List.of(at.offset(), at.timestamp(), at.leaderEpoch().orElse(-1)));
            }
            return found;
        }
    }

    List<TopicPartition> all() {
        return IntStream.range(0, PARTITIONS).mapToObj(partition -> new TopicPartition(records, partition))
                .collect(Collectors.toList());
    }

    void show(String step, String topic, int partition, long offset, int count) throws Exception {
        attempt(step, () -> summary(fetch(topic, partition, offset, count)), "partition", partition);
    }

    List<ConsumerRecord<byte[], byte[]>> fetch(String topic, int partition, long offset, int count) {
        TopicPartition where = new TopicPartition(topic, partition);
        List<ConsumerRecord<byte[], byte[]>> got = new ArrayList<>();
        try (KafkaConsumer<byte[], byte[]> consumer = consumer()) {
            consumer.assign(List.of(where));
            consumer.seek(where, offset);
            long deadline = System.nanoTime() + PATIENCE.toNanos();
            while (got.size() < count && System.nanoTime() < deadline) {
                got.addAll(consumer.poll(Duration.ofSeconds(1)).records(where));
            }
        }
        return got.subList(0, Math.min(count, got.size()));
    }

    KafkaConsumer<byte[], byte[]> consumer() {
        Properties settings = settings();
        settings.put("auto.offset.reset", "none");
        settings.put("allow.auto.create.topics", "false");
        settings.put("key.deserializer", "org.apache.kafka.common.serialization.ByteArrayDeserializer");
        settings.put("value.deserializer", "org.apache.kafka.common.serialization.ByteArrayDeserializer");
        return new KafkaConsumer<>(settings);
    }

    static Object summary(List<ConsumerRecord<byte[], byte[]>> got) throws Exception {
        MessageDigest digest = MessageDigest.getInstance("SHA-256");
        for (ConsumerRecord<byte[], byte[]> record : got) {
            StringBuilder line = new StringBuilder();
            line.append(record.offset()).append('|').append(record.timestamp()).append('|')
                    .append(text(record.key())).append('|').append(text(record.value())).append('|');
            for (Header header : record.headers()) {
                line.append(header.key()).append('=').append(text(header.value())).append(';');
            }
            digest.update(bytes(line.append('\n').toString()));
        }
        Map<String, Object> shown = new TreeMap<>();
        shown.put("count", got.size());
        shown.put("first", got.isEmpty() ? null : got.get(0).offset());
        shown.put("last", got.isEmpty() ? null : got.get(got.size() - 1).offset());
        shown.put("sha256", HexFormat.of().formatHex(digest.digest()));
        return shown;
    }

    void listOffsets(String step) throws Exception {
        Map<String, OffsetSpec> positions = new LinkedHashMap<>();
        positions.put("earliest", OffsetSpec.earliest());
        positions.put("latest", OffsetSpec.latest());
        positions.put("max-timestamp", OffsetSpec.maxTimestamp());
        positions.put("earliest-local", OffsetSpec.earliestLocal());
        positions.put("latest-tiered", OffsetSpec.latestTiered());
        for (var position : positions.entrySet()) {
            attempt(step, () -> {
                Map<TopicPartition, OffsetSpec> asked =
                        all().stream().collect(Collectors.toMap(where -> where, where -> position.getValue()));
                Map<String, Object> found = new TreeMap<>();
                admin.listOffsets(asked).all().get().forEach((where, at) -> found.put(
                        String.valueOf(where.partition()),
                        List.of(at.offset(), at.timestamp(), at.leaderEpoch().orElse(-1))));
                return found;
            }, "position", position.getKey());
        }
    }

    void deleteRecords() throws Exception {
        attempt("delete-records", () -> low(records, Map.of(0, 10L, 1, -1L)));
        attempt("delete-records-beyond-end", () -> low(records, Map.of(2, 51L)));
        listOffsets("list-offsets-after-delete");
        show("fetch-after-delete", records, 0, 10, 40);
        show("fetch-deleted", records, 0, 9, 1);
        attempt("delete-records-compacted", () -> low(compacted, Map.of(0, 1L)));
    }

    Object low(String topic, Map<Integer, Long> before) throws Exception {
        Map<TopicPartition, RecordsToDelete> asked = new LinkedHashMap<>();
        before.forEach((partition, offset) ->
                asked.put(new TopicPartition(topic, partition), RecordsToDelete.beforeOffset(offset)));
        Map<String, Long> answers = new TreeMap<>();
        for (var one : admin.deleteRecords(asked).lowWatermarks().entrySet()) {
            answers.put(String.valueOf(one.getKey().partition()), one.getValue().get().lowWatermark());
        }
        return answers;
    }

    void createPartitions() throws Exception {
        attempt("create-partitions", () -> grow(8));
        attempt("create-partitions-same", () -> grow(8));
        attempt("create-partitions-fewer", () -> grow(3));
        attempt("describe-topic-grown", () -> describe(records));
    }

    Object grow(int total) throws Exception {
        admin.createPartitions(Map.of(records, NewPartitions.increaseTo(total))).all().get();
        until(() -> {
            TopicDescription seen = describeQuietly(records);
            return seen != null && total <= seen.partitions().size();
        });
        return null;
    }

    void configs() throws Exception {
        attempt("describe-configs", () -> configsOf(records));
        attempt("alter-configs", () -> alter("max.message.bytes", "2000000", AlterConfigOp.OpType.SET));
        attempt("alter-configs-append", () -> alter("cleanup.policy", "compact", AlterConfigOp.OpType.APPEND));
        attempt("describe-configs-altered", () -> altered("2000000", "delete,compact"));
        attempt("alter-configs-subtract", () -> alter("cleanup.policy", "compact", AlterConfigOp.OpType.SUBTRACT));
        attempt("alter-configs-unknown", () -> alter("no.such.config", "1", AlterConfigOp.OpType.SET));
        attempt("alter-configs-bad", () -> alter("cleanup.policy", "burn", AlterConfigOp.OpType.SET));
        attempt("alter-configs-append-to-number", () -> alter("max.message.bytes", "1", AlterConfigOp.OpType.APPEND));
        attempt("alter-configs-delete", () -> alter("max.message.bytes", null, AlterConfigOp.OpType.DELETE));
        attempt("describe-configs-restored", () -> altered("1048588", "delete"));
    }

    Object alter(String name, String value, AlterConfigOp.OpType operation) throws Exception {
        ConfigResource where = new ConfigResource(ConfigResource.Type.TOPIC, records);
        AlterConfigOp change = new AlterConfigOp(new ConfigEntry(name, value), operation);
        admin.incrementalAlterConfigs(Map.of(where, List.of(change))).all().get();
        return null;
    }

    /** The settings that were changed, as they are once these two have the values they were given. */
    Object altered(String bytesMax, String policy) throws Exception {
        Map<String, String> wanted = Map.of("max.message.bytes", bytesMax, "cleanup.policy", policy);
        ConfigResource where = new ConfigResource(ConfigResource.Type.TOPIC, records);
        until(() -> {
            var shown = admin.describeConfigs(List.of(where)).all().get().get(where);
            return wanted.entrySet().stream().allMatch(one -> one.getValue().equals(shown.get(one.getKey()).value()));
        });
        Map<String, Object> all = configsOf(records);
        all.keySet().retainAll(List.of("max.message.bytes", "retention.ms", "cleanup.policy"));
        return all;
    }

    Map<String, Object> configsOf(String topic) throws Exception {
        ConfigResource where = new ConfigResource(ConfigResource.Type.TOPIC, topic);
        DescribeConfigsOptions full = new DescribeConfigsOptions().includeSynonyms(true).includeDocumentation(true);
        Map<String, Object> shown = new TreeMap<>();
        for (ConfigEntry entry : admin.describeConfigs(List.of(where), full).all().get().get(where).entries()) {
            shown.put(entry.name(), Map.of("value", String.valueOf(entry.value()), "source", entry.source().toString(),
                    "type", entry.type().toString(), "read-only", entry.isReadOnly(),
                    "sensitive", entry.isSensitive(), "documented", entry.documentation() != null,
                    "synonyms", entry.synonyms().stream()
                            .map(one -> one.name() + "=" + one.value() + " " + one.source())
                            .collect(Collectors.toList())));
        }
        return shown;
    }

    void delete() throws Exception {
        for (String topic : List.of(records, small, compacted, stamped, auto, prefix + ".defaults")) {
            attempt("delete-topic", () -> admin.deleteTopics(List.of(topic)).all().get(),
                    "topic", topic.substring(prefix.length()));
        }
        attempt("delete-unknown-topic", () -> admin.deleteTopics(List.of(prefix + ".unknown")).all().get());
        until(() -> ownTopics().isEmpty());
        attempt("list-topics", this::ownTopics);
    }

    List<String> ownTopics() throws Exception {
        return admin.listTopics().names().get().stream()
                .filter(topic -> topic.startsWith(prefix)).map(topic -> topic.substring(prefix.length()))
                .sorted().collect(Collectors.toList());
    }

    void attempt(String step, Callable<Object> call, Object... more) throws Exception {
        Map<String, Object> line = new TreeMap<>();
        line.put("step", step);
        for (int i = 0; i < more.length; i += 2) {
            line.put((String) more[i], more[i + 1]);
        }
        try {
            line.put("result", call.call());
        } catch (ExecutionException failure) {
            line.put("error", codeOf(failure.getCause()));
        } catch (KafkaException failure) {
            line.put("error", codeOf(failure));
        }
        System.out.println(JSON.writeValueAsString(line));
        System.out.flush();
    }

    /** The broker's error code where there is one. The consumer's out-of-range error is a class of its own. */
    static Object codeOf(Throwable failure) {
        if (failure instanceof OffsetOutOfRangeException) {
            return (int) Errors.OFFSET_OUT_OF_RANGE.code();
        }
        Errors error = Errors.forException(failure);
        return error == Errors.UNKNOWN_SERVER_ERROR ? "client " + failure.getClass().getSimpleName() : error.code();
    }

    Properties settings() {
        Properties settings = new Properties();
        settings.put("bootstrap.servers", bootstrap);
        return settings;
    }

    static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    static String text(byte[] bytes) {
        return bytes == null ? "null" : new String(bytes, StandardCharsets.UTF_8);
    }
}
