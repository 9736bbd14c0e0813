/* A server shaped like llama-server, that costs next to nothing: what a proxy adds shows.
 *
 *     upstream PORT ALIAS TEXT
 *
 * TEXT: a file with what it says, a line for each token: the inside of a JSON string. A longer answer
 * begins it again.
 *
 * POST anything: `"max_tokens":N` and `"pace_us":P` at the start of the body say how many tokens are
 * streamed and how fast (0: as fast as the connection takes them); `"stream":true` asks for events,
 * each in a chunk of its own as cpp-httplib sends them; without it comes one JSON answer. The head
 * comes at once, and the first event as much later as each token: there the prompt is read.
 * GET /v1/models and /health answer.
 *
 * Connections are kept, but not after a stream: llama-server (0.7.0) ends its connection with it,
 * although the head says otherwise, after the finish, [DONE] and the two lines of the last chunk have
 * gone out in writes of their own (recv(2) of a client on loopback shows each).
 */
#define _GNU_SOURCE
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum { MOST = 4096, IN = 16384, AT_ONCE = 256, MOST_TOKENS = 1 << 16 };
enum part { NOTHING, SHORT, HEAD, FIRST, TOKENS, FINISH, DONE, ZERO, LAST };

struct conn {
    int fd, used;
    char in[IN];
    int have, head_len;         /* of a request: bytes kept, and where its head ends */
    long body_left;
    enum part part;
    const char *out;            /* what of the current part is still to be sent */
    long left;
    long tokens, pace, due;     /* tokens to come, µs between them, when the next one is due */
    long at;                    /* the next one's number in the text */
};

static struct conn conns[MOST];
static const char *alias;
static char first[1024], finish[2048], *text;  /* text: all tokens, each an event in its chunk */
static long begins[MOST_TOKENS + 1], text_tokens;
static char answer[2048], models[512], health[256];
static long first_len, finish_len;

static const char DONE_CHUNK[] = "e\r\ndata: [DONE]\n\n\r\n";
static const char STREAM[] = "HTTP/1.1 200 OK\r\nServer: llama.cpp\r\nX-Accel-Buffering: no\r\n"
    "Content-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n"
    "Keep-Alive: timeout=5, max=100\r\n\r\n";

static long now_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000L + t.tv_nsec / 1000;
}

static long event(char *to, const char *delta, const char *finish, const char *more) {
    char data[1024];
    int n = snprintf(data, sizeof data,
        "data: {\"choices\":[{\"finish_reason\":%s,\"index\":0,\"delta\":{%s}}],\"created\":1795220876,"
        "\"id\":\"chatcmpl-xwcZoiQvFZuYU5mIACGLJeE2Tjka6dy3\",\"model\":\"%s\",\"system_fingerprint\":"
        "\"b11669-Debian\",\"object\":\"chat.completion.chunk\"%s}\n\n", finish, delta, alias, more);
    return sprintf(to, "%x\r\n%s\r\n", n, data);
}

static void page(char *to, const char *body) {
    sprintf(to, "HTTP/1.1 200 OK\r\nServer: llama.cpp\r\nContent-Type: application/json; charset=utf-8\r\n"
        "Content-Length: %zu\r\nKeep-Alive: timeout=5, max=100\r\n\r\n%s", strlen(body), body);
}

static void read_text(const char *path) {
    char line[512], delta[600];
    FILE *file = fopen(path, "r");
    if (!file) { perror(path); exit(1); }
    text = malloc((long)MOST_TOKENS * 1024);
    while (text_tokens < MOST_TOKENS && fgets(line, sizeof line, file)) {
        line[strcspn(line, "\n")] = 0;
        sprintf(delta, "\"content\":\"%s\"", line);
        long len = event(text + begins[text_tokens], delta, "null", "");
        begins[text_tokens + 1] = begins[text_tokens] + len;
        text_tokens++;
    }
    fclose(file);
    if (!text_tokens) { fprintf(stderr, "upstream: no text\n"); exit(1); }
}

static void prepare(void) {
    char body[1024];
    first_len = event(first, "\"role\":\"assistant\",\"content\":null", "null", "");
    finish_len = event(finish, "", "\"stop\"", ",\"timings\":{\"cache_n\":0,\"prompt_n\":14,"
        "\"prompt_ms\":3.352,\"predicted_n\":4,\"predicted_ms\":0.947,\"predicted_per_second\":3167.8}");
    snprintf(body, sizeof body, "{\"choices\":[{\"finish_reason\":\"stop\",\"index\":0,\"message\":{\"role\":"
        "\"assistant\",\"content\":\"Forty-two, as far as anybody knows.\"}}],\"created\":1795220876,"
        "\"model\":\"%s\",\"object\":\"chat.completion\",\"usage\":{\"completion_tokens\":9,"
        "\"prompt_tokens\":14,\"total_tokens\":23},\"id\":\"chatcmpl-1\"}", alias);
    page(answer, body);
    snprintf(body, sizeof body, "{\"object\":\"list\",\"data\":[{\"id\":\"%s\",\"object\":\"model\"}]}", alias);
    page(models, body);
    page(health, "{\"status\":\"ok\"}");
}

static long number(const char *text, const char *name) {
    const char *at = strstr(text, name);
    return at ? atol(at + strlen(name)) : 0;
}

static void put(struct conn *c, enum part part, const char *out, long len) {
    c->part = part, c->out = out, c->left = len;
}

