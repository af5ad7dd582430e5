/*
 * The C library under the conformance test (test/e2e/assist-libraries.test.ts): obeys lines on standard input, tells what
 * happens on standard output. `./client` runs an event loop, `./client thread` the helper thread.
 *
 *   area I BYTES           allocate buffer I, fill it with the byte I + 1, declare it     -> area I ADDRESS BYTES
 *   drop I OFFSET BYTES    withdraw a part                                                -> done
 *   drop-all               withdraw everything                                            -> done
 *   zeroes I               count the bytes of buffer I that are zero                      -> zeroes I COUNT
 *   on-prepare ok | fail | sleep MS | drop I OFFSET BYTES                                 -> done
 *   quit
 */
#define _GNU_SOURCE
#define GODWIT_ASSIST_IMPLEMENTATION
#define GODWIT_ASSIST_THREADS
#include "../c/godwit-assist.h"

#include <poll.h>
#include <sys/mman.h>

enum { BUFFERS_MAX = 8 };

static unsigned char *buffers[BUFFERS_MAX];
static size_t buffer_bytes[BUFFERS_MAX];
static char on_prepare[128] = "ok";
static struct godwit_assist *assist;

static void say_begin(void *user) { (void)user, puts("begin"); }
static void say_resume(void *user) { (void)user, puts("resume"); }
static void say_abort(void *user) { (void)user, puts("abort"); }
static void say_trouble(const char *text, void *user) { (void)user, printf("trouble %s\n", text); }

static int prepare(unsigned deadline_ms, void *user)
{
    unsigned i, ms;
    size_t offset, bytes;
    (void)user;
    printf("prepare %u\n", deadline_ms);
    if (strcmp(on_prepare, "fail") == 0)
        return GODWIT_ASSIST_KEEP;
    if (sscanf(on_prepare, "sleep %u", &ms) == 1)
        usleep(ms * 1000);
    if (sscanf(on_prepare, "drop %u %zu %zu", &i, &offset, &bytes) == 3)
        godwit_assist_drop(assist, buffers[i % BUFFERS_MAX] + offset, bytes);
    return GODWIT_ASSIST_READY;
}

static void area(unsigned i, size_t bytes)
{
    buffers[i] = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    buffer_bytes[i] = bytes;
    memset(buffers[i], (int)i + 1, bytes);
    godwit_assist_area(assist, buffers[i], bytes);
    printf("area %u %#zx %zu\n", i, (size_t)buffers[i], bytes);
}

/* 0: the end. */
static int obey(char *line)
{
    unsigned i;
    size_t offset, bytes, zeroes = 0;
    if (sscanf(line, "area %u %zu", &i, &bytes) == 2 && i < BUFFERS_MAX) {
        area(i, bytes);
    } else if (sscanf(line, "drop %u %zu %zu", &i, &offset, &bytes) == 3 && i < BUFFERS_MAX) {
        godwit_assist_drop(assist, buffers[i] + offset, bytes);
        puts("done");
    } else if (strcmp(line, "drop-all") == 0) {
        godwit_assist_drop_all(assist);
        puts("done");
    } else if (sscanf(line, "zeroes %u", &i) == 1 && i < BUFFERS_MAX) {
        for (size_t at = 0; at < buffer_bytes[i]; at++)
            zeroes += buffers[i][at] == 0;
        printf("zeroes %u %zu\n", i, zeroes);
    } else if (strncmp(line, "on-prepare ", 11) == 0) {
        snprintf(on_prepare, sizeof on_prepare, "%s", line + 11);
        puts("done");
    } else {
        return 0;
    }
    return 1;
}

int main(int count, char **arguments)
{
    struct godwit_assist_callbacks callbacks = {say_begin, prepare, say_resume, say_abort, say_trouble};
    struct pollfd fds[2] = {{STDIN_FILENO, POLLIN, 0}, {-1, POLLIN, 0}};
    int more = 1;
    (void)arguments;
    setvbuf(stdout, NULL, _IOLBF, 0);
    setvbuf(stdin, NULL, _IONBF, 0); /* poll() must see what is left */
    assist = godwit_assist_open("conformance", &callbacks, NULL);
    if (count > 1)
        godwit_assist_start_thread(assist);
    else
        fds[1].fd = godwit_assist_fd(assist);
    while (more && poll(fds, 2, -1) > 0) {
        char line[128];
        if (fds[1].revents != 0)
            godwit_assist_process(assist);
        if (fds[0].revents == 0)
            continue;
        more = fgets(line, sizeof line, stdin) != NULL;
        if (more) {
            line[strcspn(line, "\n")] = 0;
            more = obey(line);
        }
    }
    godwit_assist_close(assist);
    return 0;
}
