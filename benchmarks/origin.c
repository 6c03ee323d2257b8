/*
 * The server behind the proxies: one thread, keep-alive, two answers. It must never be what limits a proxy, so it does
 * nothing but look for the end of a request head. Not a web server.
 *
 *     origin ADDRESS PORT
 *
 * /api/large is answered with 1 MiB, everything else with six bytes. With `Connection: close`, written like this or in
 * small letters, the six bytes are the last ones of the connection. The Date header changes every second, as it does
 * for real servers: heads of answers that never change would flatter a proxy that remembers them.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define LARGE_BODY (1024 * 1024)
#define HEAD_ROOM 256
#define MAX_HEAD 65536
#define MAX_CONNECTIONS 65536
#define EVENTS 256

struct connection {
    size_t held;          /* bytes of an unfinished request head */
    size_t left;          /* bytes of an answer that did not fit into the socket's buffer */
    char *head;           /* MAX_HEAD bytes, allocated once */
};

struct answer {
    char bytes[HEAD_ROOM + LARGE_BODY];
    size_t length, body;
};

static struct connection connections[MAX_CONNECTIONS];
static struct answer small_answer, last_answer, large_answer;
static int epoll;

static void stop(const char *what)
{
    perror(what);
    exit(1);
}

static void build(struct answer *a, const char *date, const char *more, size_t body)
{
    a->body = body;
    a->length = snprintf(a->bytes, HEAD_ROOM,
                         "HTTP/1.1 200 OK\r\nServer: origin\r\nDate: %s\r\nContent-Type: text/plain\r\n"
                         "Content-Length: %zu\r\n%s\r\n", date, body, more);
    memset(a->bytes + a->length, 'x', body);
    a->length += body;
}

static void each_second(void)
{
    static time_t last;
    time_t now = time(NULL);
    char date[64];

    if (now == last)
        return;
    /* An answer on its way goes on from the same offset: a date has a fixed width, so the length stays. */
    last = now;
    strftime(date, sizeof(date), "%a, %d %b %Y %H:%M:%S GMT", gmtime(&now));
    build(&small_answer, date, "", 6);
    build(&last_answer, date, "Connection: close\r\n", 6);
    build(&large_answer, date, "", LARGE_BODY);
}

static void watch(int fd, int operation, unsigned events)
{
    struct epoll_event event = { .events = events, .data.fd = fd };
    if (epoll_ctl(epoll, operation, fd, &event) < 0)
        stop("epoll_ctl");
}

static void drop(int fd)
{
    connections[fd].held = connections[fd].left = 0;
    close(fd);
}

/* Send the last `left` bytes of an answer; what does not fit waits for EPOLLOUT. Returns 0 if the connection is gone:
 * nobody would read from it while it waits to write, and an error that nobody takes notice of would come back at once. */
static int send_rest(int fd, const struct answer *a, size_t left)
{
    size_t before = connections[fd].left;
    ssize_t n = send(fd, a->bytes + a->length - left, left, MSG_NOSIGNAL);

    if (n < 0 && errno != EAGAIN) {
        drop(fd);
        return 0;
    }
    if (n < 0)
        n = 0;
    connections[fd].left = left - n;
    if (connections[fd].left && !before)
        watch(fd, EPOLL_CTL_MOD, EPOLLOUT);
    else if (!connections[fd].left && before)
        watch(fd, EPOLL_CTL_MOD, EPOLLIN);
    return 1;
}

/* Answer every whole head that is held, in order, one answer at a time. */
static void serve(int fd)
{
    static const char large[] = "GET /api/large ", last[] = "onnection: close\r\n";
    struct connection *c = &connections[fd];
    char *start = c->head, *end;

    while (!c->left && (end = memmem(start, c->held, "\r\n\r\n", 4))) {
        const struct answer *a;

        if (memmem(start, end + 2 - start, last, sizeof(last) - 1)) {
            if (send_rest(fd, &last_answer, last_answer.length))
                drop(fd);
            return;
        }
        a = memcmp(start, large, sizeof(large) - 1) ? &small_answer : &large_answer;
        if (!send_rest(fd, a, a->length))
            return;
        c->held -= end + 4 - start;
        start = end + 4;
    }
    if (c->held)
        memmove(c->head, start, c->held);
}

static void readable(int fd)
{
    struct connection *c = &connections[fd];
    ssize_t n = c->held < MAX_HEAD ? recv(fd, c->head + c->held, MAX_HEAD - c->held, 0) : 0;

    if (n > 0) {
        c->held += n;
        serve(fd);
    } else {
        drop(fd);
    }
}

static void writable(int fd)
{
    if (send_rest(fd, &large_answer, connections[fd].left) && !connections[fd].left)
        serve(fd);
}

static void accept_one(int listener)
{
    int on = 1, fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

    if (fd < 0)
        return;
    if (fd >= MAX_CONNECTIONS || (!connections[fd].head && !(connections[fd].head = calloc(1, MAX_HEAD)))) {
        close(fd);
        return;
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    watch(fd, EPOLL_CTL_ADD, EPOLLIN);
}

static int listen_on(const char *address, int port)
{
    struct sockaddr_in where = { .sin_family = AF_INET, .sin_port = htons(port) };
    int on = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd < 0 || inet_pton(AF_INET, address, &where.sin_addr) != 1)
        stop(address);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (bind(fd, (struct sockaddr *)&where, sizeof(where)) < 0 || listen(fd, 4096) < 0)
        stop(address);
    return fd;
}

int main(int argc, char **argv)
{
    struct epoll_event events[EVENTS];
    int listener;

    if (argc != 3) {
        fprintf(stderr, "usage: origin ADDRESS PORT\n");
        return 2;
    }
    epoll = epoll_create1(EPOLL_CLOEXEC);
    listener = listen_on(argv[1], atoi(argv[2]));
    watch(listener, EPOLL_CTL_ADD, EPOLLIN);
    for (;;) {
        int n = epoll_wait(epoll, events, EVENTS, -1);
        each_second();
        for (int i = 0; i < n; i++) {
            int fd = events[i].data.fd;
            if (fd == listener)
                accept_one(listener);
            else if (events[i].events & EPOLLOUT)
                writable(fd);
            else
                readable(fd);
        }
    }
}
