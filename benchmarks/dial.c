/*
 * How long a server takes, seen from its client: one connection at a time.
 *
 *     dial rr ADDRESS PORT SECONDS    one byte there and back, over and over on one connection
 *     dial crr ADDRESS PORT SECONDS   connect, one byte there and back, reset, over and over
 *     dial serve ADDRESS PORT         the other end of both
 *
 * Prints rounds and microseconds: "ROUNDS MICROSECONDS P50 P99". Connections end with a reset, so no port stays behind
 * in TIME_WAIT.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MOST 4000000

static unsigned samples[MOST];

static void stop(const char *what)
{
    perror(what);
    exit(1);
}

static double now_us(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e6 + t.tv_nsec / 1e3;
}

static int connected(const struct sockaddr_in *to)
{
    struct linger reset = { 1, 0 };
    int fd = socket(AF_INET, SOCK_STREAM, 0), on = 1;

    if (fd < 0 || connect(fd, (const struct sockaddr *)to, sizeof(*to)))
        stop("connect");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
    return fd;
}

static void exchange(int fd)
{
    char byte = 'x';

    if (write(fd, &byte, 1) != 1 || read(fd, &byte, 1) != 1)
        stop("exchange");
}

static int ascending(const void *one, const void *other)
{
    unsigned a = *(const unsigned *)one, b = *(const unsigned *)other;

    return a < b ? -1 : a > b;
}

static void ask(const struct sockaddr_in *to, double seconds, int anew)
{
    double start = now_us(), before = start, end = start + seconds * 1e6;
    int fd = anew ? -1 : connected(to);
    size_t rounds = 0;

    while (before < end && rounds < MOST) {
        double after;

        if (anew)
            fd = connected(to);
        exchange(fd);
        if (anew)
            close(fd);
        after = now_us();
        samples[rounds++] = (unsigned)((after - before) * 1000);
        before = after;
    }
    qsort(samples, rounds, sizeof(*samples), ascending);
    printf("%zu %.0f %.2f %.2f\n", rounds, before - start, samples[rounds / 2] / 1e3, samples[rounds * 99 / 100] / 1e3);
}

static void serve(const struct sockaddr_in *at)
{
    int listener = socket(AF_INET, SOCK_STREAM, 0), epoll = epoll_create1(0), on = 1;
    struct epoll_event event = { .events = EPOLLIN, .data.fd = listener }, found[64];

    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (bind(listener, (const struct sockaddr *)at, sizeof(*at)) || listen(listener, 1024))
        stop("listen");
    epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event);
    for (;;) {
        int count = epoll_wait(epoll, found, 64, -1), i;

        for (i = 0; i < count; i++) {
            int fd = found[i].data.fd;
            char byte;

            if (fd == listener) {
                event.data.fd = accept4(listener, 0, 0, SOCK_NONBLOCK);
                setsockopt(event.data.fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
                epoll_ctl(epoll, EPOLL_CTL_ADD, event.data.fd, &event);
            } else if (read(fd, &byte, 1) != 1 || write(fd, &byte, 1) != 1) {
                close(fd);
            }
        }
    }
}

int main(int argc, char **argv)
{
    struct sockaddr_in address = { .sin_family = AF_INET };

    if (argc < 4 || inet_pton(AF_INET, argv[2], &address.sin_addr) != 1) {
        fprintf(stderr, "dial rr|crr|serve ADDRESS PORT [SECONDS]\n");
        return 2;
    }
    address.sin_port = htons(atoi(argv[3]));
    if (!strcmp(argv[1], "serve"))
        serve(&address);
    ask(&address, argc > 4 ? atof(argv[4]) : 1, !strcmp(argv[1], "crr"));
    return 0;
}
