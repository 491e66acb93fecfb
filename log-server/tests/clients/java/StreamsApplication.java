import java.time.Duration;
import java.util.List;
import java.util.Properties;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.KeyValue;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse;
import org.apache.kafka.streams.kstream.KStream;
import org.apache.kafka.streams.kstream.KTable;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.Suppressed;
import org.apache.kafka.streams.kstream.TimeWindows;
import org.apache.kafka.streams.kstream.Windowed;
import org.apache.kafka.streams.state.WindowStore;

/**
 * A Kafka Streams application with exactly_once_v2: BOOTSTRAP PREFIX STATE_DIRECTORY. It counts the words of PREFIX-lines
 * into PREFIX-counts, adds up the numbers of PREFIX-numbers by key and window into PREFIX-sums, and says each window's sum
 * once more in PREFIX-final when the window is over. Without a cache, so that every step of a count and of a sum comes out.
 */
public final class StreamsApplication {
    static final Duration WINDOW = Duration.ofSeconds(10);

    private StreamsApplication() {
    }

    public static void main(String[] arguments) {
        var settings = new Properties();
        settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, arguments[0]);
        settings.put(StreamsConfig.APPLICATION_ID_CONFIG, arguments[1]);
        settings.put(StreamsConfig.STATE_DIR_CONFIG, arguments[2]);
        settings.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.EXACTLY_ONCE_V2);
        settings.put(StreamsConfig.DEFAULT_KEY_SERDE_CLASS_CONFIG, Serdes.StringSerde.class);
        settings.put(StreamsConfig.DEFAULT_VALUE_SERDE_CLASS_CONFIG, Serdes.StringSerde.class);
        settings.put(StreamsConfig.STATESTORE_CACHE_MAX_BYTES_CONFIG, 0);
        settings.put(StreamsConfig.mainConsumerPrefix("session.timeout.ms"), 3000);
        settings.put(StreamsConfig.mainConsumerPrefix("heartbeat.interval.ms"), 300);
        var streams = new KafkaStreams(topology(arguments[1]), settings);
        streams.setUncaughtExceptionHandler(failure -> {
            failure.printStackTrace();
            return StreamThreadExceptionResponse.REPLACE_THREAD;
        });
        streams.setStateListener((now, before) -> {
            if (now == KafkaStreams.State.ERROR) {
                Runtime.getRuntime().halt(1);
            }
        });
        Runtime.getRuntime().addShutdownHook(new Thread(streams::close));
        streams.start();
    }

    static Topology topology(String prefix) {
        var builder = new StreamsBuilder();
        KStream<String, String> lines = builder.stream(prefix + "-lines");
        lines.flatMapValues(line -> List.of(line.split(" ")))
                .groupBy((key, word) -> word)
                .count()
                .toStream()
                .mapValues(String::valueOf)
                .to(prefix + "-counts");
        KStream<String, String> numbers = builder.stream(prefix + "-numbers");
        var store = Materialized.<String, Long, WindowStore<Bytes, byte[]>>as("sums")
                .withKeySerde(Serdes.String())
                .withValueSerde(Serdes.Long());
        KTable<Windowed<String>, Long> sums = numbers.groupByKey()
                .windowedBy(TimeWindows.ofSizeWithNoGrace(WINDOW))
                .aggregate(() -> 0L, (key, number, sum) -> sum + Long.parseLong(number), store);
        sums.toStream().map(StreamsApplication::said).to(prefix + "-sums");
        sums.suppress(Suppressed.untilWindowCloses(Suppressed.BufferConfig.unbounded()))
                .toStream()
                .map(StreamsApplication::said)
                .to(prefix + "-final");
        return builder.build();
    }

    static KeyValue<String, String> said(Windowed<String> where, Long sum) {
        return KeyValue.pair(where.key() + "@" + where.window().start(), sum.toString());
    }
}
