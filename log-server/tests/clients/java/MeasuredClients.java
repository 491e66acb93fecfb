import java.time.Duration;
import java.util.List;
import java.util.Properties;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;

/**
 * A producer and a consumer that push their own metrics: BOOTSTRAP TOPIC PREFIX. They work until something comes in, and say the
 * producer's instance id first.
 */
public final class MeasuredClients {
    public static void main(String[] arguments) throws Exception {
        String topic = arguments[1];
        try (var producer = new KafkaProducer<String, String>(settings(arguments, "producer"));
             var consumer = new KafkaConsumer<String, String>(settings(arguments, "consumer"))) {
            consumer.assign(List.of(new TopicPartition(topic, 0)));
            System.out.println(producer.clientInstanceId(Duration.ofSeconds(60)));
            while (System.in.available() == 0) {
                producer.send(new ProducerRecord<>(topic, "value")).get();
                consumer.poll(Duration.ofMillis(20));
            }
        }
    }

    private static Properties settings(String[] arguments, String kind) {
        var settings = new Properties();
        settings.put("bootstrap.servers", arguments[0]);
        settings.put("client.id", arguments[2] + "-" + kind);
        settings.put("group.id", arguments[2] + "-group");
        settings.put("auto.offset.reset", "earliest");
        for (String part : List.of("key", "value")) {
            settings.put(part + ".serializer", "org.apache.kafka.common.serialization.StringSerializer");
            settings.put(part + ".deserializer", "org.apache.kafka.common.serialization.StringDeserializer");
        }
        return settings;
    }
}
