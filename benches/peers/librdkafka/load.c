/* Loads on a broker through librdkafka. Prints one line of JSON.
 *
 *   load produce BOOTSTRAP TOPIC RECORDS BYTES ACKS       as fast as it goes
 *   load consume BOOTSTRAP TOPIC RECORDS PARTITIONS       from the start, as fast as it goes, without a group;
 *                                                         the clock starts with the first record
 *   load latency BOOTSTRAP TOPIC RATE SECONDS BYTES ACKS  from producer to consumer, at a fixed rate
 *
 * Settings are librdkafka's defaults, except: `latency` sends each record at once (linger.ms=0), as anyone would who
 * cares. Its clock starts when a record was due, not when it was sent: a stall counts against every record it
 * delays ("coordinated omission" would count it once).
 */
#define _GNU_SOURCE
#include <inttypes.h>
#include <librdkafka/rdkafka.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define SECOND 1000000000LL
#define WARM_UP_SECONDS 3
#define GIVE_UP_SECONDS 120

static int64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * SECOND + t.tv_nsec;
}

static void fail(const char *what, const char *why) {
    fprintf(stderr, "%s: %s\n", what, why);
    exit(1);
}

static rd_kafka_t *client(rd_kafka_type_t type, const char *bootstrap, const char **settings,
                          void (*delivered)(rd_kafka_t *, const rd_kafka_message_t *, void *)) {
    char why[512];
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    if (rd_kafka_conf_set(conf, "bootstrap.servers", bootstrap, why, sizeof why)) fail("bootstrap", why);
    for (; *settings; settings += 2)
        if (rd_kafka_conf_set(conf, settings[0], settings[1], why, sizeof why)) fail(settings[0], why);
    if (delivered) rd_kafka_conf_set_dr_msg_cb(conf, delivered);
    rd_kafka_t *made = rd_kafka_new(type, conf, why, sizeof why);
    if (!made) fail("client", why);
    return made;
}

/* Bytes that do not compress and do not repeat within a batch. */
static char *noise(size_t length) {
    uint64_t state = 0x9e3779b97f4a7c15ULL;
    char *bytes = malloc(length);
    for (size_t i = 0; i < length; i++) {
        state ^= state << 13, state ^= state >> 7, state ^= state << 17;
        bytes[i] = (char)state;
    }
    return bytes;
}

/* ---- produce */

static int64_t acknowledged, refused, last_acknowledged_at;

static void count_delivery(rd_kafka_t *rk, const rd_kafka_message_t *message, void *opaque) {
    (void)rk, (void)opaque;
    if (message->err) {
        if (!refused++) fprintf(stderr, "delivery: %s\n", rd_kafka_err2str(message->err));
        return;
    }
    acknowledged++;
    last_acknowledged_at = now();
}

static int produce(const char *bootstrap, const char *topic, int64_t records, size_t bytes, const char *acks) {
    const char *settings[] = {"acks", acks, NULL};
    rd_kafka_t *rk = client(RD_KAFKA_PRODUCER, bootstrap, settings, count_delivery);
    rd_kafka_topic_t *rkt = rd_kafka_topic_new(rk, topic, NULL);
    const struct rd_kafka_metadata *metadata;
    if (rd_kafka_metadata(rk, 0, rkt, &metadata, 30000)) fail("metadata", "no answer");
    rd_kafka_metadata_destroy(metadata);
    size_t span = 1 << 20;
    char *source = noise(span + bytes);
    int64_t begun = now();
    for (int64_t i = 0; i < records; i++) {
        char *value = source + (size_t)(i * 509) % span;
        while (rd_kafka_produce(rkt, RD_KAFKA_PARTITION_UA, RD_KAFKA_MSG_F_COPY, value, bytes, NULL, 0, NULL)) {
            if (rd_kafka_last_error() != RD_KAFKA_RESP_ERR__QUEUE_FULL)
                fail("produce", rd_kafka_err2str(rd_kafka_last_error()));
            rd_kafka_poll(rk, 10);
        }
        if (i % 256 == 0) rd_kafka_poll(rk, 0);
    }
    while (acknowledged + refused < records && now() < begun + GIVE_UP_SECONDS * SECOND) rd_kafka_poll(rk, 10);
    double seconds = (double)(last_acknowledged_at - begun) / SECOND;
    printf("{\"records\": %" PRId64 ", \"refused\": %" PRId64 ", \"seconds\": %.6f, \"mb_per_second\": %.3f}\n",
           acknowledged, refused, seconds, (double)acknowledged * (double)bytes / 1e6 / seconds);
    return acknowledged == records ? 0 : 1;
}

