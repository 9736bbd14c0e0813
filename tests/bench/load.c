/* Clients: so many connections, each with one request after the other.
 *
 *     load PORT CONNECTIONS MILLISECONDS TOKENS PACE_US BODY_BYTES WRITES
 *
 * TOKENS 0 asks for plain answers; WRITES 2 sends head and body one after the other, as Python's
 * clients do, else they go out as one. Each request has the API key of proxy_runner.py. Prints one
 * JSON object. ttft: from the first byte sent to the first byte of the answer's body, without the
 * PACE that the server takes for it, µs. body: bytes of bodies without their framing; each answer's
 * is measured and all must be of one length (whole). wrong: answers that were no 200, or cut.
 */
#define _GNU_SOURCE
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

enum { SAMPLES = 1 << 20, READ = 1 << 17 };
enum state { THINKING, HEAD, BODY, SIZE, DATA, DATA_END, TRAILER };

struct client {
    int fd;
    enum state state;
    long sent, left, got, due, began;
    int fresh;                          /* no byte of the body yet */
    char line[8192];
    int line_len;
};

static char *request;
static long request_len, first_len, body_total, requests, wrong, whole = -1, pace, samples;
static float *ttft;
static int port, poll_fd;

static long now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000L + t.tv_nsec;
}

static void prepare(long tokens, long bytes, int writes) {
    char *body = malloc(bytes + 1024);
    int n = sprintf(body, "{\"model\":\"bench\",\"stream\":%s,\"max_tokens\":%ld,\"pace_us\":%ld,"
        "\"messages\":[{\"role\":\"user\",\"content\":\"", tokens ? "true" : "false", tokens, pace);
    for (; n < bytes - 4; n++) body[n] = n % 7 ? 'a' + n % 26 : ' ';
    n += sprintf(body + n, "\"}]}");
    request = malloc(n + 1024);
    request_len = sprintf(request, "POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n"
        "User-Agent: OpenAI/Python 1.99.0\r\nAccept: application/json\r\n"
        "Authorization: Bearer bench-key-0123456789\r\n"
        "Content-Type: application/json\r\nContent-Length: %d\r\n\r\n", port, n);
    first_len = writes == 2 ? request_len : request_len + n;
    memcpy(request + request_len, body, n);
    request_len += n;
}

static void flush(struct client *c) {
    while (c->state != THINKING && c->sent < request_len) {
        long upto = c->sent < first_len ? first_len : request_len;
        ssize_t n = send(c->fd, request + c->sent, upto - c->sent, MSG_NOSIGNAL);
        if (n <= 0) return;
        c->sent += n;
    }
}

static void ask(struct client *c) {
    c->state = HEAD, c->sent = c->got = c->line_len = 0, c->fresh = 1, c->due = 0;
    c->began = now_ns();
    flush(c);
}

static void connect_to(struct client *c) {
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port)};
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int on = 1;
    c->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(c->fd, (void *)&at, sizeof at)) { perror("connect"); exit(1); }
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    struct epoll_event what = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = c};
    epoll_ctl(poll_fd, EPOLL_CTL_ADD, c->fd, &what);
}

/* The answer is whole. Paced clients pause a little, so that they do not march in step. */
static void done(struct client *c) {
    requests++;
    if (whole < 0) whole = c->got;
    if (c->got != whole) wrong++;
    c->state = THINKING;
    c->due = now_ns() + (pace ? (rand() % 1000) * pace : 0);
    if (!pace) ask(c);
}

static void body_bytes(struct client *c, long n) {
    if (c->fresh) {
        c->fresh = 0;
        if (samples < SAMPLES) ttft[samples++] = (now_ns() - c->began) / 1000.0 - pace;
    }
    c->got += n, body_total += n;
}

static void head(struct client *c) {
    c->line[c->line_len] = 0;
    if (strncmp(c->line, "HTTP/1.1 200", 12)) {
        fprintf(stderr, "load: %.80s\n", c->line);
        exit(1);
    }
    char *length = strcasestr(c->line, "\r\ncontent-length:");
    c->left = length ? atol(length + 17) : 0;
    c->state = length ? BODY : SIZE;
    c->line_len = 0;
}

