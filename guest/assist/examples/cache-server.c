/*
 * cache-server: a small in-memory cache that gives up its memory in a live migration, and its load generator.
 *
 *   cache-server [socket=PATH | port=N] [mb=64] [assist=1]        the server
 *   cache-server --load [socket=PATH | port=N] [seconds=10 | 0] [keys=N] [bytes=3000] [rate=N] [tickms=250]
 *   cache-server --both …                                         both, in two processes: for test guests
 *
 * Protocol, lines and bytes, as memcached's, less of it:
 *   set KEY BYTES\n<bytes>\n   -> stored\n | refused\n
 *   get KEY\n                  -> value BYTES\n<bytes>\n | none\n
 *   stats\n                    -> one line of NAME=VALUE
 *
 * How it assists, and why it can never give a wrong answer:
 *   - All values lie in one arena, written in a circle: the newest entry overwrites the oldest. The arena is the declared
 *     area. The index is outside of it and knows for each key where its entry lies and which checksum it has.
 *   - prepare: the arena is closed. get answers none, set answers refused; neither reads nor writes the arena.
 *   - resume, abort: the arena is opened. An entry is believed only if key, length and checksum are those of the index, so
 *     an entry that has become zero is a miss, as if it had been evicted. Entries that were not touched are still there.
 * The checksum is what makes it right without counting on all of the arena being zero: a part may be, page by page.
 *
 * One thread, poll(), static memory but for the arena. The load generator sets values that it can recompute from key and
 * generation, and counts hits, misses and wrong values; one wrong value ends it for ever with exit code 1.
 */
#define _GNU_SOURCE
#define GODWIT_ASSIST_IMPLEMENTATION
#include "../c/godwit-assist.h"

#include "cache-load.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/wait.h>

enum { CLIENTS_MAX = 32, BUCKETS = 1 << 16, KEY_BYTES_MAX = 63, VALUE_BYTES_MAX = 65536 };

/* Lies in the arena in front of its value. */
struct entry_head {
    uint64_t key_hash;
    uint32_t value_bytes;
    uint32_t key_bytes;
    char key[KEY_BYTES_MAX + 1];
};

/* Lies outside. `check` covers head and value, and 64 bits are too many for zeroes or remains to pass. */
struct index_entry {
    uint64_t key_hash; /* 0: empty */
    uint64_t check;
    uint64_t position; /* bytes ever written before it; alive while less than one arena behind `written` */
};

struct client {
    int fd; /* -1: free */
    size_t in_bytes, out_bytes, out_done;
    char in[VALUE_BYTES_MAX + 256];
    char out[2 * VALUE_BYTES_MAX];
};

/* fixed after start */
static unsigned char *arena;
static uint64_t arena_bytes;
/* the cache */
static struct index_entry slots[BUCKETS];
static uint64_t written; /* the circle's position, counted for ever */
static int arena_open = 1;
/* for stats */
static uint64_t hits, misses, sets, refusals, spoiled, migrations;
static struct client clients[CLIENTS_MAX];

/* The arena. Nothing else in this program touches it. */

static uint64_t check_of(const struct entry_head *head, const unsigned char *value)
{
    return checksum(checksum(1, head, sizeof *head), value, head->value_bytes);
}

/* Entries do not wrap: what does not fit before the end starts at the beginning. */
static void cache_set(const char *key, size_t key_bytes, const char *value, size_t value_bytes)
{
    uint64_t need = (sizeof(struct entry_head) + value_bytes + 15) & ~(uint64_t)15;
    struct entry_head head = {.key_hash = key_hash(key, key_bytes),
                              .value_bytes = (uint32_t)value_bytes,
                              .key_bytes = (uint32_t)key_bytes};
    memcpy(head.key, key, key_bytes);
    if (written % arena_bytes + need > arena_bytes)
        written += arena_bytes - written % arena_bytes;
    unsigned char *at = arena + written % arena_bytes;
    memcpy(at, &head, sizeof head);
    memcpy(at + sizeof head, value, value_bytes);
    slots[head.key_hash % BUCKETS] =
        (struct index_entry){head.key_hash, check_of(&head, at + sizeof head), written};
    written += need;
}