/* A request is whole: what its answer is. */
static void begin(struct conn *c) {
    c->in[c->have < IN ? c->have : IN - 1] = 0;
    char *body = c->in + c->head_len;
    if (!strncmp(c->in, "GET /v1/models", 14)) put(c, SHORT, models, strlen(models));
    else if (!strncmp(c->in, "GET ", 4)) put(c, SHORT, health, strlen(health));
    else if (!strstr(body, "\"stream\":true")) put(c, SHORT, answer, strlen(answer));
    else {
        c->tokens = number(body, "\"max_tokens\":");
        c->pace = number(body, "\"pace_us\":");
        c->at = 0;
        put(c, HEAD, STREAM, sizeof STREAM - 1);
    }
    c->have = c->head_len = 0;
}

static void drop(struct conn *c) { close(c->fd); c->used = 0, c->part = NOTHING; }

/* What follows the part that is out. */
static void next(struct conn *c) {
    switch (c->part) {
    case HEAD:
        put(c, FIRST, first, first_len);
        c->due = c->pace ? now_us() + c->pace : 0;
        break;
    case FIRST:
    case TOKENS:
        if (!c->tokens) { put(c, FINISH, finish, finish_len); break; }
        c->at %= text_tokens;
        long count = c->pace ? 1 : c->tokens < AT_ONCE ? c->tokens : AT_ONCE;
        if (count > text_tokens - c->at) count = text_tokens - c->at;
        c->due = c->pace ? now_us() + c->pace : 0;
        c->tokens -= count;
        put(c, TOKENS, text + begins[c->at], begins[c->at + count] - begins[c->at]);
        c->at += count;
        break;
    case FINISH: put(c, DONE, DONE_CHUNK, sizeof DONE_CHUNK - 1); break;
    case DONE: put(c, ZERO, "0\r\n", 3); break;
    case ZERO: put(c, LAST, "\r\n", 2); break;
    case LAST: drop(c); break;
    default: put(c, NOTHING, 0, 0);
    }
}

static void flush(struct conn *c) {
    while (c->part != NOTHING) {
        if (c->due && now_us() < c->due) return;
        c->due = 0;
        ssize_t n = send(c->fd, c->out, c->left, MSG_NOSIGNAL);
        if (n < 0) { if (errno != EAGAIN) drop(c); return; }
        c->out += n, c->left -= n;
        if (!c->left) next(c);
    }
}

static void receive(struct conn *c) {
    static char waste[1 << 18];
    while (c->used) {
        int room = IN - 1 - c->have;
        int kept = room > 0 && !(c->body_left && c->have > 4096);
        ssize_t n = kept ? recv(c->fd, c->in + c->have, room, 0) : recv(c->fd, waste, sizeof waste, 0);
        if (n < 0) { if (errno != EAGAIN) drop(c); return; }
        if (!n) { drop(c); return; }
        if (kept) c->have += n;
        if (c->head_len) c->body_left -= n;
        else {
            char *end = memmem(c->in, c->have, "\r\n\r\n", 4);
            if (!end) continue;
            *end = 0;
            char *length = strcasestr(c->in, "\r\ncontent-length:");
            *end = '\r';
            c->head_len = end + 4 - c->in;
            c->body_left = (length ? atol(length + 17) : 0) - (c->have - c->head_len);
        }
        if (!c->body_left) { begin(c); flush(c); }
    }
}

static int listener(int port) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), on = 1;
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port)};
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, (void *)&at, sizeof at) || listen(fd, 4096)) { perror("upstream"); exit(1); }
    return fd;
}

int main(int argc, char **argv) {
    if (argc != 4) return 2;
    alias = argv[2];
    read_text(argv[3]);
    prepare();
    int poll = epoll_create1(0), door = listener(atoi(argv[1])), on = 1;
    struct epoll_event seen[256], what = {.events = EPOLLIN, .data.ptr = 0};
    epoll_ctl(poll, EPOLL_CTL_ADD, door, &what);
    static int clock;
    clock = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    what.data.ptr = &clock;
    epoll_ctl(poll, EPOLL_CTL_ADD, clock, &what);
    for (;;) {
        long now = now_us(), wait = -1;
        for (int i = 0; i < MOST; i++) {
            struct conn *c = &conns[i];
            if (c->used && c->due && c->due <= now) flush(c);
            if (c->used && c->due && (wait < 0 || c->due - now < wait)) wait = c->due - now;
        }
        if (wait >= 0 && (wait = wait > 1 ? wait : 1)) {
            struct itimerspec at = {.it_value = {wait / 1000000, wait % 1000000 * 1000}};
            timerfd_settime(clock, 0, &at, 0);
        }
        int n = epoll_wait(poll, seen, 256, -1);
        for (int i = 0; i < n; i++) {
            struct conn *c = seen[i].data.ptr;
            if (seen[i].data.ptr == &clock) {
                uint64_t times;
                if (read(clock, &times, sizeof times) < 0) continue;
                continue;
            }
            if (c) { if (c->used) receive(c); if (c->used) flush(c); continue; }
            for (int fd; (fd = accept4(door, 0, 0, SOCK_NONBLOCK)) >= 0;) {
                struct conn *free_one = conns;
                while (free_one < conns + MOST && free_one->used) free_one++;
                if (free_one == conns + MOST) { close(fd); continue; }
                memset(free_one, 0, sizeof *free_one);
                free_one->fd = fd, free_one->used = 1;
                setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
                struct epoll_event both = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = free_one};
                epoll_ctl(poll, EPOLL_CTL_ADD, fd, &both);
            }
        }
    }
}
