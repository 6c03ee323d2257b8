import java.time.Duration;
import java.util.*;
import java.util.concurrent.*;
import java.util.function.Function;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.*;
import org.apache.kafka.common.acl.*;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.resource.*;
import org.apache.kafka.common.serialization.*;

/**
 * The Java client: `JavaClient BOOTSTRAP NAME CASE…`, and what prepares a broker: `JavaClient BOOTSTRAP prepare
 * [SHARE-GROUP]…`, `JavaClient BOOTSTRAP acls [HOST=both|producer|consumer|admin]…`.
 */
public class JavaClient {
    static final String ALLOWED = "t1", FORBIDDEN = "secret";
    static final long PATIENCE_MS = 6000, DEADLINE_S = 25;
    static final Duration WAIT = Duration.ofSeconds(10);
    static String bootstrap, unique;

    interface Case { String run() throws Exception; }
    interface Work { void run() throws Exception; }

    static final Map<String, Case> CASES = new LinkedHashMap<>();
    static {
        CASES.put("produce allowed", () -> oneByOne(Map.of(), ALLOWED));
        CASES.put("produce forbidden", () -> oneByOne(Map.of(), FORBIDDEN));
        CASES.put("produce one by one", () -> oneByOne(Map.of(), ALLOWED, FORBIDDEN, ALLOWED));
        CASES.put("produce together", () -> together(Map.of("linger.ms", "200"), ALLOWED, FORBIDDEN, ALLOWED));
        CASES.put("produce acks 0",
            () -> oneByOne(Map.of("acks", "0", "enable.idempotence", "false"), ALLOWED, FORBIDDEN, ALLOWED));
        CASES.put("produce idempotent", () -> oneByOne(Map.of("enable.idempotence", "true"), ALLOWED));
        CASES.put("transaction", () -> transaction(ALLOWED, false));
        CASES.put("transaction with offsets", () -> transaction(ALLOWED, true));
        CASES.put("transaction forbidden", () -> transaction(FORBIDDEN, false));
        CASES.put("consume allowed", () -> consume("classic", true, ALLOWED));
        CASES.put("consume forbidden", () -> consume("classic", true, FORBIDDEN));
        CASES.put("consume both", () -> consume("classic", false, ALLOWED, FORBIDDEN));
        CASES.put("consume assigned", () -> consumeAssigned(ALLOWED));
        CASES.put("consume assigned forbidden", () -> consumeAssigned(FORBIDDEN));
        CASES.put("group protocol allowed", () -> consume("consumer", true, ALLOWED));
        CASES.put("group protocol forbidden", () -> consume("consumer", true, FORBIDDEN));
        CASES.put("share allowed", () -> share(ALLOWED));
        CASES.put("share forbidden", () -> share(FORBIDDEN));
        CASES.put("producer stays connected", () -> producerCloses(ALLOWED, FORBIDDEN, ALLOWED));
        CASES.put("consumer stays connected", () -> consumerCloses(ALLOWED));
        CASES.put("list topics", () -> admin(admin -> admin.listTopics().names().thenApply(JavaClient::visible)));
        CASES.put("create topic", () -> admin(admin ->
            admin.createTopics(List.of(new NewTopic("new-" + unique, 1, (short) 1))).all()));
        CASES.put("delete topic", () -> admin(admin -> admin.deleteTopics(List.of("new-" + unique)).all()));
        CASES.put("delete allowed", () -> admin(admin -> admin.deleteTopics(List.of(ALLOWED)).all()));
        CASES.put("describe allowed", () -> admin(admin -> admin.describeTopics(List.of(ALLOWED)).allTopicNames()));
        CASES.put("describe forbidden", () -> admin(admin -> admin.describeTopics(List.of(FORBIDDEN)).allTopicNames()));
        CASES.put("configs allowed", () -> admin(admin -> configs(admin, ALLOWED)));
        CASES.put("configs forbidden", () -> admin(admin -> configs(admin, FORBIDDEN)));
        CASES.put("offsets allowed", () -> admin(admin -> offsets(admin, ALLOWED)));
        CASES.put("offsets forbidden", () -> admin(admin -> offsets(admin, FORBIDDEN)));
        CASES.put("describe cluster", () -> admin(admin -> admin.describeCluster().nodes()));
    }

