import com.fasterxml.jackson.databind.ObjectMapper;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.concurrent.ExecutionException;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.ConsumerGroupMetadata;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/**
 * What a transactional producer of the Java client is told, case by case: BOOTSTRAP PREFIX. Each case has a topic and a
 * transactional id of its own; one JSON object per line says what the calls came to and what readers see afterwards.
 */
public final class TransactionCases {
    static final ObjectMapper JSON = new ObjectMapper();
    static final Duration WAIT_MAX = Duration.ofSeconds(60);

    final String bootstrap;
    final TopicPartition place;
    final Map<String, Object> result = new LinkedHashMap<>();

    /** A case; what it calls is in the result. */
    interface Case {
        void play(TransactionCases where) throws Exception;
    }

    interface Call {
        void make() throws Exception;
    }

    TransactionCases(String bootstrap, String topic) {
        this.bootstrap = bootstrap;
        this.place = new TopicPartition(topic, 0);
    }

    public static void main(String[] arguments) throws Exception {
        Map<String, Case> cases = new LinkedHashMap<>();
        cases.put("commit", TransactionCases::commit);
        cases.put("abort", TransactionCases::abort);
        cases.put("open", TransactionCases::open);
        cases.put("offsets", TransactionCases::offsets);
        cases.put("timeout", TransactionCases::timeout);
        cases.put("fencing", TransactionCases::fencing);
        cases.put("fencing-between", TransactionCases::fencingBetween);
        cases.put("stale-member", TransactionCases::staleMember);
        try (var admin = Admin.create(Map.of("bootstrap.servers", arguments[0]))) {
            for (var each : cases.entrySet()) {
                String topic = arguments[1] + "-" + each.getKey();
                admin.createTopics(List.of(new NewTopic(topic, Optional.of(1), Optional.empty()))).all().get();
                var one = new TransactionCases(arguments[0], topic);
                each.getValue().play(one);
                one.settle();
                one.result.put("committed", one.values("read_committed"));
                one.result.put("all", one.values("read_uncommitted"));
                System.out.println(JSON.writeValueAsString(Map.of("step", each.getKey(), "result", one.result)));
            }
        }
    }

    void commit() {
        try (var producer = ready()) {
            send(producer, "a", "b");
            call("commit", producer::commitTransaction);
        }
    }

    void abort() {
        try (var producer = ready()) {
            send(producer, "a");
            call("abort", producer::abortTransaction);
            send(producer, "b");
            call("commit", producer::commitTransaction);
        }
    }

    /** What stands behind a transaction that is open waits for it. */
    void open() throws InterruptedException, ExecutionException {
        try (var producer = ready(); var plain = producer(new HashMap<>())) {
            send(producer, "a");
            plain.send(new ProducerRecord<>(place.topic(), "b")).get();
            result.put("committed while it is open", values("read_committed"));
            result.put("all while it is open", values("read_uncommitted"));
            call("commit", producer::commitTransaction);
        }
    }

    void offsets() throws ExecutionException, InterruptedException {
        String group = place.topic() + "-group";
        ConsumerGroupMetadata nobody;
        try (var consumer = consumer(Map.of("group.id", group))) {
            nobody = consumer.groupMetadata();
        }
        try (var producer = ready()) {
            send(producer, "a");
            call("offsets", () -> producer.sendOffsetsToTransaction(at(7), nobody));
            call("abort", producer::abortTransaction);
            result.put("after the abort", committed(group));
            send(producer, "b");
            call("offsets again", () -> producer.sendOffsetsToTransaction(at(9), nobody));
            call("commit", producer::commitTransaction);
            result.put("after the commit", committed(group));
        }
    }

    /** The broker ends it when its time is over, and the producer can only make way for another. */
    void timeout() throws InterruptedException {
        try (var producer = ready(Map.of("transaction.timeout.ms", 2000))) {
            send(producer, "a");
            settle();
            call("commit", producer::commitTransaction);
            call("abort", producer::abortTransaction);
        }
        try (var next = ready()) {
            send(next, "b");
            call("commit of the next", next::commitTransaction);
        }
    }

    void fencing() {
        try (var first = ready()) {
            send(first, "a");
            try (var second = ready()) {
                call("commit of the first", first::commitTransaction);
                call("abort of the first", first::abortTransaction);
                send(second, "b");
                call("commit of the second", second::commitTransaction);
            }
        }
    }

