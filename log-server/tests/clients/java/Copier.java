import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.time.Duration;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.Set;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.function.Supplier;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.ProducerFencedException;
import org.apache.kafka.common.errors.TimeoutException;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/**
 * One instance of a loop that reads a topic as a member of a group and writes each record into another, its offsets in the
 * same transaction: BOOTSTRAP GROUP TOPIC NAME PROTOCOL OUTPUT SEED. Its name is its transactional id. One transaction in
 * ten is aborted on purpose. Each end of a transaction is one JSON object on a line of its own. SIGTERM makes it leave; it
 * ends with {@link #FENCED} once another instance has taken its name, and with {@link #OF_NO_USE} when its producer can only
 * be closed.
 */
public final class Copier {
    static final int FENCED = 3;
    static final int OF_NO_USE = 4;
    static final int ABORTED_ONE_IN = 10;
    static final int PAUSE_MS_MAX = 20;

    final FileOutputStream out = new FileOutputStream(FileDescriptor.out);
    final KafkaConsumer<byte[], byte[]> consumer;
    final KafkaProducer<byte[], byte[]> producer;
    final Random dice;
    final String name;
    final String output;

    Copier(String[] arguments) {
        name = arguments[3];
        output = arguments[5];
        dice = new Random(Long.parseLong(arguments[6]));
        Map<String, Object> reading = new HashMap<>(Map.of(
                "bootstrap.servers", arguments[0], "group.id", arguments[1], "group.protocol", arguments[4],
                "enable.auto.commit", false, "auto.offset.reset", "earliest", "isolation.level", "read_committed",
                "fetch.max.wait.ms", 50, "max.poll.records", 60));
        if (arguments[4].equals("classic")) {
            reading.putAll(Map.of("session.timeout.ms", 3000, "heartbeat.interval.ms", 300));
        }
        consumer = new KafkaConsumer<>(reading, new ByteArrayDeserializer(), new ByteArrayDeserializer());
        producer = new KafkaProducer<>(Map.of(
                "bootstrap.servers", arguments[0], "transactional.id", name, "transaction.timeout.ms", 10_000,
                "delivery.timeout.ms", 10_000, "request.timeout.ms", 5_000, "linger.ms", 0, "max.block.ms", 10_000),
                new ByteArraySerializer(), new ByteArraySerializer());
        consumer.subscribe(List.of(arguments[2]));
    }

    public static void main(String[] arguments) {
        var leave = new AtomicBoolean();
        var left = new CountDownLatch(1);
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            leave.set(true);
            try {
                left.await();
            } catch (InterruptedException interrupted) {
                Thread.currentThread().interrupt();
            }
        }));
        int code = 1;
        try {
            code = new Copier(arguments).run(leave);
        } catch (RuntimeException | InterruptedException failure) {
            failure.printStackTrace();
        } finally {
            left.countDown();
            System.exit(code);
        }
    }

    /** Copies until it is to leave; the code to end with. */
    int run(AtomicBoolean leave) throws InterruptedException {
        try {
            patiently(() -> {
                producer.initTransactions();
                return null;
            });
            while (!leave.get()) {
                ConsumerRecords<byte[], byte[]> records = consumer.poll(Duration.ofMillis(100));
                if (!records.isEmpty()) {
                    say(copy(records), records.count());
                }
            }
            return 0;
        } catch (KafkaException failure) {
            System.err.println(name + ": " + failure + ", " + failure.getCause());
            return isFenced(failure) ? FENCED : OF_NO_USE;
        } finally {
            producer.close(Duration.ofSeconds(5));
            consumer.close();
        }
    }

    /** One transaction; how it ended. Throws when the producer is of no use any longer. */
    String copy(ConsumerRecords<byte[], byte[]> records) throws InterruptedException {
        String outcome;
        try {
            producer.beginTransaction();
            for (ConsumerRecord<byte[], byte[]> record : records) {
                producer.send(new ProducerRecord<>(output, record.key(), record.value()));
            }
            Thread.sleep(dice.nextInt(PAUSE_MS_MAX));
            patiently(() -> {
                producer.sendOffsetsToTransaction(records.nextOffsets(), consumer.groupMetadata());
                return null;
            });
            if (dice.nextInt(ABORTED_ONE_IN) != 0) {
                patiently(() -> {
                    producer.commitTransaction();
                    return null;
                });
                return "committed";
            }
            outcome = "aborted";
        } catch (KafkaException failure) {
            if (isFenced(failure)) {
                throw failure;
            }
            System.err.println(name + ": " + failure + ", " + failure.getCause());
            outcome = "failed";
        }
        patiently(() -> {
            producer.abortTransaction();
            return null;
        });
        rewind();
        return outcome;
    }

    /** What was read and not committed comes again. */
    void rewind() {
        Map<TopicPartition, OffsetAndMetadata> committed = patiently(() -> consumer.committed(consumer.assignment()));
        for (TopicPartition where : consumer.assignment()) {
            OffsetAndMetadata offset = committed.get(where);
            if (offset == null) {
                consumer.seekToBeginning(Set.of(where));
            } else {
                consumer.seek(where, offset);
            }
        }
    }

    /** A step that took too long is gone on with, as long as the broker is away. */
    static <T> T patiently(Supplier<T> step) {
        while (true) {
            try {
                return step.get();
            } catch (TimeoutException later) {
                System.err.println("again: " + later);
            }
        }
    }

    static boolean isFenced(Throwable failure) {
        for (Throwable each = failure; each != null; each = each.getCause()) {
            if (each instanceof ProducerFencedException) {
                return true;
            }
        }
        return false;
    }

    void say(String outcome, int records) {
        String line = "{\"member\": \"%s\", \"event\": \"end\", \"outcome\": \"%s\", \"records\": %d}%n";
        try {
            out.write(line.formatted(name, outcome, records).getBytes());
        } catch (IOException failure) {
            throw new UncheckedIOException(failure);
        }
    }
}