/* ---- consume */

static rd_kafka_queue_t *consume_from(rd_kafka_t *rk, rd_kafka_topic_t *rkt, int partitions, int64_t offset) {
    rd_kafka_queue_t *queue = rd_kafka_queue_new(rk);
    for (int p = 0; p < partitions; p++)
        if (rd_kafka_consume_start_queue(rkt, p, offset, queue))
            fail("consume", rd_kafka_err2str(rd_kafka_last_error()));
    return queue;
}

static int consume(const char *bootstrap, const char *topic, int64_t records, int partitions) {
    const char *settings[] = {NULL};
    rd_kafka_t *rk = client(RD_KAFKA_CONSUMER, bootstrap, settings, NULL);
    rd_kafka_topic_t *rkt = rd_kafka_topic_new(rk, topic, NULL);
    rd_kafka_queue_t *queue = consume_from(rk, rkt, partitions, RD_KAFKA_OFFSET_BEGINNING);
    int64_t until = now() + GIVE_UP_SECONDS * SECOND, begun = 0, seen = 0, bytes = 0;
    rd_kafka_message_t *messages[1000];
    while (seen < records && now() < until) {
        ssize_t count = rd_kafka_consume_batch_queue(queue, 10, messages, begun ? 1000 : 1);
        for (ssize_t i = 0; i < count; i++) {
            if (!messages[i]->err) {
                if (!begun) begun = now();
                else bytes += (int64_t)messages[i]->len;
                seen++;
            }
            rd_kafka_message_destroy(messages[i]);
        }
    }
    double seconds = (double)(now() - begun) / SECOND;
    printf("{\"records\": %" PRId64 ", \"seconds\": %.6f, \"mb_per_second\": %.3f}\n", seen, seconds,
           (double)bytes / 1e6 / seconds);
    return seen == records ? 0 : 1;
}

/* ---- latency */

static struct {
    int64_t *latencies, *acks; /* by number of the record, 0 while it is out */
    int64_t records, received;
    rd_kafka_queue_t *queue;
    volatile int stop;
} run;

struct stamp { /* at the front of each value */
    int64_t number, due;
};

static void note_ack(rd_kafka_t *rk, const rd_kafka_message_t *message, void *opaque) {
    (void)rk, (void)opaque;
    struct stamp stamp;
    memcpy(&stamp, message->payload, sizeof stamp);
    if (message->err) refused++;
    else if (0 <= stamp.number) run.acks[stamp.number] = now() - stamp.due;
}

static void *receive(void *unused) {
    (void)unused;
    while (!run.stop) {
        /* One by one: a call for several waits until it has that many, or its time is up. */
        rd_kafka_message_t *message = rd_kafka_consume_queue(run.queue, 100);
        if (!message) continue;
        int64_t at = now();
        struct stamp stamp;
        if (!message->err) {
            memcpy(&stamp, message->payload, sizeof stamp);
            if (0 <= stamp.number) run.latencies[stamp.number] = at - stamp.due;
            __atomic_add_fetch(&run.received, 1, __ATOMIC_RELEASE);
        }
        rd_kafka_message_destroy(message);
    }
    return NULL;
}

/* A thread of its own notes the answers, so that they do not wait for the next record to be due. */
static void *note_acks(void *sender) {
    while (!run.stop) rd_kafka_poll(sender, 100);
    return NULL;
}

static int ascending(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (y < x) - (x < y);
}

static void print_spread(const char *name, int64_t *figures, int64_t from, int64_t to, const char *end) {
    int64_t count = to - from;
    figures += from;
    qsort(figures, (size_t)count, sizeof *figures, ascending);
    const struct { const char *name; double share; } marks[] = {{"p50", 0.5}, {"p90", 0.9}, {"p99", 0.99}, {"p999", 0.999}};
    printf("\"%s\": {", name);
    for (size_t i = 0; i < sizeof marks / sizeof *marks; i++)
        printf("\"%s_us\": %.1f, ", marks[i].name, (double)figures[(int64_t)(marks[i].share * (double)(count - 1))] / 1000);
    printf("\"max_us\": %.1f}%s", (double)figures[count - 1] / 1000, end);
}