/* The value, or NULL for a miss. */
static const unsigned char *cache_get(const char *key, size_t key_bytes, size_t *value_bytes)
{
    uint64_t hash = key_hash(key, key_bytes);
    struct index_entry *slot = &slots[hash % BUCKETS];
    if (slot->key_hash != hash || slot->position + arena_bytes < written + sizeof(struct entry_head))
        return NULL;
    /* A copy of the head: what was zeroed or overwritten must not be read past the arena's end by its length. */
    uint64_t offset = slot->position % arena_bytes;
    struct entry_head head;
    memcpy(&head, arena + offset, sizeof head);
    int sound = head.key_hash == hash && head.key_bytes == key_bytes && memcmp(head.key, key, key_bytes) == 0 &&
                head.value_bytes <= arena_bytes - offset - sizeof head &&
                check_of(&head, arena + offset + sizeof head) == slot->check;
    if (!sound) {
        spoiled++;
        slot->key_hash = 0;
        return NULL;
    }
    *value_bytes = head.value_bytes;
    return arena + offset + sizeof head;
}

/* Assistance. */

static int on_prepare(unsigned deadline_ms, void *user)
{
    (void)deadline_ms, (void)user;
    arena_open = 0; /* one thread: nobody is in the middle of using it */
    return GODWIT_ASSIST_READY;
}

static void on_end(void *user)
{
    (void)user;
    arena_open = 1;
    migrations++;
}

static void on_trouble(const char *text, void *user)
{
    (void)user;
    fprintf(stderr, "cache-server: assistance: %s\n", text);
}

/* Connections. */

static void answer(struct client *client, const void *bytes, size_t count)
{
    memcpy(client->out + client->out_bytes, bytes, count);
    client->out_bytes += count;
}

static void answer_text(struct client *client, const char *text) { answer(client, text, strlen(text)); }

static void answer_stats(struct client *client)
{
    char line[256];
    snprintf(line, sizeof line,
             "stats arena=%llu open=%d hits=%llu misses=%llu sets=%llu refused=%llu spoiled=%llu migrations=%llu\n",
             (unsigned long long)arena_bytes, arena_open, (unsigned long long)hits, (unsigned long long)misses,
             (unsigned long long)sets, (unsigned long long)refusals, (unsigned long long)spoiled,
             (unsigned long long)migrations);
    answer_text(client, line);
}

static void answer_get(struct client *client, const char *key)
{
    char line[32];
    size_t bytes = 0;
    const unsigned char *value = arena_open ? cache_get(key, strlen(key), &bytes) : NULL;
    if (value == NULL) {
        misses++;
        answer_text(client, "none\n");
        return;
    }
    hits++;
    snprintf(line, sizeof line, "value %zu\n", bytes);
    answer_text(client, line);
    answer(client, value, bytes);
    answer_text(client, "\n");
}

static void answer_set(struct client *client, const char *key, const char *value, size_t bytes)
{
    if (arena_open) {
        cache_set(key, strlen(key), value, bytes);
        sets++;
    } else {
        refusals++;
    }
    answer_text(client, arena_open ? "stored\n" : "refused\n");
}

/* One complete request from the input. Bytes used; 0: more is needed; -1: not our protocol. */
static ssize_t request(struct client *client)
{
    char line[128], key[KEY_BYTES_MAX + 1];
    size_t bytes;
    char *end = memchr(client->in, '\n', client->in_bytes < sizeof line ? client->in_bytes : sizeof line);
    if (end == NULL)
        return client->in_bytes < sizeof line ? 0 : -1;
    size_t used = (size_t)(end - client->in) + 1;
    memcpy(line, client->in, used - 1);
    line[used - 1] = 0;
    if (strcmp(line, "stats") == 0) {
        answer_stats(client);
    } else if (sscanf(line, "get %63s", key) == 1) {
        answer_get(client, key);
    } else if (sscanf(line, "set %63s %zu", key, &bytes) == 2 && bytes <= VALUE_BYTES_MAX) {
        if (client->in_bytes < used + bytes + 1)
            return 0;
        answer_set(client, key, client->in + used, bytes);
        used += bytes + 1;
    } else {
        return -1;
    }
    return (ssize_t)used;
}