    public static void main(String[] arguments) throws Exception {
        bootstrap = arguments[0];
        unique = arguments[1];
        List<String> rest = List.of(arguments).subList(2, arguments.length);
        if (unique.equals("prepare")) {
            prepare(rest);
        } else if (unique.equals("acls")) {
            acls(rest);
        } else {
            for (String name : rest) {
                System.out.printf("{\"case\": \"%s\", \"outcome\": \"%s\"}%n", name, outcome(CASES.get(name)));
                System.out.flush();
            }
        }
        Runtime.getRuntime().halt(0);
    }

    /** Of one case in a thread of its own: a client that hangs is left behind. */
    static String outcome(Case work) throws Exception {
        if (work == null) return "-";
        CompletableFuture<String> found = new CompletableFuture<>();
        Thread thread = new Thread(() -> {
            try {
                found.complete(work.run());
            } catch (Throwable error) {
                found.complete(name(error));
            }
        });
        thread.setDaemon(true);
        thread.start();
        try {
            return found.get(DEADLINE_S, TimeUnit.SECONDS);
        } catch (TimeoutException late) {
            return "timeout";
        }
    }

    static String name(Throwable error) {
        while ((error instanceof ExecutionException || error.getClass() == KafkaException.class) && error.getCause() != null)
            error = error.getCause();
        return error.getClass().getSimpleName().replaceFirst("Exception$", "");
    }

    static String attempt(Work work) {
        try {
            work.run();
            return "ok";
        } catch (Exception error) {
            return name(error);
        }
    }

    /** Without the broker's own, and those that others make and delete meanwhile. */
    static String visible(Collection<String> topics) {
        Set<String> shown = new TreeSet<>(topics);
        shown.removeIf(topic -> topic.startsWith("__") || topic.startsWith("new-"));
        return String.join(", ", shown);
    }

    static Properties settings(Map<String, String> more) {
        Properties all = new Properties();
        all.put("bootstrap.servers", bootstrap);
        all.putAll(more);
        return all;
    }

    // -- producing ----------------------------------------------------------------------------------------------------

    static KafkaProducer<String, String> producer(Map<String, String> more) {
        Map<String, String> all = new HashMap<>(Map.of(
            "delivery.timeout.ms", "8000", "request.timeout.ms", "5000", "max.block.ms", "8000", "linger.ms", "0"));
        all.putAll(more);
        return new KafkaProducer<>(settings(all), new StringSerializer(), new StringSerializer());
    }

    static Future<RecordMetadata> send(Producer<String, String> producer, String topic) {
        try {
            return producer.send(new ProducerRecord<>(topic, 0, null, "hello"));
        } catch (Exception error) {
            return CompletableFuture.failedFuture(error);
        }
    }

    static String oneByOne(Map<String, String> more, String... topics) {
        KafkaProducer<String, String> producer = producer(more);
        List<String> told = new ArrayList<>();
        for (String topic : topics) told.add(attempt(() -> send(producer, topic).get(10, TimeUnit.SECONDS)));
        producer.close(Duration.ofSeconds(2));
        return String.join(", ", told);
    }

    static String together(Map<String, String> more, String... topics) {
        KafkaProducer<String, String> producer = producer(more);
        List<Future<RecordMetadata>> sent = new ArrayList<>();
        for (String topic : topics) sent.add(send(producer, topic));
        List<String> told = new ArrayList<>();
        for (Future<RecordMetadata> one : sent) told.add(attempt(() -> one.get(10, TimeUnit.SECONDS)));
        producer.close(Duration.ofSeconds(2));
        return String.join(", ", told);
    }

    static String transaction(String topic, boolean offsets) {
        KafkaProducer<String, String> producer =
            producer(Map.of("transactional.id", "txn-" + topic + offsets + unique, "transaction.timeout.ms", "9000"));
        List<String> told = new ArrayList<>();
        told.add(attempt(producer::initTransactions));
        if (told.equals(List.of("ok"))) {
            producer.beginTransaction();
            told.add(attempt(() -> send(producer, topic).get(10, TimeUnit.SECONDS)));
            if (offsets && told.get(1).equals("ok"))
                told.add(attempt(() -> sendOffsets(producer, topic)));
            boolean done = Set.copyOf(told).equals(Set.of("ok"));
            told.add(attempt(done ? producer::commitTransaction : producer::abortTransaction));
        }
        producer.close(Duration.ofSeconds(2));
        return String.join(", ", told);
    }

    static void sendOffsets(Producer<String, String> producer, String topic) {
        try (KafkaConsumer<String, String> consumer = consumer(Map.of("group.id", "txn-" + unique))) {
            producer.sendOffsetsToTransaction(
                Map.of(new TopicPartition(topic, 0), new OffsetAndMetadata(1)), consumer.groupMetadata());
        }
    }