    /** Another comes while nothing is open; the first has to find that out. */
    void fencingBetween() {
        try (var first = ready()) {
            send(first, "a");
            call("commit of the first", first::commitTransaction);
            try (var second = ready()) {
                send(first, "b");
                call("second commit of the first", first::commitTransaction);
                call("abort of the first", first::abortTransaction);
                send(second, "c");
                call("commit of the second", second::commitTransaction);
            }
        }
    }

    /** Offsets of a member that is not in the group any longer are refused, and the transaction with them. */
    void staleMember() {
        ConsumerGroupMetadata metadata;
        try (var consumer = consumer(Map.of("group.id", place.topic() + "-group"))) {
            consumer.subscribe(List.of(place.topic()));
            while (consumer.assignment().isEmpty()) {
                consumer.poll(Duration.ofMillis(50));
            }
            metadata = consumer.groupMetadata();
        }
        try (var producer = ready()) {
            send(producer, "a");
            call("offsets", () -> producer.sendOffsetsToTransaction(at(1), metadata));
            call("abort", producer::abortTransaction);
            send(producer, "b");
            call("commit", producer::commitTransaction);
        }
    }

    // -- steps

    KafkaProducer<String, String> ready() {
        return ready(Map.of());
    }

    KafkaProducer<String, String> ready(Map<String, Object> more) {
        var settings = new HashMap<String, Object>(more);
        settings.put("transactional.id", place.topic());
        var producer = producer(settings);
        producer.initTransactions();
        return producer;
    }

    KafkaProducer<String, String> producer(Map<String, Object> settings) {
        settings.put("bootstrap.servers", bootstrap);
        return new KafkaProducer<>(settings, new StringSerializer(), new StringSerializer());
    }

    void send(KafkaProducer<String, String> producer, String... values) {
        producer.beginTransaction();
        for (String value : values) {
            producer.send(new ProducerRecord<>(place.topic(), value));
        }
        producer.flush();
    }

    void call(String name, Call call) {
        try {
            call.make();
            result.put(name, "ok");
        } catch (KafkaException failure) {
            result.put(name, failure.getClass().getSimpleName());
        } catch (Exception failure) {
            throw new IllegalStateException(failure);
        }
    }

    Map<TopicPartition, OffsetAndMetadata> at(long offset) {
        return Map.of(place, new OffsetAndMetadata(offset));
    }

    // -- what there is

    /** The group's offset, once no transaction may change it any longer; -1 when there is none. */
    long committed(String group) {
        try (var consumer = consumer(Map.of("group.id", group, "isolation.level", "read_committed"))) {
            OffsetAndMetadata found = consumer.committed(Set.of(place)).get(place);
            return found == null ? -1 : found.offset();
        }
    }

    /** Waits until no transaction is open. */
    void settle() throws InterruptedException {
        long until = System.nanoTime() + WAIT_MAX.toNanos();
        try (var committed = consumer(Map.of("isolation.level", "read_committed"));
                var everything = consumer(Map.of("isolation.level", "read_uncommitted"))) {
            while (!committed.endOffsets(List.of(place)).equals(everything.endOffsets(List.of(place)))) {
                if (until < System.nanoTime()) {
                    throw new IllegalStateException("a transaction stays open");
                }
                Thread.sleep(20);
            }
        }
    }

    List<String> values(String isolation) {
        var values = new ArrayList<String>();
        try (var consumer = consumer(Map.of("isolation.level", isolation))) {
            consumer.assign(List.of(place));
            consumer.seekToBeginning(List.of(place));
            long end = consumer.endOffsets(List.of(place)).get(place);
            while (consumer.position(place) < end) {
                for (ConsumerRecord<String, String> record : consumer.poll(Duration.ofMillis(100))) {
                    values.add(record.value());
                }
            }
        }
        return values;
    }

    KafkaConsumer<String, String> consumer(Map<String, Object> more) {
        var settings = new HashMap<String, Object>(more);
        settings.put("bootstrap.servers", bootstrap);
        settings.put("enable.auto.commit", false);
        settings.put("fetch.max.wait.ms", 50);
        return new KafkaConsumer<>(settings, new StringDeserializer(), new StringDeserializer());
    }
}