static void send_one(rd_kafka_topic_t *rkt, char *value, size_t bytes, int64_t number, int64_t due) {
    struct stamp stamp = {number, due};
    memcpy(value, &stamp, sizeof stamp);
    while (rd_kafka_produce(rkt, 0, RD_KAFKA_MSG_F_COPY, value, bytes, NULL, 0, NULL))
        if (rd_kafka_last_error() != RD_KAFKA_RESP_ERR__QUEUE_FULL)
            fail("produce", rd_kafka_err2str(rd_kafka_last_error()));
        else
            usleep(100);
}

static int latency(const char *bootstrap, const char *topic, int64_t rate, int64_t seconds, size_t bytes, const char *acks) {
    if (bytes < sizeof(struct stamp)) fail("bytes", "too few for a time stamp");
    if (seconds <= WARM_UP_SECONDS) fail("seconds", "all of them would be the warm-up");
    const char *sender_settings[] = {"acks", acks, "linger.ms", "0", NULL};
    const char *receiver_settings[] = {NULL};
    rd_kafka_t *sender = client(RD_KAFKA_PRODUCER, bootstrap, sender_settings, note_ack);
    rd_kafka_topic_t *to = rd_kafka_topic_new(sender, topic, NULL);
    rd_kafka_t *receiver = client(RD_KAFKA_CONSUMER, bootstrap, receiver_settings, NULL);
    run.queue = consume_from(receiver, rd_kafka_topic_new(receiver, topic, NULL), 1, RD_KAFKA_OFFSET_BEGINNING);
    run.records = rate * seconds;
    run.latencies = calloc((size_t)run.records, sizeof *run.latencies);
    run.acks = calloc((size_t)run.records, sizeof *run.acks);
    pthread_t receiving, noting;
    if (pthread_create(&receiving, NULL, receive, NULL) || pthread_create(&noting, NULL, note_acks, sender))
        fail("thread", "cannot start");
    char *value = noise(bytes);
    /* One record all the way before the clock starts: connections, metadata, the first fetch. */
    send_one(to, value, bytes, -1, now());
    int64_t begun = now();
    while (!__atomic_load_n(&run.received, __ATOMIC_ACQUIRE)) {
        usleep(1000);
        if (begun + 30 * SECOND < now()) fail("latency", "the first record did not arrive");
    }
    begun = now() + SECOND / 10;
    int64_t behind_max = 0;
    for (int64_t i = 0; i < run.records; i++) {
        int64_t due = begun + i * SECOND / rate;
        struct timespec t = {due / SECOND, due % SECOND};
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL); /* returns at once when we are late */
        if (behind_max < now() - due) behind_max = now() - due;
        send_one(to, value, bytes, i, due);
    }
    int64_t until = now() + 30 * SECOND;
    while (__atomic_load_n(&run.received, __ATOMIC_ACQUIRE) < run.records + 1 && now() < until) usleep(1000);
    while (0 < rd_kafka_outq_len(sender) && now() < until) usleep(1000);
    run.stop = 1;
    pthread_join(receiving, NULL);
    pthread_join(noting, NULL);
    int64_t lost = run.records + 1 - run.received, from = WARM_UP_SECONDS * rate;
    printf("{\"records\": %" PRId64 ", \"refused\": %" PRId64 ", \"lost\": %" PRId64 ", \"sender_behind_max_us\": %.1f, ",
           run.records - from, refused, lost, (double)behind_max / 1000);
    print_spread("end_to_end", run.latencies, from, run.records, ", ");
    print_spread("ack", run.acks, from, run.records, "}\n");
    return lost || refused ? 1 : 0;
}

int main(int argc, char **argv) {
    if (argc == 2 && !strcmp(argv[1], "version")) return puts(rd_kafka_version_str()), 0;
    if (argc == 7 && !strcmp(argv[1], "produce")) return produce(argv[2], argv[3], atoll(argv[4]), (size_t)atoll(argv[5]), argv[6]);
    if (argc == 6 && !strcmp(argv[1], "consume")) return consume(argv[2], argv[3], atoll(argv[4]), atoi(argv[5]));
    if (argc == 8 && !strcmp(argv[1], "latency"))
        return latency(argv[2], argv[3], atoll(argv[4]), atoll(argv[5]), (size_t)atoll(argv[6]), argv[7]);
    fputs("see the head of load.c\n", stderr);
    return 2;
}