static void hang_up(struct client *client)
{
    close(client->fd);
    client->fd = -1;
}

/* Requests are answered one at a time: the next one waits until the last answer has left. */
static void serve(struct client *client, short events)
{
    if (events & (POLLIN | POLLHUP | POLLERR) && client->out_bytes == 0) {
        ssize_t bytes = recv(client->fd, client->in + client->in_bytes, sizeof client->in - client->in_bytes, 0);
        if (bytes == 0 || (bytes < 0 && errno != EAGAIN)) {
            hang_up(client);
            return;
        }
        client->in_bytes += bytes > 0 ? (size_t)bytes : 0;
    }
    for (;;) {
        while (client->out_done < client->out_bytes) {
            ssize_t bytes = send(client->fd, client->out + client->out_done, client->out_bytes - client->out_done,
                                 MSG_NOSIGNAL);
            if (bytes < 0)
                return;
            client->out_done += (size_t)bytes;
        }
        client->out_done = client->out_bytes = 0;
        ssize_t used = request(client);
        if (used < 0)
            hang_up(client);
        if (used <= 0)
            return;
        client->in_bytes -= (size_t)used;
        memmove(client->in, client->in + used, client->in_bytes);
    }
}

static void accept_client(int listener)
{
    int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    for (int i = 0; i < CLIENTS_MAX && fd >= 0; i++) {
        if (clients[i].fd >= 0)
            continue;
        clients[i].fd = fd;
        clients[i].in_bytes = clients[i].out_bytes = clients[i].out_done = 0;
        return;
    }
    if (fd >= 0)
        close(fd);
}

static int run_server(char **arguments)
{
    static struct pollfd fds[CLIENTS_MAX + 2];
    struct godwit_assist_callbacks callbacks = {NULL, on_prepare, on_end, on_end, on_trouble};
    int listener = open_socket(arguments, 1);
    arena_bytes = strtoull(option(arguments, "mb", "64"), NULL, 10) << 20;
    arena = mmap(NULL, arena_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (listener < 0 || arena_bytes < 4 * VALUE_BYTES_MAX || arena == MAP_FAILED) {
        fprintf(stderr, "cache-server: cannot start: %m\n");
        return 2;
    }
    struct godwit_assist *assist = NULL;
    if (atoi(option(arguments, "assist", "1")) != 0) {
        assist = godwit_assist_open("cache-server", &callbacks, NULL);
        if (assist == NULL || godwit_assist_area(assist, arena, arena_bytes) != 0)
            return 2;
    }
    for (int i = 0; i < CLIENTS_MAX; i++)
        clients[i].fd = -1;
    for (;;) {
        for (int i = 0; i < CLIENTS_MAX; i++)
            fds[i] = (struct pollfd){clients[i].fd, clients[i].out_bytes > 0 ? POLLOUT : POLLIN, 0};
        fds[CLIENTS_MAX] = (struct pollfd){listener, POLLIN, 0};
        fds[CLIENTS_MAX + 1] = (struct pollfd){assist == NULL ? -1 : godwit_assist_fd(assist), POLLIN, 0};
        if (poll(fds, CLIENTS_MAX + 2, -1) < 0)
            continue;
        for (int i = 0; i < CLIENTS_MAX; i++)
            if (fds[i].revents != 0)
                serve(&clients[i], fds[i].revents);
        if (fds[CLIENTS_MAX].revents != 0)
            accept_client(listener);
        if (fds[CLIENTS_MAX + 1].revents != 0)
            godwit_assist_process(assist);
    }
}

int main(int count, char **arguments)
{
    const char *mode = count > 1 ? arguments[1] : "";
    if (strcmp(mode, "--load") == 0)
        return run_load(arguments);
    if (strcmp(mode, "--both") != 0)
        return run_server(arguments);
    pid_t server = fork();
    if (server == 0)
        return run_server(arguments);
    int result = run_load(arguments);
    kill(server, SIGTERM);
    waitpid(server, NULL, 0);
    return result;
}
