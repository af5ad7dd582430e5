/*
 * The load generator of cache-server.c, and what it shares with the server.
 *
 * It writes entries whose every byte follows from key and generation, remembers the generation it stored last, and checks
 * each value it gets back, byte by byte. A miss is right at any time; a value of an older generation, of another key, or
 * damaged, is wrong. It prints, every `tickms`,
 *
 *   godwit-guest tick N ok cache sets S hits H misses M refused R longest L ms
 *
 * or, from the first wrong value on and for ever, `godwit-guest CORRUPT cache ...`. `longest` is the longest a request took since
 * the last line: what a client of the cache sees of a migration. hits and misses are since the last line too.
 */
#ifndef GODWIT_CACHE_LOAD_H
#define GODWIT_CACHE_LOAD_H

#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { LOAD_KEYS_MAX = 1 << 16, LOAD_BYTES_MAX = 65536 };

static inline uint64_t mix(uint64_t a, uint64_t b)
{
    uint64_t z = a * 0x9e3779b97f4a7c15u + b + 0x632be59bd9b4e019u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static inline uint64_t checksum(uint64_t seed, const void *bytes, size_t count)
{
    const unsigned char *at = bytes;
    uint64_t word;
    for (; count >= 8; at += 8, count -= 8) {
        memcpy(&word, at, 8);
        seed = mix(seed ^ word, count);
    }
    word = 0;
    memcpy(&word, at, count);
    return mix(seed ^ word, count);
}

/* Never 0. */
static inline uint64_t key_hash(const char *key, size_t bytes) { return checksum(7, key, bytes) | 1; }

/* The text after `name=` among the arguments, or `fallback`. */
static inline const char *option(char **arguments, const char *name, const char *fallback)
{
    size_t bytes = strlen(name);
    for (char **a = arguments + 1; *a != NULL; a++)
        if (strncmp(*a, name, bytes) == 0 && (*a)[bytes] == '=')
            return *a + bytes + 1;
    return fallback;
}

/* A listening (`listens`) or connected socket at socket=PATH (/tmp/cache-server.sock) or 127.0.0.1:port; -1 if that fails. */
static inline int open_socket(char **arguments, int listens)
{
    const char *port = option(arguments, "port", "");
    const char *path = option(arguments, "socket", "/tmp/cache-server.sock");
    struct sockaddr_in inet = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};
    struct sockaddr_un local = {.sun_family = AF_UNIX};
    inet.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    snprintf(local.sun_path, sizeof local.sun_path, "%s", path);
    int is_inet = port[0] != 0;
    struct sockaddr *address = is_inet ? (struct sockaddr *)&inet : (struct sockaddr *)&local;
    socklen_t bytes = is_inet ? sizeof inet : sizeof local;
    int fd = socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int yes = 1;
    if (listens && is_inet)
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    else if (listens)
        unlink(path);
    int failed = listens ? bind(fd, address, bytes) != 0 || listen(fd, 16) != 0 : connect(fd, address, bytes) != 0;
    if (!failed)
        return fd;
    close(fd);
    return -1;
}

static inline uint64_t load_now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000u + (uint64_t)now.tv_nsec / 1000;
}

struct load {
    /* fixed after start */
    int fd;
    uint64_t keys, value_bytes;
    /* state */
    uint32_t generations[LOAD_KEYS_MAX]; /* what was stored last under each key; 0: nothing */
    uint64_t requests;
    char corrupt[128]; /* the first wrong value; empty while all is well */
    /* since the last line */
    uint64_t hits, misses, sets, refused, longest_us;
    unsigned char bytes[LOAD_BYTES_MAX + 64], expected[LOAD_BYTES_MAX];
};

static inline int load_send(struct load *load, const void *bytes, size_t count)
{
    for (size_t done = 0; done < count;) {
        ssize_t sent = send(load->fd, (const char *)bytes + done, count - done, MSG_NOSIGNAL);
        if (sent <= 0)
            return -1;
        done += (size_t)sent;
    }
    return 0;
}

/* Reads exactly count bytes. */
static inline int load_receive(struct load *load, void *bytes, size_t count)
{
    for (size_t done = 0; done < count;) {
        ssize_t got = recv(load->fd, (char *)bytes + done, count - done, 0);
        if (got <= 0)
            return -1;
        done += (size_t)got;
    }
    return 0;
}

static inline int load_receive_line(struct load *load, char *line, size_t room)
{
    for (size_t i = 0; i + 1 < room; i++) {
        if (load_receive(load, line + i, 1) != 0)
            return -1;
        if (line[i] == '\n') {
            line[i] = 0;
            return 0;
        }
    }
    return -1;
}

static inline void load_fill(unsigned char *bytes, size_t count, uint64_t key, uint32_t generation)
{
    for (size_t i = 0; i < count; i += 8) {
        uint64_t word = mix(key << 32 | generation, i);
        memcpy(bytes + i, &word, count - i < 8 ? count - i : 8);
    }
}

