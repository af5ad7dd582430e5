/*
 * A load for Redis: redis-load SOCKET [seed=1] [keys=120000] [rate=0]
 *
 * Fills KEYS keys with records such as applications keep (some text, some numbers, a random token; 100 to 1000 bytes), then
 * reads and writes them for ever, few keys often and most seldom: six of ten operations read, three write anew, one counts. At most
 * RATE operations a second, 0: as many as go. Not redis-benchmark, which writes the same bytes into every value.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "../pattern.h"

enum { PIPELINE = 16, VALUE_BYTES_MAX = 1000 };

static int server;
static uint64_t chance_state;
static char out[PIPELINE * (VALUE_BYTES_MAX + 200)];
static size_t out_bytes;

static uint64_t chance(void)
{
    chance_state++;
    return mix(chance_state, 77);
}

static void fail(const char *what)
{
    SAY("godwit-guest FAILED redis-load: %s\n", what);
    exit(1);
}

/* Replies come in any pieces: one byte at a time out of a buffer. */
static int next_byte(void)
{
    static char in[65536];
    static ssize_t at, end;
    if (at == end) {
        at = 0;
        end = read(server, in, sizeof in);
        if (end <= 0)
            fail("the server closed the connection");
    }
    return (unsigned char)in[at++];
}

static void read_reply(void)
{
    int kind = next_byte();
    char line[256];
    size_t used = 0;
    for (int byte; (byte = next_byte()) != '\r';)
        if (used < sizeof line - 1)
            line[used++] = (char)byte;
    line[used] = 0;
    next_byte();
    if (kind == '-')
        fail(line);
    if (kind != '$')
        return;
    long length = strtol(line, NULL, 10);
    for (long i = 0; length >= 0 && i < length + 2; i++)
        next_byte();
}

static void flush(int commands)
{
    for (size_t done = 0; done < out_bytes;) {
        ssize_t wrote = write(server, out + done, out_bytes - done);
        if (wrote <= 0)
            fail("the server does not take commands");
        done += (size_t)wrote;
    }
    out_bytes = 0;
    for (int i = 0; i < commands; i++)
        read_reply();
}

#define ADD(...) (out_bytes += (size_t)snprintf(out + out_bytes, sizeof out - out_bytes, __VA_ARGS__))

static size_t make_value(char *value, uint64_t key)
{
    static const char *const names[] = {"anna", "bela", "chen", "dora", "emil", "fatou", "goran", "hana"};
    static const char *const things[] = {"lamp", "chair", "kettle", "carpet", "mirror", "shelf", "vase", "clock"};
    size_t want = 100 + chance() % (VALUE_BYTES_MAX - 100), used = 0;
    used += (size_t)snprintf(value, VALUE_BYTES_MAX, "{\"id\":%llu,\"name\":\"%s\",\"seen\":%llu,\"token\":\"%016llx%016llx\",\"cart\":[",
                             (unsigned long long)key, names[chance() % 8], 1700000000ull + chance() % 40000000,
                             (unsigned long long)chance(), (unsigned long long)chance());
    while (used < want && used < VALUE_BYTES_MAX - 64)
        used += (size_t)snprintf(value + used, VALUE_BYTES_MAX - used, "{\"thing\":\"%s\",\"count\":%llu,\"price\":%llu},",
                                 things[chance() % 8], (unsigned long long)(chance() % 9 + 1),
                                 (unsigned long long)(chance() % 100000));
    used += (size_t)snprintf(value + used, VALUE_BYTES_MAX - used, "]}");
    return used;
}

static void add_set(uint64_t key)
{
    char name[32], value[VALUE_BYTES_MAX + 1];
    int name_bytes = snprintf(name, sizeof name, "session:%llu", (unsigned long long)key);
    size_t bytes = make_value(value, key);
    ADD("*3\r\n$3\r\nSET\r\n$%d\r\n%s\r\n$%zu\r\n%s\r\n", name_bytes, name, bytes, value);
}

static void add_one(const char *command, const char *prefix, uint64_t key)
{
    char name[32];
    int bytes = snprintf(name, sizeof name, "%s:%llu", prefix, (unsigned long long)key);
    ADD("*2\r\n$%zu\r\n%s\r\n$%d\r\n%s\r\n", strlen(command), command, bytes, name);
}

static void connect_to(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    server = socket(AF_UNIX, SOCK_STREAM, 0);
    for (int i = 0; i < 200; i++) {
        if (connect(server, (struct sockaddr *)&address, sizeof address) == 0)
            return;
        usleep(100000);
    }
    fail("no server answers");
}

int main(int count, char **arguments)
{
    if (count < 2)
        return 2;
    uint64_t keys = strtoull(option(arguments, "keys", "120000"), NULL, 10);
    uint64_t rate = strtoull(option(arguments, "rate", "0"), NULL, 10);
    chance_state = strtoull(option(arguments, "seed", "1"), NULL, 10) << 40;
    connect_to(arguments[1]);
    for (uint64_t key = 0; key < keys; key++) {
        add_set(key);
        if (key % PIPELINE == PIPELINE - 1 || key == keys - 1)
            flush((int)(key % PIPELINE) + 1);
    }
    SAY("godwit-guest redis filled %llu keys\n", (unsigned long long)keys);
    uint64_t start = now_ns(), operations = 0, ticks = 0;
    for (;;) {
        for (int i = 0; i < PIPELINE; i++) {
            /* The cube puts half of the operations on an eighth of the keys. */
            double where = (double)(chance() >> 11) / 9007199254740992.0;
            uint64_t key = (uint64_t)(where * where * where * (double)keys);
            uint64_t kind = chance() % 10;
            if (kind < 6)
                add_one("GET", "session", key);
            else if (kind < 9)
                add_set(key);
            else
                add_one("INCR", "count", key % 1000);
        }
        flush(PIPELINE);
        operations += PIPELINE;
        uint64_t now = now_ns();
        if (now - start >= (ticks + 1) * 1000000000ull) {
            ticks++;
            SAY("godwit-guest tick %llu ok redis operations %llu\n", (unsigned long long)ticks, (unsigned long long)operations);
        }
        if (rate > 0)
            sleep_until_ns(start + operations * 1000000000ull / rate);
    }
}
