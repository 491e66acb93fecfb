import java.time.Duration;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/**
 * Sends a record, waits until a consumer has it, sends the next; prints one line of JSON:
 * {@code OneAtATime BOOTSTRAP TOPIC RECORDS ACKS BYTES}.
 *
 * <p>As Kafka's own EndToEndLatency with its settings (linger.ms=0), but in nanoseconds, not in whole milliseconds, and without
 * committing offsets to a group for each record. The first fifth warms up and is not counted.
 */
public final class OneAtATime {
    private static final long GIVE_UP_NANOSECONDS = 30_000_000_000L;

    public static void main(String[] arguments) throws Exception {
        String topic = arguments[1];
        int records = Integer.parseInt(arguments[2]);
        byte[] value = new byte[Integer.parseInt(arguments[4])];
        Map<String, Object> sending =
                Map.of("bootstrap.servers", arguments[0], "acks", arguments[3], "linger.ms", 0);
        Map<String, Object> receiving = Map.of("bootstrap.servers", arguments[0], "enable.auto.commit", false);
        long[] nanoseconds = new long[records];
        try (var producer = new KafkaProducer<>(sending, new ByteArraySerializer(), new ByteArraySerializer());
                var consumer =
                        new KafkaConsumer<>(receiving, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
            var partitions = List.of(new TopicPartition(topic, 0));
            consumer.assign(partitions);
            consumer.seekToEnd(partitions);
            consumer.position(partitions.get(0));
            for (int i = 0; i < records; i++) {
                long begun = System.nanoTime();
                producer.send(new ProducerRecord<>(topic, 0, null, value)).get();
                while (consumer.poll(Duration.ofSeconds(1)).isEmpty()) {
                    if (GIVE_UP_NANOSECONDS < System.nanoTime() - begun) {
                        throw new IllegalStateException("record " + i + " does not arrive");
                    }
                }
                nanoseconds[i] = System.nanoTime() - begun;
            }
        }
        long[] counted = Arrays.copyOfRange(nanoseconds, records / 5, records);
        Arrays.sort(counted);
        System.out.printf("{\"p50_us\": %.1f, \"p99_us\": %.1f}%n",
                counted[counted.length / 2] / 1e3, counted[(int) (counted.length * 0.99)] / 1e3);
    }
}