/* A refused set leaves the older value in place, which is then still the right one. */
static inline int load_set(struct load *load, uint64_t key)
{
    char line[64];
    uint32_t generation = load->generations[key] + 1;
    int head = snprintf(line, sizeof line, "set k%llu %llu\n", (unsigned long long)key,
                        (unsigned long long)load->value_bytes);
    memcpy(load->bytes, line, (size_t)head);
    load_fill(load->bytes + head, load->value_bytes, key, generation);
    load->bytes[(size_t)head + load->value_bytes] = '\n';
    if (load_send(load, load->bytes, (size_t)head + load->value_bytes + 1) != 0 ||
        load_receive_line(load, line, sizeof line) != 0)
        return -1;
    if (strcmp(line, "stored") == 0)
        load->generations[key] = generation, load->sets++;
    else if (strcmp(line, "refused") == 0)
        load->refused++;
    else
        return -1;
    return 0;
}

static inline int load_get(struct load *load, uint64_t key)
{
    char line[64], newline;
    size_t bytes;
    int head = snprintf(line, sizeof line, "get k%llu\n", (unsigned long long)key);
    if (load_send(load, line, (size_t)head) != 0 || load_receive_line(load, line, sizeof line) != 0)
        return -1;
    if (strcmp(line, "none") == 0) {
        load->misses++;
        return 0;
    }
    if (sscanf(line, "value %zu", &bytes) != 1 || bytes > LOAD_BYTES_MAX ||
        load_receive(load, load->bytes, bytes) != 0 || load_receive(load, &newline, 1) != 0)
        return -1;
    load->hits++;
    load_fill(load->expected, load->value_bytes, key, load->generations[key]);
    if ((bytes != load->value_bytes || memcmp(load->bytes, load->expected, bytes) != 0) && load->corrupt[0] == 0)
        snprintf(load->corrupt, sizeof load->corrupt, "key %llu generation %u of %zu bytes", (unsigned long long)key,
                 load->generations[key], bytes);
    return 0;
}

/* One request in four stores. What misses is stored as well, as users of caches do, unless nothing is taken. */
static inline int load_step(struct load *load)
{
    uint64_t chance = mix(++load->requests, 3), key = (chance >> 8) % load->keys, begin_us = load_now_us();
    uint64_t missed = load->misses;
    int failed = (chance & 3) == 0 ? load_set(load, key) : load_get(load, key);
    uint64_t took_us = load_now_us() - begin_us;
    if (took_us > load->longest_us)
        load->longest_us = took_us;
    return !failed && load->misses > missed ? load_set(load, key) : failed;
}

static inline void load_print(struct load *load, uint64_t tick)
{
    char line[256];
    int bytes = load->corrupt[0] != 0
                    ? snprintf(line, sizeof line, "godwit-guest CORRUPT cache %s\n", load->corrupt)
                    : snprintf(line, sizeof line,
                               "godwit-guest tick %llu ok cache sets %llu hits %llu misses %llu refused %llu longest %llu.%llu ms\n",
                               (unsigned long long)tick, (unsigned long long)load->sets,
                               (unsigned long long)load->hits, (unsigned long long)load->misses,
                               (unsigned long long)load->refused, (unsigned long long)load->longest_us / 1000,
                               (unsigned long long)load->longest_us % 1000 / 100);
    /* In one system call, so that lines of two programs do not mix. */
    if (write(STDOUT_FILENO, line, (size_t)bytes) != bytes)
        exit(1);
    load->hits = load->misses = load->sets = load->refused = load->longest_us = 0;
}

/* A server that has just been started may not listen yet. */
static inline int load_connect(char **arguments)
{
    struct timespec pause = {0, 20000000};
    for (int attempt = 0; attempt < 250; attempt++) {
        int fd = open_socket(arguments, 0);
        if (fd >= 0)
            return fd;
        nanosleep(&pause, NULL);
    }
    return -1;
}

static inline int run_load(char **arguments)
{
    static struct load load;
    uint64_t seconds = strtoull(option(arguments, "seconds", "10"), NULL, 10);
    uint64_t rate = strtoull(option(arguments, "rate", "2000"), NULL, 10);
    uint64_t tick_us = strtoull(option(arguments, "tickms", "250"), NULL, 10) * 1000;
    load.keys = strtoull(option(arguments, "keys", "4000"), NULL, 10);
    load.value_bytes = strtoull(option(arguments, "bytes", "3000"), NULL, 10);
    load.fd = load_connect(arguments);
    if (load.fd < 0 || load.keys == 0 || load.keys > LOAD_KEYS_MAX || load.value_bytes > LOAD_BYTES_MAX - 64 ||
        rate == 0) {
        fprintf(stderr, "cache-server: cannot start the load: %m\n");
        return 2;
    }
    uint64_t start_us = load_now_us(), next_us = start_us, line_us = start_us, tick = 0;
    while (seconds == 0 || load_now_us() - start_us < seconds * 1000000) {
        if (load_step(&load) != 0) {
            fprintf(stderr, "cache-server: the server has gone\n");
            return 2;
        }
        uint64_t now_us = load_now_us();
        if (now_us - line_us >= tick_us) {
            load_print(&load, ++tick);
            line_us = now_us;
        }
        next_us += 1000000 / rate;
        if (next_us + 50000 < now_us)
            next_us = now_us; /* a long stop is not made up for */
        if (next_us > now_us) {
            struct timespec rest = {(time_t)((next_us - now_us) / 1000000), (long)((next_us - now_us) % 1000000) * 1000};
            nanosleep(&rest, NULL);
        }
    }
    return load.corrupt[0] == 0 ? 0 : 1;
}

#endif
