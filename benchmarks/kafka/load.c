/* A load of Kafka records through librdkafka.
 *
 *   load produce|sync BROKERS TOPIC RECORDS SIZE     load consume BROKERS TOPIC RECORDS SIZE
 *
 * produce: as fast as it goes; sync: one record at a time; consume: from the beginning of the topic, in a group of its
 * own. Prints records, microseconds, and the median and 99th percentile of the latency of a record in microseconds (0
 * for consume). Anything that fails, or a record of another size, ends it with exit code 1.
 */
#include <librdkafka/rdkafka.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define BATCH 1000
#define PATIENCE_MS 20000

static int64_t *latencies;
static long done;

__attribute__((noreturn, format(printf, 1, 2))) static void fail(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    _exit(1);
}

static int64_t now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000LL + now.tv_nsec / 1000;
}

static void set(rd_kafka_conf_t *conf, const char *name, const char *value)
{
    char error[256];
    if (rd_kafka_conf_set(conf, name, value, error, sizeof error) != RD_KAFKA_CONF_OK)
        fail("%s: %s", name, error);
}

static void delivered(rd_kafka_t *client, const rd_kafka_message_t *message, void *opaque)
{
    (void)client;
    (void)opaque;
    if (message->err)
        fail("not delivered: %s", rd_kafka_err2str(message->err));
    latencies[done++] = rd_kafka_message_latency(message);
}

static rd_kafka_t *client(rd_kafka_type_t type, rd_kafka_conf_t *conf)
{
    char error[256];
    rd_kafka_t *made = rd_kafka_new(type, conf, error, sizeof error);
    if (!made)
        fail("%s", error);
    return made;
}

static void put(rd_kafka_t *producer, const char *topic, void *payload, size_t size)
{
    for (;;) {
        rd_kafka_resp_err_t error = rd_kafka_producev(
            producer, RD_KAFKA_V_TOPIC(topic), RD_KAFKA_V_VALUE(payload, size),
            RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY), RD_KAFKA_V_END);
        if (!error)
            return;
        if (error != RD_KAFKA_RESP_ERR__QUEUE_FULL)
            fail("not produced: %s", rd_kafka_err2str(error));
        rd_kafka_poll(producer, 10);
    }
}

static void await(rd_kafka_t *producer, long count)
{
    while (done < count)
        rd_kafka_poll(producer, 100);
}

static int compare(const void *left, const void *right)
{
    int64_t a = *(const int64_t *)left, b = *(const int64_t *)right;
    return (a > b) - (a < b);
}

static void print(long records, int64_t micros, const int64_t *sorted)
{
    long long p50 = sorted ? sorted[records / 2] : 0, p99 = sorted ? sorted[records * 99 / 100] : 0;
    printf("%ld %lld %lld %lld\n", records, (long long)micros, p50, p99);
}

static void produce(const char *brokers, const char *topic, long records, size_t size, int one_by_one)
{
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    set(conf, "bootstrap.servers", brokers);
    set(conf, "client.id", "bench");
    set(conf, "acks", "1");
    set(conf, "batch.size", "65536");
    set(conf, "linger.ms", one_by_one ? "0" : "5");
    set(conf, "queue.buffering.max.kbytes", "32768");
    set(conf, "message.timeout.ms", "20000");
    set(conf, "socket.nagle.disable", "true");
    rd_kafka_conf_set_dr_msg_cb(conf, delivered);
    rd_kafka_t *producer = client(RD_KAFKA_PRODUCER, conf);
    unsigned char *payload = malloc(size);
    for (size_t i = 0; i < size; i++)
        payload[i] = (unsigned char)random();
    latencies = malloc(sizeof *latencies * (size_t)(records + 1));
    put(producer, topic, payload, size); /* connects; not counted */
    await(producer, 1);
    done = 0;
    int64_t start = now_us();
    for (long i = 0; i < records; i++) {
        int64_t sent = one_by_one ? now_us() : 0;
        put(producer, topic, payload, size);
        if (one_by_one) {
            await(producer, i + 1);
            latencies[i] = now_us() - sent;
        } else {
            rd_kafka_poll(producer, 0);
        }
    }
    await(producer, records);
    int64_t micros = now_us() - start;
    qsort(latencies, (size_t)records, sizeof *latencies, compare);
    print(records, micros, latencies);
    fflush(stdout);
    rd_kafka_destroy(producer);
}

static void consume(const char *brokers, const char *topic, long records, size_t size)
{
    char group[64];
    snprintf(group, sizeof group, "bench-%d-%lld", (int)getpid(), (long long)now_us());
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    set(conf, "bootstrap.servers", brokers);
    set(conf, "client.id", "bench");
    set(conf, "group.id", group);
    set(conf, "auto.offset.reset", "earliest");
    rd_kafka_t *consumer = client(RD_KAFKA_CONSUMER, conf);
    rd_kafka_poll_set_consumer(consumer);
    rd_kafka_topic_partition_list_t *topics = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_list_add(topics, topic, RD_KAFKA_PARTITION_UA);
    rd_kafka_resp_err_t error = rd_kafka_subscribe(consumer, topics);
    if (error)
        fail("not subscribed: %s", rd_kafka_err2str(error));
    rd_kafka_queue_t *queue = rd_kafka_queue_get_consumer(consumer);
    rd_kafka_message_t *messages[BATCH];
    long seen = 0, first = 0;
    int64_t start = 0, last = now_us();
    while (seen < records) {
        ssize_t count = rd_kafka_consume_batch_queue(queue, 100, messages, BATCH);
        if (count <= 0) {
            if (now_us() - last > PATIENCE_MS * 1000LL)
                fail("%ld of %ld records, and then none", seen, records);
            continue;
        }
        last = now_us();
        for (ssize_t i = 0; i < count; i++) {
            if (messages[i]->err)
                fail("not consumed: %s", rd_kafka_message_errstr(messages[i]));
            if (messages[i]->len != size)
                fail("a record of %zu bytes", messages[i]->len);
            rd_kafka_message_destroy(messages[i]);
        }
        seen += count;
        if (!start) {
            start = last;
            first = seen;
        }
    }
    print(seen - first, now_us() - start, NULL); /* from the first ones on: joining the group is not counted */
    fflush(stdout);
    rd_kafka_queue_destroy(queue);
    rd_kafka_topic_partition_list_destroy(topics);
    rd_kafka_consumer_close(consumer);
    rd_kafka_destroy(consumer);
}

int main(int argc, char **argv)
{
    if (argc == 2 && !strcmp(argv[1], "version")) {
        puts(rd_kafka_version_str());
        return 0;
    }
    if (argc != 6)
        fail("usage: load produce|sync|consume BROKERS TOPIC RECORDS SIZE");
    long records = atol(argv[4]);
    size_t size = (size_t)atol(argv[5]);
    if (records < 1 || size < 1)
        fail("RECORDS and SIZE are numbers from 1 on");
    if (!strcmp(argv[1], "consume"))
        consume(argv[2], argv[3], records, size);
    else
        produce(argv[2], argv[3], records, size, !strcmp(argv[1], "sync"));
    return 0;
}
