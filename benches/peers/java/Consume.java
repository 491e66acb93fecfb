import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/**
 * Reads a topic from its start through the Java client with its default settings and prints one line of JSON:
 * {@code Consume BOOTSTRAP TOPIC RECORDS PARTITIONS}.
 *
 * <p>Kafka's own ConsumerPerformance joins a group; this one takes the partitions itself, so that only fetching is measured. The
 * clock starts with the first records.
 */
public final class Consume {
    private static final Duration GIVE_UP = Duration.ofSeconds(120);

    public static void main(String[] arguments) {
        String topic = arguments[1];
        long wanted = Long.parseLong(arguments[2]);
        List<TopicPartition> partitions = new ArrayList<>();
        for (int index = 0; index < Integer.parseInt(arguments[3]); index++) {
            partitions.add(new TopicPartition(topic, index));
        }
        Map<String, Object> settings = Map.of("bootstrap.servers", arguments[0], "enable.auto.commit", false);
        long records = 0;
        long bytes = 0;
        try (var consumer =
                new KafkaConsumer<>(settings, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
            long until = System.nanoTime() + GIVE_UP.toNanos();
            long begun = 0;
            consumer.assign(partitions);
            consumer.seekToBeginning(partitions);
            while (records < wanted && System.nanoTime() < until) {
                boolean first = begun == 0;
                for (var record : consumer.poll(Duration.ofMillis(100))) {
                    records++;
                    if (!first) {
                        bytes += record.value().length;
                    }
                }
                if (first && 0 < records) {
                    begun = System.nanoTime();
                }
            }
            double seconds = (System.nanoTime() - begun) / 1e9;
            System.out.printf("{\"records\": %d, \"seconds\": %.6f, \"mb_per_second\": %.3f}%n",
                    records, seconds, bytes / 1e6 / seconds);
        }
        System.exit(records == wanted ? 0 : 1);
    }
}
