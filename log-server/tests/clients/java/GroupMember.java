import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.atomic.AtomicBoolean;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;

/**
 * A member of a group through the Java client: BOOTSTRAP GROUP TOPIC NAME PROTOCOL. One JSON object per line and per
 * system call says what happens; SIGTERM makes it leave.
 */
public final class GroupMember implements ConsumerRebalanceListener {
    static final ObjectMapper JSON = new ObjectMapper();
    static final int RECORDS_PER_LINE = 100;

    final FileOutputStream out = new FileOutputStream(FileDescriptor.out);
    final TreeSet<Integer> owned = new TreeSet<>();
    final String topic;
    final String name;

    GroupMember(String topic, String name) {
        this.topic = topic;
        this.name = name;
    }

    public static void main(String[] arguments) throws InterruptedException {
        String protocol = arguments[4];
        var settings = new Properties();
        settings.put("bootstrap.servers", arguments[0]);
        settings.put("group.id", arguments[1]);
        settings.put("group.protocol", protocol);
        settings.put("enable.auto.commit", "false");
        settings.put("auto.offset.reset", "earliest");
        settings.put("fetch.max.wait.ms", "50");
        settings.put("key.deserializer", "org.apache.kafka.common.serialization.ByteArrayDeserializer");
        settings.put("value.deserializer", "org.apache.kafka.common.serialization.ByteArrayDeserializer");
        if (protocol.equals("classic")) {
            settings.put("session.timeout.ms", "6000");
            settings.put("heartbeat.interval.ms", "500");
        }
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
        try (var consumer = new KafkaConsumer<byte[], byte[]>(settings)) {
            var member = new GroupMember(arguments[2], arguments[3]);
            consumer.subscribe(List.of(member.topic), member);
            while (!leave.get()) {
                member.poll(consumer);
            }
        } finally {
            left.countDown();
        }
    }

    void poll(KafkaConsumer<byte[], byte[]> consumer) {
        try {
            var records = new ArrayList<List<Long>>();
            var ends = new HashMap<TopicPartition, OffsetAndMetadata>();
            for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(100))) {
                records.add(List.of((long) record.partition(), record.offset()));
                ends.put(new TopicPartition(topic, record.partition()), new OffsetAndMetadata(record.offset() + 1));
            }
            for (int at = 0; at < records.size(); at += RECORDS_PER_LINE) {
                say("records", "records", records.subList(at, Math.min(records.size(), at + RECORDS_PER_LINE)));
            }
            if (!ends.isEmpty()) {
                consumer.commitSync(ends);
                var offsets = new TreeMap<Integer, Long>();
                ends.forEach((where, end) -> offsets.put(where.partition(), end.offset()));
                say("committed", "offsets", offsets.entrySet().stream()
                        .map(each -> List.of((long) each.getKey(), each.getValue())).toList());
            }
        } catch (KafkaException refused) {
            say("refused", "text", refused.toString());
        }
    }

    @Override
    public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
        partitions.forEach(each -> owned.add(each.partition()));
        say("owned", "partitions", owned);
    }

    @Override
    public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
        partitions.forEach(each -> owned.remove(each.partition()));
        say("owned", "partitions", owned);
    }

    @Override
    public void onPartitionsLost(Collection<TopicPartition> partitions) {
        onPartitionsRevoked(partitions);
    }

    void say(String event, String what, Object value) {
        Map<String, Object> line = new LinkedHashMap<>();
        line.put("member", name);
        line.put("event", event);
        line.put(what, value);
        try {
            out.write((JSON.writeValueAsString(line) + "\n").getBytes());
        } catch (IOException failure) {
            throw new UncheckedIOException(failure);
        }
    }
}