    // -- consuming ----------------------------------------------------------------------------------------------------

    static KafkaConsumer<String, String> consumer(Map<String, String> more) {
        Map<String, String> all = new HashMap<>(Map.of(
            "auto.offset.reset", "earliest", "enable.auto.commit", "false", "default.api.timeout.ms", "10000",
            "allow.auto.create.topics", "false"));
        all.putAll(more);
        return new KafkaConsumer<>(settings(all), new StringDeserializer(), new StringDeserializer());
    }

    static String consume(String protocol, boolean commit, String... topics) {
        String group = protocol + "-" + String.join("-", topics) + "-" + unique;
        KafkaConsumer<String, String> consumer = consumer(Map.of("group.id", group, "group.protocol", protocol));
        consumer.subscribe(List.of(topics));
        Set<String> seen = gather(List.of(topics), () -> consumer.poll(Duration.ofMillis(300)));
        if (commit && !Collections.disjoint(seen, List.of(topics))) seen.add("commit " + attempt(consumer::commitSync));
        attempt(() -> consumer.close(CloseOptions.timeout(Duration.ofSeconds(3))));
        return seen.isEmpty() ? "nothing" : String.join(", ", seen);
    }

    static String consumeAssigned(String topic) {
        KafkaConsumer<String, String> consumer = consumer(Map.of());
        consumer.assign(List.of(new TopicPartition(topic, 0)));
        Set<String> seen = gather(List.of(topic), () -> consumer.poll(Duration.ofMillis(300)));
        consumer.close(CloseOptions.timeout(Duration.ofSeconds(3)));
        return seen.isEmpty() ? "nothing" : String.join(", ", seen);
    }

    static String share(String topic) {
        Properties all = settings(Map.of(
            "group.id", "share-" + unique, "default.api.timeout.ms", "10000", "share.acknowledgement.mode", "implicit"));
        KafkaShareConsumer<String, String> consumer =
            new KafkaShareConsumer<>(all, new StringDeserializer(), new StringDeserializer());
        consumer.subscribe(List.of(topic));
        Set<String> seen = gather(List.of(topic), () -> consumer.poll(Duration.ofMillis(300)));
        if (seen.contains(topic)) seen.add("acknowledge " + attempt(() -> acknowledge(consumer)));
        attempt(() -> consumer.close(Duration.ofSeconds(3)));
        return seen.isEmpty() ? "nothing" : String.join(", ", seen);
    }

    static void acknowledge(ShareConsumer<String, String> consumer) throws Exception {
        for (Optional<KafkaException> error : consumer.commitSync(WAIT).values())
            if (error.isPresent()) throw error.get();
    }

    /** Until every topic has shown something, or patience ends: for what should come there is more of it. */
    static Set<String> gather(List<String> topics, Callable<ConsumerRecords<String, String>> poll) {
        Set<String> seen = new TreeSet<>();
        long deadline = System.nanoTime() + PATIENCE_MS * (topics.contains(ALLOWED) ? 2_000_000 : 1_000_000);
        while (seen.size() < topics.size() && System.nanoTime() < deadline) {
            try {
                for (ConsumerRecord<String, String> record : poll.call()) seen.add(record.topic());
            } catch (Exception error) {
                seen.add(name(error));
                pause(100);
            }
        }
        return seen;
    }

    static void pause(long milliseconds) {
        try {
            Thread.sleep(milliseconds);
        } catch (InterruptedException error) {
            throw new IllegalStateException(error);
        }
    }

    // -- connections --------------------------------------------------------------------------------------------------

    static String producerCloses(String... topics) {
        try (KafkaProducer<String, String> producer = producer(Map.of())) {
            for (String topic : topics) attempt(() -> send(producer, topic).get(10, TimeUnit.SECONDS));
            return closed(producer.metrics());
        }
    }

    static String consumerCloses(String topic) {
        try (KafkaConsumer<String, String> consumer = consumer(Map.of())) {
            consumer.assign(List.of(new TopicPartition(topic, 0)));
            for (int count = 0; count < 10; count++) {
                attempt(() -> consumer.poll(Duration.ofMillis(300)));
                pause(100);
            }
            return closed(consumer.metrics());
        }
    }