/* Takes what it can of the bytes; how many. */
static long take(struct client *c, const char *data, long n) {
    if (c->state == HEAD) {
        long at = 0;
        while (at < n && c->line_len < (int)sizeof c->line - 1) {
            c->line[c->line_len++] = data[at++];
            if (c->line_len >= 4 && !memcmp(c->line + c->line_len - 4, "\r\n\r\n", 4)) { head(c); break; }
        }
        return at;
    }
    if (c->state == BODY || c->state == DATA) {
        long most = n < c->left ? n : c->left;
        body_bytes(c, most);
        c->left -= most;
        if (!c->left) {
            if (c->state == BODY) done(c);
            else c->state = DATA_END, c->left = 2;
        }
        return most;
    }
    if (c->state == DATA_END) {
        if (!--c->left) c->state = SIZE, c->line_len = 0;
        return 1;
    }
    if (data[0] != '\n') {               /* SIZE or TRAILER: lines */
        if (c->line_len < 64) c->line[c->line_len++] = data[0];
        return 1;
    }
    c->line[c->line_len] = 0;
    if (c->state == TRAILER) { if (c->line_len <= 1) done(c); }
    else {
        c->left = strtol(c->line, 0, 16);
        c->state = c->left ? DATA : TRAILER;
    }
    c->line_len = 0;
    return 1;
}

static void receive(struct client *c) {
    static char data[READ];
    for (;;) {
        ssize_t n = recv(c->fd, data, READ, MSG_DONTWAIT);
        if (n < 0 && errno == EAGAIN) return;
        if (n <= 0) {
            wrong += c->state != THINKING && (c->state != HEAD || c->line_len);
            close(c->fd);
            connect_to(c);
            if (c->state != THINKING) ask(c);
            return;
        }
        for (long at = 0; at < n && c->state != THINKING;) at += take(c, data + at, n - at);
    }
}

static int by_size(const void *a, const void *b) {
    return (*(float *)a > *(float *)b) - (*(float *)a < *(float *)b);
}

int main(int argc, char **argv) {
    if (argc != 8) return 2;
    int count = atoi(argv[2]);
    port = atoi(argv[1]), pace = atol(argv[5]);
    prepare(atol(argv[4]), atol(argv[6]), atoi(argv[7]));
    struct client *clients = calloc(count, sizeof *clients);
    ttft = malloc(SAMPLES * sizeof *ttft);
    poll_fd = epoll_create1(0);
    long began = now_ns(), end = began + atol(argv[3]) * 1000000L;
    for (int i = 0; i < count; i++) {
        connect_to(&clients[i]);
        clients[i].due = began + (pace ? (rand() % 1000) * pace * 4 : 0);
    }
    struct epoll_event seen[256];
    for (long now; (now = now_ns()) < end;) {
        long wait = end - now;
        for (int i = 0; i < count; i++) {
            struct client *c = &clients[i];
            if (c->state == THINKING && c->due <= now) ask(c);
            else if (c->state == THINKING && c->due - now < wait) wait = c->due - now;
        }
        int n = epoll_wait(poll_fd, seen, 256, wait / 1000000 + 1);
        for (int i = 0; i < n; i++) { flush(seen[i].data.ptr); receive(seen[i].data.ptr); }
    }
    double seconds = (now_ns() - began) / 1e9;
    qsort(ttft, samples, sizeof *ttft, by_size);
    printf("{\"seconds\":%.6f,\"requests\":%ld,\"wrong\":%ld,\"body\":%ld,\"whole\":%ld,\"samples\":%ld,"
        "\"p50\":%.1f,\"p99\":%.1f}\n", seconds, requests, wrong, body_total, whole, samples,
        samples ? ttft[samples / 2] : -1, samples ? ttft[samples * 99 / 100] : -1);
    return 0;
}
