// Records one at a time through Apache's Java producer: BROKERS TOPIC RECORDS SIZE.
// Prints records, microseconds, and the median and 99th percentile of the latency of a record in microseconds.

import java.util.Arrays;
import java.util.Properties;
import java.util.Random;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.ByteArraySerializer;

public class SyncProduce {
    private static final int WARM_UP = 1000;

    public static void main(String[] arguments) throws Exception {
        int records = Integer.parseInt(arguments[2]);
        byte[] payload = new byte[Integer.parseInt(arguments[3])];
        new Random(1).nextBytes(payload);
        Properties properties = new Properties();
        properties.put("bootstrap.servers", arguments[0]);
        properties.put("client.id", "bench");
        properties.put("acks", "1");
        properties.put("linger.ms", "0");
        long[] latencies = new long[records];
        try (var producer = new KafkaProducer<>(properties, new ByteArraySerializer(), new ByteArraySerializer())) {
            var record = new ProducerRecord<byte[], byte[]>(arguments[1], payload);
            for (int i = 0; i < WARM_UP; i++) producer.send(record).get();
            long start = System.nanoTime();
            for (int i = 0; i < records; i++) {
                long sent = System.nanoTime();
                producer.send(record).get();
                latencies[i] = (System.nanoTime() - sent) / 1000;
            }
            long micros = (System.nanoTime() - start) / 1000;
            Arrays.sort(latencies);
            System.out.printf("%d %d %d %d%n", records, micros, latencies[records / 2], latencies[records * 99 / 100]);
        }
    }
}