    /** How many connections have ended, by anybody's doing. */
    static String closed(Map<MetricName, ? extends Metric> metrics) {
        for (Map.Entry<MetricName, ? extends Metric> one : metrics.entrySet())
            if (one.getKey().name().equals("connection-close-total"))
                return "closed " + ((Number) one.getValue().metricValue()).intValue();
        return "no such metric";
    }

    // -- administration -----------------------------------------------------------------------------------------------

    static Admin admin() {
        return Admin.create(settings(Map.of("request.timeout.ms", "5000", "default.api.timeout.ms", "10000")));
    }

    /** What the future says if that is text, else "ok". */
    static String admin(Function<Admin, KafkaFuture<?>> ask) throws Exception {
        Admin admin = admin();
        try {
            Object told = ask.apply(admin).get(12, TimeUnit.SECONDS);
            return told instanceof String ? (String) told : "ok";
        } finally {
            admin.close(Duration.ofSeconds(2));
        }
    }

    static KafkaFuture<?> configs(Admin admin, String topic) {
        return admin.describeConfigs(List.of(new ConfigResource(ConfigResource.Type.TOPIC, topic))).all();
    }

    static KafkaFuture<?> offsets(Admin admin, String topic) {
        return admin.listOffsets(Map.of(new TopicPartition(topic, 0), OffsetSpec.latest())).all();
    }

    // -- preparing a broker -------------------------------------------------------------------------------------------

    /** Both topics with three records each; share groups, which begin at the end unless told otherwise. */
    static void prepare(List<String> shareGroups) throws Exception {
        try (Admin admin = admin(); KafkaProducer<String, String> producer = producer(Map.of())) {
            List<NewTopic> topics = new ArrayList<>();
            for (String topic : List.of(ALLOWED, FORBIDDEN))
                topics.add(new NewTopic(topic, Optional.of(1), Optional.empty()));
            admin.createTopics(topics).all().get();
            AlterConfigOp earliest =
                new AlterConfigOp(new ConfigEntry("share.auto.offset.reset", "earliest"), AlterConfigOp.OpType.SET);
            Map<ConfigResource, Collection<AlterConfigOp>> changes = new HashMap<>();
            for (String group : shareGroups)
                changes.put(new ConfigResource(ConfigResource.Type.GROUP, group), List.of(earliest));
            if (!changes.isEmpty()) admin.incrementalAlterConfigs(changes).all().get();
            for (String topic : List.of(ALLOWED, FORBIDDEN))
                for (int count = 0; count < 3; count++)
                    producer.send(new ProducerRecord<>(topic, 0, null, "before")).get();
        }
        // The first group and the first transaction have the broker make topics of its own, which takes a while.
        System.out.println(consume("classic", true, ALLOWED));
        System.out.println(transaction(ALLOWED, true));
    }

    /** What each host may do: in these ACLs, a client is known by its address. */
    static void acls(List<String> hosts) throws Exception {
        List<AclBinding> bindings = new ArrayList<>();
        for (String text : hosts) {
            String[] parts = text.split("=");
            String host = parts[0], role = parts[1];
            if (role.equals("admin")) {
                for (ResourceType type : List.of(ResourceType.TOPIC, ResourceType.GROUP, ResourceType.TRANSACTIONAL_ID))
                    bindings.add(allow(host, type, "*", AclOperation.ALL));
                bindings.add(allow(host, ResourceType.CLUSTER, "kafka-cluster", AclOperation.ALL));
            }
            if (role.equals("producer") || role.equals("both")) {
                bindings.add(allow(host, ResourceType.TOPIC, ALLOWED, AclOperation.WRITE));
                bindings.add(allow(host, ResourceType.CLUSTER, "kafka-cluster", AclOperation.IDEMPOTENT_WRITE));
                bindings.add(allow(host, ResourceType.TRANSACTIONAL_ID, "*", AclOperation.WRITE));
                bindings.add(allow(host, ResourceType.GROUP, "*", AclOperation.DESCRIBE));
            }
            if (role.equals("consumer") || role.equals("both")) {
                bindings.add(allow(host, ResourceType.TOPIC, ALLOWED, AclOperation.READ));
                bindings.add(allow(host, ResourceType.GROUP, "*", AclOperation.READ));
            }
        }
        try (Admin admin = admin()) {
            admin.createAcls(bindings).all().get();
        }
    }

    static AclBinding allow(String host, ResourceType type, String resource, AclOperation operation) {
        return new AclBinding(
            new ResourcePattern(type, resource, PatternType.LITERAL),
            new AccessControlEntry("User:ANONYMOUS", host, operation, AclPermissionType.ALLOW));
    }
}
